"""`check_store`: what the service asks of a store."""

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from qurate.serving.store import DecisionRow, EventRow, StoredRow, Write
from qurate.testing.rules import require


class EventStore(Protocol):
    """What the service asks of a store (`serving/store.py`)."""

    last_seq: int

    def submit(self, write: Write) -> None: ...
    def close(self) -> None: ...
    def history(self, user_id: str, window: int, types: Sequence[str], shown: bool) -> tuple[list[StoredRow], int | None, int]: ...


OpenStore = Callable[[Callable[[list[Write], int], None]], EventStore]
"""Opens the store on the same data each time it is called, with what is to be told after each commit."""


def check_store(open_store: OpenStore) -> None:
    """A store of the service: nothing acknowledged is lost, nothing counts twice, the order is that of arrival.

    Rules: acknowledged, event ids count once, sequence, arrival order, window, types, shown rows, answers follow questions, other
    customers, durable.

    Args:
        open_store: opens the store, empty at first, on the same data whenever it is called.
    """
    store = _Opened(open_store)
    try:
        store.write(_event("a", 30), _event("b", 10), _event("a", 99, item="other"))
        require(store.seqs == sorted(set(store.seqs)) and len(store.seqs) == 2, "event ids count once", f"{store.seqs} for a, b, a")
        store.write(_event("b", 10), _event("c", 40, kind="purchase"), _event("x", 5, user="v"))
        require(len(store.seqs) == 4, "event ids count once", "b came again in a later batch")
        as_of = store.store.last_seq
        store.write(decision=DecisionRow("d", "u", None, 50, as_of, '["i2"]', "[1.0]", None, "p", "m", None, None, None))
        store.write(_event("e", 20, decision="d"), _event("f", 60, kind="unheard of", item=None))
        require(store.seqs == sorted(set(store.seqs)), "sequence", f"numbers do not rise: {store.seqs}")
        expected = [(30, "click", "i1"), (10, "click", "i1"), (40, "purchase", "i1"), (50, "shown", "i2"), (51, "click", "i1")]
        _check_histories(store.store, expected)
        last = store.store.last_seq
    finally:
        store.store.close()
    store = _Opened(open_store)
    try:
        require(store.store.last_seq == last, "durable", f"the newest number was {last}, after reopening {store.store.last_seq}")
        try:
            _check_histories(store.store, expected)
        except AssertionError as error:
            raise AssertionError(f"durable: after reopening, {error}") from None
        store.write(_event("a", 1), _event("g", 70))
        require(len(store.seqs) == 1, "event ids count once", "a came again after reopening")
        require(store.seqs[0] > last, "sequence", f"{store.seqs[0]} after reopening, {last} before")
    finally:
        store.store.close()


def _check_histories(store: EventStore, expected: list[tuple[int, str, str]]) -> None:
    types = ["click", "purchase"]

    def rows(user: str, window: int, types: list[str], shown: bool) -> list[tuple[int, str, str | None]]:
        return [(row.timestamp_us, row.type, row.item_id) for row in store.history(user, window, types, shown)[0]]

    got = rows("u", 10, types, True)
    require(sorted(got, key=str) != sorted(expected, key=str) or got == expected, "arrival order", f"{got}")
    require([row for row in got if row[1] == "shown"] == [(50, "shown", "i2")], "shown rows", f"{got}")
    require((51, "click", "i1") in got, "answers follow questions", f"an event at 20 names a decision at 50: {got}")
    require(all(row[1] != "unheard of" for row in got), "types", f"{got}")
    require(got == expected, "acknowledged", f"{got} where {expected} was written")
    require(rows("u", 2, types, True) == expected[-2:], "window", "the newest rows are due")
    require(rows("u", 10, ["purchase"], False) == [expected[2]], "types", "only purchases were asked for")
    require(rows("v", 10, types, True) == [(5, "click", "i1")] and rows("nobody", 10, types, True) == [], "other customers")


class _Opened:
    """A store whose commits are waited for; `seqs`: numbers given to new rows, in order."""

    def __init__(self, open_store: OpenStore) -> None:
        self.seqs: list[int] = []
        self.store = open_store(self._finished)

    def _finished(self, writes: list[Write], last_seq: int) -> None:
        for write in writes:
            write.waiter.set()

    def write(self, *events: EventRow, decision: DecisionRow | None = None) -> None:
        write = Write(events, decision, waiter=threading.Event())
        self.store.submit(write)
        require(write.waiter.wait(10), "acknowledged", "no word within 10 s")
        require(write.error is None, "acknowledged", str(write.error))
        self.seqs += [write.decision_seq] if decision is not None else []
        self.seqs += [seq for seq, _ in write.stored]


def _event(
    event_id: str, time_us: int, user: str = "u", kind: str = "click", item: str | None = "i1", decision: str | None = None
) -> EventRow:
    return EventRow(event_id, user, item, kind, time_us, 1_000, None, None, decision, None)
