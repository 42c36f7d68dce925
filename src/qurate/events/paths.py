"""Paths into objects: `properties.product_id` of a column `properties`, whether JSON text, an object, or a list of them."""

from typing import Any

import msgspec
import polars as pl

from qurate.errors import Code, UserError, nearest
from qurate.events.fields import Columns


def lookup(path: str, columns: Columns, sample: pl.DataFrame, where: str) -> None:
    """Checks that a column, or a path into one, is there.

    Raises:
        UserError: no such column, or no row of the sample has something at the path.
    """
    if path in columns:
        return
    name, dot, _ = path.partition(".")
    if not dot or name not in columns:
        inside = [f"{column}.{key}" for column in columns for key in _keys(sample[column])] if dot or len(columns) < 100 else []
        tail = [one for one in inside if one.rpartition(".")[2] == path]
        hint = f"did you mean {tail[0]}?" if tail else nearest(path, [*columns, *inside])
        raise UserError("a column of the log", path, where=where, hint=hint, code=Code.UNKNOWN_COLUMN)
    if not sample.height or sample.select(value_at(path, columns).is_not_null().any()).item():
        return
    keys = [f"{name}.{key}" for key in _keys(sample[name])]
    raise UserError("a path into a column", path, where=where, hint=nearest(path, keys), code=Code.UNKNOWN_COLUMN)


def value_at(path: str, columns: Columns) -> pl.Expr:
    """What stands at the path: text, or a list where the column is a list of objects."""
    name, _, rest = path.partition(".")
    raw, dtype = pl.col(name), columns[name]
    keys = rest.split(".")
    if isinstance(dtype, pl.List | pl.Array) and isinstance(dtype.inner, pl.Struct):
        return raw.list.eval(_inside(pl.element(), dtype.inner, keys))
    if isinstance(dtype, pl.Struct):
        return _inside(raw, dtype, keys)
    if dtype != pl.String:
        return pl.lit(None, pl.String)
    value = raw.str.json_path_match("$" + "".join(f"['{key}']" for key in keys))
    # MongoDB's objects were read as the value in them already.
    return pl.coalesce(value, pl.when(~raw.str.starts_with("{")).then(raw)) if all(key.startswith("$") for key in keys) else value


def _inside(raw: pl.Expr, dtype: pl.DataType, keys: list[str]) -> pl.Expr:
    for place, key in enumerate(keys):
        if dtype == pl.String:
            return raw.str.json_path_match("$" + "".join(f"['{one}']" for one in keys[place:]))
        known = {one.name: one.dtype for one in dtype.fields} if isinstance(dtype, pl.Struct) else {}
        if key not in known:
            return pl.lit(None, pl.String)
        raw, dtype = raw.struct.field(key), known[key]  # type: ignore[assignment]
    return raw


def _keys(values: pl.Series) -> list[str]:
    """The keys of a column of objects, from its first value."""
    dtype: Any = values.dtype
    if isinstance(dtype, pl.Struct):
        return [field.name for field in dtype.fields]
    if dtype != pl.String:
        return []
    for text in values.drop_nulls().head(20):
        try:
            record = msgspec.json.decode(text)
        except msgspec.DecodeError:
            return []
        if isinstance(record, dict):
            return [f"{key}.{inner}" for key, value in record.items() if isinstance(value, dict) for inner in value] + list(record)
    return []
