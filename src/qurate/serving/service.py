"""The service without HTTP: requests in, decisions and acknowledgements out, everything durable before it is answered.

`recommend` decides from the customer's window, writes the decision (exact propensities, clock, `as_of`) in a group
commit and answers after it. Where the store fails the answer goes out all the same, marked `store_unavailable`: it is
not in the log, so it leaves no trace in the customer's history either.
"""

import asyncio
import contextlib
import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np

from qurate.decision import Decision, DecisionItem, HistoryRows
from qurate.errors import Code, MachineError, UserError
from qurate.events.schema import OTHER
from qurate.serving.boundary import rejection
from qurate.serving.messages import Check, Event, EventsAnswer, Ready, RecommendRequest, Rejection
from qurate.serving.metrics import Metrics
from qurate.serving.store import DecisionRow, EventRow, Store, StoredRow, Write
from qurate.serving.users import NewRow, Record, Users

log = logging.getLogger("qurate.serving")

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
FUTURE_US = 5 * 60 * 1_000_000
EARLIEST_US = 365 * 86_400 * 1_000_000
"""Times in 1970 are seconds sent as milliseconds, or no clock at all."""

RESERVED_TYPES = {
    "shown": "decisions add these rows themselves",
    "no_response": "a derived reward",
    "leave": "a derived reward",
    OTHER: "what rare types are in training",
}
MAX_PROPS_BYTES = 16_384


class Names(Protocol):
    """Text ids and type names to indices (`events.vocabulary.Vocabulary`)."""

    @property
    def items(self) -> tuple[str, ...]: ...
    @property
    def types(self) -> tuple[str, ...]: ...
    def item_index(self, ids: Sequence[str | None], /) -> np.ndarray[Any, np.dtype[np.int32]]: ...
    def type_index(self, names: Sequence[str | None], /) -> np.ndarray[Any, np.dtype[np.uint8]]: ...


class Decider(Protocol):
    """A model together with the rule by which it is served (greedy, epsilon-greedy)."""

    @property
    def vocabulary(self) -> Names: ...
    @property
    def version(self) -> str: ...
    @property
    def window(self) -> int:
        """Rows of history a state holds."""
        ...

    @property
    def shown_in_history(self) -> bool:
        """Whether a decision that shows one item adds a row of type `shown` to the history."""
        ...

    def user_history(self, user_id: str) -> HistoryRows | None:
        """What the training data knows of the customer; None for an unknown one."""
        ...

    def decide(
        self,
        user_id: str,
        history: HistoryRows,
        clock_us: int,
        k: int,
        candidates: list[str] | None,
        exclude: tuple[str, ...],
        context: dict[str, Any] | None,
        explain: bool,
        rng: np.random.Generator,
    ) -> Decision:
        """The answer with its exact propensities, and what it lacked; the service gives it an id of its own. `context`: user
        features by name."""
        ...


def now_us() -> int:
    """Microseconds since 1970, UTC."""
    return time.time_ns() // 1_000


class Service:
    """One model, one data directory.

    Args:
        decider: the model with its serving rule.
        directory: where the store lives (`--data`).
        seed: of the exploration; None draws one from the system.
        clock: the time in microseconds UTC.

    Raises:
        MachineError, UserError: see `Store`.
    """

    def __init__(self, decider: Decider, directory: Path, seed: int | None = None, clock: Callable[[], int] = now_us) -> None:
        self.decider, self.metrics, self.stopping = decider, Metrics(), False
        self._clock, self._rng, self._rng_lock = clock, np.random.default_rng(seed), threading.Lock()
        self._shown_type = int(decider.vocabulary.type_index(["shown"])[0]) if decider.shown_in_history else 0
        self._users = Users(self._load, decider.window)
        self._store = Store(directory, self._committed, self.metrics)

    def close(self) -> None:
        """Writes what waits and releases the data directory."""
        self._store.close()

    def ready(self) -> Ready:
        """Whether traffic should be sent here, and why not."""
        fault = self._store.fault
        checks = {
            "model": Check(True, self.decider.version),
            "store": Check(fault is None, str(fault or "writable")),
            "running": Check(not self.stopping, "stopping" if self.stopping else "yes"),
        }
        return Ready(all(check.ok for check in checks.values()), checks)

    def recommend(self, request: RecommendRequest) -> Decision:
        """The answer to one request; returns when the decision is durable."""
        decision, write = self._decide(request)
        return self._answered(decision, self._wait(write))

    async def recommend_async(self, request: RecommendRequest) -> Decision:
        """`recommend` for an event loop."""
        decision, write = self._decide(request)
        return self._answered(decision, await self._wait_async(write))

    def accept(self, events: list[tuple[int, Event]], rejected: Sequence[Rejection] = ()) -> EventsAnswer:
        """Stores events, each once by its id; returns when they are durable.

        Args:
            events: well-formed events, each with its index in the batch.
            rejected: what the boundary has rejected already.

        Raises:
            MachineError: codes storage_full, not_ready, overloaded: nothing of this batch is promised, send it again.
        """
        write, bad = self._admit(events)
        return self._acknowledged(write.rows, self._wait(write), [*rejected, *bad])

    async def accept_async(self, events: list[tuple[int, Event]], rejected: Sequence[Rejection] = ()) -> EventsAnswer:
        """`accept` for an event loop."""
        write, bad = self._admit(events)
        return self._acknowledged(write.rows, await self._wait_async(write), [*rejected, *bad])

    # deciding

    def _decide(self, request: RecommendRequest) -> tuple[Decision, Write]:
        decision_id = uuid.uuid4().hex
        user_id = request.user_id or request.session_id or f"anonymous:{decision_id}"
        record, unread = self._record(user_id)
        rows = record.rows
        # Later than everything in the state, whatever the clocks say.
        clock_us = max(self._clock(), int(rows.times.max()) + 1) if len(rows.times) else self._clock()
        exclude = tuple(dict.fromkeys(request.exclude))
        candidates = None if request.candidates is None else list(dict.fromkeys(request.candidates))
        start = time.perf_counter()
        try:
            with self._rng_lock:
                made = self.decider.decide(
                    user_id, rows, clock_us, request.k, candidates, exclude, request.context, request.explain, self._rng
                )
        except Exception:  # a customer gets an answer whatever happens to the model
            log.exception("the model failed on a request; a random fallback was served")
            self.metrics.model_errors.inc()
            made = self._without_model(request.k, candidates, exclude)
        self.metrics.decide_seconds.observe(time.perf_counter() - start)
        decision = msgspec.structs.replace(made, decision_id=decision_id, user_id=user_id)
        if self._shown_type and len(decision.items) == 1:
            item = int(self.decider.vocabulary.item_index([decision.items[0].item_id])[0])
            self._users.show(NewRow(0, user_id, item, self._shown_type, clock_us, 0.0))
        if unread is not None:  # what the store would hold of the state is not known, so the decision cannot be logged
            return decision, Write(error=unread)
        return decision, Write(decision=self._decision_row(decision, request, record.as_of, clock_us, candidates, exclude))

    def _record(self, user_id: str) -> tuple[Record, MachineError | None]:
        """The customer's window; where the store cannot be read, what training knew of them, and why."""
        try:
            return self._users.get(user_id), None
        except MachineError as error:
            log.error("%s", error)
            return Record(self.decider.user_history(user_id) or _indexed([], self.decider.vocabulary), 0), error

    def _decision_row(
        self,
        decision: Decision,
        request: RecommendRequest,
        as_of: int,
        clock_us: int,
        candidates: list[str] | None,
        exclude: tuple[str, ...],
    ) -> DecisionRow | None:
        """What the log keeps of an answer; an empty one showed nothing and is not a decision."""
        if not decision.items:
            return None
        known = () if candidates is None else self.decider.vocabulary.item_index(candidates) > 0  # nothing else could be chosen
        left_out = set(exclude)
        return DecisionRow(
            decision.decision_id,
            decision.user_id or "",
            request.session_id,
            clock_us,
            as_of,
            _json([item.item_id for item in decision.items]),
            _json([item.propensity for item in decision.items]),
            None if candidates is None else _json([item for item, there in zip(candidates, known) if there and item not in left_out]),
            decision.policy,
            decision.model_version,
            _json(exclude) if exclude and candidates is None else None,
            _json(request.context) if request.context is not None else None,
            decision.degraded,
        )

    def _without_model(self, k: int, candidates: list[str] | None, exclude: tuple[str, ...]) -> Decision:
        """Uniformly random items without replacement: position i has probability 1 / (n - i)."""
        left_out = set(exclude)
        pool = [item for item in (self.decider.vocabulary.items if candidates is None else candidates) if item not in left_out]
        with self._rng_lock:
            picks = self._rng.permutation(len(pool))[:k]
        items = [DecisionItem(pool[pick], 0.0, 1.0 / (len(pool) - i), "fallback") for i, pick in enumerate(picks)]
        return Decision("", None, items, "fallback_random", self.decider.version, "no_model")

    def _answered(self, decision: Decision, write: Write) -> Decision:
        if write.error is not None:
            self._users.forget(decision.user_id or "")
            decision = msgspec.structs.replace(decision, degraded="store_unavailable")
        self.metrics.decisions.labels(decision.degraded or "none").inc()
        return decision

    # events

    def _admit(self, events: list[tuple[int, Event]]) -> tuple[Write, list[Rejection]]:
        received = self._clock()
        rows: list[EventRow] = []
        rejected: list[Rejection] = []
        for index, event in events:
            try:
                rows.append(event_row(event, received, f"$.events[{index}]"))
            except UserError as error:
                rejected.append(rejection(index, error))
        return Write(events=rows), rejected

    def _acknowledged(self, asked: int, write: Write, rejected: list[Rejection]) -> EventsAnswer:
        if write.error is not None:
            raise write.error
        accepted = len(write.stored)
        for outcome, count in (("accepted", accepted), ("duplicate", asked - accepted), ("rejected", len(rejected))):
            self.metrics.events.labels(outcome).inc(count)
        return EventsAnswer(accepted, asked - accepted, sorted(rejected, key=lambda one: one.index))

    # histories

    def _load(self, user_id: str) -> Record:
        """A customer's window from the store, older rows from the model's training data.

        The store speaks for the customer from their first row in it on: a model trained from this very store knows
        the same rows, and they must not stand twice.
        """
        names = self.decider.vocabulary
        types = None if OTHER in names.types else names.types  # what has no name of its own is OTHER
        stored, first, as_of = self._store.history(user_id, self.decider.window, types, bool(self._shown_type))
        rows = _indexed(stored, names)
        known = self.decider.user_history(user_id) if len(stored) < self.decider.window else None
        if known is not None:
            older = np.flatnonzero(known.times < first) if first is not None else np.arange(len(known.times))
            keep = older[-(self.decider.window - len(stored)) :]
            rows = HistoryRows(
                np.append(known.items[keep], rows.items),
                np.append(known.types[keep], rows.types),
                np.append(known.times[keep], rows.times),
                np.append(known.values[keep], rows.values),
            )
        return Record(rows, as_of)

    def _committed(self, writes: list[Write], last_seq: int) -> None:
        """In the store's thread: first the histories, then the answers. Decisions are in them already."""
        self._users.apply(self._new_rows(writes), last_seq)
        by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        for write in writes:
            if isinstance(write.waiter, threading.Event):
                write.waiter.set()
            else:
                by_loop.setdefault(write.waiter.get_loop(), []).append(write.waiter)
        for loop, waiters in by_loop.items():
            with contextlib.suppress(RuntimeError):  # a loop closed by a forced exit: nobody waits any more
                loop.call_soon_threadsafe(_wake, waiters)

    def _new_rows(self, writes: list[Write]) -> list[NewRow]:
        names = self.decider.vocabulary
        stored = [pair for write in writes if write.error is None for pair in write.stored]
        items = names.item_index([row.item_id for _, row in stored]).tolist()
        types = names.type_index([row.type for _, row in stored]).tolist()
        return [
            NewRow(seq, row.user_id, item, kind, row.timestamp_us, row.value or 0.0)
            for (seq, row), item, kind in zip(stored, items, types)
            if kind
        ]

    # waiting for the disk

    def _wait(self, write: Write) -> Write:
        if write.rows:
            write.waiter = threading.Event()
            if self._submit(write):
                write.waiter.wait()
        return write

    async def _wait_async(self, write: Write) -> Write:
        if write.rows:
            write.waiter = asyncio.get_running_loop().create_future()
            if self._submit(write):
                await write.waiter
        return write

    def _submit(self, write: Write) -> bool:
        try:
            self._store.submit(write)
        except MachineError as error:
            write.error = error
        return write.error is None


def event_row(event: Event, received_us: int, path: str) -> EventRow:
    """An event as the store takes it.

    Raises:
        UserError: code invalid_field: a time in 1970 or more than 5 minutes ahead of `received_us`, a reserved type,
            props too large; `where` starts with `path`.
    """
    if event.type in RESERVED_TYPES:
        reason = RESERVED_TYPES[event.type]
        raise UserError(
            "an event type of a customer", f"the reserved {event.type}", where=f"{path}.type", hint=reason, code=Code.INVALID_FIELD
        )
    stamp = event.timestamp
    time_us = stamp * 1_000 if isinstance(stamp, int) else (stamp - EPOCH) // MICROSECOND
    if time_us > received_us + FUTURE_US:
        hint = "set the sender's clock; integers are milliseconds"
        raise UserError(
            "a time at most 5 minutes ahead of the server's", str(stamp)[:60], where=f"{path}.timestamp", hint=hint, code=Code.INVALID_FIELD
        )
    if time_us < EARLIEST_US:
        hint = "integers are milliseconds, not seconds"
        raise UserError("a time after 1970", str(stamp)[:60], where=f"{path}.timestamp", hint=hint, code=Code.INVALID_FIELD)
    props = None if event.props is None else json.dumps(event.props, ensure_ascii=False, separators=(",", ":"))
    if props is not None and len(props) > MAX_PROPS_BYTES:
        raise UserError(f"at most {MAX_PROPS_BYTES} characters of JSON", str(len(props)), where=f"{path}.props", code=Code.INVALID_FIELD)
    return EventRow(
        event.event_id,
        event.user_id,
        event.item_id,
        event.type,
        time_us,
        received_us,
        event.value,
        event.session_id,
        event.decision_id,
        props,
    )


def _indexed(stored: list[StoredRow], names: Names) -> HistoryRows:
    return HistoryRows(
        names.item_index([row.item_id for row in stored]).astype(np.int64),
        names.type_index([row.type for row in stored]).astype(np.int64),
        np.array([row.timestamp_us for row in stored], np.int64),
        np.array([row.value or 0.0 for row in stored], np.float32),
    )


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _wake(waiters: list[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
