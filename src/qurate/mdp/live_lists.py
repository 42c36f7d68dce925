"""Shortlists after a log's end: the state of its counters, and what each further event changes in it.

What `Shortlists` answers at any moment of a log, this answers at the present one: the same lists and the same values, bit for bit,
for a clock after everything that was added. A model keeps it as arrays; a service adds each event as it comes.
"""

from typing import Self

import numpy as np
from numpy.typing import NDArray

from qurate.mdp.clocks import COLUMNS, SECONDS, Counters, moves_key, seconds_between
from qurate.mdp.shortlists import GRID_US, PARTNERS, TOP, Shortlists, distinct, last_item
from qurate.types import FloatArray, IntArray

UNSEEN = int(np.iinfo(np.int64).max)
ARRAYS = ("items", "item_counts", "item_time", "pairs", "pair_counts", "pair_time", "first_seen", "partners", "top", "minute", "late")


class LiveLists:
    """The shortlists of the present.

    Attributes:
        items, moves: counters by item, and by pair (`moves_key`).
        first_seen: [N + 1] microseconds, `UNSEEN` where an item was never seen.
        partners: int32 [N + 1, PARTNERS] where the newest moves away from each item led, newest last, 0 = none.
        top: int32 [H, TOP] the most popular items at the start of the minute of the newest event.
        minute: int64 [2]: the time from which minutes count, and the end of the minute of the newest event.
        late_us: what is asked at t is answered as of t - late_us, as in the log that trained the model. Events are counted when they
            come: where they come so late, the counters are those of training.
    """

    def __init__(
        self,
        items: Counters,
        moves: Counters,
        *,
        first_seen: IntArray,
        partners: NDArray[np.int32],
        top: NDArray[np.int32],
        minute: IntArray,
        late_us: int = 0,
    ) -> None:
        self.items, self.moves = items, moves
        self.first_seen, self.partners, self.top, self.minute, self.late_us = first_seen, partners, top, minute, late_us
        self._now: NDArray[np.int32] | None = None

    @classmethod
    def at_end(cls, lists: Shortlists) -> Self:
        """The state at the end of a log."""
        clocks = lists.clocks
        ranks, n = len(clocks.times) + 1, clocks.n_items + 1
        items, moves = clocks.items.last(), clocks.moves.last()
        source = np.arange(n)
        start, end = (np.searchsorted(lists.move_place, at * ranks) for at in (source, source + 1))
        place = end[:, None] - np.arange(PARTNERS, 0, -1)
        inside = place >= start[:, None]
        partners = np.zeros((n, PARTNERS), np.int32)
        partners[inside] = lists.move_target[place[inside]]
        first = int(clocks.times[0]) if len(clocks.times) else 0
        top = lists.top[-2] if len(lists.grid) > 1 else np.zeros((len(SECONDS), TOP), np.int32)
        minute = np.array([first, lists.grid[-1] if len(lists.grid) else first], np.int64)
        moves = (clocks.pairs[moves[0]], *moves[1:])
        return cls(
            Counters(*items, n),
            Counters(*moves),
            first_seen=clocks.first_seen.copy(),
            partners=partners,
            top=top.copy(),
            minute=minute,
            late_us=clocks.late_us,
        )

    @property
    def newest(self) -> int:
        """Time of the newest event, microseconds; 0 before the first one."""
        return int(self.items.arrays()[2].max(initial=0))

    def add(self, item: int, time: int, previous: int) -> None:
        """One event that names an item.

        Args:
            time: microseconds.
            previous: the item that the same visit chose before, 0 = none.
        """
        if time >= self.minute[1]:
            self.top = self._popular()
            self.minute[1] += GRID_US * (1 + (time - int(self.minute[1])) // GRID_US)
        self._now = None
        self.items.add(item, time)
        self.first_seen[item] = min(int(self.first_seen[item]), time)
        if previous and previous != item:
            self.moves.add(int(moves_key(previous, item, len(self.first_seen))), time)
            self.partners[previous, :-1] = self.partners[previous, 1:]
            self.partners[previous, -1] = item

    def candidates(self, history: NDArray[np.integer], clock: IntArray) -> IntArray:
        """Lists int64 [B, K] padded with 0, items ascending."""
        now = np.asarray(clock) - self.late_us >= self.minute[1]
        if self._now is None and now.any():
            self._now = self._popular()
        top = np.repeat(self.top.reshape(1, -1), len(now), axis=0)
        if self._now is not None:
            top[now] = self._now.reshape(-1)
        partners = self.partners[last_item(history)]
        return distinct(np.concatenate([history, partners, top], axis=1).astype(np.int64))

    def values(self, candidates: IntArray, history: NDArray[np.integer], clock: IntArray) -> FloatArray:
        """What is known of candidates [B, K], float32 [B, K, G]; see `Clocks.values`. A clock before an event reads as its moment."""
        row, column = np.nonzero(candidates)
        key, at = candidates[row, column].astype(np.int64), np.asarray(clock, np.int64)[row] - self.late_us
        source = last_item(history)[row]
        first = self.first_seen[key]
        age = np.where(first < UNSEEN, np.maximum(seconds_between(at, np.where(first < UNSEEN, first, at)), 0) / 3_600, np.nan)
        counts, moved = self.items.at(key, at), self.moves.at(moves_key(source, key, len(self.first_seen)), at)
        out = np.full((*candidates.shape, len(COLUMNS)), np.nan, np.float32)
        out[row, column] = np.concatenate([counts, moved, age[:, None]], axis=1)
        return out

    def _popular(self) -> NDArray[np.int32]:
        """The most popular items by each half-life, int32 [H, TOP], 0 = none; ordered as in `Shortlists`."""
        key = np.fromiter(self.items.row, np.int64, len(self.items.row))
        counts, time = self.items.counts[: len(key)], self.items.time[: len(key)]
        weight = np.log2(counts) + ((time - self.minute[0]) * 1e-6)[:, None] / SECONDS
        out = np.zeros((len(SECONDS), TOP), np.int32)
        ascending = np.argsort(key)  # of equal weights the smaller number comes first, as in a log
        for h in range(len(SECONDS)):
            best = ascending[np.argsort(-weight[ascending, h], kind="stable")[:TOP]]
            out[h, : len(best)] = key[best]
        return out

    def saved(self) -> dict[str, NDArray[np.generic]]:
        """Arrays by name."""
        a, b = self.items.arrays(), self.moves.arrays()
        return dict(zip(ARRAYS, (*a, *b, self.first_seen, self.partners, self.top, self.minute, np.array([self.late_us]))))

    @classmethod
    def from_saved(cls, arrays: dict[str, NDArray[np.generic]], n_items: int) -> Self:
        """What `saved` gave.

        Raises:
            KeyError, ValueError: it is not that, or of another catalogue.
        """
        given = [np.array(arrays[name]) for name in ARRAYS]
        if len(given[6]) != n_items + 1 or given[7].shape != (n_items + 1, PARTNERS) or given[1].shape != (len(given[0]), len(SECONDS)):
            raise ValueError("counters of another catalogue")
        if given[0].min(initial=0) < 0 or given[0].max(initial=0) > n_items:
            raise ValueError("counters of another catalogue")
        first_seen, partners, top, minute, late = given[6:]
        a, b = Counters(given[0], given[1], given[2], n_items + 1), Counters(given[3], given[4], given[5])
        return cls(a, b, first_seen=first_seen, partners=partners, top=top, minute=minute, late_us=int(late[0]))
