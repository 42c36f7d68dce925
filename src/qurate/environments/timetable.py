"""Items that come and go: what the worlds with a timetable of items share."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from qurate.environments.arrivals import EPOCH_US
from qurate.types import NEVER, Availability, FloatArray, IntArray

SECOND, HOUR = 1_000_000, 3_600_000_000


def first_open(since: IntArray, length: IntArray, n: int) -> IntArray:
    """Positions of the first `n` items that are open at or after EPOCH_US, by their beginning.

    Args:
        since: [M] microseconds after EPOCH_US, may be negative.
        length: [M] microseconds.
    """
    order = np.argsort(since, kind="stable")
    return order[(since + length)[order] > 0][:n]


def timetable(since: IntArray, length: IntArray) -> Availability:
    """Of items [N] that begin at `since` (microseconds after EPOCH_US, ascending); those open when the last begins stay open."""
    until = np.where(since + length > since[-1], NEVER, EPOCH_US + since + length)
    return Availability(np.concatenate([[NEVER], EPOCH_US + since]), np.concatenate([[NEVER], until]))


def times(availability: Availability) -> dict[str, pl.Series]:
    """available_from and available_until of items 1..N, UTC; null: open when the timetable ends."""
    since, until = pl.Series(availability.since[1:]), pl.Series(availability.until[1:])
    columns = {"available_from": since, "available_until": until.set(until == NEVER, None)}
    return {name: x.cast(pl.Datetime("us", "UTC")) for name, x in columns.items()}


def with_zero(values: NDArray[np.floating]) -> FloatArray:
    """[N] -> float32 [N + 1], entry 0 unused."""
    return np.concatenate([[0], values]).astype(np.float32)


class AgeTable:
    """A number per item and age, the same for everybody.

    Args:
        values: float32 [N + 1, bins], row 0 unused; the last bin also holds for all later ages.
        since: [N + 1] microseconds since 1970 when each item begins.
        bin_s: seconds for which a value holds.
    """

    def __init__(self, values: FloatArray, since: IntArray, bin_s: int) -> None:
        self.values = values
        self._since, self._bin = np.concatenate([[0], since[1:]]), np.array(bin_s * SECOND)
        self._bins, self._last = np.array(values.shape[1]), np.array(values.shape[1] - 1)

    def at(self, items: IntArray, clock: IntArray) -> FloatArray:
        """The value of `items` at `clock` (microseconds); shapes broadcast."""
        return self.by_age(items, clock - self._since.take(items))

    def by_age(self, items: IntArray, age: IntArray) -> FloatArray:
        """The value of `items` at `age` (microseconds), of the same shape."""
        at = np.minimum(age // self._bin, self._last)
        at += items * self._bins
        value: FloatArray = self.values.take(at)
        return value
