"""What is looked at of a log before it is read: lines of a file, and files of a folder with many."""

from codecs import BOM_UTF8
from collections.abc import Collection
from pathlib import Path

from qurate.events.places import Place

HEAD_LINES = 100
"""The header is looked for in so many lines; it may follow blank ones and hold line breaks in quotes."""
SAMPLE_LINES = 1_000
SAMPLE_PLACES, LINES_PER_PLACE = 50, 20
"""JSONL columns are looked for in the first lines and at places spread over the file: a rare field may come late."""

PLAN_FILES = 40
"""A plan opens so many files of a folder."""
KEY_BYTES = 4_096


def of_many(places: list[Place], named: Collection[str] = ()) -> tuple[list[Place], list[str]]:
    """The files of a folder that a plan opens, and a note of how many it does not: some of each first line, spread evenly.

    Args:
        places: of the folder, sorted by name.
        named: files that an option is for, by name, name without its ending, or path; of a folder's name the first file.
    """
    if len(places) <= PLAN_FILES:
        return places, []
    firsts: dict[tuple[bytes, str], int] = {}
    for number, place in enumerate(places):
        firsts.setdefault((first_line(place.path), place.member), number)
    own = list(firsts.values())
    own = [own[k * len(own) // PLAN_FILES] for k in range(PLAN_FILES)] if len(own) > PLAN_FILES else own
    spread = [k * len(places) // PLAN_FILES for k in range(PLAN_FILES)]
    asked = [next((number for number, place in enumerate(places) if _is_named(place, name)), 0) for name in named]
    kept = sorted({*own, *spread[: max(PLAN_FILES - len(own), 0)], *asked, 0, len(places) - 1})
    note = f"the plan looks into {len(kept)} of {len(places):,} files; ingest reads all of them, and names those that it cannot read"
    return [places[number] for number in kept], [note]


def _is_named(place: Place, name: str) -> bool:
    path = place.path / place.member if place.member else place.path
    return name in (*path.parts, path.stem, str(path)) or str(path).endswith(f"/{name}")


def first_line(path: Path) -> bytes:
    """The first line, or the start of a long one."""
    with path.open("rb") as file:
        return file.readline(KEY_BYTES)


def first_bytes(path: Path) -> bytes:
    """The first bytes without blanks between them: a JSON array begins with a bracket, one of records with two."""
    with path.open("rb") as file:
        return b"".join(file.read(SAMPLE_LINES).removeprefix(BOM_UTF8).split())


def first_lines(path: Path, count: int) -> list[str]:
    with path.open("rb") as file:
        lines = [line for _, line in zip(range(count), file)]
    text = [line.decode("utf-8", "replace").rstrip("\r\n") for line in lines] or [""]
    text[0] = text[0].removeprefix("\ufeff")
    return text


def spread_lines(path: Path) -> list[str]:
    """Some whole lines from places spread evenly over the file."""
    size, lines = path.stat().st_size, []
    with path.open("rb") as file:
        for place in range(1, SAMPLE_PLACES):
            file.seek(size * place // SAMPLE_PLACES)
            file.readline()  # the rest of a line that began earlier
            lines += [line.decode("utf-8", "replace") for _, line in zip(range(LINES_PER_PLACE), file)]
    return lines
