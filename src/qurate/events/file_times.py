"""The times of a log of several files, each of which may write them in its own way."""

from pathlib import Path

import polars as pl

from qurate.events.schema import FILE_ROWS
from qurate.events.sources import Table
from qurate.events.times import Times, by_order, read_time


def ordered(tables: list[Table], column: str) -> tuple[pl.Expr, str, str, list[str]]:
    """Times of a log that has an order only: the expression, the unit, no form, and what is to be said."""
    by = tables[0].order
    said = f"no real times: rows stand one second apart, by {by or 'the order of the file'}"
    return by_order(pl.col(column) if by else None), "order", "", [said]


def times_of_files(
    column: str,
    dtype: pl.DataType,
    files: dict[int, tuple[Table, pl.LazyFrame, pl.Series]],
    whole: pl.LazyFrame,
    named: dict[Path, str],
) -> tuple[pl.Expr, str, str, list[str]]:
    """The expression of the time of all rows, the unit of the first file, the forms of all of them, and what is to be said.

    Args:
        column: the column of the time, of type `dtype` where all files stand together.
        named: file -> what the column is called there, where that is another name.
        files: number -> table, its rows, some values of the column; `row` holds the number (see FILE_ROWS).
        whole: the rows of all the files: day and month may be told apart by another file of the log.

    Raises:
        UserError: a file's column holds no times, or day and month cannot be told apart.
    """
    found: dict[int, Times] = {}
    for number, (table, part, sample) in files.items():
        frames = [part, whole] if len(files) > 1 else [whole]
        where = f"{table.path}, column {named.get(table.path, column)}"
        found[number] = read_time(column, dtype, sample.cast(dtype), where, form=table.time_form, frames=frames)
    forms = {times.form for times in found.values()}
    said = [f"{files[number][0].path.name}: times are read as {times.form}" for number, times in found.items() if len(forms) > 1]
    said += [f"{files[number][0].path.name}: {times.assumed}" for number, times in found.items() if times.assumed]
    first, form = next(iter(found.values())), ", ".join(dict.fromkeys(times.form for times in found.values()))
    if len(forms) == 1:
        return first.moment, first.unit, form, said
    file = pl.col("row") // FILE_ROWS
    return pl.coalesce([pl.when(file == number).then(times.moment) for number, times in found.items()]), first.unit, form, said
