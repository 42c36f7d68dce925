"""Files and directories that appear whole or not at all: written beside, synced, renamed.

A process that is killed leaves what it wrote beside, under a hidden name that ends in `TMP`; a directory that was being
replaced stands beside under a name that ends in `OLD` until the new one is in its place. `recover_directory` undoes both.
Locks are those of the operating system (`fcntl`: Linux, macOS) and end with their process.
"""

import os
import re
import shutil
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from qurate.locks import try_lock

TMP, OLD = ".qurate-tmp", ".qurate-old"
"""Endings of what stands beside a file or directory while it is replaced."""


@contextmanager
def replacing_file(path: str | Path) -> Generator[Path, None, None]:
    """Gives a path to write to; what is there at the end of the block becomes `path`, in one rename. Its folder is made.

    After an exception `path` is as it was, and nothing stands beside it.

    Raises:
        OSError: it cannot be written or renamed.
    """
    target = Path(path).absolute()
    beside = _beside(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield beside
        sync(beside)
        os.rename(beside, target)
        sync(target.parent)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def replacing_directory(path: str | Path) -> Generator[Path, None, None]:
    """Gives an empty directory to write into; at the end of the block it becomes `path`, with all that is in it.

    A directory that was at `path` is moved away first, and removed when the new one is in its place. After an exception
    (Ctrl-C too) it is back, and nothing stands beside it. Meanwhile the new directory is locked by this process.

    Raises:
        OSError: it cannot be written or renamed.
    """
    target = Path(path).absolute()
    beside = _beside(target)
    try:
        beside.mkdir(parents=True)
        with locked(beside):
            yield beside
            _sync_all(beside)
            _swap(beside, target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def recover_directory(path: str | Path) -> bool:
    """Undoes what a killed process left beside `path`: the former directory comes back, half-written ones go.

    While a living process writes there, and where nothing can be changed (a read-only disk), nothing is done.

    Returns:
        Whether the former directory came back.
    """
    target = Path(path).absolute()
    name = re.compile(re.escape(f".{target.name}.") + "[0-9a-f]{8}(" + re.escape(TMP) + "|" + re.escape(OLD) + ")")
    if not target.parent.is_dir():
        return False
    left = [entry for entry in target.parent.iterdir() if name.fullmatch(entry.name) and entry.is_dir()]
    try:
        for entry in left:
            if entry.suffix == TMP:
                with locked(entry) as ours:
                    if not ours:
                        return False
        came_back = False
        for entry in left:
            if entry.suffix == OLD and not target.exists():
                os.rename(entry, target)
                came_back = True
            else:
                shutil.rmtree(entry, ignore_errors=True)
        return came_back
    except OSError:
        return False


@contextmanager
def locked(directory: Path) -> Generator[bool, None, None]:
    """Holds the directory's lock, which ends with the process; False where another process holds it."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        yield try_lock(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: Path, data: bytes) -> None:
    """Writes and syncs one file, with the folders above it; for files inside a directory that is being replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Has the operating system put a file or a directory's list of names on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}{TMP}")


def _sync_all(directory: Path) -> None:
    for entry in directory.rglob("*"):
        sync(entry)
    sync(directory)


def _swap(beside: Path, target: Path) -> None:
    """`beside` becomes `target`; the old one is moved away first and only then removed."""
    old = beside.with_suffix(OLD)
    if target.exists():
        os.rename(target, old)
    try:
        os.rename(beside, target)
    except BaseException:  # Ctrl-C too
        if old.exists():
            os.rename(old, target)
        raise
    sync(target.parent)
    shutil.rmtree(old, ignore_errors=True)
