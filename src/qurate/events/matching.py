"""How the ids of a log and of a table beside it fit together: how many are the same, and what would make more of them match."""

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

COMPLETE = 0.95
"""Where fewer of the log's ids stand in the table, a note says how many do not."""

ALIKE = 0.05
"""Above this share of the ids that differ from another in capitals or leading zeros alone a note says so."""
WAYS: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    "without leading zeros": lambda text: text.str.strip_chars_start("0"),
    "without regard to capitals": lambda text: text.str.to_lowercase(),
    "without blanks": lambda text: text.str.replace_all(r"\s+", ""),
    "without a trailing .0": lambda text: text.str.replace(r"\.0+$", ""),
    "without letters before the number": lambda text: text.str.replace(r"^[A-Za-z_-]+0*(\d)", "${1}"),
}
"""Ways of writing the same id."""


@dataclass(frozen=True)
class Match:
    """Ids of a log against those of a table."""

    ids: int  # different ids of the log
    rows: int  # different ids of the table
    matched: int
    ways: dict[str, int]  # how many would match when written in this way, where that is more
    example: tuple[str | None, str | None]  # an id of the log and one of the table


def match_ids(log_ids: pl.Series, table_ids: pl.Series) -> Match:
    """Compares the ids of a log with those of a table.

    Args:
        log_ids: text, different ones, none null.
        table_ids: the same of the table.
    """
    ours, theirs = log_ids.sort(), table_ids.sort()
    known = ours.is_in(theirs.implode())
    matched = int(known.sum())
    ways = {}
    for name, write in WAYS.items() if matched < len(ours) and len(theirs) else ():
        here, there = (ids.alias("id").to_frame().select(write(pl.col("id"))).to_series() for ids in (ours, theirs))
        would = int(here.is_in(there.implode()).sum())
        if would > matched:
            ways[name] = would
    unknown = ours.filter(~known)
    return Match(len(ours), len(theirs), matched, ways, (next(iter(unknown.head(1)), None), next(iter(theirs.head(1)), None)))


def match_notes(match: Match, what: str, table: str) -> list[str]:
    """What is to be said about ids that do not match.

    Args:
        match: the comparison.
        what: the ids are of, in the plural: items, users.
        table: its name, for people.
    """
    missing = match.ids - match.matched
    if not match.ids or match.matched >= COMPLETE * match.ids:
        return []
    best = max(match.ways.items(), key=lambda way: way[1], default=None)
    hint = f"; {best[0]} {best[1]:,} would match" if best else ""
    example = f"the log has {match.example[0]!r}, the table {match.example[1]!r}"
    if not match.matched:
        return [f"none of the {match.ids:,} {what} of the log stands in {table} ({example}){hint}"]
    return [f"{missing:,} of {match.ids:,} {what} of the log are not in {table} ({example}){hint}"]


def written_alike(ids: pl.Series, what: str) -> list[str]:
    """Notes on ids of one log, text without two the same, that would be another's if written in one of the ways.

    Args:
        what: the ids are of, in the plural: items, users.

    >>> written_alike(pl.Series(["007", "7", "12"]), "items")
    ["2 of 3 items differ from another only in how they are written, such as '007': without leading zeros they are the same"]
    """
    notes = []
    for name, sign in (("without leading zeros", "^0"), ("without regard to capitals", r"\p{Lu}")):
        if not ids.str.contains(sign).any():  # in most logs, and faster than writing every id in another way
            continue
        same = ids.alias("id").to_frame().select("id", WAYS[name](pl.col("id")).is_duplicated().alias("same")).filter("same")["id"]
        if len(same) > ALIKE * len(ids):
            how = f"differ from another only in how they are written, such as {same.sort()[0]!r}: {name} they are the same"
            notes.append(f"{len(same):,} of {len(ids):,} {what} {how}")
    return notes


def several_in_one(ids: pl.Series, what: str) -> list[str]:
    """A note on ids whose parts, between commas, semicolons, bars or blanks, are ids themselves: part of the log may hold baskets.

    >>> several_in_one(pl.Series(["p1", "p2", "p3", "p1|p2", "p2|p3"]), "items")
    ["2 of 5 items are made of others, such as 'p1|p2': where a row holds several, write a row for each of them"]
    """
    parted = ids.filter(ids.str.contains(r"[^|,;\s][|,;\s]+[^|,;\s]"))
    parts = parted.str.replace_all(r"[|,;\s]+", "|").str.strip_chars("|").str.split("|")
    known = pl.DataFrame({"id": parted, "part": parts}).explode("part").with_columns(pl.col("part").is_in(ids.implode()))
    made = known.group_by("id", maintain_order=True).agg(pl.col("part").all()).filter("part")["id"]
    if len(made) < 2:
        return []
    said = f"{len(made):,} of {len(ids):,} {what} are made of others, such as {made[0]!r}"
    return [f"{said}: where a row holds several, write a row for each of them"]
