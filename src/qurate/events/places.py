"""Which files a path stands for: a file, a folder with its subfolders, the members of a zip archive."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from qurate.errors import Code, UserError
from qurate.events.containers import container_of, members
from qurate.events.formats import BY_SUFFIX, EXCEL, WORKBOOK, refuse_table_formats

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
PARQUET_SUFFIXES = (".parquet", ".pq")
TEXT_SUFFIXES = (".csv", ".tsv", ".txt", ".dat", ".data", ".inter", ".user", ".item")
SUFFIXES = (*TEXT_SUFFIXES, *JSON_SUFFIXES, *PARQUET_SUFFIXES)
CONTAINER_SUFFIXES = (".gz", ".zip")
OTHER_CONTAINER_SUFFIXES = (".zst", ".bz2", ".xz", ".7z", ".rar", ".tar", ".tgz")
OWN_FILES = ("dataset.json", "manifest.json")
"""A folder with one of them is a dataset or a model of ours, and no part of a log."""
PARTITION = re.compile(r"([A-Za-z_][\w-]*)=(.*)")
"""A folder of a partitioned table: `day=2024-01-01` gives its files the column `day`."""
NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"
NAMED_FILES = 20
"""Of the files of a folder that are not read so many are named in a note; the rest are counted."""

Paths = str | Path | Iterable[str | Path]


@dataclass(frozen=True)
class Place:
    """Where a table is: a file, or a member of a zip archive; and the columns that its folders' names give."""

    path: Path
    member: str = ""
    partitions: dict[str, str | None] = field(default_factory=dict)


def bare(path: Path) -> Path:
    """The path without the extension of a container: `day.csv.gz` is `day.csv`."""
    return path.with_suffix("") if path.suffix.lower() in CONTAINER_SUFFIXES and Path(path.stem).suffix else path


def find_files(path: Paths) -> list[Path]:
    """The files a path, a list of paths or a directory stands for, sorted by name; see `find_places`."""
    return [place.path for place in find_places(path)[0]]


def check_paths(path: object) -> None:
    """Nothing where it is a path or several.

    Raises:
        UserError: it is neither.
    """
    several = isinstance(path, Iterable) and not isinstance(path, bytes)
    if not isinstance(path, str | Path) and not (several and all(isinstance(one, str | Path) for one in path)):  # type: ignore[attr-defined]
        raise UserError("a path or several", f"{path!r:.60}", where="path", hint="name the log", code=Code.BAD_PATH)


def short_names(paths: Sequence[str | Path]) -> list[str]:
    """The name of each file, with so many of its folders before it that no two are the same; `--type` and `--map` take it.

    >>> short_names(["log/view/a.csv", "log/buy/a.csv", "log/b.csv"])
    ['view/a.csv', 'buy/a.csv', 'b.csv']
    """
    parts = [Path(path).parts for path in paths]
    shown = [1] * len(parts)
    for _ in range(max(map(len, parts), default=0)):
        names = ["/".join(one[-n:]) for one, n in zip(parts, shown)]
        often = Counter(names)
        if max(often.values(), default=1) == 1:
            break
        shown = [min(n + (often[name] > 1), len(one)) for name, n, one in zip(names, shown, parts)]
    return ["/".join(one[-n:]) for one, n in zip(parts, shown)]


def find_places(path: Paths) -> tuple[list[Place], list[str]]:
    """The tables that a path, a list of paths or a directory with its subfolders stands for, and notes on what is not read.

    Raises:
        UserError: nothing there, an empty file, a directory without logs, an unknown extension.
    """
    check_paths(path)
    paths = [Path(path)] if isinstance(path, str | Path) else [Path(p) for p in path]
    found: list[Place] = []
    notes: list[str] = []
    for one in paths:
        if not one.exists():
            raise UserError("an existing file or directory", "nothing", where=str(one), hint="check the path", code=Code.NOT_FOUND)
        inside, left = _inside(one) if one.is_dir() else in_file(_checked(one), {})
        if not inside:
            raise _none_inside(one, left)
        found += inside
        if left:
            more = f" and {len(left) - NAMED_FILES:,} more" if len(left) > NAMED_FILES else ""
            notes.append(f"not read in {one.name or one}: {', '.join(left[:NAMED_FILES])}{more}")
    if not found:
        raise UserError("at least one file", "an empty list", where="path", hint="name the log", code=Code.NOT_FOUND)
    return found, notes


def _none_inside(path: Path, left: list[str]) -> UserError:
    """The error for a folder or an archive in which nothing can be read."""
    expected, code = f"files ending in {' '.join(SUFFIXES)}", Code.EMPTY_DIRECTORY
    if not path.is_dir() and any(name.endswith(WORKBOOK) for name in left):
        return UserError(expected, EXCEL[0], where=str(path), hint=EXCEL[1], code=code)
    visible = [name for name in left if not Path(name).name.startswith((".", "_")) and not Path(name).suffix]
    hint = f"give the log file itself, or add an ending to its name, such as {visible[0]}.csv" if visible else "give the log file itself"
    got = f"a{' directory' if path.is_dir() else 'n archive'} without any" + (f" ({', '.join(left[:3])})" if left else "")
    return UserError(expected, got, where=str(path), hint=hint, code=code)


def holds_files(path: Path) -> bool:
    """Whether a path is a folder, or a zip archive: a file in it that is no log is left out."""
    return path.is_dir() or (path.suffix.lower() not in PARQUET_SUFFIXES and container_of(path) == "zip")


def _inside(folder: Path) -> tuple[list[Place], list[str]]:
    """Tables of a folder and its subfolders, and the names of the files that are none."""
    refuse_table_formats(folder)
    found: list[Place] = []
    left: list[str] = []
    own = [file.parent for name in OWN_FILES for file in folder.glob(f"*/**/{name}")]
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        name = str(file.relative_to(folder))
        if any(one in file.parents for one in own):
            continue
        if file.stat().st_size == 0:
            left.append(f"{name} (empty)")
        elif not _is_readable(file):
            left.append(name)
        else:
            inside, rest = in_file(file, _partitions(file.relative_to(folder).parent.parts))
            found += inside
            left += [f"{name}/{one}" for one in rest]
    return found, left + [f"{one.relative_to(folder)} (a dataset or model)" for one in sorted(set(own))]


def _is_readable(path: Path) -> bool:
    hidden = path.name.startswith((".", "_"))
    return not hidden and (bare(path).suffix.lower() in SUFFIXES or path.suffix.lower() == ".zip")


def _partitions(parts: Sequence[str]) -> dict[str, str | None]:
    matches = [match for part in parts if (match := PARTITION.fullmatch(part))]
    return {match[1]: None if match[2] == NO_PARTITION else unquote(match[2]) for match in matches}


def in_file(path: Path, partitions: dict[str, str | None]) -> tuple[list[Place], list[str]]:
    """The file itself, or the tables within a zip archive and its other members."""
    if path.suffix.lower() in PARQUET_SUFFIXES or container_of(path) != "zip":
        return [Place(path, partitions=partitions)], []
    inside = members(path)
    kept = [name for name, size in inside if size and _is_readable(Path(name)) and not name.startswith("__MACOSX/")]
    return [Place(path, name, {**partitions, **_partitions(Path(name).parent.parts)}) for name in kept], [
        name for name, _ in inside if name not in kept
    ]


def _checked(path: Path) -> Path:
    if bare(path).suffix.lower() not in ("", *SUFFIXES) and path.suffix.lower() not in CONTAINER_SUFFIXES:
        hint = "decompress it" if path.suffix.lower() in OTHER_CONTAINER_SUFFIXES else "convert or rename the file"
        expected = f"a file ending in {' '.join((*SUFFIXES, *CONTAINER_SUFFIXES))}"
        got, hint = BY_SUFFIX.get(path.suffix.lower(), ("", hint))
        got = f"{path.suffix}, {got}" if got else path.suffix
        raise UserError(expected, got, where=str(path), hint=hint.replace("FILE", str(path)), code=Code.BAD_EXTENSION)
    if path.stat().st_size == 0:
        raise UserError(
            "a file with rows", "an empty file (0 bytes)", where=str(path), hint="check how it was written", code=Code.EMPTY_FILE
        )
    return path
