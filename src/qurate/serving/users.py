"""What each customer did last, in memory, always equal to what the store would rebuild."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from qurate.decision import HistoryRows


class NewRow(NamedTuple):
    """One history row."""

    seq: int
    user_id: str
    item: int
    type: int
    time_us: int
    value: float


@dataclass(slots=True)
class Record:
    """A customer's window, in order of arrival. Every event of theirs with a sequence number up to `as_of` is in it, none after."""

    rows: HistoryRows
    as_of: int


class Users:
    """Windows of the customers last seen, loaded when first asked for.

    Loading on demand keeps start-up independent of the size of the store; the least recently used are forgotten.
    Events arrive from the store's writer thread, readers are elsewhere: one lock for all.

    Args:
        load: user id -> the record as the store has it now.
        window: rows kept of a customer.
        capacity: customers kept.
    """

    def __init__(self, load: Callable[[str], Record], window: int, capacity: int = 50_000) -> None:
        self._load, self._window, self._capacity = load, window, capacity
        self._records: dict[str, Record] = {}
        self._applied = 0
        self._lock = threading.Lock()

    def get(self, user_id: str) -> Record:
        """The customer's window now, and the sequence number up to which it is complete."""
        with self._lock:
            record = self._records.pop(user_id, None)
            if record is None:
                record = self._load(user_id)
                if len(self._records) >= self._capacity:
                    del self._records[next(iter(self._records))]
            self._records[user_id] = record
            return Record(record.rows, max(record.as_of, self._applied))

    def show(self, row: NewRow) -> None:
        """Adds what has just been decided, on its way to the disk: the next decision may come before it is there."""
        with self._lock:
            record = self._records.get(row.user_id)
            if record is not None:
                record.rows = extend(record.rows, [row], self._window)

    def forget(self, user_id: str) -> None:
        """Drops a window that holds what the store has refused; the next request loads it again."""
        with self._lock:
            self._records.pop(user_id, None)

    def apply(self, rows: Iterable[NewRow], last_seq: int) -> None:
        """Adds events that were committed, in the order of their sequence numbers; `last_seq` is the newest of the commit."""
        by_user: dict[str, list[NewRow]] = {}
        with self._lock:
            for row in rows:
                record = self._records.get(row.user_id)
                if record is not None and row.seq > record.as_of:
                    by_user.setdefault(row.user_id, []).append(row)
            for user_id, new in by_user.items():
                record = self._records[user_id]
                record.rows, record.as_of = extend(record.rows, new, self._window), new[-1].seq
            self._applied = max(self._applied, last_seq)


def extend(rows: HistoryRows, new: list[NewRow], window: int) -> HistoryRows:
    """The last `window` rows; what arrives late stays where it arrived, as training sees it."""
    keep = slice(-window, None)
    return HistoryRows(
        np.append(rows.items, [row.item for row in new])[keep],
        np.append(rows.types, [row.type for row in new])[keep],
        np.append(rows.times, [row.time_us for row in new])[keep],
        np.append(rows.values, np.array([row.value for row in new], np.float32))[keep],
    )
