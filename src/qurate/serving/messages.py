"""The messages of the HTTP interface (contract, section HTTP): what is not in these types is refused."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from qurate.events.schema import FLOAT32_MAX

MAX_ID_BYTES = 256
MAX_CANDIDATES = 10_000
MAX_BATCH = 1_000

Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID_BYTES, description="1-256 bytes of UTF-8, no NUL")]
Time = (
    Annotated[datetime, Meta(tz=True, description="RFC 3339 with a zone")] | Annotated[int, Meta(description="milliseconds since 1970 UTC")]
)
Number = Annotated[float, Meta(gt=-FLOAT32_MAX, lt=FLOAT32_MAX, description="within float32, as states hold it")]
Feature = str | Number | bool | Annotated[list[Id], Meta(max_length=100)]
HttpCode = Literal[
    "invalid_json",
    "invalid_field",
    "too_large",
    "too_deep",
    "unauthorised",
    "forbidden",
    "not_found",
    "conflict",
    "rate_limited",
    "overloaded",
    "storage_full",
    "not_ready",
]


CandidateValues = Annotated[list[Number | None], Meta(max_length=MAX_CANDIDATES)]


class RecommendRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /v1/recommend. `candidates` absent: everything available; `context`: user features by name; `candidate_features`: what is
    known of each candidate at this moment, by name, as many numbers as candidates (null: not known)."""

    k: Annotated[int, Meta(ge=1, le=1000)] = 10
    user_id: Id | None = None
    session_id: Id | None = None
    candidates: Annotated[list[Id], Meta(max_length=MAX_CANDIDATES)] | None = None
    exclude: Annotated[tuple[Id, ...], Meta(max_length=MAX_CANDIDATES)] = ()
    context: Annotated[dict[Id, Feature], Meta(max_length=100)] | None = None
    explain: bool = False
    candidate_features: Annotated[dict[Id, CandidateValues], Meta(max_length=100)] | None = None


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing a customer did. Sent again with the same `event_id` it counts as a duplicate, whatever else it says."""

    event_id: Id
    type: Id
    user_id: Id
    timestamp: Time
    item_id: Id | None = None
    value: Number | None = None
    session_id: Id | None = None
    decision_id: Id | None = None
    props: dict[str, Any] | None = None


class EventsRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /v1/events."""

    events: Annotated[list[Event], Meta(min_length=1, max_length=MAX_BATCH)]


class LooseEventsRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The same with events not yet looked into, so that each is accepted or rejected by its own index."""

    events: Annotated[list[msgspec.Raw], Meta(min_length=1, max_length=MAX_BATCH)]


class Rejection(msgspec.Struct, frozen=True):
    """Why the event at `index` was not stored."""

    index: int
    code: HttpCode
    message: str
    path: str


class EventsAnswer(msgspec.Struct, frozen=True):
    """Sent only after what is `accepted` is on disk."""

    accepted: int
    duplicates: int
    rejected: list[Rejection]
    durable: bool = True


class Problem(msgspec.Struct, frozen=True):
    """application/problem+json (RFC 9457)."""

    type: str
    title: str
    status: int
    code: HttpCode
    detail: str
    path: str


class Check(msgspec.Struct, frozen=True):
    """One line of /readyz."""

    ok: bool
    detail: str


class Ready(msgspec.Struct, frozen=True):
    """GET /readyz: 200 where `ready`, else 503."""

    ready: bool
    checks: dict[str, Check]


class Live(msgspec.Struct, frozen=True):
    """GET /livez."""

    live: bool = True
