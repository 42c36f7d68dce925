"""Which encoding the bytes of a text are in: by name, or by looking at some of them."""

import re
import unicodedata
from codecs import BOM_UTF8, lookup
from pathlib import Path

import polars as pl

from qurate.errors import Code, UserError

HEAD_BYTES = 65_536
SPREAD_PLACES = 32
"""Bytes that are not UTF-8 are looked for in the head and at so many places of a file."""
OTHER_WRITING = {
    "cp932": "cp932", "euc_jp": "euc-jp", "cp949": "cp949", "big5": "big5", "gb18030": "gb18030", "gbk": "gbk", "cp1251": "cp1251",
    "koi8_r": "koi8-r", "cp866": "cp866", "cp1253": "cp1253", "cp1255": "cp1255", "cp1256": "cp1256", "cp874": "cp874",
}  # fmt: skip
"""Encodings of text that is not Latin, by the names of charset-normalizer; the larger of two that contain each other."""
CHINESE = (("gb2312", "gbk"), ("big5", "big5"), ("gbk", "gbk"), ("gb18030", "gb18030"))
"""Simplified text stays within the two levels of GB 2312; traditional text does not."""
SHORT, NEARLY_ALL = 2.2, 0.9
"""In Latin words fewer letters than this stand side by side that are not ASCII."""
COMMON_BIG5 = b"\xc6\xa1"
"""Above the first level of Big5."""
WESTERN = ("latin-1", "cp1252", "cp1250", "iso8859-2")
WITHIN_WORDS = r"(?<=[^\W\d_])[^\x00-\x7f](?=[^\W\d_])"
SOME_BYTES = 1_000


def known_encoding(encoding: str | None) -> str | None:
    """Python's name of an encoding.

    Raises:
        UserError: Python knows none of that name.
    """
    if encoding is None:
        return None
    try:
        return lookup(encoding).name
    except LookupError:
        hint = "such as latin-1, cp1252, utf-16, gbk, gb18030, big5"
        raise UserError("a text encoding", encoding, where="--encoding", hint=hint, code=Code.BAD_ENCODING) from None


def _samples(path: Path) -> bytes:
    """Whole lines of the head and of places spread over the file."""
    size, pieces = path.stat().st_size, []
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        pieces.append(head if len(head) == size else head[: head.rfind(b"\n") + 1])
        for place in range(1, SPREAD_PLACES) if size > HEAD_BYTES else ():
            file.seek(size * place // SPREAD_PLACES)
            file.readline()
            pieces.append(file.readline() + file.readline())
    return b"".join(pieces)


def guessed_encoding(path: Path) -> str | None:
    """The encoding that the bytes look like, None where they are UTF-8; for single bytes in Latin words latin-1 or a relative."""
    data = _samples(path).removeprefix(BOM_UTF8)
    if _decoded(data, "utf-8") is not None:
        return None
    if _is_latin(data, re.findall(rb"[\x80-\xff]+", data)):
        return _western(data)
    from charset_normalizer import from_bytes  # it takes a while to load, and nearly all files are UTF-8

    best = from_bytes(data, cp_isolation=[*OTHER_WRITING]).best()
    found = None if best is None else OTHER_WRITING.get(best.encoding)
    if found in (None, "gb18030"):
        found = next((name for encoding, name in CHINESE if _decoded(data, encoding) is not None), None)
    return found or _western(data)


def _is_latin(data: bytes, runs: list[bytes]) -> bool:
    """Whether the high bytes stand alone, or by twos, among more letters of ASCII."""
    words = b"".join(re.findall(rb"[A-Za-z\x80-\xff]*[\x80-\xff][A-Za-z\x80-\xff]*", data))
    high = sum(map(len, runs))
    return high < SHORT * len(runs) and (3 * high < len(words) or (2 * high < len(words) and not _is_big5(data)))


def _is_big5(data: bytes) -> bool:
    """Whether the bytes can be traditional Chinese, nearly all of it common characters and punctuation."""
    signs = [sign.encode("big5") for sign in _decoded(data, "big5") or "" if sign > "\x7f"]
    return sum(sign < COMMON_BIG5 for sign in signs) > NEARLY_ALL * len(signs)


def _decoded(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


def _western(data: bytes) -> str:
    """latin-1, or the one of its relatives in which signs within words are letters, and no byte is a control character."""

    def wrong(encoding: str) -> int:
        text = _decoded(data, encoding)
        if text is None:
            return len(data)
        within = sum(not sign.isalpha() for sign in re.findall(WITHIN_WORDS, text))
        return within + sum(unicodedata.category(sign) == "Cc" for sign in text if sign > "\x7f")

    return min(WESTERN, key=wrong)


def bytes_as_text(frame: pl.LazyFrame) -> tuple[pl.LazyFrame, tuple[str, ...]]:
    """The frame with its columns of bytes as text: UTF-8, or hexadecimal numbers, such as ids of 16 bytes; and what is to be said."""
    names = [name for name, dtype in frame.collect_schema().items() if dtype == pl.Binary]
    sample = frame.select(names).head(SOME_BYTES).collect() if names else pl.DataFrame()
    numbers = [column.name for column in sample if any(_decoded(value, "utf-8") is None for value in column.drop_nulls())]
    text = [pl.col(name).bin.encode("hex") if name in numbers else pl.col(name).cast(pl.String) for name in names]
    return frame.with_columns(text), tuple(f"{name} holds bytes that are no text: read as hexadecimal numbers" for name in numbers)
