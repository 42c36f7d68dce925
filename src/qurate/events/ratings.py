"""Columns that say what a user thought of an item: by their names, and what a value below the scale may stand for."""

import polars as pl

from qurate.events.fields import key_of

RATING_KEYS = [
    *("rating", "ratings", "score", "stars", "rate", "reviewscore", "overall"),
    *("评分", "打分", "评级", "评价分", "星级", "評分", "星級"),
]
NO_RATING = ("avg", "average", "mean", "num", "number", "count", "total")
UNRATED = 0.05
"""So large a share of one number below the scale is hardly a rating."""


def is_rating(column: str) -> bool:
    """Whether a column's name says that it is what a user thought of an item. What begins with `_` is a database's own.

    >>> is_rating("Book-Rating"), is_rating("average_rating"), is_rating("_score")
    (True, False, False)
    """
    key = key_of(column)
    return not column.startswith("_") and (key in RATING_KEYS or (key.endswith("rating") and not key.startswith(NO_RATING)))


def unrated_said(column: str, numbers: pl.Series) -> list[str]:
    """A note where 0 or -1 stands below a scale that begins at 1 or more.

    Args:
        column: of ratings. numbers: Float64, some thousands of them.
    """
    known: list[float] = numbers.drop_nulls().to_list()
    low = min(known, default=1.0)
    above = [number for number in known if number > low]
    n = len(known) - len(above)
    if low not in (0, -1) or len(set(above)) < 2 or min(above) < 1 or n <= UNRATED * len(known):
        return []
    scale = f"{min(above):g} to {max(above):g}"
    return [f"{column} is {low:g} in {n:,} of {len(known):,} rows, elsewhere {scale}: if that means not rated, leave these rows out"]
