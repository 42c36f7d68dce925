"""Unchosen items of organic logs: the quadratic form against the plain sum over the catalogue."""

import numpy as np
import pytest
import torch

from qurate.algorithms import dqn
from qurate.algorithms.dqn import LATER_SHARE, head_weights, next_values
from qurate.algorithms.objective import Networks, first_transitions
from qurate.algorithms.table import make_objective
from qurate.learning.learner import Learner
from qurate.networks.build import build_network
from qurate.networks.values import to_tensors
from qurate.settings import Settings, from_flat
from qurate.types import NEVER, Batch, OpenActions, State

N, B, L, R = 30, 16, 6, 2


def batch(seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)

    def state() -> State:
        items, types = rng.integers(1, N + 1, (B, L)), rng.integers(1, 3, (B, L))
        gaps, values = rng.random((B, L), np.float32) * 100, rng.random((B, L), np.float32)
        return State(items, types, gaps, values, np.zeros((B, 0), np.float32), rng.random((B, 2), np.float32))

    reward = rng.random((B, R), np.float32)
    return Batch(
        state(), rng.integers(1, N + 1, B), reward, np.zeros_like(reward), np.full(B, 0.9, np.float32), np.ones(B, np.float32),
        state(), OpenActions(None, np.full(B, N), np.r_[NEVER, np.arange(1, N + 1)], None), np.zeros(B, np.int64), np.arange(B),
    )  # fmt: skip


def learner(**settings: object) -> Learner:
    s = from_flat({"embedding_dim": 5, "hidden": 8, "window": L, "later_weight": 1.0, **settings})
    features = np.zeros((N + 1, 0), np.float32)
    net = build_network(features, s, n_types=2, user_dim=0, n_components=R, behaviour=s.offline.aux_weight > 0, seed=1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)) * 0.2)
    return Learner(net, make_objective("dqn", s, organic=True), s.learning)


def with_searches(drawn: Batch) -> Batch:
    """Every third event of the history names no item."""
    items = np.array(drawn.state.history_items)
    items[:, ::3] = 0
    return drawn._replace(state=drawn.state._replace(history_items=items))


@pytest.mark.parametrize("form", ["now_later", "single"])
@pytest.mark.parametrize("gamma", [0.0, 0.9])
@pytest.mark.parametrize("searches", [False, True])
def test_every_unchosen_item_counts_once(form: str, gamma: float, searches: bool) -> None:
    """negatives / N times half the squares of Q(s, a) - gamma V(s) over all a but the chosen one.

    Events without an item repeat none of the catalogue, though they have a type and so a weight in the views.
    """
    subject, drawn = learner(form=form, gamma=gamma, negatives=7), batch()
    drawn = with_searches(drawn) if searches else drawn
    net, tensors = subject.network, to_tensors(drawn)
    settings: Settings = subject.objective.keywords["settings"]  # type: ignore[attr-defined]
    networks, online = Networks(net, subject.bound_target()), net.bind()
    values, action = online(tensors.state), tensors.action
    counts = head_weights(tensors, R, form, 1.0, organic=True)
    found = dqn.dqn(networks, tensors, subject.generator, settings=settings, organic=True).terms[1].mean()
    everything = values.by_head(torch.arange(1, N + 1).expand(B, -1))
    target = torch.zeros(B, 1, everything.shape[2])
    if gamma > 0:
        stay = tensors._replace(next_state=tensors.state)
        target[:, 0, -R:] = gamma * next_values(networks, online, stay, settings)
    unchosen = (torch.arange(1, N + 1)[None] != action[:, None])[:, :, None]
    wanted = (7 / N * 0.5 * (everything - target).square() * unchosen).sum(1)
    assert torch.allclose(found, (wanted * counts).sum(1).mean(), rtol=1e-4)


def test_the_mean_square_gap_is_the_plain_mean_over_the_catalogue() -> None:
    """Mean of (off + x + r)^2 - off^2 over items 1 to N, also where events name no item."""
    subject, drawn = learner(), with_searches(batch())
    net = subject.network
    with torch.no_grad():
        values = net.bind()(to_tensors(drawn.state))
        heads = values.heads
        off = heads.value - 0.5
        found = values.mean_square_gap(off)
        moved = values.by_head(torch.arange(1, N + 1).expand(B, -1)) - 0.5  # off + x + r, [B, N, H]
    assert float((heads.repeat * (heads.history == 0)[:, None]).abs().max()) > 0.1, "or the test would say nothing"
    assert torch.allclose(found, moved.square().mean(1) - off.square(), rtol=1e-3, atol=1e-4)


def test_few_rows_learn_later_and_count_for_all() -> None:
    tensors = to_tensors(batch())
    counts = head_weights(tensors, R, "now_later", 1.0, organic=True)
    assert bool((counts[:, :R] == 1).all())
    assert counts[:, R:].sum(0).tolist() == [B, B] and int((counts[:, -1] > 0).sum()) == B // LATER_SHARE
    assert bool((head_weights(tensors, R, "single", 1.0, organic=True) == 1).all())


def test_first_transitions_cut_every_part() -> None:
    part = first_transitions(to_tensors(batch()), 5)
    assert all(len(column) == 5 for column in (*part.state, *part.next_state, part.action, part.reward, part.discount, part.index))
    assert part.next_actions.candidates is None and len(part.next_actions.clock) == 5 and len(part.next_action) == 5


def test_an_organic_update_learns_from_unchosen_items() -> None:
    """The mean Q of the catalogue falls towards 0 when nothing earns anything."""
    subject, drawn = learner(gamma=0.0, lr=1e-2), batch()
    drawn = drawn._replace(reward=np.zeros_like(drawn.reward))
    losses = [subject.update(drawn).loss for _ in range(60)]
    assert losses[-1] < 0.3 * losses[0]
