"""Paths into objects: `properties.product_id` of a column `properties`, whether JSON text, an object, or a list of them.

Of a list of `{"key": NAME, "value": ...}`, as Google Analytics writes it, `event_params.NAME` is the value of that key.
"""

from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from qurate.errors import Code, UserError, nearest
from qurate.events.fields import Columns
from qurate.events.json_documents import lists_within_said
from qurate.events.quotes import SCALARS

ENTRY = ("key", "value")
SOME, DEEP = 20, 2
"""So many values are looked into, so deep below their own keys."""
KINDS = ("string_value", "int_value", "float_value", "double_value")
"""Fields of such a value, one of which is filled."""


def lookup(path: str, columns: Columns, sample: pl.DataFrame, where: str) -> None:
    """Checks that a column, or a path into one, is there.

    Raises:
        UserError: no such column, or no row of the sample has something at the path.
    """
    if path in columns:
        return
    name, dot, _ = path.partition(".")
    if not dot or name not in columns:
        inside = paths_in(sample.select(list(columns))) if dot or len(columns) < 100 else []
        tail = [one for one in inside if one.rpartition(".")[2] == path]
        hint = f"did you mean {tail[0]}?" if tail else nearest(path, [*columns, *inside])
        raise UserError("a column of the log", path, where=where, hint=hint, code=Code.UNKNOWN_COLUMN)
    if not sample.height:
        return
    found = sample.select(value_at(path, columns)).to_series()
    if isinstance(found.dtype, pl.List) and not len(found.explode().drop_nulls()) and (inner := _list_above(path, columns, sample)):
        got, shown = f"lists within the lists of {name}, at {inner}", Path(where.rpartition(", ")[2])
        hint = lists_within_said(name, inner.removeprefix(f"{name}."), shown)
        raise UserError("a list of objects, or one object", got, where=where, hint=hint, code=Code.BAD_MAP)
    if found.is_not_null().any():
        return
    keys = [f"{name}.{key}" for key in _keys(sample[name])]
    raise UserError("a path into a column", path, where=where, hint=nearest(path, keys), code=Code.UNKNOWN_COLUMN)


def _list_above(path: str, columns: Columns, sample: pl.DataFrame) -> str:
    """The way to a list within a list of objects, on the way to something; "" where there is none."""
    parts = path.split(".")
    for end in range(2, len(parts)):
        inner = ".".join(parts[:end])
        values = sample.select(value_at(inner, columns)).to_series().explode().drop_nulls()
        if isinstance(values.dtype, pl.List) or (values.dtype == pl.String and values.str.starts_with("[").any()):
            return inner
    return ""


def value_at(path: str, columns: Columns) -> pl.Expr:
    """What stands at the path: text, or a list where the column is a list of objects."""
    name, _, rest = path.partition(".")
    raw, dtype = pl.col(name), columns[name]
    keys = rest.split(".")
    if isinstance(dtype, pl.List | pl.Array) and isinstance(dtype.inner, pl.Struct):
        fields: dict[str, Any] = {one.name: one.dtype for one in dtype.inner.fields}
        if set(ENTRY) <= set(fields) and keys[0] not in fields:
            entry = pl.when(pl.element().struct.field("key") == keys[0]).then(_value(pl.element(), fields["value"], keys[1:]))
            return raw.list.eval(entry).list.drop_nulls().list.first()
        return raw.list.eval(_inside(pl.element(), dtype.inner, keys))
    if isinstance(dtype, pl.Struct):
        return _inside(raw, dtype, keys)
    if dtype != pl.String:
        return pl.lit(None, pl.String)
    value: pl.Expr = raw.str.json_path_match("$" + "".join(f"['{key}']" for key in keys))
    if not any("'" in key for key in keys):
        listed = pl.when(raw.str.starts_with("[")).then(raw)  # null elsewhere, so that objects are not parsed again
        of_key = f"$[?(@.key=='{keys[0]}')].value"
        inside = [listed.str.json_path_match(f"{of_key}.{kind}") for kind in keys[1:2] or KINDS]
        scalar = listed.str.json_path_match(of_key)
        value = pl.coalesce(value, *inside, *([] if keys[1:] else [pl.when(~scalar.str.starts_with("{")).then(scalar)]))
    # MongoDB's and DynamoDB's objects were read as the value in them already.
    read = all(key.startswith("$") for key in keys) or keys[0] in SCALARS
    return pl.coalesce(value, pl.when(~raw.str.starts_with("{")).then(raw)) if read else value


def _value(entry: pl.Expr, dtype: pl.DataType, kinds: list[str]) -> pl.Expr:
    """The value of `{"key": ..., "value": ...}` as text: the filled one of its kinds, or the one named."""
    raw = entry.struct.field("value")
    if isinstance(dtype, pl.Struct):
        known = [one.name for one in dtype.fields if one.name in (kinds or KINDS)]
        return pl.coalesce([raw.struct.field(kind).cast(pl.String) for kind in known] or [pl.lit(None, pl.String)])
    text = raw.cast(pl.String)
    inside = [text.str.json_path_match(f"$.{kind}") for kind in kinds or KINDS]
    return pl.coalesce(*inside, *([] if kinds else [pl.when(~text.str.starts_with("{")).then(text)]))


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
    """The keys of a column of objects, from its first values; of a list of objects its fields, or the keys that they name."""
    dtype: Any = values.dtype
    if isinstance(dtype, pl.Struct):
        return [field.name for field in dtype.fields]
    if isinstance(getattr(dtype, "inner", None), pl.Struct):
        fields = [field.name for field in dtype.inner.fields]
        if not set(ENTRY) <= set(fields):
            return fields
        named = values.head(SOME).explode().struct.field("key").cast(pl.String)
        return named.drop_nulls().unique(maintain_order=True).to_list()
    return keys_of_text(values.drop_nulls().head(SOME)) if dtype == pl.String else []


def keys_of_text(texts: pl.Series) -> list[str]:
    """The keys in JSON text, those of inner objects with the way to them; none where a text is no JSON."""
    named: dict[str, None] = {}
    for text in texts:
        try:
            record = msgspec.json.decode(text)
        except msgspec.DecodeError:
            return []
        if isinstance(record, dict):
            named |= dict.fromkeys(_ways(record, DEEP))
        if isinstance(record, list):
            named |= {str(entry["key"]): None for entry in record if isinstance(entry, dict) and set(ENTRY) <= set(entry)}
    return list(named)


def _ways(record: dict[str, Any], deep: int) -> list[str]:
    """Keys, those of inner objects with the way to them before them."""
    inside = [f"{key}.{way}" for key, value in record.items() if isinstance(value, dict) and deep for way in _ways(value, deep - 1)]
    return inside + list(record)


def paths_in(sample: pl.DataFrame) -> list[str]:
    """The ways to what stands in the objects of a table: `properties.product_id`."""
    return [f"{column}.{key}" for column in sample.columns for key in _keys(sample[column])]
