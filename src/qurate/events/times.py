"""Timestamps: which unit or format a column has, and the expression that turns it into UTC microseconds."""

from datetime import UTC, datetime, timedelta

import polars as pl

from qurate.errors import Code, UserError
from qurate.events.schema import TIME

EARLIEST = int(datetime(1971, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
LATEST = int(datetime(2200, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
"""Microseconds; a time outside has the wrong unit or was never set."""

FUTURE_SLACK = timedelta(days=1)
"""A time later than this from now is a fault; a local time without its zone may be half a day ahead."""

ORDER_EPOCH = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
"""Logs without time: their rows stand one second apart, from here."""

UNITS = {"s": 1_000_000.0, "ms": 1_000.0, "us": 1.0, "ns": 0.001}

FORMATS = (
    "%Y-%m-%dT%H:%M:%S%.f%#z",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d",
    "%m/%d/%Y %I:%M:%S %p",
    "%Y/%m/%dT%H:%M:%S%.f",
)
"""ISO 8601 with and without zone (without: UTC), a day, MIND's American form, slashes. No text fits two of them."""


def unit_of(typical: float) -> str | None:
    """The unit of a time since 1970 of this size: s | ms | us | ns, or None for a number that is no such time."""
    for unit, low in (("s", 1e8), ("ms", 1e11), ("us", 1e14), ("ns", 1e17)):
        if low <= typical < low * 1e3:
            return unit
    return None


def parse_time(column: str, dtype: pl.DataType, sample: pl.Series, where: str) -> tuple[pl.Expr, str]:
    """An expression giving TIME (null where unreadable), and the unit: s | ms | us | ns | text | datetime.

    Args:
        column: name of the column, of type `dtype`.
        sample: some thousands of its values, to tell the unit from.
        where: file and column, for the error.

    Raises:
        UserError: numbers that are no time since 1970 in any unit, text in no known format, or neither.
    """
    raw = pl.col(column)
    known = sample.drop_nulls()
    if dtype.is_nested() or dtype in (pl.Duration, pl.Time):
        got, hint = f"a column of type {dtype}", "name the right column with --map timestamp=COLUMN"
        raise UserError("timestamps", got, where=where, hint=hint, code=Code.BAD_TIME)
    if dtype.is_temporal():
        zone = getattr(dtype, "time_zone", None)
        moment = raw.cast(pl.Datetime("us", zone))
        return (moment.dt.convert_time_zone("UTC") if zone else moment.dt.replace_time_zone("UTC")), "datetime"
    if dtype.is_numeric():
        return _numeric(raw, known.cast(pl.Float64), where)
    if dtype != pl.String:
        raw, known = raw.cast(pl.String), known.cast(pl.String)
    numbers = known.cast(pl.Float64, strict=False).drop_nulls()
    if len(known) == 0 or len(numbers) >= len(known) / 2:
        return _numeric(raw, numbers, where)
    return _text(raw, known, where)


def _numeric(raw: pl.Expr, known: pl.Series, where: str) -> tuple[pl.Expr, str]:
    known = known.filter(known.is_finite())
    typical = known.median() if len(known) else None
    if not isinstance(typical, float):
        raise UserError(
            "timestamps", "an empty column", where=where, hint="name the right column with --map timestamp=COLUMN", code=Code.BAD_TIME
        )
    unit = unit_of(abs(typical))
    if unit is None:
        got = f"numbers like {typical:g}" + (" (January 1970 in any unit)" if 0 <= typical < 1e8 else "")
        raise UserError(
            "times since 1970 in s, ms, us or ns",
            got,
            where=where,
            hint="name the right column with --map timestamp=COLUMN",
            code=Code.BAD_TIME,
        )
    # Whole numbers stay integers: a float64 holds microseconds of today only to a quarter of one.
    whole = raw.cast(pl.Int64, strict=False)
    exact = whole // 1000 if unit == "ns" else whole * int(UNITS[unit])
    scaled = (raw.cast(pl.Float64, strict=False) * UNITS[unit]).round()
    rounded = pl.when(scaled.abs() < 9e18).then(scaled).cast(pl.Int64, strict=False)
    in_range = whole.abs() < 2**63 // int(max(UNITS[unit], 1.0))
    is_whole = raw.cast(pl.Float64, strict=False) == whole.cast(pl.Float64)
    return pl.when(in_range & is_whole).then(exact).otherwise(rounded).cast(TIME), unit


def _text(raw: pl.Expr, known: pl.Series, where: str) -> tuple[pl.Expr, str]:
    matching = [f for f in FORMATS if pl.select(_parse(pl.lit(known), f)).to_series().is_not_null().any()]
    if not matching:
        got = f"text like {known[0]!r}"
        raise UserError(
            "ISO 8601 timestamps or times since 1970",
            got,
            where=where,
            hint="write 2024-05-31T12:00:00Z, or epoch seconds",
            code=Code.BAD_TIME,
        )
    return pl.coalesce([_parse(raw, f) for f in matching]), "text"


def _parse(raw: pl.Expr, form: str) -> pl.Expr:
    tidy = raw.str.strip_chars().str.replace(r"^(\d{4}[-/]\d{2}[-/]\d{2}) +(\d)", "${1}T$2").str.replace(r" ?(UTC|Z)$", "+00:00")
    return tidy.str.to_datetime(form, time_unit="us", time_zone="UTC", strict=False)
