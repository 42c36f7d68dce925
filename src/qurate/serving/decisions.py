"""Requests that wait together are decided together, in a thread of their own.

While one batch goes through the network, and while the store commits it, the next requests gather: the busier the service,
the larger the batches. A batch costs about as much as several requests whatever its size, and so does a commit: the next one
therefore begins when the last one is on disk, and waits for a moment for those who have just been answered and ask again.
Windows are read here too, so that no store is read on the event loop.
"""

import asyncio
import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

import msgspec
import numpy as np

from qurate.decision import Decision, DecisionItem, new_ids
from qurate.errors import Code, MachineError
from qurate.serving.deployments import DecisionRequest, Deployment
from qurate.serving.messages import RecommendRequest
from qurate.serving.metrics import Metrics
from qurate.serving.stores.base import DecisionRow, EventStore, Waiter, Write
from qurate.serving.windows import Known, NewRow, UserWindow, WindowCache, closed_in, place_of_decision

log = logging.getLogger("qurate.serving")

MAX_TOGETHER = 64
"""Requests in one batch: bounds its memory (64 rows of scores of the catalogue) and how long its first one waits."""

SETTLE_SECONDS = 0.05
"""The longest that a batch waits for the commit of the one before."""
GATHER_SECONDS = 0.0003
"""A batch smaller than the crowd of those who ask waits for more, as long as some come within this time."""


@dataclass(slots=True, eq=False)
class Pending:
    """A request on its way. `decision` is there once `waiter` is set; `error` where the store does not hold it."""

    request: RecommendRequest
    waiter: Waiter
    user_id: str = ""
    decision: Decision | None = None
    error: BaseException | None = None
    submitted: bool = False  # the store has it: its commit wakes who asked


class Decider:
    """Decides what waits, hands the decisions to the store, and wakes who asked once they are durable.

    Args:
        deployment: the model with its serving rule.
        windows: of the customers.
        store: where decisions are written.
        metrics: counters to keep.
        clock: the time in microseconds UTC.
        seed: of the exploration; None draws one from the system.
    """

    def __init__(
        self,
        deployment: Deployment,
        windows: WindowCache,
        store: EventStore,
        metrics: Metrics,
        clock: Callable[[], int],
        seed: int | None,
    ) -> None:
        self._deployment, self._windows, self._store, self._metrics, self._clock = deployment, windows, store, metrics, clock
        self._rng = np.random.default_rng(seed)
        self._queue: SimpleQueue[Pending | None] = SimpleQueue()
        self._last_size, self._unsettled, self._settled = 1, 0, threading.Condition()
        self._closing, self._closed = threading.Lock(), False
        self._thread = threading.Thread(target=self._run, name="qurate-decide", daemon=True)
        self._thread.start()

    def submit(self, pending: Pending) -> None:
        """Takes a request; its waiter is set when it is answered.

        Raises:
            MachineError: `close` was called.
        """
        with self._closing:
            if self._closed:
                raise MachineError("a running service", "it is stopping", hint="ask another one, or again later", code=Code.NOT_READY)
            self._queue.put(pending)

    def close(self) -> None:
        """Decides what waits, then ends the thread. A second call does nothing."""
        with self._closing:
            if not self._closed:
                self._queue.put(None)
            self._closed = True
        self._thread.join()

    def settled(self, count: int) -> None:
        """So many decisions are on disk, or will not be."""
        with self._settled:
            self._unsettled -= count
            if not self._unsettled:
                self._settled.notify()

    def _gathered(self) -> list[Pending | None]:
        """The requests of the next batch; waits for the first."""
        crowd = self._last_size + self._queue.qsize()  # who is about to be answered, and who waits already
        first = self._queue.get()
        with self._settled:
            self._settled.wait_for(lambda: not self._unsettled, SETTLE_SECONDS)
        before = 0
        while before < self._queue.qsize() + 1 < min(crowd, MAX_TOGETHER):
            before = self._queue.qsize() + 1
            time.sleep(GATHER_SECONDS)
        waiting = [first]
        with contextlib.suppress(Empty):
            while len(waiting) < MAX_TOGETHER:
                waiting.append(self._queue.get_nowait())
        self._last_size = len(waiting)
        return waiting

    def _run(self) -> None:
        going = True
        while going:
            waiting = self._gathered()
            going = None not in waiting
            self._decide_each([pending for pending in waiting if pending is not None])

    def _decide_each(self, waiting: Sequence[Pending]) -> None:
        for batch in once_each(waiting):
            try:
                self._decide(batch)
            except Exception as error:  # a fault of ours must not leave anybody waiting
                left = [pending for pending in batch if not pending.submitted]
                for pending in left:
                    pending.error, pending.decision = error, None
                wake(pending.waiter for pending in left)

    def _decide(self, batch: Sequence[Pending]) -> None:
        asked, as_of, unread = [], [], []
        now = self._clock()
        for pending in batch:
            known, error = self._known(pending.user_id)
            asked.append(decision_request(pending, known, now))
            as_of.append(known.as_of)
            unread.append(error)
        start = time.perf_counter()
        requests = self._with_shortlists(asked)
        decisions = self._made(requests)
        self._metrics.decide_seconds.observe(time.perf_counter() - start)
        self._metrics.decided_together.observe(len(batch))
        for i, (pending, request, made, ident) in enumerate(zip(batch, requests, decisions, new_ids(len(batch)))):
            pending.decision = Decision(ident, request.user_id, made.items, made.policy, made.model_version, made.degraded)
            pending.error = unread[i]
            self._submit(pending, request, as_of[i])

    def _known(self, user_id: str) -> tuple[Known, MachineError | None]:
        """The customer's window and items; where the store cannot be read, what training knew of them, and why."""
        try:
            return self._windows.get(user_id), None
        except MachineError as error:
            log.error("%s", error)
            past = self._deployment.user_history(user_id) or UserWindow()
            return Known(past.last(self._deployment.window), closed_in(past, self._deployment.exclude), 0), error

    def _with_shortlists(self, requests: Sequence[DecisionRequest]) -> Sequence[DecisionRequest]:
        """The requests with the items that the model chooses among, so that the log keeps them: nobody could find them again later."""
        asked = [request for request in requests if request.candidates is None] if self._deployment.counts_events else []
        if not asked:
            return requests
        lists = iter(self._deployment.shortlists(asked))
        return [msgspec.structs.replace(request, candidates=next(lists)) if request.candidates is None else request for request in requests]

    def _made(self, requests: Sequence[DecisionRequest]) -> list[Decision]:
        """The model's answers; where it fails on a request, that one is answered at random."""
        try:
            return self._deployment.decide(requests, self._rng)
        except Exception:  # a customer gets an answer whatever happens to the model
            if len(requests) > 1:
                return [decision for request in requests for decision in self._made([request])]
            log.exception("the model failed on a request; a random fallback was served")
            self._metrics.model_errors.inc()
            return [random_decision(self._deployment, requests[0], self._rng)]

    def _submit(self, pending: Pending, request: DecisionRequest, as_of: int) -> None:
        """Puts a decision into the customer's window and on its way to the store; one that showed nothing is not logged."""
        decision = pending.decision
        assert decision is not None
        if self._deployment.shown_in_history and len(decision.items) == 1:
            item = decision.items[0].item_id
            self._windows.show(NewRow(request.user_id, place_of_decision(as_of), item, "shown", request.clock_us, 0.0))
        if pending.error is None and decision.items:
            row = decision_row(decision, pending.request, request, as_of, self._deployment)
            with self._settled:
                self._unsettled += 1
            try:
                pending.submitted = True
                self._store.submit(Write(decision=row, waiter=pending.waiter, request=pending))
                return
            except MachineError as error:
                pending.error = error
                self.settled(1)
        pending.submitted = True
        wake([pending.waiter])


def once_each(waiting: Sequence[Pending]) -> Iterator[list[Pending]]:
    """Batches in which no customer stands twice: a second request of theirs must see what the first one showed."""
    while waiting:
        batch: dict[str, Pending] = {}
        later = []
        for pending in waiting:
            pending.user_id = pending.user_id or customer(pending.request)
            if pending.user_id in batch:
                later.append(pending)
            else:
                batch[pending.user_id] = pending
        yield list(batch.values())
        waiting = later


def customer(request: RecommendRequest) -> str:
    """Who asks: the user, else the visit, else nobody who was here before."""
    return request.user_id or request.session_id or f"anonymous:{uuid.uuid4().hex}"


def decision_request(pending: Pending, known: Known, now_us: int) -> DecisionRequest:
    """What the model is asked; the clock is after everything in the state, whatever the clocks say."""
    asked, window = pending.request, known.window
    clock_us = max(now_us, max(window.times) + 1) if window.times else now_us
    candidates, features = distinct_candidates(asked)
    return DecisionRequest(
        user_id=pending.user_id,
        window=window,
        clock_us=clock_us,
        k=asked.k,
        candidates=candidates,
        features=features,
        exclude=tuple(dict.fromkeys(asked.exclude)) if asked.exclude else (),
        seen=known.closed_at(clock_us) if known.closed else (),
        context=asked.context,
        explain=asked.explain,
    )


def distinct_candidates(asked: RecommendRequest) -> tuple[tuple[str, ...] | None, dict[str, tuple[float | None, ...]] | None]:
    """The different candidates of a request in their order, and what it says of each; of a repeated one what comes first."""
    if asked.candidates is None:
        return None, None
    first = dict(zip(reversed(asked.candidates), range(len(asked.candidates) - 1, -1, -1)))
    candidates = tuple(dict.fromkeys(asked.candidates))
    said = asked.candidate_features
    return candidates, {name: tuple(values[first[item]] for item in candidates) for name, values in said.items()} if said else None


def decision_row(decision: Decision, asked: RecommendRequest, request: DecisionRequest, as_of: int, deployment: Deployment) -> DecisionRow:
    """What the log keeps of an answer; of the candidates those that could be chosen.

    Items that are not shown again could be where nothing else was left: an answer with one of them had them all to choose from.
    """
    candidates, features, again = request.candidates, request.features, frozenset(request.seen)
    offered = again and any(item.item_id in again for item in decision.items)
    left_out = request.exclude if offered or not again else tuple(dict.fromkeys((*request.exclude, *request.seen)))
    if candidates is not None:
        closed = frozenset(left_out)
        kept = [item for item in deployment.known(candidates) if item not in closed]
        place = dict(zip(candidates, range(len(candidates))))
        features = {name: tuple(values[place[item]] for item in kept) for name, values in features.items()} if features else None
        candidates = tuple(kept)
    excluded = deployment.known(left_out) if left_out and candidates is None else ()
    return DecisionRow(
        decision_id=decision.decision_id,
        user_id=request.user_id,
        session_id=asked.session_id,
        timestamp_us=request.clock_us,
        as_of=as_of,
        shown=_json([item.item_id for item in decision.items]),
        propensity=_json([item.propensity for item in decision.items]),
        candidates=None if candidates is None else _json(candidates),
        policy=decision.policy,
        model_version=decision.model_version,
        excluded=_json(excluded) if excluded else None,
        context=None if request.context is None else _json(request.context),
        degraded=decision.degraded,
        candidate_features=_json(features) if features else None,
    )


def random_decision(deployment: Deployment, request: DecisionRequest, rng: np.random.Generator) -> Decision:
    """Uniformly random items without replacement: the one at place i has probability 1 / (n - i)."""
    left_out, again = set(request.exclude), set(request.seen)
    open_ = [item for item in (deployment.item_ids if request.candidates is None else request.candidates) if item not in left_out]
    pool = [item for item in open_ if item not in again] or open_
    picks = rng.permutation(len(pool))[: request.k]
    items = [DecisionItem(pool[pick], 0.0, 1.0 / (len(pool) - i), "fallback") for i, pick in enumerate(picks)]
    return Decision("", None, items, "fallback_random", deployment.version, "no_model")


def wake(waiters: Iterable[Waiter | None]) -> None:
    """Sets waiters from any thread; those of an event loop in one call."""
    by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for waiter in waiters:
        if isinstance(waiter, threading.Event):
            waiter.set()
        elif waiter is not None:
            by_loop.setdefault(waiter.get_loop(), []).append(waiter)
    for loop, futures in by_loop.items():
        with contextlib.suppress(RuntimeError):  # a loop closed by a forced exit: nobody waits any more
            loop.call_soon_threadsafe(_set_all, futures)


def _set_all(futures: Sequence[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
