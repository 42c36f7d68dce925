"""Checked rows of every file to one `EventLog`, with the items and users that stand in or beside the log."""

from pathlib import Path

import polars as pl

from qurate.events.fields import Layout, conform_decisions, conform_events
from qurate.events.layout_rows import CheckedRows
from qurate.events.schema import EventLog, Kind
from qurate.events.side_tables import OWNERS, described_table
from qurate.events.sources import beside


def assemble(layout: Layout, path: Path, read: list[CheckedRows], notes: list[str], whole: bool) -> EventLog:
    kinds: list[Kind] = [part.tables.kind for part in read]
    decisions = [conform_decisions(part.tables.decisions) for part in read if part.tables.decisions is not None]
    beside_log = {key: _of_the_log(table, read) for key, table in layout.companions(path).items()}
    tables = {key: table for key in beside_log if (table := beside(path, key)) is not None}
    return EventLog(
        events=pl.concat([conform_events(part.tables.events) for part in read]),
        decisions=pl.concat(decisions, how="diagonal") if decisions else None,
        items=beside_log.get("items", _features(read, "item_id", "item.")),
        users=beside_log.get("users", _features(read, "user_id", "user.")),
        beside={key: table.path.name for key, table in tables.items()},
        tables=[described_table(table, OWNERS[key]) for key, table in tables.items()],
        layout=layout.name,
        kind="logged" if "logged" in kinds else "exposure" if "exposure" in kinds else "organic",
        time_unit=read[0].unit,
        time_form=", ".join(dict.fromkeys(form for part in read for form in part.form.split(", "))),
        rejects=pl.concat([part.rejects for part in read]),
        typed_notes=list(dict.fromkeys(notes)),
        rows=sum(part.total for part in read),
        has_users=layout.has_users,
        whole=whole,
    )


def _of_the_log(table: pl.LazyFrame, read: list[CheckedRows]) -> pl.LazyFrame:
    """A companion's rows whose helper columns (`_campaign`) have values that the log has."""
    helpers = [name for name in table.collect_schema().names() if name.startswith("_")]
    if not helpers:
        return table
    parts = [part.rows for part in read if set(helpers) <= set(part.rows.collect_schema().names())]
    known = pl.concat([rows.select(helpers) for rows in parts]).unique().collect(engine="streaming") if parts else None
    return (table if known is None else table.join(known.lazy(), on=helpers, how="semi", maintain_order="left")).drop(helpers)


def _features(read: list[CheckedRows], owner: str, prefix: str) -> pl.LazyFrame | None:
    """Features that stand in the log itself: the first known value of each item or user.

    Sorted, because the order of groups differs from run to run, and items are numbered in the order of this table.
    """
    for part in read:
        names = [name for name in part.rows.collect_schema().names() if name.startswith(prefix)]
        if names:
            picked = part.rows.filter(pl.col(owner).is_not_null()).select(
                owner, *(pl.col(name).alias(name[len(prefix) :]) for name in names)
            )
            return picked.group_by(owner).agg(pl.all().drop_nulls().first()).sort(owner)
    return None
