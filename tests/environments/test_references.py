"""References of the toys are exact; a reference chooses among what is open."""

import numpy as np
import pytest

from qurate.environments.references import NORMAL, LatentPolicy
from qurate.environments.registry import make_engine
from qurate.environments.scenarios.toy_references import optimal, true_myopic
from qurate.environments.scenarios.toys import TOYS
from qurate.environments.value_iteration import evaluate_policy, greedy_policy, value_iteration, values_to_go
from qurate.environments.worlds import references
from qurate.errors import UserError
from qurate.evaluation.headroom import measure
from qurate.evaluation.rollouts import rollout
from qurate.types import Actions


def test_nine_points_stand_for_a_normal() -> None:
    """Moments 1, 0, 1 and 3, and the mean of exp(x), which is exp(1/2)."""
    assert [sum(p * x**k for x, p in NORMAL) for k in (0, 1, 2, 4)] == pytest.approx([1, 0, 1, 3], abs=1e-12)
    assert sum(p * np.exp(x) for x, p in NORMAL) == pytest.approx(np.exp(0.5), rel=1e-6)


def test_values_to_go_by_hand() -> None:
    """One state, two items: 1 now and stay, or 3 now and go. With one decision left the second is best, later the first."""
    P, R = np.array([[[1.0], [0.0]]]), np.array([[1.0, 3.0]])
    q = values_to_go(P, R, 4)
    assert q[:, 0].tolist() == [[1, 3], [4, 3], [5, 3], [6, 3]]
    still = values_to_go(np.array([[[0.5]]]), np.array([[1.0]]), 1_000)
    assert len(still) < 60 and still[-1, 0, 0] == pytest.approx(2, abs=1e-11), "stops where nothing changes any more"


@pytest.mark.parametrize("name", TOYS)
def test_many_decisions_to_go_are_value_iteration_without_discount(name: str) -> None:
    P, R, _ = TOYS[name]().exact()
    assert values_to_go(P, R, 100_000)[-1] == pytest.approx(value_iteration(P, R, 1.0), rel=1e-9)


@pytest.mark.parametrize("max_steps", [3, 200])
@pytest.mark.parametrize("name", TOYS)
def test_the_references_return_what_the_exact_solution_says(name: str, max_steps: int) -> None:
    engine, n = make_engine(name, max_steps=max_steps), 4_000
    mdp = engine.world.mdp  # type: ignore[attr-defined]
    P, R, _ = mdp.exact()
    for policy, exact in (
        (optimal(engine), values_to_go(P, R, max_steps)[-1].max(axis=1)[mdp.start]),
        (true_myopic(engine), myopic_return(P, R, max_steps)[mdp.start]),
    ):
        seen = rollout(engine, policy, 1, n, every_lane=True)
        error = max(seen.returns.std() / n**0.5, 1e-9)
        assert abs(seen.returns.mean() - exact) < 4 * error, policy.name


def myopic_return(P: np.ndarray, R: np.ndarray, steps: int) -> np.ndarray:
    """Expected return of the greedy policy in R over `steps` decisions, [S], by adding up the chain's distribution."""
    chosen = greedy_policy(R).argmax(axis=1)
    at = np.arange(len(R))
    value = np.zeros(len(R))
    for _ in range(steps):
        value = R[at, chosen] + P[at, chosen] @ value
    return value


@pytest.mark.parametrize("name", TOYS)
def test_headroom_of_the_toys(name: str) -> None:
    P, R, _ = TOYS[name]().exact()
    start = TOYS[name]().start
    long_run = evaluate_policy(P, R, greedy_policy(R), 1.0)[start]
    assert value_iteration(P, R, 1.0).max(axis=1)[start] > 1.3 * long_run
    rows = measure(name, 500, seeds=(0, 1))
    assert list(rows) == ["random", "true_myopic", "optimal"]
    assert all(best[0] > 1.3 * myopic[0] for best, myopic in zip(rows["optimal"], rows["true_myopic"]))


def test_a_toy_reference_needs_a_toy() -> None:
    for make in references("toy_chain").values():
        with pytest.raises(UserError, match="expected a toy, got Shop"):
            make(make_engine("shop"))


def test_a_reference_shows_only_what_is_open() -> None:
    engine = make_engine("shop", n_items=5)
    policy = LatentPolicy(engine, "x", lambda engine: np.tile(np.array([1, 5, 4, 3, 2.0]), (engine.n, 1)))
    observation = engine.reset(0, 2)
    rng = np.random.default_rng(0)
    assert policy.act(observation, rng)[0].tolist() == [1, 1]
    mask = np.array([[1, 0, 0, 1, 1], [1, 1, 0, 0, 0]], np.int8)
    assert policy.act(observation._replace(actions=observation.actions._replace(mask=mask)), rng)[0].tolist() == [3, 1]
    engine = make_engine("shop", n_items=5, n_candidates=3)
    policy.engine = engine
    engine.reset(0, 2)
    listed = Actions(np.array([[1, 3, 0], [2, 3, 5]]), np.array([[1, 1, 0], [0, 1, 1]], np.int8))
    assert policy.act(observation._replace(actions=listed), rng)[0].tolist() == [1, 1]
