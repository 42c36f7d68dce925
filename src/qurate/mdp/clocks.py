"""Clocks of the items: what the log says of an item up to a moment, replayed event by event.

The decayed count of an item at time t for a half-life h is the sum of 2^-((t - t_e) / h) over its events e before t. It obeys

    c_k = c_{k-1} 2^-((t_k - t_{k-1}) / h) + 1

so that the counts after each event are all that is kept, and a question at any (item, time) is one search and one decay. The same
holds for moves: pairs of an item and the one that the same visit chose next ("co-clicks"). Only what happened strictly before the
clock counts, so nothing later than a decision enters it, and neither does anything of the same microsecond.

Counts with exponential decay are those of Cormode et al. 2009 ("Forward decay", doi:10.1109/ICDE.2009.65); pairs of neighbouring
choices are item-to-item co-visitation (Linden et al. 2003, doi:10.1109/MIC.2003.1167344).

`Counters` is the same recurrence one event at a time, for a service; both call `step`, and agree bit for bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qurate.types import FloatArray, IntArray

HALF_LIVES = {"15m": 900.0, "1h": 3_600.0, "4h": 14_400.0, "24h": 86_400.0}
"""Seconds; docs/logs_of_choices.md says what each is worth alone."""
SECONDS = np.array(list(HALF_LIVES.values()))
COUNTS = tuple(f"count_{name}" for name in HALF_LIVES)
MOVES = tuple(f"co_clicks_{name}" for name in HALF_LIVES)
COLUMNS = (*COUNTS, *MOVES, "age_hours")
"""Names of the G values of a candidate, in their order."""

Counts = NDArray[np.float64]


def step(before: Counts, seconds: NDArray[np.float64]) -> Counts:
    """Counts [M, H] after one more event, from those after the last one, `seconds` [M] earlier (negative: it arrives late)."""
    return decay(before, np.maximum(seconds, 0)) + decay(np.ones_like(before), np.maximum(-seconds, 0))


def decay(counts: Counts, seconds: NDArray[np.float64]) -> Counts:
    """Counts [M, H] so many seconds [M] later; one half-life halves them."""
    out: Counts = counts * np.exp2(-(seconds[:, None] / SECONDS))
    return out


def seconds_between(later: IntArray, earlier: IntArray) -> NDArray[np.float64]:
    """Float64 seconds, the same bits wherever they are computed."""
    out: NDArray[np.float64] = np.subtract(later, earlier).astype(np.float64) * 1e-6
    return out


@dataclass(frozen=True, eq=False)
class Replayed:
    """Counts of K keys after each of their events; all arrays in order of key, then time.

    Attributes:
        place: [E] key * (R + 1) + rank of the event's time among the R different times of the log.
        ranks: R + 1.
        time: [E] microseconds.
        after: [E, H] counts right after the event.
    """

    place: IntArray
    ranks: int
    time: IntArray
    after: Counts

    @classmethod
    def of(cls, key: IntArray, time: IntArray, rank: IntArray, ranks: int) -> "Replayed":
        """From events [E] in any order; `rank` is that of each event's time among the different times of the log, which are R."""
        place = key * ranks + rank
        order = np.argsort(place, kind="stable")
        place, key, time = place[order], key[order], time[order]
        return cls(place, ranks, time, _counts_after(key, time))

    def newest(self, key: IntArray, rank: IntArray) -> IntArray:
        """The position of the last event of each key [M] whose time has a rank below [M]; -1 = none."""
        at = np.searchsorted(self.place, key * self.ranks + rank) - 1
        before = at >= 0
        before[before] = self.place[at[before]] // self.ranks == key[before]
        out: IntArray = np.where(before, at, -1)
        return out

    def last(self) -> tuple[IntArray, Counts, IntArray]:
        """The keys that had an event, ascending, with the counts after their last one and its time."""
        key = self.place // self.ranks
        end = np.flatnonzero(np.diff(key, append=-1))
        return key[end], self.after[end], self.time[end]

    def at(self, key: IntArray, rank: IntArray, clock: IntArray) -> Counts:
        """Counts [M, H] of keys [M] at clocks [M], whose ranks among the times are [M]."""
        out = np.zeros((len(key), len(SECONDS)))
        newest = self.newest(key, rank)
        found = np.flatnonzero(newest >= 0)
        row = newest[found]
        out[found] = decay(self.after[row], seconds_between(clock[found], self.time[row]))
        return out


def _counts_after(key: IntArray, time: IntArray) -> Counts:
    """The recurrence over rows in order of key and time: the k-th events of all keys at once, so one pass per k, not per event."""
    first = np.flatnonzero(np.diff(key, prepend=-1))
    size = np.diff(np.append(first, len(key)))
    order = np.argsort(-size, kind="stable")
    first, size = first[order], size[order]
    after = np.ones((len(key), len(SECONDS)))
    with_more = np.searchsorted(-size, -np.arange(int(size.max(initial=0))), "left")  # keys of more than k events
    for k in range(1, len(with_more)):
        row = first[: with_more[k]] + k
        after[row] = step(after[row - 1], seconds_between(time[row], time[row - 1]))
    return after


class Moves(NamedTuple):
    """Pairs of an item and the next one of the same visit, at the time of the second."""

    source: IntArray  # [P]
    target: IntArray  # [P]
    time: IntArray  # [P] microseconds
    rank: IntArray  # [P] of the time among the different times of the log


def ranked(time: IntArray) -> tuple[IntArray, IntArray]:
    """The different times, ascending, and the place of each row's time among them."""
    order = np.argsort(time, kind="stable")
    new = np.diff(time[order], prepend=time[order[:1]] - 1) > 0
    rank = np.empty(len(time), np.int64)
    rank[order] = np.cumsum(new) - 1
    return time[order][new], rank


def moves_of(item: NDArray[np.integer], time: IntArray, rank: IntArray, visit: NDArray[np.integer]) -> Moves:
    """The moves of history rows in order of customer and time; a repeat of the same item is none."""
    order = np.argsort(visit, kind="stable")
    order = order[item[order] > 0]
    before, after = order[:-1], order[1:]
    kept = (visit[before] == visit[after]) & (item[before] != item[after])
    before, after = before[kept], after[kept]
    return Moves(item[before].astype(np.int64), item[after].astype(np.int64), time[after], rank[after])


def moves_key(source: IntArray | int, target: IntArray | int, size: int) -> IntArray:
    """One number for a pair of items; `size` is N + 1."""
    return np.asarray(source, np.int64) * size + np.asarray(target, np.int64)


@dataclass(frozen=True, eq=False)
class Clocks:
    """The clocks of a log at any moment.

    Attributes:
        n_items: N.
        times: [R] different times of the log, ascending, microseconds.
        items: key = item. moves: key = position in `pairs`.
        pairs: [P] source * (N + 1) + target of the moves that were ever seen, ascending.
        first_seen: [N + 1] microseconds; the largest integer where an item was never seen.
        all_moves: of the log, in any order.
        late_us: microseconds by which the counters are late; what is asked at t is answered as of t - late_us.
    """

    n_items: int
    times: IntArray
    items: Replayed
    moves: Replayed
    pairs: IntArray
    first_seen: IntArray
    all_moves: Moves
    late_us: int = 0

    @classmethod
    def of(cls, item: NDArray[np.integer], time: IntArray, visit: NDArray[np.integer], n_items: int, late_us: int = 0) -> "Clocks":
        """From history rows in order of customer and time; rows without an item (0) are left out."""
        times, rank = ranked(time)
        named = np.flatnonzero(item > 0)
        first_seen = np.full(n_items + 1, np.iinfo(np.int64).max)
        np.minimum.at(first_seen, item[named], time[named])
        moves, ranks = moves_of(item, time, rank, visit), len(times) + 1
        pairs, which = ranked(moves_key(moves.source, moves.target, n_items + 1))
        items = Replayed.of(item[named].astype(np.int64), time[named], rank[named], ranks)
        return cls(n_items, times, items, Replayed.of(which, moves.time, moves.rank, ranks), pairs, first_seen, moves, late_us)

    def values(self, candidates: NDArray[np.integer], last: NDArray[np.integer], clock: IntArray) -> FloatArray:
        """What is known of candidates [B, K] (0 = padding) at clocks [B]: float32 [B, K, G], in the order of `COLUMNS`.

        Args:
            last: [B] the item that each customer chose last, 0 = none.

        Before the log's start counts are 0 and the age is NaN (not known).
        """
        clock = np.asarray(clock, np.int64) - self.late_us
        rank = np.searchsorted(self.times, clock)
        row, column = np.nonzero(candidates)
        key, source = candidates[row, column].astype(np.int64), np.asarray(last, np.int64)[row]
        at, ranks = clock[row], rank[row]
        counts = self.items.at(key, ranks, at)
        moved = np.zeros_like(counts)
        code = moves_key(source, key, self.n_items + 1)
        pair = np.searchsorted(self.pairs, code)
        known = np.flatnonzero((pair < len(self.pairs)) & (source > 0))
        known = known[self.pairs[pair[known]] == code[known]]
        moved[known] = self.moves.at(pair[known], ranks[known], at[known])
        seen = self.first_seen[key] < at
        age = np.where(seen, seconds_between(at, np.where(seen, self.first_seen[key], at)) / 3_600, np.nan)
        out = np.full((*candidates.shape, len(COLUMNS)), np.nan, np.float32)
        out[row, column] = np.concatenate([counts, moved, age[:, None]], axis=1)
        return out


class Counters:
    """Counts of keys, one event at a time: the online form of `Replayed`.

    Args:
        n_keys: keys are below it, and the rows of many are found in an array; 0: keys are any numbers.

    Attributes:
        row: which row of the arrays is whose.
    """

    def __init__(
        self, keys: IntArray | Sequence[int] = (), counts: Counts | None = None, time: IntArray | None = None, n_keys: int = 0
    ) -> None:
        self.row = dict(zip(np.asarray(keys, np.int64).tolist(), range(len(keys))))
        self._row_of = np.full(n_keys, -1, np.int64)
        if n_keys:
            self._row_of[np.asarray(keys, np.int64)] = np.arange(len(keys))
        self.counts = np.zeros((0, len(SECONDS))) if counts is None else counts
        self.time = np.zeros(0, np.int64) if time is None else time

    def add(self, key: int, time: int) -> None:
        """One event of `key` at `time`, microseconds. A late one counts as much as if it had come in order."""
        row = self.row.get(key)
        if row is None:
            row = self.row[key] = len(self.row)
            if len(self._row_of):
                self._row_of[key] = row
            if row == len(self.counts):
                more = max(row, 16)
                self.counts = np.concatenate([self.counts, np.zeros((more, len(SECONDS)))])
                self.time = np.concatenate([self.time, np.zeros(more, np.int64)])
            self.counts[row], self.time[row] = 1.0, time
            return
        own, at = slice(row, row + 1), np.array([time])
        self.counts[own] = step(self.counts[own], seconds_between(at, self.time[own]))
        self.time[row] = max(int(self.time[row]), time)

    def arrays(self) -> tuple[IntArray, Counts, IntArray]:
        """Keys, counts and times, as `__init__` takes them."""
        n = len(self.row)
        return np.fromiter(self.row, np.int64, n), self.counts[:n], self.time[:n]

    def at(self, key: IntArray, clock: IntArray) -> Counts:
        """Counts [M, H] of keys [M] at clocks [M]; a clock before a key's last event reads as that moment."""
        of_key = self._row_of
        row = of_key[key] if len(of_key) else np.fromiter(map(self.row.get, key.tolist(), repeat(-1)), np.int64, len(key))
        out, found = np.zeros((len(key), len(SECONDS))), row >= 0
        out[found] = decay(self.counts[row[found]], np.maximum(seconds_between(clock[found], self.time[row[found]]), 0))
        return out
