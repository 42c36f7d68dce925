"""`--value "quantity*price"`: arithmetic over columns, and numbers as people write them (`$1,000.00`, `4,50 EUR`).

Only names, numbers, `+ - * /` and parentheses; the text is parsed to a tree and never evaluated.
"""

import ast
import re
from collections.abc import Callable

import polars as pl

from qurate.errors import Code, UserError, nearest
from qurate.events.fields import MISSING

MAX_LENGTH, MAX_DEPTH = 500, 50
OPERATORS: dict[type[ast.operator], Callable[[pl.Expr, pl.Expr], pl.Expr]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
}
MONEY = r"^[\s\p{Sc}A-Za-z]*[-+(]?[\s\p{Sc}]*\d[\d.,'\s]*\)?[\s\p{Sc}A-Za-z%元円圆圓원块]*-?$"
"""A number with a currency and signs between its thousands."""
POINT = r"^(?:(?:[1-9]\d{0,2}(?:,\d{2,3})*,\d{3}|\d+)(?:\.\d*)?|\.\d+)$"
COMMA = r"^(?:(?:[1-9]\d{0,2}(?:\.\d{3})+|\d+)(?:,\d*)?|,\d+)$"
"""Digits of a number with a decimal point, such as 1,234.5 or 12,34,567, or with a decimal comma, such as 1.234,5."""
SCALED = r"(?i)\d\s*(?:k|m|mn|mio|mln|b|bn|thousand|million)\.?\s*$"
"""A number that counts thousands, millions, or minutes: what it is worth cannot be told."""

SCORE = (
    r"^\s*(\d+(?:[.,]\d+)?)\s*(?:(?:/|(?:out )?of\b|von\b|sur\b)\s*(\d+)\s*)?"
    r"(?:[Ss]tars?|[Ss]terne?|étoiles?|[星分])?\s*$"
)
"""`3/5`, `3 out of 5`, `4 stars`, `4星`: the number and what it is out of."""
SIGNS = r"^\s*[★⭐]{1,10}[☆✩\s\x{fe0f}]*$"
"""Stars as signs."""


def parse_value(text: str, known: dict[str, pl.Expr]) -> tuple[pl.Expr, list[str]]:
    """The expression that `text` says, and the columns that it names.

    Args:
        text: names of columns, numbers, `+ - * /` and parentheses. A name with other signs stands in backquotes.
        known: column -> its numbers.

    Raises:
        UserError: anything else in it, or a column that the log does not have.
    """
    quoted = text.split("`")
    names = {f"_quoted{place}": part for place, part in enumerate(quoted) if place % 2}
    plain = "".join(f"_quoted{place}" if place % 2 else part for place, part in enumerate(quoted))
    used: list[str] = []
    try:
        if len(text) > MAX_LENGTH or len(quoted) % 2 == 0:
            raise ValueError
        return _built(ast.parse(plain.strip(), mode="eval").body, known, names, used, 0), used
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise UserError(
            "names of columns, numbers, + - * / and parentheses",
            repr(text[:80]),
            where="--value",
            hint="write for example --value 'quantity*price'; a name with blanks stands in backquotes: --value 'quantity*`item price`'",
            code=Code.BAD_VALUE,
        ) from None


def _built(node: ast.expr, known: dict[str, pl.Expr], names: dict[str, str], used: list[str], depth: int) -> pl.Expr:
    if depth > MAX_DEPTH:
        raise ValueError
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        left, right = (_built(side, known, names, used, depth + 1) for side in (node.left, node.right))
        return OPERATORS[type(node.op)](left, right)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        inner = _built(node.operand, known, names, used, depth + 1)
        return -inner if isinstance(node.op, ast.USub) else inner
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return pl.lit(float(node.value))
    if isinstance(node, ast.Name):
        name = names.get(node.id, node.id)
        if name not in known:
            hint = nearest(name, known)
            raise UserError("a column of the log", name, where="--value", hint=hint, code=Code.UNKNOWN_COLUMN)
        used.append(name)
        return known[name]
    raise ValueError


def _mostly(holds: pl.Series) -> bool:
    return 2 * int(holds.sum()) > len(holds)


def amount(name: str, dtype: pl.DataType, sample: pl.Series) -> tuple[pl.Expr, str]:
    """A column as Float64, and how its text is read: "" for plain numbers, else a sentence part.

    Args:
        name: the column.
        dtype: its type.
        sample: some of its values; text that is no plain number in any of them makes the whole column money.
    """
    raw = pl.col(name)
    if dtype != pl.String:
        return raw.cast(pl.Float64, strict=False), ""
    known = sample.cast(pl.String).str.strip_chars()
    known = known.filter((known != "") & ~known.is_in(MISSING)).drop_nulls()
    odd = known.filter(known.cast(pl.Float64, strict=False).is_null())
    if len(odd) and (odd.str.contains(SCORE) | odd.str.contains(SIGNS)).all() and odd.str.contains(r"[^\d.,\s]").any():
        return _score(raw, odd)
    if not len(odd) or not _mostly(odd.str.contains(MONEY)) or odd.str.contains(SCALED).any():
        return raw.cast(pl.Float64, strict=False), ""
    odd = odd.filter(odd.str.contains(MONEY))  # the rest is no number
    comma, example = _decimal_comma(known.filter(known.cast(pl.Float64, strict=False).is_not_null() | known.str.contains(MONEY)), odd)
    text = raw.str.strip_chars()
    negative = text.str.contains(r"^\D*-|-\s*$|^\s*\(.*\)\s*$")
    digits = text.str.replace_all(r"[^\d.,]", "")
    digits = (
        digits.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
        if comma
        else digits.str.replace_all(",", "", literal=True)
    )
    number = digits.cast(pl.Float64, strict=False)
    money = pl.when(text.str.contains(MONEY)).then(pl.when(negative).then(-number).otherwise(number))
    plain = pl.coalesce(raw.cast(pl.Float64, strict=False), money)
    number = pl.when(text.str.contains(r",|\.\d{3}(\D|$)")).then(money).otherwise(plain) if comma else plain
    units = odd.str.replace_all(r"[-+()\d.,'\s]", "").unique().sort()
    units = units.filter(units != "")
    alike = f"; {', '.join(units.head(5))} count alike" if len(units) > 1 else ""
    what = "currency text" if len(units) else "numbers"
    return number, f"{what}, decimal {'comma' if comma else 'point'}{example}{alike}"


def _decimal_comma(known: pl.Series, odd: pl.Series) -> tuple[bool, str]:
    """Whether a comma stands before the decimals, and an example where the numbers could be read in either way.

    4,50 and 1.234,50 have a decimal comma; 1,234.50 has commas between thousands. 1,234 alone, and 1.234 beside a currency, are
    whole numbers: amounts have no three decimals.

    Args:
        known: texts of the column. odd: those that are no plain numbers.
    """
    digits = known.str.replace_all(r"[^\d.,]", "")
    by_point, by_comma = digits.str.contains(POINT).all(), digits.str.contains(COMMA).all()
    if by_point != by_comma:
        return bool(by_comma), ""
    if not by_point:
        return bool(odd.str.contains(r",\d{1,2}(\D*)$").any()) and not bool(odd.str.contains(r"\.\d{1,2}(\D*)$").any()), ""
    signed = digits.filter(digits.str.contains("[.,]"))
    if not len(signed):
        return False, ""
    return "." in signed[0], f" ({signed[0]} is {re.sub('[.,]', '', signed[0])})"


def _score(raw: pl.Expr, odd: pl.Series) -> tuple[pl.Expr, str]:
    """A rating in words or signs, as the number in it; as no number where some are out of 5 and others out of 10."""
    out_of = odd.str.extract(SCORE, 2).drop_nulls().unique()
    if len(out_of) > 1:
        return raw.cast(pl.Float64, strict=False), ""
    stars = pl.when(raw.str.contains(SIGNS)).then(raw.str.count_matches("[★⭐]"))
    number = pl.coalesce(raw.str.extract(SCORE, 1).str.replace(",", ".", literal=True).cast(pl.Float64, strict=False), stars)
    return number, f"the number in a rating such as {odd[0]!r}"
