"""What the service asks of a store: events and decisions, each once, durable before anybody is answered.

`qurate.testing.check_store` holds any implementation to it. A store numbers what it commits; `as_of` is the number up to
which a reader has seen everything, and a decision keeps the one its state was made from.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from qurate.errors import MachineError, QurateError


class EventRow(NamedTuple):
    """An event as the store takes it; times in microseconds UTC."""

    event_id: str
    user_id: str
    item_id: str | None
    type: str
    timestamp_us: int
    received_us: int
    value: float | None
    session_id: str | None
    decision_id: str | None
    props: str | None


class DecisionRow(NamedTuple):
    """A decision as the store takes it; lists as JSON text, propensities as exact float64.

    `candidate_features`: JSON of name -> one number or null for each of `candidates`.
    """

    decision_id: str
    user_id: str
    session_id: str | None
    timestamp_us: int
    as_of: int
    shown: str
    propensity: str
    candidates: str | None
    policy: str
    model_version: str
    excluded: str | None
    context: str | None
    degraded: str | None
    candidate_features: str | None = None


class StoredRow(NamedTuple):
    """What a customer's history needs of an event or of a decision that showed one item.

    `place` orders rows by arrival: an event at its sequence number, a decision right after the last one it knew.
    """

    place: tuple[int, int]
    item_id: str | None
    type: str
    timestamp_us: int
    value: float | None


class History(NamedTuple):
    """A customer's newest rows, from one snapshot of the store."""

    rows: list[StoredRow]  # by arrival
    first_us: int | None  # earliest time of the customer's rows; looked up only where there are fewer rows than asked for
    as_of: int  # every commit up to this number is in the snapshot, none after


Waiter = threading.Event | asyncio.Future[None]


@dataclass(slots=True, eq=False)
class Write:
    """One request's rows on their way to disk. After the commit: `stored` or `error`, then the service is called back.

    `waiter` and `request` belong to the service: a store hands them back untouched.
    """

    events: Sequence[EventRow] = ()
    decision: DecisionRow | None = None
    stored: list[tuple[int, EventRow]] = field(default_factory=list)
    decision_seq: int = 0
    error: QurateError | None = None
    waiter: Waiter | None = None
    request: object = None

    @property
    def rows(self) -> int:
        """How many rows this asks for."""
        return len(self.events) + (self.decision is not None)


class Commit(NamedTuple):
    """What became of a group of writes: each has `stored` and `decision_seq`, or `error`."""

    writes: list[Write]  # in the order of their sequence numbers
    as_of: int  # the newest number that is durable
    seconds: float  # it took


OnCommit = Callable[[Commit], None]
"""Called by the store after each commit or its failure, from one thread at a time and in the order of the commits."""


class EventStore(Protocol):
    """Events and decisions on durable storage."""

    @property
    def as_of(self) -> int:
        """The newest sequence number that is durable."""
        ...

    @property
    def fault(self) -> MachineError | None:
        """Why nothing can be written at present; None while writing works. It goes away without a request."""
        ...

    def submit(self, write: Write) -> None:
        """Takes rows to be written; the callback given when the store was opened says when they are durable.

        An event whose id is stored already is left out of `Write.stored`. An event that names a decision gets a time after it.

        Raises:
            MachineError: code overloaded, where too many writes wait already.
        """
        ...

    def history(self, user_id: str, window: int, types: Sequence[str] | None, shown: bool) -> History:
        """A customer's newest rows; may be called from any thread, and blocks.

        Args:
            user_id: whose.
            window: how many rows at most.
            types: event types that count; None: all.
            shown: whether a decision that showed one item is a row of type `shown`.

        Raises:
            MachineError: the store cannot be read.
        """
        ...

    def items_of(self, user_id: str, types: Sequence[str] | None, shown: bool, limit: int) -> list[StoredRow]:
        """For each item and type of a customer's rows, the last to have arrived with the latest time; by arrival.

        Args:
            user_id: whose.
            types: event types that count; None: all.
            shown: whether a decision that showed one item is a row of type `shown`.
            limit: how many at most, the last to have arrived.

        Raises:
            MachineError: the store cannot be read.
        """
        ...

    def events_after(self, seq: int, limit: int) -> list[tuple[int, EventRow]]:
        """The events that arrived after number `seq`, at most `limit` of them, each with its number, by arrival.

        Raises:
            MachineError: the store cannot be read.
        """
        ...

    def close(self) -> None:
        """Writes what waits, then releases everything. A second call does nothing."""
        ...


OpenStore = Callable[[OnCommit], EventStore]
"""Opens the store on the same data each time it is called."""
