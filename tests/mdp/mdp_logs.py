"""Small logs written by hand."""

from typing import Any

import polars as pl

from qurate.events.schema import DECISION_COLUMNS, EVENT_COLUMNS, EventLog, Kind, empty_rejects

SECOND = 1_000_000


def event(user: str | None, item: str | None, at: float, type: str = "click", **more: Any) -> dict[str, Any]:
    """One event, `at` seconds after 1970."""
    return {"user_id": user, "item_id": item, "timestamp": round(at * SECOND), "type": type, **more}


def decision(name: str, user: str | None, shown: list[str], at: float, **more: Any) -> dict[str, Any]:
    """One decision, `at` seconds after 1970."""
    return {"decision_id": name, "user_id": user, "shown": shown, "timestamp": round(at * SECOND), **more}


def make_log(
    events: list[dict[str, Any]],
    decisions: list[dict[str, Any]] | None = None,
    kind: Kind = "organic",
    items: pl.DataFrame | None = None,
    users: pl.DataFrame | None = None,
    **more: Any,
) -> EventLog:
    """An `EventLog` from rows; `row` is the place in the list."""
    numbered = [{"row": i, **row} for i, row in enumerate(events)]
    table = pl.DataFrame(numbered, schema={k: pl.Int64 if k == "timestamp" else v for k, v in EVENT_COLUMNS.items()})
    shown = None
    if decisions is not None:
        schema = {k: pl.Int64 if k == "timestamp" else v for k, v in DECISION_COLUMNS.items()}
        extra = {"as_of": pl.Int64} if any("as_of" in row for row in decisions) else {}
        shown = pl.DataFrame(decisions, schema={**schema, **extra}).with_columns(_time()).lazy()
    return EventLog(
        events=table.with_columns(_time()).lazy(),
        decisions=shown,
        items=None if items is None else items.lazy(),
        users=None if users is None else users.lazy(),
        layout="qurate",
        kind=kind,
        time_unit=more.pop("time_unit", "us"),
        rejects=empty_rejects(),
        **more,
    )


def _time() -> pl.Expr:
    return pl.col("timestamp").cast(pl.Datetime("us", "UTC"))
