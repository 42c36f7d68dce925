"""`validate`: what is wrong with a log, check by check, with counts and the first rows. `ingest` refuses what fails here.

A check fails where more than `max_bad` of its rows are affected. What is repaired without loss (order, duplicates) is
counted and passes.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any

import polars as pl

from qurate.events.reasons import Reason
from qurate.events.roles import RETURN
from qurate.events.schema import FILE_ROWS, OF_DECISIONS, STANDARD_TYPES, EventLog
from qurate.events.times import FUTURE_SLACK

FIRST = 5
"""So many row numbers stand in each check."""
DAY_S = 86_400.0

NEVER_NEGATIVE = ("watch", "purchase", "gift", "read", "listen")
SIGNED = ("rating", "reward", RETURN)
"""Types whose values may well be negative."""


@dataclass(frozen=True)
class _Found:
    """Rows that a check is about."""

    count: int
    rows: list[int]
    of: int


def validate(log: EventLog, max_bad: float = 0.01, now: datetime | None = None, order: bool = True) -> dict[str, Any]:
    """The contract's {"ok", "checks": [{"name", "ok", "count", "rows", "message"}]}; `rows` are lines of the source.

    Args:
        log: read with `max_bad=1.0`, so that the reader refuses nothing.
        max_bad: largest share of affected rows with which a check passes, 0..1.
        now: what counts as the present, default the clock.
        order: also count rows that stand after a later one, which costs a pass and never fails.
    """
    present = (now or datetime.now(UTC)) + FUTURE_SLACK
    totals = _totals(log, present)
    checks = [*_rejected(log, max_bad), _future(log, totals, max_bad, present), _values(log, totals, max_bad), _types(totals)]
    checks += [_order(log)] if order else []
    if log.decisions is not None:
        checks += _decisions(log, log.decisions, max_bad)
    return {"ok": all(check["ok"] for check in checks), "checks": checks}


def _check(name: str, found: _Found, max_bad: float, clean: str, fault: str) -> dict[str, Any]:
    share = found.count / found.of if found.of else 0.0
    message = clean if not found.count else f"{found.count:,} of {found.of:,} ({share:.2%}): {fault}"
    return {"name": name, "ok": share <= max_bad, "count": found.count, "rows": found.rows, "message": message}


CHECKS = {
    Reason.BROKEN.check: ("every row has its columns", "ragged or broken rows"),
    Reason.MISSING.check: ("no id is missing", "rows without an id"),
    Reason.NO_TIME.check: ("every row has a time after 1970", "no time, or one of another unit"),
    Reason.NO_NUMBER.check: ("numbers are finite", "text, NaN or infinity instead of a number"),
    Reason.NOT_UTF8.check: ("ids are UTF-8", "another encoding; say which with --encoding, or convert the file to UTF-8"),
    Reason.PROPENSITY.check: ("probabilities are in (0, 1]", "outside (0, 1], or not one per item"),
    Reason.CANDIDATE_COUNT.check: ("as many numbers as candidates", "what is said of each candidate does not fit the list"),
}
"""Check -> what it says when nothing was set aside for it, and what the fault is."""


def _rejected(log: EventLog, max_bad: float) -> list[dict[str, Any]]:
    """The checks on rows that the reader set aside already."""
    checks = []
    for name, (clean, fault) in CHECKS.items():
        mine = log.rejects.filter(pl.col("code").is_in([reason.value for reason in Reason if reason.check == name]))
        if name == Reason.PROPENSITY.check and log.kind != "logged" and not mine.height:
            continue
        if name == Reason.CANDIDATE_COUNT.check and not mine.height:
            continue
        lines = mine["line"].head(FIRST).to_list()
        reasons = ", ".join(mine["reason"].unique().sort().head(3).to_list())
        checks.append(_check(name, _Found(mine.height, lines, log.rows), max_bad, clean, f"{fault} ({reasons})"))
    bad = log.rejects.filter(pl.col("code") != Reason.DUPLICATE)
    several = bad["code"].n_unique() > 1
    found = _Found(log.bad_rows if several else 0, bad["line"].head(FIRST).to_list() if several else [], log.rows)
    checks.append(_check("bad rows together", found, max_bad, "no more than one kind of fault", "bad rows of all kinds"))
    if log.decision_rows:  # of few decisions beside many events all may be bad
        mine = bad.filter(pl.col("reason").str.starts_with(OF_DECISIONS))
        found, reasons = (
            _Found(mine.height, mine["line"].head(FIRST).to_list(), log.decision_rows),
            ", ".join(mine["reason"].unique().sort().head(3)),
        )
        checks.append(_check("decisions", found, max_bad, "every row of the decisions table can be read", f"bad rows ({reasons})"))
    double = log.rejects.filter(pl.col("code") == Reason.DUPLICATE)
    found = _Found(double.height, double["line"].head(FIRST).to_list(), log.rows)
    fault = "rows that stand twice; ingest drops them, and --keep-duplicates keeps them"
    return [*checks, _check("duplicates", found, 1.0, "no row stands twice", fault)]


def _totals(log: EventLog, present: datetime) -> pl.DataFrame:
    """Per type: `n` rows, the first `row`, and how many are `late`, `negative`, `endless`; one pass over the events."""
    kinds = log.events.group_by("type").agg(
        pl.len().alias("n"),
        pl.col("row").min().alias("first"),
        (pl.col("timestamp") > present).sum().alias("late"),
        (pl.col("value") < 0).sum().alias("negative"),
        (pl.col("value") > DAY_S).sum().alias("endless"),
    )
    return kinds.collect(engine="streaming").sort("n", "type", descending=[True, False])


def _count(rows: pl.LazyFrame, *checks: tuple[pl.Expr, pl.Expr]) -> list[_Found]:
    """For each check, (rows that it is about, wrong ones): how many are wrong, and the first of them. One pass over the rows."""
    flags = [
        flag.fill_null(False).alias(f"{place}")
        for place, flag in enumerate(one for about, wrong in checks for one in (about, about & wrong))
    ]
    totals = [int(n or 0) for n in rows.select(flags).sum().collect(engine="streaming").row(0)]
    counts = zip(checks, totals[::2], totals[1::2])
    return [_Found(count, _first(rows, about & wrong) if count else [], of) for (about, wrong), of, count in counts]


def _first(rows: pl.LazyFrame, wrong: pl.Expr) -> list[int]:
    first = rows.filter(wrong).select(pl.col("row").bottom_k(FIRST)).collect(engine="streaming")["row"].sort()
    return [int(row) % FILE_ROWS for row in first]


def _future(log: EventLog, totals: pl.DataFrame, max_bad: float, present: datetime) -> dict[str, Any]:
    """Rows that the reader set aside by the clock, and those later than a `now` that the caller named."""
    late = log.rejects.filter(pl.col("code") == Reason.FUTURE)["line"]
    kept = int(totals["late"].sum())
    rows = _first(log.events, pl.col("timestamp") > present) if kept else []
    found = _Found(kept + len(late), sorted([*late.head(FIRST), *rows])[:FIRST], int(totals["n"].sum()) + len(late))
    now = present - FUTURE_SLACK
    return _check("no future", found, max_bad, "no event lies in the future", f"later than {now:%Y-%m-%d}; a clock or a unit is wrong")


def _values(log: EventLog, totals: pl.DataFrame, max_bad: float) -> dict[str, Any]:
    """Impossible values fail; values below 0 of any other type, and returns, are named."""
    timed = pl.col("type").is_in(["watch", "read"]) & (pl.col("value") > DAY_S)
    wrong = (pl.col("type").is_in(NEVER_NEGATIVE) & (pl.col("value") < 0)) | timed
    below = totals.filter((pl.col("negative") > 0) & pl.col("type").is_in(NEVER_NEGATIVE))
    endless = totals.filter((pl.col("endless") > 0) & pl.col("type").is_in(["watch", "read"]))
    count = int(below["negative"].sum()) + int(endless["endless"].sum())
    found = _Found(count, _first(log.events, wrong) if count else [], int(totals["n"].sum()))
    check = _check("impossible values", found, max_bad, "values are possible", "negative amounts, or more than a day watched in one go")
    for kind, n in totals.filter(~pl.col("type").is_in([*NEVER_NEGATIVE, *SIGNED])).select("type", "negative").rows():
        if n:
            hint = f"if they are returns, --type purchase makes them events of type {RETURN}"
            check["message"] += f"; {n:,} {kind} events have a negative value: {hint}"
    for n in totals.filter(pl.col("type") == RETURN)["n"]:
        check["message"] += f"; {n:,} purchases of a negative value are events of type {RETURN}: weigh them with --rewards {RETURN}=-5"
    return check


def _types(counts: pl.DataFrame) -> dict[str, Any]:
    """Unknown event types are allowed: they are named so that a misspelt one is noticed."""
    other = counts.filter(~pl.col("type").is_in([*STANDARD_TYPES, RETURN]))
    names = ", ".join(f"{name} ({n:,})" for name, n in zip(counts["type"], counts["n"]))
    odd = [
        name + "".join(f" (did you mean {near}?)" for near in get_close_matches(name, STANDARD_TYPES, 1, 0.75)) for name in other["type"]
    ]
    if not counts.height:
        message = "no event: no row says what was chosen; if a column does, name it with --map (--plan shows what each is)"
        return {"name": "event types", "ok": False, "count": 0, "rows": [], "message": message}
    message = f"types: {names}" + (f"; not standard: {', '.join(odd)}" if odd else "")
    rows = [int(row) % FILE_ROWS for row in other["first"].head(FIRST)]
    return {"name": "event types", "ok": True, "count": int(other["n"].sum()), "rows": rows, "message": message}


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


UNLISTED = "shown was a candidate"
ABOUT_LISTS = ("decision ids", UNLISTED, "shown once", "shown while available")
"""Checks whose rows are those of decisions; of the others they are those of events."""


def _decisions(log: EventLog, decisions: pl.LazyFrame, max_bad: float) -> list[dict[str, Any]]:
    """The checks between what was shown and what happened."""
    every = pl.lit(True)
    again = pl.col("shown").list.n_unique() < pl.col("shown").list.len()
    twice, repeats = _count(
        decisions.with_columns(~pl.col("decision_id").is_first_distinct().alias("twice")), (every, pl.col("twice")), (every, again)
    )
    strange = pl.col("shown").list.set_difference("candidates").list.len() > 0
    (unlisted,) = _count(decisions.filter(pl.col("candidates").is_not_null()), (every, strange))
    user = pl.coalesce("user_id", "session_id")  # the session stands for a missing user
    shown = decisions.select("decision_id", "shown", pl.col("timestamp").alias("decided"), user.alias("asker")).unique("decision_id")
    named = log.events.filter(pl.col("decision_id").is_not_null()).join(shown, on="decision_id", how="left")
    known = pl.col("shown").is_not_null()
    unknown, outside, early, foreign = _count(
        named,
        (every, ~known),
        (known, pl.col("item_id").is_not_null() & ~pl.col("item_id").is_in(pl.col("shown"))),
        (known, pl.col("timestamp") < pl.col("decided")),
        (known, user != pl.col("asker")),
    )
    checks = _ended(log.items, decisions, max_bad)
    return [
        _check("decision ids", twice, max_bad, "every decision has its own id", "decision ids that stand twice"),
        _check("known decisions", unknown, max_bad, "events name decisions that exist", "events name a decision that is not in the log"),
        _check("clicked was shown", outside, max_bad, "answered items were in the shown list", "the item was not in the shown list"),
        _check("answers follow", early, max_bad, "events follow their decision", "events earlier than the decision they answer"),
        _check("same user", foreign, max_bad, "answers come from the user who was asked", "events name another user's decision"),
        _check(
            UNLISTED,
            unlisted,
            max_bad,
            "every item shown was a candidate",
            "an item was shown that is not among the candidates of its decision; list all that could be shown, or leave candidates out",
        ),
        _check("shown once", repeats, max_bad, "no list shows an item twice", "lists that show an item twice"),
        *checks,
    ]


def _ended(items: pl.LazyFrame | None, decisions: pl.LazyFrame, max_bad: float) -> list[dict[str, Any]]:
    """The check on shown items that had ended, where the log's items have an end. Their propensities cannot be right."""
    if items is None or "available_until" not in items.collect_schema():
        return []
    ends = items.select(pl.col("item_id").alias("shown"), "available_until").unique("shown", keep="last")
    shown = decisions.select("row", "timestamp", "shown").explode("shown").join(ends, on="shown", how="left")
    (late,) = _count(shown, (pl.lit(True), pl.col("timestamp") >= pl.col("available_until")))
    return [_check("shown while available", late, max_bad, "no item was shown after its end", "items shown after their available_until")]
