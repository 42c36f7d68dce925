"""Text tables line by line: what the fast parser could not read, and the text of rejected rows."""

import csv
import re
from codecs import BOM_UTF8
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import msgspec
import polars as pl

from qurate.events.containers import FIELD_SEPARATOR
from qurate.events.sources import BROKEN, Table, decode, fields_of

CHUNK_LINES = 100_000
JOINED_LINES = 100
"""A quoted field may go on over so many lines; a quote that is still open then is a stray one."""
UNBALANCED = "unbalanced quotes"

Fields = list[str | None]


def read_by_line(table: Table, limit: int | None = None) -> Table:
    """The table again, each record parsed on its own: slower and held in memory, but one bad line is one bad row.

    The reason a line could not be read stands in the column `BROKEN`; `row` is the record's first line. With a limit only so
    many records are read.
    """
    if not table.is_text:
        return table
    parse = _json_rows if table.kind == "json" else _csv_rows
    columns = {name: dtype for name, dtype in table.columns.items() if name not in table.added}
    columns |= {expr.meta.output_name(): pl.String() for expr in table.tidied}
    schema: dict[str, pl.DataType] = {"row": pl.UInt64(), BROKEN: pl.String(), **columns}
    chunks = [pl.DataFrame(rows, schema=schema, orient="row") for rows in _chunks(islice(parse(table), limit))]
    frame = pl.concat(chunks) if chunks else pl.DataFrame(schema=schema)
    return replace(table, frame=frame.lazy().with_columns(table.tidied).with_columns(**table.added), by_line=True)


def _chunks(rows: Iterator[list[Any]]) -> Iterator[list[list[Any]]]:
    chunk: list[list[Any]] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == CHUNK_LINES:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _csv_rows(table: Table) -> Iterator[list[Any]]:
    width = len(table.columns) - len(table.added)
    with table.plain.open("rb") as file:
        for line, _, fields, fault in _csv_records(table, file):
            yield [line, fault, *(fields + [None] * width)[:width]]


def _csv_records(table: Table, file: Iterable[bytes]) -> Iterator[tuple[int, bytes, Fields, str | None]]:
    """First line, text, fields and fault of each record."""
    numbered, ahead = enumerate(file, 1), deque[tuple[int, bytes]]()
    quoted, stray, comment = _format(table)
    width = len(table.columns) - len(table.added)
    while one := ahead.popleft() if ahead else next(numbered, None):
        line, text = one
        if line < table.first_line or not text.strip() or (comment and text.startswith(comment)):
            continue
        fields, fault = _parse(text.removeprefix(BOM_UTF8) if line == 1 else text, table.separator, quoted, stray)
        if fault == UNBALANCED and (rest := _until_closed(numbered, ahead)):
            joined, _ = _parse(b"".join([text, *rest]), table.separator, quoted, stray, strict=True)
            # A stray quote seems closed by the next one in the file, but hardly so that a row of the right width results.
            if len(joined) == width:
                text, fields, fault = b"".join([text, *rest]), joined, None
                for _ in rest:
                    ahead.popleft()
        if len(fields) > width and any(fields[width:]):
            fault = "more fields than the header"
        yield line, text, fields, fault


def _until_closed(numbered: Iterator[tuple[int, bytes]], ahead: deque[tuple[int, bytes]]) -> list[bytes]:
    """The lines after an open quote up to the one that closes it, none where it stays open; all lines read stay ahead."""
    rest: list[bytes] = []
    for place in range(JOINED_LINES):
        if place == len(ahead):
            following = next(numbered, None)
            if following is None:
                return []
            ahead.append(following)
        rest.append(ahead[place][1])
        if rest[-1].count(b'"') % 2:
            return rest
    return []


def _format(table: Table) -> tuple[bool, bool, bytes]:
    """Whether the format quotes fields, whether quotes stand around fields all the same, and how comment lines begin."""
    form = table.form
    return (True, False, b"") if form is None else (form.quoted, form.stray_quotes, form.comment.encode())


def _parse(record: bytes, separator: str, quoted: bool, stray: bool, *, strict: bool = False) -> tuple[Fields, str | None]:
    """Fields of a record without the blanks around them, or none and why not."""
    text = record.decode("utf-8", "replace").rstrip("\r\n")
    if quoted and text.count('"') % 2:
        return [], UNBALANCED
    try:
        fields = [field.strip() for field in fields_of(text, separator, strict, quoted)]
        fields = [re.sub('^"(.*)"$', r"\1", field).strip() for field in fields] if stray else fields
        return [field or None for field in fields], None
    except csv.Error:
        return [], "a carriage return within a field" if "\r" in text else "a field too long to read"


def _json_rows(table: Table) -> Iterator[list[Any]]:
    columns = [(name, dtype) for name, dtype in table.columns.items() if name not in table.added]
    with table.plain.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            record = decode(line.removeprefix(BOM_UTF8))
            broken = "not a JSON object" if record is None else None
            yield [number, broken, *(_as_text((record or {}).get(name), dtype) for name, dtype in columns)]


def _as_text(value: Any, dtype: pl.DataType) -> Any:
    if value is None:
        return None
    if isinstance(dtype, pl.List):
        return [_as_text(entry, dtype.inner) for entry in value] if isinstance(value, list) else None  # type: ignore[arg-type]
    if isinstance(dtype, pl.Struct):
        return {f.name: _as_text(value.get(f.name), pl.String()) for f in dtype.fields} if isinstance(value, dict) else None
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def raw_lines(table: Table, rows: list[int]) -> dict[int, tuple[int, str]]:
    """Row number -> (line, text) of the given rows, for rejects.csv; of Parquet the row as JSON.

    A row number counts records: it is the line unless quoted fields hold line breaks or a JSONL file has blank lines.
    """
    if not rows:
        return {}
    if not table.is_text:
        found = table.frame.filter(pl.col("row").is_in(rows)).collect(engine="streaming")
        texts = [msgspec.json.encode(record, enc_hook=str).decode() for record in found.drop("row").to_dicts()]
        return {row: (row, text) for row, text in zip(found["row"].to_list(), texts)}
    wanted, last, out = set(rows), max(rows), {}
    separator = table.separator if table.form is None else table.form.separator
    with table.plain.open("rb") as file:
        for number, line, text in _records(table, file):
            if number in wanted:
                out[number] = (line, text.decode("utf-8", "replace").rstrip("\r\n").replace(FIELD_SEPARATOR, separator))
            if number >= last:
                break
    return out


def _records(table: Table, file: Iterable[bytes]) -> Iterator[tuple[int, int, bytes]]:
    """Record number, line and text, counted as the parser that read the table counts."""
    json = table.kind == "json"
    quoting, _, comment = _format(table)
    quoting = quoting and not json
    if table.by_line:
        read = enumerate(file, 1) if json else ((line, text) for line, text, _, _ in _csv_records(table, file))
        yield from ((line, line, text) for line, text in read)
        return
    number, pending, start = 0, b"", 1
    for line, text in enumerate(file, 1):
        if (json and not text.strip()) or (comment and not pending and line >= table.first_line and text.startswith(comment)):
            continue
        start, pending = (start, pending + text) if pending else (line, text)
        if quoting and pending.count(b'"') % 2:
            continue  # inside a quoted field that goes on in the next line
        number += 1
        yield number, start, pending
        pending = b""
