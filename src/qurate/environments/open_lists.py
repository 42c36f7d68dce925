"""What is open at any moment, as a table: one row for each stretch of time within which nothing opens or closes.

A lookup costs the same however large the catalogue is, which a mask over all items does not.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qurate.environments.arrivals import EPOCH_US
from qurate.types import ALWAYS, NEVER, Availability, IntArray


class OpenLists(NamedTuple):
    """Row i holds from `moments[i - 1]` (inclusive) until `moments[i]` (exclusive)."""

    moments: IntArray  # [M] microseconds, ascending
    items: IntArray  # [M + 1, K] the open items, ascending, then 0
    mask: NDArray[np.int8]  # [M + 1, K] 1 where there is an item
    never_empty: bool  # whether something is open at every moment from EPOCH_US on, when the first customers come

    def at(self, clock: IntArray) -> tuple[IntArray, NDArray[np.int8]]:
        """The K candidates of each of `clock` [B], and their mask."""
        row = self.moments.searchsorted(clock, "right")
        return self.items.take(row, 0), self.mask.take(row, 0)


def open_lists(availability: Availability, k: int) -> OpenLists | None:
    """The table of all open items in lists of `k`; None where more than `k` are open at some moment."""
    since, until = availability.since[1:], availability.until[1:]
    moments = np.unique(np.concatenate([since[since > ALWAYS], until]))
    moments = moments[moments < NEVER]
    beginnings = np.concatenate([[ALWAYS], moments])
    rows, items = np.zeros((len(beginnings), k), np.int64), availability.open_items
    for row, moment in zip(rows, beginnings.tolist()):
        now = items(moment)
        if len(now) > k:
            return None
        row[: len(now)] = now
    ends = np.concatenate([moments, [NEVER]])
    return OpenLists(moments, rows, (rows > 0).astype(np.int8), bool(rows[ends > EPOCH_US].any(axis=1).all()))
