"""Whether the order of a log without times is that of a sorted table and not that of what happened."""

import polars as pl

from qurate.events.schema import EventLog

SAMPLE_ROWS = 100_000
FEWEST_PAIRS = 200
NEARLY_ALL = 0.98
"""Pairs of neighbouring rows of one user that go the same way; where the order is that of time, ids and values go both ways."""


def sorted_by(log: EventLog) -> str | None:
    """`item_id` or `value` where the rows of each user are sorted by it, None where they are not or the log has times."""
    if log.time_unit != "order":
        return None
    rows = log.events.select("user_id", "item_id", "value").head(SAMPLE_ROWS).collect(engine="streaming")
    numbers = rows["item_id"].cast(pl.Int64, strict=False)
    items = rows["item_id"] if numbers.null_count() > rows["item_id"].null_count() else numbers
    same_user = rows["user_id"] == rows["user_id"].shift(1)
    for name, values in (("item_id", items), ("value", rows["value"])):
        pairs = same_user & (values != values.shift(1))
        up = (values > values.shift(1)).filter(pairs).mean()
        if int(pairs.sum()) >= FEWEST_PAIRS and isinstance(up, float) and max(up, 1 - up) >= NEARLY_ALL:
            return name
    return None


def sorting_said(column: str) -> str:
    """What that means for learning and for figures."""
    return (
        f"the rows of each user are sorted by {column}: that is not the order in which things happened, and what is learned of an order, "
        "and how well it tells the last rows, is that of the sorting; give the log times, or --order COLUMN"
    )
