"""Files to lazy tables: CSV, TSV, JSONL, Parquet and RecBole's atomic files, each with the line every row came from.

Text formats are read as text, so that ids keep their zeros and one bad cell is one bad row. Where a file is too broken
for the fast parser (an unclosed quote, a line that is no JSON), `lines` reads it again line by line.
"""

import csv
import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
from polars.exceptions import PolarsError

from qurate.errors import Code, MachineError, UserError

TEXT_SEPARATOR = {".csv": ",", ".tsv": "\t", ".inter": "\t", ".user": "\t", ".item": "\t"}
JSON_SUFFIXES = (".jsonl", ".ndjson")
PARQUET_SUFFIXES = (".parquet", ".pq")
SUFFIXES = (*TEXT_SEPARATOR, *JSON_SUFFIXES, *PARQUET_SUFFIXES)
STORE = "events.sqlite"
"""The service's store: a directory that holds this file is read as a log."""

EXTRA, BROKEN = "_extra", "_broken"
"""Helper columns of text tables: a field more than the header has; why a line could not be read."""
HEAD_LINES = 100
"""The header is looked for in so many lines; it may follow blank ones and hold line breaks in quotes."""
SAMPLE_LINES = 1_000
SAMPLE_PLACES, LINES_PER_PLACE = 50, 20
"""JSONL columns are looked for in the first lines and at places spread over the file: a rare field may come late."""

COMPRESSED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ": "xz"}
COMPRESSED_SUFFIXES = (".gz", ".zip", ".zst", ".bz2", ".xz")
HEAD_BYTES = 65_536

Paths = str | Path | Iterable[str | Path]


@dataclass(frozen=True)
class Table:
    """One file, not yet read. `frame` has the file's columns and `row` (u64, the line; Parquet: the row, from 1)."""

    path: Path
    frame: pl.LazyFrame
    columns: dict[str, pl.DataType]
    separator: str = ""  # of text tables other than JSONL
    first_line: int = 1  # of text tables: where the rows begin
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
        raise UserError("a path or several", repr(path), where="path", hint="name the log", code=Code.BAD_PATH)
    paths = [Path(path)] if isinstance(path, str | Path) else [Path(p) for p in path]
    found: list[Path] = []
    for one in paths:
        if not one.exists():
            raise UserError("an existing file or directory", "nothing", where=str(one), hint="check the path", code=Code.NOT_FOUND)
        if not one.is_dir():
            found.append(_checked(one))
            continue
        inside = sorted(p for p in one.iterdir() if p.is_file() and p.suffix.lower() in SUFFIXES and p.stat().st_size > 0)
        if not inside:
            raise UserError(
                f"files ending in {' '.join(SUFFIXES)}",
                "a directory without any",
                where=str(one),
                hint="give the log file itself",
                code=Code.EMPTY_DIRECTORY,
            )
        found += inside
    if not found:
        raise UserError("at least one file", "an empty list", where="path", hint="name the log", code=Code.NOT_FOUND)
    return found


def _checked(path: Path) -> Path:
    if path.suffix.lower() not in SUFFIXES:
        got = path.suffix or "no extension"
        hint = "decompress it" if path.suffix.lower() in COMPRESSED_SUFFIXES else "convert or rename the file"
        raise UserError(f"a file ending in {' '.join(SUFFIXES)}", got, where=str(path), hint=hint, code=Code.BAD_EXTENSION)
    if path.stat().st_size == 0:
        raise UserError(
            "a file with rows", "an empty file (0 bytes)", where=str(path), hint="check how it was written", code=Code.EMPTY_FILE
        )
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
        _refuse_no_text(path)
        table = _open_json(path) if suffix in JSON_SUFFIXES else _open_csv(path, TEXT_SEPARATOR[suffix])
        with path.open("rb") as file:
            return replace(table, bom=file.read(len(BOM_UTF8)) == BOM_UTF8)
    except PolarsError as error:
        raise unreadable(path, error) from None
    except OSError as error:
        raise MachineError(
            "a readable file", error.strerror or "an error", where=str(path), hint="check its permissions", code=Code.UNREADABLE
        ) from None


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
        f"a readable {path.suffix.lower()[1:]} file",
        line,
        where=str(path),
        hint="the file is damaged or of another format",
        code=Code.UNREADABLE_FILE,
    )


def _refuse_no_text(path: Path) -> None:
    """Content that no text format is: compressed, of two bytes a character, without line ends that are ours.

    Raises:
        UserError: it is one of these.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    for magic, name in COMPRESSED.items():
        if head.startswith(magic):
            raise UserError("text", f"{name} data", where=str(path), hint="decompress it", code=Code.UNREADABLE_FILE)
    if head.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) or head[1:4:2] == b"\0\0" or head[0:3:2] == b"\0\0":
        raise UserError("text in UTF-8", "UTF-16", where=str(path), hint="convert the file to UTF-8", code=Code.BAD_ENCODING)
    if b"\r" in head and b"\n" not in head:
        raise UserError(
            r"line ends \n or \r\n",
            r"\r alone",
            where=str(path),
            hint="save it with the line ends of Unix or Windows",
            code=Code.BAD_LINE_ENDS,
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


def _head(path: Path, usual: str) -> tuple[str, str, int, int]:
    """The header (or first row), the separator, how many lines stand before it, and how many it takes.

    Blank lines and the line `sep=;` that Excel writes may come first.
    """
    lines = _first_lines(path, HEAD_LINES)
    before = next((number for number, line in enumerate(lines) if line), 0)
    excel = re.fullmatch(r"sep=([,;|\t])", lines[before], re.IGNORECASE) if usual == "," else None
    before += excel is not None
    lines = lines[before:] or [""]
    separator = excel[1] if excel else _separator(lines[0], usual)
    quoted = separator != "\t" and lines[0].count('"') % 2
    ends = (n for n in range(2, len(lines) + 1) if sum(line.count('"') for line in lines[:n]) % 2 == 0)
    height = next(ends, 1) if quoted else 1
    return "\n".join(lines[:height]), separator, before, height


def _open_csv(path: Path, usual: str) -> Table:
    header, separator, before, height = _head(path, usual)
    try:
        first = fields_of(header, separator)
    except csv.Error as error:
        got = "a carriage return within it" if "\r" in header else str(error)
        raise UserError(
            r"a header with line ends \n or \r\n", got, where=f"{path}, line {before + 1}", hint="repair the line", code=Code.NO_HEADER
        ) from None
    names = headerless_names(first)
    headerless = names is not None
    names = names or _unique([name.strip() for name in first])
    if not any(names):
        raise UserError(
            "a header line",
            repr(header[:40]),
            where=f"{path}, line {before + 1}",
            hint="name the columns in the first line",
            code=Code.NO_HEADER,
        )
    skipped = before if headerless else before + height
    frame = pl.scan_csv(
        path,
        separator=separator,
        quote_char=None if separator == "\t" else '"',
        has_header=False,
        skip_lines=skipped,
        schema=dict.fromkeys([*names, EXTRA], pl.String()),
        missing_columns="insert",
        truncate_ragged_lines=True,
        encoding="utf8-lossy",
        row_index_name="row",
        row_index_offset=before + (1 if headerless else 2),
        glob=False,
    )
    # A blank line is no row.
    frame = frame.filter(pl.any_horizontal(pl.col(names).is_not_null())).with_columns(pl.col("row").cast(pl.UInt64))
    return Table(path, frame, dict.fromkeys(names, pl.String()), separator, skipped + 1)


def fields_of(record: str, separator: str, strict: bool = False) -> list[str]:
    """The fields of one record; tab-separated files do not quote. `strict`: nothing may follow a closing quote."""
    return record.split(separator) if separator == "\t" else next(csv.reader([record], delimiter=separator, strict=strict), [])


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
        record = decode(line)
        for name, value in (record or {}).items():
            sample.setdefault(name, []).append(value)
    if not sample:
        raise UserError(
            "one JSON object per line",
            "no line that is one",
            where=str(path),
            hint="write JSON Lines, or use .csv",
            code=Code.UNREADABLE_FILE,
        )
    schema = {name: json_type(values) for name, values in sample.items() if name not in ("row", EXTRA, BROKEN)}
    frame = pl.scan_ndjson(path, schema=schema, row_index_name="row", row_index_offset=1)
    return Table(path, frame.with_columns(pl.col("row").cast(pl.UInt64)), schema)


def decode(line: str | bytes) -> dict[str, Any] | None:
    """A line as a JSON object, None where it is none."""
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


def beside(path: Path, name: str) -> Table | None:
    """The file `STEM.name.*`, `STEM_name.*` or `name.*` in the directory of `path`, if there is one."""
    for stem in (f"{path.stem}.{name}", f"{path.stem}_{name}", name):
        for suffix in SUFFIXES:
            candidate = path.with_name(stem + suffix)
            if candidate != path and candidate.is_file() and candidate.stat().st_size > 0:
                return open_table(candidate)
    return None
