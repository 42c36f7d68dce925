"""When simulated customers first come."""

import numpy as np

from qurate.environments.rng import GOLDEN, Keys, mix
from qurate.types import IntArray

EPOCH_US = 1_767_225_600_000_000
"""Customers arrive from 2026-01-01 00:00 UTC on."""

ARRIVALS_S = 90 * 86_400
"""First visits are spread evenly over this many seconds, or over a world's own `arrivals_s`."""

_ARRIVAL = np.uint64((int(GOLDEN) * 15) % 2**64)  # purpose 15 of step 0


def first_visits(keys: Keys, within_s: int) -> IntArray:
    """Microseconds since 1970 of the first decision of the customers with `keys` [m]: evenly over `within_s` whole seconds."""
    after = (mix(keys + _ARRIVAL) % np.uint64(within_s)).astype(np.int64)
    return EPOCH_US + after * 1_000_000
