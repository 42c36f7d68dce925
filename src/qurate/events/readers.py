"""`read_events`: files in any known layout to one `EventLog`, bad rows set aside with their line and reason."""

import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
from polars.exceptions import PolarsError

from qurate.arguments import check_flag, check_kind, check_mapping, check_words
from qurate.errors import Code, UserError, whole_number
from qurate.events.assemble import assemble
from qurate.events.described import described
from qurate.events.fields import Layout, conform_decisions
from qurate.events.find_roles import roles_of
from qurate.events.frames import Frame, frames_of, is_frame, table_of
from qurate.events.grouping import group_by_layout
from qurate.events.joined import join_logs
from qurate.events.layout_rows import Reading, read_rows
from qurate.events.layouts import DECISIONS, OWN
from qurate.events.lines import read_by_line
from qurate.events.places import Paths, check_paths, find_places, holds_files
from qurate.events.roles import Asked, Roles, sample_of
from qurate.events.schema import OF_DECISIONS, EventLog
from qurate.events.service_log import read_store
from qurate.events.set_aside import refuse_if_bad
from qurate.events.sources import STORE, Table, beside, open_table, open_tables, unreadable, with_joined

DEFAULT_MAX_BAD = 0.01
DECISIONS_FRAME = "decisions"
"""The name of a decisions table that is a DataFrame."""


def read_events(
    path: Paths | Frame,
    map: dict[str, str] | None = None,
    layout: str | None = None,
    max_bad: float = DEFAULT_MAX_BAD,
    decisions: str | Path | Frame | None = None,
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
    """An event log from text tables, JSON, Parquet, RecBole files (gzip and zip too), a DataFrame, or a directory of
    `qurate serve --data`.

    Args:
        path: a file, several, or a directory with its subfolders; a DataFrame or LazyFrame of polars, or a DataFrame of pandas; a
            service's data directory alone, or after the log that was there before it.
        map: contract's column -> the log's own column, a path into one (`properties.product_id`), or two for a time
            (`date+time`); `FILE:column` is for one file (a decisions table that is a DataFrame is named `decisions`).
        layout: read as this one instead of recognising it by the columns.
        max_bad: largest share of bad rows, 0..1; duplicates are dropped and not counted.
        decisions: the decisions table; default `decisions.*` beside the events, where there is one.
        type: event type of every row, or of each file by its name. value: arithmetic over columns, such as `quantity*price`.
        keep_duplicates: rows that stand twice are two events. rows: read only so many of each file, for a plan.
        separator, header, columns, encoding, time_form, order: as for `open_tables`; None: found by looking.

    Raises:
        UserError: nothing readable there, unknown columns or layout, no rows, more bad rows than `max_bad`.
        MachineError: the machine could not read a file.

    >>> qurate.read_events(log)
    EventLog(organic, layout qurate, 240 rows, 0 bad, from DataFrame)
    >>> qurate.read_events(log.rename({"user_id": "customer"}), map={"user_id": "customer"}).rows
    240
    """
    forms: dict[str, Any] = {"separator": separator, "header": header, "columns": columns, "encoding": encoding, "order": order}
    forms["time_form"] = time_form
    rows = _check_given(map, type, rows, max_bad, forms | {"layout": layout, "value": value, "keep_duplicates": keep_duplicates})
    framed, path = frames_of(path, time_form=time_form, order=order)
    check_paths(() if path is None and framed else path)
    path, served = _service_in(path, decisions)
    if served is not None and not path and not framed:
        return served
    asked = Asked(map or {}, {"": type} if isinstance(type, str) else dict(type or {}), value)
    tables, unread = open_tables(path, **forms, head=rows is not None, named=asked.files()) if path or not framed else ([], [])
    tables = [_first_rows(functools.reduce(with_joined, (map or {}).values(), table), rows) for table in [*framed, *tables]]
    asked.check(tables, DECISIONS_FRAME if is_frame(decisions) else decisions)
    groups, ignored, files = group_by_layout(tables, asked, layout, skip_unknown=isinstance(path, str | Path) and holds_files(Path(path)))
    log = _assembled(groups, _with_reason(ignored, tables), Reading(files, asked, keep_duplicates), unread)
    if groups[0][0].name == OWN or decisions is not None:
        log = _with_decisions(log, groups[0][1][0].path, decisions, asked, rows)
    refuse_if_bad(log, max_bad)
    return log if served is None else join_logs(log, served)


def _with_reason(ignored: list[Path], tables: list[Table]) -> list[str]:
    """Names of the files of a folder that are no part of its log, and why, where they have no header."""
    headless = {table.path for table in tables if table.form is not None and not table.form.named}
    why = " (its first line holds values: write the names of the columns above them)"
    return [path.name + why * (path in headless) for path in ignored]


def _assembled(groups: list[tuple[Layout, list[Table]]], ignored: list[str], reading: Reading, unread: list[str]) -> EventLog:
    """The log of the files of each layout, without its decisions table."""
    first_files = itertools.accumulate((len(members) for _, members in groups), initial=0)
    read = [read_rows(one, members, start, reading) for (one, members), start in zip(groups, first_files)]
    notes = [*unread, *(note for part in read for note in part.notes)]
    notes += [f"not read as events: {', '.join(ignored)}"] if ignored else []
    whole = not any(table.cut for _, members in groups for table in members)
    log = assemble(groups[0][0], groups[0][1][0].path, read, notes, whole=whole)
    return _with_files(log, groups, reading.roles, reading.asked)


def _check_given(
    map: object, type: object, rows: int | None, max_bad: object, others: Mapping[str, object]
) -> int | None:  # fmt: skip
    """`rows` as an int of Python's own; the arguments of `read_events` by their kinds.

    Raises:
        UserError: one of another kind.
    """
    check_mapping(map, "map", 'map={"user_id": "customer"}')
    if not isinstance(type, str):
        check_mapping(type, "type", 'type={"views.csv": "view"}')
    for name, given in others.items():
        if name == "columns":
            check_words(given, name, 'columns=["user_id", "item_id"]')
        elif name in ("header", "keep_duplicates"):
            check_flag(given, name)
        else:
            check_kind(given, str, name, "text")
    _check_share(max_bad)
    return None if rows is None else whole_number(rows, "rows", 1, Code.BAD_ARGUMENT)


def _check_share(max_bad: object) -> None:
    if not isinstance(max_bad, int | float) or isinstance(max_bad, bool) or not 0.0 <= max_bad <= 1.0:
        raise UserError("a share from 0 to 1", repr(max_bad), where="max_bad", hint="1% is 0.01", code=Code.BAD_OPTION)


def _store_of(path: Path) -> Path | None:
    inside = path / STORE
    return inside if inside.is_file() else path if path.name == STORE and path.is_file() else None


def _service_in(path: Any, decisions: str | Path | None) -> tuple[Any, EventLog | None]:
    """The paths without that of a service's store, and what it holds; the paths as they are and None where there is none.

    Raises:
        UserError: two stores.
    """
    if not isinstance(path, str | Path | Iterable):
        return path, None
    paths = [path] if isinstance(path, str | Path) else list(path)
    found = {Path(one): store for one in paths if (store := _store_of(Path(one))) is not None}
    if len(found) > 1:
        got, where = f"{len(found)}", ", ".join(str(one) for one in found)
        raise UserError("the store of one service", got, where=where, hint="ingest them one by one", code=Code.BAD_STORE)
    if not found:
        return path if isinstance(path, str | Path) else paths, None
    rest = [one for one in paths if Path(one) not in found]
    served = _read_store_alone(next(iter(found.values())), decisions if not rest else None)
    return rest[0] if len(rest) == 1 else rest, served


def _read_store_alone(store: Path, decisions: str | Path | None) -> EventLog:
    if decisions is not None:
        expected = "no --decisions beside a store, which holds its own"
        raise UserError(expected, str(decisions), where=str(store), hint="leave it out", code=Code.BAD_OPTION)
    return read_store(store)


def _first_rows(table: Table, rows: int | None) -> Table:
    """The table with its first rows only, held in memory; line by line where the fast parser gives up.

    Raises:
        UserError: it is no text, and damaged.
    """
    if rows is None:
        return table
    try:
        first = table.frame.head(rows).collect(engine="streaming")
    except PolarsError as error:
        if not table.is_text:
            raise unreadable(table.path, error) from None
        table = read_by_line(table, rows)
        first = table.frame.collect()
    return replace(table, frame=first.lazy(), cut=table.cut or first.height == rows)


def _with_files(log: EventLog, groups: list[tuple[Layout, list[Table]]], roles: dict[Path, Roles], asked: Asked) -> EventLog:
    """The log with where it comes from: paths, and how each file was read."""
    files = [(layout, table) for layout, members in groups for table in members]
    return replace(
        log,
        source=[str(table.path) for _, table in files],
        has_users=log.has_users and (not roles or any(one.users for one in roles.values())),
        files=[described(layout, table, roles.get(table.path), asked) for layout, table in files],
    )


def _with_decisions(log: EventLog, path: Path, decisions: str | Path | Frame | None, asked: Asked, rows: int | None) -> EventLog:
    """The log with its decisions table: the one given, else `decisions.*` beside the events."""
    if decisions is None:
        table = beside(path, "decisions")
    else:
        table = table_of(decisions, DECISIONS_FRAME) if is_frame(decisions) else open_table(find_places(decisions)[0][0])
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
    read = read_rows(DECISIONS, [table], len(log.source), Reading({table.path: roles}))
    rejects = read.rejects.with_columns((OF_DECISIONS + pl.col("reason")).alias("reason"))
    decided = conform_decisions(read.tables.decisions) if read.tables.decisions is not None else None
    return replace(
        log,
        decisions=decided if log.decisions is None or decided is None else pl.concat([log.decisions, decided]),
        kind=read.tables.kind,
        rejects=pl.concat([log.rejects, rejects]),
        rows=log.rows + read.total,
        typed_notes=[*log.typed_notes, *(f"decisions: {note}" for note in read.notes)],
        source=[*log.source, str(table.path)],
        whole=log.whole and not table.cut,
        decision_rows=read.total,
        tables=[*log.tables, {"table": "decisions", **described(DECISIONS, table, roles, Asked(own))}],
    )
