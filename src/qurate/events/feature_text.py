"""Text columns of features that are numbers, dates or lists: amounts with currency signs, days, lists in any notation."""

import re

import polars as pl

from qurate.events.listed import parse_items

MONEY = r"^-?(?:[A-Z]{3} ?|[$€£¥₹] ?)?-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?: ?[A-Z]{3}| ?[$€£¥₹])?$"
SIGN = r"[$€£¥₹]|\d,\d{3}\b|\d ?[A-Z]{3}$|^-?[A-Z]{3} ?\d"
DAY = r"^\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?)?$"
STRUCTURED = r"^\s*[\[({].*[\])}]\s*$"
REPEATED = 2
"""A separator makes a list of a text where its parts come again so often on average."""
DAY_US = 86_400e6


def form_of(values: pl.Series) -> str | None:
    """What the text of a column is: money | date | list | comma, or None for plain text (and for `|`, which is always a list)."""
    known = values.drop_nulls()
    known = known.filter(known != "")
    if len(known) == 0:
        return None
    if known.str.contains(MONEY).all() and known.str.contains(SIGN).any():
        return "money"
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
