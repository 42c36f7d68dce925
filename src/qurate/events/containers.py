"""Files that are no plain UTF-8 text yet: gzip and zip, other encodings, JSON arrays, separators of several characters.

Each is written out once as plain text in a temporary directory of this process, which is removed when the process ends. A line stays
a line, so that the numbers in messages are those of the user's file.
"""

import gzip
import hashlib
import io
import json
import re
import shutil
import tempfile
import zipfile
import zlib
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_BE, BOM_UTF32_LE, getincrementaldecoder
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import IO, BinaryIO, cast

import msgspec

from qurate.errors import Code, UserError
from qurate.events.encodings import HEAD_BYTES, guessed_encoding
from qurate.events.json_documents import arrays_said

GZIP, ZIP = b"\x1f\x8b", b"PK\x03\x04"
OTHER_CONTAINERS = {b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ": "xz", b"BZh": "bzip2"}
CHUNK = 1 << 20
HEAD_PACKED = 32 << 20
"""A plan unpacks so many bytes."""
HEAD_RECORDS = 20_000
"""And so many records of a JSON array."""
FIELD_SEPARATOR = "\x1f"
"""Stands for a separator of several characters in the written-out text: ASCII's own, which no text uses."""


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="qurate-")


def container_of(path: Path) -> str:
    """gzip, zip or "", by the first bytes.

    Raises:
        UserError: compressed in a way that is not read.
    """
    with path.open("rb") as file:
        head = file.read(8)
    for magic, name in OTHER_CONTAINERS.items():
        if head.startswith(magic):
            raise UserError("text, gzip or zip", f"{name} data", where=str(path), hint="decompress it", code=Code.UNREADABLE_FILE)
    return "gzip" if head.startswith(GZIP) else "zip" if head.startswith(ZIP) else ""


def members(path: Path) -> list[tuple[str, int]]:
    """Name and size of each file in a zip archive, sorted by name.

    Raises:
        UserError: the archive is damaged.
    """
    with _damage(path, "zip"), zipfile.ZipFile(path) as archive:
        return sorted((info.filename, info.file_size) for info in archive.infolist() if not info.is_dir())


@contextmanager
def _damage(path: Path, container: str) -> Iterator[None]:
    try:
        yield
    # zipfile says an encrypted member by RuntimeError and a compression it does not know by NotImplementedError
    except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        hint = "unpack it with its password" if "password" in str(error) else "the file is damaged"
        raise UserError(f"a readable {container} file", str(error)[:120], where=str(path), hint=hint, code=Code.UNREADABLE_FILE) from None


def written(path: Path, what: str, write: Callable[[BinaryIO], None]) -> Path:
    """The file that `write` makes of `path`, made once as long as `path` does not change. `what` names the way it is made."""
    state = path.stat()
    key = f"{path.resolve()}|{state.st_size}|{state.st_mtime_ns}|{what}"
    target = Path(_scratch().name) / hashlib.sha256(key.encode()).hexdigest()[:24]
    if not target.exists():
        part = target.with_suffix(".part")
        with part.open("wb") as file:
            write(file)
        part.rename(target)
    return target


def unpacked(path: Path, container: str, member: str = "", *, head: bool = False) -> tuple[Path, bool]:
    """The content of a gzip file or of a member of a zip archive as a file; and whether it is only the first lines of it.

    Args:
        head: write only whole lines of the first `HEAD_PACKED` bytes, all of them of a JSON array.

    Raises:
        UserError: the archive is damaged.
    """

    def content() -> AbstractContextManager[IO[bytes]]:
        return cast(IO[bytes], gzip.open(path)) if container == "gzip" else zipfile.ZipFile(path).open(member)

    def write(out: BinaryIO) -> None:
        with _damage(path, container), content() as file:
            shutil.copyfileobj(file, out, CHUNK)

    if head:
        with _damage(path, container), content() as file:
            first = file.read(HEAD_PACKED)
        is_array = first.removeprefix(BOM_UTF8).lstrip().startswith(b"[")
        if len(first) == HEAD_PACKED and (is_array or b"\n" in first):
            whole = first if is_array else first[: first.rfind(b"\n") + 1]
            return written(path, f"{container} {member} head", partial(_write, whole)), True
    return written(path, f"{container} {member}", write), False


def beginning(path: Path) -> tuple[Path, bool]:
    """The first `HEAD_PACKED` bytes of a text in whole lines, for a plan, which may rewrite them; and whether the file has more."""
    if path.stat().st_size <= HEAD_PACKED:
        return path, False
    with path.open("rb") as file:
        first = file.read(HEAD_PACKED)
    end = first.rfind(b"\n") + 1
    return (written(path, "beginning", partial(_write, first[:end])), True) if end else (path, False)


def _write(content: bytes, out: BinaryIO) -> None:
    out.write(content)


def starts_with_mark(path: Path) -> bool:
    """Whether a file begins with a byte order mark."""
    with path.open("rb") as file:
        return file.read(len(BOM_UTF8)) == BOM_UTF8


def transcoded(path: Path, encoding: str, where: str, *, head: bool = False) -> tuple[Path, bool]:
    """The text as UTF-8; and whether it is only the beginning of it.

    Args:
        head: write only whole lines of the first `HEAD_PACKED` bytes, all of them of a JSON array.

    Raises:
        UserError: the bytes are not text in that encoding.
    """
    cut = head and path.stat().st_size > HEAD_PACKED

    def write(out: BinaryIO) -> None:
        try:
            if cut:
                with path.open("rb") as file:
                    text = getincrementaldecoder(encoding)().decode(file.read(HEAD_PACKED))  # a character cut in two is left out
                out.write((text if text.lstrip("\ufeff \r\n\t").startswith("[") else text[: text.rfind("\n") + 1]).encode())
                return
            with io.TextIOWrapper(path.open("rb"), encoding, newline="") as whole:
                while chunk := whole.read(CHUNK):
                    out.write(chunk.encode())
        except UnicodeError as error:
            guess = guessed_encoding(path)
            hint = f"say --encoding {guess}" if guess else "leave --encoding out: the file is UTF-8"
            raise UserError(f"text in {encoding}", str(error)[:120], where=where, hint=hint, code=Code.BAD_ENCODING) from None

    return written(path, f"from {encoding}{' head' if cut else ''}", write), cut


def refuse_no_text(path: Path, where: str) -> None:
    """Content that is no text in UTF-8, or has no line ends that are ours.

    Raises:
        UserError: it is of two bytes a character, or has line ends of a carriage return alone.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if head.startswith((BOM_UTF32_LE, BOM_UTF32_BE)):
        raise UserError("text in UTF-8", "UTF-32", where=where, hint="say --encoding utf-32", code=Code.BAD_ENCODING)
    if head.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) or head[1:4:2] == b"\0\0" or head[0:3:2] == b"\0\0":
        marked = head.startswith((BOM_UTF16_LE, BOM_UTF16_BE))
        form = "utf-16" if marked else "utf-16-le" if head[1:4:2] == b"\0\0" else "utf-16-be"
        raise UserError("text in UTF-8", "UTF-16", where=where, hint=f"say --encoding {form}", code=Code.BAD_ENCODING)
    if b"\r" in head and b"\n" not in head:
        hint = "save it with the line ends of Unix or Windows"
        raise UserError(r"line ends \n or \r\n", r"\r alone", where=where, hint=hint, code=Code.BAD_LINE_ENDS)


def array_lines(path: Path, where: str, *, head: bool = False, cut: bool = False) -> tuple[Path, bool]:
    """The records of a JSON array, one a line; and whether they are only the first of them.

    Args:
        head: write only the records that stand whole in the first `HEAD_PACKED` bytes, at most `HEAD_RECORDS`.
        cut: the file is the beginning of an array.

    Raises:
        UserError: the file is no array.
    """
    if cut or (head and path.stat().st_size > HEAD_PACKED):
        with path.open("rb") as file:
            first = _first_records(file.read(HEAD_PACKED).removeprefix(BOM_UTF8).decode(errors="ignore"))
        if first:
            return written(path, "array head", partial(_write, b"".join(_one_line(record.encode()) for record in first))), True

    def write(out: BinaryIO) -> None:
        try:
            records = msgspec.json.decode(path.read_bytes().removeprefix(BOM_UTF8), type=list[msgspec.Raw])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            got, hint = str(error)[:120], "write an array of records, or one record a line"
            if "trailing comma" in got:
                hint = "leave out the comma before the last bracket"
            elif "trailing" in got:  # after the first of several arrays
                got, hint = arrays_said(Path(where), "map(json.loads, open(FILE))")
            raise UserError("an array of JSON records", got, where=where, hint=hint, code=Code.UNREADABLE_FILE) from None
        for record in records:
            out.write(_one_line(bytes(record)))

    return written(path, "array", write), False


def _one_line(record: bytes) -> bytes:
    """Line breaks stand between values only: within text JSON writes them as \\n."""
    return record.replace(b"\n", b" ").replace(b"\r", b" ") + b"\n"


def _first_records(text: str) -> list[str]:
    """The records at the beginning of an array, as they are written; what is cut off or no JSON ends them."""
    decoder, between = json.JSONDecoder(), re.compile(r"[\s,]*")
    records: list[str] = []
    at = text.find("[") + 1
    while len(records) < HEAD_RECORDS:
        begins = cast(re.Match[str], between.match(text, at)).end()
        try:
            _, at = decoder.raw_decode(text, begins)
        except (ValueError, RecursionError):
            break
        records.append(text[begins:at])
    return records


def with_one_separator(path: Path, separator: str) -> Path:
    """The text with FIELD_SEPARATOR for a separator of several characters, or for runs of blanks where it is a blank."""
    old, new = separator.encode(), FIELD_SEPARATOR.encode()

    def write(out: BinaryIO) -> None:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK) + file.readline():
                if separator == " ":
                    chunk = re.sub(rb"[ \t]+", new, re.sub(rb"(?m)^[ \t]+|[ \t]+(?=\r?$)", b"", chunk))
                out.write(chunk.replace(old, new))

    return written(path, f"separator {separator}", write)


def without_blanks_before_quotes(path: Path, separator: str) -> Path:
    """The text without blanks between a separator and a quoted field, which hide the quotes from parsers."""
    sep = re.escape(separator.encode())

    def write(out: BinaryIO) -> None:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK) + file.readline():
                chunk = re.sub(rb"(?m)(^|" + sep + rb")[ \t]+\"(?!\")", rb'\1"', chunk)
                out.write(re.sub(rb"\"[ \t]+(?=" + sep + rb"|\r?$)", rb'"', chunk))

    return written(path, "blanks", write)
