"""Toys: transition arrays that are probabilities, exact values by hand, value iteration against policy evaluation."""

import numpy as np
import pytest

from qurate.environments.engine import BatchedEngine
from qurate.environments.registry import make_engine
from qurate.environments.scenarios.toys import (
    TOYS,
    FiniteMDP,
    ToyWorld,
    toy_chain,
    toy_clickbait,
    toy_delayed,
    toy_satiation,
    visited_policy,
)
from qurate.environments.value_iteration import evaluate_policy, greedy_policy, value_iteration
from qurate.types import Observation


@pytest.mark.parametrize("name", TOYS)
def test_transitions_are_probabilities_and_the_optimum_beats_myopic(name: str) -> None:
    mdp = TOYS[name]()
    P, R, states = mdp.exact()
    S, A = R.shape
    assert P.shape == (S, A, S) and len(states) == S == len(set(states)) and len(mdp.items) == A
    assert (P >= 0).all() and (P.sum(axis=2) <= 1 + 1e-12).all() and (P.sum(axis=2) < 1).any()
    q = value_iteration(P, R, 0.9)
    optimal = evaluate_policy(P, R, greedy_policy(q), 0.9)
    assert optimal == pytest.approx(q.max(axis=1), abs=1e-9)
    myopic = evaluate_policy(P, R, greedy_policy(R), 0.9)
    assert (myopic <= optimal + 1e-9).all() and optimal[mdp.start] > 1.3 * myopic[mdp.start]


def test_chain_of_two_by_hand() -> None:
    """Nobody leaves, gamma 1/2, prize 4: V0 = V1 / 2 and V1 = 4 + V0 / 2, so V0 = 8/3, V1 = 16/3; clips are worth c + V0 / 2."""
    P, R, states = toy_chain(length=2, prize=4.0, clip=0.5, leave=0.0).exact()
    assert states == ("watched_0", "watched_1")
    q = value_iteration(P, R, 0.5)
    assert q == pytest.approx(np.array([[0.5 + 4 / 3, 8 / 3], [0.5 + 4 / 3, 16 / 3]]))
    clips = np.array([[1.0, 0.0], [1.0, 0.0]])
    assert evaluate_policy(P, R, clips, 0.5) == pytest.approx([1.0, 1.0])


def test_chain_with_leaving_by_hand() -> None:
    """Leaving with probability 0.2 acts like a discount of 0.8: always the part, length 2."""
    P, R, _ = toy_chain(length=2, prize=1.0, clip=0.0, leave=0.2).exact()
    g = 0.9 * 0.8
    q = value_iteration(P, R, 0.9)
    assert q[1, 1] == pytest.approx(1 / (1 - g**2)) and q[0, 1] == pytest.approx(g / (1 - g**2))


def test_clickbait_of_one_level_by_hand() -> None:
    """With one level nothing changes: leaving with 0.45 always, bait is best: 0.9 / (1 - 0.55 * 0.9)."""
    P, R, _ = toy_clickbait(levels=1).exact()
    assert value_iteration(P, R, 0.9).max(axis=1) == pytest.approx([0.9 / (1 - 0.55 * 0.9)])


def test_delayed_by_hand() -> None:
    """Nobody leaves, gamma 1/2, prize 16, delay 2, no clips: a trailer at once and again when it pays: W = 16 + W / 4, V = W / 4."""
    P, R, states = toy_delayed(delay=2, prize=16.0, clip=0.0, leave=0.0).exact()
    assert states == ("nothing_pending", "trailer_1_ago", "trailer_2_ago")
    q = value_iteration(P, R, 0.5)
    W = 64 / 3
    assert q[2] == pytest.approx([16 + W / 8, W]) and q[0] == pytest.approx([W / 8, W / 4]) and q[1] == pytest.approx([W / 2, W / 2])
    assert R.tolist() == [[0, 0], [0, 0], [16, 16]], "the prize comes whatever is shown"


def test_satiation_moves_by_hand() -> None:
    mdp = toy_satiation(levels=3, leave=0.0)
    at = mdp.states.index
    pop, jazz, feast, rest = range(4)
    assert mdp.transition[at("pop_0_jazz_2"), pop, at("pop_2_jazz_1")] == 1
    assert mdp.transition[at("pop_1_jazz_0"), jazz, at("pop_0_jazz_2")] == 1
    assert mdp.transition[at("pop_1_jazz_1"), feast, at("pop_2_jazz_2")] == 1
    assert mdp.transition[at("pop_2_jazz_0"), rest, at("pop_1_jazz_0")] == 1
    assert mdp.chance[at("pop_2_jazz_1")] == pytest.approx([0.2, 0.35, 0.95 * 0.36, 0.1])


class Optimal:
    """Greedy in the exact values; sees the state."""

    name = "optimal"

    def __init__(self, engine: BatchedEngine, q: np.ndarray) -> None:
        self.engine, self.q = engine, q

    def act(self, observation: Observation, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        actions = self.q[self.engine.world.state].argmax(axis=1)
        return actions, np.ones(len(actions))


@pytest.mark.parametrize("name", TOYS)
def test_simulated_return_equals_the_exact_value(name: str) -> None:
    engine = make_engine(name)
    P, R, _ = engine.world.mdp.exact()
    q = value_iteration(P, R, 0.9)
    policy, n = Optimal(engine, q), 20_000
    observation = engine.reset(0, n)
    total, factor, here = np.zeros(n), 1.0, np.ones(n, bool)
    for _ in range(80):
        feedback = engine.step(policy.act(observation, np.random.default_rng(0))[0])
        total += factor * feedback.reward * here
        here &= ~feedback.terminated
        factor *= 0.9
        observation = feedback.obs
    error = total.std() / n**0.5
    assert abs(total.mean() - q.max(axis=1)[engine.world.mdp.start]) < 4 * error


def test_visited_policy_gives_the_exact_value_of_a_policy() -> None:
    engine = make_engine("toy_clickbait")
    P, R, _ = engine.world.mdp.exact()
    q = value_iteration(P, R, 0.9)
    table = visited_policy(engine, Optimal(engine, q), 0)
    assert table.sum(axis=1) == pytest.approx(np.ones(len(table)))
    start = engine.world.mdp.start
    assert evaluate_policy(P, R, table, 0.9)[start] == pytest.approx(q.max(axis=1)[start], rel=1e-9)


def test_the_history_reveals_the_state_of_the_chain() -> None:
    engine = make_engine("toy_chain")
    observation, rng = engine.reset(0, 100), np.random.default_rng(0)
    for _ in range(30):
        observation = engine.step((rng.random(100) < 0.7).astype(np.int64)).obs
        shown = np.where(observation.state.history_types == 1, observation.state.history_items, 0)
        for lane in range(100):
            run = 0
            for item in shown[lane][shown[lane] > 0][::-1]:
                if item != 2:
                    break
                run += 1
            if run < 10:
                assert engine.world.state[lane] == run % 5


def test_values_of_rewards_are_in_the_history() -> None:
    mdp = FiniteMDP(("only",), ("a", "b"), 0, np.ones((1, 2)), np.array([[0.5, 2.0]]), np.ones((1, 2, 1)))
    engine = BatchedEngine(ToyWorld(mdp), window=6)
    engine.reset(0, 1)
    for action in (0, 1):
        feedback = engine.step(np.array([action]))
    assert feedback.obs.state.history_items.tolist() == [[0, 0, 1, 1, 2, 2]]
    assert feedback.obs.state.history_types.tolist() == [[0, 0, 1, 2, 1, 2]]
    assert feedback.obs.state.history_values.tolist() == [[0, 0, 0, 0.5, 0, 2.0]]
    assert feedback.obs.state.history_gaps.tolist() == [[0, 0, 10, 50, 10, 50]]
    assert feedback.reward.tolist() == [2.0]
