"""`read_events`: files in any known layout to one `EventLog`, bad rows set aside with their line and reason.

One streaming pass over the rows finds what is bad or stands twice; the log itself stays lazy.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl
from polars.exceptions import PolarsError

from qurate.errors import Code, UserError
from qurate.events.described import described
from qurate.events.expressions import parse_value
from qurate.events.fields import STEM, Columns, Fields, Layout, Tables, conform_decisions, conform_events, flat, number
from qurate.events.file_times import ordered, times_of_files
from qurate.events.file_types import name_by_file
from qurate.events.find_roles import roles_of
from qurate.events.layouts import DECISIONS, OWN, OWN_LAYOUT, recognise, unknown_columns
from qurate.events.lines import read_by_line
from qurate.events.places import Paths, find_places
from qurate.events.problems import problem
from qurate.events.reasons import Reason
from qurate.events.roles import DIGEST, SAMPLE_ROWS, Asked, Roles, sample_of
from qurate.events.schema import FILE_ROWS, EventLog, Kind
from qurate.events.service_log import read_store
from qurate.events.set_aside import MAX_REJECTS, digest_of, doubles_of, refuse_if_bad, rejects_of, whole_days_of
from qurate.events.sources import BROKEN, STORE, Table, beside, open_table, open_tables, refuse_unnamed, unreadable, with_joined
from qurate.events.times import by_order, read_time

DEFAULT_MAX_BAD = 0.01
MADE = "_made_"
"""Before the names of the columns that a layout makes."""
DOUBLES_SAID = 0.01
"""Above this share of duplicates a note names the option that keeps them."""


@dataclass(frozen=True)
class _Rows:
    """Tables of one layout, checked: what they became, what was bad."""

    tables: Tables
    rows: pl.LazyFrame
    unit: str
    total: int
    rejects: pl.DataFrame
    notes: list[str]


def read_events(
    path: Paths,
    map: dict[str, str] | None = None,
    layout: str | None = None,
    max_bad: float = DEFAULT_MAX_BAD,
    decisions: str | Path | None = None,
    *,
    type: str | Mapping[str, str] | None = None,
    value: str | None = None,
    keep_duplicates: bool = False,
    rows: int | None = None,
    separator: str | None = None,
    header: bool | None = None,
    columns: Sequence[str] | None = None,
    encoding: str | None = None,
    time_form: str | None = None,
    order: str | None = None,
) -> EventLog:
    """An event log from text tables, JSON, Parquet, RecBole files (gzip and zip too), or a directory of `qurate serve --data`.

    Args:
        path: a file, several, or a directory with its subfolders.
        map: contract's column -> the log's own column, a path into one (`properties.product_id`), or two for a time
            (`date+time`); `FILE:column` is for one file.
        layout: read as this one instead of recognising it by the columns.
        max_bad: largest share of bad rows, 0..1; duplicates are dropped and not counted.
        decisions: the decisions table; default `decisions.*` beside the events, where there is one.
        type: event type of every row, or of each file by its name.
        value: arithmetic over columns that gives the value, such as `quantity*price`.
        keep_duplicates: rows that stand twice are two events.
        rows: read only so many of each file, for a plan.
        separator, header, columns, encoding, time_form, order: as for `open_tables`; None: found by looking.

    Raises:
        UserError: nothing readable there, unknown columns or layout, no rows, more bad rows than `max_bad`.
        MachineError: the machine could not read a file.
    """
    if isinstance(path, str | Path) and (store := _store_of(Path(path))) is not None:
        if decisions is not None:
            raise UserError(
                "no --decisions beside a store, which holds its own",
                str(decisions),
                where=str(store),
                hint="leave it out",
                code=Code.BAD_OPTION,
            )
        return read_store(store)
    if not isinstance(max_bad, int | float) or not 0.0 <= max_bad <= 1.0:
        raise UserError("a share from 0 to 1", repr(max_bad), where="max_bad", hint="1% is 0.01", code=Code.BAD_OPTION)
    forms: dict[str, Any] = {"separator": separator, "header": header, "columns": columns, "encoding": encoding}
    tables, unread = open_tables(path, **forms, time_form=time_form, order=order)
    tables = [_first_rows(functools.reduce(with_joined, (map or {}).values(), table), rows) for table in tables]
    given = isinstance(path, str | Path) and Path(path).is_dir()
    types = {"": type} if isinstance(type, str) else dict(type or {})
    asked = Asked(map or {}, types, value)
    asked.check(tables, decisions)
    groups, ignored, files = _group(tables, asked, layout, skip_unknown=given)
    reading = _Reading(files, asked, keep_duplicates)
    read = [_read_group(one, members, start, reading) for start, (one, members) in _numbered(groups)]
    main = groups[0][0]
    notes = [*unread, *(note for part in read for note in part.notes)]
    notes += [f"not read as events: {', '.join(path.name for path in ignored)}"] if ignored else []
    log = _assemble(main, groups[0][1][0].path, read, notes, [str(t.path) for _, members in groups for t in members])
    log = replace(
        log,
        has_users=log.has_users and (not files or any(one.users for one in files.values())),
        files=[described(one, table, files.get(table.path), asked) for one, members in groups for table in members],
        whole=not any(table.cut for table in tables),
    )
    if main.name == OWN or decisions is not None:
        log = _with_decisions(log, groups[0][1][0].path, decisions, asked, rows)
    refuse_if_bad(log, max_bad)
    return log


def _store_of(path: Path) -> Path | None:
    inside = path / STORE
    return inside if inside.is_file() else path if path.name == STORE and path.is_file() else None


def _first_rows(table: Table, rows: int | None) -> Table:
    if rows is None:
        return table
    first = table.frame.head(rows).collect(engine="streaming")
    return replace(table, frame=first.lazy(), cut=first.height == rows)


@dataclass(frozen=True)
class _Reading:
    """How rows become the contract's."""

    roles: dict[Path, Roles]  # of the files of no published layout
    asked: Asked = field(default_factory=Asked)
    keep_duplicates: bool = False


def _group(
    tables: list[Table], asked: Asked, name: str | None, skip_unknown: bool
) -> tuple[list[tuple[Layout, list[Table]]], list[Path], dict[Path, Roles]]:
    """Tables by layout, and the roles of those in the contract's own; in a directory the files of other layouts are left out.

    Raises:
        UserError: columns of no layout; a file given by name that is no part of the first one's log.
    """
    groups: dict[int, tuple[Layout, list[Table]]] = {}
    ignored: list[Path] = []
    roles: dict[Path, Roles] = {}
    for table in tables:
        mapped = asked.map_of(table)
        if skip_unknown and (not _has(table, mapped) or table.path.stem.endswith("decisions")):
            ignored.append(table.path)
            continue
        found = recognise(table.columns, name or (OWN if mapped else None))
        if found is None or found.name == OWN:
            own = roles_of(table, asked, sample_of(table)) if name in (None, OWN) else None
            if own is None or own.missing():
                if skip_unknown:
                    ignored.append(table.path)
                    continue
                refuse_unnamed(table)
                raise unknown_columns(table.columns, str(table.path), name, own)
            found, roles[table.path] = OWN_LAYOUT, own
        groups.setdefault(id(found), (found, []))[1].append(table)
    if not groups:
        if asked.map and name in (None, OWN):
            roles_of(tables[0], asked, sample_of(tables[0]))  # says which column is not there
        refuse_unnamed(tables[0])
        raise unknown_columns(tables[0].columns, str(tables[0].path), name)
    main = next(iter(groups.values()))[0]
    kept = [group for group in groups.values() if group[0] is main or (group[0].name == main.name and main.merges)]
    ours = {id(layout) for layout, _ in kept}
    others = [(layout, table.path) for layout, members in groups.values() if id(layout) not in ours for table in members]
    if others and not skip_unknown:
        layout, path = others[0]
        got, hint = f"one of {layout.name} after one of {main.name}", "ingest it on its own, or give it as --items or --users"
        raise UserError("files of one log", got, where=str(path), hint=hint, code=Code.MIXED_LAYOUTS)
    ignored += [path for _, path in others]
    own_files = {path: own for path, own in roles.items() if path not in ignored}
    name_by_file(own_files, asked)
    return kept, ignored, own_files


def _has(table: Table, mapped: dict[str, str]) -> bool:
    """Whether the file has the columns that every file should have."""
    heads = [part.partition(".")[0] for source in mapped.values() for part in ([source] if source in table.columns else source.split("+"))]
    return all(source in table.columns for source in [*heads] if source)


def _numbered(groups: list[tuple[Layout, list[Table]]]) -> list[tuple[int, tuple[Layout, list[Table]]]]:
    """Groups with the number of their first file."""
    start, out = 0, []
    for group in groups:
        out.append((start, group))
        start += len(group[1])
    return out


def _read_group(layout: Layout, tables: list[Table], start: int, reading: _Reading) -> _Rows:
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
        checked = _check_rows(layout, slow, start, reading)
    except PolarsError as error:
        raise unreadable(tables[0].path, error) from None
    return replace(checked, notes=[*checked.notes, "the file was read line by line, because the fast parser could not read it"])


def _frame(layout: Layout, tables: list[Table], start: int, reading: _Reading) -> pl.LazyFrame:
    parts = []
    for place, table in enumerate(tables, start):
        frame = table.frame.with_columns(pl.col("row") + place * FILE_ROWS, pl.lit(table.stem).alias(STEM))
        parts.append(reading.roles[table.path].apply(frame) if table.path in reading.roles else frame)
    return layout.spread(pl.concat(parts, how="diagonal_relaxed") if len(parts) > 1 else parts[0])


def _check_rows(layout: Layout, tables: list[Table], start: int, reading: _Reading, other_times: pl.Expr | None = None) -> _Rows:
    frame = _frame(layout, tables, start, reading)
    columns = dict(frame.collect_schema())
    where = str(tables[0].path)
    moment, unit, about_time = _time_of(layout, frame, columns, tables, start, reading)
    moment = moment if other_times is None else pl.coalesce(moment, other_times)
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
    if all(table.is_small for table in tables):
        rows = rows.collect(engine="streaming").lazy()
    event_id = "event_id" in fields
    wanted = ["row", "_problem", *([DIGEST] if layout.dedupe else []), *(["event_id"] if event_id else [])]
    seen = rows.select(wanted).collect(engine="streaming")
    if seen.height == 0:
        raise _no_rows(where)
    form_given = any(table.time_form for table in tables)
    if other_times is None and unit == "text" and not form_given and (seen["_problem"] == Reason.UNREADABLE_TIME.of()).any():
        other_times = _other_times(layout, frame, columns, moment)
        if other_times is not None:
            return _check_rows(layout, tables, start, reading, other_times)
    days = layout is OWN_LAYOUT and unit in ("text", "datetime") and whole_days_of(frame, moment)
    doubles = doubles_of(seen, layout, days or reading.keep_duplicates)
    clean = rows.filter(pl.col("_problem").is_null()).drop("_problem", DIGEST, strict=False)
    if len(doubles):
        clean = clean.filter(~pl.col("row").is_in(doubles.implode()))
    rejects = rejects_of(seen.select("row", pl.col("_problem").alias("reason")).drop_nulls(), doubles, tables, start)
    notes = [layout.note] if layout.note else []
    notes += [f"{table.path.name} begins with a byte order mark, which is not read" for table in tables if table.bom]
    notes += [f"{table.path.name}: {note}" for table in tables for note in table.notes]
    notes += about_time
    if len(doubles):
        notes.append(f"{len(doubles):,} duplicate rows dropped")
        if len(doubles) > DOUBLES_SAID * seen.height and not reading.keep_duplicates:
            notes.append(f"{len(doubles) / seen.height:.1%} of the rows were duplicates; --keep-duplicates reads them as further events")
    if days and (repeats := len(doubles_of(seen, layout, False)) - len(doubles)):
        notes.append(f"times are days: {repeats:,} equal rows of a day are further events, not duplicates")
    notes += [note for table in tables if table.path in reading.roles for note in reading.roles[table.path].notes]
    if unit == "order" and not about_time:
        notes.append("the log has no time: rows stand one second apart in the order of the file")
    return _Rows(layout.expand(clean), clean, unit, seen.height, rejects, notes)


def _time_of(
    layout: Layout, frame: pl.LazyFrame, columns: Columns, tables: list[Table], start: int, reading: _Reading
) -> tuple[pl.Expr, str, list[str]]:
    """The expression of the time, its unit, and what is to be said about it."""
    name = next((one for one in layout.time if one in columns), None)
    if name is None:
        return by_order(None), "order", []
    if tables[0].order is not None:
        return ordered(tables, name)
    files = {}
    for place, table in enumerate(tables, start):
        part = frame if len(tables) == 1 else _frame(layout, [table], place, reading)
        have = part.collect_schema()
        if name not in have:
            continue
        sample = part.select(name).drop_nulls().head(SAMPLE_ROWS).collect(engine="streaming").to_series()
        if len(sample) == 0 and part.head(1).collect().height == 0:
            raise _no_rows(str(table.path))
        if len(sample) == 0 and BROKEN in have:
            _refuse_broken(part, str(table.path))
        files[place] = (table, part, sample)
    return times_of_files(name, columns[name], files, frame)


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


def _other_times(layout: Layout, frame: pl.LazyFrame, columns: Columns, moment: pl.Expr) -> pl.Expr | None:
    """How to read times whose format first occurs after the sample; None where they fit no format."""
    name = next(one for one in layout.time if one in columns)
    late = frame.filter(pl.col(name).is_not_null() & moment.is_null()).select(name).head(MAX_REJECTS).collect(engine="streaming")
    try:
        other = read_time(name, columns[name], late.to_series(), "", frames=[frame])
    except UserError:
        return None
    return other.moment if other.unit == "text" else None


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


def _assemble(layout: Layout, path: Path, read: list[_Rows], notes: list[str], source: list[str]) -> EventLog:
    kinds: list[Kind] = [part.tables.kind for part in read]
    decisions = [conform_decisions(part.tables.decisions) for part in read if part.tables.decisions is not None]
    beside_log = {key: _of_the_log(table, read) for key, table in layout.companions(path).items()}
    return EventLog(
        events=pl.concat([conform_events(part.tables.events) for part in read]),
        decisions=pl.concat(decisions) if decisions else None,
        items=beside_log.get("items", _features(read, "item_id", "item.")),
        users=beside_log.get("users", _features(read, "user_id", "user.")),
        layout=layout.name,
        kind="logged" if "logged" in kinds else "exposure" if "exposure" in kinds else "organic",
        time_unit=read[0].unit,
        rejects=pl.concat([part.rejects for part in read]),
        notes=list(dict.fromkeys(notes)),
        source=source,
        rows=sum(part.total for part in read),
        has_users=layout.has_users,
    )


def _of_the_log(table: pl.LazyFrame, read: list[_Rows]) -> pl.LazyFrame:
    """A companion's rows whose helper columns (`_campaign`) have values that the log has."""
    helpers = [name for name in table.collect_schema().names() if name.startswith("_")]
    if not helpers:
        return table
    parts = [part.rows for part in read if set(helpers) <= set(part.rows.collect_schema().names())]
    known = pl.concat([rows.select(helpers) for rows in parts]).unique().collect(engine="streaming") if parts else None
    return (table if known is None else table.join(known.lazy(), on=helpers, how="semi", maintain_order="left")).drop(helpers)


def _features(read: list[_Rows], owner: str, prefix: str) -> pl.LazyFrame | None:
    """Features that stand in the log itself: the first known value of each item or user.

    Sorted, because the order of groups differs from run to run, and items are numbered in the order of this table.
    """
    for part in read:
        names = [name for name in part.rows.collect_schema().names() if name.startswith(prefix)]
        if names:
            picked = part.rows.filter(pl.col(owner).is_not_null()).select(
                owner, *(pl.col(name).alias(name[len(prefix) :]) for name in names)
            )
            return picked.group_by(owner).agg(pl.all().drop_nulls().first()).sort(owner)
    return None


def _with_decisions(log: EventLog, path: Path, decisions: str | Path | None, asked: Asked, rows: int | None) -> EventLog:
    """The log with its decisions table: the one given, else `decisions.*` beside the events."""
    table = open_table(find_places(decisions)[0][0]) if decisions is not None else beside(path, "decisions")
    if table is None:
        return log
    table = _first_rows(table, rows)
    own = {key: column for key, column in asked.map.items() if ":" in key}
    roles = roles_of(table, Asked(own), sample_of(table))
    lacking = [name for name in ("decision_id", "user_id", "timestamp", "shown") if name not in roles.source]
    if lacking:
        names = " ".join(f"--map {table.path.name}:{name}=COL" for name in lacking)
        got, hint = ", ".join(table.columns), f"it lacks {', '.join(lacking)}; say {names}"
        raise UserError("the decisions table of the contract", got, where=str(table.path), hint=hint, code=Code.UNKNOWN_COLUMNS)
    read = _read_group(DECISIONS, [table], len(log.source), _Reading({table.path: roles}))
    rejects = read.rejects.with_columns(("decisions: " + pl.col("reason")).alias("reason"))
    decided = conform_decisions(read.tables.decisions) if read.tables.decisions is not None else None
    return replace(
        log,
        decisions=decided if log.decisions is None or decided is None else pl.concat([log.decisions, decided]),
        kind=read.tables.kind,
        rejects=pl.concat([log.rejects, rejects]),
        rows=log.rows + read.total,
        notes=[*log.notes, *(f"decisions: {note}" for note in read.notes)],
        source=[*log.source, str(table.path)],
        whole=log.whole and not table.cut,
    )
