"""The rows of the files of one layout: parsed, the bad ones and those that stand twice set aside.

One streaming pass over the rows finds what is bad or stands twice; the log itself stays lazy, except that of small files.
"""

from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from qurate.errors import Code, UserError
from qurate.events.candidate_rows import not_known_said
from qurate.events.expressions import parse_value
from qurate.events.fields import STEM, Columns, Fields, Layout, LogTables, flat, number
from qurate.events.file_times import ordered, times_of_files
from qurate.events.layouts import OWN_LAYOUT
from qurate.events.lines import read_by_line
from qurate.events.problems import problem
from qurate.events.reasons import Reason
from qurate.events.roles import DIGEST, SAMPLE_ROWS, Asked, Roles
from qurate.events.schema import FILE_ROWS
from qurate.events.set_aside import MAX_REJECTS, digest_of, doubles_of, rejects_of, whole_days_of
from qurate.events.sources import BROKEN, Table, unreadable
from qurate.events.times import Times, by_order, read_time

MADE = "_made_"
"""Before the names of the columns that a layout makes."""
SMALL_BYTES = 8_000_000
"""Files up to this size are read once, and their rows held in memory."""
DOUBLES_SAID = 0.01
"""Above this share of duplicates a note names the option that keeps them."""


@dataclass(frozen=True)
class CheckedRows:
    """Tables of one layout, checked: what they became, what was bad."""

    tables: LogTables
    rows: pl.LazyFrame
    unit: str
    form: str  # of the times, as people write it: see `Times.form`
    total: int
    rejects: pl.DataFrame
    notes: list[str]


@dataclass(frozen=True)
class Reading:
    """How rows become the contract's."""

    roles: dict[Path, Roles]  # of the files of no published layout
    asked: Asked = field(default_factory=Asked)
    keep_duplicates: bool = False


def read_rows(layout: Layout, tables: list[Table], start: int, reading: Reading) -> CheckedRows:
    """All files of one layout as one frame; where the fast parser gives up, once more line by line."""
    try:
        return _check_rows(layout, tables, start, reading)
    except UserError as error:
        if not error.where.startswith("column "):
            raise
        raise UserError(error.expected, error.got, where=f"{tables[0].path}, {error.where}", hint=error.hint, code=error.code) from None
    except PolarsError as error:
        if not any(table.is_text for table in tables):
            raise unreadable(tables[0].path, error) from None
    slow = [read_by_line(table) for table in tables]
    try:
        return _check_rows(layout, slow, start, reading)
    except PolarsError as error:
        raise unreadable(tables[0].path, error) from None


def _frame(layout: Layout, tables: list[Table], start: int, reading: Reading) -> pl.LazyFrame:
    parts = []
    for place, table in enumerate(tables, start):
        frame = table.frame.with_columns(pl.col("row") + place * FILE_ROWS, pl.lit(table.stem).alias(STEM))
        parts.append(reading.roles[table.path].apply(frame) if table.path in reading.roles else frame)
    return layout.spread(pl.concat(parts, how="diagonal_relaxed") if len(parts) > 1 else parts[0])


def _check_rows(layout: Layout, tables: list[Table], start: int, reading: Reading, other: Times | None = None) -> CheckedRows:
    frame = _frame(layout, tables, start, reading)
    columns = dict(frame.collect_schema())
    where = str(tables[0].path)
    moment, unit, form, about_time = _time_of(layout, frame, columns, tables, start, reading)
    if other is not None:
        moment, form = pl.coalesce(moment, other.moment), f"{form}, {other.form}"
    for name in layout.numbers:
        flat(columns, name)
    fields = _with_asked(layout.fields(columns), columns, reading.asked, tables) if layout is not OWN_LAYOUT else layout.fields(columns)
    # Columns of their own first, to which the checks refer: an expression that is written out wherever it is used
    # makes plans that take longer to optimise than to run.
    made = {name: pl.col(f"{MADE}{name}") for name in fields}
    rows = frame.with_columns(moment.alias("_moment"), **{f"{MADE}{name}": expr for name, expr in fields.items()}).select(
        "row",
        pl.col("_moment").alias("timestamp"),
        problem(layout, made, columns, any(table.separator for table in tables)).alias("_problem"),
        *([digest_of(columns).alias(DIGEST)] if layout.dedupe else []),
        *(column.alias(name) for name, column in made.items()),
    )
    if all(table.cut or table.kind == "frame" or table.plain.stat().st_size <= SMALL_BYTES for table in tables):
        rows = rows.collect(engine="streaming").lazy()
    event_id = "event_id" in fields
    wanted = ["row", "_problem", *([DIGEST] if layout.dedupe else []), *(["event_id"] if event_id else [])]
    seen = rows.select(wanted).collect(engine="streaming")
    if seen.height == 0:
        raise _no_rows(where)
    form_given = any(table.time_form for table in tables)
    if other is None and unit == "text" and not form_given and (seen["_problem"] == Reason.UNREADABLE_TIME.of()).any():
        other = _other_times(layout, frame, columns, moment)
        if other is not None:
            return _check_rows(layout, tables, start, reading, other)
    days = layout is OWN_LAYOUT and unit in ("text", "datetime") and whole_days_of(frame, moment)
    doubles = doubles_of(seen, layout, days or reading.keep_duplicates)
    some_bad = seen["_problem"].null_count() < seen.height  # without any, the checks are not made again whenever the rows are read
    clean = (rows.filter(pl.col("_problem").is_null()) if some_bad else rows).drop("_problem", DIGEST, strict=False)
    if len(doubles):
        clean = clean.filter(~pl.col("row").is_in(doubles.implode()))
    rejects = rejects_of(seen.select("row", pl.col("_problem").alias("reason")).drop_nulls(), doubles, tables, start)
    notes = [layout.note] if layout.note else []
    notes += [f"{table.path.name} begins with a byte order mark, which is not read" for table in tables if table.bom]
    notes += [f"{table.path.name}: {note}" for table in tables for note in table.notes]
    notes += [*about_time, *not_known_said(clean)]
    if len(doubles):
        notes.append(f"{len(doubles):,} duplicate rows dropped")
        if len(doubles) > DOUBLES_SAID * seen.height and not reading.keep_duplicates:
            notes.append(f"{len(doubles) / seen.height:.1%} of the rows were duplicates; --keep-duplicates reads them as further events")
    if days and (repeats := len(doubles_of(seen, layout, False)) - len(doubles)):
        notes.append(f"times are days: {repeats:,} equal rows of a day are further events, not duplicates")
    notes += [note for table in tables if table.path in reading.roles for note in reading.roles[table.path].notes]
    notes += ["the file was read line by line, because the fast parser could not read it"] if any(table.by_line for table in tables) else []
    if unit == "order" and not about_time:
        notes.append("the log has no time: rows stand one second apart in the order of the file")
    return CheckedRows(layout.expand(clean), clean, unit, form, seen.height, rejects, notes)


def _time_of(
    layout: Layout, frame: pl.LazyFrame, columns: Columns, tables: list[Table], start: int, reading: Reading
) -> tuple[pl.Expr, str, str, list[str]]:
    """The expression of the time, its unit, its form, and what is to be said about it."""
    name = next((one for one in layout.time if one in columns), None)
    if name is None:
        return by_order(None), "order", "", []
    if tables[0].order is not None:
        return ordered(tables, name)
    files, empty = {}, []
    for place, table in enumerate(tables, start):
        part = frame if len(tables) == 1 else _frame(layout, [table], place, reading)
        have = part.collect_schema()
        if name not in have:
            continue
        sample = part.select(name).drop_nulls().head(SAMPLE_ROWS).collect(engine="streaming").to_series()
        if len(sample) == 0 and part.head(1).collect().height == 0:
            empty.append(table)
            continue
        if len(sample) == 0 and BROKEN in have:
            _refuse_broken(part, str(table.path))
        files[place] = (table, part, sample)
    if not files:
        raise _no_rows(str((empty or tables)[0].path))
    named = {path: roles.source[name] for path, roles in reading.roles.items() if name in roles.source}
    moment, unit, form, said = times_of_files(name, columns[name], files, frame, named)
    return moment, unit, form, [*said, *(f"{table.path.name} has a header and no rows" for table in empty)]


def _refuse_broken(frame: pl.LazyFrame, where: str) -> None:
    """No row has a time: if that is because none could be read, that is the error."""
    broken = frame.select("row", BROKEN).collect()
    counts = broken[BROKEN].drop_nulls().value_counts(sort=True)
    if counts.height:
        reason, count = counts.row(0)
        line = broken.filter(pl.col(BROKEN) == reason)["row"][0] % FILE_ROWS
        got = f"{reason} in {count:,} of {broken.height:,} (first in line {line})"
        raise UserError(
            "rows that can be read", got, where=where, hint='repair them; a quote within a field is written ""', code=Code.TOO_MANY_BAD_ROWS
        )


def _other_times(layout: Layout, frame: pl.LazyFrame, columns: Columns, moment: pl.Expr) -> Times | None:
    """How to read times whose format first occurs after the sample; None where they fit no format."""
    name = next(one for one in layout.time if one in columns)
    late = frame.filter(pl.col(name).is_not_null() & moment.is_null()).select(name).head(MAX_REJECTS).collect(engine="streaming")
    try:
        other = read_time(name, columns[name], late.to_series(), "", frames=[frame])
    except UserError:
        return None
    return other if other.unit == "text" else None


def _no_rows(where: str) -> UserError:
    return UserError("at least one row", "a file with a header only", where=where, hint="check how it was written", code=Code.EMPTY_FILE)


def _with_asked(fields: Fields, columns: Columns, asked: Asked, tables: list[Table]) -> Fields:
    """A published layout with the user's `--type` and `--value`."""
    stem = pl.col(STEM).cast(pl.String)
    types = {table.stem: kind for table in tables if (kind := asked.type_of(table)) is not None}
    fields = dict(fields)
    for name, kind in types.items():
        fields["type"] = pl.when(stem == name).then(pl.lit(kind)).otherwise(fields["type"])
    if asked.value is not None:
        known = {name: number(name) for name, dtype in columns.items() if not dtype.is_nested()}
        fields["value"] = parse_value(asked.value, known)[0]
    return fields
