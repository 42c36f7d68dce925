"""Why a row is bad: missing ids, no time, numbers that are none, bytes that are not text."""

from datetime import UTC, datetime

import polars as pl

from qurate.events.fields import EMIT_VALUE, Columns, Fields, Layout
from qurate.events.schema import FLOAT32_MAX
from qurate.events.sources import BROKEN, EXTRA
from qurate.events.times import EARLIEST, FUTURE_SLACK, LATEST

IDS = ("user_id", "item_id", "type", "session_id", "decision_id", "event_id")
ID_LISTS = ("_shown", "_candidates", "_clicked", "_history")
FLOAT32_TINY = 1.1754943508222875e-38
"""Least propensity, as training holds it: below, its inverse is infinite."""

UNREADABLE = "unreadable timestamp"
FUTURE = "timestamp in the future"
"""How the reason ends under which `validate` counts such rows."""

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def problem(layout: Layout, fields: Fields, columns: Columns, lossy: bool) -> pl.Expr:
    """Why a row is bad, or null. The first reason that holds is given.

    Args:
        layout: of the rows.
        fields: what the layout makes of them.
        columns: of the source.
        lossy: whether bytes that are not UTF-8 have become replacement characters.
    """
    found: list[pl.Expr] = []

    def say(condition: pl.Expr, reason: str) -> None:
        found.append(pl.when(condition).then(pl.lit(reason)))

    if BROKEN in columns:
        found.append(pl.col(BROKEN))
    if EXTRA in columns:
        say(pl.col(EXTRA).is_not_null(), "more fields than the header")
    for name in layout.required:
        say(fields[name].is_null(), f"missing {name.removeprefix('_')}")
    found += _time_problems(layout, columns)
    for name in layout.numbers:
        if name in columns:
            say(pl.col(name).is_not_null() & pl.col(name).cast(pl.Float64, strict=False).is_null(), f"{name} is not a number")
            found += _number_problems(pl.col(name).cast(pl.Float64, strict=False), name)
    for name, field in fields.items():
        if name == "value" or name.startswith(EMIT_VALUE):
            found += _number_problems(field, "value")
    if lossy:
        found += _text_problems(fields)
    if "_shown" in fields:
        say(fields["_shown"].list.eval(pl.element().is_null()).list.any(), "missing item_id in the shown list")
    if "_propensity" in fields:
        share = fields["_propensity"]
        say(~share.is_between(FLOAT32_TINY, 1).fill_null(False), "propensity outside (0, 1]")
    if "_propensity_list" in fields:
        found += _propensity_problems(fields["_shown"], fields["_propensity_list"])
    return pl.coalesce(found) if found else pl.lit(None, pl.String)


def _time_problems(layout: Layout, columns: Columns) -> list[pl.Expr]:
    time = next((one for one in layout.time if one in columns), None)
    if time is None:
        return []
    moment = pl.col("_moment").cast(pl.Int64)
    soon = int((datetime.now(UTC) + FUTURE_SLACK).timestamp()) * 1_000_000
    return [
        pl.when(pl.col(time).is_null()).then(pl.lit("missing timestamp")),
        pl.when(moment.is_null()).then(pl.lit(UNREADABLE)),
        pl.when(moment < EARLIEST).then(pl.lit("timestamp in 1970 (never set, or a wrong unit)")),
        pl.when(moment >= LATEST).then(pl.lit("timestamp after 2199 (a wrong unit)")),
        pl.when(moment > soon).then(pl.lit(FUTURE)),
    ]


def _number_problems(number: pl.Expr, name: str) -> list[pl.Expr]:
    """Training and serving hold values as float32."""
    return [
        pl.when(number.is_not_null() & ~number.is_finite()).then(pl.lit(f"{name} is NaN or infinite")),
        pl.when(number.abs() >= FLOAT32_MAX).then(pl.lit(f"{name} is beyond float32")),
    ]


def _text_problems(fields: Fields) -> list[pl.Expr]:
    """Ids that differ in such a byte would become one."""
    lossy = [(name, fields[name].cast(pl.String).str.contains(REPLACEMENT, literal=True)) for name in IDS if name in fields]
    for name in ID_LISTS:
        if name in fields:
            lossy.append((name[1:], fields[name].list.eval(pl.element().str.contains(REPLACEMENT, literal=True)).list.any()))
    return [pl.when(broken).then(pl.lit(f"{name} is not UTF-8")) for name, broken in lossy]


def _propensity_problems(shown: pl.Expr, propensity: pl.Expr) -> list[pl.Expr]:
    """Reasons why a decision's propensities are bad: another number than items, or values outside (0, 1]."""
    inside = propensity.list.eval(pl.element().is_between(FLOAT32_TINY, 1).fill_null(False)).list.all()
    return [
        pl.when(propensity.list.len() != shown.list.len()).then(pl.lit("as many propensities as items shown are needed")),
        pl.when(~inside).then(pl.lit("propensity outside (0, 1]")),
    ]
