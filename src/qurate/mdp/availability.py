"""The catalogue in order of availability: what could be shown at a given moment.

An item is available from the time that its declaration gives (from the beginning where it gives none), an undeclared
one from when it was first seen in *training*. It ends at the time that its declaration gives and never because it was
last seen.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from qurate.errors import Code, UserError
from qurate.events.fields import first
from qurate.events.side_tables import AVAILABILITY_NAMES, SAMPLE_ROWS, reversed_interval
from qurate.events.times import parse_time
from qurate.mdp.decisions import DecisionTable, repeat_states
from qurate.mdp.splits import Split
from qurate.types import ALWAYS, NEVER, TRAIN, Availability, IntArray


class Catalogue(NamedTuple):
    """The N items in their final order."""

    number: NDArray[np.int32]  # [N + 1] text order -> catalogue order; 0 -> 0
    availability: Availability  # in catalogue order

    def table(self, names: list[str]) -> pl.DataFrame:
        """`item_id`, `available_from` and `available_until`, one row per item in catalogue order.

        Null: from the beginning, or not known at all (the items behind `availability.n_ever`); does not end.

        Args:
            names: [N] ids in text order.
        """
        order = np.argsort(self.number[1:])
        times = {"available_from": self.availability.since[1:], "available_until": self.availability.until[1:]}
        table = pl.DataFrame({"item_id": pl.Series(names, dtype=pl.String).gather(order), **times})
        named = ~pl.col(list(times)).is_in([ALWAYS, NEVER])
        return table.with_columns(pl.when(named).then(pl.col(list(times))).cast(pl.Datetime("us", "UTC")))


def declared_times(items: pl.DataFrame, where: str) -> pl.DataFrame:
    """The items table with `available_from` and `available_until` as times (UTC, microseconds), where it has them.

    Args:
        items: `item_id` and other columns; the times as RFC 3339 text, as times, or since 1970 in s, ms, us or ns; null =
            from the beginning, or does not end. Other spellings of the two names: `AVAILABILITY_NAMES`.
        where: named in errors.

    Raises:
        UserError: an unreadable time, or an interval that ends before it begins.
    """
    for name, spellings in AVAILABILITY_NAMES.items():
        if column := first(items.schema, *spellings):
            items = items.with_columns(_moments(items[column], where)).rename({column: name})
    if {"available_from", "available_until"} <= set(items.columns):
        given = items.select("item_id", "available_from", "available_until").with_row_index("row", offset=1)
        bad = given.filter(pl.col("available_until") < pl.col("available_from"))
        if bad.height:
            raise reversed_interval(bad.row(0, named=True), f"{where}, row {bad['row'][0]}")
    return items


def _moments(given: pl.Series, where: str) -> pl.Series:
    """A column as times in UTC, microseconds."""
    if given.null_count() == len(given):
        return pl.Series(given.name, [None] * len(given), pl.Datetime("us", "UTC"))
    try:
        moment, _ = parse_time(given.name, given.dtype, given.drop_nulls().head(SAMPLE_ROWS), where)
        times = given.to_frame().select(moment.alias(given.name)).to_series()
        unreadable = given.filter(times.is_null() & given.is_not_null())
        got = repr(unreadable[0]) if len(unreadable) else None
    except UserError as error:
        got = error.got
    if got is not None:
        hint = "write RFC 3339 with a zone, 2026-01-31T00:00:00Z"
        raise UserError(f"times in {given.name}", got, where=where, hint=hint, code=Code.BAD_AVAILABILITY)
    return times


def order_catalogue(decisions: DecisionTable, split: Split, names: list[str], declared: pl.DataFrame | None, timeless: bool) -> Catalogue:
    """Number the items by (available from, order of declaration, text).

    Args:
        decisions: with items in text order.
        split: which decisions train.
        names: [N] ids in text order.
        declared: `item_id` and, optionally, `available_from` and `available_until`, as `declared_times` gives them.
        timeless: the log has an order but no times, so that what was seen in training was always there.
    """
    since, until = np.full(len(names) + 1, NEVER), np.full(len(names) + 1, NEVER)
    events, states = decisions.events, repeat_states(decisions.action_start)
    seen = events.time < split.cuts[0] if split.cuts else (events.split == TRAIN) | (events.split == 255)
    np.minimum.at(since, events.item[seen], events.time[seen])
    if decisions.history != "events" or len(decisions.candidates) or len(decisions.action) != len(decisions.history_end):
        shown = split.of[states] == TRAIN
        np.minimum.at(since, decisions.action[shown], decisions.clock[states[shown]])
        offered = repeat_states(decisions.candidates_start)
        known = split.of[offered] == TRAIN
        np.minimum.at(since, decisions.candidates[known], decisions.clock[offered[known]])
    if timeless:
        since[since < NEVER] = ALWAYS
    since[0] = NEVER
    tie = np.arange(len(names), dtype=np.int64) + (0 if declared is None else declared.height)
    if declared is not None and declared.height:
        at = pl.Series(declared["item_id"]).cast(pl.Enum(names)).to_physical().cast(pl.Int64).to_numpy()
        tie[at] = np.arange(len(at))
        since[at + 1] = _microseconds(declared, "available_from", ALWAYS)
        until[at + 1] = _microseconds(declared, "available_until", NEVER)
    order = np.lexsort((tie, since[1:]))
    number = np.zeros(len(names) + 1, np.int32)
    number[order + 1] = np.arange(1, len(names) + 1, dtype=np.int32)
    placed = np.concatenate([[0], order + 1])
    return Catalogue(number, Availability(since[placed], until[placed]))


def _microseconds(table: pl.DataFrame, column: str, absent: int) -> IntArray:
    """[rows] the column's times; `absent` where it is null or there is no such column."""
    if column not in table.columns:
        return np.full(table.height, absent)
    return table[column].cast(pl.Int64).fill_null(absent).to_numpy()


def read_availability(items: pl.DataFrame, n_ever: int) -> Availability:
    """What `Catalogue.table` wrote; the items behind the first `n_ever` never become available."""
    since, until = np.full((2, items.height + 1), NEVER)
    since[1 : n_ever + 1] = _microseconds(items.head(n_ever), "available_from", ALWAYS)
    until[1:] = _microseconds(items, "available_until", NEVER)
    return Availability(since, until)


def without_ended(decisions: DecisionTable, availability: Availability) -> tuple[DecisionTable, list[str]]:
    """Decisions without the listed candidates that had ended by then, and what was found, in words.

    A decision of which no candidate is left offers what was available at its clock. What was shown stays a transition,
    also where it had ended: it happened.

    Args:
        decisions: with items in catalogue order.
        availability: in catalogue order.
    """
    if not availability.ends:
        return decisions, []
    notes = []
    late = availability.until[decisions.action] <= decisions.when[repeat_states(decisions.action_start)]
    if late.any():
        logged = np.count_nonzero(late & np.isfinite(decisions.propensity))
        verb = "chosen" if decisions.organic else "shown"
        found = f"{np.count_nonzero(late):,} items were {verb} after their available_until"
        notes.append(found + (f", {logged:,} of them with a logged propensity" if logged else ""))
    listed = repeat_states(decisions.candidates_start)
    kept = availability.until[decisions.candidates] > decisions.clock[listed]
    if kept.all():
        return decisions, notes
    sizes = np.bincount(listed[kept], minlength=len(decisions.clock))
    emptied = np.count_nonzero((sizes == 0) & (np.diff(decisions.candidates_start) > 0))
    notes.append(f"{np.count_nonzero(~kept):,} listed candidates had ended at their decision and are left out")
    if emptied:
        notes.append(f"{emptied:,} decisions keep no candidate of their list: all that was available then counts as theirs")
    start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    values = decisions.candidate_values[kept]
    return replace(decisions, candidates=decisions.candidates[kept], candidate_values=values, candidates_start=start), notes
