"""One rule for every output: a new path, or something that qurate wrote itself, or `force`.

A model or a dataset is recognised by its manifest, which names its files. A single file is recognised by the list
`.qurate-written` in its folder: one line `sha256  name` per file, as `sha256sum` writes them, so that a file that somebody
edited since counts as theirs. Readers of logs skip hidden files.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from qurate.errors import Code, MachineError, UserError
from qurate.files import OLD, TMP, replacing_file

WRITTEN = ".qurate-written"
"""The list of the files of a folder that qurate wrote."""

MODEL, DATASET, CUSTOMERS = "manifest.json", "dataset.json", "customers.json"
"""The manifests by which directories are recognised."""

DEMO = ("log", "dataset", "model", "report.html", "report.json")
"""What a demo's folder holds."""


def check_files(paths: Iterable[str | Path], force: bool = False) -> None:
    """To be called before the work whose results go to these files.

    Raises:
        UserError: one of them is a directory, or a file that qurate did not write (allowed with `force`).
        MachineError: one of them cannot be written.
    """
    for path in map(_place, paths):
        if path.is_dir():
            raise UserError("the name of a file", "a directory", where=str(path), hint="choose another name", code=Code.NO_SUCH_FILE)
        if path.exists() and not force and _digest(path) != _written(path.parent).get(path.name):
            _refuse("file", "one that it did not write, or that was edited since", path)
        _check_writable(path)


def check_directory(path: str | Path, manifest: str, force: bool = False, inputs: Iterable[str | Path] = ()) -> None:
    """To be called before the work whose result becomes this directory.

    Args:
        path: the directory.
        manifest: the file by which an earlier one is recognised: `MODEL`, `DATASET` or `CUSTOMERS`.
        force: whatever is there may be replaced, but for a folder that holds the working directory or the user's home.
        inputs: what the work reads; it is not replaced by its own result, not even with `force`.

    Raises:
        UserError: something is there that qurate did not write, or did not write as such a directory, or it holds an input.
        MachineError: it cannot be written.
    """
    what = {MODEL: "model", DATASET: "dataset", CUSTOMERS: "directory of customers"}[manifest]
    _check_directory(_place(path), what, _listed(_place(path), [manifest]), force)
    for read in map(Path, inputs):
        if read.exists() and read.resolve().is_relative_to(Path(path).resolve()):
            got, hint = f"the place of the input {read}", "choose another name; --force does not replace what is read"
            raise UserError(f"another place for a {what}", got, where=str(path), hint=hint, code=Code.WOULD_OVERWRITE)


def check_demo(path: str | Path, force: bool = False) -> None:
    """The same for a demo, a folder of several results."""
    top, known = _place(path), {Path(WRITTEN)}
    for folder in (top, *(top / name for name in DEMO)):
        known |= {folder.relative_to(top) / name for name in _listed(folder, [MODEL, DATASET]) | set(map(Path, _unchanged(folder)))}
    _check_directory(top, "demo", known if (top / WRITTEN).is_file() else set(), force)


def written(paths: Iterable[str | Path]) -> None:
    """Adds files that were just written to the lists of their folders."""
    for path in map(Path, paths):
        lines = {**_written(path.parent), path.name: _digest(path)}
        with replacing_file(path.parent / WRITTEN) as beside:
            beside.write_text("".join(f"{digest}  {name}\n" for name, digest in lines.items() if (path.parent / name).exists()))


def _check_directory(path: Path, what: str, known: set[Path], force: bool) -> None:
    if path.exists() and not path.is_dir() and not force:
        _refuse(what, "a file", path)
    if path.is_dir() and any(path.iterdir()):
        if any(place.is_relative_to(path.resolve()) for place in (Path.cwd(), Path.home())):
            got, hint = "the working directory, the home directory, or one above", "choose a folder below it"
            raise UserError(f"a place for a {what}", got, where=str(path), hint=hint, code=Code.WOULD_OVERWRITE)
        if not force and (foreign := _foreign(path, known)) is not None:
            _refuse(what, f"something else ({foreign})", path)
    _check_writable(path)


def _place(path: str | Path) -> Path:
    """Where a path leads: `new/..` is the folder itself, also before `new` is made."""
    return Path(path).absolute().parent.resolve() / Path(path).name


def _refuse(what: str, got: str, path: Path) -> None:
    hint = "choose another name, or add --force to replace it"
    raise UserError(f"a new path or a {what} that qurate wrote", got, where=str(path), hint=hint, code=Code.WOULD_OVERWRITE)


def _foreign(directory: Path, known: set[Path]) -> Path | None:
    """The first file below a directory that is not known, if any; half-written ones beside ours, and our list, are ours."""
    for folder, folders, files in os.walk(directory):
        folders[:] = sorted(name for name in folders if not name.endswith((TMP, OLD)))
        for name in sorted(files):
            place = Path(folder, name).relative_to(directory)
            if place not in known and name != WRITTEN and not name.endswith(TMP):
                return place
    return None


def _listed(directory: Path, manifests: Iterable[str]) -> set[Path]:
    """The files that the manifest of a directory names, itself among them; none where it is not a manifest of ours."""
    for name in manifests:
        try:
            content: Any = json.loads((directory / name).read_bytes())
            ours = {"schema_version", "sha256_files"} if name == DATASET else {"format", "qurate", "files"}
            if ours <= set(content):
                return {Path(name), *map(Path, content["sha256_files" if name == DATASET else "files"])}
        except (OSError, ValueError, TypeError):
            continue
    return set()


def _written(folder: Path) -> dict[str, str]:
    """Name -> sha256 of the files of a folder that qurate wrote."""
    try:
        lines = (folder / WRITTEN).read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _unchanged(folder: Path) -> list[str]:
    """The listed files of a folder that are as they were written, and the list."""
    ours = _written(folder)
    same = [name for name, digest in ours.items() if (folder / name).is_file() and _digest(folder / name) == digest]
    return [*same, WRITTEN] if ours else same


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check_writable(path: Path) -> None:
    """Makes and removes a folder beside where `path` will stand, or where its first missing folder will."""
    folder = path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".", suffix=TMP, dir=folder))
    except NotADirectoryError:
        raise UserError("a folder", "a file", where=str(folder), hint="choose another -o", code=Code.BAD_OUTPUT) from None
    except OSError as error:
        got = error.strerror or str(error)
        raise MachineError("a place that can be written", got, where=str(path), hint="choose another one", code=Code.CANNOT_WRITE) from None
