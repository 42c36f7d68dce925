"""The headroom of the shop: what planning ahead can gain there, measured without any learner.

`python -m qurate.evaluation.headroom` prints the rows of docs/scenarios/shop.md. A world whose far-sighted reference does not
beat true-myopic clearly has nothing for a learner to show.
"""

import json
import sys

import numpy as np

from qurate.environments.engine import BatchedEngine
from qurate.environments.references import far_sighted, true_myopic
from qurate.environments.registry import make_engine
from qurate.types import IntArray, Observation, Policy, Propensities

SEEDS = (0, 1, 2, 3, 4)


class UniformPolicy:
    """Every item alike."""

    name = "random"

    def act(self, observation: Observation, rng: np.random.Generator) -> tuple[IntArray, Propensities]:
        """Positions [B] and their propensities 1 / K."""
        n, k = observation.actions.candidates.shape
        positions: IntArray = rng.integers(0, k, size=(n,))
        return positions, np.full(n, 1 / k)


def episode_returns(engine: BatchedEngine, policy: Policy, seed: int, customers: int) -> tuple[float, float, float]:
    """Means over `customers` first episodes of `seed`: undiscounted return, decisions, visits."""
    rng = np.random.default_rng([seed, 11])
    observation = engine.reset(seed, customers)
    here = np.ones(customers, np.bool_)
    total, decisions, visits = np.zeros(customers), np.zeros(customers), np.ones(customers)
    for _ in range(engine.max_steps):
        actions, _ = policy.act(observation, rng)
        feedback = engine.step(actions)
        total += feedback.reward * here
        decisions += here
        visits += here & (feedback.pause > 0) & ~feedback.truncated
        here &= ~(feedback.terminated | feedback.truncated)
        observation = feedback.obs
        if not here.any():
            break
    return float(total.mean()), float(decisions.mean()), float(visits.mean())


def measure(
    strength: float = 1.0, customers: int = 2000, world_seed: int = 0, seeds: tuple[int, ...] = SEEDS
) -> dict[str, list[list[float]]]:
    """[return, decisions, visits] of each seed for random, true-myopic and far-sighted."""
    engine = make_engine("shop", strength=strength, world_seed=world_seed, observe=False)
    policies: list[Policy] = [UniformPolicy(), true_myopic(engine), far_sighted(engine)]
    return {p.name: [list(episode_returns(engine, p, seed, customers)) for seed in seeds] for p in policies}


if __name__ == "__main__":
    for strength in (1.0, 0.0, 0.5, 2.0):
        rows = {name: np.mean(values, axis=0).round(2).tolist() for name, values in measure(strength).items()}
        sys.stdout.write(json.dumps({"strength": strength, "return, decisions, visits": rows}) + "\n")
