"""Tables as the files that `recommend --all-users` writes: CSV, JSON Lines or Parquet."""

from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from qurate.errors import Code, UserError, nearest
from qurate.files import replacing_file
from qurate.outputs import check_files, written

if TYPE_CHECKING:
    import polars as pl

TABLE_FORMATS = (".csv", ".jsonl", ".parquet")


def file_format(path: Path) -> str:
    """The format that the name of a result file asks for.

    Raises:
        UserError: none that we write.
    """
    if path.suffix.lower() not in TABLE_FORMATS:
        got, known = path.suffix or "no extension", ", ".join(TABLE_FORMATS)
        raise UserError(
            f"a file name ending in {known}", got, where=str(path), hint=nearest(path.suffix, TABLE_FORMATS), code=Code.BAD_EXTENSION
        )
    return path.suffix.lower()


def write_tables(tables: "Iterator[pl.DataFrame]", path: Path, progress: Callable[[int], None], force: bool = False) -> tuple[int, int]:
    """Writes tables of `user_id` and more one after the other; the file appears when it is complete.

    Returns:
        Rows and users written.

    Raises:
        UserError: a file is there that qurate did not write.
        OSError: it cannot be written; it names `path`, whatever was being written.
    """
    import polars as pl

    check_files([path], force)
    kind, rows, users, kept = file_format(path), 0, 0, []
    try:
        with replacing_file(path) as beside, beside.open("wb") as file:
            for frame in tables:
                rows, users = rows + frame.height, users + frame["user_id"].n_unique()
                # Bytes first: polars itself reports a full disk as a text only.
                if kind == ".csv":
                    file.write(frame.write_csv(include_header=rows == frame.height).encode())
                elif kind == ".jsonl":
                    file.write(frame.write_ndjson().encode())
                else:
                    kept.append(frame)  # Parquet is written in one piece
                progress(users)
            if kept:
                pl.concat(kept).write_parquet(whole := BytesIO())
                file.write(whole.getbuffer())
        written([path])
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(beside)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None
    return rows, users


def watched_order(tables: "Iterable[pl.DataFrame]", rising: list[bool]) -> "Iterator[pl.DataFrame]":
    """The tables of many users; for each, `rising` gets whether a score is above that of the item before."""
    for frame in tables:
        same = frame["user_id"] == frame["user_id"].shift()
        rising.append(bool(((frame["score"].diff() > 0) & same).any()))
        yield frame


def with_titles(tables: "Iterable[pl.DataFrame]", titles: dict[str, str]) -> "Iterator[pl.DataFrame]":
    """The tables with a column `title` more, empty where an item has none; as they are where no title is known."""
    import polars as pl

    for frame in tables:
        named = pl.col("item_id").replace_strict(titles, default=None, return_dtype=pl.String).alias("title")
        yield frame.with_columns(named) if titles else frame
