"""DataFrames where a file may stand: those of polars as they are, those of pandas and others (no dependencies) turned into them."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from qurate.errors import Code, UserError
from qurate.events.sources import Table, as_table, with_order
from qurate.events.time_forms import known_form

Frame = Any
"""A DataFrame or LazyFrame of polars, a DataFrame of pandas, or any table with Arrow's `__arrow_c_stream__` (pyarrow, duckdb, ...)."""
NAME = "DataFrame"
"""Where errors and the plan say a row stands; a second frame is `DataFrame2`."""


def is_frame(given: object) -> bool:
    """Whether it is a DataFrame or LazyFrame of polars, a DataFrame of pandas, or a table of another library that hands out Arrow's."""
    return isinstance(given, pl.DataFrame | pl.LazyFrame) or _is_pandas(given) or _is_arrow(given)


def _is_arrow(given: object) -> bool:
    return hasattr(given, "__arrow_c_stream__") and not isinstance(given, pl.Series)


def _is_pandas(given: object) -> bool:
    return type(given).__name__ == "DataFrame" and type(given).__module__.partition(".")[0] == "pandas"


def lazy_frame(given: Frame) -> pl.LazyFrame:
    """A frame (`is_frame`) as polars has it, lazy; of pandas, missing values are null and levels of the index with a name are columns.

    Raises:
        UserError: it cannot be converted: a column of pandas mixes types, or a name stands twice.
    """
    if type(given).__name__ == "Series":
        hint = "write series.to_frame()"
        raise UserError("a DataFrame", "a Series, which is one column", where="DataFrame", hint=hint, code=Code.UNREADABLE_FILE)
    if isinstance(given, pl.DataFrame | pl.LazyFrame):
        frame: pl.LazyFrame = given.lazy()
        return frame
    try:
        return _of_pandas(given).lazy() if _is_pandas(given) else pl.DataFrame(given).lazy()
    except Exception as error:
        hint = "give each column one type, such as with astype(str), and a name of its own"
        got = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        raise UserError("a DataFrame that polars can read", got, where="DataFrame", hint=hint, code=Code.UNREADABLE_FILE) from error


def _of_pandas(given: Any) -> pl.DataFrame:
    """A DataFrame of pandas, column by column: polars' own conversion needs pyarrow as soon as one of them holds text."""
    levels = [name for name in given.index.names if name is not None and name not in given.columns]
    frame = given.reset_index(level=levels) if levels else given
    return pl.DataFrame([_column(str(name), frame.iloc[:, place]) for place, name in enumerate(frame.columns)])


def _column(name: str, values: Any) -> pl.Series:
    """A Series of pandas; times with a zone are in UTC, NaN, NaT, NA and None are null."""
    kind = getattr(values.dtype, "kind", "O")
    if kind == "M":
        zoned = getattr(values.dtype, "tz", None) is not None
        plain = (values.dt.tz_convert("UTC").dt.tz_localize(None) if zoned else values).to_numpy()
        times = pl.Series(name, plain.astype("datetime64[us]"))
        return times.dt.replace_time_zone("UTC") if zoned else times
    if kind in "iufb" and type(values.dtype).__module__.startswith("numpy"):
        return pl.Series(name, values.to_numpy(), nan_to_null=True)
    known = [None if missing else value for value, missing in zip(values.tolist(), values.isna().tolist())]
    if len({type(value) for value in known} - {type(None)}) > 1 and any(isinstance(value, str) for value in known):
        known = [None if value is None else str(value) for value in known]  # text beside numbers, as pandas reads a large file
    made = pl.Series(name, known)
    if made.dtype == pl.Object:
        raise TypeError(f"column {name} of {values.dtype}, such as {made[0]!r}")
    return made


def table_of(given: Frame, name: str) -> Table:
    """A frame as an open table, as if it stood in a Parquet file of that name; categories are text."""
    frame = lazy_frame(given)
    named = [column for column, dtype in frame.collect_schema().items() if dtype in (pl.Categorical, pl.Enum)]
    return as_table(frame.with_columns(pl.col(named).cast(pl.String)), Path(name), "frame")


def frames_of(path: Any, *, time_form: str | None, order: str | None) -> tuple[list[Table], Any]:
    """The tables of the frames in `path`, and the path or paths that remain; None where frames are all there is.

    Args:
        path: a frame, a path, or several of them.
        time_form, order: as for `open_tables`.
    """
    if not is_frame(path) and (isinstance(path, str | bytes | Path) or not isinstance(path, Iterable)):
        return [], path
    parts = [path] if is_frame(path) else list(path)
    frames, rest = [one for one in parts if is_frame(one)], [one for one in parts if not is_frame(one)]
    if not frames:
        return [], parts
    form = known_form(time_form)
    tables = [replace(table_of(one, NAME if i == 1 else f"{NAME}{i}"), time_form=form) for i, one in enumerate(frames, 1)]
    return tables if order is None else [with_order(table, order) for table in tables], rest or None
