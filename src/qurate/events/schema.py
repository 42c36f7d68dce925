"""The two tables of the contract: names, types, standard event types, and `EventLog`, which carries them."""

from dataclasses import dataclass, field
from typing import Any, Literal

import polars as pl

from qurate.errors import in_arguments
from qurate.events.reasons import Reason
from qurate.facts import shortened

Kind = Literal["organic", "exposure", "logged"]

TIME = pl.Datetime("us", "UTC")

EVENT_COLUMNS: dict[str, pl.DataType] = {
    "event_id": pl.String(),
    "user_id": pl.String(),
    "item_id": pl.String(),
    "type": pl.String(),
    "timestamp": TIME,
    "value": pl.Float64(),
    "session_id": pl.String(),
    "decision_id": pl.String(),
    "props": pl.String(),
    "split": pl.String(),
    "row": pl.UInt64(),
}
"""One event per row. `split` is train | valid | test | history or null; `row` is the line of the source file; `props` is a
JSON object as text, because each log's has fields of its own and a table has one type per column."""

DECISION_COLUMNS: dict[str, pl.DataType] = {
    "decision_id": pl.String(),
    "user_id": pl.String(),
    "timestamp": TIME,
    "session_id": pl.String(),
    "shown": pl.List(pl.String()),
    "propensity": pl.List(pl.Float64()),
    "candidates": pl.List(pl.String()),
    "policy": pl.String(),
    "split": pl.String(),
    "row": pl.UInt64(),
    "as_of": pl.Int64(),
}
"""One decision per row; `propensity` null: not logged; `candidates` null: what was available then; `as_of`: `row` of the
last event that the policy had seen, known from the service's store only.

Besides these a decisions table may have columns `candidate.NAME`, lists of numbers: what was known of each candidate at this
decision (its price then), as long as `candidates`, or as `shown` where there are none."""

CANDIDATE = "candidate."
"""Before the names of columns that say something of each candidate."""

EXCLUDED = {"excluded": pl.List(pl.String())}
"""A column more of the service's decisions whose `candidates` are null: of what was available then, these could not be shown."""

REJECT_COLUMNS: dict[str, pl.DataType] = {"line": pl.UInt64(), "reason": pl.String(), "raw": pl.String(), "code": pl.String()}
"""`code` is a `Reason`, `reason` its text, with the file's name where there are several."""

STANDARD_TYPES = (
    "click",
    "cart",
    "purchase",
    "view",
    "watch",
    "rating",
    "like",
    "dislike",
    "share",
    "comment",
    "gift",
    "follow",
    "hide",
)
"""Event types with a meaning of their own; any other name is allowed."""

OTHER = "(other)"
"""What the rarest types become where a log has more than a dataset can number; no type that anybody sends."""

FLOAT32_MAX = 3.4028234663852886e38
"""Values from here on are rejected where they enter: as float32 they are infinite, and a state with one is NaN."""

FILE_ROWS = 2**40
"""`row` = file number * 2**40 + line, so that the first file's rows are plain line numbers and order is total."""

OF_DECISIONS = "decisions: "
"""Before the reason of a bad row of the decisions table."""


def empty_rejects() -> pl.DataFrame:
    """A rejects table without rows."""
    return pl.DataFrame(schema=REJECT_COLUMNS)


@dataclass(frozen=True, repr=False)
class EventLog:
    """An event log in the contract's form, still lazy.

    Rows keep the order of the source; several events of one source row share `row` and stand in the order in which
    they happened, so sort stably (`maintain_order=True`) by user and time.

    >>> qurate.read_events(log).events.collect()["type"].unique().sort().to_list()
    ['click', 'purchase']
    """

    events: pl.LazyFrame  # EVENT_COLUMNS
    decisions: pl.LazyFrame | None  # DECISION_COLUMNS
    items: pl.LazyFrame | None  # item_id and features; `available_from`, `available_until` (TIME) optional
    users: pl.LazyFrame | None  # user_id and feature columns
    layout: str
    kind: Kind
    time_unit: str  # s | ms | us | ns | text | datetime | order
    rejects: pl.DataFrame  # REJECT_COLUMNS: bad rows and dropped duplicates
    typed_notes: list[str] = field(default_factory=list)  # what was assumed or is odd, with the options of the command line
    source: list[str] = field(default_factory=list)
    rows: int = 0  # rows read from the source, bad ones included
    files: list[dict[str, Any]] = field(default_factory=list)  # per file: how it is read, and what each column is
    has_users: bool = True  # False: the log names no users, so user_id is the session or the impression
    beside: dict[str, str] = field(default_factory=dict)  # "items", "users" -> the file beside the log that was read as that table
    rewards: dict[str, Any] | None = None  # of the model that the service answers with; None: not known
    whole: bool = True  # False: some file has more rows than were read
    decision_rows: int = 0  # of `rows`, those of a decisions table of its own
    time_form: str = ""  # as people write it: ISO 8601, M/D/Y, ...; of several, all of them
    tables: list[dict[str, Any]] = field(default_factory=list)  # side tables that were read: "table", and what `files` say of a file

    def __repr__(self) -> str:
        tables = [name for name in ("decisions", "items", "users") if getattr(self, name) is not None]
        beside = f", with {' and '.join(tables)}" if tables else ""
        source = shortened(self.source, 2) or "memory"
        return f"EventLog({self.kind}, layout {self.layout}, {self.rows:,} rows, {self.bad_rows:,} bad, from {source}{beside})"

    @property
    def notes(self) -> list[str]:
        """What was assumed about the log, and what is odd in it, each in a sentence that names arguments of `read_events`."""
        return [in_arguments(note) for note in self.typed_notes]

    @property
    def bad_rows(self) -> int:
        """Rejected rows without the dropped duplicates."""
        return self.rejects.filter(pl.col("code") != Reason.DUPLICATE).height
