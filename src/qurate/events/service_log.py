"""The service's store (`qurate serve --data DIR`) as a log: what was shown with its probabilities, and what came back."""

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import apsw
import polars as pl

from qurate.errors import Code, MachineError, UserError
from qurate.events.schema import CANDIDATE, DECISION_COLUMNS, EVENT_COLUMNS, EXCLUDED, EventLog, empty_rejects
from qurate.events.side_tables import features_beside

BATCH = 50_000
REWARDS = "model-rewards.json"
"""Beside the store: the weights of the model that the service answers with."""
BUSY_MS = 5_000

EVENTS_SQL = (
    """SELECT event_id, user_id, item_id, type, timestamp_us, value, session_id, decision_id, props, seq FROM events ORDER BY seq"""
)
DECISIONS_SQL = """SELECT decision_id, user_id, timestamp_us, session_id, shown, propensity, candidates, policy, seq, as_of, excluded{more}
FROM decisions ORDER BY seq"""
FEATURES_SQL = (
    "SELECT DISTINCT key FROM decisions, json_each(decisions.candidate_features) WHERE candidate_features IS NOT NULL ORDER BY key LIMIT ?"
)
MOST_FEATURES = 1_000
"""Different names that requests may have given in all: each becomes a column of every decision."""
CONTEXTS_SQL = """SELECT user_id, context FROM decisions WHERE context IS NOT NULL ORDER BY seq"""


def read_store(path: Path) -> EventLog:
    """A *logged* EventLog from events.sqlite, also while the service is running; `row` is the store's sequence number.

    Raises:
        UserError: not a store of the service, or nothing in it yet.
        MachineError: the file cannot be read.
    """
    try:
        store = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            store.set_busy_timeout(BUSY_MS)
            # One read transaction: events and decisions of the same moment, whatever the service writes meanwhile.
            with store:
                events = _read(store, EVENTS_SQL, _event, EVENT_COLUMNS)
                answers = _decisions(store)
                users, changed = _users(store)
        finally:
            store.close()
    except (apsw.NotADBError, apsw.SQLError, apsw.CorruptError, ValueError) as error:
        raise UserError(
            "a store of qurate serve", str(error), where=str(path), hint="give the --data directory of the service", code=Code.BAD_STORE
        ) from None
    except apsw.Error as error:
        raise MachineError(
            "a readable store", str(error), where=str(path), hint="check permissions and free space", code=Code.UNREADABLE
        ) from None
    decisions = answers.filter(pl.col("shown").list.len() > 0)
    if decisions.height == 0:
        raise UserError(
            "at least one decision",
            "a store without any",
            where=str(path),
            hint="let the service answer some requests first",
            code=Code.EMPTY_FILE,
        )
    empty = answers.height - decisions.height
    notes = [f"{empty:,} answers without an item left out"] if empty else []
    if changed:
        notes.append(f"{changed:,} requests gave a customer other features than before: the first ones are kept")
    return EventLog(
        events=events.lazy(),
        decisions=decisions.lazy(),
        items=features_beside(path, items="items").get("items"),
        users=users,
        layout="qurate",
        kind="logged",
        time_unit="us",
        rejects=empty_rejects(),
        typed_notes=notes,
        source=[str(path)],
        rows=events.height + decisions.height,
        files=[_described(path)],
        rewards=_rewards(path),
    )


def _described(path: Path) -> dict[str, Any]:
    """The store in a plan, see `events.described`."""
    columns = [{"column": name, "role": name, "nearest": None, "assumed": False} for name in EVENT_COLUMNS if name not in ("row", "split")]
    form = {"file": str(path), "format": "store of qurate serve", "container": ""}
    return {**form, "layout": "qurate", "type_from": "the events that the service was sent", "columns": columns, "map": {}, "type": None}


def _rewards(path: Path) -> dict[str, Any] | None:
    """What an event is worth to the model that the service answers with, as it wrote it beside its store."""
    try:
        content = json.loads((path.parent / REWARDS).read_bytes())
    except (OSError, ValueError):  # of an older version, or a store that was moved without it
        return None
    return content if isinstance(content, dict) and content else None


def _users(store: apsw.Connection) -> tuple[pl.LazyFrame | None, int]:
    """What requests said about each customer (`context`), the first value of each feature; and how often it changed.

    A dataset's user features hold for the customer's whole history, so a later value may not stand in an earlier state.
    """
    seen: dict[str, dict[str, Any]] = {}
    changed = 0
    for user_id, text in store.execute(CONTEXTS_SQL):
        said = json.loads(text)
        known = seen.setdefault(user_id, dict(said))
        if known != said:
            changed += any(known.setdefault(name, value) != value for name, value in said.items())
    names = sorted({name for known in seen.values() for name in known} - {"user_id"})
    if not names:
        return None, 0
    columns = {name: _column([known.get(name) for known in seen.values()]) for name in names}
    return pl.LazyFrame({"user_id": pl.Series(list(seen), dtype=pl.String), **columns}), changed


def _column(values: list[Any]) -> pl.Series:
    """One feature: numbers where all are, lists where all are, else text."""
    given = [value for value in values if value is not None]
    if all(isinstance(value, int | float) for value in given):
        return pl.Series([None if value is None else float(value) for value in values], dtype=pl.Float64)
    if all(isinstance(value, list) for value in given):
        return pl.Series(values, dtype=pl.List(pl.String))
    return pl.Series([value if value is None or isinstance(value, str) else json.dumps(value) for value in values], dtype=pl.String)


def _read(store: apsw.Connection, sql: str, convert: Any, columns: dict[str, pl.DataType]) -> pl.DataFrame:
    cursor = store.execute(sql)
    parts = [pl.DataFrame(schema=columns)]
    while batch := list(islice(cursor, BATCH)):
        raw = {name: (pl.Int64() if name == "timestamp" else dtype) for name, dtype in columns.items()}
        part = pl.DataFrame([convert(record) for record in batch], schema=raw, orient="row")
        parts.append(part.with_columns(pl.col("timestamp").cast(columns["timestamp"])))
    return pl.concat(parts)


def _event(record: Sequence[Any]) -> tuple[Any, ...]:
    *fields, row = record
    return (*fields, None, row)


def _decisions(store: apsw.Connection) -> pl.DataFrame:
    """The answers, with what requests said of their candidates (`candidate.NAME`); stores of version 1 have nothing of it."""
    with_features = int(next(store.execute("PRAGMA user_version"))[0]) >= 2
    names = [name for (name,) in store.execute(FEATURES_SQL, (MOST_FEATURES + 1,))] if with_features else []
    if len(names) > MOST_FEATURES:
        got, hint = f"more than {MOST_FEATURES}", "requests should say the same few things of their candidates"
        raise UserError(f"at most {MOST_FEATURES} names of candidate features", got, where="the store", hint=hint, code=Code.BAD_STORE)
    columns = DECISION_COLUMNS | EXCLUDED | {CANDIDATE + name: pl.List(pl.Float64()) for name in names}
    sql = DECISIONS_SQL.format(more=", candidate_features" if names else "")
    return _read(store, sql, lambda record: _decision(record, names), columns)


def _decision(record: Sequence[Any], names: Sequence[str]) -> tuple[Any, ...]:
    decision_id, user_id, time, session_id, shown, propensity, candidates, policy, row, as_of, excluded, *said = record
    *lists, left_out = (None if text is None else json.loads(text) for text in (shown, propensity, candidates, excluded))
    features = json.loads(said[0]) if said and said[0] is not None else {}
    return (decision_id, user_id, time, session_id, *lists, policy, None, row, as_of, left_out, *(features.get(name) for name in names))
