"""The reference of fitted customers: `true_myopic`, which knows the response model and the customer's state.

There is no far-sighted one: what is worth showing for later is not known in closed form, and a planner would have to simulate
customers for every item of a catalogue that may have thousands.
"""

import numpy as np

from qurate.environments.customer_response import Response, Seen, Wide
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
    return expected_of(world.response, world.seen(), world.event_weights(), len(world.item_ids))


def expected_of(response: Response, seen: Seen, weights: Wide, n_items: int) -> FloatArray:
    """The same of any customers that the response model sees; `weights` [R] are rewards per unit of each event's amount."""
    rows = max(1, CELLS // max(n_items, 1))
    parts = [np.zeros((0, n_items))]
    for first in range(0, len(seen.items), rows):
        part = Seen._make(array[first : first + rows] for array in seen)
        logits, sizes = response.raw_of_all(response.heads(part))
        parts.append(response.expected(logits, sizes) @ weights)
    return np.concatenate(parts).astype(np.float32)
