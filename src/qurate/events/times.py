"""Timestamps: which unit or format a column has, and the expression that turns it into UTC microseconds."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl
from polars.exceptions import PolarsError

from qurate.errors import Code, UserError
from qurate.events.schema import TIME
from qurate.events.time_ends import MIDNIGHT_24, with_midnight_24, zones_said
from qurate.events.time_forms import COMPACT, FAMILIES, LONG_UNITS, SPREADSHEET, families_of, known_form, moment_of, together
from qurate.events.time_words import hint_for, rewritten

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
    "%Y/%m/%dT%H:%M:%S%.f",
)
"""ISO 8601 with and without zone (without: UTC), a day, slashes. No text fits two of them; the other forms are FAMILIES."""

COMPACT_DIGITS = (8, 10, 12, 14, 17)
"""Numbers of so many digits may be a day, and an hour, minute, second and millisecond of it, written together."""
MOSTLY = 0.99
"""Such a share of the numbers must be real days, for which the digits of any other number fit too seldom."""
DAY_US = 86_400_000_000
OLD = int(datetime(1995, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
"""Logs of customers are younger; older times count from another day, or in another unit."""


THIS_AGE = (946_684_800, 2_208_988_800)
"""From 2000 to 2040, in seconds."""
SPREADSHEET_1970 = 25_569
SPREADSHEET_DAYS = (33_000, 55_000)
"""From 1990 to 2050."""


@dataclass(frozen=True)
class Times:
    """How a column is read as times. `moment` gives TIME, null where unreadable."""

    moment: pl.Expr
    unit: str  # s | ms | us | ns | text | datetime
    form: str  # as people write it: epoch seconds, ISO 8601, M/D/Y, ...
    assumed: str = ""  # what the column does not say itself, in a sentence


def unit_of(typical: float) -> str | None:
    """The unit of a time since 1970 of this size: s | ms | us | ns, or None for a number that is no such time."""
    for unit, low in (("s", 1e8), ("ms", 1e11), ("us", 1e14), ("ns", 1e17)):
        if low <= typical < low * 1e3:
            return unit
    return None


def parse_time(column: str, dtype: pl.DataType, sample: pl.Series, where: str) -> tuple[pl.Expr, str]:
    """The expression and the unit of `read_time`, with nothing said by the user."""
    times = read_time(column, dtype, sample, where)
    return times.moment, times.unit


def read_time(
    column: str, dtype: pl.DataType, sample: pl.Series, where: str, *, form: str | None = None, frames: Sequence[pl.LazyFrame] = ()
) -> Times:
    """How a column is read as times.

    Args:
        column: name of the column, of type `dtype`.
        sample: some thousands of its values, to tell the unit from.
        where: file and column, for the error.
        form: what the user named: one of `time_forms.OPTIONS`, a pattern of strptime, or None.
        frames: have the whole column, that of this file first: day and month are told apart by any of its values. Without:
            by the sample.

    Raises:
        UserError: numbers that are no time since 1970 in any unit, text in no known form, day and month that cannot be
            told apart, or no times at all.
    """
    raw, form = pl.col(column), known_form(form)
    known = sample.drop_nulls()
    if dtype.is_nested() or dtype in (pl.Duration, pl.Time):
        got, hint = f"a column of type {dtype}", "name the right column with --map timestamp=COLUMN"
        raise UserError("timestamps", got, where=where, hint=hint, code=Code.BAD_TIME)
    if dtype.is_temporal():
        zone = getattr(dtype, "time_zone", None)
        moment = raw.cast(pl.Datetime("us", zone))
        moment = moment.dt.convert_time_zone("UTC") if zone else moment.dt.replace_time_zone("UTC")
        return Times(moment, "datetime", "a column of times")
    if dtype.is_numeric() and form is not None and "%" in form:
        raw, known = raw.cast(pl.Int64, strict=False).cast(pl.String), known.cast(pl.Int64, strict=False).cast(pl.String)
        dtype = pl.String()
    if dtype.is_numeric():
        return _numeric(raw, known.cast(pl.Float64), where, form)
    if dtype != pl.String:
        raw, known = raw.cast(pl.String), known.cast(pl.String)
    if form is None or "%" not in form:
        raw, known = rewritten(raw, known)
    numbers = known.cast(pl.Float64, strict=False).drop_nulls()
    written = form is not None and ("%" in form or (form in FAMILIES and form != COMPACT))
    if not written and (len(known) == 0 or len(numbers) >= len(known) / 2):
        return _numeric(raw, numbers, where, form)
    return _text(raw, known, where, form, [frame.select(raw.alias(column)) for frame in frames])


def _numeric(raw: pl.Expr, known: pl.Series, where: str, form: str | None) -> Times:
    known = known.filter(known.is_finite())
    typical = known.median() if len(known) else None
    if not isinstance(typical, float):
        raise UserError(
            "timestamps", "an empty column", where=where, hint="name the right column with --map timestamp=COLUMN", code=Code.BAD_TIME
        )
    if form == COMPACT or (form not in UNITS and _are_compact(known)):
        whole = pl.coalesce(raw.cast(pl.Int64, strict=False), raw.cast(pl.Float64, strict=False).cast(pl.Int64, strict=False))
        return Times(moment_of(whole.cast(pl.String), COMPACT), "text", COMPACT)
    if form == SPREADSHEET:
        seconds = ((raw.cast(pl.Float64, strict=False) - SPREADSHEET_1970) * 86_400).round()
        return Times((seconds.cast(pl.Int64, strict=False) * 1_000_000).cast(TIME), "text", "days of a spreadsheet")
    if form in LONG_UNITS:
        seconds = (raw.cast(pl.Float64, strict=False) * LONG_UNITS[form]).round()
        return Times((seconds.cast(pl.Int64, strict=False) * 1_000_000).cast(TIME), "text", f"{form} since 1970")
    unit = form if form in UNITS else unit_of(abs(typical))
    if unit is None:
        raise _no_time(known, typical, where)
    assumed = ""
    if form not in UNITS and abs(typical) * UNITS[unit] < OLD:
        year = 1970 + int(typical * UNITS[unit] / (365.2425 * DAY_US))
        if unit == "ns":
            got = f"numbers like {typical:g} ({year} in ns)"
            hint = "they may be ticks of 100 ns since 1601 or since the year 1: write them as dates"
            raise UserError("times since 1970 in s, ms, us or ns", got, where=where, hint=hint, code=Code.BAD_TIME)
        assumed = f"numbers like {typical:g} are read as {unit} since 1970, of the year {year}: is that so?"
    # Whole numbers stay integers: a float64 holds microseconds of today only to a quarter of one.
    whole = raw.cast(pl.Int64, strict=False)
    exact = whole // 1000 if unit == "ns" else whole * int(UNITS[unit])
    scaled = (raw.cast(pl.Float64, strict=False) * UNITS[unit]).round()
    rounded = pl.when(scaled.abs() < 9e18).then(scaled).cast(pl.Int64, strict=False)
    in_range = whole.abs() < 2**63 // int(max(UNITS[unit], 1.0))
    is_whole = raw.cast(pl.Float64, strict=False) == whole.cast(pl.Float64)
    return Times(pl.when(in_range & is_whole).then(exact).otherwise(rounded).cast(TIME), unit, f"{unit} since 1970", assumed)


def _no_time(known: pl.Series, typical: float, where: str) -> UserError:
    """The error for numbers that are no time since 1970; those of a spreadsheet are named."""
    got = f"numbers like {typical:g}" + (" (January 1970 in any unit)" if 0 <= typical < 1e8 else "")
    column = where.rpartition("column ")[2]
    hint = f"name the right column with --map timestamp=COLUMN, or say --order {column} if it is only an order"
    if (pattern := together(known)) is not None:
        hint = f"say --time-form {pattern} if they are years, months and days written together; or {hint}"
    for unit, seconds in LONG_UNITS.items():
        if bool((known * seconds).is_between(*THIS_AGE).all()):
            day = datetime.fromtimestamp(typical * seconds, UTC)
            hint = f"say --time-form {unit} if they are {unit} since 1970, such as {day:%Y-%m-%d}; or {hint}"
    if bool(known.is_between(*SPREADSHEET_DAYS).all()):
        day = datetime.fromtimestamp((typical - SPREADSHEET_1970) * 86_400, UTC)
        hint = f"say --time-form {SPREADSHEET} if they are dates of a spreadsheet, such as {day:%Y-%m-%d}; or {hint}"
    return UserError("times since 1970 in s, ms, us or ns", got, where=where, hint=hint, code=Code.BAD_TIME)


def _are_compact(known: pl.Series) -> bool:
    """Whether the numbers are days (and clock times) written together, such as 20240601."""
    text = known.filter((known == known.floor()) & (known.abs() < 1e18)).cast(pl.Int64).cast(pl.String)
    if len(text) < MOSTLY * len(known) or not len(text) or text.str.len_bytes().mode()[0] not in COMPACT_DIGITS:
        return False
    years = text.str.head(4).cast(pl.Int32, strict=False)
    if years.is_between(1970, 2200).sum() < MOSTLY * len(known):  # in nearly all logs, and before every number is parsed as a day
        return False
    moment = text.to_frame().select(moment_of(pl.col(text.name), COMPACT)).to_series().cast(pl.Int64)
    return bool(moment.is_between(EARLIEST, LATEST).fill_null(False).sum() >= MOSTLY * len(known))


def _text(raw: pl.Expr, known: pl.Series, where: str, form: str | None, columns: Sequence[pl.LazyFrame]) -> Times:
    if form is not None and "%" in form:
        return Times(_pattern(raw, known, form, where), "text", form)
    values, value = known.alias("value").to_frame(), pl.col("value")
    whole_years = values.filter(value.str.contains(r"^\s*\d{4}"))  # the parser takes 01-02-05 for a day of the year 1
    matching = [f for f in FORMATS if whole_years.select(_parse(value, f).is_not_null().any()).item()]
    rest = (values.filter(pl.coalesce([_parse(value, f) for f in matching]).is_null()) if matching else values).to_series()
    families, assumed = families_of(rest, form, columns, where) if len(rest) else ([], "")
    if not matching and not families:
        got = f"text like {known[0]!r}"
        raise UserError(
            "timestamps in a known form, or times since 1970",
            got,
            where=where,
            hint=hint_for(known, where.rpartition("column ")[2]),
            code=Code.BAD_TIME,
        )
    said = [*(["ISO 8601"] if matching else []), *families]
    assumed = "; ".join(part for part in (assumed, zones_said(known)) if part)

    def moment(text: pl.Expr) -> pl.Expr:
        return pl.coalesce([*(_parse(text, f) for f in matching), *(moment_of(text, f) for f in families)])

    return Times(with_midnight_24(raw, moment) if known.str.contains(MIDNIGHT_24).any() else moment(raw), "text", ", ".join(said), assumed)


def _pattern(raw: pl.Expr, known: pl.Series, form: str, where: str) -> pl.Expr:
    """Text in a pattern of strptime that the user gave."""

    alone = re.search("%[HI]", form) and not re.search("%[MTRcXr]", form)  # an hour without its minute, which the parser wants

    def moment(text: pl.Expr) -> pl.Expr:
        return stamp(text + " 00", f"{form} %M") if alone else stamp(text, form)

    def stamp(text: pl.Expr, form: str) -> pl.Expr:
        if re.search("%(#|:*)?z", form):
            return text.str.to_datetime(form, time_unit="us", time_zone="UTC", strict=False)
        if re.search("%[HIRTscXr]", form):
            return text.str.to_datetime(form, time_unit="us", strict=False).dt.replace_time_zone("UTC")
        return text.str.to_date(form, strict=False).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")

    try:
        fits = pl.select(moment(pl.lit(known)).is_not_null().any()).item()
    except PolarsError as error:
        got = f"{form} ({str(error).splitlines()[0]})"
        raise UserError("a pattern of strptime", got, where="--time-form", hint="such as %d.%m.%Y %H:%M", code=Code.BAD_TIME) from None
    if not fits:
        raise UserError(f"times in the form {form}", f"text like {known[0]!r}", where=where, hint="repair --time-form", code=Code.BAD_TIME)
    return moment(raw.str.strip_chars())


def _parse(raw: pl.Expr, form: str) -> pl.Expr:
    tidy = raw.str.strip_chars().str.replace(r"^(\d{4}[-/]\d{2}[-/]\d{2}) +(\d)", "${1}T$2").str.replace(r" ?(UTC|Z)$", "+00:00")
    return tidy.str.to_datetime(form, time_unit="us", time_zone="UTC", strict=False)


def joined(columns: Sequence[str], schema: dict[str, pl.DataType]) -> pl.Expr:
    """Text of several columns with blanks between: a date and a clock time in columns of their own.

    Args:
        columns: in the order in which they are read, such as date, time.
        schema: types of the log's columns.
    """
    pieces = []
    for name in columns:
        raw, dtype = pl.col(name), schema[name]
        if dtype.is_float():
            raw = raw.cast(pl.Int64, strict=False)
        elif isinstance(dtype, pl.Datetime):
            raw = raw.dt.date()
        pieces.append(raw.cast(pl.String).str.strip_chars())
    return with_blanks(pieces)


def with_blanks(pieces: Sequence[pl.Expr]) -> pl.Expr:
    """Texts with blanks between; three numbers that come first are the parts of a date, such as year, month and day: 2009-04-01.

    Two or three numbers that follow it are hour, minute and second.
    """
    if len(pieces) < 3:
        return pl.concat_str(*pieces, separator=" ")
    text = pl.concat_str(*(piece.str.zfill(2) for piece in pieces), separator=" ")
    text = text.str.replace(r"^(\d{2,4}) (\d{2}) (\d{2,4})\b", "$1-$2-$3")
    return text.str.replace(r"^(\S+) (\d{2}) (\d{2})(?: (\d{2}))?$", "$1 $2:$3:$4").str.strip_suffix(":")


def days_only(moments: pl.Series) -> bool:
    """Whether all times are days without a clock time: then two equal rows are two events of that day."""
    known = moments.drop_nulls().cast(pl.Int64)
    return len(known) > 0 and bool((known % DAY_US == 0).all())


def by_order(order: pl.Expr | None) -> pl.Expr:
    """Times one second apart from ORDER_EPOCH, in the order of a number (equal ones at once), or of the rows where None."""
    place = pl.int_range(pl.len(), dtype=pl.Int64) if order is None else order.rank("dense").cast(pl.Int64) - 1
    return (ORDER_EPOCH + place * 1_000_000).cast(TIME)
