"""What some programs write around a value: single quotes in text tables and in Python's objects, objects of MongoDB and DynamoDB."""

import ast
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import polars as pl

from qurate.events.containers import CHUNK, written

SINGLE_QUOTED = re.compile(rb"(?m)(^|[,;\t|])[ ]*'([^\r\n]*?)'[ ]*(?=[,;\t|]|\r?$)")
SINGLE_QUOTES_SAID = "fields stand in single quotes, which are not part of them"
BACKSLASHED = re.compile(r'(?:^|[,;|\t])"[^"\\\r\n]*\\"(?!["\s,;|\t]|$)')
"""A quoted field in which a quote has a backslash before it, not another quote behind it, which would be its double."""
BACKSLASHES_SAID = "quotes within fields have a backslash before them, as Spark and MySQL write them"
OTHER_MARKS = re.compile(r'["\[{(]')
MOSTLY = 0.8
HEAD_PYTHON = 1 << 20
PYTHON_SAID = "the lines are objects as Python prints them, not JSON; they are read as such"
WRAPPED = re.compile(r"\$(date|oid|numberLong|numberInt|numberDouble|numberDecimal)")
TYPED = ("S", "N", "BOOL", "B", "NULL", "L", "M", "SS", "NS", "BS")
"""DynamoDB's types, as the one key of an object around each value."""
SCALARS = TYPED[:3]
VALUE = r'^\s*\{\s*"\$\w+"\s*:\s*(?:\{\s*"\$numberLong"\s*:\s*)?"?([^"{}]*?)"?\s*\}[\s}]*$'


def in_single_quotes(lines: list[str]) -> bool:
    """Whether most lines have a field in single quotes, and none has double quotes or lists, where single ones mean something else."""
    rows = [line.strip() for line in lines if line.strip()]
    if len(rows) < 2 or "'" not in rows[1] or any(OTHER_MARKS.search(row) for row in rows):
        return False
    return sum(SINGLE_QUOTED.search(row.encode()) is not None for row in rows[1:]) >= MOSTLY * (len(rows) - 1)


def with_double_quotes(path: Path) -> Path:
    """The text with double quotes around the fields that had single ones."""

    def double(found: re.Match[bytes]) -> bytes:
        return found[1] + b'"' + found[2].replace(b"''", b"'").replace(b'"', b'""') + b'"'

    def write(out: BinaryIO) -> None:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK) + file.readline():
                out.write(SINGLE_QUOTED.sub(double, chunk))

    return written(path, "single quotes", write)


def with_doubled_quotes(path: Path) -> Path:
    """The text with `""` for the quotes within fields that were written with a backslash before them."""

    def write(out: BinaryIO) -> None:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK) + file.readline():
                out.write(chunk.replace(b'\\"', b'""'))

    return written(path, "backslashes", write)


def is_python(line: str) -> bool:
    """Whether a line is an object as Python prints it: keys in single quotes, `None`, `True`."""
    return re.match(r"\s*\{\s*u?'", line) is not None


def json_lines(path: Path, head: bool) -> tuple[Path, bool]:
    """Lines that Python printed, as JSON; and whether these are the first ones only. What is no such line stays as it is.

    Args:
        head: write the first `HEAD_PYTHON` bytes only, in whole lines.
    """
    cut = head and path.stat().st_size > HEAD_PYTHON

    def write(out: BinaryIO) -> None:
        with path.open("rb") as file:
            for line in file:
                with suppress(ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
                    line = msgspec.json.encode(ast.literal_eval(line.decode().strip())) + b"\n"
                out.write(line)
                if cut and file.tell() > HEAD_PYTHON:
                    break

    return written(path, f"Python {'head' if cut else 'whole'}", write), cut


def wrapped_columns(sample: dict[str, list[Any]]) -> list[str]:
    """Columns whose values in a sample of records are all objects of MongoDB's extended JSON, such as `{"$date": ...}`; or, where
    every column has DynamoDB's objects, those of its text, numbers and truth values: `{"S": ...}`."""
    known = {name: [value for value in values if value is not None] for name, values in sample.items()}
    if known and all(values and all(_has_type(value, TYPED) for value in values) for values in known.values()):
        return [name for name, values in known.items() if all(_has_type(value, SCALARS) for value in values)]
    return [name for name, values in known.items() if values and all(map(_is_wrapped, values))]


def wrapped_said(columns: list[str], sample: dict[str, list[Any]]) -> tuple[str, ...]:
    """A note on those columns; none where there are none."""
    if not columns:
        return ()
    typed = any(_has_type(value, TYPED) for value in sample[columns[0]])
    objects = "DynamoDB's objects such as S and N" if typed else "MongoDB's objects such as $oid and $date"
    return (f"{', '.join(columns)}: {objects} are read as the value in them",)


def _has_type(value: Any, types: tuple[str, ...]) -> bool:
    return isinstance(value, dict) and len(value) == 1 and next(iter(value)) in types


def _is_wrapped(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and WRAPPED.fullmatch(next(iter(value))) is not None


def unwrapped(column: str) -> pl.Expr:
    """The value in the object of each row."""
    text = pl.col(column)
    typed = pl.when(text.str.contains(rf'^\s*\{{\s*"(?:{"|".join(SCALARS)})"')).then(text)  # null elsewhere: not parsed as JSON
    inside = [typed.str.json_path_match(f"$.{key}") for key in SCALARS]
    return pl.coalesce(*inside, text.str.replace(VALUE, "${1}")).str.strip_chars()
