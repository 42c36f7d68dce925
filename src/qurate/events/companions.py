"""Tables of items and users that stand beside a log or are given by `--items` and `--users`."""

from pathlib import Path
from typing import Literal

import polars as pl
from polars.exceptions import PolarsError

from qurate.errors import UserError, nearest
from qurate.events.fields import Columns, first, ident, number
from qurate.events.sources import Table, beside, find_files, open_table, unreadable
from qurate.events.times import parse_time

Owner = Literal["item_id", "user_id"]

ID_NAMES: dict[str, tuple[str, ...]] = {
    "item_id": ("item_id", "item_id:token", "ITEM_ID", "movieId", "video_id", "article_id", "itemid", "product_id", "news_id", "aid"),
    "user_id": ("user_id", "user_id:token", "USER_ID", "userId", "visitorid", "userID"),
}
SAMPLE_ROWS = 10_000


def read_features(path: str | Path, owner: Owner) -> pl.LazyFrame:
    """A table of items (`item_id`) or users (`user_id`) from CSV, JSONL, Parquet or RecBole files.

    The id is text, `available_from` a time (UTC, microseconds); the other columns are features as they stand. A table
    whose id has the name of a published layout (movieId, ITEM_ID) is understood.

    Raises:
        UserError: no such file, no id column, an unreadable `available_from`, more than one file.
    """
    files = find_files(path)
    if len(files) != 1:
        raise UserError("one file", f"a directory with {len(files)}", str(path), "name the file", "bad_path")
    table = open_table(files[0])
    try:
        return features_of(table, owner)
    except PolarsError as error:
        raise unreadable(table.path, error) from None


def features_of(table: Table, owner: Owner) -> pl.LazyFrame:
    """The same of a table that is open already."""
    columns = table.columns
    name = first(columns, *ID_NAMES[owner])
    if name is None:
        raise UserError(f"a column {owner}", ", ".join(list(columns)[:20]), str(table.path), nearest(owner, columns), "unknown_columns")
    picked = [ident(columns, name).alias(owner)]
    for column, dtype in columns.items():
        if column == name:
            continue
        if column == "available_from":
            sample = table.frame.select(column).drop_nulls().head(SAMPLE_ROWS).collect().to_series()
            if len(sample):
                picked.append(parse_time(column, dtype, sample, f"{table.path}, column {column}")[0].alias(column))
            continue
        picked.append(_feature(column, dtype))
    return table.frame.filter(pl.col(name).is_not_null()).select(picked)


def _feature(column: str, dtype: pl.DataType) -> pl.Expr:
    """A feature under its plain name: RecBole's `name:type` headers say how to read it, `genres` is a list."""
    name, _, kind = column.partition(":")
    if kind == "float":
        return number(column).alias(name)
    if kind in ("token_seq", "float_seq"):
        listed = pl.col(column).str.split(" ")
        return (listed if kind == "token_seq" else listed.cast(pl.List(pl.Float32), strict=False)).alias(name)
    if kind == "token":
        return pl.col(column).alias(name)
    if column == "genres" and dtype == pl.String:
        return pl.col(column).str.split("|").list.filter(pl.element() != "(no genres listed)")
    return pl.col(column)


def features_beside(path: Path, **names: str) -> dict[str, pl.LazyFrame]:
    """`items="movies", users="users"`: those files beside the log that exist and have the right id."""
    owners: dict[str, Owner] = {"items": "item_id", "users": "user_id"}
    out = {}
    for key, name in names.items():
        table = beside(path, name)
        if table is not None and has_id(table.columns, owners[key]):
            out[key] = features_of(table, owners[key])
    return out


def has_id(columns: Columns, owner: Owner) -> bool:
    """Whether the table is one of items or users."""
    return first(columns, *ID_NAMES[owner]) is not None
