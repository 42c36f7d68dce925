"""References of interest evolution: `true_myopic` and `far_sighted`.

`true_myopic` shows what is most likely to be watched: all documents are equally long, so it is the most minutes now, and the
greedy pCTR agent of RecSim. `far_sighted` also pays for the budget that a document takes, at a price per minute that was tuned once on
other customers (docs/scenarios/interest_evolution.md). It knows the mean quality of every topic, which no recommender is told,
and ignores how interests evolve, so it is a good rule and not an optimum.
"""

from functools import partial

import numpy as np

from qurate.environments.engine import BatchedEngine
from qurate.environments.references import LatentPolicy, world_of
from qurate.environments.scenarios.interest_evolution import InterestEvolution
from qurate.types import FloatArray, IntArray

PRICE = 1.3
"""Minutes watched that a far-sighted site gives for one minute of the budget."""

ROUNDS = 8
"""Of Dinkelbach's method, which stops changing after two to four."""


def true_myopic(engine: BatchedEngine) -> LatentPolicy:
    """The candidates of the largest score: the slate that is most likely to be watched."""
    world = _world_of(engine)
    return LatentPolicy(engine, "true_myopic", lambda engine: world.interest)


def far_sighted(engine: BatchedEngine, price: float = PRICE) -> LatentPolicy:
    """The slate of the largest expected minutes watched, less the price of the budget that it takes."""
    return LatentPolicy(engine, "far_sighted", partial(_values, _world_of(engine), price))


def _values(world: InterestEvolution, price: float, engine: BatchedEngine) -> FloatArray:
    """Worth of a topic's place in the best slate, float32 [B, 20]: the slate holds the candidates where it is largest."""
    p = world.p
    score = world.interest - np.float32(p.least_score)
    gain = np.float32(p.length) * (1 - np.float32(price) * (1 - np.float32(p.quality_minutes * world.strength) * world.quality))
    nothing = np.float32(p.no_click_mass - p.least_score)
    lost = -np.float32(price * p.no_click_minutes)
    candidates: IntArray = engine.observation.actions.candidates - 1
    of_slate = np.full((len(score), 1), lost)
    for _ in range(ROUNDS):  # Dinkelbach 1967: the best ratio is where the best slate of this sum is worth 0
        worth = np.take_along_axis(score * (gain - of_slate), candidates, axis=1)
        best = np.take_along_axis(candidates, np.argsort(-worth, axis=1, kind="stable")[:, : engine.slate_size], axis=1)
        chosen = np.take_along_axis(score, best, axis=1)
        total = (chosen * gain[best]).sum(axis=1, keepdims=True) + nothing * lost
        of_slate = total / (chosen.sum(axis=1, keepdims=True) + nothing)
    worth_of_all: FloatArray = score * (gain - of_slate)
    return worth_of_all


def _world_of(engine: BatchedEngine) -> InterestEvolution:
    return world_of(engine, InterestEvolution, "interest_evolution")
