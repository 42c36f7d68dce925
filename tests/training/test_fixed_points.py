"""Each algorithm on tasks that value iteration solves: its values are those of its own exact fixed point."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from qurate.environments.scenarios.toys import TOYS
from qurate.environments.value_iteration import evaluate_policy, greedy_policy, value_iteration
from qurate.learning.checkpoint import read_arrays
from qurate.models.model import Model
from qurate.training.train import train
from qurate.types import Actions, DenseState, Observation

Array = NDArray[np.float64]
GAMMA = 0.9
TABLE: dict[str, Any] = {"gamma": GAMMA, "steps": 40_000, "lr": 0.05, "update_every": 16, "batch_size": 128, "replay_capacity": 40_000}
DEEP: dict[str, Any] = {"gamma": GAMMA, "n_step": 1, "steps": 20_000, "lr": 2e-3, "hidden": 64, "update_every": 2, "target_tau": 0.02}


def learned(model: Model) -> Array:
    """Q [S, A] of every state and action."""
    states, actions = model.ranker.spec.categories[0], model.ranker.spec.n_actions  # type: ignore[union-attr]
    state = DenseState(np.zeros((states, 0), np.float32), np.arange(states)[:, None])
    candidates = np.tile(np.arange(1, actions + 1), (states, 1))
    return model.ranker.scores(Observation(state, Actions(candidates, np.ones_like(candidates, np.int8)))).astype(np.float64)


def visit_shares(model: Model, states: int, actions: int) -> Array:
    """How large a share of the replay each state and action is, [S, A]."""
    arrays = read_arrays(model.checkpoint)
    action, state = arrays["ring.action"], arrays["ring.states.categories"][:, 0]
    counts = np.zeros((states, actions))
    np.add.at(counts, (state[action > 0], action[action > 0] - 1), 1)
    return counts / counts.sum()


def of_the_soft_policy(P: Array, R: Array, epsilon: float) -> Array:
    """Q of the epsilon-greedy policy that is greedy to that same Q: what SARSA ends at."""
    q = R
    for _ in range(50):
        policy = (1 - epsilon) * greedy_policy(q) + epsilon / R.shape[1]
        q = R + GAMMA * P @ evaluate_policy(P, R, policy, GAMMA)
    return q


def fixed_point(name: str, P: Array, R: Array, epsilon: float) -> Array:
    if name == "myopic":
        return R
    return of_the_soft_policy(P, R, epsilon) if name == "sarsa" else value_iteration(P, R, GAMMA)


def check(name: str, toy: str, epsilon: float, **settings: Any) -> None:
    mdp = TOYS[toy]()
    P, R, _ = mdp.exact()
    model = train(env=f"toy_tasks:{toy.removeprefix('toy_')}", algorithm=name, epsilon_start=epsilon, epsilon_end=epsilon, **settings)
    q, exact = learned(model), fixed_point(name, P, R, epsilon)
    seen = visit_shares(model, *R.shape) > 1e-3
    assert seen.sum() >= R.size / 2
    error = np.abs(q - exact)[seen].max() / np.ptp(exact)
    assert error <= 0.05, f"{error:.3f} of the range; {q.round(2).tolist()} for {exact.round(2).tolist()}"
    if name != "myopic":
        best = value_iteration(P, R, GAMMA)[mdp.start].max()
        assert evaluate_policy(P, R, greedy_policy(q), GAMMA)[mdp.start] >= 0.99 * best


@pytest.mark.parametrize("name,epsilon", [("q_learning", 1.0), ("sarsa", 0.2)])
def test_a_table_reaches_its_fixed_point(name: str, epsilon: float) -> None:
    """SARSA's replay must be short: what an earlier policy did in the successor is not what this one would do."""
    check(name, "toy_chain", epsilon, **TABLE | ({"replay_capacity": 8_000, "lr": 0.02} if name == "sarsa" else {}))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dqn", "double_dqn", "dueling_dqn", "per_dqn", "myopic"])
def test_a_network_reaches_its_fixed_point(name: str) -> None:
    """Actions are drawn uniformly: a policy that follows its own early values never sees the end of the chain.

    Prioritised sampling is exact only with whole importance weights.
    """
    own: dict[str, Any] = {"gamma": 0.0} if name == "myopic" else {"priority_beta": 1.0} if name == "per_dqn" else {}
    check(name, "toy_chain", 1.0, **DEEP | own)


@pytest.mark.slow
def test_a_distribution_reaches_its_fixed_point() -> None:
    check("c51", "toy_chain", 0.3, **DEEP, v_min=-5.0, v_max=40.0, atoms=91)
