"""`read_events`: files in any known layout to one `EventLog`, bad rows set aside with their line and reason.

One streaming pass over the rows finds what is bad or stands twice; the log itself stays lazy.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
from polars.exceptions import PolarsError

from qurate.errors import Code, UserError, nearest
from qurate.events.fields import STEM, Columns, Layout, Tables, conform_decisions, conform_events, flat
from qurate.events.file_times import ordered, times_of_files
from qurate.events.layouts import DECISIONS, recognise, unknown_columns
from qurate.events.lines import raw_lines, read_by_line
from qurate.events.places import Paths, find_places
from qurate.events.problems import UNREADABLE, problem
from qurate.events.schema import DECISION_COLUMNS, DUPLICATE, EVENT_COLUMNS, FILE_ROWS, EventLog, Kind, empty_rejects
from qurate.events.service_log import read_store
from qurate.events.sources import BROKEN, EXTRA, STORE, Table, beside, open_table, open_tables, refuse_unnamed, unreadable, with_joined
from qurate.events.times import by_order, read_time

DEFAULT_MAX_BAD = 0.01
SAMPLE_ROWS = 10_000
MAX_REJECTS = 1_000_000
"""Rejected rows kept with their text; a log with more is refused by any sensible limit."""

MAPPABLE = tuple(name for name in dict.fromkeys((*EVENT_COLUMNS, *DECISION_COLUMNS)) if name not in ("row", "as_of"))


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
        map: contract's column -> the log's own column, for logs of no known layout.
        layout: read as this one instead of recognising it by the columns.
        max_bad: largest share of bad rows, 0..1; duplicates are dropped and not counted.
        decisions: the decisions table; default `decisions.*` beside the events, where there is one.
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
    said: dict[str, Any] = {"separator": separator, "header": header, "columns": columns, "encoding": encoding}
    tables, unread = open_tables(path, **said, time_form=time_form, order=order)
    tables = [functools.reduce(with_joined, (map or {}).values(), table) for table in tables]
    given = isinstance(path, str | Path) and Path(path).is_dir()
    groups, ignored = _group(tables, map, layout or ("qurate" if map else None), skip_unknown=given)
    read = [_read_group(one, members, start, map) for start, (one, members) in _numbered(groups)]
    main = groups[0][0]
    notes = [*unread, *(note for part in read for note in part.notes)]
    notes += [f"not read as events: {', '.join(path.name for path in ignored)}"] if ignored else []
    log = _assemble(main, groups[0][1][0].path, read, notes, [str(t.path) for _, members in groups for t in members])
    if main.name == "qurate" or decisions is not None:
        log = _with_decisions(log, groups[0][1][0].path, decisions)
    _refuse_if_bad(log, max_bad)
    return log


def _store_of(path: Path) -> Path | None:
    inside = path / STORE
    return inside if inside.is_file() else path if path.name == STORE and path.is_file() else None


def _group(
    tables: list[Table], map: dict[str, str] | None, name: str | None, skip_unknown: bool
) -> tuple[list[tuple[Layout, list[Table]]], list[Path]]:
    """Tables by layout; in a directory the files of other layouts are left out (items, users, tags).

    Raises:
        UserError: columns of no layout; a file given by name that is no part of the first one's log.
    """
    groups: dict[int, tuple[Layout, list[Table]]] = {}
    ignored: list[Path] = []
    for table in tables:
        if skip_unknown and map and not set(map.values()) <= set(table.columns):
            ignored.append(table.path)
            continue
        columns = _mapped(table.columns, map, str(table.path))
        found = recognise(columns, name)
        if found is not None and not (skip_unknown and table.path.stem.endswith("decisions")):
            groups.setdefault(id(found), (found, []))[1].append(table)
        elif skip_unknown:
            ignored.append(table.path)
        else:
            refuse_unnamed(table)
            raise unknown_columns(columns, str(table.path), name)
    if not groups:
        refuse_unnamed(tables[0])
        raise unknown_columns(_mapped(tables[0].columns, map, str(tables[0].path)), str(tables[0].path), name)
    main = next(iter(groups.values()))[0]
    kept = [group for group in groups.values() if group[0] is main or (group[0].name == main.name and main.merges)]
    ours = {id(layout) for layout, _ in kept}
    others = [(layout, table.path) for layout, members in groups.values() if id(layout) not in ours for table in members]
    if others and not skip_unknown:
        layout, path = others[0]
        got, hint = f"one of {layout.name} after one of {main.name}", "ingest it on its own, or give it as --items or --users"
        raise UserError("files of one log", got, where=str(path), hint=hint, code=Code.MIXED_LAYOUTS)
    ignored += [path for _, path in others]
    return kept, ignored


def _numbered(groups: list[tuple[Layout, list[Table]]]) -> list[tuple[int, tuple[Layout, list[Table]]]]:
    """Groups with the number of their first file."""
    start, out = 0, []
    for group in groups:
        out.append((start, group))
        start += len(group[1])
    return out


def _mapped(columns: Columns, map: dict[str, str] | None, where: str) -> Columns:
    """The columns under the contract's names.

    Raises:
        UserError: a name that is not the contract's, or a column that the log does not have.
    """
    if not map:
        return columns
    for target, source in map.items():
        if target not in MAPPABLE:
            raise UserError("a column of the contract", target, where="--map", hint=nearest(target, MAPPABLE), code=Code.UNKNOWN_COLUMN)
        if source not in columns:
            raise UserError(
                "a column of the log",
                source,
                where=f"--map {target}={source}, {where}",
                hint=nearest(source, columns),
                code=Code.UNKNOWN_COLUMN,
            )
    sources = {source: target for target, source in map.items()}
    if len(sources) < len(map):
        twice = next(source for target, source in map.items() if sources[source] != target)
        raise UserError(
            "a column of its own for each name", f"{twice} twice", where=f"--map, {where}", hint="leave one of them out", code=Code.BAD_MAP
        )
    kept = {name: dtype for name, dtype in columns.items() if name not in map or name in sources}
    return {sources.get(name, name): dtype for name, dtype in kept.items()}


def _read_group(layout: Layout, tables: list[Table], start: int, map: dict[str, str] | None) -> _Rows:
    """All files of one layout as one frame; where the fast parser gives up, once more line by line."""
    try:
        return _check_rows(layout, tables, start, map)
    except UserError as error:
        if not error.where.startswith("column "):
            raise
        raise UserError(error.expected, error.got, where=f"{tables[0].path}, {error.where}", hint=error.hint, code=error.code) from None
    except PolarsError as error:
        if not any(table.is_text for table in tables):
            raise unreadable(tables[0].path, error) from None
    slow = [read_by_line(table) for table in tables]
    try:
        checked = _check_rows(layout, slow, start, map)
    except PolarsError as error:
        raise unreadable(tables[0].path, error) from None
    return replace(checked, notes=[*checked.notes, "the file was read line by line, because the fast parser could not read it"])


def _frame(layout: Layout, tables: list[Table], start: int, map: dict[str, str] | None) -> pl.LazyFrame:
    parts = []
    for number, table in enumerate(tables, start):
        frame = table.frame.with_columns(pl.col("row") + number * FILE_ROWS, pl.lit(table.stem).alias(STEM))
        if map:
            sources = set(map.values())
            taken = [target for target in map if target in table.columns and target not in sources]
            frame = frame.drop(taken).rename({source: target for target, source in map.items() if source != target})
        parts.append(frame)
    return layout.spread(pl.concat(parts, how="diagonal_relaxed") if len(parts) > 1 else parts[0])


def _check_rows(layout: Layout, tables: list[Table], start: int, map: dict[str, str] | None, other_times: pl.Expr | None = None) -> _Rows:
    frame = _frame(layout, tables, start, map)
    columns = dict(frame.collect_schema())
    where = str(tables[0].path)
    moment, unit, said = _time_of(layout, frame, columns, tables, start, map)
    moment = moment if other_times is None else pl.coalesce(moment, other_times)
    for name in layout.numbers:
        flat(columns, name)
    fields = layout.fields(columns)
    rows = frame.with_columns(moment.alias("_moment")).select(
        "row",
        pl.col("_moment").alias("timestamp"),
        problem(layout, fields, columns, any(table.separator for table in tables)).alias("_problem"),
        *([_digest(columns).alias("_digest")] if layout.dedupe else []),
        *(expr.alias(name) for name, expr in fields.items()),
    )
    event_id = "event_id" in fields
    wanted = ["row", "_problem", *(["_digest"] if layout.dedupe else []), *(["event_id"] if event_id else [])]
    seen = rows.select(wanted).collect(engine="streaming")
    if seen.height == 0:
        raise _no_rows(where)
    if other_times is None and unit == "text" and not any(table.time_form for table in tables) and (seen["_problem"] == UNREADABLE).any():
        other_times = _other_times(layout, frame, columns, moment)
        if other_times is not None:
            return _check_rows(layout, tables, start, map, other_times)
    doubles = _doubles(seen, layout, rows)
    clean = rows.filter(pl.col("_problem").is_null()).drop("_problem", "_digest", strict=False)
    if len(doubles):
        clean = clean.filter(~pl.col("row").is_in(doubles.implode()))
    rejects = _rejects(seen.select("row", pl.col("_problem").alias("reason")).drop_nulls(), doubles, tables, start)
    notes = [layout.note] if layout.note else []
    notes += [f"{table.path.name} begins with a byte order mark, which is not read" for table in tables if table.bom]
    notes += [f"{table.path.name}: {note}" for table in tables for note in table.notes]
    notes += said
    if len(doubles):
        notes.append(f"{len(doubles):,} duplicate rows dropped")
    if unit == "order" and not said:
        notes.append("the log has no time: rows stand one second apart in the order of the file")
    return _Rows(layout.expand(clean), clean, unit, seen.height, rejects, notes)


def _time_of(
    layout: Layout, frame: pl.LazyFrame, columns: Columns, tables: list[Table], start: int, map: dict[str, str] | None
) -> tuple[pl.Expr, str, list[str]]:
    """The expression of the time, its unit, and what is to be said about it."""
    name = next((one for one in layout.time if one in columns), None)
    if name is None:
        return by_order(None), "order", []
    if tables[0].order is not None:
        return ordered(tables, name)
    files = {}
    for number, table in enumerate(tables, start):
        part = frame if len(tables) == 1 else _frame(layout, [table], number, map)
        have = part.collect_schema()
        if name not in have:
            continue
        sample = part.select(name).drop_nulls().head(SAMPLE_ROWS).collect(engine="streaming").to_series()
        if len(sample) == 0 and part.head(1).collect().height == 0:
            raise _no_rows(str(table.path))
        if len(sample) == 0 and BROKEN in have:
            _refuse_broken(part, str(table.path))
        files[number] = (table, part, sample)
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


def _digest(columns: Columns) -> pl.Expr:
    """A 64-bit hash of a whole source row."""
    names = [name for name in columns if name not in ("row", STEM, EXTRA, BROKEN)]
    return pl.struct(names).hash(seed=1)


def _doubles(seen: pl.DataFrame, layout: Layout, rows: pl.LazyFrame) -> pl.Series:
    """Rows that repeat an earlier one, whole or by event_id."""
    good = seen.filter(pl.col("_problem").is_null())
    doubles = [pl.Series("row", [], dtype=pl.UInt64)]
    if layout.dedupe:
        doubles.append(good.filter(~pl.col("_digest").is_first_distinct())["row"])
    if "event_id" in seen.columns:
        doubles.append(good.filter(pl.col("event_id").is_not_null() & ~pl.col("event_id").is_first_distinct())["row"])
    return pl.concat(doubles).unique().sort()


def _rejects(bad: pl.DataFrame, doubles: pl.Series, tables: list[Table], start: int) -> pl.DataFrame:
    """Line, reason and text of the bad rows and dropped duplicates; with several files the reason names the file."""
    repeated = pl.DataFrame({"row": doubles}).with_columns(pl.lit(DUPLICATE).alias("reason"))
    found = pl.concat([bad, repeated]).sort("row").head(MAX_REJECTS)
    if found.height == 0:
        return empty_rejects()
    out = []
    for number, table in enumerate(tables, start):
        mine = found.filter((pl.col("row") // FILE_ROWS) == number)
        rows = (mine["row"] - number * FILE_ROWS).to_list()
        texts = raw_lines(table, rows)
        lines, raw = zip(*(texts.get(row, (row, "")) for row in rows)) if rows else ((), ())
        reason = mine["reason"] if len(tables) == 1 else table.path.name + ": " + mine["reason"]
        out.append(pl.DataFrame({"line": lines, "reason": reason, "raw": raw}, schema=empty_rejects().schema))
    return pl.concat(out)


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


def _with_decisions(log: EventLog, path: Path, decisions: str | Path | None) -> EventLog:
    """The log with its decisions table: the one given, else `decisions.*` beside the events."""
    table = open_table(find_places(decisions)[0][0]) if decisions is not None else beside(path, "decisions")
    if table is None:
        return log
    lacking = [name for name in ("decision_id", "user_id", "timestamp", "shown") if name not in table.columns]
    if lacking:
        got, hint = ", ".join(table.columns), f"it lacks {', '.join(lacking)}"
        raise UserError("the decisions table of the contract", got, where=str(table.path), hint=hint, code=Code.UNKNOWN_COLUMNS)
    read = _read_group(DECISIONS, [table], len(log.source), None)
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
    )


def _refuse_if_bad(log: EventLog, max_bad: float) -> None:
    bad = log.rejects.filter(~pl.col("reason").str.ends_with(DUPLICATE))
    if bad.height <= max_bad * log.rows:
        return
    counts = bad["reason"].value_counts(sort=True)
    line = bad.filter(pl.col("reason") == counts["reason"][0])["line"][0]
    got = f"{bad.height:,} of {log.rows:,} ({bad.height / log.rows:.1%}), most often: {counts['reason'][0]} (first in line {line})"
    bytes_note = next((note for note in log.notes if "--encoding" in note), "") if counts["reason"][0].endswith("is not UTF-8") else ""
    hint = bytes_note or "repair them, or raise --max-bad"
    raise UserError(f"at most {max_bad:.2%} bad rows", got, where=log.source[0], hint=hint, code=Code.TOO_MANY_BAD_ROWS)
