"""Reference policies: they see the latent state, which no recommender can, and serve as upper bounds.

Each world has its own (scenarios/shop_references.py, scenarios/toy_references.py); `registry.references` names them. A
reference is made for one engine and chooses for that engine only.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qurate.environments.engine import BatchedEngine
from qurate.errors import Code, UserError
from qurate.types import Observation, Propensities


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
