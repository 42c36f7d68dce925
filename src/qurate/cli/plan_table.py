"""The plan of a log for people: files, columns, types, ids in common, notes, the command."""

import sys
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from qurate.cli.output import clean, number

SIGNS = {"\t": "tab", " ": "blank"}


def print_plan(plan: Mapping[str, Any], stderr: bool = False) -> None:
    """Prints the plan to stdout, or to stderr beside another result."""
    out = sys.stderr if stderr else sys.stdout
    print("\n".join(clean(line) for line in _text(plan)), file=out, flush=True)


def _text(plan: Mapping[str, Any]) -> list[str]:
    rows = f"the first {plan['sampled']:,} rows of each file" if plan["sampled"] else f"{plan['rows']:,} rows"
    bad = f", {plan['bad_rows']:,} of them bad" if plan["bad_rows"] else ""
    written = f", {plan['time_form']}" if plan["time_unit"] == "text" and plan["time_form"] else ""
    out = [f"plan: layout {plan['layout']}, kind {plan['kind']}, time {plan['time_unit']}{written} (from {rows}{bad})"]
    described: dict[str, list[str]] = {}
    from qurate.events.places import short_names

    for file, called in zip(plan["files"], short_names([file["file"] for file in plan["files"]])):  # what is read alike is said once
        described.setdefault("\n".join(_file(file)), []).append(called)
    for text, names in described.items():
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")
        out += [f"{shown}: {line}" if i == 0 else line for i, line in enumerate(text.split("\n"))]
    for one in plan["tables"]:
        form, *columns = _file(one, f"{Path(one['file']).name}:")
        out += [f"table of {one['table']}, {Path(one['file']).name}: {form}", *columns]
    rewards = [[one["type"], one["rows"], one["weight"], "value" if one["per_value"] else "event", one["reward"]] for one in plan["types"]]
    out += _columns([["type", "rows", "weight", "per", "reward"], *rewards])
    for one in plan["ids"]:
        out.append(f"ids: {one['matched']:,} of {one['ids']:,} of the log stand in the table of {one['table']} ({one['rows']:,} rows)")
    for table, columns in plan["features"].items():
        made = [
            [f"  {one['column']}", "->", f"{one['became']}, {one['dimensions']}" if one["dimensions"] else one["became"]] for one in columns
        ]
        out += [f"features of {table}, with their dimensions:", *_columns(made)] if made else [f"features of {table}: none"]
    out += [f"note: {note}" for note in plan["notes"]]
    return out + ([f"command: {plan['command']}"] if "command" in plan else [])


def _file(file: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Its form, its columns, and what happened; `prefix` stands before the columns that `--map` could name."""
    from qurate.events.described import numbered, stem_of  # polars, which a command that prints no plan need not load

    form = [file["format"], *([file["container"]] if file["container"] else [])]
    form += [f"separator {SIGNS.get(file['separator'], file['separator'])}"] if file.get("separator") else []
    form += [] if "header" not in file else ["header" if file["header"] else "no header"]
    form += [file["encoding"]] if "encoding" in file else []
    rows: list[list[str]] = []
    vectors = numbered([one["column"] for one in file["columns"]])
    groups = groupby(
        file["columns"], lambda one: (stem_of(one["column"]) if one["column"] in vectors else one["column"], _made_of(one, prefix))
    )
    for (_, made), group in groups:
        first, *rest = [one["column"] for one in group]
        name = f"{first} to {rest[-1]} ({len(rest) + 1} columns)" if rest else first
        rows.append([f"  {name}", "->", made])
    return [", ".join(form), *_columns(rows), *([f"  what happened: {file['type_from']}"] if "type_from" in file else [])]


def _made_of(one: Mapping[str, Any], prefix: str) -> str:
    """The role of a column, or that it is not read."""
    if one["role"]:
        return f"{one['role']} (assumed)" if one.get("assumed") else str(one["role"])
    return "not read" + (f"; could be {one['nearest']}: --map {prefix}{one['nearest']}={one['column']}" if one["nearest"] else "")


def _columns(rows: Sequence[Sequence[object]]) -> list[str]:
    """Rows as text in columns of equal width."""
    cells = [[number(cell) for cell in row] for row in rows]
    from rich.cells import cell_len  # a Chinese character takes two places on the screen

    widths = [max(cell_len(row[i]) for row in cells) for i in range(len(cells[0]))] if cells else []
    return ["  ".join(cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths)).rstrip() for row in cells]
