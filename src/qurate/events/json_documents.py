"""JSON that is not one object a line: how to write it so, for the hint of an error; keys that stand twice, and numbers that are none."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from qurate.errors import Code, UserError

LARGEST = 1 << 28
"""A larger file is not looked into: it is read whole."""


def records_inside(plain: Path, shown: Path, beside: frozenset[str] = frozenset()) -> tuple[str, str] | None:
    """What a file that is one JSON object holds, and the command that writes its records one a line; None for any other file.

    Args:
        plain: what is read. shown: the file as the user knows it.
        beside: keys beside a list of records that make the object a row by itself, such as its user.
    """
    if plain.stat().st_size > LARGEST:
        return None
    try:
        record = msgspec.json.decode(plain.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(record, dict) or not record or beside & set(record):
        return None
    source, target = (json.dumps(str(path), ensure_ascii=False) for path in (shown, shown.with_suffix(".records.jsonl")))
    if {"columns", "data"} <= set(record) and isinstance(record["columns"], list):
        said, records = 'a table as pandas writes it with orient="split"', 'dict(zip(d["columns"], row)) for row in d["data"]'
    elif (rows := _rows_of(record)) is not None and not rows:
        said, records = 'a table as pandas writes it with orient="index"', "r for r in d.values()"
    elif rows:
        said, records = (
            'a table as pandas writes it with orient="columns"',
            "dict(zip(d, row)) for row in zip(*(c.values() for c in d.values()))",
        )
    elif (way := _way_to_records(record)) is not None:
        inside = "".join(f"[{json.dumps(key, ensure_ascii=False)}]" for key in way)
        said, records = f"one object that holds them in {'.'.join(way)}", f"r for r in d{inside}"
    else:
        return None
    made, _, each = records.partition(" for ")
    code = f'import json; d = json.load(open({source})); open({target}, "w").writelines(json.dumps({made}) + chr(10) for {each})'
    return said, f"write them one a line: python -c {shlex.quote(code)}"


def _rows_of(record: dict[str, Any]) -> list[str] | None:
    """The names of the rows where an object holds columns of the same rows, none where it holds rows; None for another object."""
    inside = {tuple(value) if isinstance(value, dict) else () for value in record.values()}
    names = list(next(iter(inside)))
    if len(inside) != 1 or not names:
        return None
    if all(key.isdigit() for key in record) != all(name.isdigit() for name in names):
        return [] if all(key.isdigit() for key in record) else names
    return [] if len(record) > len(names) else names


def _way_to_records(record: dict[str, Any]) -> tuple[str, ...] | None:
    """The key of a list of records, or the two keys that lead to one."""
    ways: list[tuple[tuple[str, ...], Any]] = [((key,), value) for key, value in record.items()]
    ways += [((key, inner), value) for key, inside in record.items() if isinstance(inside, dict) for inner, value in inside.items()]
    return next((way for way, value in ways if _are_records(value)), None)


def _are_records(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 1 and all(isinstance(entry, dict) for entry in value)


def other_json(plain: Path, shown: Path) -> tuple[str, str]:
    """What a file without a JSON object in any line holds, and what helps.

    Args:
        plain: what is read. shown: the file as the user knows it.
    """
    with plain.open("rb") as file:
        head = file.read(1 << 16).decode("utf-8", "replace").removeprefix("\ufeff").lstrip(" \t\r\n")
    source, target = (shlex.quote(str(path)) for path in (shown, shown.with_suffix(".records.jsonl")))
    first = head.partition("\n")[0].rstrip()
    if head.startswith("["):
        return arrays_said(shown, "json.load(open(FILE))")
    if head.startswith("\x1e"):
        return "a sequence with a sign before each object", f"leave the sign out: tr -d '\\036' < {source} > {target}"
    if first.endswith("},"):
        return "objects with commas behind them", f"leave the commas out: sed 's/,$//' {source} > {target}"
    if head.startswith("{"):
        return "objects that do not have a line each", f"write one a line: jq -c . {source} > {target}"
    if "=" in first.partition("[")[0].partition("{")[0]:
        return f"a statement of a program ({first[:40]})", "leave out what stands before the first bracket"
    return "none", "write JSON Lines or an array of records, or use .csv"


def arrays_said(shown: Path, rows: str) -> tuple[str, str]:
    """What arrays of values are, and how to write them as CSV.

    Args:
        shown: the file as the user knows it. rows: Python for its rows, with FILE for its name.
    """
    source, target = (json.dumps(str(path), ensure_ascii=False) for path in (shown, shown.with_suffix(".csv")))
    code = f'import csv, json; csv.writer(open({target}, "w", newline="")).writerows({rows.replace("FILE", source)})'
    hint = f"write them as CSV: python -c {shlex.quote(code)}; where no row has the names, say them with --columns"
    return "arrays without names of columns", hint


def lists_within_said(column: str, inner: str, shown: Path) -> str:
    """How to write a row for each object of a list within a list of objects, with all that stands beside and above it.

    Args:
        column: holds the outer list. inner: the way from it to the list within. shown: the file as the user knows it.
    """
    said = f"write a row for each object of {column}.{inner}, with what it needs of the others"
    steps, target = inner.split("."), shown.with_suffix(".rows.jsonl")
    if shown.suffix not in (".json", ".jsonl", ".ndjson", ".parquet") or len(steps) > 1:
        return said
    source, made = json.dumps(str(shown), ensure_ascii=False), json.dumps(str(target), ensure_ascii=False)
    rows = 't = open(SOURCE).read(); rows = json.loads(t) if t.lstrip()[:1] == "[" else map(json.loads, t.splitlines())'
    if shown.suffix == ".parquet":
        rows = "import polars as pl; rows = pl.read_parquet(SOURCE).to_dicts()"
    outer, within = json.dumps(column, ensure_ascii=False), json.dumps(inner, ensure_ascii=False)
    each = f"json.dumps({{**r, {outer}: {{**o, {within}: i}}}}, default=str) + chr(10)"
    loops = f"for r in rows for o in r.get({outer}) or () for i in o.get({within}) or [None]"
    code = f'import json; {rows.replace("SOURCE", source)}; open({made}, "w").writelines({each} {loops})'
    return f"{said}: python -c {shlex.quote(code)}, and give {target} with the same options"


def objects_as_rows(column: str, inner: str) -> str:
    """How to write JSON lines with a row for each object of the list `inner` within the objects of `column`, its values among theirs."""
    outer, within = json.dumps(column, ensure_ascii=False), json.dumps(inner, ensure_ascii=False)
    each = f"json.dumps({{**r, {outer}: {{**(r.get({outer}) or {{}}), **i}}}}) + chr(10)"
    loops = f"for r in map(json.loads, sys.stdin) for i in (r.get({outer}) or {{}}).get({within}) or [{{}}]"
    code = f"import json, sys; sys.stdout.writelines({each} {loops})"
    return f"python -c {shlex.quote(code)} < LOG > ROWS.jsonl, and give ROWS.jsonl with the same options"


def without_constants(text: str) -> dict[str, Any] | None:
    """A JSON object in which NaN is null, None for text that is none, or holds an infinite number."""

    def constant(name: str) -> None:
        if name != "NaN":
            raise ValueError(name)

    try:
        record = json.loads(text, parse_constant=constant)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def refuse_keys_twice(lines: Sequence[str], where: str) -> None:
    """
    Args:
        lines: of a file of JSON objects.
        where: the file, for errors.

    Raises:
        UserError: an object has a key twice, with different values: one of them would be lost.
    """

    def checked(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        record = dict(pairs)
        twice = next((key for key, value in pairs if record[key] != value), None) if len(record) < len(pairs) else None
        if twice is not None:
            hint = "give each of them a name of its own"
            got = f"{twice} twice with different values in one object: {json.dumps(pairs, ensure_ascii=False)[:80]}"
            raise UserError("each key once in an object", got, where=where, hint=hint, code=Code.BAD_COLUMN)
        return record

    for line in lines:
        try:
            json.loads(line, object_pairs_hook=checked)
        except (ValueError, RecursionError):
            continue


def json_type(values: list[Any]) -> pl.DataType:
    """Text for scalars and nested objects, lists of text, or lists of records of text."""
    lists = [value for value in values if isinstance(value, list)]
    if not lists or len(lists) < sum(value is not None for value in values) / 2:
        return pl.String()
    records = [entry for value in lists for entry in value if isinstance(entry, dict)]
    if not records:
        return pl.List(pl.String())
    names = dict.fromkeys(name for entry in records for name in entry)
    return pl.List(pl.Struct(dict.fromkeys(names, pl.String())))
