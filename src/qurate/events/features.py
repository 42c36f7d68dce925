"""Feature columns of items (or users) as a float matrix, with a JSON-able spec so that serving does the same.

Numbers are standardised, text and ids one-hot by their most frequent values, both with a column more where some are missing;
lists and "A|B" text are multi-hot, lists of floats taken as they are.
"""

import re
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from qurate.errors import Code, UserError
from qurate.events.feature_text import NUMBERS, SIGNS, form_of, lists_in, numbers_in

MAX_VALUES = 64
"""One-hot and multi-hot columns keep this many values, the most frequent ones."""
MIN_COVERAGE = 0.1
"""A text column is a feature where its kept values cover at least this share of the rows."""
CLIP = 10.0
"""Standardised numbers stay within this many standard deviations: one odd price must not drown the rest."""
HUGE, TINY = 1e30, 1e-12
"""Larger numbers count as missing; a column that varies by less than TINY of its size is constant."""
NOT_FEATURES = ("item_id", "user_id", "available_from", "available_until", "row", "split")
IDENTIFIER = re.compile(r"(^|_)(id|ids|code|zip|postcode|gender|category|type|brand|segment|class)$|[a-z]Id$")
"""Whole numbers under such a name are labels, not quantities."""

Spec = dict[str, Any]


def feature_matrix(table: pl.DataFrame, spec: Spec | None = None) -> tuple[NDArray[np.float32], Spec]:
    """Features of N rows: float32 [N, F], and the spec that made them.

    Args:
        table: one row per item or user; the id columns are left out.
        spec: what an earlier call returned: the same columns, means and values are applied. Absent columns and values
            that cannot be read count as missing, unknown values as none of the known ones.

    Raises:
        UserError: the spec is not one of ours.
    """
    if spec is None:
        spec = _fit(table)
    if not isinstance(spec, dict) or spec.get("format") != 1 or not isinstance(spec.get("columns"), list):
        raise UserError(
            "a feature spec of format 1", str(spec)[:80], where="features.json", hint="the file is damaged", code=Code.BAD_FEATURES
        )
    blocks = [_apply(table, column) for column in spec["columns"]]
    matrix = np.concatenate(blocks, axis=1) if blocks else np.zeros((table.height, 0), np.float32)
    return np.ascontiguousarray(matrix, dtype=np.float32), spec


def feature_names(spec: Spec) -> list[str]:
    """Names of the F features, in the order of the matrix's columns."""
    names: list[str] = []
    for column in spec["columns"]:
        name = column["name"]
        if column["kind"] == "numeric":
            names += [name, *([f"{name}:missing"] if column["missing"] else [])]
        elif column["kind"] == "vector":
            names += [f"{name}[{i}]" for i in range(column["length"])]
        else:
            names += [f"{name}={value}" for value in column["values"]] + ([f"{name}:missing"] if column.get("missing") else [])
    return names


def described_features(spec: Spec) -> list[dict[str, Any]]:
    """What each column became: [{"column", "became", "dimensions"}]; columns left out have "not a feature" and 0."""
    out = []
    for column in spec["columns"]:
        form = column.get("form") or ""
        kind = f"number ({'amount' if form.startswith('money') else 'days'})" if form in NUMBERS and form != "number" else column["kind"]
        out.append({"column": column["name"], "became": kind, "dimensions": len(feature_names({"columns": [column]}))})
    return out + [{"column": name, "became": "not a feature", "dimensions": 0} for name in spec["dropped"]]


def _fit(table: pl.DataFrame) -> Spec:
    columns, dropped = [], []
    for name in table.columns:
        if name in NOT_FEATURES:
            continue
        column = _fit_column(table[name])
        if column is None:
            dropped.append(name)
        else:
            columns.append(column)
    return {"format": 1, "columns": columns, "dropped": dropped}


def _fit_column(values: pl.Series) -> Spec | None:
    """How to encode one column; None where it says nothing (constant, or text that never repeats)."""
    dtype, name = values.dtype, values.name
    if isinstance(dtype, pl.List | pl.Array) and dtype.inner.is_float():
        lengths = values.cast(pl.List(pl.Float64)).list.len().drop_nulls().unique()
        return {"name": name, "kind": "vector", "length": int(lengths[0])} if len(lengths) == 1 else None
    if (_is_number(dtype) and not dtype.is_integer()) or (not IDENTIFIER.search(name) and _reads_as_number(values)):
        return fit_numbers(_numbers(values), name)
    if dtype == pl.Struct or dtype == pl.Binary or dtype == pl.Object:
        return None
    form = form_of(_texts(values)) if dtype == pl.String else None
    form = None if form == "number" and IDENTIFIER.search(name) else form
    if form in NUMBERS and (spec := fit_numbers(_numbers(numbers_in(_texts(values), form)), name)) is not None:
        return {**spec, "form": form}
    multi = form == "list" or form in SIGNS or _is_multi(values)
    counts = (
        _lists(values, form).explode().drop_nulls().value_counts(sort=False)
        if multi
        else _texts(values).drop_nulls().value_counts(sort=False)
    )
    value, count = counts.columns
    counts = counts.filter((pl.col(count) >= 2) & (pl.col(count) < len(values)) & (pl.col(value) != ""))
    # Equal counts are ordered by name: the spec must not depend on the order in which a hash table was walked.
    counts = counts.sort([count, value], descending=[True, False]).head(MAX_VALUES)
    if not multi and counts[count].sum() < MIN_COVERAGE * len(values):
        return None  # titles, SKUs: nearly every row has its own
    kept = counts[value].to_list()
    spec = {"name": name, "kind": "multihot" if multi else "onehot", "values": kept}
    if not multi and bool(_absent(values).any()):
        spec["missing"] = True
    return (spec if form is None else {**spec, "form": form}) if kept else None


def fit_numbers(numbers: NDArray[np.float64], name: str) -> Spec | None:
    """How to encode a column of numbers (NaN = missing); None where it is constant or empty."""
    known = numbers[np.isfinite(numbers)]
    missing = bool(len(known) < len(numbers))
    if len(known) == 0:
        return None
    mean, std = float(known.mean()), float(known.std())
    constant = std <= TINY * max(abs(mean), 1.0)
    if constant and not missing:
        return None
    return {"name": name, "kind": "numeric", "mean": mean, "std": 1.0 if constant else std, "missing": missing}


def _apply(table: pl.DataFrame, column: Spec) -> NDArray[np.float32]:
    n, kind = table.height, column["kind"]
    values = table[column["name"]] if column["name"] in table.columns else pl.Series(column["name"], [None] * n, dtype=pl.String)
    form = column.get("form") if values.dtype == pl.String else None
    if kind == "numeric":
        numbers = _numbers(values if form is None else numbers_in(_texts(values), form))
        return scale_numbers(numbers, column)
    if kind == "vector":
        return _vectors(values, column["length"])
    if kind not in ("onehot", "multihot"):
        raise UserError(
            "numeric, onehot, multihot or vector", str(kind), where="features.json", hint="the file is damaged", code=Code.BAD_FEATURES
        )
    flat = pl.DataFrame({"row": np.arange(n), "value": _lists(values, form) if kind == "multihot" else _texts(values)})
    flat = (flat.explode("value") if kind == "multihot" else flat).drop_nulls()
    index = flat["value"].cast(pl.Enum(column["values"]), strict=False).to_physical().cast(pl.Int64).fill_null(-1).to_numpy()
    hot = np.zeros((n, len(column["values"])), np.float32)
    hot[flat["row"].to_numpy()[index >= 0], index[index >= 0]] = 1.0
    return np.column_stack([hot, _absent(values)]).astype(np.float32) if column.get("missing") else hot


def scale_numbers(numbers: NDArray[np.float64], column: Spec) -> NDArray[np.float32]:
    """float32 [N, 1], or [N, 2] with a flag for missing ones, by what `fit_numbers` found."""
    known = np.isfinite(numbers)
    scaled = np.where(known, (np.where(known, numbers, 0.0) - column["mean"]) / column["std"], 0.0).clip(-CLIP, CLIP)
    return (np.stack([scaled, ~known], axis=1) if column["missing"] else scaled[:, None]).astype(np.float32)


def _reads_as_number(values: pl.Series) -> bool:
    """Numbers, or the text of numbers, as every column of a CSV file is."""
    if values.dtype != pl.String:
        return _is_number(values.dtype)
    known = values.drop_nulls()
    known = known.filter(known.str.strip_chars() != "")
    return len(known) > 0 and known.cast(pl.Float64, strict=False).null_count() == 0


def _is_number(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or dtype == pl.Boolean or dtype.is_temporal()


def _numbers(values: pl.Series) -> NDArray[np.float64]:
    """float64 [N], NaN where missing; times in days."""
    if values.dtype.is_temporal():
        values = (
            values.cast(pl.Datetime("us"), strict=False).dt.epoch("us") / 86_400e6
            if values.dtype != pl.Duration
            else values.dt.total_seconds()
        )
    if isinstance(values.dtype, pl.List | pl.Array | pl.Struct):
        return np.full(len(values), np.nan)
    numbers = values.cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy()
    return np.where(np.abs(numbers) < HUGE, numbers, np.nan)


def _is_multi(values: pl.Series) -> bool:
    return isinstance(values.dtype, pl.List | pl.Array) or bool(_texts(values).str.contains("|", literal=True).any())


def _texts(values: pl.Series) -> pl.Series:
    if isinstance(values.dtype, pl.List | pl.Array | pl.Struct):
        return pl.Series(values.name, [None] * len(values), dtype=pl.String)
    return values.cast(pl.String, strict=False).str.strip_chars()


def _absent(values: pl.Series) -> NDArray[np.bool_]:
    """[N] whether a row says nothing."""
    return (_texts(values).fill_null("") == "").to_numpy()


def _lists(values: pl.Series, form: str | None = None) -> pl.Series:
    if isinstance(values.dtype, pl.List | pl.Array):
        return values.cast(pl.List(pl.String))
    if form is not None:
        return lists_in(_texts(values), form)
    return _texts(values).str.split("|")


def _vectors(values: pl.Series, length: int) -> NDArray[np.float32]:
    """float32 [N, length]; rows that are missing or of another length are zero."""
    out = np.zeros((len(values), length), np.float32)
    if isinstance(values.dtype, pl.List | pl.Array):
        lists = values.cast(pl.List(pl.Float32))
        fits = (lists.list.len() == length).fill_null(False).to_numpy()
        out[fits] = lists.filter(pl.Series(fits)).explode().fill_null(0.0).to_numpy().reshape(-1, length)
    return np.nan_to_num(out, nan=0.0, posinf=0.0, neginf=0.0)
