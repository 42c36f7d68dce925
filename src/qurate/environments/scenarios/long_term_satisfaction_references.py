"""References of long-term satisfaction: `true_myopic` and `far_sighted`.

`true_myopic` shows the document of the largest expected engagement now, which is the one with the most clickbait. `far_sighted` is the
optimum: dynamic programming over the exposure, which no recommender sees, and the decisions left, with the candidates of
later decisions drawn at random as the engine draws them. It is exact but for the grid of exposures.
"""

import math

import numpy as np
from numpy.typing import NDArray

from qurate.environments.engine import BatchedEngine
from qurate.environments.references import LatentPolicy, world_of
from qurate.environments.scenarios.long_term_satisfaction import LongTermSatisfaction
from qurate.types import FloatArray

GRID = 201
"""Exposures at which values are stored; between them they are interpolated linearly."""

NOISE = ((0.0, 2 / 3), (math.sqrt(3), 1 / 6), (-math.sqrt(3), 1 / 6))
"""Standard normal noise as three points and their probabilities (Gauss-Hermite)."""


def true_myopic(engine: BatchedEngine) -> LatentPolicy:
    """Largest expected engagement of this decision."""
    world = _world_of(engine)
    return LatentPolicy(engine, "true_myopic", lambda engine: _now(world, world.exposure[:, None]))


def far_sighted(engine: BatchedEngine) -> LatentPolicy:
    """Largest expected engagement until the customer is gone or the step limit ends the episode; no policy has more."""
    world = _world_of(engine)
    exposures = _exposures(world)
    steps = min(engine.max_steps, world.p.time_budget)
    table = values_to_go(world, exposures, steps, engine.n_candidates or math.inf)

    def values(engine: BatchedEngine) -> NDArray[np.floating]:
        later = table[np.maximum(steps - 1 - engine.steps, 0)]
        return _now(world, world.exposure[:, None]) + _later(world, world.exposure[:, None], exposures, later)

    return LatentPolicy(engine, "far_sighted", values)


def values_to_go(world: LongTermSatisfaction, exposures: FloatArray, steps: int, n_candidates: float) -> NDArray[np.float64]:
    """Largest expected engagement of 0, 1, ..., `steps` more decisions at each of `exposures` [G], float64 [steps + 1, G].

    Of K candidates drawn with replacement from N items, the best one is the item of rank j (from 0) with probability
    ((N - j) / N)^K - ((N - j - 1) / N)^K.
    """
    n = len(world.clickbait)
    none_better = (np.arange(n, -1, -1) / n) ** n_candidates
    chance = none_better[:-1] - none_better[1:]
    now = _now(world, exposures[:, None])
    table = np.zeros((steps + 1, len(exposures)))
    for left in range(1, steps + 1):
        q = now + _later(world, exposures[:, None], exposures, np.broadcast_to(table[left - 1], (len(exposures), len(exposures))))
        table[left] = -np.sort(-q, axis=1) @ chance
    return table


def _exposures(world: LongTermSatisfaction) -> FloatArray:
    """The grid, float32 [GRID]: as far as documents can move the exposure, or customers arrive, and six deviations of noise more."""
    p = world.p
    reach = max(0.5, p.push * world.strength * max(p.neutral, 1 - p.neutral)) / (1 - p.memory_discount)
    reach += 6 * p.innovation_stddev / math.sqrt(1 - p.memory_discount**2)
    return np.linspace(-reach, reach, GRID, dtype=np.float32)


def _now(world: LongTermSatisfaction, exposure: FloatArray) -> FloatArray:
    """Expected engagement with each item, float32 [B, N]; `exposure` [B, 1]."""
    mean, deviation = world.log_engagement(exposure, world.clickbait)
    expected: FloatArray = np.exp(mean + deviation**2 / 2)
    return expected


def _later(world: LongTermSatisfaction, exposure: FloatArray, exposures: FloatArray, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Expected value after each item, [B, N]; `exposure` [B, 1]; `values` [B, G] of the next decision's exposures."""
    at = (world.next_exposure(exposure, world.clickbait) - exposures[0]) / (exposures[1] - exposures[0])
    width = world.p.innovation_stddev / float(exposures[1] - exposures[0])
    total = np.zeros(at.shape)
    for noise, chance in NOISE:
        place = np.clip(at + width * noise, 0, GRID - 1)
        below = np.minimum(place.astype(np.int64), GRID - 2)
        low, high = (np.take_along_axis(values, below + step, axis=1) for step in (0, 1))
        total += chance * (low + (place - below) * (high - low))
    return total


def _world_of(engine: BatchedEngine) -> LongTermSatisfaction:
    return world_of(engine, LongTermSatisfaction, "long_term_satisfaction")
