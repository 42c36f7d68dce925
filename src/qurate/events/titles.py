"""Which column of a table of items is its title, and the titles by id: an id alone says nothing to people."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl

TITLES = (
    "title", "name", "item_name", "item_title", "product_name", "product_title", "movie_title", "video_title", "news_title",
    "track_name", "headline", "caption", "display_name", "标题", "名称", "商品名称", "商品名", "商品标题", "品名", "品名称",
)  # fmt: skip
"""Column names that are titles, whatever their capitals."""
CATEGORIES = ("category", "categories", "category_name", "genre", "genres", "type", "brand", "subcategory", "类别", "类目", "分类", "品类")
PRICES = ("price", "unit_price", "sale_price", "价格", "售价", "单价")


def first_of(columns: Iterable[str], names: Iterable[str]) -> str | None:
    """The column that has the first of these names, without regard to capitals."""
    plain = {column.lower(): column for column in columns}
    return next((plain[name] for name in names if name in plain), None)


def title_column(items: pl.DataFrame, spec: Mapping[str, Any]) -> str | None:
    """The title among the columns of items: the one that `ingest --title-column` said (`spec["title"]`), else by its name."""
    said = spec.get("title")
    return str(said) if said in items.columns else first_of(items.columns, TITLES)


def with_title(described: Sequence[Mapping[str, Any]], title: str | None) -> list[dict[str, Any]]:
    """What `described_features` says of a table of items, with the title called so.

    Args:
        described: of every column. title: the column that the user said; None: found by its name.
    """
    column = title or first_of((one["column"] for one in described), TITLES)
    of_title = [f"{one['became']}, and the title" if one["dimensions"] else "the title" for one in described]
    return [{**one, "became": said} if one["column"] == column else dict(one) for one, said in zip(described, of_title)]


def titles(items: pl.DataFrame, spec: Mapping[str, Any]) -> dict[str, str]:
    """Title of each item that has one, by id; empty where the table has no such column."""
    column = title_column(items, spec)
    if column is None or items[column].dtype.is_nested():
        return {}
    known = items.select("item_id", pl.col(column).cast(pl.String).str.strip_chars()).filter(pl.col(column).fill_null("") != "")
    return dict(known.iter_rows())


def text_of(value: object) -> str:
    """A cell of a table of items for people."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.2f}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
