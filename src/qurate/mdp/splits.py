"""Train, valid and test, by time or by the log's own column, so that nothing of the future reaches training."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qurate.mdp.encode import NO_SPLIT
from qurate.types import NEVER, TEST, TRAIN, VALID, IntArray

SHARES = (0.8, 0.9)
"""Decisions before the first cut train, those before the second validate, the rest test."""


@dataclass(frozen=True, slots=True)
class Split:
    """The split of D decisions."""

    of: NDArray[np.uint8]  # [D] TRAIN | VALID | TEST | HISTORY
    rule: str  # time | column
    cuts: tuple[int, int] | None  # microseconds; None for the log's own column

    def horizon(self, log_end: int) -> IntArray:
        """[D] microseconds: what happened at or after this time is not known to a decision's split."""
        if self.cuts is None:
            return np.full(len(self.of), log_end + 1, np.int64)
        known = np.array([self.cuts[0], self.cuts[1], NEVER, NEVER], np.int64)
        return np.minimum(known, log_end + 1)[self.of]


def split_by_time(time: IntArray) -> Split:
    """80/10/10 by time; equal times fall into the same, later, split.

    Args:
        time: [D] microseconds: when the decision was made, or, where customers chose (organic), when the choice was
            made: an action taken after the cut must not train, even if its state is older.
    """
    ranks = [int(share * len(time)) for share in SHARES]
    ranked = np.partition(time, ranks)
    cuts = [int(ranked[rank]) for rank in ranks]
    if cuts[0] == time.min():  # too few times for three parts: train comes first
        later = time[time > cuts[0]]
        cuts[0] = int(later.min()) if len(later) else cuts[0] + 1
    cuts[1] = max(cuts)
    of = np.where(time < cuts[0], TRAIN, np.where(time < cuts[1], VALID, TEST)).astype(np.uint8)
    return Split(of, "time", (cuts[0], cuts[1]))


def split_by_column(column: NDArray[np.uint8]) -> Split:
    """The log's own split; rows that name none train."""
    return Split(np.where(column == NO_SPLIT, TRAIN, column).astype(np.uint8), "column", None)
