"""SlateQ: target and loss against a reference written row by row in NumPy, and the decomposition against values of whole slates."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from qurate.algorithms.objective import Loss, Networks
from qurate.algorithms.table import algorithm_settings, make_objective
from qurate.networks.build import build_network
from qurate.networks.slate_network import SlateNetwork
from qurate.networks.slates import Choices, best_slate, slate_value
from qurate.networks.values import to_tensors
from qurate.settings import Settings, SlateSettings, replace
from qurate.types import Batch, OpenActions, State

ROWS, ITEMS, USER, K, SLATE = 14, 6, 4, 5, 2
Array = NDArray[Any]


def some_states(rng: np.random.Generator) -> State:
    items, types = (np.sort(rng.integers(0, high, (ROWS, 3)), axis=1) for high in (ITEMS + 1, 3))
    f = rng.random((ROWS, 3)).astype(np.float32)
    return State(np.where(types > 0, items, 0), types, f, f, rng.normal(size=(ROWS, USER)).astype(np.float32), f[:, :2])


def a_batch(components: int) -> Batch:
    """Clicks and none; row 0 terminated, 1 censored, 2 a short list, 3 two documents of one item, 4 nothing shown in the successor."""
    rng = np.random.default_rng(0)
    shown = np.stack([rng.permutation(ITEMS)[:SLATE] + 1 for _ in range(ROWS)])
    action = shown[np.arange(ROWS), rng.integers(0, SLATE, ROWS)] * (rng.random(ROWS) < 0.6)
    shown[3], action[3] = 4, 4
    discount, bootstrap = np.full(ROWS, 0.9, np.float32), np.ones(ROWS, np.float32)
    discount[0] = bootstrap[1] = 0
    candidates = rng.integers(1, ITEMS + 1, (ROWS, K))
    candidates[2, 3:] = 0
    following = np.take_along_axis(candidates, np.stack([rng.permutation(3)[:SLATE] for _ in range(ROWS)]), axis=1)
    following[4] = 0
    reward, later = (rng.normal(size=(ROWS, components)).astype(np.float32) for _ in range(2))
    return Batch(
        some_states(rng), action, reward, later, discount, bootstrap, some_states(rng), OpenActions(candidates, None, None, None),
        np.zeros(ROWS, np.int64), np.arange(ROWS), shown=shown, next_shown=following,
    )  # fmt: skip


def a_network(settings: Settings, components: int, seed: int) -> SlateNetwork:
    features = np.random.default_rng(9).normal(size=(ITEMS + 1, 3)).astype(np.float32)
    features[0] = 0
    network = build_network(features, settings, n_types=2, user_dim=USER, n_components=components, behaviour=False, seed=seed)
    assert isinstance(network, SlateNetwork)
    with torch.no_grad():  # heads begin at zero, where mistakes would not show
        for part in network.parameters():
            part.add_(0.2 * torch.randn(part.shape, generator=torch.Generator().manual_seed(seed)))
    return network


def measured(components: int = 1, **given: Any) -> tuple[Loss, Batch, Settings, list[tuple[Array, Array]]]:
    """The loss, the batch, and (Q [B, N + 2, R], logits [B, N + 2]) of the online network now and the target network then."""
    small = {"hidden": 8, "embedding_dim": 4, "window": 3, "aux_weight": 0.7}
    settings = replace(algorithm_settings("slateq", small | given), slate_size=SLATE)
    online, target = (a_network(settings, components, seed) for seed in (1, 2))
    batch = a_batch(components)
    tensors = to_tensors(batch)
    loss = make_objective("slateq", settings)(Networks(online.eval(), target.eval().bind()), tensors, torch.Generator())
    every = torch.arange(ITEMS + 2).expand(ROWS, -1)
    seen = []
    with torch.no_grad():
        for network, state in ((online, tensors.state), (target, tensors.next_state)):
            values = network.bind()(state)
            seen.append((values.by_head(every).numpy().astype(float), values.items.behaviour_logits(every).numpy().astype(float)))
    return loss, batch, settings, seen


def worth(items: tuple[int, ...], q: Array, logits: Array, nothing_value: bool) -> Array:
    """Expected value by component of a slate of one state, from its definition."""
    e = np.exp(np.array([*(logits[i] for i in items), logits[ITEMS + 1]]))
    p = e / e.sum()
    return sum(p[j] * q[i] for j, i in enumerate(items)) + p[-1] * q[ITEMS + 1] * nothing_value  # type: ignore[no-any-return]


@pytest.mark.parametrize("components", [1, 2])
@pytest.mark.parametrize(
    "given", [{}, {"nothing_value": False}, {"slate_target": "sarsa"}, {"slate_optimiser": "topk"}, {"slate_optimiser": "greedy"},
              {"loss": "huber"}], ids=str
)  # fmt: skip
def test_target_and_loss_equal_the_reference(given: dict[str, Any], components: int) -> None:
    loss, batch, settings, ((now, logits), (then, logits_then)) = measured(components, **given)
    own = settings.algorithm
    assert isinstance(own, SlateSettings) and batch.shown is not None and batch.next_shown is not None
    assert batch.next_actions.candidates is not None
    td_terms, choice, errors = [], [], []
    for i in range(ROWS):

        def value(slate: tuple[int, ...], i: int = i) -> Array:
            return worth(slate, then[i], logits_then[i], own.nothing_value)  # type: ignore[union-attr]

        listed = [int(item) for item in batch.next_actions.candidates[i] if item]
        known = True
        if own.slate_target == "sarsa":
            slate = tuple(int(item) for item in batch.next_shown[i] if item)
            known = bool(slate) or batch.discount[i] == 0
        elif own.slate_optimiser == "exact":
            slate = max(combinations(listed, SLATE), key=lambda s: float(value(s).sum()))
        elif own.slate_optimiser == "topk":
            order = sorted(listed, key=lambda a: -float(np.exp(logits_then[i, a]) * then[i, a].sum()))
            slate = tuple(order[:SLATE])
        else:
            slate, left = (), list(listed)
            for _ in range(SLATE):
                pick = max(left, key=lambda a: float(value((*slate, a)).sum()))
                slate, left = (*slate, pick), [a for j, a in enumerate(left) if j != left.index(pick)]
        target = batch.reward[i] + batch.later_reward[i] + batch.discount[i] * value(slate)
        clicked = int(batch.action[i])
        counts = known * batch.bootstrap[i] * (own.nothing_value or clicked > 0)
        error = (target - now[i, clicked or ITEMS + 1]) * counts
        huber = np.where(np.abs(error) > 1, np.abs(error) - 0.5, 0.5 * error**2)
        td_terms.append((huber if given.get("loss") == "huber" else 0.5 * error**2).sum())
        errors.append(error.sum())
        e = np.exp(logits[i])
        chosen = e[clicked] * (batch.shown[i] == clicked).sum() if clicked else e[ITEMS + 1]
        choice.append(-np.log(chosen / (e[batch.shown[i]].sum() + e[ITEMS + 1])))
    np.testing.assert_allclose(loss.td_errors.numpy(), errors, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(loss.terms[0].detach().numpy(), td_terms, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(loss.terms[1].detach().numpy(), 0.7 * np.array(choice), rtol=1e-4, atol=1e-5)
    assert loss.total().item() == pytest.approx(np.mean(td_terms) + 0.7 * np.mean(choice), rel=1e-4)
    assert (batch.action == 0).sum() > 2 and (batch.action > 0).sum() > 2


def test_only_what_was_chosen_is_updated() -> None:
    """The gradient of the TD errors with respect to Q reaches the item that was clicked, and nothing where nothing was."""
    settings = replace(algorithm_settings("slateq", {"hidden": 8, "embedding_dim": 4, "window": 3}), slate_size=SLATE)
    network = a_network(settings, 1, 1)
    batch = to_tensors(a_batch(1))
    values = network.bind()(batch.state)
    heads = values.by_head(torch.arange(ITEMS + 2).expand(ROWS, -1)).detach().requires_grad_()
    values.by_head = lambda actions, features=None: heads.gather(1, actions[:, :, None])  # type: ignore[method-assign]
    fixed = a_network(settings, 1, 2)
    network.bind = lambda rng=None: lambda state: values  # type: ignore[method-assign]
    make_objective("slateq", settings)(Networks(network, fixed.bind()), batch, torch.Generator()).terms[0].sum().backward()
    moved = heads.grad[:, :, 0] != 0  # type: ignore[index]
    expected = torch.nn.functional.one_hot(torch.where(batch.action > 0, batch.action, ITEMS + 1), ITEMS + 2).bool()
    expected[1] = False  # censored
    assert (moved == expected).all()


def test_item_wise_values_give_the_values_of_whole_slates() -> None:
    """A small MDP solved twice to the end: over all slates as actions, and item by item. Proposition 1 and equation 19 of the paper."""
    rng, states, gamma = np.random.default_rng(4), 3, 0.9
    mass, nothing = rng.random((states, ITEMS)) * 2 + 0.1, rng.random(states) + 0.5
    reward, moves = rng.normal(size=(states, ITEMS + 1)), rng.dirichlet(np.ones(states), (states, ITEMS + 1))  # the last one: nothing
    slates = list(combinations(range(ITEMS), SLATE))
    chance = np.zeros((states, len(slates), ITEMS + 1))
    for a, slate in enumerate(slates):
        total = mass[:, slate].sum(1) + nothing
        chance[:, a, slate] = mass[:, slate] / total[:, None]
        chance[:, a, -1] = nothing / total
    whole = np.zeros((states, len(slates)))
    item = np.zeros((states, ITEMS + 1))
    choices = Choices(*(torch.as_tensor(x) for x in (mass, item[:, :-1], nothing, item[:, -1])))
    for _ in range(400):
        whole = np.einsum("sac,sc->sa", chance, reward + gamma * moves @ whole.max(1))
        choices = choices._replace(value=torch.as_tensor(item[:, :-1]), nothing_value=torch.as_tensor(item[:, -1]))
        best = slate_value(choices.at(best_slate(choices, SLATE, "exact"))).numpy()
        item = reward + gamma * moves @ best
    np.testing.assert_allclose(np.einsum("sac,sc->sa", chance, item), whole, atol=1e-9)
    picked = best_slate(choices, SLATE, "exact").numpy()
    assert [slates[a] for a in whole.argmax(1)] == [tuple(sorted(row)) for row in picked.tolist()]


def test_without_a_list_the_candidates_are_what_is_open() -> None:
    _, batch, settings, ((now, _), (then, logits_then)) = measured()
    since, until = np.zeros(ITEMS + 1, np.int64), np.full(ITEMS + 1, 100)
    since[2], until[1:4] = 50, 10
    clock = np.where(np.arange(ROWS) % 2 == 0, 5, 60)
    networks = [a_network(settings, 1, seed).eval() for seed in (1, 2)]
    for ends in (until, None):
        opened = to_tensors(batch._replace(next_actions=OpenActions(None, clock, since, ends)))
        loss = make_objective("slateq", settings)(Networks(networks[0], networks[1].bind()), opened, torch.Generator())
        for i in range(ROWS):
            items = [a for a in range(1, ITEMS + 1) if since[a] <= clock[i] and (ends is None or clock[i] < ends[a])]
            best = max(float(worth(s, then[i], logits_then[i], True).sum()) for s in combinations(items, SLATE))
            goal = batch.reward[i, 0] + batch.later_reward[i, 0] + batch.discount[i] * best
            error = (goal - now[i, batch.action[i] or ITEMS + 1, 0]) * batch.bootstrap[i]
            assert loss.td_errors[i].item() == pytest.approx(error, rel=1e-3, abs=1e-5)
