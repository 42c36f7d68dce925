"""`validate`: what is wrong with a log, check by check, with counts and the first rows.

A check fails where more than `max_bad` of its rows are affected, the same limit at which `ingest` refuses. What
`ingest` repairs by itself (order, single duplicates) is counted and passes.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any

import polars as pl

from qurate.events.problems import FUTURE
from qurate.events.schema import DUPLICATE, FILE_ROWS, STANDARD_TYPES, EventLog
from qurate.events.times import FUTURE_SLACK

FIRST = 5
"""So many row numbers stand in each check."""
DAY_S = 86_400.0


@dataclass(frozen=True)
class _Found:
    """Rows that a check is about."""

    count: int
    rows: list[int]
    of: int


def validate(log: EventLog, max_bad: float = 0.01, now: datetime | None = None) -> dict[str, Any]:
    """The contract's {"ok", "checks": [{"name", "ok", "count", "rows", "message"}]}; `rows` are lines of the source.

    Args:
        log: read with `max_bad=1.0`, so that the reader refuses nothing.
        max_bad: largest share of affected rows with which a check passes, 0..1.
        now: what counts as the present, default the clock.
    """
    checks = _rejected(log, max_bad)
    checks += [_future(log, max_bad, now or datetime.now(UTC)), _values(log, max_bad), _types(log), _order(log)]
    if log.decisions is not None:
        checks += _decisions(log, log.decisions, max_bad)
    return {"ok": all(check["ok"] for check in checks), "checks": checks}


def _check(name: str, found: _Found, max_bad: float, clean: str, fault: str) -> dict[str, Any]:
    share = found.count / found.of if found.of else 0.0
    message = clean if not found.count else f"{found.count:,} of {found.of:,} ({share:.2%}): {fault}"
    return {"name": name, "ok": share <= max_bad, "count": found.count, "rows": found.rows, "message": message}


def _rejected(log: EventLog, max_bad: float) -> list[dict[str, Any]]:
    """The checks on rows that the reader set aside already."""
    groups = (
        ("readable rows", r"fields? t|within a field|quotes|JSON object", "every row has its columns", "ragged or broken rows"),
        ("missing ids", r"missing (user_id|item_id|decision_id|type|shown)", "no id is missing", "rows without an id"),
        ("timestamps", r"timestamp", "every row has a time after 1970", "no time, or one of another unit"),
        ("numbers", r"not a number|NaN or infinite|float32", "numbers are finite", "text, NaN or infinity instead of a number"),
        ("text", r"not UTF-8", "ids are UTF-8", "another encoding; convert the file to UTF-8"),
        ("propensities", r"propensit", "probabilities are in (0, 1]", "outside (0, 1], or not one per item"),
    )
    bad = log.rejects.filter(~pl.col("reason").str.contains(f"({DUPLICATE}|{FUTURE})$"))
    checks = []
    for name, pattern, clean, fault in groups:
        if name == "propensities" and log.kind != "logged":
            continue
        mine = bad.filter(pl.col("reason").str.contains(pattern))
        lines = mine["line"].head(FIRST).to_list()
        reasons = ", ".join(mine["reason"].unique().sort().head(3).to_list())
        checks.append(_check(name, _Found(mine.height, lines, log.rows), max_bad, clean, f"{fault} ({reasons})"))
    double = log.rejects.filter(pl.col("reason").str.ends_with(DUPLICATE))
    found = _Found(double.height, double["line"].head(FIRST).to_list(), log.rows)
    return [*checks, _check("duplicates", found, max(max_bad, 0.01), "no row stands twice", "rows that stand twice; ingest drops them")]


def _count(rows: pl.LazyFrame, wrong: pl.Expr) -> _Found:
    """How many rows are wrong, and the first of them."""
    flagged = rows.select("row", wrong.fill_null(False).alias("wrong"))
    totals = flagged.select(pl.len().alias("of"), pl.col("wrong").sum().alias("count")).collect(engine="streaming")
    count = int(totals["count"][0] or 0)
    first = flagged.filter("wrong").select(pl.col("row").bottom_k(FIRST)).collect(engine="streaming")["row"].sort()
    return _Found(count, [int(row) % FILE_ROWS for row in first], int(totals["of"][0]))


def _future(log: EventLog, max_bad: float, now: datetime) -> dict[str, Any]:
    """Rows that the reader set aside by the clock, and those later than a `now` that the caller named."""
    late = log.rejects.filter(pl.col("reason").str.ends_with(FUTURE))["line"]
    kept = _count(log.events, pl.col("timestamp") > now + FUTURE_SLACK)
    found = _Found(kept.count + len(late), sorted([*late.head(FIRST), *kept.rows])[:FIRST], kept.of + len(late))
    return _check("no future", found, max_bad, "no event lies in the future", f"later than {now:%Y-%m-%d}; a clock or a unit is wrong")


def _values(log: EventLog, max_bad: float) -> dict[str, Any]:
    negative = pl.col("type").is_in(["watch", "purchase", "gift", "read", "listen"]) & (pl.col("value") < 0)
    endless = pl.col("type").is_in(["watch", "read"]) & (pl.col("value") > DAY_S)
    found = _count(log.events, negative | endless)
    return _check("impossible values", found, max_bad, "values are possible", "negative amounts, or more than a day watched in one go")


def _types(log: EventLog) -> dict[str, Any]:
    """Unknown event types are allowed: they are named so that a misspelt one is noticed."""
    counts = (
        log.events.group_by("type")
        .agg(pl.len().alias("n"), pl.col("row").min())
        .collect(engine="streaming")
        .sort("n", "type", descending=[True, False])
    )
    other = counts.filter(~pl.col("type").is_in(STANDARD_TYPES))
    names = ", ".join(f"{name} ({n:,})" for name, n in zip(counts["type"], counts["n"]))
    odd = [
        name + "".join(f" (did you mean {near}?)" for near in get_close_matches(name, STANDARD_TYPES, 1, 0.75)) for name in other["type"]
    ]
    message = f"types: {names}" + (f"; not standard: {', '.join(odd)}" if odd else "")
    rows = [int(row) % FILE_ROWS for row in other["row"].head(FIRST)]
    return {"name": "event types", "ok": counts.height > 0, "count": int(other["n"].sum()), "rows": rows, "message": message or "no event"}


def _order(log: EventLog) -> dict[str, Any]:
    """Rows after a later one of the same user. Ingest sorts them, or knows when they arrived, so this passes."""
    times = log.events.select("row", pl.col("user_id").hash(seed=1).alias("user"), "timestamp").collect(engine="streaming")
    times = times.with_columns(pl.int_range(pl.len()).alias("place")).sort("user", "place")
    back = (pl.col("user") == pl.col("user").shift(1)) & (pl.col("timestamp") < pl.col("timestamp").shift(1))
    wrong = times.filter(back)["row"].sort()
    rows = [int(row) % FILE_ROWS for row in wrong.head(FIRST)]
    arrived = log.decisions is not None and log.decisions.select("as_of").drop_nulls().head(1).collect().height > 0
    what = "they count from when they arrived" if arrived else "ingest sorts them"
    message = (
        f"{len(wrong):,} of {times.height:,} rows stand after a later one of the same user; {what}"
        if len(wrong)
        else "rows are in time order"
    )
    return {"name": "time order", "ok": True, "count": len(wrong), "rows": rows, "message": message}


def _decisions(log: EventLog, decisions: pl.LazyFrame, max_bad: float) -> list[dict[str, Any]]:
    """The checks between what was shown and what happened."""
    twice = _count(decisions, ~pl.col("decision_id").is_first_distinct())
    user = pl.coalesce("user_id", "session_id")  # the session stands for a missing user
    shown = decisions.select("decision_id", "shown", pl.col("timestamp").alias("decided"), user.alias("asker")).unique("decision_id")
    named = log.events.filter(pl.col("decision_id").is_not_null()).join(shown, on="decision_id", how="left")
    known = named.filter(pl.col("shown").is_not_null())
    unknown = _count(named, pl.col("shown").is_null())
    outside = _count(known, pl.col("item_id").is_not_null() & ~pl.col("item_id").is_in(pl.col("shown")))
    early = _count(known, pl.col("timestamp") < pl.col("decided"))
    foreign = _count(known, user != pl.col("asker"))
    checks = _ended(log.items, decisions, max_bad)
    repeats = _count(decisions, pl.col("shown").list.n_unique() < pl.col("shown").list.len())
    return [
        _check("decision ids", twice, max_bad, "every decision has its own id", "decision ids that stand twice"),
        _check("known decisions", unknown, max_bad, "events name decisions that exist", "events name a decision that is not in the log"),
        _check("clicked was shown", outside, max_bad, "answered items were in the shown list", "the item was not in the shown list"),
        _check("answers follow", early, max_bad, "events follow their decision", "events earlier than the decision they answer"),
        _check("same user", foreign, max_bad, "answers come from the user who was asked", "events name another user's decision"),
        _check("shown once", repeats, max_bad, "no list shows an item twice", "lists that show an item twice"),
        *checks,
    ]


def _ended(items: pl.LazyFrame | None, decisions: pl.LazyFrame, max_bad: float) -> list[dict[str, Any]]:
    """The check on shown items that had ended, where the log's items have an end. Their propensities cannot be right."""
    if items is None or "available_until" not in items.collect_schema():
        return []
    ends = items.select(pl.col("item_id").alias("shown"), "available_until").unique("shown", keep="last")
    shown = decisions.select("row", "timestamp", "shown").explode("shown").join(ends, on="shown", how="left")
    late = _count(shown, pl.col("timestamp") >= pl.col("available_until"))
    return [_check("shown while available", late, max_bad, "no item was shown after its end", "items shown after their available_until")]
