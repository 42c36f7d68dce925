"""Reference policies: they see the latent state, which no recommender can, and serve as upper bounds.

Each world has its own (scenarios/shop_references.py, scenarios/toy_references.py); `worlds.references` names them. A
reference is made for one engine and chooses for that engine only.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from qurate.environments.engine import BatchedEngine
from qurate.errors import Code, UserError
from qurate.types import FloatArray, IntArray, Observation, Propensities

WorldT = TypeVar("WorldT")

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(9)
NORMAL: list[tuple[float, float]] = list(zip(_NODES.tolist(), (_WEIGHTS / _WEIGHTS.sum()).tolist()))
"""Nine points that stand for a standard normal, and their probabilities (Gauss-Hermite)."""


@dataclass(slots=True)
class LatentPolicy:
    """Shows the open candidates of the largest value; must be asked about all lanes of its engine.

    Args:
        engine: whose latent state is read.
        name: in tables.
        values: float [B, N] of items 1..N, from the engine's present state.
    """

    engine: BatchedEngine
    name: str
    values: Callable[[BatchedEngine], NDArray[np.floating]]

    def act(self, observation: Observation, rng: np.random.Generator) -> tuple[NDArray[np.int64], Propensities]:
        """Positions [B] (or [B, k]: the k best) and propensities of 1."""
        if len(observation.actions.candidates) != self.engine.n:
            got = str(len(observation.actions.candidates))
            raise UserError(f"all {self.engine.n} customers of the engine", got, where=self.name, code=Code.BAD_ARGUMENT)
        scores = self.scores(observation)
        k = self.engine.slate_size
        if k == 1:
            best = scores.argmax(axis=1)
            return best, np.ones(best.shape)
        top = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return top, np.ones(top.shape)

    def scores(self, observation: Observation) -> NDArray[np.floating]:
        """Values of the candidates, [B, K]; -inf where the mask forbids."""
        values = self.values(self.engine)
        candidates, mask = observation.actions[:2]
        if self.engine.n_candidates is not None:
            values = np.take_along_axis(values, np.maximum(candidates - 1, 0), axis=1)
        return values if mask.all() else np.where(mask > 0, values, -np.inf)


def world_of(engine: BatchedEngine, kind: type[WorldT], name: str) -> WorldT:
    """The engine's world, which must be of `kind`; `name` says it in the error."""
    if not isinstance(engine.world, kind):
        raise UserError(name, type(engine.world).__name__, where="reference policy", code=Code.BAD_ARGUMENT)
    return engine.world


def still_worth(engine: BatchedEngine, horizon: int) -> FloatArray:
    """Share of its worth that a lasting change has left, [B, 1]: 1, and from `horizon` decisions before the step limit on linearly
    down to 0 at the last decision."""
    return np.clip((engine.max_steps - 1 - engine.steps) / horizon, 0, 1).astype(np.float32)[:, None]


def of_all_items(engine: BatchedEngine, items: IntArray, worth: FloatArray) -> FloatArray:
    """The values `worth` [B, K] of the candidates `items` [B, K] as values of items 1..N, float32 [B, N]; 0 for all others."""
    values = np.zeros((engine.n, engine.n_items + 1), np.float32)
    np.put_along_axis(values, items, worth, axis=1)
    return values[:, 1:]
