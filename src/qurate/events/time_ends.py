"""The ends of times as text: zones that differ within a column, and 24:00, the last moment of a day."""

from collections.abc import Callable

import polars as pl

MIDNIGHT_24 = r"[ T]24:00(:00([.,]0+)?)?"
ZONE = r"(?i)\d ?(Z|UTC|GMT|[+-]\d{2}:?\d{2})$"
CLOCK = r"\d:\d{2}"


def with_midnight_24(raw: pl.Expr, moment: Callable[[pl.Expr], pl.Expr]) -> pl.Expr:
    """The moments of a text in which 24:00 is 00:00 of the next day, as ISO 8601 allows it."""
    moments = moment(raw.str.replace(r"([ T])24:00", "${1}00:00"))
    return pl.when(raw.str.contains(MIDNIGHT_24)).then(moments.dt.offset_by("1d")).otherwise(moments)


def zones_said(known: pl.Series) -> str:
    """What is to be said where the times of a column have different offsets from UTC, or only some have one; else nothing.

    Args:
        known: the texts of a sample, none null.
    """
    clocks = known.str.strip_chars().filter(known.str.contains(CLOCK))
    zones = clocks.str.extract(ZONE).str.to_uppercase().str.replace(":", "")
    offsets = zones.drop_nulls().replace(["Z", "UTC", "GMT"], ["+0000"] * 3).unique().sort().to_list()
    said = []
    if len(offsets) > 1:
        said.append(f"the times have {len(offsets)} offsets from UTC ({', '.join(offsets[:4])}): each is read by its own")
    if offsets and zones.null_count():
        said.append(f"{zones.null_count():,} of {len(zones):,} times have no zone and are read as UTC, the others by their own")
    return "; ".join(said)
