"""Text columns of features that are numbers, dates or lists: amounts with currency signs, days, lists in any notation."""

import re

import polars as pl

from qurate.events.listed import parse_items

BEFORE, AFTER = r"^-?(?:[A-Z]{3} ?|\p{Sc} ?)?-?", r"(?: ?(?:[A-Z]{3}|\p{Sc}|[元圆圓円원]))?$"
MONEY = BEFORE + r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?" + AFTER
MONEY_COMMA = BEFORE + r"(?:\d{1,3}(?:\.\d{3})+|\d+)(?:,\d{1,2})?" + AFTER
"""An amount with a decimal point, and with a decimal comma."""
SIGN = r"[\p{Sc}元圆圓円원]|\d,\d{3}\b|\d ?[A-Z]{3}$|^-?[A-Z]{3} ?\d"
CURRENCY, DECIMAL_COMMA = r"[\p{Sc}元圆圓円원]|\d ?[A-Z]{3}$|^-?[A-Z]{3} ?\d", r"\d,\d{1,2}(?:\D|$)"
"""Without a currency `1,5` may be a list."""
OTHER_DAYS = {"date_ymd": r"^\d{4}[/.]\d{1,2}[/.]\d{1,2}$", "date_dmy": r"^\d{1,2}\.\d{1,2}\.\d{4}$"}
"""Days whose order the form alone tells: with the year first, or with dots."""
NUMBERS = ("money", "money_comma", "date", *OTHER_DAYS)
"""Forms that become numbers."""
DAY = r"^\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?)?$"
STRUCTURED = r"^\s*[\[({].*[\])}]\s*$"
REPEATED = 2
"""A separator makes a list of a text where its parts come again so often on average."""
DAY_US = 86_400e6


def form_of(values: pl.Series) -> str | None:
    """What the text of a column is: one of `NUMBERS`, list | comma, or None for plain text (and for `|`, which is always a list)."""
    known = values.drop_nulls()
    known = known.filter(known != "")
    if len(known) == 0:
        return None
    if known.str.contains(MONEY).all() and known.str.contains(SIGN).any():
        return "money"
    if known.str.contains(MONEY_COMMA).all() and known.str.contains(CURRENCY).any() and known.str.contains(DECIMAL_COMMA).any():
        return "money_comma"
    for form, pattern in OTHER_DAYS.items():
        if known.str.contains(pattern).all():
            return form
    if known.str.contains(DAY).all():
        return "date"
    if known.str.contains(STRUCTURED).all() and _items(known).null_count() == 0:
        return "list"
    parts = known.str.split(",").explode().str.strip_chars()
    with_comma = known.str.contains(",", literal=True).sum() >= len(known) / 2
    return "comma" if with_comma and len(parts) >= REPEATED * parts.n_unique() and not known.str.contains("|", literal=True).any() else None


def numbers_in(values: pl.Series, form: str) -> pl.Series:
    """float64, null where unreadable: amounts without their signs, or days since 1970."""
    if form == "money":
        return values.str.replace_all(r"[^\d.-]", "").cast(pl.Float64, strict=False)
    if form == "money_comma":
        return values.str.replace_all(r"[^\d,-]", "").str.replace(",", ".", literal=True).cast(pl.Float64, strict=False)
    if form in OTHER_DAYS:
        parts = values.str.extract_groups(r"^(\d+)\D(\d+)\D(\d+)$").struct
        year, day = ("1", "3") if form == "date_ymd" else ("3", "1")
        numbers = [parts.field(place).cast(pl.Int32, strict=False) for place in (year, "2", day)]
        days = pl.DataFrame(numbers, schema=["y", "m", "d"]).select(
            pl.format("{}-{}-{}", "y", "m", "d").str.to_date("%Y-%m-%d", strict=False).cast(pl.Int32).cast(pl.Float64)
        )
        return days.to_series().alias(values.name)
    moment = values.str.slice(0, 19).str.replace(" ", "T", literal=True)
    moment = moment.str.pad_end(19, "#").str.replace(r"#{9}$", "T00:00:00").str.replace(r"#{3}$", ":00")
    return moment.str.to_datetime("%Y-%m-%dT%H:%M:%S", time_unit="us", strict=False).dt.epoch("us") / DAY_US


def lists_in(values: pl.Series, form: str) -> pl.Series:
    """List(String) of a column of `list` or `comma`."""
    if form == "comma":
        return values.str.split(",").list.eval(pl.element().str.strip_chars())
    return _items(values)


def _items(texts: pl.Series) -> pl.Series:
    found = [None if text is None else parse_items(text) for text in texts.to_list()]
    rows = [None if items is None else [re.sub(r"\s+", " ", one) for one, _ in items if one is not None] for items in found]
    return pl.Series(texts.name, rows, dtype=pl.List(pl.String))
