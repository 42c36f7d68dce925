"""Text columns of features that are numbers, dates or lists: amounts with currency signs, days, lists in any notation."""

import re

import polars as pl

from qurate.events.listed import parse_items

BEFORE, AFTER = r"^-?(?:[A-Z]{3} ?|\p{Sc} ?)?-?", r"(?: ?(?:[A-Z]{3}|\p{Sc}|[元圆圓円원%％]))?$"
MONEY = BEFORE + r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?" + AFTER
MONEY_COMMA = BEFORE + r"(?:\d{1,3}(?:\.\d{3})+|\d+)(?:,\d{1,2})?" + AFTER
"""An amount with a decimal point, and with a decimal comma."""
SIGN = r"[\p{Sc}元圆圓円원%％]|\d,\d{3}\b|\d ?[A-Z]{3}$|^-?[A-Z]{3} ?\d"
CURRENCY, DECIMAL_COMMA = r"[\p{Sc}元圆圓円원%％]|\d ?[A-Z]{3}$|^-?[A-Z]{3} ?\d", r"\d,\d{1,2}(?:\D|$)"
"""Without a currency `1,5` may be a list."""
OTHER_DAYS = {
    "date_ymd": r"^\d{4}[/.年]\d{1,2}[/.月]\d{1,2}日?$",
    "date_dmy": r"^(?:\d{1,2}\.\d{1,2}\.\d{4}|(?:0?[1-9]|[12]\d|3[01])/(?:0?[1-9]|1[0-2])/\d{4})$",
    "date_mdy": r"^(?:0?[1-9]|1[0-2])/(?:0?[1-9]|[12]\d|3[01])/\d{4}$",
}
"""Days whose order the form tells: with the year first, with dots, or with slashes and a number above 12."""
ORDERS = {"date_ymd": "123", "date_dmy": "321", "date_mdy": "312"}
"""Where year, month and day stand."""
NUMBERS = ("number", "money", "money_comma", "date", *OTHER_DAYS)
"""Forms that become numbers."""
DAY = r"^\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?)?$"
STRUCTURED = r"^\s*[\[({].*[\])}]\s*$"
NOT_KNOWN = ("n/a", "na", "n.a.", "-", "--", "?", "unknown", "none", "null", "nan", "tbd", "未知", "无", "不详", "暂无")
"""Among numbers or days they say that one is missing."""
SIGNS = {"comma": ",", "semicolon": ";", "comma_cn": "，", "enumeration": "、", "slash": "/", "above": ">"}
"""Signs between the parts of a list, by the form's name; a path through categories is a list of them."""
REPEATED = 2
"""A separator makes a list of a text where its parts come again so often on average."""
DAY_US = 86_400e6


def form_of(values: pl.Series) -> str | None:
    """What the text of a column is: one of `NUMBERS`, list, one of `SIGNS`, or None: plain text, and text with `|`, which is a list."""
    known = values.drop_nulls()
    known = known.filter(known != "")
    told = known.filter(~known.str.to_lowercase().is_in(NOT_KNOWN))
    if 2 * len(told) > len(known) and (form := _form_of_numbers(told)) is not None:
        return form
    if len(known) and known.str.contains(STRUCTURED).all() and _items(known).null_count() == 0:
        return "list"
    return next((form for form, sign in SIGNS.items() if _separates(sign, known)), None)


def _form_of_numbers(known: pl.Series) -> str | None:
    """One of `NUMBERS`, None for other text."""
    if known.cast(pl.Float64, strict=False).null_count() == 0:
        return "number"
    if known.str.contains(MONEY).all() and known.str.contains(SIGN).any():
        return "money"
    if known.str.contains(MONEY_COMMA).all() and known.str.contains(CURRENCY).any() and known.str.contains(DECIMAL_COMMA).any():
        return "money_comma"
    days = [form for form, pattern in OTHER_DAYS.items() if known.str.contains(pattern).all()]
    if days:
        return days[0] if len(days) == 1 else None  # no number above 12 tells day from month
    return "date" if known.str.contains(DAY).all() else None


def _separates(sign: str, known: pl.Series) -> bool:
    """Whether a sign stands between parts that come again and again; a slash or an arrow between words, not in numbers or addresses."""
    if 2 * known.str.contains(sign, literal=True).sum() < len(known) or known.str.contains("|", literal=True).any():
        return False
    parts = known.str.split(sign).explode().str.strip_chars()
    if sign in "/>" and parts.str.contains(r"^[\d.,\s-]*$|:$").any():
        return False
    return len(parts) >= REPEATED * parts.n_unique()


def numbers_in(values: pl.Series, form: str) -> pl.Series:
    """float64, null where unreadable: amounts without their signs, or days since 1970."""
    if form == "number":
        return values.cast(pl.Float64, strict=False)
    if form == "money":
        return values.str.replace_all(r"[^\d.-]", "").cast(pl.Float64, strict=False)
    if form == "money_comma":
        return values.str.replace_all(r"[^\d,-]", "").str.replace(",", ".", literal=True).cast(pl.Float64, strict=False)
    if form in OTHER_DAYS:
        parts = values.str.extract_groups(r"^(\d+)\D(\d+)\D(\d+)日?$").struct
        numbers = [parts.field(place).cast(pl.Int32, strict=False) for place in ORDERS[form]]
        days = pl.DataFrame(numbers, schema=["y", "m", "d"]).select(
            pl.format("{}-{}-{}", "y", "m", "d").str.to_date("%Y-%m-%d", strict=False).cast(pl.Int32).cast(pl.Float64)
        )
        return days.to_series().alias(values.name)
    moment = values.str.slice(0, 19).str.replace(" ", "T", literal=True)
    moment = moment.str.pad_end(19, "#").str.replace(r"#{9}$", "T00:00:00").str.replace(r"#{3}$", ":00")
    return moment.str.to_datetime("%Y-%m-%dT%H:%M:%S", time_unit="us", strict=False).dt.epoch("us") / DAY_US


def lists_in(values: pl.Series, form: str) -> pl.Series:
    """List(String) of a column of `list`, or one of `SIGNS`."""
    if form in SIGNS:
        return values.str.split(SIGNS[form]).list.eval(pl.element().str.strip_chars())
    return _items(values)


def _items(texts: pl.Series) -> pl.Series:
    found = [None if text is None else parse_items(text) for text in texts.to_list()]
    rows = [None if items is None else [re.sub(r"\s+", " ", one) for one, _ in items if one is not None] for items in found]
    return pl.Series(texts.name, rows, dtype=pl.List(pl.String))
