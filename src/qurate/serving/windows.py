"""What each customer did last, and which items they are not shown again, in memory and in raw ids.

Both are always equal to what the store would rebuild (beyond MAX_CLOSED items, up to which of them count).
"""

import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from qurate.choosing.seen import NOTHING_EXCLUDED, SeenRule

MAX_CLOSED = 2_000
"""Items of one customer that are not shown again: beyond so many, those of the last rows to arrive. Bounds memory, and the
list that a decision keeps of them."""


class UserWindow(NamedTuple):
    """A customer's last rows by arrival, as columns of equal length. Each model encodes the ids by its own vocabulary."""

    items: tuple[str | None, ...] = ()
    types: tuple[str, ...] = ()
    times: tuple[int, ...] = ()  # microseconds UTC
    values: tuple[float, ...] = ()

    def last(self, n: int) -> "UserWindow":
        """Its last n rows, n >= 1."""
        return UserWindow(self.items[-n:], self.types[-n:], self.times[-n:], self.values[-n:])


class NewRow(NamedTuple):
    """One history row of a customer, at its place in the order of arrival (see `place_of_event`, `place_of_decision`)."""

    user_id: str
    place: int
    item_id: str | None
    type: str
    time_us: int
    value: float


def place_of_event(seq: int) -> int:
    """Where an event stands among a customer's rows."""
    return 2 * seq


def place_of_decision(as_of: int) -> int:
    """Where a decision stands: right after all it knew, after other decisions that knew the same."""
    return 2 * as_of + 1


class Known(NamedTuple):
    """What a decision is made from."""

    window: UserWindow
    closed: dict[str, int]  # item id -> until when it is not shown again, microseconds, inclusive; not to be changed
    as_of: int  # the sequence number up to which both are complete

    def closed_at(self, clock_us: int) -> tuple[str, ...]:
        """The items that are not shown again at this time."""
        return tuple(item for item, until in self.closed.items() if clock_us <= until)


def close_items(closed: dict[str, int], rows: Iterable[tuple[str | None, str, int]], rule: SeenRule) -> dict[str, int]:
    """`Known.closed` after more rows (item id, type, microseconds), in the order of their arrival; the same dict if nothing changed."""
    out = closed
    for item, kind, time_us in rows:
        until = None if item is None else rule.closed_until(kind, time_us)
        if item is not None and until is not None:
            out = dict(closed) if out is closed else out  # readers may still hold the old one
            out[item] = max(out.pop(item, until), until)  # last in the dict: the last to have arrived
            if len(out) > MAX_CLOSED:
                del out[next(iter(out))]
    return out


def closed_in(past: UserWindow | None, rule: SeenRule) -> dict[str, int]:
    """`Known.closed` by all that the training data has of a customer."""
    return {} if past is None or not rule.within else close_items({}, zip(past.items, past.types, past.times), rule)


@dataclass(slots=True)
class CachedWindow:
    """A window, the place of each of its rows, and the sequence number up to which the customer's events are in it.

    `closed` may hold newer events as well: what is added to it twice counts once.
    """

    window: UserWindow
    places: tuple[int, ...]
    as_of: int = field(default=0)
    closed: dict[str, int] = field(default_factory=dict)

    def insert(self, row: NewRow, length: int) -> None:
        """Puts a row at its place and keeps the last `length`; a late event stays where it arrived, as training sees it."""
        at, new = bisect_right(self.places, row.place), (row.item_id, row.type, row.time_us, row.value)
        self.window = UserWindow(*(((*column[:at], value, *column[at:])[-length:]) for column, value in zip(self.window, new)))  # type: ignore[arg-type]
        self.places = (*self.places[:at], row.place, *self.places[at:])[-length:]


class WindowCache:
    """Windows of the customers last seen, loaded when first asked for.

    Loading on demand keeps start-up independent of the size of the store; the least recently used are forgotten.
    Commits arrive from the store's thread, readers are elsewhere: one lock for all.

    Args:
        load: user id -> the window as the store has it now.
        length: rows kept of a customer.
        capacity: customers kept.
        types: event types whose rows stand in windows; None: all.
        rule: which items are not shown again.
    """

    def __init__(
        self, load: Callable[[str], CachedWindow], length: int, capacity: int = 50_000, *, types: Sequence[str] | None = None,
        rule: SeenRule = NOTHING_EXCLUDED,
    ) -> None:  # fmt: skip
        self._load, self._length, self._capacity, self._types, self._rule = load, length, capacity, types, rule
        self._windows: dict[str, CachedWindow] = {}
        self._applied = 0
        self._lock = threading.Lock()

    def get(self, user_id: str) -> Known:
        """What is known of the customer now.

        Raises:
            MachineError: the store cannot be read.
        """
        with self._lock:
            cached = self._windows.pop(user_id, None)
            if cached is None:
                cached = self._load(user_id)
                if len(self._windows) >= self._capacity:
                    del self._windows[next(iter(self._windows))]
            self._windows[user_id] = cached
            return Known(cached.window, cached.closed, max(cached.as_of, self._applied))

    def show(self, row: NewRow) -> None:
        """Adds what has just been decided, on its way to the disk: the next decision may come before it is there."""
        with self._lock:
            cached = self._windows.get(row.user_id)
            if cached is not None:
                self._add(cached, row)

    def _add(self, cached: CachedWindow, row: NewRow) -> None:
        if row.type == "shown" or self._types is None or row.type in self._types:
            cached.insert(row, self._length)
        if self._rule.within:
            cached.closed = close_items(cached.closed, [(row.item_id, row.type, row.time_us)], self._rule)

    def forget(self, user_id: str) -> None:
        """Drops a window that holds what the store has refused; the next request loads it again."""
        with self._lock:
            self._windows.pop(user_id, None)

    def apply(self, rows: Iterable[tuple[int, NewRow]], as_of: int) -> None:
        """Adds events that were committed, (sequence number, row) in their order; `as_of` is the newest of the commit."""
        with self._lock:
            for seq, row in rows:
                cached = self._windows.get(row.user_id)
                if cached is not None and seq > cached.as_of:
                    self._add(cached, row)
                    cached.as_of = seq
            self._applied = max(self._applied, as_of)
