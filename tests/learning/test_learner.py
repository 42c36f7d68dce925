"""One update by hand: targets of both forms, what enters the loss, the target network, and what must never go wrong."""

from typing import Any

import numpy as np
import pytest
import torch

from qurate.algorithms import catalogue_losses, dqn
from qurate.algorithms.objective import Networks
from qurate.algorithms.table import ALGORITHMS, algorithm_settings, make_objective
from qurate.learning.learner import BAD_STEPS_BEFORE_ROLLBACK, Learner
from qurate.learning.value_bound import ValueBound
from qurate.networks.catalogue_network import CatalogueNetwork
from qurate.networks.values import to_tensors
from qurate.settings import Settings, from_flat
from qurate.types import NEVER, Batch, OpenActions, State

ITEMS, TYPES, WINDOW = 7, 2, 4


def make_network(
    seed: int = 0, items: int = ITEMS, components: int = 2, form: str = "now_later", behaviour: bool = False
) -> CatalogueNetwork:
    """A network whose every parameter is random, so that nothing is zero by initialisation."""
    torch.manual_seed(seed)
    features = torch.randn(items + 1, 3)
    features[0] = 0
    net = CatalogueNetwork(
        features, n_types=TYPES, user_dim=1, context_dim=2, n_components=components, dim=4, hidden=8, encoder="mean", form=form,
        id_embedding=True, id_dropout=0.0, behaviour=behaviour,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.5)
        net.repeat.mul_(0.1)  # it counts ten times
    return net


def make_states(rng: np.random.Generator, n: int, items: int = ITEMS) -> State:
    return State(
        rng.integers(1, items + 1, (n, WINDOW)), rng.integers(1, TYPES + 1, (n, WINDOW)),
        rng.uniform(0, 100, (n, WINDOW)).astype(np.float32), rng.uniform(0, 2, (n, WINDOW)).astype(np.float32),
        rng.normal(size=(n, 1)).astype(np.float32), rng.uniform(size=(n, 2)).astype(np.float32),
    )  # fmt: skip


def available(counts: Any, items: int | None = None, candidates: np.ndarray | None = None) -> OpenActions:
    """Items 1..counts[b] are open in row b: item i begins at time i."""
    since = np.r_[NEVER, np.arange(1, (ITEMS if items is None else items) + 1)]
    return OpenActions(candidates, np.asarray(counts, np.int64), since, None)


def make_batch(seed: int = 0, n: int = 6, items: int = ITEMS, components: int = 2, **changes: Any) -> Batch:
    rng = np.random.default_rng(seed)
    batch = Batch(
        make_states(rng, n, items), rng.integers(1, items + 1, n), rng.normal(size=(n, components)).astype(np.float32),
        np.zeros((n, components), np.float32), np.full(n, 0.9, np.float32), np.ones(n, np.float32), make_states(rng, n, items),
        available(np.full(n, items), items), np.zeros(n, np.int64), np.arange(n),
    )  # fmt: skip
    return batch._replace(**changes)


def make_learner(net: CatalogueNetwork | None = None, **settings: Any) -> Learner:
    """A learner whose target network differs from the online one."""
    chosen: dict[str, Any] = {"double": False, "aux_weight": 0.0, "support_threshold": 0.0, "lr": 1e-3, "later_weight": 1.0, **settings}
    net = make_network(form=chosen.get("form", "now_later")) if net is None else net
    organic, settings = chosen.pop("organic", False), from_flat(chosen)
    learner = Learner(net, make_objective("dqn", settings, organic), settings.learning)
    with torch.no_grad():
        for i, parameter in enumerate(learner.target.parameters()):
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i)) * 0.3)
    return learner


@torch.no_grad()
def by_head(net: CatalogueNetwork, state: State) -> torch.Tensor:
    """Q of every item by head, [B, items, H], straight from the formula: no shortcut of the learner is used."""
    table = net.tower(None)
    heads = net.heads(to_tensors(state), table)
    vectors, mean = table.vectors[1:], table.vectors[1:].mean(0)
    advantage = torch.einsum("bhd,kd->bkh", heads.direction, vectors - mean)
    bias = table.centred[1:, net.dim : net.dim + net.n_heads]
    assert torch.allclose(bias.mean(0), torch.zeros(net.n_heads), atol=1e-6)
    again = torch.zeros_like(advantage)
    for row, window in enumerate(torch.as_tensor(state.history_items).tolist()):
        for place, item in enumerate(window):
            again[row, item - 1] += heads.repeat[row, :, place]
    return heads.value[:, None] + advantage + bias + again


def targets(learner: Learner, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    networks, online, tensors, settings = parts(learner, batch)
    values, counted, _ = dqn.td_targets(networks, online, tensors, settings, False)
    return values, counted


def next_values(learner: Learner, batch: Batch) -> torch.Tensor:
    networks, online, tensors, settings = parts(learner, batch)
    return dqn.next_values(networks, online, tensors, settings)


def parts(learner: Learner, batch: Batch) -> tuple[Networks, Any, Any, Settings]:
    """What an objective works with."""
    networks = Networks(learner.network, learner.bound_target())
    return networks, learner.network.bind(), to_tensors(batch), learner.objective.keywords["settings"]  # type: ignore[attr-defined]


def best_by_hand(picker: CatalogueNetwork, valuer: CatalogueNetwork, batch: Batch) -> torch.Tensor:
    """Q of the successor by component, [B, R]: argmax of the sum over heads and components, valued by another network."""
    best = by_head(picker, batch.next_state).sum(2).argmax(1)
    chosen = by_head(valuer, batch.next_state)[torch.arange(len(best)), best]
    return chosen.view(len(best), -1, valuer.n_components).sum(1)


@pytest.mark.parametrize("double", [False, True])
def test_targets_of_the_now_and_later_form(double: bool) -> None:
    learner, batch = make_learner(double=double), make_batch()
    got, counted = targets(learner, batch)
    following = best_by_hand(learner.network if double else learner.target, learner.target, batch)
    assert torch.equal(got[:, :2], torch.as_tensor(batch.reward))  # `now` is the reward itself
    assert torch.allclose(got[:, 2:], 0.9 * following, atol=1e-5)
    assert counted.all()


@pytest.mark.parametrize("double", [False, True])
def test_targets_of_the_single_form(double: bool) -> None:
    learner, batch = make_learner(form="single", double=double), make_batch()
    following = best_by_hand(learner.network if double else learner.target, learner.target, batch)
    assert torch.allclose(targets(learner, batch)[0], torch.as_tensor(batch.reward) + 0.9 * following, atol=1e-5)


def test_every_algorithm_has_settings_of_its_own() -> None:
    rows = [(row.objective, algorithm_settings(name, {})) for name, row in ALGORITHMS.items()]
    assert len({str(row) for row in rows}) == len(rows)
    assert [algorithm_settings(name, {}).learning.double for name in ("dqn", "double_dqn")] == [False, True]


def test_double_and_single_estimates_differ_as_they_should() -> None:
    batch = make_batch(n=64)
    single, double = make_learner(), make_learner(double=True)
    picked = [best_by_hand(net.network if d else net.target, net.target, batch).sum(1) for net, d in ((single, False), (double, True))]
    assert (picked[0] >= picked[1] - 1e-5).all() and (picked[0] > picked[1] + 1e-3).any()  # the maximum is the largest estimate
    both = [targets(net, batch)[0][:, 2:].sum(1) for net in (single, double)]
    assert (both[0] >= both[1] - 1e-5).all() and (both[0] > both[1] + 1e-3).any()


@pytest.mark.parametrize("form", ["now_later", "single"])
def test_terminated_rows_are_worth_their_reward_and_censored_ones_teach_nothing_about_later(form: str) -> None:
    ends = {"discount": np.array([0, 0.9, 0.9], np.float32), "bootstrap": np.array([1, 0, 1], np.float32)}
    learner, batch = make_learner(form=form), make_batch(n=3, **ends)
    got, counted = targets(learner, batch)
    later = got[:, -2:]
    assert torch.equal(later[0], torch.as_tensor(batch.reward[0] if form == "single" else np.zeros(2, np.float32)))
    assert counted[:, -2:].tolist() == [[1, 1], [0, 0], [1, 1]]
    if form == "now_later":
        assert counted[:, :2].all(), "a censored decision still shows what it earned at once"
    # by gradients: the censored row moves nothing in the single form, and in the other no more than `now`
    alone = make_batch(n=3, **ends | {"bootstrap": np.zeros(3, np.float32)})
    before = [p.clone() for p in learner.network.parameters()]
    learner.update(alone)
    moved = [not torch.equal(a, b) for a, b in zip(before, learner.network.parameters())]
    assert any(moved) == (form == "now_later")
    names = [name for name, _ in learner.network.named_parameters()]
    of_later = [i for i, name in enumerate(names) if name.startswith(("later_value", "later_direction"))]
    assert len(of_later) == (4 if form == "now_later" else 0)
    assert not any(moved[i] for i in of_later), "the layers of `later` have no gradient"


def test_n_step_returns_enter_where_they_belong() -> None:
    later_reward = np.full((3, 2), 2.0, np.float32)
    three = {"later_reward": later_reward, "discount": np.full(3, 0.9**3, np.float32)}
    for form in ("now_later", "single"):
        learner, batch = make_learner(form=form), make_batch(n=3, **three)
        following = best_by_hand(learner.target, learner.target, batch)
        expected = torch.as_tensor(later_reward) + 0.9**3 * following
        got = targets(learner, batch)[0]
        assert torch.allclose(got[:, -2:], expected + (torch.as_tensor(batch.reward) if form == "single" else 0), atol=1e-5)


def test_the_maximum_stays_among_what_is_available() -> None:
    learner, batch = make_learner(), make_batch(n=8, next_actions=available([1, 2, 3, 4, 5, 6, 7, 7]))
    q = by_head(learner.target, batch.next_state)
    for b, begun in enumerate(batch.next_actions.clock):
        best = q[b, :begun].sum(1).argmax()
        assert torch.allclose(targets(learner, batch)[0][b, 2:], 0.9 * q[b, best].view(2, 2).sum(0), atol=1e-5)
    listed = np.zeros((8, 3), np.int64)
    listed[:4] = [[5, 2, 0], [7, 0, 0], [1, 3, 6], [2, 0, 0]]
    got = next_values(learner, batch._replace(next_actions=batch.next_actions._replace(candidates=listed)))
    for b, row in enumerate(listed):
        allowed = row[row > 0] - 1 if b < 4 else np.arange(batch.next_actions.clock[b])  # no list: the catalogue
        best = allowed[int(q[b, torch.as_tensor(allowed)].sum(1).argmax())]
        assert torch.allclose(got[b], q[b, best].view(2, 2).sum(0), atol=1e-5)


@pytest.mark.parametrize("double", [False, True])
def test_where_nothing_can_be_shown_nothing_is_to_come(double: bool) -> None:
    learner = make_learner(double=double)
    some, none = make_batch(n=4, next_actions=available([0, 7, 0, 3])), make_batch(n=4, next_actions=available(np.zeros(4)))
    alone = next_values(learner, make_batch(n=4, next_actions=available([7, 7, 7, 3])))
    got = next_values(learner, some)
    assert not got[[0, 2]].any() and torch.allclose(got[[1, 3]], alone[[1, 3]], atol=1e-6) and got[1].any()
    assert not next_values(learner, none).any()
    listed = np.array([[2], [0], [0], [0]])
    listed_values = next_values(learner, none._replace(next_actions=available(np.zeros(4), candidates=listed)))
    assert listed_values[0].any() and not listed_values[1:].any(), "what is on a list can be shown"


def test_the_support_keeps_the_maximum_where_the_data_has_been() -> None:
    net = make_network(behaviour=True)
    learner, batch = make_learner(net, support_threshold=0.5), make_batch(n=32)
    with torch.no_grad():
        logits = learner.bound_target()(to_tensors(batch.next_state)).behaviour_logits()[:, 1:]  # type: ignore[attr-defined]
    shares = torch.softmax(logits, 1)
    inside = shares / shares.amax(1, keepdim=True) >= 0.5
    q = by_head(learner.target, batch.next_state)
    best = q.sum(2).masked_fill(~inside, -1e9).argmax(1)
    expected = q[torch.arange(32), best].view(32, 2, 2).sum(1)
    assert torch.allclose(next_values(learner, batch), expected, atol=1e-5)
    assert not torch.equal(best, q.sum(2).argmax(1)), "somewhere the support forbids the best item"


def test_a_myopic_learner_looks_at_nothing_later() -> None:
    learner, batch = make_learner(gamma=0.0), make_batch(discount=np.zeros(6, np.float32))
    assert torch.equal(targets(learner, batch)[0][:, 2:], torch.zeros(6, 2))


def scalar_copy(net: CatalogueNetwork) -> CatalogueNetwork:
    """One component whose heads are the sums over the components of `net`: the scalar learner of the weighted reward."""
    r, d = net.n_components, net.dim
    one = make_network(components=1, form=net.form)
    kinds = net.n_heads // r
    with torch.no_grad():
        own, state = one.state_dict(), net.state_dict()
        for name, value in state.items():
            if name.startswith(("value", "later_value")):
                own[name] = value.view(1, r, *value.shape[1:]).sum(1)
            elif "direction" in name:
                own[name] = value.view(-1, r, d, *value.shape[1:]).sum(1).flatten(0, 1)
            elif name in ("match", "repeat"):
                own[name] = value.view(kinds, r, -1).sum(1)
            elif name == "tower.id_bias":
                own[name] = value.view(-1, kinds, r).sum(2)
            elif name == "tower.from_features.2.weight":
                own[name] = torch.cat([value[:d], value[d:].view(kinds, r, -1).sum(1)])
            else:
                own[name] = value
        one.load_state_dict(own)
    return one


@pytest.mark.parametrize("form", ["now_later", "single"])
def test_targets_by_component_sum_to_the_target_of_the_scalar_learner(form: str) -> None:
    net = make_network(components=3, form=form)
    many = make_learner(net, form=form, double=True)
    one = make_learner(scalar_copy(net), form=form, double=True)
    one.target.load_state_dict(scalar_copy(many.target).state_dict())
    batch = make_batch(n=64, components=3, discount=np.linspace(0, 0.99, 64).astype(np.float32))
    total = batch._replace(reward=batch.reward.sum(1, keepdims=True), later_reward=batch.later_reward.sum(1, keepdims=True))
    by_component, scalar = targets(many, batch)[0], targets(one, total)[0]
    kinds = 2 if form == "now_later" else 1
    assert torch.allclose(by_component.view(64, kinds, 3).sum(2), scalar, atol=1e-5)
    assert torch.allclose(many.update(batch).td_errors, one.update(total).td_errors, atol=1e-5)


@pytest.mark.parametrize("loss", ["squared", "huber"])
def test_a_batch_is_its_rows(loss: str) -> None:
    batch = make_batch(n=5)
    whole = make_learner(loss=loss).update(batch)
    rows = [make_learner(loss=loss).update(row(batch, i)) for i in range(5)]
    assert whole.loss == pytest.approx(np.mean([r.loss for r in rows]), rel=1e-5)
    assert torch.allclose(whole.td_errors, torch.cat([r.td_errors for r in rows]), atol=1e-5)


def row(batch: Batch, i: int) -> Batch:
    """Row `i` alone."""
    one = [
        State(*(a[i : i + 1] for a in field)) if isinstance(field, State)
        else field._replace(clock=field.clock[i : i + 1]) if isinstance(field, OpenActions)
        else None if field is None else field[i : i + 1]
        for field in batch
    ]  # fmt: skip
    return Batch(*one)  # type: ignore[arg-type]


def test_the_loss_is_half_the_square_of_the_errors_and_importance_weights_multiply_it() -> None:
    batch = make_batch(n=4)
    learner = make_learner()
    with torch.no_grad():
        q = by_head(learner.network, batch.state)[torch.arange(4), torch.as_tensor(batch.action) - 1]
    errors = targets(learner, batch)[0] - q
    plain = make_learner().update(batch)
    assert plain.loss == pytest.approx(float(0.5 * errors.square().sum(1).mean()), rel=1e-4)
    assert torch.allclose(plain.td_errors, errors.sum(1), atol=1e-5)
    weights = torch.tensor([0.0, 1.0, 2.0, 0.5])
    weighted = make_learner().update(batch, weights)
    assert weighted.loss == pytest.approx(float((0.5 * errors.square().sum(1) * weights).mean()), rel=1e-4)
    assert torch.equal(plain.td_errors, weighted.td_errors), "priorities come from the error, not from its weight"
    zero = make_learner()
    before = [p.clone() for p in zero.network.parameters()]
    zero.update(batch, torch.zeros(4))
    assert all(torch.equal(a, b) for a, b in zip(before, zero.network.parameters()))


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters()))


def test_a_hard_target_stands_still_and_then_is_the_online_network() -> None:
    learner, batch = make_learner(target_period=3, target_tau=1.0), make_batch()
    before = [p.clone() for p in learner.target.parameters()]
    for _ in range(2):
        learner.update(batch)
        assert all(torch.equal(a, b) for a, b in zip(before, learner.target.parameters()))
    learner.update(batch)
    assert same(learner.target, learner.network)
    copied, table = [p.clone() for p in learner.target.parameters()], learner.bound_target()
    learner.update(batch)
    assert all(torch.equal(a, b) for a, b in zip(copied, learner.target.parameters()))
    assert learner.bound_target() is table, "computed once between two target updates"


def test_a_soft_target_moves_by_its_share_and_its_cached_items_move_too() -> None:
    learner, batch = make_learner(target_tau=0.25), make_batch()
    before = [p.clone() for p in learner.target.parameters()]
    learner.update(batch)
    for old, new, online in zip(before, learner.target.parameters(), learner.network.parameters()):
        assert torch.allclose(new, old + 0.25 * (online - old), atol=1e-6)
    with torch.no_grad():
        state, items = to_tensors(batch.state), torch.arange(1, ITEMS + 1).expand(6, -1)
        assert torch.equal(learner.bound_target()(state).by_head(items), learner.target.bind()(state).by_head(items))


def test_target_and_average_are_no_part_of_any_graph() -> None:
    """Else memory would grow with every update."""
    learner, batch = make_learner(), make_batch()
    for _ in range(3):
        learner.update(batch)
    copies = [*learner.target.parameters(), *learner.ema.parameters()]
    assert copies and all(p.grad_fn is None and not p.requires_grad for p in copies)


def test_the_average_that_is_kept_lags_behind() -> None:
    learner, batch = make_learner(ema=0.9), make_batch()
    first = [p.clone() for p in learner.ema.parameters()]
    learner.update(batch)
    decay = 1 / 11  # early on, a long memory would keep the random start
    for old, new, online in zip(first, learner.ema.parameters(), learner.network.parameters()):
        assert torch.allclose(new, decay * old + (1 - decay) * online, atol=1e-6)


def test_a_loss_that_is_not_finite_is_skipped_and_undone_when_it_stays() -> None:
    learner, good = make_learner(), make_batch()
    bad = make_batch(reward=np.full((6, 2), np.nan, np.float32))
    start = {name: value.clone() for name, value in learner.state()["network"].items()}
    for _ in range(3):
        assert learner.update(good).stats["stepped"] == 1
    learned = [p.clone() for p in learner.network.parameters()]
    for i in range(BAD_STEPS_BEFORE_ROLLBACK - 1):
        update = learner.update(bad)
        assert not np.isfinite(update.loss) and update.stats["stepped"] == 0 and learner.skipped == i + 1
        assert all(torch.equal(a, b) for a, b in zip(learned, learner.network.parameters())), "skipped: nothing moved"
    learner.update(good)
    assert learner.bad_steps == 0, "they must come in a row"
    for _ in range(BAD_STEPS_BEFORE_ROLLBACK):
        learner.update(bad)
    assert learner.updates == 0 and learner.bad_steps == 0
    assert all(torch.equal(start[name], value) for name, value in learner.state()["network"].items()), "back to the last good state"
    assert learner.update(good).stats["stepped"] == 1


def test_a_rolled_back_run_returns_to_where_it_was_loaded_not_to_a_random_start() -> None:
    source, bad = make_learner(), make_batch(reward=np.full((6, 2), np.inf, np.float32))
    for _ in range(3):
        source.update(make_batch())
    learner = make_learner(make_network(seed=9))
    learner.load_state(source.state())
    for _ in range(BAD_STEPS_BEFORE_ROLLBACK):
        learner.update(bad)
    assert same(learner.network, source.network) and learner.updates == 3


def test_what_no_gradient_moves_is_changed_in_all_copies_and_stays_after_a_rollback() -> None:
    learner, bad = make_learner(), make_batch(reward=np.full((6, 2), np.nan, np.float32))
    before = learner.bound_target()
    learner.change_buffers(lambda module: [part.data.fill_(0.25) for part in module.parameters()])
    assert learner.bound_target() is not before, "what the target computed once is computed anew"
    for _ in range(BAD_STEPS_BEFORE_ROLLBACK):
        learner.update(bad)
    for part in (learner.network, learner.target, learner.ema):
        assert all((value == 0.25).all() for value in part.parameters())


def test_values_beyond_what_rewards_allow_raise_the_alarm() -> None:
    learner, batch = make_learner(), make_batch()
    learner.bound = ValueBound(0.9, reward=1e5)
    assert learner.update(batch).stats["alarm"] == 0
    learner.bound = ValueBound(0.9, reward=1e-7)
    assert learner.update(batch).stats["alarm"] == 1


def behaviour_gradient(learner: Learner, batch: Batch) -> tuple[float, torch.Tensor]:
    """Loss and gradient, with respect to the behaviour direction, of the behaviour head."""
    net = learner.network
    net.zero_grad()
    values = net.bind()(to_tensors(batch.state))
    loss = catalogue_losses.behaviour_cross_entropy(values, torch.as_tensor(batch.action), learner.generator).mean()
    torch.autograd.backward(loss)
    assert net.behaviour is not None and net.behaviour.weight.grad is not None
    return float(loss.detach()), net.behaviour.weight.grad.clone()


def test_the_sampled_softmax_agrees_with_the_full_one_at_1000_items(monkeypatch: pytest.MonkeyPatch) -> None:
    net = make_network(items=1_000, behaviour=True)
    with torch.no_grad():  # logits of moderate size, like those of a log's policy
        net.behaviour.weight.mul_(0.2)
    learner = make_learner(net, aux_weight=1.0)
    batch = make_batch(n=16, items=1_000)
    loss, gradient = behaviour_gradient(learner, batch)
    monkeypatch.setattr(catalogue_losses, "FULL_SOFTMAX_ITEMS", 0)
    draws = [behaviour_gradient(learner, batch) for _ in range(200)]
    assert np.mean([one for one, _ in draws]) == pytest.approx(loss, rel=0.01)
    mean = torch.stack([g for _, g in draws]).mean(0)
    assert torch.nn.functional.cosine_similarity(mean.flatten(), gradient.flatten(), dim=0) > 0.99
    assert float(mean.norm() / gradient.norm()) == pytest.approx(1, abs=0.05)
    # with a tenth of the items the correction is log 10, far more than this tolerance
    monkeypatch.setattr(catalogue_losses, "SOFTMAX_SAMPLES", 100)
    assert np.mean([behaviour_gradient(learner, batch)[0] for _ in range(300)]) == pytest.approx(loss, rel=0.1)


def test_the_sampled_softmax_over_every_item_is_the_full_one(monkeypatch: pytest.MonkeyPatch) -> None:
    learner, batch = make_learner(make_network(behaviour=True), aux_weight=1.0), make_batch(n=16)
    loss, gradient = behaviour_gradient(learner, batch)
    monkeypatch.setattr(catalogue_losses, "FULL_SOFTMAX_ITEMS", 0)
    monkeypatch.setattr(catalogue_losses, "SOFTMAX_SAMPLES", ITEMS)
    sampled, sampled_gradient = behaviour_gradient(learner, batch)
    assert sampled == pytest.approx(loss, rel=1e-5)
    assert torch.allclose(sampled_gradient, gradient, atol=1e-5)


@pytest.mark.parametrize("form", ["now_later", "single"])
def test_unchosen_items_of_an_organic_log_are_pulled_to_the_value_of_staying(form: str) -> None:
    """As many items as `negatives`, in expectation: reward 0, and the customer stays in the state she was in."""
    learner, batch = make_learner(negatives=16, gamma=0.5, form=form, organic=True), make_batch(n=8)
    networks, _, tensors, settings = parts(learner, batch)
    counts = dqn.head_weights(tensors, 2, form, settings.learning.later_weight, organic=True)
    loss = dqn.dqn(networks, tensors, learner.generator, settings=settings, organic=True)
    got = float(loss.terms[1].mean().detach())
    stay = 0.5 * best_by_hand(learner.target, learner.target, batch._replace(next_state=batch.state))
    goal = torch.cat([torch.zeros(8, 2), stay], 1) if form == "now_later" else stay
    error = 0.5 * (by_head(learner.network, batch.state) - goal[:, None]).square() * counts[:, None]
    error[torch.arange(8), torch.as_tensor(batch.action) - 1] = 0
    assert got == pytest.approx(16 * float(error.sum(2).mean()), rel=1e-4)
    assert torch.allclose(counts.mean(0), torch.ones(counts.shape[1])), "every head counts as much as all rows do"
