"""Whether rows whose order no time tells stand as in a sorted table, and not in the order in which things happened."""

import polars as pl

from qurate.events.schema import EventLog

SAMPLE_ROWS = 20_000
FEWEST_PAIRS = 200
FEWEST_TIES = 0.05
NEARLY_ALL = 0.98
"""Pairs of neighbouring rows of one user that go the same way; where the order is that of time, ids and values go both ways."""


def sorted_by(log: EventLog) -> str | None:
    """`item_id` or `value` where the rows of each user, of the first `SAMPLE_ROWS`, are sorted by it; None where they are not or the
    log has times."""
    if log.time_unit != "order":
        return None
    rows = log.events.select("user_id", "item_id", "value").head(SAMPLE_ROWS).collect(engine="streaming")
    same_user = rows["user_id"] == rows["user_id"].shift(1)
    return next((name for name in ("item_id", "value") if _goes_one_way(rows[name], same_user)), None)


def sorted_ties(log: EventLog) -> float | None:
    """The share, from 0 to 1, of events at the very time of their user's event before, where such events are sorted by item.

    None where they are not, or are less than `FEWEST_TIES`. It is that of the log's first `SAMPLE_ROWS` rows.
    """
    if log.time_unit == "order":
        return None
    rows = log.events.select("user_id", "item_id", "timestamp", "row").head(SAMPLE_ROWS).collect(engine="streaming")
    rows = rows.sort("user_id", "timestamp", maintain_order=True)
    same_user = rows["user_id"] == rows["user_id"].shift(1)
    tied = same_user & (rows["timestamp"] == rows["timestamp"].shift(1)) & (rows["row"] != rows["row"].shift(1))
    share = float(tied.sum() or 0) / max(int(same_user.sum() or 0), 1)
    return share if share >= FEWEST_TIES and _goes_one_way(rows["item_id"], tied) else None


def _goes_one_way(values: pl.Series, among: pl.Series) -> bool:
    """Whether the values of nearly all rows `among` are above those of the row before, or nearly all below; numbers as numbers."""
    numbers = values.cast(pl.Int64, strict=False) if values.dtype == pl.String else values
    values = values if numbers.null_count() > values.null_count() else numbers
    pairs = among & (values != values.shift(1))
    up = (values > values.shift(1)).filter(pairs).mean()
    return int(pairs.sum() or 0) >= FEWEST_PAIRS and isinstance(up, float) and max(up, 1 - up) >= NEARLY_ALL


def ties_said(share: float) -> str:
    """What that means for figures."""
    return (
        f"{share:.0%} of the events bear the very time of their user's event before, and such events are sorted by item_id: a model that "
        "looks at the last item learns the sorting, which raises its figures; in a file whose rows are shuffled it is gone"
    )


def sorting_said(column: str) -> str:
    """What that means for learning and for figures."""
    return (
        f"the rows of each user are sorted by {column}: that is not the order in which things happened, and what is learned of an order, "
        "and how well it tells the last rows, is that of the sorting; give the log times, or --order COLUMN"
    )
