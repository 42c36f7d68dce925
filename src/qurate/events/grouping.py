"""Which files form one log: tables by layout, and the roles of the columns of those of no published layout."""

import re
from dataclasses import replace
from pathlib import Path

import polars as pl

from qurate.errors import Code, UserError
from qurate.events.fields import Columns, Layout
from qurate.events.file_types import name_by_file
from qurate.events.find_roles import roles_of
from qurate.events.json_documents import records_inside
from qurate.events.layouts import OWN, OWN_LAYOUT, recognise, unknown_columns
from qurate.events.nearest_role import guesses, nearest_role, usual_roles
from qurate.events.roles import Asked, Roles, sample_of
from qurate.events.sources import Table
from qurate.events.text_form import suggested_names
from qurate.events.text_samples import SAMPLE_LINES, first_lines
from qurate.events.times import read_time
from qurate.events.wide import matrix_hint, numbered_hint

MANY_COLUMNS = 20
"""Of more columns without names no names are suggested: their places say too little."""


def group_by_layout(
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
        _refuse_one_object(table)
        found = recognise(table.columns, name or (OWN if mapped else None))
        if found is None or found.name == OWN:
            own = _own_roles(table, asked, usual=not skip_unknown) if name in (None, OWN) else None
            if own is None or own.missing():
                if skip_unknown:
                    ignored.append(table.path)
                    continue
                _refuse_unnamed(table)
                _refuse_matrix(table, own)
                raise unknown_columns(table.columns, str(table.path), name, own, _others(tables, table), sample_of(table, SAMPLE_LINES))
            found, roles[table.path] = OWN_LAYOUT, own
        groups.setdefault(id(found), (found, []))[1].append(table)
    if not groups:
        if asked.map and name in (None, OWN):
            roles_of(tables[0], asked, sample_of(tables[0]))  # says which column is not there
        _refuse_unnamed(tables[0])
        table = _most_like_a_log(tables) if name in (None, OWN) else tables[0]
        own = roles_of(table, asked, sample_of(table)) if name in (None, OWN) else None
        raise unknown_columns(table.columns, str(table.path), name, own, _others(tables, table), sample_of(table, SAMPLE_LINES))
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


def _most_like_a_log(tables: list[Table]) -> Table:
    """The first of the tables in whose columns most roles of an event can be guessed."""
    needed = {"user_id", "session_id", "item_id", "shown", "timestamp"}
    return max(tables, key=lambda table: len(needed & {*guesses(table.columns, Roles({name: name for name in needed & {*table.columns}}))}))


def _refuse_one_object(table: Table) -> None:
    """The error for a JSON file that is one object with the records inside.

    Raises:
        UserError: it is such a file, and the object names no user by itself.
    """
    if table.kind == "json" and len(first_lines(table.plain, 2)) == 1:
        rows = frozenset(name for name in table.columns if nearest_role(name) in ("user_id", "session_id") and not _is_object(table, name))
        if (inside := records_inside(table.plain, table.path, rows)) is not None:
            got, hint = inside
            raise UserError("JSON objects, one a line or in an array", got, where=str(table.path), hint=hint, code=Code.UNREADABLE_FILE)


def _is_object(table: Table, column: str) -> bool:
    first = table.frame.select(column).head(1).collect().item() if table.columns[column] == pl.String else None
    return first is not None and str(first).startswith("{")


def _others(tables: list[Table], one: Table) -> dict[str, Columns]:
    return {str(table.path): table.columns for table in tables if table is not one}


def _own_roles(table: Table, asked: Asked, usual: bool) -> Roles:
    """The roles of a table's columns; with `usual` by usual names too, where the contract's are lacking."""
    sample = sample_of(table)
    roles = roles_of(table, asked, sample)
    names = usual_roles(table.columns, roles) if usual and roles.missing() else {}
    if not names:
        return roles
    of_file = {f"{table.path}:{role}": column for role, column in names.items()}
    found = roles_of(table, replace(asked, map={**asked.map, **of_file}), sample)
    found.assumed += [role for role in names if role in found.source]
    found.notes.append(f"assumed by their names: {', '.join(f'{role}={column}' for role, column in names.items())}; --map says otherwise")
    return found


def _has(table: Table, mapped: dict[str, str]) -> bool:
    """Whether the file has the columns that every file should have."""
    heads = [part.partition(".")[0] for source in mapped.values() for part in ([source] if source in table.columns else source.split("+"))]
    return all(source in table.columns for source in [*heads] if source)


def _refuse_matrix(table: Table, own: Roles | None) -> None:
    """The error for a matrix of users and items."""
    if own is not None and "item_id" not in own.source and "shown" not in own.source:
        free = [name for name in table.columns if name not in own.source.values()]
        _refuse_if_matrix(table, sample_of(table, SAMPLE_LINES), free, named=True)
        item = next((name for name in free if nearest_role(name) == "item_id"), "") if table.kind == "text" else ""
        if (found := numbered_hint(table.path, table.separator, list(table.columns), item)) is not None:
            raise UserError("one row for each item", found[0], where=str(table.path), hint=found[1], code=Code.UNKNOWN_COLUMNS)


def _refuse_if_matrix(table: Table, sample: pl.DataFrame, free: list[str], named: bool) -> None:
    """
    Raises:
        UserError: the table is a matrix.
    """
    if (found := matrix_hint(table.path, table.form.separator if table.form else table.separator, sample, free, named=named)) is not None:
        got, hint = found
        raise UserError("one row for each event", got, where=str(table.path), hint=hint, code=Code.UNKNOWN_COLUMNS)


def _refuse_unnamed(table: Table) -> None:
    """The error for a file without a header whose columns nothing names.

    Raises:
        UserError: it is such a file.
    """
    if table.form is not None and not table.form.named:
        _refuse_pairs(table.form.first, str(table.path))
        got = f"a first line of values ({', '.join(table.form.first)[:80]}): it is no header"
        first = table.frame.select(table.form.names).head(SAMPLE_LINES).collect()
        _refuse_if_matrix(table, first, table.form.names, named=False)
        dates = [place for place, column in enumerate(first) if _holds_dates(column)]
        names = suggested_names([[one for one in column.drop_nulls().to_list() if one] for column in first], dates)
        order = "" if "timestamp" in names else ", and --order, because none holds times"
        places = " ".join(f"{name}={place}" for place, name in enumerate(names, 1) if not name.startswith("column_"))
        hint = f"name the columns, such as --columns {','.join(names)}{order}, or map them by place: --map {places}"
        if len(names) > MANY_COLUMNS:
            hint = (
                f"name all {len(names)} columns with --columns, among them user_id, item_id and timestamp; or map them by place, such as "
            )
            hint += "--map user_id=1 item_id=2"
        raise UserError("the names of the columns", got, where=str(table.path), hint=hint, code=Code.NO_HEADER)


def _refuse_pairs(fields: tuple[str, ...], where: str) -> None:
    """The error for lines of names with their values, `user=u1 item=i1`.

    Raises:
        UserError: the fields of the first line are such pairs.
    """
    names = [found.group(1) for field in fields if (found := re.match(r"(\w[\w.]*)=(?!=)", field.strip()))]
    if len(names) > 1 and len(names) == len(fields):
        got = f"lines of names with their values ({', '.join(fields)[:80]})"
        example = ", ".join(f'"{name}": ...' for name in names[:3])
        hint = f"write each line as a JSON object, such as {{{example}}}, or as CSV with the header {','.join(names)[:80]}"
        raise UserError("the names of the columns", got, where=where, hint=hint, code=Code.NO_HEADER)


def _holds_dates(column: pl.Series) -> bool:
    """Whether a column of text holds dates or times that are written as such, all of them in a known form."""
    known = column.drop_nulls()
    if not len(known) or known.cast(pl.Float64, strict=False).null_count() < len(known):
        return False
    try:
        times = read_time(column.name, column.dtype, known, "", frames=[])
    except UserError as error:
        return error.expected == "dates in a certain order"
    return not known.to_frame().select(times.moment.is_null().any()).item()
