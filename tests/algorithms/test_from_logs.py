"""The objectives that learn from logs: values worked out by hand, and references written row by row in NumPy."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from qurate.algorithms import catalogue_losses
from qurate.algorithms.catalogue_losses import log_sum_exp_gap
from qurate.algorithms.iql import LARGEST_WEIGHT
from qurate.algorithms.objective import Loss, Networks, TensorBatch
from qurate.algorithms.table import algorithm_settings, make_objective
from qurate.algorithms.value_learning import expectile_loss
from qurate.errors import UserError
from qurate.networks.build import build_network
from qurate.networks.catalogue_values import CatalogueValues
from qurate.networks.values import to_tensors
from qurate.types import NEVER, Batch, OpenActions, State

N, B, L, R = 12, 20, 5, 2
Array = NDArray[Any]


def a_batch(n_items: int = N, seed: int = 0) -> Batch:
    """Transitions of every kind: going on, terminated (row 0), of unknown successor (row 1); items begin one after the other."""
    rng = np.random.default_rng(seed)

    def state() -> State:
        items, types = rng.integers(1, n_items + 1, (B, L)), rng.integers(1, 3, (B, L))
        items[::4, 0] = 0
        gaps, values = rng.random((B, L), np.float32) * 100, rng.random((B, L), np.float32)
        return State(items, types, gaps, values, np.zeros((B, 0), np.float32), rng.random((B, 2), np.float32))

    clock = rng.integers(n_items // 2, n_items + 1, (2, B))
    clock[0, 3] = 0  # nothing has begun when this decision is made
    since, until = np.r_[NEVER, np.arange(1, n_items + 1)], np.full(n_items + 1, NEVER)
    until[1] = 1
    discount, bootstrap = np.full(B, 0.9, np.float32), np.ones(B, np.float32)
    discount[0] = bootstrap[1] = 0
    excluded = np.zeros((B, 2), np.int64)
    excluded[2:6] = [2, 3]
    now = OpenActions(None, clock[0], since, until, excluded=excluded)
    reward, later = (rng.random((B, R)).astype(np.float32) for _ in range(2))
    return Batch(
        state(), rng.integers(1, n_items + 1, B), reward, later, discount, bootstrap, state(), OpenActions(None, clock[1], since, until),
        np.zeros(B, np.int64), np.arange(B), actions=now,
    )  # fmt: skip


def networks_of(name: str, given: dict[str, Any], n_items: int = N) -> tuple[Any, Any, Any]:
    """Settings, and an online and a target network whose weights are far from zero."""
    settings = algorithm_settings(name, {"embedding_dim": 5, "hidden": 8, "window": L, **given})
    both: list[Any] = []
    for seed in (1, 2):
        features = np.zeros((n_items + 1, 0), np.float32)
        behaviour = settings.offline.aux_weight > 0
        net = build_network(features, settings, n_types=2, user_dim=0, n_components=R, behaviour=behaviour, seed=seed)
        with torch.no_grad():
            for parameter in net.parameters():  # type: ignore[attr-defined]
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)) * 0.3)
        both.append(net)
    return settings, *both


class Seen:
    """The loss of an algorithm on `a_batch`, and what its networks say, as arrays."""

    def __init__(self, name: str, **given: Any) -> None:
        self.settings, online, target = networks_of(name, given)
        self.batch = a_batch()
        tensors: TensorBatch = to_tensors(self.batch)
        self.loss: Loss = make_objective(name, self.settings)(Networks(online, target.bind()), tensors, torch.Generator())
        with torch.no_grad():
            self.now, self.target_now = online.bind()(tensors.state), target.bind()(tensors.state)
            self.next, self.target_next = online.bind()(tensors.next_state), target.bind()(tensors.next_state)

    def terms(self) -> list[Array]:
        return [term.detach().numpy() for term in self.loss.terms]


def every(values: CatalogueValues) -> Array:
    """Heads of the catalogue, [B, N + 1, H]."""
    return values.by_head(torch.arange(N + 1).expand(B, -1)).numpy().astype(np.float64)


def open_items(opened: OpenActions[Any], i: int, n_items: int = N) -> list[int]:
    excluded = [] if opened.excluded is None else opened.excluded[i].tolist()
    assert opened.since is not None and opened.until is not None and opened.clock is not None
    return [a for a in range(1, n_items + 1) if opened.since[a] <= opened.clock[i] < opened.until[a] and a not in excluded]


def log_softmax(logits: Array) -> Array:
    return np.asarray(logits - logits.max() - np.log(np.exp(logits - logits.max()).sum()))


def cross_entropy(values: CatalogueValues, action: Array) -> Array:
    logits = values.behaviour_logits().detach().numpy().astype(np.float64)[:, 1:]
    return np.array([-log_softmax(row)[a - 1] for row, a in zip(logits, action, strict=True)])


def td_terms(seen: Seen, threshold: float) -> Array:
    """Half the squared error of double Q-learning by component, the maximum over items with pi_b / max pi_b >= threshold."""
    online, target, now = every(seen.next), every(seen.target_next), every(seen.now)
    logits = seen.next.behaviour_logits().numpy() if threshold else None
    out, batch = np.zeros(B), seen.batch
    for i in range(B):
        allowed = open_items(batch.next_actions, i)
        if logits is not None:
            peak = max(logits[i, a] for a in allowed)
            allowed = [a for a in allowed if np.exp(logits[i, a] - peak) >= threshold]
        picked = max(allowed, key=lambda a: online[i, a].sum())
        goal = batch.reward[i] + batch.later_reward[i] + batch.discount[i] * target[i, picked]
        out[i] = 0.5 * ((goal - now[i, batch.action[i]]) ** 2).sum() * batch.bootstrap[i]
    return out


@pytest.mark.parametrize("threshold", [0.02, 0.3, 1.0])
def test_bcq_picks_with_the_online_network_inside_the_support_and_values_with_the_target(threshold: float) -> None:
    seen = Seen("bcq", support_threshold=threshold)
    td, cloned = seen.terms()
    np.testing.assert_allclose(td, td_terms(seen, threshold), rtol=1e-4)
    np.testing.assert_allclose(cloned, cross_entropy(seen.now, seen.batch.action), rtol=1e-4)


def test_sqn_is_double_q_learning_without_a_support_beside_a_cross_entropy() -> None:
    seen = Seen("sqn", aux_weight=0.5)
    td, supervised = seen.terms()
    np.testing.assert_allclose(td, td_terms(seen, 0.0), rtol=1e-4)
    np.testing.assert_allclose(supervised, 0.5 * cross_entropy(seen.now, seen.batch.action), rtol=1e-4)


def test_cloning_is_the_cross_entropy_alone() -> None:
    seen = Seen("bc")
    assert len(seen.terms()) == 1
    np.testing.assert_allclose(seen.terms()[0], cross_entropy(seen.now, seen.batch.action), rtol=1e-4)


@pytest.mark.parametrize("form", ["single", "now_later"])
def test_cql_adds_log_sum_exp_minus_what_was_shown_over_what_could_be_shown(form: str) -> None:
    seen = Seen("cql", cql_alpha=0.7, form=form)
    td, penalty = seen.terms()
    q, batch = every(seen.now).sum(2), seen.batch
    wanted = np.zeros(B)
    for i in range(B):
        assert batch.actions is not None
        counted = sorted({*open_items(batch.actions, i), int(batch.action[i])})
        wanted[i] = np.log(np.exp(q[i, counted]).sum()) - q[i, batch.action[i]]
    np.testing.assert_allclose(penalty, 0.7 * wanted, rtol=1e-3, atol=1e-5)
    assert wanted[3] == 0, "nothing could be shown but what was shown"
    if form == "single":
        plain = Seen("cql", cql_alpha=0.0)
        assert len(plain.terms()) == 1
        np.testing.assert_allclose(plain.terms()[0], td, rtol=1e-6)


def test_the_penalty_of_a_list_runs_over_the_list() -> None:
    """Rows without a list have the catalogue; an action that is not on its list has no penalty."""
    _, online, _ = networks_of("cql", {})
    batch = a_batch()
    assert batch.actions is not None
    lists = np.zeros((B, 3), np.int64)
    lists[:10, 0], lists[:10, 1] = batch.action[:10], batch.action[:10] % N + 1
    lists[10] = [batch.action[10] % N + 1, 0, 0]
    tensors: TensorBatch = to_tensors(batch._replace(actions=batch.actions._replace(candidates=lists)))
    values = online.bind()(tensors.state)
    gap = log_sum_exp_gap(values, tensors, torch.Generator()).detach().numpy()
    q = values.all().detach().numpy()
    for i in range(10):
        a, b = lists[i, :2]
        assert gap[i] == pytest.approx(np.log(np.exp(q[i, a]) + np.exp(q[i, b])) - q[i, a], abs=1e-4)
    assert gap[10] == 0
    rest = log_sum_exp_gap(values, to_tensors(batch), torch.Generator()).detach().numpy()
    np.testing.assert_allclose(gap[11:], rest[11:], rtol=1e-5)


def test_the_sampled_penalty_estimates_the_full_one_at_a_thousand_items(monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 items; 250 samples, drawn again and again: the mean of the sum of exponentials is that of the full catalogue.

    With as many samples as items it is exact.
    """
    items = 1_000
    _, online, _ = networks_of("cql", {}, items)
    tensors: TensorBatch = to_tensors(a_batch(items))
    values, rng = online.bind()(tensors.state), torch.Generator().manual_seed(0)
    full = log_sum_exp_gap(values, tensors, rng).detach()
    monkeypatch.setattr(catalogue_losses, "FULL_LOG_SUM_ITEMS", 999)
    monkeypatch.setattr(catalogue_losses, "SOFTMAX_SAMPLES", items)
    assert torch.allclose(log_sum_exp_gap(values, tensors, rng).detach(), full, atol=1e-3)
    monkeypatch.setattr(catalogue_losses, "SOFTMAX_SAMPLES", 250)
    draws = torch.stack([log_sum_exp_gap(values, tensors, rng).detach() for _ in range(400)])
    error = draws.exp().mean(0) / full.exp() - 1
    spread = (draws.exp().std(0) / full.exp() / 20).clamp(min=1e-4)
    assert float((error.abs() / spread).max()) < 4 and float(error.abs().max()) < 0.05
    assert float((draws.mean(0) - full).abs().max()) < 0.2, "the logarithm is a little low, for it is concave"


@pytest.mark.parametrize("form", ["single", "now_later"])
def test_iql_equals_its_reference(form: str) -> None:
    seen = Seen("iql", expectile=0.8, inverse_temperature=40.0, aux_weight=0.4, form=form, later_weight=0.2)
    of_q, of_v, of_policy = seen.terms()
    batch, at = seen.batch, np.arange(B)
    heads = every(seen.now)[at, batch.action]
    target = every(seen.target_now)[at, batch.action].reshape(B, -1, R).sum(1)
    v, v_next = (values.heads.state_value.detach().numpy() for values in (seen.now, seen.next))
    clone = cross_entropy(seen.now, batch.action)
    cut = 0
    for i in range(B):
        goal = batch.discount[i] * v_next[i]
        if form == "single":
            goal = goal + batch.reward[i] + batch.later_reward[i]
            wanted = 0.5 * ((goal - heads[i]) ** 2).sum() * batch.bootstrap[i]
        else:
            wanted = 0.5 * ((batch.reward[i] - heads[i, :R]) ** 2).sum()
            wanted += 0.2 * 0.5 * ((batch.later_reward[i] + goal - heads[i, R:]) ** 2).sum() * batch.bootstrap[i]
        assert of_q[i] == pytest.approx(wanted, rel=1e-4)
        advantage = target[i] - v[i]
        side = 0.2 if advantage.sum() < 0 else 0.8
        assert of_v[i] == pytest.approx(side * 0.5 * (advantage**2).sum(), rel=1e-4)
        weight = min(np.exp(40.0 * advantage.sum()), LARGEST_WEIGHT)
        cut += weight == LARGEST_WEIGHT
        assert of_policy[i] == pytest.approx(0.4 * weight * clone[i], rel=1e-3)
    assert cut, "some weight is cut"


def test_iql_trains_its_three_parts_apart() -> None:
    """The value's loss moves no Q and no policy, Q's loss moves no value, the policy's loss moves neither."""
    settings, online, target = networks_of("iql", {})
    tensors: TensorBatch = to_tensors(a_batch())
    terms = make_objective("iql", settings)(Networks(online, target.bind()), tensors, torch.Generator()).terms
    moved = []
    for term in terms:
        online.zero_grad()
        term.mean().backward(retain_graph=True)  # type: ignore[no-untyped-call]
        parts = {"q": online.direction, "value": online.state_value, "policy": online.behaviour}
        moved.append([name for name, part in parts.items() if part.weight.grad is not None and part.weight.grad.abs().max() > 0])
    assert moved == [["q"], ["value"], ["policy"]]


@pytest.mark.parametrize("expectile", [0.5, 0.7, 0.95])
def test_expectiles_by_hand(expectile: float) -> None:
    """Of 0 and 1, equally likely, the expectile e solves e (1 - m) = (1 - e) m: it is e. The parts of a sum share its side."""
    assert float(expectile_loss(torch.tensor(2.0), 0.7, torch.tensor(2.0))) == pytest.approx(1.4)
    assert float(expectile_loss(torch.tensor(-2.0), 0.7, torch.tensor(-2.0))) == pytest.approx(0.6)
    m = torch.zeros(2, requires_grad=True)
    parts = torch.tensor([[0.0, 0.0], [0.25, 0.75]])
    for _ in range(400):
        error = parts - m
        loss = expectile_loss(error, expectile, error.detach().sum(1, keepdim=True)).sum(1).mean()
        (gradient,) = torch.autograd.grad(loss, m)
        m = (m - gradient).detach().requires_grad_()
    assert float(m.detach().sum()) == pytest.approx(expectile, abs=1e-4)
    assert float(m.detach()[0]) == pytest.approx(expectile / 4, abs=1e-4), "its share"


@pytest.mark.parametrize(
    ("name", "given", "named"),
    [
        ("bcq", {"aux_weight": 0}, "a behaviour head for bcq"),
        ("sqn", {"aux_weight": 0}, "a behaviour head for sqn"),
        ("iql", {"aux_weight": 0}, "a behaviour head for iql"),
        ("bcq", {"support_threshold": 0}, "a support for bcq"),
        ("bc", {"gamma": 0.5}, "a setting of bc"),
        ("iql", {"expectile": 1.0}, "expectile"),
        ("cql", {"cql_alpha": -1}, "cql_alpha"),
        ("dqn", {"cql_alpha": 1}, "a setting of dqn"),
    ],
)
def test_settings_without_which_it_means_nothing_are_refused(name: str, given: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        algorithm_settings(name, given)
