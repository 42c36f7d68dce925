"""History rows and decisions out of the three kinds of log.

*organic*: every event that names an item, except a customer's first event, is a decision of the customer: the state is
the rows before it and the clock the time of the last of them, never the time of the choice itself.
*exposure*, *logged*: the decisions are in the log; the clock is the time of the request.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qurate.mdp.candidate_features import PLACE
from qurate.mdp.encode import DecisionColumns, Encoded, EventColumns
from qurate.mdp.sessions import number_visits, order_rows
from qurate.types import EventArrays, FloatArray, IntArray

SHOWN = "shown"
"""Type of the history row that every decision leaves, where decisions show exactly one item."""


@dataclass(frozen=True, slots=True)
class DecisionTable:
    """History rows [E], D decisions sorted by user and time, and the T items they showed."""

    arrays: EventArrays
    row_visit: NDArray[np.int32]  # [E] visit of each history row
    events: EventColumns  # what can be credited, sorted like the history; `decision` counts in this order
    user: NDArray[np.int32]  # [D]
    history_end: IntArray  # [D]
    clock: IntArray  # [D]
    when: IntArray  # [D] the clock; organic: the time of the choice, which decides the split and the pauses
    visit: NDArray[np.int32]  # [D]
    split: NDArray[np.uint8]  # [D] the log's own split
    action: NDArray[np.int32]  # [T]
    action_start: IntArray  # [D + 1]
    propensity: FloatArray  # [T]
    candidates: NDArray[np.int32]
    candidates_start: IntArray  # [D + 1]
    columns: tuple[str, ...]  # [G] what is known of each candidate at its decision, `PLACE` among them where a list was shown
    candidate_values: FloatArray  # [sum K, G], NaN = not known
    excluded: NDArray[np.int32]  # of what was available, what could not be shown
    excluded_start: IntArray  # [D + 1]
    types: list[str]  # names of types 1..M
    history: str  # events | events+shown
    foreign: int = 0  # events that named another customer's decision
    organic: bool = False  # every decision is an event of the customer, which is all that it can be credited with

    def renumber_items(self, number: NDArray[np.int32]) -> "DecisionTable":
        """The same with item i called `number[i]` (number[0] = 0)."""
        arrays = replace(self.arrays, item=number[self.arrays.item])
        events = replace(self.events, item=arrays.item if self.history == "events" else number[self.events.item])
        return replace(
            self, arrays=arrays, events=events, action=number[self.action], candidates=number[self.candidates],
            excluded=number[self.excluded],
        )  # fmt: skip


def extract_decisions(encoded: Encoded, kind: str, gap_us: int) -> DecisionTable:
    """Decisions and history of a log.

    Args:
        encoded: the log as numbers.
        kind: organic | exposure | logged.
        gap_us: microseconds of silence that end a visit where the log has no session ids.
    """
    if encoded.decisions is None:
        return _organic(encoded, gap_us)
    return _shown(encoded, encoded.decisions, kind, gap_us)


def _organic(encoded: Encoded, gap_us: int) -> DecisionTable:
    events = encoded.events.take(order_rows(encoded.events.user, encoded.events.time, encoded.events.order))
    start = _user_start(events.user, len(encoded.users))
    visit = number_visits(events.user, events.time, events.session, gap_us)
    chosen = events.item > 0
    chosen[start[:-1][start[:-1] < start[1:]]] = False  # nothing is known before the first event
    rows = np.flatnonzero(chosen)
    own = np.full(len(events.user), -1, np.int32)
    own[rows] = np.arange(len(rows), dtype=np.int32)
    return DecisionTable(
        arrays=EventArrays(events.item, events.type, events.time, events.value, start),
        row_visit=visit,
        events=replace(events, decision=own),
        user=events.user[rows],
        history_end=rows,
        clock=events.time[rows - 1],
        when=events.time[rows],
        visit=visit[rows],
        split=events.split[rows],
        action=events.item[rows],
        action_start=np.arange(len(rows) + 1),
        propensity=np.full(len(rows), np.nan, np.float32),
        candidates=np.empty(0, np.int32),
        candidates_start=np.broadcast_to(np.int64(0), len(rows) + 1),  # no lists: no memory
        columns=(),
        candidate_values=np.empty((0, 0), np.float32),
        excluded=np.empty(0, np.int32),
        excluded_start=np.broadcast_to(np.int64(0), len(rows) + 1),
        types=encoded.types,
        history="events",
        organic=True,
    )


def _shown(encoded: Encoded, decisions: DecisionColumns, kind: str, gap_us: int) -> DecisionTable:
    events, foreign = _own_decisions(encoded.events, decisions)
    n = len(events.user)
    user = np.concatenate([events.user, decisions.user])
    time = np.concatenate([events.time, decisions.time])
    by_arrival = decisions.size > 0 and bool(np.all(decisions.as_of >= 0))
    mark = 2 * decisions.as_of + 1 if by_arrival else _place(events, decisions)
    order = np.concatenate([2 * events.order, mark])
    # A service knows events in the order in which they arrived, late ones included; any other log by their time.
    sorted_rows = np.lexsort((order, user)) if by_arrival else order_rows(user, time, order)
    is_decision = sorted_rows >= n
    chosen = sorted_rows[is_decision] - n  # decisions in order of user and time
    session = np.concatenate([events.session, decisions.session])[sorted_rows]
    visit = number_visits(user[sorted_rows], time[sorted_rows], session, gap_us)
    place = np.flatnonzero(is_decision)
    decisions = decisions.take(chosen)
    number = np.full(len(chosen) + 1, -1, np.int32)
    number[chosen] = np.arange(len(chosen), dtype=np.int32)
    events = events.take(sorted_rows[~is_decision])
    events = replace(events, decision=number[events.decision])  # -1 stays -1: it picks the spare last entry
    # A decision that showed one item leaves a row in the history, a list does not: the service does the same.
    alone = np.diff(decisions.shown_start) == 1
    kept = ~is_decision
    kept[place[alone]] = True
    arrays, types = _with_shown_rows(encoded, events, decisions, user[sorted_rows][kept], is_decision[kept], alone)
    history_end: IntArray = (np.cumsum(kept) - kept)[place]
    pool, pool_start, values = _candidates(decisions, kind)
    columns, values = _with_place(decisions, pool, pool_start, values)
    return DecisionTable(
        arrays=arrays,
        row_visit=visit[kept],
        events=events,
        user=decisions.user,
        history_end=history_end,
        clock=decisions.time,
        when=decisions.time,
        visit=visit[place],
        split=decisions.split,
        action=decisions.shown,
        action_start=decisions.shown_start,
        propensity=decisions.propensity,
        candidates=pool,
        candidates_start=pool_start,
        columns=columns,
        candidate_values=values,
        excluded=decisions.excluded,
        excluded_start=decisions.excluded_start,
        types=types,
        history="events+shown" if alone.any() else "events",
        foreign=foreign,
    )


def _own_decisions(events: EventColumns, decisions: DecisionColumns) -> tuple[EventColumns, int]:
    """The events without the names of other customers' decisions, and how many named one.

    A decision is one answer to one customer: whoever else names it is credited as if naming none.
    """
    foreign = events.decision >= 0
    foreign[foreign] = decisions.user[events.decision[foreign]] != events.user[foreign]
    return replace(events, decision=np.where(foreign, np.int32(-1), events.decision)), int(np.count_nonzero(foreign))


def _candidates(decisions: DecisionColumns, kind: str) -> tuple[NDArray[np.int32], IntArray, FloatArray]:
    """Explicit candidates; of a list that was shown without saying what else there was, only the list is sure.

    A single item is no list: beside it stands all that was available.
    """
    pool, start, values = decisions.candidates, decisions.candidates_start, decisions.candidate_values
    shown_sizes = np.diff(decisions.shown_start)
    shown_sizes = np.where(shown_sizes > 1, shown_sizes, 0)
    if kind == "exposure" and shown_sizes.any():
        sizes = np.diff(start)
        both = np.concatenate([pool, decisions.shown])
        first = np.where(sizes > 0, start[:-1], len(pool) + decisions.shown_start[:-1])
        sizes = np.where(sizes > 0, sizes, shown_sizes)
        start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        picked = np.arange(start[-1]) + np.repeat(first - start[:-1], sizes)
        pool, values = both[picked], np.concatenate([values, decisions.shown_values])[picked]
    return pool, start, values


def _with_place(
    decisions: DecisionColumns, pool: NDArray[np.int32], start: IntArray, values: FloatArray
) -> tuple[tuple[str, ...], FloatArray]:
    """The names of what is known of each candidate, and the values, with the place where the candidates are the list as shown."""
    sizes, shown = np.diff(start), np.diff(decisions.shown_start)
    as_shown = (sizes == shown) & (sizes > 1)
    at = np.repeat(as_shown, shown)
    listed = np.repeat(as_shown, sizes)
    if not as_shown.any() or PLACE in decisions.columns:
        return tuple(decisions.columns), values
    different = np.flatnonzero(pool[listed] != decisions.shown[at])
    place = np.where(listed, np.arange(len(pool)) - np.repeat(start[:-1], sizes), np.float32("nan")).astype(np.float32)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    another_order = np.zeros(len(sizes), np.bool_)
    another_order[owner[listed][different]] = True
    place[another_order[owner]] = np.nan
    if not np.isfinite(place).any():
        return tuple(decisions.columns), values
    return (PLACE, *decisions.columns), np.concatenate([place[:, None], values], axis=1)


def _with_shown_rows(
    encoded: Encoded,
    events: EventColumns,
    decisions: DecisionColumns,
    user: NDArray[np.int32],
    is_decision: NDArray[np.bool_],
    alone: NDArray[np.bool_],
) -> tuple[EventArrays, list[str]]:
    """The history: events, and a row of type `shown` per decision of one item, at its time, before the events that answer it.

    Args:
        user: [E] whose each row of the history is. is_decision: [E] which of the rows are decisions.
        alone: [D] which decisions showed one item.
    """
    types = encoded.types if SHOWN in encoded.types or not alone.any() else [*encoded.types, SHOWN]
    total = len(is_decision)
    item, kind = np.empty(total, np.int32), np.empty(total, np.uint8)
    time, value = np.empty(total, np.int64), np.zeros(total, np.float32)
    item[is_decision], time[is_decision] = decisions.shown[decisions.shown_start[:-1][alone]], decisions.time[alone]
    if alone.any():
        kind[is_decision] = types.index(SHOWN) + 1
    rest = ~is_decision
    item[rest], kind[rest], time[rest], value[rest] = events.item, events.type, events.time, events.value
    return EventArrays(item, kind, time, value, _user_start(user, len(encoded.users))), types


def _place(events: EventColumns, decisions: DecisionColumns) -> IntArray:
    """Where decisions stand among events of the same microsecond (events stand at twice their row).

    In a flat log a decision stands just before its own source row. Two tables have no common order: there a decision
    comes before all events of its microsecond. Whether an answer came never decides, else the state would know it.
    """
    first = np.full(decisions.size, -1, np.int64)
    if not decisions.size or not len(events.order) or np.any(decisions.order < 0):
        return first
    own = np.flatnonzero(events.decision >= 0)
    same_rows = np.isin(decisions.order, events.order).all()
    follows = np.all(events.order[own] >= decisions.order[events.decision[own]])
    return 2 * decisions.order - 1 if same_rows and follows and len(own) else first


def _user_start(user: NDArray[np.int32], users: int) -> IntArray:
    return np.concatenate([[0], np.cumsum(np.bincount(user, minlength=users))]).astype(np.int64)


def repeat_states(action_start: IntArray) -> NDArray[np.int32]:
    """[T] the decision of each shown item."""
    return np.repeat(np.arange(len(action_start) - 1, dtype=np.int32), np.diff(action_start))
