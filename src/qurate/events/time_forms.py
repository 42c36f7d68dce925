"""Written forms of dates other than ISO 8601: their order of day and month, months by name, compact digits."""

import re
from collections.abc import Sequence

import polars as pl

from qurate.errors import Code, UserError, nearest

CLOCK = (
    r"(?:(?:T|:|[ ,]+)(?P<H>\d{1,2})(?::(?P<M>\d{2})(?::(?P<S>\d{2})(?:[.,](?P<f>\d{1,9}))?)?)?"
    r"(?: *(?P<p>[AaPp])\.?[Mm]\.?)?)?"
)
ZONE = r"(?: *(?:GMT|UTC)?(?P<z>Z|UTC|GMT|UT|[+-]\d{2}:?\d{2}))?(?: *\([A-Za-z ]+\))?"
NUMBERS = r"(\d{1,2})[-/.](\d{1,2})[-/.](\d{4}|\d{2})\b"
"""Day and month as numbers, in either order, before the year."""

FAMILIES = {
    "Y/M/D": r"(?P<y>\d{4})[-/.](?P<m>\d{1,2})[-/.](?P<d>\d{1,2})" + CLOCK + ZONE,
    "M/D/Y": r"(?P<m>\d{1,2})[-/.](?P<d>\d{1,2})[-/.](?P<y>\d{4}|\d{2})" + CLOCK + ZONE,
    "D/M/Y": r"(?P<d>\d{1,2})[-/.](?P<m>\d{1,2})[-/.](?P<y>\d{4}|\d{2})" + CLOCK + ZONE,
    "YY/M/D": r"(?P<y>\d{2})[-/.](?P<m>\d{1,2})[-/.](?P<d>\d{1,2})" + CLOCK + ZONE,
    "D Mon Y": r"(?:[A-Za-z]{3,9},? *)?(?P<d>\d{1,2})[ /-](?P<b>[A-Za-z]{3})[a-z]*\.?[ /,-]+(?P<y>\d{4}|\d{2})" + CLOCK + ZONE,
    "Mon D Y": r"(?:[A-Za-z]{3,9},? +)?(?P<b>[A-Za-z]{3})[a-z]*\.? +(?P<d>\d{1,2}),? +(?P<y>\d{4})" + CLOCK + ZONE,
    "Mon D clock Y": r"[A-Za-z]{3} +(?P<b>[A-Za-z]{3}) +(?P<d>\d{1,2})" + CLOCK + ZONE + r" +(?P<y>\d{4})",
    "Y年M月D日": r"(?P<y>\d{4}) ?[年년] ?(?P<m>\d{1,2}) ?[月월] ?(?P<d>\d{1,2}) ?[日号號일]?"
    r" *(?:(?P<H>\d{1,2})[:时時點点시] ?(?:(?P<M>\d{1,2})(?:[:分분] ?(?:(?P<S>\d{1,2})[秒초]?)?)?)?)?(?: *(?P<p>[AP])M)?",
    "YYYYMMDD": r"(?P<y>\d{4})(?P<m>\d{2})(?P<d>\d{2})(?:[T_ -]?(?P<H>\d{2}):?(?:(?P<M>\d{2}):?(?:(?P<S>\d{2})[.,]?(?P<f>\d{1,9})?)?)?)?"
    + ZONE,
}
"""Name -> pattern of the whole text. Day and month come as `d` and `m`, a month's name as `b`, AM or PM as `p`, the zone as `z`."""

BY_NUMBERS = ("M/D/Y", "D/M/Y")
SHORT_FIRST = "YY/M/D"
"""A year of two digits first: taken where the user says so, because days of a month look the same."""
DOTTED = r"\D*\d{1,2}\.\d{1,2}\."
TOGETHER = {"%y%m%d": 6, "%y%m%d%H": 8}
"""Patterns of days, and their hours, as numbers of so many digits with a year of two."""
COMPACT = "YYYYMMDD"
UNIT_NAMES = ("s", "ms", "us", "ns")
SPREADSHEET = "excel"
"""Days since 1899-12-30, as spreadsheets hold dates."""
LONG_UNITS = {"minutes": 60, "hours": 3_600, "days": 86_400}
"""Longer ones, in seconds, which only a user can tell from other numbers."""
OPTIONS = (*FAMILIES, *UNIT_NAMES, *LONG_UNITS, SPREADSHEET)
"""What `--time-form` takes, besides a pattern such as %d.%m.%Y."""

MONTHS = dict(zip(("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), map(str, range(1, 13))))
CENTURY = 70
"""A year of two digits from here on belongs to the last century."""


def known_form(form: str | None) -> str | None:
    """The form as given on the command line, in our spelling.

    Raises:
        UserError: it is none.
    """
    if form is None or "%" in form or form in OPTIONS:
        return form
    if re.match(r"YY?[-/.]", form.upper()) and form.upper().startswith("YY"):
        return SHORT_FIRST
    letters = "/".join(re.findall(r"[A-Za-z]", "".join(dict.fromkeys(form.upper()))))
    found = letters if letters in FAMILIES else COMPACT if form.upper().startswith(COMPACT) else None
    if found is None:
        hint = nearest(form, OPTIONS) or "a pattern such as %d.%m.%Y %H:%M is also taken"
        raise UserError(f"one of {', '.join(OPTIONS)}", form, where="--time-form", hint=hint, code=Code.BAD_TIME)
    return found


def moment_of(raw: pl.Expr, family: str) -> pl.Expr:
    """UTC microseconds of text in one of the FAMILIES, null where it is not; a time without a zone is UTC."""
    pattern = FAMILIES[family]
    groups = raw.str.strip_chars(" \t[]\"'").str.extract_groups(f"^{pattern}$")

    def part(name: str, default: str | None = None) -> pl.Expr:
        found = groups.struct.field(name) if f"?P<{name}>" in pattern else pl.lit(None, pl.String)
        return found if default is None else found.fill_null(default)

    year = part("y")
    short = year.str.len_bytes() == 2
    century = pl.when(year.cast(pl.Int32, strict=False) >= CENTURY).then(pl.lit("19")).otherwise(pl.lit("20"))
    year = pl.when(short).then(pl.concat_str(century, year)).otherwise(year)
    month = part("b").str.slice(0, 3).str.to_lowercase().replace_strict(MONTHS, default=None) if "?P<b>" in pattern else part("m")
    hour, half = part("H", "00"), part("p").str.to_lowercase()
    twelve = hour.cast(pl.Int32, strict=False)
    shifted = pl.when(twelve.is_between(0, 12)).then(twelve % 12 + (half == "p").cast(pl.Int32) * 12).cast(pl.String)
    hour = pl.when(half.is_null()).then(hour).otherwise(shifted)
    pieces = [
        year,
        "-",
        month.str.zfill(2),
        "-",
        part("d").str.zfill(2),
        "T",
        hour.str.zfill(2),
        ":",
        part("M", "00"),
        ":",
        part("S", "00"),
    ]
    text = pl.concat_str(*(piece if isinstance(piece, pl.Expr) else pl.lit(piece) for piece in pieces), pl.lit("."), part("f", "0"))
    local = text.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", time_zone="UTC", strict=False)
    zone = part("z").str.replace(":", "", literal=True)
    minutes = zone.str.slice(1, 2).cast(pl.Int64, strict=False) * 60 + zone.str.slice(3, 2).cast(pl.Int64, strict=False)
    ahead = pl.when(zone.str.starts_with("-")).then(-minutes).otherwise(minutes).fill_null(0)
    return local - pl.duration(minutes=ahead)


def families_of(values: pl.Series, form: str | None, columns: Sequence[pl.LazyFrame], where: str) -> tuple[list[str], str]:
    """The families that some of the values have, and what was assumed about day and month ("" where it is certain).

    Args:
        values: text, none null.
        form: what the user named: a family, or None.
        columns: frames of one column of text with all the values: day and month are told apart by the first that does it.
            Without: by `values`.
        where: file and column, for errors.

    Raises:
        UserError: day and month cannot be told apart, or stand in both orders.
    """
    names, assumed = [], ""
    for name in FAMILIES:
        if name in BY_NUMBERS or (name == SHORT_FIRST and form != SHORT_FIRST):
            continue
        if _reads(values, name):
            names.append(name)
    if form != SHORT_FIRST and (_reads(values, "M/D/Y") or _reads(values, "D/M/Y")):
        order, assumed = (form, "") if form in BY_NUMBERS else _order(columns or [values.to_frame().lazy()], where)
        names.append(str(order))
    return [name for name in names if name != COMPACT or len(names) == 1 or form == COMPACT], assumed


def _reads(values: pl.Series, family: str) -> bool:
    return bool(values.to_frame().select(moment_of(pl.col(values.name), family).is_not_null().any()).item())


def _order(columns: Sequence[pl.LazyFrame], where: str) -> tuple[str, str]:
    """Whether the day or the month comes first, by the values above 12; and what had to be assumed."""
    example = ""
    numbers = pl.col("value").str.strip_chars(" \t[]\"'").str.extract_groups(f"^{NUMBERS}")
    for column in columns:
        frame = column.select(pl.first().cast(pl.String).alias("value"))
        parts = frame.select("value", *(numbers.struct.field(str(i)).cast(pl.Int32, strict=False).alias(f"n{i}") for i in (1, 2, 3)))
        found = parts.select(
            *(pl.col("value").filter(pl.col(f"n{i}") > 12).first().alias(f"over{i}") for i in (1, 2)),
            pl.col("value").filter(pl.col("n1").is_not_null()).first().alias("example"),
            (pl.col("n1").min() > 12) & (pl.col("n3").max() <= 31),
            *(pl.col(f"n{i}").drop_nulls().n_unique().alias(f"differ{i}") for i in (1, 3)),
        ).collect(engine="streaming")
        first, second, one, may_be_short, differ_first, differ_last = found.row(0)
        example = example or one
        # Years vary less than days: 24/06/01, 24/06/02 have the year first. Of one day only dots tell, which stand after a day.
        alike = differ_first == differ_last and not re.match(DOTTED, example)
        if may_be_short and second is None and (differ_first < differ_last or alike):
            got = f"{example!r}, whose year may stand first or last"
            hint = f"say --time-form {SHORT_FIRST} or --time-form D/M/Y"
            raise UserError("dates in a certain order", got, where=where, hint=hint, code=Code.BAD_TIME)
        if first is not None and second is not None:
            got = f"the day first in {first!r} and the month first in {second!r}"
            raise UserError(
                "one order of day and month", got, where=where, hint="repair the column, or give --time-form", code=Code.BAD_TIME
            )
        if first is not None or second is not None:
            return ("D/M/Y" if second is None else "M/D/Y"), ""
    if re.match(DOTTED, example):
        return "D/M/Y", f"dates such as {example!r} are read with the day first, as is usual with dots"
    if re.search(r"[AaPp]\.?[Mm]\.?$", example.strip()):
        return "M/D/Y", f"times such as {example!r} are read with the month first, as is usual with AM and PM; else give --time-form D/M/Y"
    got = f"{example!r}, where no value above 12 tells day from month"
    raise UserError("dates in a certain order", got, where=where, hint="say --time-form D/M/Y or --time-form M/D/Y", code=Code.BAD_TIME)


def together(numbers: pl.Series) -> str | None:
    """The pattern of numbers that are days written together with a year of two digits, None for other numbers."""
    text = numbers.drop_nulls().cast(pl.Int64, strict=False).cast(pl.String)
    for pattern, digits in TOGETHER.items():
        parts = [text.str.slice(place, 2).cast(pl.Int32, strict=False) for place in range(2, digits, 2)]
        limits = ((1, 12), (1, 31), (0, 23))
        if len(text) and (text.str.len_bytes() == digits).all() and all(part.is_between(*two).all() for part, two in zip(parts, limits)):
            return pattern
    return None
