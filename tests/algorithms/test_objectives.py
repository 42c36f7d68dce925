"""Every objective against a reference written row by row in NumPy, and against values worked out by hand."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from objective_cases import ACTIONS, ROWS, STATES, TABLES, Array, first_best, measured
from qurate.algorithms.distributional import categorical_projection
from qurate.algorithms.objective import Networks
from qurate.algorithms.table import ALGORITHMS, algorithm_settings, make_objective
from qurate.environments.observation_layout import TaskSpec
from qurate.networks.build import build_task_network
from qurate.networks.dense_network import best_of
from qurate.networks.values import to_tensors
from qurate.settings import CategoricalSettings
from qurate.training.on_task import TASK_DEFAULTS
from qurate.types import DenseState, OpenActions

DEEP = ["dqn", "double_dqn", "nstep_dqn", "dueling_dqn", "per_dqn", "noisy_dqn", "c51", "rainbow", "myopic"]
ELSEWHERE = ["qr_dqn", "iqn", "munchausen"]  # test_quantiles.py, test_munchausen.py


@pytest.mark.parametrize("given", [{}, {"loss": "huber"}])
@pytest.mark.parametrize("name", ["dqn", "double_dqn", "nstep_dqn", "dueling_dqn", "per_dqn", "noisy_dqn", "myopic"])
def test_deep_q_learning_and_its_relatives_equal_the_reference(name: str, given: dict[str, Any]) -> None:
    loss, batch, (now, online, target), settings = measured(name, **given)
    mask, errors, terms = batch.next_actions.mask, [], []
    assert mask is not None
    for i in range(ROWS):
        picked = first_best((online if settings.learning.double else target)[i, :, 0], mask[i])
        ahead = 0.0 if settings.learning.gamma == 0 else target[i, picked, 0]
        goal = batch.reward[i, 0] + batch.later_reward[i, 0] + batch.discount[i] * ahead
        error = float((goal - now[i, batch.action[i], 0]) * batch.bootstrap[i])
        errors.append(error)
        huber = given.get("loss") == "huber" and abs(error) > 1
        terms.append(abs(error) - 0.5 if huber else 0.5 * error**2)
    np.testing.assert_allclose(loss.td_errors.numpy(), errors, rtol=1e-5, atol=1e-6)
    assert loss.total().item() == pytest.approx(np.mean(terms), rel=1e-5)
    weights = np.linspace(0.1, 1, ROWS).astype(np.float32)
    assert loss.total(torch.as_tensor(weights)).item() == pytest.approx(np.mean(weights * terms), rel=1e-5)


def test_double_q_learning_picks_with_one_network_and_values_with_the_other() -> None:
    plain, _, (_, online, target), _ = measured("dqn")
    double, batch, _, _ = measured("double_dqn")
    mask = batch.next_actions.mask
    assert mask is not None
    differs = [first_best(online[i, :, 0], mask[i]) != first_best(target[i, :, 0], mask[i]) for i in range(ROWS)]
    changed = (plain.td_errors - double.td_errors).abs().numpy() > 1e-6
    counted = (batch.discount > 0) & (batch.bootstrap > 0)
    assert changed.any() and changed.tolist() == (np.array(differs) & counted).tolist()


@pytest.mark.parametrize("name", TABLES)
def test_tables_equal_the_reference_and_move_by_lr_times_the_mean_error(name: str) -> None:
    loss, batch, (now, _, target), _ = measured(name)
    mask, by_entry, errors = batch.next_actions.mask, {}, []
    assert mask is not None
    for i in range(ROWS):
        action = first_best(target[i, :, 0], mask[i]) if name == "q_learning" else int(batch.next_action[i])
        known = batch.bootstrap[i] > 0 and (name == "q_learning" or action > 0 or batch.discount[i] == 0)
        goal = batch.reward[i, 0] + batch.later_reward[i, 0] + batch.discount[i] * target[i, action, 0]
        error = float(goal - now[i, batch.action[i], 0]) if known else 0.0
        errors.append(error)
        if known:
            by_entry.setdefault((int(batch.state.categories[i, 0]), int(batch.action[i]) - 1), []).append(error)
    np.testing.assert_allclose(loss.td_errors.numpy(), errors, rtol=1e-5, atol=1e-6)
    assert max(len(found) for found in by_entry.values()) > 1, "some entry stands in the batch more than once"
    settings = algorithm_settings(name, {}, TASK_DEFAULTS)
    network = build_task_network(TaskSpec((0,), np.dtype(np.float32), (STATES,), ACTIONS), settings, seed=0)
    table = network.q  # type: ignore[attr-defined]
    with torch.no_grad():
        table.copy_(torch.as_tensor(np.random.default_rng(0).normal(size=(STATES, ACTIONS))))
        fixed = build_task_network(TaskSpec((0,), np.dtype(np.float32), (STATES,), ACTIONS), settings, seed=0)
        fixed.q.copy_(torch.as_tensor(np.random.default_rng(1).normal(size=(STATES, ACTIONS))))  # type: ignore[attr-defined]
    make_objective(name, settings)(Networks(network, fixed.bind()), to_tensors(batch), torch.Generator()).total().backward()  # type: ignore[no-untyped-call]
    expected = np.zeros((STATES, ACTIONS))
    for entry, found in by_entry.items():
        expected[entry] = -np.mean(found)  # the gradient; an SGD step of lr moves the entry by lr times the mean error
    np.testing.assert_allclose(table.grad.numpy(), expected, rtol=1e-5, atol=1e-6)


def projected_by_hand(returns: Array, chances: Array, low: float, high: float, atoms: int) -> Array:
    """Algorithm 1 of Bellemare et al. 2017, atom by atom."""
    step, out = (high - low) / (atoms - 1), np.zeros(atoms)
    for value, chance in zip(returns, chances, strict=True):
        place = (min(max(value, low), high) - low) / step
        below, above = math.floor(place + 1e-9), math.ceil(place - 1e-9)
        if below == above:
            out[below] += chance
        else:
            out[below] += chance * (above - place)
            out[above] += chance * (place - below)
    return out


def test_the_projection_of_c51_equals_the_paper_s_algorithm() -> None:
    rng = np.random.default_rng(0)
    support = np.linspace(-2, 3, 11)
    returns = rng.normal(0.5, 3, (50, 11))  # many of them outside
    returns[0] = support  # exactly on the atoms
    chances = rng.dirichlet(np.ones(11), 50)
    got = categorical_projection(*(torch.as_tensor(a) for a in (returns, chances, support))).numpy()
    for i in range(50):
        np.testing.assert_allclose(got[i], projected_by_hand(returns[i], chances[i], -2, 3, 11), atol=1e-9)
    np.testing.assert_allclose(got[0], chances[0])
    np.testing.assert_allclose(got.sum(1), 1)


def test_the_projection_keeps_the_mean_of_returns_inside_the_support() -> None:
    z = torch.linspace(0, 10, 21)
    place = torch.tensor([[0.3, 4.01, 9.99]])
    chance = torch.tensor([[0.2, 0.5, 0.3]])
    assert float(categorical_projection(place, chance, z)[0] @ z) == pytest.approx(float((place * chance).sum()), rel=1e-5)


@pytest.mark.parametrize("name,given", [("c51", {}), ("c51", {"double": True}), ("c51", {"head": "dueling"}), ("rainbow", {})])
def test_c51_equals_the_reference(name: str, given: dict[str, Any]) -> None:
    loss, batch, (now, online, target), settings = measured(name, v_min=-3.0, v_max=3.0, atoms=7, **given)
    kind, mask = settings.algorithm, batch.next_actions.mask
    assert isinstance(kind, CategoricalSettings) and mask is not None
    atoms = np.linspace(-3, 3, 7)

    def chances(logits: Array) -> Array:
        power = np.exp(logits.astype(np.float64) - logits.max())
        return np.asarray(power / power.sum())

    terms, errors = [], []
    for i in range(ROWS):
        picker = online if settings.learning.double else target
        q = np.array([chances(picker[i, a]) @ atoms for a in range(ACTIONS + 1)])
        p = chances(target[i, first_best(q, mask[i])])
        z = batch.reward[i, 0] + batch.later_reward[i, 0] + batch.discount[i] * atoms
        predicted = chances(now[i, batch.action[i]])
        terms.append(-(projected_by_hand(z, p, -3, 3, 7) @ np.log(predicted)) * batch.bootstrap[i])
        errors.append((p @ z - predicted @ atoms) * batch.bootstrap[i])
    assert loss.total().item() == pytest.approx(np.mean(terms), rel=1e-5)
    np.testing.assert_allclose(loss.td_errors.numpy(), errors, rtol=1e-4, atol=1e-5)


def test_dueling_values_are_the_state_s_plus_centred_advantages() -> None:
    """Wang et al. 2016, eq. 9: advantages of an action sum to 0, so the mean of Q is the state's value."""
    settings = algorithm_settings("dueling_dqn", {}, TASK_DEFAULTS)
    network = build_task_network(TaskSpec((2,), np.dtype(np.float32), (), ACTIONS), settings, seed=0)
    state = to_tensors(DenseState(np.array([[0.5, -1.0], [2.0, 0.1]], np.float32), np.zeros((2, 0), np.int64)))
    q = network.bind()(state).all()[:, 1:]
    torso = network.torso(state.numbers)  # type: ignore[attr-defined]
    value, advantage = network.value(torso), network.advantage(torso)  # type: ignore[attr-defined]
    assert torch.allclose(q.mean(1, keepdim=True), value, atol=1e-6)
    assert torch.allclose(q[:, 0] - q[:, 1], advantage[:, 0] - advantage[:, 1], atol=1e-6)


def test_the_best_open_action_obeys_mask_list_and_clock() -> None:
    q = torch.tensor([[9.0, 1, 2, 3, 4]] * 4)
    since, until = torch.tensor([2**62, 0, 0, 10, 20]), torch.tensor([0, 2**62, 15, 2**62, 2**62])
    clock = torch.tensor([5, 12, 16, 30])
    assert best_of(q, OpenActions(None, None, None, None)).tolist() == [4, 4, 4, 4]
    assert best_of(q, OpenActions(None, clock, since, until)).tolist() == [2, 3, 3, 4]
    assert best_of(q, OpenActions(None, clock, since, None)).tolist() == [2, 3, 3, 4]
    only_second = OpenActions(None, torch.tensor([5, 5, 16, 16]), torch.tensor([2**62, 99, 0, 99, 99]), until)
    assert best_of(q, only_second).tolist() == [2, 2, 0, 0], "item 2 has ended at 15, and nothing else is open"
    listed = torch.tensor([[1, 3, 0], [0, 0, 0], [4, 0, 0], [2, 1, 0]])
    assert best_of(q, OpenActions(listed, clock, since, until)).tolist() == [3, 3, 4, 2], "a list stands in place of the clock"
    mask = torch.tensor([[False, True, False, False, False], [False, True, True, False, False]] * 2)
    assert best_of(q, OpenActions(None, None, None, None, mask)).tolist() == [1, 2, 1, 2]


def test_each_algorithm_is_checked_here() -> None:
    """Those that learn from logs only have test_from_logs.py, slateq has test_slateq.py."""
    assert sorted([*TABLES, *DEEP, *ELSEWHERE]) == sorted(name for name, row in ALGORITHMS.items() if not (row.from_logs or row.slates))
