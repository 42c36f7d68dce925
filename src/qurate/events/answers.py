"""Columns that say what came of a row in words or numbers that nobody can be sure of: refused, because each row would count as a click."""

import shlex

import polars as pl

from qurate.errors import Code, UserError
from qurate.events.fields import MISSING, key_of
from qurate.events.listed import ANSWER_KEYS, SIGNS, TRUTH, TYPE_KEYS
from qurate.events.roles import REWARD, Roles

NOTHING = [word.lower() for word in MISSING]
FEW_WORDS = 20
"""A column of so many different texts says something of each row; more are ids or free text."""
EXAMPLES = 3


def refuse_unclear(roles: Roles, sample: pl.DataFrame, ratings: list[str], where: str) -> None:
    """Refuses a column whose words or numbers could be answers, ratings or types, where nothing else says what happened.

    Args:
        roles: of a table; those in which something says what happened, and those that are no log, are left alone.
        sample: its first rows.
        ratings: columns that nothing reads and whose names say that they are ratings.
        where: the file, for errors.

    Raises:
        UserError: a column such as `clicked` or `rating` holds words or numbers that say neither no and yes nor how much.
    """
    if not roles.says_nothing or roles.missing():
        return
    sources = [part for source in roles.source.values() for part in (source, *source.split("+"))]
    taken = {*sources, *(source.partition(".")[0] for source in sources), *roles.parts}
    for column in sample.columns:
        key = key_of(column)
        if column in taken or sample[column].dtype.is_nested() or not (key in ANSWER_KEYS or key in TYPE_KEYS or column in ratings):
            continue
        words = known_words(sample[column])
        several = words.unique(maintain_order=True)
        numeric = 2 * words.cast(pl.Float64, strict=False).is_not_null().sum() > len(words)
        if not len(words) or (len(several) > FEW_WORDS and not numeric):
            continue
        got = ", ".join(repr(word[:20]) for word in several.head(EXAMPLES)) + (", ..." if len(several) > EXAMPLES else "")
        option = shlex.quote(column)
        as_types = f"say --map type={option} if they are types of events, or --type click if every row is a click"
        if key in ANSWER_KEYS:
            amounts = f"write 0 and 1; or say what every row is, such as --type click, and --map value={option} if they are amounts"
            hint = amounts if numeric else as_types
            raise _unclear("0 and 1, or no and yes", got, where, column, hint)
        if column in ratings:
            raise _unclear("ratings that are numbers", got, where, column, as_types)
        if len(several) > 1 and words.str.to_lowercase().is_in(list(TRUTH)).all():
            raise _unclear("types of events", got, where, column, f"say --map clicked={option} if 1 is a click; {as_types}")


def are_signs(column: str, words: pl.Series) -> bool:
    """Whether -1 and 1 stand in a column, and nothing else; a reward may be so."""
    return key_of(column) != REWARD and bool(words.is_in(list(SIGNS)).all() and words.is_in(["-1", "-1.0"]).any())


def refuse_told(column: str, values: pl.Series, where: str) -> None:
    """Refuses a column that was named as the answer (`--map clicked=`) and was not read as one.

    Raises:
        UserError: it holds something else than 0 and 1, or the table says otherwise what happened.
    """
    where = f"--map clicked={column}, {where}"
    words = pl.Series([], dtype=pl.String) if values.dtype.is_nested() else known_words(values)
    if not words.str.to_lowercase().is_in(list(TRUTH)).all() and not are_signs(column, words):
        got = ", ".join(repr(word[:20]) for word in words.unique(maintain_order=True).head(EXAMPLES))
        raise UserError("0 and 1, or no and yes", got, where=where, code=Code.BAD_MAP)
    hint = "leave it out: a column of types, or a list of what was shown, says what happened there"
    raise UserError("clicked beside one shown item a row", "another kind of log", where=where, hint=hint, code=Code.BAD_MAP)


def known_words(values: pl.Series) -> pl.Series:
    """The texts of a column that stand for something."""
    words = values.cast(pl.String).str.strip_chars().drop_nulls()
    return words.filter(~words.str.to_lowercase().is_in(NOTHING))


def _unclear(expected: str, got: str, where: str, column: str, hint: str) -> UserError:
    return UserError(expected, got, where=f"{where}, column {column}", hint=hint, code=Code.BAD_COLUMN)
