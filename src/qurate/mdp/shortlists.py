"""The candidates of a decision where the catalogue turns over faster than a model is trained: a few hundred items per decision.

On a list are the items of the customer's window, what others chose after the item that this customer chose last, and the most popular
items of the moment by each half-life (mdp/clocks.py). An item is on lists as soon as it has one event; what is on no list ranks last.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qurate.mdp.clocks import COLUMNS, SECONDS, Clocks
from qurate.types import Actions, EventArrays, FloatArray, IntArray, State

TOP = 40
"""Most popular items by each half-life."""
PARTNERS = 100
"""Newest moves away from the last item whose second items are candidates."""
GRID_US = 60_000_000
"""The most popular items are found once a minute, counted from the first event: 640 bytes for each minute that has events."""


@dataclass(frozen=True, eq=False)
class Shortlists:
    """Lists of candidates and what is known of them, at any moment of a log.

    Attributes:
        clocks: of the log.
        move_place, move_target: of each move its item and time as one number (`Replayed.place`), ascending, and where it led.
        asked: [S] microseconds: when each decision of the log asks (`asked_at`).
        grid: [T] microseconds, ascending. top: int32 [T, H, n], the most popular items just before each of these times, 0 = none.
    """

    clocks: Clocks
    move_place: IntArray
    move_target: NDArray[np.int32]
    grid: IntArray
    top: NDArray[np.int32]
    asked: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the values of a candidate."""
        return COLUMNS

    @classmethod
    def of(cls, events: EventArrays, visit: NDArray[np.int32], n_items: int, late_us: int = 0) -> "Shortlists":
        """Of a log's rows [E] and the visit of each; counters are `late_us` microseconds late, and so are the lists."""
        clocks = Clocks.of(events.item, events.time, visit, n_items, late_us)
        moves = clocks.all_moves
        place = moves.source * (len(clocks.times) + 1) + moves.rank
        order = np.argsort(place, kind="stable")
        grid, top = _tops(clocks)
        return cls(clocks, place[order], moves.target[order].astype(np.int32), grid, top)

    def late(self, late_us: int) -> "Shortlists":
        """The same with counters that are `late_us` microseconds late."""
        return replace(self, clocks=replace(self.clocks, late_us=late_us))

    def candidates(self, history: NDArray[np.integer], clock: IntArray) -> IntArray:
        """Lists int64 [B, K] padded with 0, items ascending, of customers with the windows [B, L] at clocks [B]."""
        at = np.asarray(clock, np.int64) - self.clocks.late_us
        top = np.zeros((len(at), self.top.shape[1] * self.top.shape[2]), np.int64)
        cell = np.searchsorted(self.grid, at, "right") - 1
        begun = cell >= 0
        top[begun] = self.top[cell[begun]].reshape(-1, top.shape[1])
        return distinct(np.concatenate([history.astype(np.int64), self._partners(last_item(history), at), top], axis=1))

    def _partners(self, last: IntArray, clock: IntArray) -> IntArray:
        """Where the newest moves away from items [B] before clocks [B] led, [B, PARTNERS]."""
        ranks = len(self.clocks.times) + 1
        end = np.searchsorted(self.move_place, last * ranks + np.searchsorted(self.clocks.times, clock))
        place = end[:, None] - np.arange(1, PARTNERS + 1)
        start = np.searchsorted(self.move_place, last * ranks)
        inside = place >= start[:, None]
        if not len(self.move_target):
            return np.zeros(place.shape, np.int64)
        return np.where(inside, self.move_target[np.where(inside, place, 0)], 0).astype(np.int64)

    def values(self, candidates: IntArray, history: NDArray[np.integer], clock: IntArray) -> FloatArray:
        """What is known of candidates [B, K], float32 [B, K, G]; see `Clocks.values`."""
        return self.clocks.values(candidates, last_item(history), clock)

    def actions(self, state: State, clock: IntArray) -> Actions:
        """The lists of customers in states [B] at clocks [B] microseconds, all open."""
        candidates = self.candidates(state.history_items, clock)
        values = self.values(candidates, state.history_items, clock)
        return Actions(candidates, (candidates > 0).astype(np.int8), values, COLUMNS)


def asked_at(clock: IntArray, history_end: IntArray, user: IntArray, events: EventArrays) -> IntArray:
    """When decisions of a log ask for their lists, int64 [S] microseconds: right after the customer's last event, as a service does.

    Its clock is the time of that event, and what happened at the clock itself is not counted. Where the next event of the same customer
    has that very time it may be what was chosen: there the list stays as it was before both.

    Args:
        clock, history_end, user: of the decisions (`Transitions`).
    """
    following = np.minimum(history_end, len(events.time) - 1)
    at_once = (history_end < events.user_start[user + 1]) & (events.time[following] <= clock) if len(events.time) else np.zeros(0, np.bool_)
    out: IntArray = clock + ~at_once
    return out


def last_item(history: NDArray[np.integer]) -> IntArray:
    """The newest item of windows [B, L], int64 [B], 0 where no event names one."""
    place = np.where(history > 0, np.arange(history.shape[1]), 0).max(1, initial=0)
    out: IntArray = history[np.arange(len(history)), place].astype(np.int64)
    return out


def distinct(items: IntArray) -> IntArray:
    """Each row's different items, ascending, padded with 0 at the end: int64 [B, K]."""
    ordered = np.sort(items, axis=1)
    new = ordered > 0
    new[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
    size = new.sum(1)
    out = np.zeros((len(items), max(int(size.max(initial=0)), 1)), np.int64)
    out[np.arange(out.shape[1]) < size[:, None]] = ordered[new]
    return out


def _tops(clocks: Clocks) -> tuple[IntArray, NDArray[np.int32]]:
    """The most popular items at the times of a grid.

    With counts c at an item's last event at time t_e, log2 c + t_e / h orders items at any later moment, and changes with an item's
    own events only. So who is among the first n is one of those before, or had an event since.
    """
    times, items = clocks.times, clocks.items
    if not len(times):
        return np.zeros(0, np.int64), np.zeros((0, len(SECONDS), TOP), np.int32)
    minute = (times - times[0]) // GRID_US
    grid = times[0] + GRID_US * (1 + minute[np.diff(minute, prepend=-1) > 0])  # the end of each minute that has events
    order = np.argsort(items.time, kind="stable")
    key, time = items.place[order] // items.ranks, items.time[order]
    weight = np.log2(items.after[order]) + ((time - times[0]) * 1e-6)[:, None] / SECONDS
    end = np.searchsorted(time, grid)  # events strictly before each grid time
    newest = np.full((clocks.n_items + 1, len(SECONDS)), -np.inf)
    top = np.zeros((len(grid), len(SECONDS), TOP), np.int32)
    kept: Any = [np.zeros(0, np.int64)] * len(SECONDS)
    start = 0
    for cell, stop in enumerate(end):
        newest[key[start:stop]] = weight[start:stop]  # of equal keys the last one stays
        changed = np.unique(key[start:stop])
        start = stop
        for h in range(len(SECONDS)):
            pool = np.union1d(kept[h], changed)
            score = newest[pool, h]
            kept[h] = pool[np.argsort(-score, kind="stable")[:TOP]]
            top[cell, h, : len(kept[h])] = kept[h]
    return grid, top
