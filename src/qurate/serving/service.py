"""The service without HTTP: requests in, decisions and acknowledgements out, everything durable before it is answered.

`recommend` decides from the customer's window, writes the decision (exact propensities, clock, `as_of`) in a group
commit and answers after it. Where the store fails the answer goes out all the same, marked `store_unavailable`: it is
not in the log, so it leaves no trace in the customer's history either.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence

import msgspec

from qurate.decision import Decision
from qurate.errors import MachineError
from qurate.serving.decisions import Decider, Pending, wake
from qurate.serving.deployments import Deployment
from qurate.serving.events import event_rows
from qurate.serving.messages import Check, Event, EventsAnswer, Ready, RecommendRequest, Rejection
from qurate.serving.metrics import Metrics
from qurate.serving.stores.base import Commit, OpenStore, Waiter, Write
from qurate.serving.windows import MAX_CLOSED, CachedWindow, NewRow, UserWindow, WindowCache, close_items, closed_in, place_of_event

RECOUNTED = 10_000
"""Events read at a time when a service starts."""


def now_us() -> int:
    """Microseconds since 1970, UTC."""
    return time.time_ns() // 1_000


class Service:
    """One model, one store.

    Args:
        deployment: the model with its serving rule.
        open_store: opens the store, given what it calls after each commit.
        seed: of the exploration; None draws one from the system.
        clock: the time in microseconds UTC.

    Raises:
        MachineError, UserError: the store cannot be opened.
    """

    def __init__(self, deployment: Deployment, open_store: OpenStore, seed: int | None = None, clock: Callable[[], int] = now_us) -> None:
        self.deployment, self.metrics, self.stopping = deployment, Metrics(), False
        self._clock = clock
        self._windows = WindowCache(self._load, deployment.window, types=deployment.event_types, rule=deployment.exclude)
        self.store = open_store(self._committed)
        self._recount()
        self.metrics.store_writable.set_function(lambda: float(self.store.fault is None))
        self._decider = Decider(deployment, self._windows, self.store, self.metrics, clock, seed)

    def close(self) -> None:
        """Answers what waits, writes what waits and releases the store. A second call does nothing."""
        self._decider.close()
        self.store.close()

    def ready(self) -> Ready:
        """Whether traffic should be sent here, and why not."""
        fault = self.store.fault
        checks = {
            "model": Check(True, self.deployment.version),
            "store": Check(fault is None, str(fault or "writable")),
            "running": Check(not self.stopping, "stopping" if self.stopping else "yes"),
        }
        return Ready(all(check.ok for check in checks.values()), checks)

    def recommend(self, request: RecommendRequest) -> Decision:
        """The answer to one request; returns when the decision is durable."""
        done = threading.Event()
        pending = Pending(request, done)
        self._decider.submit(pending)
        done.wait()
        return self._answered(pending)

    async def recommend_async(self, request: RecommendRequest) -> Decision:
        """`recommend` for an event loop."""
        done = asyncio.get_running_loop().create_future()
        pending = Pending(request, done)
        self._decider.submit(pending)
        await done
        return self._answered(pending)

    def _answered(self, pending: Pending) -> Decision:
        decision = pending.decision
        if decision is None:
            raise pending.error or RuntimeError("a request came back without a decision")
        if pending.error is not None:
            self._windows.forget(pending.user_id)
            decision = msgspec.structs.replace(decision, degraded="store_unavailable")
        self.metrics.count_decision(decision.degraded)
        return decision

    def accept(self, events: list[tuple[int, Event]], rejected: Sequence[Rejection] = ()) -> EventsAnswer:
        """Stores events, each once by its id; returns when they are durable.

        Args:
            events: well-formed events, each with its index in the batch.
            rejected: what the boundary has rejected already.

        Raises:
            MachineError: codes storage_full, not_ready, overloaded: nothing of this batch is promised, send it again.
        """
        done = threading.Event()
        write, bad = self._submitted(events, done)
        done.wait()
        return self._acknowledged(write, [*rejected, *bad])

    async def accept_async(self, events: list[tuple[int, Event]], rejected: Sequence[Rejection] = ()) -> EventsAnswer:
        """`accept` for an event loop."""
        done = asyncio.get_running_loop().create_future()
        write, bad = self._submitted(events, done)
        await done
        return self._acknowledged(write, [*rejected, *bad])

    def _submitted(self, events: list[tuple[int, Event]], waiter: Waiter) -> tuple[Write, list[Rejection]]:
        rows, rejected = event_rows(events, self._clock())
        write = Write(events=rows, waiter=waiter)
        if not rows:
            wake([waiter])
            return write, rejected
        try:
            self.store.submit(write)
        except MachineError as error:
            write.error = error
            wake([waiter])
        return write, rejected

    def _acknowledged(self, write: Write, rejected: list[Rejection]) -> EventsAnswer:
        if write.error is not None:
            raise write.error
        accepted, duplicates = len(write.stored), len(write.events) - len(write.stored)
        self.metrics.count_events(accepted, duplicates, len(rejected))
        return EventsAnswer(accepted, duplicates, sorted(rejected, key=lambda one: one.index))

    def _recount(self) -> None:
        """What the store holds already, into the counters of a model that has some."""
        seq = 0
        while self.deployment.counts_events and (found := self.store.events_after(seq, RECOUNTED)):
            self.deployment.count([row for _, row in found])
            seq = found[-1][0]

    # customers' windows

    def _load(self, user_id: str) -> CachedWindow:
        """A customer's window from the store, older rows from the model's training data.

        The store speaks for the customer from their first row in it on: a model trained from this very store knows
        the same rows, and they must not stand twice.
        """
        deployment, length = self.deployment, self.deployment.window
        history = self.store.history(user_id, length, deployment.event_types, deployment.shown_in_history)
        rows = [(row.item_id, row.type, row.timestamp_us, row.value or 0.0) for row in history.rows]
        places = [row.place[0] for row in history.rows]
        past = deployment.user_history(user_id) if len(rows) < length or deployment.exclude.within else None
        if past is not None and len(rows) < length:
            older = [row for row in zip(*past) if history.first_us is None or row[2] < history.first_us]
            older = older[-(length - len(rows)) :]
            rows, places = [*older, *rows], [-1] * len(older) + places
        return CachedWindow(UserWindow(*zip(*rows)) if rows else UserWindow(), tuple(places), history.as_of, self._closed(user_id, past))

    def _closed(self, user_id: str, past: UserWindow | None) -> dict[str, int]:
        """The items that a customer is not shown again, from their whole history.

        Read after the window: what is committed in between is then in both, and counts once.
        """
        rule = self.deployment.exclude
        if not rule.within:
            return {}
        shown = self.deployment.shown_in_history and rule.closed_until("shown", 0) is not None
        stored = self.store.items_of(user_id, rule.types, shown, MAX_CLOSED)
        return close_items(closed_in(past, rule), ((row.item_id, row.type, row.timestamp_us) for row in stored), rule)

    def _committed(self, commit: Commit) -> None:
        """In the store's thread: first the windows, then the answers. Decisions are in the windows already."""
        self._windows.apply(self._new_rows(commit), commit.as_of)
        if self.deployment.counts_events:
            self.deployment.count([row for write in commit.writes if write.error is None for _, row in write.stored])
        if any(write.error is None for write in commit.writes):
            self.metrics.commit_seconds.observe(commit.seconds)
        decided = 0
        for write in commit.writes:
            if isinstance(write.request, Pending):
                write.request.error = write.error
                decided += 1
        wake(write.waiter for write in commit.writes)
        self._decider.settled(decided)

    def _new_rows(self, commit: Commit) -> list[tuple[int, NewRow]]:
        return [
            (seq, NewRow(row.user_id, place_of_event(seq), row.item_id, row.type, row.timestamp_us, row.value or 0.0))
            for write in commit.writes
            if write.error is None
            for seq, row in write.stored
        ]
