"""Files to lazy tables: CSV, TSV, JSONL, Parquet and RecBole's atomic files, each with the line every row came from.

Text formats are read as text, so that ids keep their zeros and one bad cell is one bad row. Where a file is too broken
for the fast parser (an unclosed quote, a line that is no JSON), it is read again line by line.
"""

import csv
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
from polars.exceptions import PolarsError

from qurate.errors import MachineError, UserError

TEXT_SEPARATOR = {".csv": ",", ".tsv": "\t", ".inter": "\t", ".user": "\t", ".item": "\t"}
JSON_SUFFIXES = (".jsonl", ".ndjson")
PARQUET_SUFFIXES = (".parquet", ".pq")
SUFFIXES = (*TEXT_SEPARATOR, *JSON_SUFFIXES, *PARQUET_SUFFIXES)
STORE = "events.sqlite"
"""The service's store: a directory that holds this file is read as a log."""

EXTRA, BROKEN = "_extra", "_broken"
"""Helper columns of text tables: a field more than the header has; why a line could not be read."""
CHUNK_LINES = 100_000
SAMPLE_LINES = 1_000
SAMPLE_PLACES, LINES_PER_PLACE = 50, 20
"""JSONL columns are looked for in the first lines and at places spread over the file: a rare field may come late."""

Paths = str | Path | Iterable[str | Path]


@dataclass(frozen=True)
class Table:
    """One file, not yet read. `frame` has the file's columns and `row` (u64, the line; Parquet: the row, from 1)."""

    path: Path
    frame: pl.LazyFrame
    columns: dict[str, pl.DataType]
    separator: str = ""  # of text tables other than JSONL
    headerless: bool = False
    by_line: bool = False
    bom: bool = False  # the file begins with a byte order mark

    @property
    def is_text(self) -> bool:
        """Whether the file has lines, rather than Parquet rows."""
        return self.path.suffix.lower() not in PARQUET_SUFFIXES


def find_files(path: Paths) -> list[Path]:
    """The files a path, a list of paths or a directory stands for, sorted by name.

    Raises:
        UserError: nothing there, an empty file, a directory without logs, an unknown extension.
    """
    if not isinstance(path, str | Path | Iterable):
        raise UserError("a path or several", repr(path), "path", "name the log", "bad_path")
    paths = [Path(path)] if isinstance(path, str | Path) else [Path(p) for p in path]
    found: list[Path] = []
    for one in paths:
        if not one.exists():
            raise UserError("an existing file or directory", "nothing", str(one), "check the path", "not_found")
        if not one.is_dir():
            found.append(_checked(one))
            continue
        inside = sorted(p for p in one.iterdir() if p.is_file() and p.suffix.lower() in SUFFIXES and p.stat().st_size > 0)
        if not inside:
            raise UserError(
                f"files ending in {' '.join(SUFFIXES)}", "a directory without any", str(one), "give the log file itself", "empty_directory"
            )
        found += inside
    if not found:
        raise UserError("at least one file", "an empty list", "path", "name the log", "not_found")
    return found


def _checked(path: Path) -> Path:
    if path.suffix.lower() not in SUFFIXES:
        got = path.suffix or "no extension"
        raise UserError(f"a file ending in {' '.join(SUFFIXES)}", got, str(path), "convert or rename the file", "bad_extension")
    if path.stat().st_size == 0:
        raise UserError("a file with rows", "an empty file (0 bytes)", str(path), "check how it was written", "empty_file")
    return path


def open_table(path: Path) -> Table:
    """A file as a lazy table; reads the header and, for JSONL, the first lines.

    Raises:
        UserError: the file is not what its extension says, or has a header only.
        MachineError: the file cannot be read.
    """
    suffix = path.suffix.lower()
    try:
        if suffix in PARQUET_SUFFIXES:
            return _open_parquet(path)
        table = _open_json(path) if suffix in JSON_SUFFIXES else _open_csv(path, TEXT_SEPARATOR[suffix])
        with path.open("rb") as file:
            return replace(table, bom=file.read(len(BOM_UTF8)) == BOM_UTF8)
    except PolarsError as error:
        raise unreadable(path, error) from None
    except OSError as error:
        raise MachineError("a readable file", error.strerror or "an error", str(path), "check its permissions", "unreadable") from None


def _open_parquet(path: Path) -> Table:
    frame = pl.scan_parquet(path)
    if "row" in frame.collect_schema():
        frame = frame.rename({"row": "row_2"})
    schema = dict(frame.collect_schema())
    return Table(path, frame.with_row_index("row", 1).with_columns(pl.col("row").cast(pl.UInt64)), schema)


def unreadable(path: Path, error: Exception) -> UserError:
    """The error for a file that is not what its extension says."""
    line = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
    return UserError(
        f"a readable {path.suffix.lower()[1:]} file", line, str(path), "the file is damaged or of another format", "unreadable_file"
    )


def _first_lines(path: Path, count: int) -> list[str]:
    with path.open("rb") as file:
        lines = [line for _, line in zip(range(count), file)]
    text = [line.decode("utf-8", "replace").rstrip("\r\n") for line in lines]
    if text:
        text[0] = text[0].removeprefix("﻿")
    return text


def _spread_lines(path: Path) -> list[str]:
    """Some whole lines from places spread evenly over the file."""
    size, lines = path.stat().st_size, []
    with path.open("rb") as file:
        for place in range(1, SAMPLE_PLACES):
            file.seek(size * place // SAMPLE_PLACES)
            file.readline()  # the rest of a line that began earlier
            lines += [line.decode("utf-8", "replace") for _, line in zip(range(LINES_PER_PLACE), file)]
    return lines


def _separator(line: str, usual: str) -> str:
    """What separates the fields: commas, or what the header line has more of (exports with `;`)."""
    return max((usual, ";", "\t", "|"), key=line.count) if usual == "," else usual


def _open_csv(path: Path, usual: str) -> Table:
    lines = _first_lines(path, 1)
    separator = _separator(lines[0], usual)
    first = _fields(lines[0], separator)
    names = headerless_names(first)
    headerless = names is not None
    names = names or _unique([name.strip() for name in first])
    if not any(names):
        raise UserError("a header line", repr(lines[0][:40]), f"{path}, line 1", "name the columns in the first line", "no_header")
    first_row = 1 if headerless else 2
    frame = pl.scan_csv(
        path,
        separator=separator,
        quote_char=None if separator == "\t" else '"',
        has_header=False,
        skip_lines=first_row - 1,
        schema=dict.fromkeys([*names, EXTRA], pl.String()),
        missing_columns="insert",
        truncate_ragged_lines=True,
        encoding="utf8-lossy",
        row_index_name="row",
        row_index_offset=first_row,
        glob=False,
    )
    # A blank line is no row.
    frame = frame.filter(pl.any_horizontal(pl.col(names).is_not_null())).with_columns(pl.col("row").cast(pl.UInt64))
    return Table(path, frame, dict.fromkeys(names, pl.String()), separator, headerless)


def _fields(line: str, separator: str) -> list[str]:
    """The fields of one line; tab-separated files do not quote."""
    return line.split(separator) if separator == "\t" else next(csv.reader([line], delimiter=separator), [])


def _unique(names: list[str]) -> list[str]:
    """Column names with repeated and empty ones renamed (an exported index column has no name); `row` is ours."""
    seen = {"row": 1}
    out = []
    for position, name in enumerate(names):
        name = name or f"column_{position + 1}"
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return out


def headerless_names(fields: list[str]) -> list[str] | None:
    """Column names of the two layouts whose files have no header, recognised by their first row."""
    if len(fields) == 5 and fields[3] in ("pv", "cart", "fav", "buy"):
        return ["user_id", "item_id", "category_id", "behavior", "timestamp"]
    if len(fields) == 5 and fields[4][-2:] in ("-0", "-1"):
        return ["impression_id", "user_id", "time", "history", "impressions"]
    if len(fields) == 8 and fields[5].startswith("http"):
        return ["news_id", "category", "subcategory", "title", "abstract", "url", "title_entities", "abstract_entities"]
    return None


def _open_json(path: Path) -> Table:
    sample: dict[str, list[Any]] = {}
    for line in [*_first_lines(path, SAMPLE_LINES), *_spread_lines(path)]:
        record = _decode(line)
        for name, value in (record or {}).items():
            sample.setdefault(name, []).append(value)
    if not sample:
        raise UserError("one JSON object per line", "no line that is one", str(path), "write JSON Lines, or use .csv", "unreadable_file")
    schema = {name: json_type(values) for name, values in sample.items() if name not in ("row", EXTRA, BROKEN)}
    frame = pl.scan_ndjson(path, schema=schema, row_index_name="row", row_index_offset=1)
    return Table(path, frame.with_columns(pl.col("row").cast(pl.UInt64)), schema)


def _decode(line: str | bytes) -> dict[str, Any] | None:
    try:
        record = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


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


def read_by_line(table: Table) -> Table:
    """The table again, each line parsed on its own: slower and held in memory, but one bad line is one bad row.

    The reason a line could not be read stands in the column `BROKEN`.
    """
    if not table.is_text:
        return table
    parse = _json_rows if table.path.suffix.lower() in JSON_SUFFIXES else _csv_rows
    schema: dict[str, pl.DataType] = {"row": pl.UInt64(), BROKEN: pl.String(), **table.columns}
    chunks = [pl.DataFrame(rows, schema=schema, orient="row") for rows in _chunks(parse(table))]
    frame = pl.concat(chunks) if chunks else pl.DataFrame(schema=schema)
    return replace(table, frame=frame.lazy(), by_line=True)


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
    separator, width = table.separator, len(table.columns)
    with table.path.open(encoding="utf-8-sig", errors="replace", newline="\n") as file:
        for number, line in enumerate(file, 1):
            text = line.rstrip("\r\n")
            if (number == 1 and not table.headerless) or not text:
                continue
            broken = "unbalanced quotes" if separator != "\t" and text.count('"') % 2 else None
            try:
                fields: list[str | None] = [] if broken else [field or None for field in _fields(text, separator)]
            except csv.Error as error:
                fields, broken = [], str(error)
            if len(fields) > width:
                broken = "more fields than the header"
            yield [number, broken, *(fields + [None] * width)[:width]]


def _json_rows(table: Table) -> Iterator[list[Any]]:
    columns = list(table.columns.items())
    with table.path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            record = _decode(line.removeprefix(BOM_UTF8))
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
    with table.path.open("rb") as file:
        for number, line, text in _records(table, file):
            if number in wanted:
                out[number] = (line, text.decode("utf-8", "replace").rstrip("\r\n"))
            if number >= last:
                break
    return out


def _records(table: Table, file: Iterable[bytes]) -> Iterator[tuple[int, int, bytes]]:
    """Record number, line and text, counted as the parser that read the table counts."""
    suffix = table.path.suffix.lower()
    quoting = not table.by_line and table.separator not in ("", "\t")
    number, pending, start = 0, b"", 1
    for line, text in enumerate(file, 1):
        if suffix in JSON_SUFFIXES and not table.by_line and not text.strip():
            continue
        start, pending = (start, pending + text) if pending else (line, text)
        if quoting and pending.count(b'"') % 2:
            continue  # inside a quoted field that goes on in the next line
        number = line if table.by_line else number + 1
        yield number, start, pending
        pending = b""


def beside(path: Path, name: str) -> Table | None:
    """The file `STEM.name.*`, `STEM_name.*` or `name.*` in the directory of `path`, if there is one."""
    for stem in (f"{path.stem}.{name}", f"{path.stem}_{name}", name):
        for suffix in SUFFIXES:
            candidate = path.with_name(stem + suffix)
            if candidate != path and candidate.is_file() and candidate.stat().st_size > 0:
                return open_table(candidate)
    return None
