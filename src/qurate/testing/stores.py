"""`check_store`: what the service asks of a store (`serving.stores.base.EventStore`)."""

import threading

from qurate.errors import MachineError
from qurate.serving.stores.base import Commit, DecisionRow, EventRow, EventStore, OpenStore, Write
from qurate.testing.rules import require

__all__ = ["OpenStore", "check_store"]


def check_store(open_store: OpenStore) -> None:
    """A store of the service: nothing acknowledged is lost, nothing counts twice, the order is that of arrival.

    Rules: protocol, acknowledged, event ids count once, sequence, as_of, arrival order, window, first time, types, shown rows,
    answers follow questions, other customers, items, a bad row fails alone, fault, close, durable.

    Args:
        open_store: opens the store, empty at first, on the same data whenever it is called.
    """
    opened = _Opened(open_store)
    store = opened.store
    try:
        _check_protocol(store)
        opened.write(_event("a", 30), _event("b", 10), _event("a", 99, item="other"))
        require(opened.seqs == sorted(set(opened.seqs)) and len(opened.seqs) == 2, "event ids count once", f"{opened.seqs} for a, b, a")
        opened.write(_event("b", 10), _event("c", 40, kind="purchase"), _event("x", 5, user="v"))
        require(len(opened.seqs) == 4, "event ids count once", "b came again in a later batch")
        opened.write(decision=_decision("d", 50, store.as_of))
        opened.write(_event("e", 20, decision="d"), _event("f", 60, kind="unheard of", item=None))
        require(opened.seqs == sorted(set(opened.seqs)), "sequence", f"numbers do not rise: {opened.seqs}")
        _check_as_of(opened)
        expected = [(30, "click", "i1"), (10, "click", "i1"), (40, "purchase", "i1"), (50, "shown", "i2"), (51, "click", "i1")]
        _check_histories(store, expected)
        _check_bad_row(opened)
        last = store.as_of
    finally:
        store.close()
    store.close()  # rule "close": a second call does nothing
    opened = _Opened(open_store)
    try:
        require(opened.store.as_of == last, "durable", f"the newest number was {last}, after reopening {opened.store.as_of}")
        try:
            _check_histories(opened.store, expected)
        except AssertionError as error:
            raise AssertionError(f"durable: after reopening, {error}") from None
        opened.write(_event("a", 1), _event("g", 70))
        require(len(opened.seqs) == 1, "event ids count once", "a came again after reopening")
        require(opened.seqs[0] > last, "sequence", f"{opened.seqs[0]} after reopening, {last} before")
    finally:
        opened.store.close()


def _check_protocol(store: EventStore) -> None:
    for name in ("submit", "history", "close"):
        require(callable(getattr(store, name, None)), "protocol", f"no method {name}")
    as_of = getattr(store, "as_of", None)
    require(isinstance(as_of, int) and as_of == 0, "as_of", f"an empty store has {as_of!r}, not 0")
    fault = getattr(store, "fault", "none")
    require(fault is None or isinstance(fault, MachineError), "protocol", f"fault is {fault!r}, neither None nor a MachineError")


def _check_as_of(opened: "_Opened") -> None:
    """The newest durable number, the same in the property, in what was called back, and in a snapshot."""
    numbers = {
        "the property": opened.store.as_of,
        "the callback": opened.called_back,
        "a history": opened.store.history("u", 1, None, True).as_of,
    }
    require(set(numbers.values()) == {opened.seqs[-1]}, "as_of", f"{opened.seqs[-1]} was the last number given, but {numbers}")


def _check_bad_row(opened: "_Opened") -> None:
    """A row that no store can hold fails its own request, is not the disk's fault, and others are stored."""
    bad = opened.attempt(_event("bad", 2**70))
    require(bad.error is not None and not bad.stored, "a bad row fails alone", "a time of 2**70 microseconds was acknowledged")
    require(opened.store.fault is None, "fault", f"a bad row is no fault of the store: {opened.store.fault}")
    opened.write(_event("after", 80, user="w"))
    require(opened.store.fault is None, "fault", f"{opened.store.fault} while writing works")


def _check_histories(store: EventStore, expected: list[tuple[int, str, str]]) -> None:
    def rows(user: str, window: int, types: list[str] | None, shown: bool) -> list[tuple[int, str, str | None]]:
        return [(row.timestamp_us, row.type, row.item_id) for row in store.history(user, window, types, shown).rows]

    types = ["click", "purchase"]
    got = rows("u", 10, types, True)
    require(sorted(got, key=str) != sorted(expected, key=str) or got == expected, "arrival order", f"{got}")
    require([row for row in got if row[1] == "shown"] == [(50, "shown", "i2")], "shown rows", f"{got}")
    require((51, "click", "i1") in got, "answers follow questions", f"an event at 20 names a decision at 50: {got}")
    require(all(row[1] != "unheard of" for row in got), "types", f"{got}")
    require(got == expected, "acknowledged", f"{got} where {expected} was written")
    require(rows("u", 2, types, True) == expected[-2:], "window", "the newest rows are due")
    require(rows("u", 10, ["purchase"], False) == [expected[2]], "types", "only purchases were asked for")
    require(rows("u", 1, None, False) == [(60, "unheard of", None)], "types", "all types were asked for")
    require(rows("v", 10, types, True) == [(5, "click", "i1")] and rows("nobody", 10, types, True) == [], "other customers")
    _check_items(store)
    _check_events(store)
    first = [store.history(user, 10, types, True).first_us for user in ("u", "nobody")]
    require(first == [10, None], "first time", f"{first} where the earliest rows of a customer and of nobody are 10 and none")


def _check_events(store: EventStore) -> None:
    """All customers' events by arrival, in pages."""
    pages, seq = [], 0
    while found := store.events_after(seq, 2):
        pages.append([(row.user_id, row.timestamp_us, row.type) for _, row in found])
        seq = found[-1][0]
    events = [event for page in pages for event in page]
    require(all(len(page) <= 2 for page in pages), "events after", f"pages of at most 2 were asked for: {pages}")
    mine = [(time_us, kind) for user, time_us, kind in events if user == "u"]
    require(mine == [(30, "click"), (10, "click"), (40, "purchase"), (51, "click"), (60, "unheard of")], "events after", f"{mine}")
    require(any(user == "v" for user, _, _ in events), "events after", f"only those of one customer: {events}")


def _check_items(store: EventStore) -> None:
    """The whole history by item and type: the latest time of each, by arrival, and a row without an item is of none."""

    def items(user: str, types: list[str] | None, shown: bool, limit: int) -> list[tuple[int, str, str | None]]:
        return [(row.timestamp_us, row.type, row.item_id) for row in store.items_of(user, types, shown, limit)]

    everything = [(40, "purchase", "i1"), (50, "shown", "i2"), (51, "click", "i1")]
    require(items("u", None, True, 10) == everything, "items", f"{items('u', None, True, 10)} where {everything} is due")
    require(items("u", None, True, 2) == everything[1:], "items", "the last two to have arrived were asked for")
    require(items("u", ["purchase"], False, 10) == everything[:1], "items", "only purchases were asked for")
    require(items("v", None, True, 10) == [(5, "click", "i1")] and items("nobody", None, True, 10) == [], "items", "of other customers")


class _Opened:
    """A store whose commits are waited for; `seqs`: numbers given to new rows, in order."""

    def __init__(self, open_store: OpenStore) -> None:
        self.seqs: list[int] = []
        self.called_back = 0
        self.store = open_store(self._committed)

    def _committed(self, commit: Commit) -> None:
        self.called_back = commit.as_of
        for write in commit.writes:
            if isinstance(write.waiter, threading.Event):
                write.waiter.set()

    def attempt(self, *events: EventRow, decision: DecisionRow | None = None) -> Write:
        """A write, answered one way or the other."""
        done = threading.Event()
        write = Write(events, decision, waiter=done)
        self.store.submit(write)
        require(done.wait(10), "acknowledged", "no word within 10 s")
        return write

    def write(self, *events: EventRow, decision: DecisionRow | None = None) -> None:
        """A write that succeeds."""
        write = self.attempt(*events, decision=decision)
        require(write.error is None, "acknowledged", str(write.error))
        self.seqs += [write.decision_seq] if decision is not None else []
        self.seqs += [seq for seq, _ in write.stored]


def _event(
    event_id: str, time_us: int, *, user: str = "u", kind: str = "click", item: str | None = "i1", decision: str | None = None
) -> EventRow:
    return EventRow(event_id, user, item, kind, time_us, 1_000, None, None, decision, None)


def _decision(decision_id: str, time_us: int, as_of: int) -> DecisionRow:
    """One that showed i2 to u."""
    return DecisionRow(
        decision_id=decision_id, user_id="u", session_id=None, timestamp_us=time_us, as_of=as_of, shown='["i2"]', propensity="[1.0]",
        candidates=None, policy="p", model_version="m", excluded=None, context=None, degraded=None,
    )  # fmt: skip
