"""What a table's values look like they have lost, or are not: notes that name it, before anything is learned from it."""

import polars as pl

from qurate.errors import Code, UserError
from qurate.events.fields import key_of
from qurate.events.listed import ANSWER_KEYS, Listed
from qurate.events.roles import Roles

CUT = r"^[+-]?\d(?:[.,]\d+)?[eE]\+?\d{2,}$"
"""A number as a spreadsheet shows a long one: `1.23457E+12`."""
SHOWN_WORDS = ("shown", "impression", "slate", "recommend", "inview", "candidate", "ranking", "exposure")


def doubts(roles: Roles, sample: pl.DataFrame, unread: list[str]) -> list[str]:
    """Notes on one table.

    Args:
        sample: its first rows. unread: columns that nothing reads.
    """
    notes = []
    for name in ("user_id", "item_id", "session_id", "timestamp"):
        column = roles.source.get(name, "")
        if column in sample.columns and sample[column].dtype == pl.String:
            cut = sample[column].drop_nulls().str.strip_chars()
            cut = cut.filter(cut.str.contains(CUT))
            if len(cut) and name == "timestamp":
                notes.append(f"times such as {cut[0]!r} have lost their last digits, as spreadsheets do: export them as text or dates")
            elif len(cut):
                notes.append(f"ids such as {cut[0]!r} in {column} have lost digits, as spreadsheets do: several may have become one")
    if roles.type_from.startswith("nothing"):
        notes += [
            f"{column} is not read: it says neither 0 and 1 nor no and yes, so it does not say what was clicked"
            for column in unread
            if key_of(column) in ANSWER_KEYS and not sample[column].dtype.is_nested()
        ]
    return notes


def refuse_answers_in_basket(listed: Listed, column: str, where: str) -> None:
    """
    Raises:
        UserError: lists that say what was clicked of them are no baskets: what was not clicked would count as well.
    """
    if listed.taken is not None:
        hint = f"say --map shown={column}: then what was not clicked is no event"
        got = f"lists of {listed.form}, which say what came of each item"
        raise UserError("lists of what was bought or clicked together", got, where=where, hint=hint, code=Code.BAD_MAP)


def is_shown(column: str) -> bool:
    """Whether a column's name says that its lists were shown.

    >>> is_shown("impressions"), is_shown("items")
    (True, False)
    """
    return any(word in key_of(column) for word in SHOWN_WORDS)
