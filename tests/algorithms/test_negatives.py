"""Unchosen items of organic logs: the quadratic form against the plain sum over the catalogue."""

import numpy as np
import pytest
import torch

from qurate.algorithms import catalogue_losses, dqn
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


def test_sampled_unchosen_items_cost_in_the_mean_what_all_of_them_do() -> None:
    """Huber's loss has no closed form over a catalogue: a mean over uniform draws, in which the chosen item counts 0."""
    subject, tensors = learner(gamma=0.0, loss="huber", negatives=10), to_tensors(batch())
    values = subject.network.bind()(tensors.state)
    settings: Settings = subject.objective.keywords["settings"]  # type: ignore[attr-defined]
    with torch.no_grad():
        q = values.by_head(torch.arange(1, N + 1).expand(B, -1))
        target = torch.full((B, q.shape[2]), 0.3)
        rng = torch.Generator().manual_seed(0)
        draws = [dqn.unchosen_errors(values, tensors, q[:, 0], target, rng, settings) for _ in range(1500)]
    distance = (q - 0.3).abs()
    loss = torch.where(distance < 1, 0.5 * distance.square(), distance - 0.5)
    loss[torch.arange(B), tensors.action - 1] = 0
    # at most 5 standard errors; counting the chosen item too adds about 1 / N, 3 %
    assert float(torch.stack(draws).mean()) == pytest.approx(float(loss.mean()), rel=0.01)


def test_errors_of_later_and_of_the_behaviour_head_count_with_their_share() -> None:
    """As if from a log of what was shown: half the squares, 0.3 of those of `later`, and 0.2 of the cross-entropy."""
    subject, tensors = learner(gamma=0.5, later_weight=0.3, aux_weight=0.2, support_threshold=0.0), to_tensors(batch())
    settings: Settings = subject.objective.keywords["settings"]  # type: ignore[attr-defined]
    networks = Networks(subject.network, subject.bound_target())
    online = subject.network.bind()
    with torch.no_grad():
        values = online(tensors.state)
        q = values.by_head(tensors.action[:, None])[:, 0]
        later = 0.9 * next_values(networks, online, tensors, settings)
        shown, behaviour = dqn.dqn(networks, tensors, subject.generator, settings=settings).terms
        logits = values.behaviour_logits()[:, 1:]
    expected = 0.5 * (tensors.reward - q[:, :R]).square().sum(1) + 0.3 * 0.5 * (later - q[:, R:]).square().sum(1)
    assert torch.allclose(shown, expected, rtol=1e-4)
    entropy = torch.logsumexp(logits, 1) - logits[torch.arange(B), tensors.action - 1]
    assert torch.allclose(behaviour, 0.2 * entropy, rtol=1e-4)


def test_an_eighth_of_the_rows_of_an_organic_log_bootstraps() -> None:
    assert [dqn.later_rows(rows, "now_later", organic=True) for rows in (256, 16, 7)] == [32, 2, 1]
    assert dqn.later_rows(256, "single", organic=True) == dqn.later_rows(256, "now_later", organic=False) == 256
    counts = head_weights(to_tensors(batch()), R, "now_later", 0.3, organic=True)
    assert counts[:, R:].sum(0).tolist() == pytest.approx([0.3 * B] * R), "the same weight in all, on fewer rows"


def test_the_alarm_reads_the_size_of_values_whatever_their_sign() -> None:
    subject, tensors = learner(gamma=0.5, support_threshold=0.0), to_tensors(batch())
    lowered = [p for name, p in subject.target.named_parameters() if name.startswith(("value", "later_value")) and name.endswith("bias")]
    with torch.no_grad():
        for bias in lowered:
            bias.sub_(20)
    settings: Settings = subject.objective.keywords["settings"]  # type: ignore[attr-defined]
    networks = Networks(subject.network, subject.bound_target())
    q = next_values(networks, subject.network.bind(), tensors, settings).sum(1)
    assert lowered and float(q.max()) < -10
    stats = dqn.dqn(networks, tensors, subject.generator, settings=settings).stats
    assert float(stats["q_max"]) == pytest.approx(-float(q.min()), rel=1e-5)


def test_the_sampled_softmax_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The chosen item and those of the window, once each; of the others those drawn, each standing for 30 / 8."""
    monkeypatch.setattr(catalogue_losses, "FULL_SOFTMAX_ITEMS", 0)
    monkeypatch.setattr(catalogue_losses, "SOFTMAX_SAMPLES", 8)
    subject, tensors = learner(aux_weight=1.0), to_tensors(batch())
    with torch.no_grad():
        values = subject.network.bind()(tensors.state)
        scores = values.behaviour_scores()
        assert scores is not None and float(scores.repeat.abs().max()) > 0.1
        found = catalogue_losses.behaviour_cross_entropy(values, tensors.action, torch.Generator().manual_seed(3))
        logits = values.behaviour_logits()
    drawn = 1 + torch.randperm(N, generator=torch.Generator().manual_seed(3))[:8]
    for row, action in enumerate(tensors.action.tolist()):
        window = set(tensors.state.history_items[row].tolist()) - {0, action}
        listed = [logits[row, item] for item in window]
        others = torch.stack(listed + [logits[row, item] + np.log(N / 8) for item in drawn.tolist() if item not in {action, *window}])
        expected = torch.logsumexp(torch.cat([logits[row, action][None], others]), 0) - logits[row, action]
        assert float(found[row]) == pytest.approx(float(expected), rel=1e-4)
