"""Files to lazy tables: text with separators, JSON, Parquet, each with the line every row came from.

Text formats are read as text, so that ids keep their zeros and one bad cell is one bad row. Where a file is too broken
for the fast parser (an unclosed quote, a line that is no JSON), `lines` reads it again line by line.
"""

import csv
import errno
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import polars as pl
from polars.exceptions import PolarsError

from qurate.errors import Code, MachineError, UserError, nearest
from qurate.events.containers import (
    FIELD_SEPARATOR,
    array_lines,
    beginning,
    container_of,
    refuse_no_text,
    starts_with_mark,
    transcoded,
    unpacked,
    with_one_separator,
    without_blanks_before_quotes,
)
from qurate.events.encodings import bytes_as_text, guessed_encoding, known_encoding
from qurate.events.formats import refuse_other_formats
from qurate.events.json_documents import json_type, other_json, records_inside, refuse_keys_twice, without_constants
from qurate.events.places import JSON_SUFFIXES, PARQUET_SUFFIXES, SUFFIXES, Paths, Place, bare, find_places, in_file
from qurate.events.quotes import (
    BACKSLASHED,
    BACKSLASHES_SAID,
    PYTHON_SAID,
    SINGLE_QUOTES_SAID,
    in_single_quotes,
    is_python,
    json_lines,
    unwrapped,
    with_double_quotes,
    with_doubled_quotes,
    wrapped_columns,
    wrapped_said,
)
from qurate.events.text_form import TextForm, known_separator, look
from qurate.events.text_samples import HEAD_LINES, SAMPLE_LINES, first_bytes, first_lines, of_many, spread_lines
from qurate.events.time_forms import known_form
from qurate.events.times import joined

STORE = "events.sqlite"
"""The service's store: a directory that holds this file is read as a log."""

EXTRA, BROKEN = "_extra", "_broken"
"""Helper columns of text tables: a field more than the header has; why a line could not be read."""
Kind = Literal["text", "json", "parquet", "frame"]


@dataclass(frozen=True)
class Table:
    """One file, not yet read. `frame` has the file's columns and `row` (u64, the line; Parquet: the row, from 1).

    The file may be the member of a zip archive: then `path` is the archive's followed by the member's name.
    """

    path: Path
    frame: pl.LazyFrame
    columns: dict[str, pl.DataType]
    separator: str = ""  # of text tables other than JSON; of one character in `plain`
    first_line: int = 1  # of text tables: where the rows begin
    by_line: bool = False
    bom: bool = False  # the file begins with a byte order mark
    plain: Path = Path()  # what is scanned: the file itself, or its content as plain UTF-8 text
    kind: Kind = "text"
    form: TextForm | None = None  # of text tables other than JSON
    container: str = ""  # gzip | zip | ""
    encoding: str = "utf-8"
    guess: str | None = None  # the encoding that bytes look like which are not UTF-8
    tidied: tuple[pl.Expr, ...] = ()  # columns of the file that are rewritten, such as numbers with decimal commas
    added: dict[str, pl.Expr] = field(default_factory=dict)  # columns that the file does not have, from its folders or other columns
    time_form: str | None = None  # what the user said about the times
    order: str | None = None  # the column (or "" for the row) that gives an order instead of a time
    notes: tuple[str, ...] = ()  # what was assumed about the file, without its name
    cut: bool = False  # `frame` holds the first rows only

    @property
    def is_text(self) -> bool:
        """Whether the file has lines, rather than rows of Parquet or of a DataFrame."""
        return self.kind in ("text", "json")

    @property
    def stem(self) -> str:
        """The file's name without its extensions."""
        return bare(self.path).stem

    def found(self) -> dict[str, Any]:
        """What was found by looking, for the plan: {"file", "format", "container", "encoding", "separator", "header", "comments"}."""
        out: dict[str, Any] = {"file": str(self.path), "format": self.kind, "container": self.container or None}
        if self.is_text:
            out["encoding"] = self.encoding
        if self.form is not None:
            out |= {"separator": self.form.separator, "header": self.form.height > 0, "comments": self.form.comment or None}
        return out


def open_tables(
    path: Paths,
    *,
    separator: str | None = None,
    header: bool | None = None,
    columns: Sequence[str] | None = None,
    encoding: str | None = None,
    time_form: str | None = None,
    order: str | None = None,
    head: bool = False,
    named: Collection[str] = (),
) -> tuple[list[Table], list[str]]:
    """Every table that `path` stands for, and notes on files that are not read.

    Args:
        path: a file, several, a folder, a zip archive.
        separator, header, columns, encoding, head: as for `open_table`; of a folder with many files `head` opens some (`of_many`),
            those that are `named` among them.
        time_form: how the times of all the tables are written; None: by looking.
        order: the column that gives an order instead of a time ("": the order of the rows); None: the log has times.
    """
    places, notes = find_places(path)
    among = len(places)
    if head and isinstance(path, str | Path):
        places, said = of_many(places, named)
        notes = [*notes, *said]
    options: dict[str, Any] = {"separator": separator, "header": header, "columns": columns, "encoding": encoding, "head": head}
    tables = [replace(open_table(place, **options), time_form=known_form(time_form)) for place in places]
    tables = [replace(table, cut=True) for table in tables] if len(places) < among else tables
    return tables if order is None else [with_order(table, order) for table in tables], notes


def open_table(
    path: Path | Place,
    *,
    separator: str | None = None,
    header: bool | None = None,
    columns: Sequence[str] | None = None,
    encoding: str | None = None,
    head: bool = False,
) -> Table:
    """A file as a lazy table; reads its first lines, and writes it out as plain text where it is none (see `containers`).

    Args:
        path: the file, or its place.
        separator: between the fields of a text table: a character, several, `tab` or `blank`; None: by looking.
        header: whether the first line names the columns; None: by looking.
        columns: names of the columns, instead of those in the header.
        encoding: of the text; None: UTF-8.
        head: of what is packed only the first megabytes, for a plan.

    Raises:
        UserError: the file is not what its extension says, or an option does not fit it.
        MachineError: the file cannot be read, or its content not be written out.
    """
    place = path if isinstance(path, Place) else in_file(path, {})[0][0]
    shown = place.path / place.member if place.member else place.path
    separator, encoding = known_separator(separator), known_encoding(encoding)
    try:
        if bare(shown).suffix.lower() in PARQUET_SUFFIXES and not place.member:
            table = as_table(pl.scan_parquet(shown, hive_partitioning=False), shown)
        else:
            table = _open_text(place, shown, encoding, {"separator": separator, "header": header, "columns": columns}, head)
    except PolarsError as error:
        raise unreadable(shown, error) from None
    except OSError as error:
        full = error.errno == errno.ENOSPC
        raise MachineError(
            "room for the unpacked file" if full else "a readable file",
            error.strerror or "an error",
            where=str(shown),
            hint="free some space, or set TMPDIR to another folder" if full else "check its permissions",
            code=Code.DISK_FULL if full else Code.UNREADABLE,
        ) from None
    new = {name: pl.lit(value, pl.String) for name, value in place.partitions.items() if name not in table.columns}
    return _with_added(table, new, pl.String())


def _with_added(table: Table, new: dict[str, pl.Expr], dtype: pl.DataType) -> Table:
    if not new:
        return table
    columns = {**table.columns, **dict.fromkeys(new, dtype)}
    return replace(table, frame=table.frame.with_columns(**new), columns=columns, added={**table.added, **new})


def with_joined(table: Table, source: str) -> Table:
    """The table with a column named `date+time` of the columns `date` and `time`, where it has both; otherwise as it is.

    Args:
        table: an open table.
        source: names joined by +, as `--map timestamp=date+time` gives them.
    """
    parts = source.split("+")
    if source in table.columns or len(parts) < 2 or not set(parts) <= set(table.columns):
        return table
    return _with_added(table, {source: joined(parts, table.columns)}, pl.String())


def with_order(table: Table, order: str) -> Table:
    """The table with the column `timestamp` as an order instead of a time: the numbers of a column, or of the rows for "".

    Raises:
        UserError: the table has no such column.
    """
    if order and order not in table.columns:
        raise UserError(
            "a column of the log", order, where=f"--order, {table.path}", hint=nearest(order, table.columns), code=Code.UNKNOWN_COLUMN
        )
    number = pl.col(order or "row").cast(pl.Float64, strict=False)
    if order == "timestamp":
        tidied = number.alias("timestamp")
        columns = {**table.columns, "timestamp": pl.Float64()}
        return replace(table, frame=table.frame.with_columns(tidied), columns=columns, tidied=(*table.tidied, tidied), order=order)
    rest = {name: dtype for name, dtype in table.columns.items() if name != "timestamp"}
    own = replace(table, frame=table.frame.drop("timestamp", strict=False), columns=rest, order=order)
    return _with_added(own, {"timestamp": number}, pl.Float64())


def as_table(frame: pl.LazyFrame, path: Path, kind: Kind = "parquet") -> Table:
    """A frame with columns of types as an open table; a column of its own named `row` becomes `row_2`."""
    if "row" in frame.collect_schema():
        frame = frame.rename({"row": "row_2"})
    frame, notes = bytes_as_text(frame)
    schema = dict(frame.collect_schema())
    frame = frame.with_row_index("row", 1).with_columns(pl.col("row").cast(pl.UInt64), *_stripped(schema))
    return Table(path, frame, schema, plain=path, kind=kind, notes=notes)


def _stripped(schema: dict[str, pl.DataType]) -> tuple[pl.Expr, ...]:
    """Columns of text without the blanks around them."""
    return tuple(pl.col(name).str.strip_chars() for name in _texts(schema))


def _texts(schema: dict[str, pl.DataType]) -> list[str]:
    return [name for name, dtype in schema.items() if dtype == pl.String]


def unreadable(path: Path, error: Exception) -> UserError:
    """The error for a file that is not what its extension says."""
    line = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
    return UserError(
        f"a readable {bare(path).suffix.lower()[1:]} file",
        line,
        where=str(path),
        hint="the file is damaged or of another format",
        code=Code.UNREADABLE_FILE,
    )


def _open_text(place: Place, shown: Path, encoding: str | None, options: dict[str, Any], head: bool) -> Table:
    container, plain, cut = container_of(place.path), place.path, False
    if container:
        plain, cut = unpacked(place.path, container, place.member, head=head and encoding in (None, "utf-8"))
    refuse_other_formats(plain, str(shown))
    if encoding not in (None, "utf-8"):
        plain, part = transcoded(plain, str(encoding), str(shown), head=head)
        cut = cut or part
    refuse_no_text(plain, str(shown))
    start = first_bytes(plain)
    if start.startswith(b"["):
        plain, part = array_lines(plain, str(shown), head=head, cut=cut)
        cut = cut or part
    said = (PYTHON_SAID,) if is_python(first_lines(plain, 1)[0]) else ()
    if said:
        plain, part = json_lines(plain, head)
        cut = cut or part
    is_json = bare(shown).suffix.lower() in JSON_SUFFIXES or start.startswith(b"[{") or decode(first_lines(plain, 1)[0]) is not None
    guess = guessed_encoding(plain)
    table = _open_json(shown, plain) if is_json else _open_csv(shown, plain, guess, options, head)
    notes = (*said, *table.notes)
    if guess is not None:
        notes = (*notes, f"some bytes are not UTF-8; if it is {guess}, say --encoding {guess}")
    bom = starts_with_mark(plain)
    return replace(table, bom=bom, container=container, encoding=encoding or "utf-8", guess=guess, notes=notes, cut=cut or table.cut)


def _open_csv(path: Path, plain: Path, guess: str | None, options: dict[str, Any], head: bool) -> Table:
    said: tuple[str, ...] = ()
    lines = [*first_lines(plain, HEAD_LINES), *spread_lines(plain)]
    plain, cut = beginning(plain) if head else (plain, False)
    if in_single_quotes(lines):
        plain, said = with_double_quotes(plain), (SINGLE_QUOTES_SAID,)
        lines = [*first_lines(plain, HEAD_LINES), *spread_lines(plain)]
    if any(BACKSLASHED.search(line) for line in lines):
        plain, said = with_doubled_quotes(plain), (*said, BACKSLASHES_SAID)
        lines = [line.replace('\\"', '""') for line in lines]
    form = look(lines, bare(path).suffix.lower(), str(path), **options)
    if guess is not None and any("\N{REPLACEMENT CHARACTER}" in name for name in form.names):
        got, hint = f"bytes that look like {guess}", f"say --encoding {guess}"
        raise UserError("a header in UTF-8", got, where=str(path), hint=hint, code=Code.BAD_ENCODING)
    if form.separator == " " or len(form.separator.encode()) > 1:
        plain = with_one_separator(plain, form.separator)
    elif form.spaced_quotes:
        plain = without_blanks_before_quotes(plain, form.separator)
    separator = FIELD_SEPARATOR if form.separator == " " or len(form.separator.encode()) > 1 else form.separator
    frame = pl.scan_csv(
        plain,
        separator=separator,
        quote_char='"' if form.quoted else None,
        has_header=False,
        skip_lines=form.before + form.height,
        comment_prefix=form.comment or None,
        schema=dict.fromkeys([*form.names, EXTRA], pl.String()),
        missing_columns="insert",
        truncate_ragged_lines=True,
        encoding="utf8-lossy",
        row_index_name="row",
        row_index_offset=form.before + (2 if form.height else 1),
        glob=False,
    )
    tidy = {name: _bare_field(pl.col(name), form) for name in form.names}
    # A blank line is no row.
    full = [(tidy[name] if form.blank_fields else pl.col(name)).is_not_null() for name in form.names]
    frame = frame.filter(pl.any_horizontal(full)).with_columns(pl.col("row").cast(pl.UInt64), **tidy)
    tidied = tuple(_decimal_point(name) for name in form.decimal_commas)
    frame = frame.with_columns(tidied)
    notes = (*said, *form.notes)
    schema: dict[str, pl.DataType] = dict.fromkeys(form.names, pl.String())
    return Table(path, frame, schema, separator, form.before + form.height + 1, plain=plain, form=form, tidied=tidied, notes=notes, cut=cut)


def _bare_field(text: pl.Expr, form: TextForm) -> pl.Expr:
    """A field without the blanks (and quotes) around it, null where nothing is left."""
    text = text.str.strip_chars()
    if form.stray_quotes:
        inside = text.str.extract('^"(.*)"$').str.replace_all('""', '"', literal=True).str.strip_chars()
        text = pl.coalesce(inside, text)
    return pl.when(text != "").then(text) if form.blank_fields else text


def _decimal_point(name: str) -> pl.Expr:
    """Numbers such as 1.234,5 written 1234.5."""
    return pl.col(name).str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)


def fields_of(record: str, separator: str, strict: bool = False, quoted: bool | None = None) -> list[str]:
    """The fields of one record; tab-separated files do not quote, unless `quoted`. `strict`: nothing may follow a closing quote."""
    if not (separator not in ("\t", FIELD_SEPARATOR) if quoted is None else quoted):
        return record.split(separator)
    return next(csv.reader([record], delimiter=separator, strict=strict), [])


def _open_json(path: Path, plain: Path) -> Table:
    sample: dict[str, list[Any]] = {}
    lines = [*first_lines(plain, SAMPLE_LINES), *spread_lines(plain)]
    refuse_keys_twice(lines, str(path))
    for line in lines:
        record = decode(line)
        for name, value in (record or {}).items():
            sample.setdefault(name, []).append(value)
    if not sample:
        got, hint = records_inside(plain, path) or other_json(plain, path)
        raise UserError("JSON objects, one a line or in an array", got, where=str(path), hint=hint, code=Code.UNREADABLE_FILE)
    schema = {name: json_type(values) for name, values in sample.items() if name not in ("row", EXTRA, BROKEN)}
    frame = pl.scan_ndjson(plain, schema=schema, row_index_name="row", row_index_offset=1)
    wrapped = wrapped_columns(sample)
    tidied = tuple(unwrapped(name) if name in wrapped else text for name, text in zip(_texts(schema), _stripped(schema)))
    frame = frame.with_columns(pl.col("row").cast(pl.UInt64), *tidied)
    return Table(path, frame, schema, plain=plain, kind="json", tidied=tidied, notes=wrapped_said(wrapped, sample))


def decode(line: str | bytes) -> dict[str, Any] | None:
    """A line as a JSON object, None where it is none; NaN, which Python writes and JSON does not know, is null."""
    try:
        record = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = line if isinstance(line, str) else line.decode("utf-8", "replace")
        return without_constants(text) if "NaN" in text else None
    return record if isinstance(record, dict) else None


def beside(path: Path, name: str) -> Table | None:
    """The file `STEM.name.*`, `STEM_name.*` or `name.*` in the directory of `path`, if there is one; none beside a DataFrame."""
    stem = bare(path).stem if path.exists() else ""
    for one in (f"{stem}.{name}", f"{stem}_{name}", name) if stem else ():
        for suffix in (*SUFFIXES, *(suffix + ".gz" for suffix in SUFFIXES)):
            candidate = path.with_name(one + suffix)
            if candidate != path and candidate.is_file() and candidate.stat().st_size > 0:
                return open_table(candidate)
    return None
