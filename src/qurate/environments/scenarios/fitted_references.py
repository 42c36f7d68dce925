"""The reference of fitted customers: `true_myopic`, which knows the response model and the customer's state.

There is no far-sighted one: what is worth showing for later is not known in closed form, and a planner would have to simulate
customers for every item of a catalogue that may have thousands.
"""

import numpy as np

from qurate.environments.customer_response import Wide
from qurate.environments.engine import BatchedEngine
from qurate.environments.references import LatentPolicy
from qurate.environments.scenarios.fitted import FittedCustomers
from qurate.errors import Code, UserError
from qurate.types import FloatArray

CELLS = 1 << 22
"""Customers times items that are looked at at a time."""


def true_myopic(engine: BatchedEngine) -> LatentPolicy:
    """Largest expected reward of this decision."""
    if not isinstance(engine.world, FittedCustomers):
        raise UserError("fitted", type(engine.world).__name__, where="reference policy", code=Code.BAD_ARGUMENT)
    world = engine.world
    return LatentPolicy(engine, "true_myopic", lambda engine: expected_rewards(world))


def expected_rewards(world: FittedCustomers) -> FloatArray:
    """Expected weighted reward of each item for each customer now, float32 [B, N]; amounts beyond the log's limits are not cut."""
    seen, response = world.seen(), world.response
    weights = world.event_weights()
    rows = max(1, CELLS // max(len(world.item_ids), 1))
    parts: list[Wide] = []
    for first in range(0, world.n, rows):
        part = response.heads(type(seen)(*(array[first : first + rows] for array in seen)))
        logits, sizes = response.raw_of_all(part)
        parts.append(response.expected(logits, sizes) @ weights)
    return np.concatenate(parts).astype(np.float32)
