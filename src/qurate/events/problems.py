"""Why a row is bad: missing ids, no time, numbers that are none, bytes that are not text."""

from datetime import UTC, datetime

import polars as pl

from qurate.events.candidate_rows import candidate_problems
from qurate.events.fields import EMIT_VALUE, MISSING, Columns, Fields, Layout
from qurate.events.reasons import Reason
from qurate.events.schema import FLOAT32_MAX
from qurate.events.sources import BROKEN, EXTRA
from qurate.events.times import EARLIEST, FUTURE_SLACK, LATEST

IDS = ("user_id", "item_id", "type", "session_id", "decision_id", "event_id")
ID_LISTS = ("_shown", "_candidates", "_clicked", "_history")
FLOAT32_TINY = 1.1754943508222875e-38
"""Least propensity, as training holds it: below, its inverse is infinite."""

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def problem(layout: Layout, fields: Fields, columns: Columns, lossy: bool) -> pl.Expr:
    """Why a row is bad (`Reason.of`), or null. The first reason that holds is given.

    Args:
        layout: of the rows.
        fields: what the layout makes of them.
        columns: of the source.
        lossy: whether bytes that are not UTF-8 have become replacement characters.
    """
    found: list[pl.Expr] = []

    def say(condition: pl.Expr, reason: Reason, about: str = "") -> None:
        found.append(_said(condition, reason, about))

    if BROKEN in columns:
        found.append(pl.when(pl.col(BROKEN).is_not_null()).then(pl.concat_str(pl.lit(Reason.BROKEN.of()), BROKEN)))
    if EXTRA in columns:
        say(pl.col(EXTRA).is_not_null(), Reason.EXTRA_FIELDS)
    for name in layout.required:
        say(fields[name].is_null(), Reason.MISSING, name.removeprefix("_"))
    found += _time_problems(layout, columns)
    for name in layout.numbers:
        if name in columns:
            say(_no_number(pl.col(name), columns[name]), Reason.NO_NUMBER, name)
            found += _number_problems(pl.col(name).cast(pl.Float64, strict=False), name)
    for name, field in fields.items():
        if name == "value" or name.startswith(EMIT_VALUE):
            found += _number_problems(field, "value")
    if lossy:
        found += _text_problems(fields)
    if "_shown" in fields:
        say(fields["_shown"].list.eval(pl.element().is_null()).list.any(), Reason.MISSING_SHOWN)
    if "_candidates" in fields:
        say(fields["_candidates"].list.eval(pl.element().is_null()).list.any(), Reason.MISSING_CANDIDATE)
    found += candidate_problems(fields, columns)
    if "_propensity" in fields:
        share = fields["_propensity"]
        say(~share.is_between(FLOAT32_TINY, 1).fill_null(False), Reason.PROPENSITY)
    if "_propensity_list" in fields:
        found += _propensity_problems(fields["_shown"], fields["_propensity_list"])
    return pl.coalesce(found) if found else pl.lit(None, pl.String)


def _no_number(raw: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Whether something stands there that is no number, and no word for a missing value either."""
    unread = raw.is_not_null() & raw.cast(pl.Float64, strict=False).is_null()
    return unread & ~raw.is_in(MISSING) if dtype == pl.String else unread


def _said(condition: pl.Expr, reason: Reason, about: str = "") -> pl.Expr:
    return pl.when(condition).then(pl.lit(reason.of(about)))


def _time_problems(layout: Layout, columns: Columns) -> list[pl.Expr]:
    time = next((one for one in layout.time if one in columns), None)
    if time is None:
        return []
    moment = pl.col("_moment").cast(pl.Int64)
    soon = int((datetime.now(UTC) + FUTURE_SLACK).timestamp()) * 1_000_000
    return [
        _said(pl.col(time).is_null(), Reason.NO_TIME),
        _said(moment.is_null(), Reason.UNREADABLE_TIME),
        _said(moment < EARLIEST, Reason.TIME_1970),
        _said(moment >= LATEST, Reason.TIME_2200),
        _said(moment > soon, Reason.FUTURE),
    ]


def _number_problems(number: pl.Expr, name: str) -> list[pl.Expr]:
    """Training and serving hold values as float32."""
    return [
        _said(number.is_not_null() & ~number.is_finite(), Reason.NOT_FINITE, name),
        _said(number.abs() >= FLOAT32_MAX, Reason.TOO_LARGE, name),
    ]


def _text_problems(fields: Fields) -> list[pl.Expr]:
    """Ids that differ in such a byte would become one."""
    lossy = [(name, fields[name].cast(pl.String).str.contains(REPLACEMENT, literal=True)) for name in IDS if name in fields]
    for name in ID_LISTS:
        if name in fields:
            lossy.append((name[1:], fields[name].list.eval(pl.element().str.contains(REPLACEMENT, literal=True)).list.any()))
    return [_said(broken, Reason.NOT_UTF8, name) for name, broken in lossy]


def _propensity_problems(shown: pl.Expr, propensity: pl.Expr) -> list[pl.Expr]:
    """Reasons why a decision's propensities are bad: another number than items, or values outside (0, 1]."""
    inside = propensity.list.eval(pl.element().is_between(FLOAT32_TINY, 1).fill_null(False)).list.all()
    return [
        _said(propensity.list.len() != shown.list.len(), Reason.PROPENSITY_COUNT),
        _said(~inside, Reason.PROPENSITY),
    ]
