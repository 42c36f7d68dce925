"""What each customer did last, in memory and in raw ids, always equal to what the store would rebuild."""

import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple


class UserWindow(NamedTuple):
    """A customer's last rows by arrival, as columns of equal length. Each model encodes the ids by its own vocabulary."""

    items: tuple[str | None, ...] = ()
    types: tuple[str, ...] = ()
    times: tuple[int, ...] = ()  # microseconds UTC
    values: tuple[float, ...] = ()


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


@dataclass(slots=True)
class CachedWindow:
    """A window, the place of each of its rows, and the sequence number up to which the customer's events are in it."""

    window: UserWindow
    places: tuple[int, ...]
    as_of: int = field(default=0)

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
    """

    def __init__(self, load: Callable[[str], CachedWindow], length: int, capacity: int = 50_000) -> None:
        self._load, self._length, self._capacity = load, length, capacity
        self._windows: dict[str, CachedWindow] = {}
        self._applied = 0
        self._lock = threading.Lock()

    def get(self, user_id: str) -> tuple[UserWindow, int]:
        """The customer's window now, and the sequence number up to which it is complete.

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
            return cached.window, max(cached.as_of, self._applied)

    def show(self, row: NewRow) -> None:
        """Adds what has just been decided, on its way to the disk: the next decision may come before it is there."""
        with self._lock:
            cached = self._windows.get(row.user_id)
            if cached is not None:
                cached.insert(row, self._length)

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
                    cached.insert(row, self._length)
                    cached.as_of = seq
            self._applied = max(self._applied, as_of)
