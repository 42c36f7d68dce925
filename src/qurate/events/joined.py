"""An earlier log and what a service has stored since, as one log."""

from dataclasses import replace
from typing import Literal

import polars as pl

from qurate.events.schema import FILE_ROWS, EventLog

SAME = ("user_id", "item_id", "type")


def join_logs(old: EventLog, served: EventLog) -> EventLog:
    """One log of both. What the earlier one holds of the same events is left out: the service knows which decision they answer.

    An organic log beside decisions with probabilities is history: what customers chose by themselves is no decision of a policy.
    Beside an exposure log the whole is one: no figure may rest on probabilities that half of the decisions do not have.
    """
    events, again = _without_again(old.events, served.events)
    offset = FILE_ROWS * max(len(old.source), 1)
    notes = [f"{again:,} events of the log stand in the service's store too and are left out"] if again else []
    if old.kind == "organic":
        # states are rebuilt in the order in which the service learned of events; what it began with happened before
        events = (
            events.sort("timestamp", "row", maintain_order=True)
            .drop("row")
            .with_row_index("row")
            .select(old.events.collect_schema().names())
        )
        events = events.with_columns(pl.col("row").cast(pl.UInt64))
        notes.append("the earlier log says what customers chose: it is their history; decisions are those of the service")
    elif old.kind == "exposure":
        notes.append("the earlier log has no probabilities of what was shown, so the whole counts as a log of what was shown")
    moved = served.events.with_columns(pl.col("row") + offset)
    decisions = [one for one in (old.decisions, _moved(served.decisions, offset)) if one is not None]
    kind: Literal["exposure", "logged"] = "exposure" if old.kind == "exposure" else "logged"
    return replace(
        old,
        events=pl.concat([events, moved.select(events.collect_schema().names())]),
        decisions=pl.concat(decisions, how="diagonal_relaxed") if decisions else None,
        items=_union(served.items, old.items, "item_id"),
        users=_union(served.users, old.users, "user_id"),
        kind=kind,
        typed_notes=list(dict.fromkeys([*old.typed_notes, *served.typed_notes, *notes])),
        source=[*old.source, *served.source],
        rows=old.rows + served.rows,
        files=[*old.files, *served.files],
        rewards=served.rewards,
        has_users=old.has_users and served.has_users,
    )


def _moved(decisions: pl.LazyFrame | None, offset: int) -> pl.LazyFrame | None:
    """Decisions whose rows, and the last event row that each knew, come after all rows of the earlier log."""
    return None if decisions is None else decisions.with_columns(pl.col("row") + offset, pl.col("as_of") + offset)


def _without_again(old: pl.LazyFrame, served: pl.LazyFrame) -> tuple[pl.LazyFrame, int]:
    """The earlier events but for those that the service has too: the same id, or the same user, item, type and second."""
    second = pl.col("timestamp").dt.truncate("1s").alias("second")
    theirs = served.select(*SAME, second).unique()
    ids = served.select("event_id").drop_nulls().unique()
    kept = old.with_columns(second).join(theirs, on=[*SAME, "second"], how="anti", nulls_equal=True, maintain_order="left").drop("second")
    kept = kept.join(ids, on="event_id", how="anti", maintain_order="left")
    before, after = (one.select(pl.len()).collect(engine="streaming").item() for one in (old, kept))
    return (kept, before - after) if before > after else (old, 0)


def _union(first: pl.LazyFrame | None, second: pl.LazyFrame | None, key: str) -> pl.LazyFrame | None:
    """The rows of both tables; of an id that stands in both, the first one's. A column that they write in two ways is text."""
    if first is None or second is None:
        return second if first is None else first
    types, others = first.collect_schema(), second.collect_schema()
    differ = [name for name in others if name in types and types[name] != others[name]]
    nested = [name for name in differ if types[name].is_nested() or others[name].is_nested()]
    text = [pl.col(name).cast(pl.String) for name in differ if name not in nested]
    extra = second.drop(nested).join(first.select(key), on=key, how="anti", maintain_order="left")
    return pl.concat([first.with_columns(text), extra.with_columns(text)], how="diagonal")
