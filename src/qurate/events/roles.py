"""What the columns of a log of one's own are, and the steps that give them the contract's names.

Lists of shown items become `shown` and `_taken_TYPE`, 0/1 columns `_answer_TYPE`, baskets and one-row-per-user tables one row
an event.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from qurate.errors import Code, UserError, nearest
from qurate.events.lines import read_by_line
from qurate.events.schema import CANDIDATE, DECISION_COLUMNS, EVENT_COLUMNS
from qurate.events.sources import BROKEN, EXTRA, Table, unreadable

EVERY_ROW = "nothing: every row counts as click"
"""`Roles.type_from` of a table in which nothing says what happened."""

MAPPABLE = tuple(name for name in dict.fromkeys((*EVENT_COLUMNS, *DECISION_COLUMNS)) if name not in ("row", "as_of"))


CLICKED = "clicked"
"""What `--map` may name besides: the column of 0 and 1 that says whether what was shown in a row was clicked."""


def contract_names(known: Iterable[str]) -> list[str]:
    """The contract's columns that a log may have: all named ones, and `candidate.NAME` for the names among `known`."""
    return [*MAPPABLE, *dict.fromkeys(name for name in known if name.startswith(CANDIDATE) and name != CANDIDATE)]


SAMPLE_ROWS = 10_000
DIGEST = "_digest"
REWARD = "reward"
RETURN = "return"
ANSWER = "_answer_"
"""Before the type of the events that a 0/1 column beside a shown item says."""
TAKEN = "_taken_"
"""Before the type of the events that are answers of a list: the items that were taken of it."""


@dataclass(frozen=True)
class Asked:
    """What the user said about the columns. A key `FILE:name`, or a file among `types`, is for that file alone."""

    map: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)  # "" for every file
    value: str | None = None

    def map_of(self, table: Table) -> dict[str, str]:
        """contract's column -> column of this file."""
        out = {name: column for name, column in self.map.items() if ":" not in name}
        for key, column in self.map.items():
            file, colon, name = key.rpartition(":")
            if colon and _is(table, file):
                out[name] = column
        return out

    def type_of(self, table: Table) -> str | None:
        """The type that the user gave the file."""
        own = next((kind for file, kind in self.types.items() if file and _is(table, file)), None)
        return own or self.types.get("")

    def check(self, tables: list[Table], *side: str | Path | None) -> None:
        """
        Args:
            tables: of the log.
            side: other files that a mapping may name.

        Raises:
            UserError: a file in `--map` or `--type` that is none of the tables'.
        """
        names = [table.path.name for table in tables]
        for option, file in self._by_file():
            beside = any(one is not None and file in (str(one), Path(one).name, Path(one).stem) for one in side)
            if not beside and not any(_is(table, file) for table in tables):
                raise UserError("a file of the log", file, where=option, hint=nearest(file, names), code=Code.NOT_FOUND)

    def files(self) -> list[str]:
        """The files that a mapping or a type is for, as they were named."""
        return [file for _, file in self._by_file()]

    def _by_file(self) -> list[tuple[str, str]]:
        """Each option that is for one file, with that file."""
        return [("--map", key.rpartition(":")[0]) for key in self.map if ":" in key] + [("--type", file) for file in self.types if file]


def _is(table: Table, file: str) -> bool:
    return file in (table.path.name, table.path.stem, str(table.path)) or str(table.path).endswith(f"/{file}") or file in table.path.parts


@dataclass
class Roles:
    """What each column of one table is, and the expressions that make it so."""

    source: dict[str, str]  # contract's column -> the log's column, path or expression, for the plan
    paths: dict[str, pl.Expr] = field(default_factory=dict)  # columns that do not stand in the file as such, by their text
    parsed: dict[str, pl.Expr] = field(default_factory=dict)  # columns that `exprs` and `broken` refer to, and nothing else
    exprs: dict[str, pl.Expr] = field(default_factory=dict)  # columns to add, by name
    drop: list[str] = field(default_factory=list)  # columns of the log that a mapping hides
    rename: dict[str, str] = field(default_factory=dict)
    parts: dict[str, str] = field(default_factory=dict)  # columns of which a part is read, or several together -> their role
    explode: list[str] = field(default_factory=list)
    broken: list[tuple[pl.Expr, str]] = field(default_factory=list)  # condition and reason of rows that cannot be read
    assumed: list[str] = field(default_factory=list)  # contract's columns that nobody mapped
    type_from: str = ""
    notes: list[str] = field(default_factory=list)
    users: bool = True  # the log names users, not only sessions
    leave_out: pl.Expr | None = None  # rows that are no events

    def apply(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """The table under the contract's names; not a column is lost except one that a mapping hides."""
        if self.leave_out is not None:
            frame = frame.filter(~self.leave_out)
        frame = frame.with_columns(**self.paths)
        added = dict(self.exprs)
        if self.explode:
            added[DIGEST] = pl.struct(pl.all().exclude("row", EXTRA, BROKEN, *self.parsed)).hash(seed=1)
        frame = frame.with_columns(**self.parsed).with_columns(**{f"_new_{name}": expr for name, expr in added.items()})
        if self.broken:
            said = [pl.when(wrong).then(pl.lit(reason)) for wrong, reason in self.broken]
            had = [pl.col(BROKEN)] if BROKEN in frame.collect_schema() else []
            frame = frame.with_columns(pl.coalesce([*had, *said]).alias(BROKEN))
        frame = frame.drop(*self.parsed, *self.drop).rename(self.rename)
        frame = frame.drop(list(added), strict=False).rename({f"_new_{name}": name for name in added})
        return frame.explode(self.explode) if self.explode else frame

    @property
    def taken(self) -> list[str]:
        """Types of the events that are answers of lists."""
        return [name.removeprefix(TAKEN) for name in self.exprs if name.startswith(TAKEN)]

    @property
    def answers(self) -> bool:
        """Whether a 0/1 column says of each row's item, which was shown, what came of it."""
        return any(name.startswith(ANSWER) for name in self.exprs)

    @property
    def says_nothing(self) -> bool:
        """Whether no column, name or answer says what happened, so that every row counts as the same event."""
        return self.type_from.startswith(EVERY_ROW)

    def missing(self) -> list[str]:
        """What an event or a decision needs and this table lacks."""
        has = self.source
        lacking = [] if "user_id" in has or "session_id" in has else ["user_id"]
        lacking += [] if "item_id" in has or "shown" in has else ["item_id"]
        return lacking + ([] if "timestamp" in has else ["timestamp"])


def sample_of(table: Table, rows: int = SAMPLE_ROWS) -> pl.DataFrame:
    """The first rows, line by line where the fast parser gives up."""
    try:
        return table.frame.head(rows).collect(engine="streaming")
    except PolarsError as error:
        if not table.is_text:
            raise unreadable(table.path, error) from None
        return read_by_line(table, rows).frame.collect()
