"""The catalogue in order of availability: what could be shown at a given moment.

An item is available from the time that its declaration gives (from the beginning where it gives none), an undeclared
one from when it was first seen in *training*; it does not stop being available because it was last seen.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from qurate.mdp.decisions import Decided, repeat_states
from qurate.mdp.splits import FOREVER, Split
from qurate.types import TRAIN, IntArray

ALWAYS = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class Availability:
    """The N items in their final order."""

    number: NDArray[np.int32]  # [N + 1] text order -> catalogue order; 0 -> 0
    since: IntArray  # [N] microseconds, ascending; ALWAYS, or FOREVER where never in training

    def count(self, clock: IntArray) -> NDArray[np.int32]:
        """[D] items 1..n are available at the clocks."""
        return np.searchsorted(self.since[: self.ever], clock, "right").astype(np.int32)

    @property
    def ever(self) -> int:
        """Items that become available at all."""
        return int(np.searchsorted(self.since, FOREVER))


def order_catalogue(decided: Decided, split: Split, names: list[str], declared: pl.DataFrame | None, timeless: bool) -> Availability:
    """Number the items by (available from, order of declaration, text).

    Args:
        decided: with items in text order.
        split: which decisions train.
        names: [N] ids in text order.
        declared: `item_id` and, optionally, `available_from`.
        timeless: the log has an order but no times, so that what was seen in training was always there.
    """
    since = np.full(len(names) + 1, FOREVER, np.int64)
    events, states = decided.events, repeat_states(decided.action_start)
    seen = events.time < split.cuts[0] if split.cuts else (events.split == TRAIN) | (events.split == 255)
    np.minimum.at(since, events.item[seen], events.time[seen])
    if decided.history != "events" or len(decided.candidates) or len(decided.action) != len(decided.hi):
        shown = split.of[states] == TRAIN
        np.minimum.at(since, decided.action[shown], decided.clock[states[shown]])
        offered = repeat_states(decided.candidates_start)
        known = split.of[offered] == TRAIN
        np.minimum.at(since, decided.candidates[known], decided.clock[offered[known]])
    if timeless:
        since[since < FOREVER] = ALWAYS
    since, tie = since[1:], np.arange(len(names), dtype=np.int64) + (0 if declared is None else declared.height)
    if declared is not None and declared.height:
        at = pl.Series(declared["item_id"]).cast(pl.Enum(names)).to_physical().cast(pl.Int64).to_numpy()
        tie[at] = np.arange(len(at))
        given = pl.Series("available_from", [ALWAYS], pl.Int64).new_from_index(0, len(at))
        if "available_from" in declared.columns:
            given = declared["available_from"].cast(pl.Datetime("us")).cast(pl.Int64).fill_null(ALWAYS)
        since[at] = given.to_numpy()
    order = np.lexsort((tie, since))
    number = np.zeros(len(names) + 1, np.int32)
    number[order + 1] = np.arange(1, len(names) + 1, dtype=np.int32)
    return Availability(number, since[order])
