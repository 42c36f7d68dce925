"""The toys' references, exact: the policy of the largest expected return of an episode, and true-myopic."""

import numpy as np
from numpy.typing import NDArray

from qurate.environments.engine import BatchedEngine
from qurate.environments.references import LatentPolicy
from qurate.environments.scenarios.toys import ToyWorld
from qurate.environments.value_iteration import values_to_go
from qurate.errors import Code, UserError


def true_myopic(engine: BatchedEngine) -> LatentPolicy:
    """Largest expected reward of this decision."""
    toy = _toy_of(engine)
    reward = toy.mdp.exact()[1]
    return LatentPolicy(engine, "true_myopic", lambda engine: reward[toy.state])


def optimal(engine: BatchedEngine) -> LatentPolicy:
    """Largest expected undiscounted reward until the step limit, which is what a comparison measures; no policy has more."""
    toy = _toy_of(engine)
    P, R, _ = toy.mdp.exact()
    q = values_to_go(P, R, engine.max_steps)

    def values(engine: BatchedEngine) -> NDArray[np.float64]:
        left = np.minimum(engine.max_steps - engine.steps, len(q))
        of_lane: NDArray[np.float64] = q[left - 1, toy.state]
        return of_lane

    return LatentPolicy(engine, "optimal", values)


def _toy_of(engine: BatchedEngine) -> ToyWorld:
    if not isinstance(engine.world, ToyWorld):
        raise UserError("a toy", type(engine.world).__name__, where="reference policy", code=Code.BAD_ARGUMENT)
    return engine.world
