"""From the events of a request to rows of the store: what cannot have happened is rejected with its reason."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from qurate.errors import Code, UserError
from qurate.events.schema import OTHER
from qurate.serving.messages import Event, HttpCode, Rejection
from qurate.serving.stores.base import EventRow

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


def event_rows(events: Sequence[tuple[int, Event]], received_us: int) -> tuple[list[EventRow], list[Rejection]]:
    """Rows of what can be stored, and a rejection for each of the others.

    Args:
        events: well-formed events, each with its index in the batch.
        received_us: the service's clock, microseconds.
    """
    rows: list[EventRow] = []
    rejected: list[Rejection] = []
    for index, event in events:
        try:
            rows.append(event_row(event, received_us, f"$.events[{index}]"))
        except UserError as error:
            rejected.append(rejection(index, error))
    return rows, rejected


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
        event_id=event.event_id,
        user_id=event.user_id,
        item_id=event.item_id,
        type=event.type,
        timestamp_us=time_us,
        received_us=received_us,
        value=event.value,
        session_id=event.session_id,
        decision_id=event.decision_id,
        props=props,
    )


def rejection(index: int, error: UserError) -> Rejection:
    """The answer's line for an event that is not stored."""
    return Rejection(index, msgspec.convert(error.code, HttpCode), str(error), error.where)
