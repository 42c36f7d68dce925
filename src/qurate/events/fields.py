"""What a layout is, and the expressions that layouts are written with."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from qurate.errors import Code, UserError
from qurate.events.schema import CANDIDATE, DECISION_COLUMNS, EVENT_COLUMNS, Kind

Columns = dict[str, pl.DataType]
Fields = dict[str, pl.Expr]

STEM = "_stem"
"""Name of the file a row came from, without extension: KuaiLive keeps one event type per file."""

SPREADSHEET = ("#N/A", "#REF!", "#VALUE!", "#NAME?", "#NUM!", "#NULL!", "#DIV/0!")
"""What a spreadsheet writes where it could not tell."""
MISSING = ("", "NULL", "null", "NaN", "nan", "None", "\\N", "<NA>", "NaT", *SPREADSHEET)
"""What databases, pandas, Python and spreadsheets write for a missing value. `NA` and `N/A` are not among them: they can be names."""

EMITS, EMIT_VALUE = "_emits_", "_emit_value_"
"""Helper columns of rows that hold several events, see `emit`."""


@dataclass(frozen=True)
class LogTables:
    """What the clean rows of a log become."""

    events: pl.LazyFrame
    decisions: pl.LazyFrame | None = None
    kind: Kind = "organic"


def as_events(rows: pl.LazyFrame) -> LogTables:
    """Organic logs: every row is an event."""
    return LogTables(rows)


def unchanged(frame: pl.LazyFrame) -> pl.LazyFrame:
    """One source row is one row."""
    return frame


def no_companions(path: Path) -> dict[str, pl.LazyFrame]:
    """No item or user file beside the log."""
    return {}


@dataclass(frozen=True)
class Layout:
    """How one published form of log becomes rows, and rows become events and decisions.

    `fields` gives the canonical columns of a row (`user_id`, `item_id`, `type`, `value`, ...); names starting with
    `item.` and `user.` are features, with `_` helpers for `expand`. The time comes from the first of `time` that exists.
    Of a companion with such a helper column only the rows are kept whose value of it occurs in the log.
    """

    name: str
    needs: tuple[str, ...]  # columns that identify it; "a|b": either
    fields: Callable[[Columns], Fields]
    time: tuple[str, ...]  # () = no time in the log: order as seconds
    expand: Callable[[pl.LazyFrame], LogTables] = as_events
    spread: Callable[[pl.LazyFrame], pl.LazyFrame] = unchanged  # nested rows to flat ones, before `fields`
    numbers: tuple[str, ...] = ()  # columns that must hold finite numbers where they hold anything
    required: tuple[str, ...] = ("user_id", "item_id", "type")
    companions: Callable[[Path], dict[str, pl.LazyFrame]] = no_companions  # "items", "users" beside the log
    has_users: bool = True
    dedupe: bool = True  # whole rows that stand twice are one
    merges: bool = True  # other files of the same layout in a directory belong to the same log
    note: str = ""

    def missing(self, columns: Columns) -> list[str]:
        """The needed columns that are not there."""
        return [need for need in self.needs if not any(name in columns for name in need.split("|"))]


def first(columns: Columns, *names: str) -> str | None:
    """The first of the names that is a column."""
    return next((name for name in names if name in columns), None)


def flat(columns: Columns, name: str) -> None:
    """Refuses a column of lists or records where text or numbers belong.

    Raises:
        UserError: the column is there and nested.
    """
    if name in columns and columns[name].is_nested():
        got = "a list" if isinstance(columns[name], pl.List | pl.Array) else "an object"
        raise UserError(
            "text or a number",
            got,
            where=f"column {name}",
            hint="write one value a row, or name another column with --map",
            code=Code.BAD_COLUMN,
        )


def ident(columns: Columns, name: str) -> pl.Expr:
    """An id as text, null where missing; whole numbers lose `.0` and `.00`, also where they are text.

    Value by value: pandas turns one part of a log to floats and leaves another. The ids of all published layouts are
    whole numbers, hexadecimal, or begin with a letter, so none ends in `.0` by itself; `1.10` stays.

    Raises:
        UserError: the column holds lists or objects.
    """
    flat(columns, name)
    raw, dtype = pl.col(name), columns[name]
    if dtype.is_float():
        whole = pl.when(raw == raw.floor()).then(raw.cast(pl.Int64, strict=False).cast(pl.String))
        return pl.when(raw.is_finite()).then(pl.coalesce(whole, raw.cast(pl.String)))
    if dtype.is_integer() or dtype == pl.Categorical:
        return raw.cast(pl.String)
    return tidy(raw.cast(pl.String))


def tidy(text: pl.Expr) -> pl.Expr:
    """Text ids, whole numbers without `.0` or `.00`; null where missing."""
    # ="007" is how text is kept from a spreadsheet's guesses.
    text = pl.when(text.str.starts_with('="')).then(text.str.strip_prefix('="').str.strip_suffix('"')).otherwise(text)
    # Null wherever zeros after a point do not end the text, so that the costly steps have nothing to do in nearly all rows.
    decimal = pl.when(text.str.ends_with(".0") | text.str.ends_with("00")).then(text).str.strip_chars_end("0")
    whole = pl.when(decimal.str.ends_with(".")).then(decimal).str.strip_suffix(".")
    return pl.when(whole.cast(pl.Int64, strict=False).is_not_null()).then(whole).when(~text.is_in(MISSING)).then(text)


def optional(columns: Columns, names: dict[str, str]) -> Fields:
    """Text fields for those columns that exist: {"session_id": "column"}."""
    return {target: ident(columns, name) for target, name in names.items() if name in columns}


def json_text(columns: Columns, name: str) -> pl.Expr:
    """A column of objects as JSON text, text as it stands; null where empty."""
    raw = pl.col(name)
    if isinstance(columns[name], pl.Struct):
        return pl.when(raw.is_not_null()).then(raw.struct.json_encode())
    return pl.when(raw != "").then(raw)


def number(name: str) -> pl.Expr:
    """A number, null where unreadable (the reader rejects such rows through `Layout.numbers`)."""
    return pl.col(name).cast(pl.Float64, strict=False)


def flag(name: str) -> pl.Expr:
    """True where a 0/1 column is 1."""
    return (number(name) > 0).fill_null(False)


def plain_list(text: pl.Expr) -> pl.Expr:
    """Ids out of text with `|`, commas, semicolons or blanks; null where empty."""
    return text.map_batches(plain_lists, return_dtype=pl.List(pl.String), is_elementwise=True)


def plain_lists(texts: pl.Series) -> pl.Series:
    """`plain_list` of values. One step after the other: as one expression it repeats the text a hundred times."""
    text, listed = pl.col("text"), pl.col("listed")
    frame = texts.alias("text").to_frame().with_columns(text.str.strip_chars()).with_columns(tidy(text).str.strip_chars("[]"))
    # Ids may hold blanks, so blanks separate only where nothing else does.
    split = text.str.split(" ")
    for sign in ";,|":
        if frame["text"].str.contains(sign, literal=True).any():
            split = pl.when(text.str.contains(sign, literal=True)).then(text.str.split(sign)).otherwise(split)
    frame = frame.select(split.list.eval(pl.element().str.strip_chars("\"' ")).alias("listed"))
    frame = frame.with_columns(listed.list.eval(tidy(pl.element().filter(pl.element() != ""))))
    return frame.select(pl.when(listed.list.len() > 0).then(listed)).to_series().alias(texts.name)


def key_of(name: str) -> str:
    """A column's name without capitals, blanks and signs: `Event_Type`, `eventType` and `event type` are one."""
    return re.sub(r"[\W_]", "", name.lower())


def renamed(mapping: dict[str, str], name: str) -> pl.Expr:
    """Event types under the contract's names; others keep their own."""
    return pl.col(name).cast(pl.String).replace(mapping)


def emit(*events: tuple[pl.Expr, str, pl.Expr | None]) -> Fields:
    """Fields saying which events a row holds: (condition, type, value or None), in the order in which they happen."""
    fields: Fields = {}
    for place, (condition, name, value) in enumerate(events):
        fields[f"{EMITS}{place}:{name}"] = condition
        fields[f"{EMIT_VALUE}{place}"] = pl.lit(None, pl.Float64) if value is None else value.cast(pl.Float64)
    return fields


def explode_emitted(rows: pl.LazyFrame) -> pl.LazyFrame:
    """One row per emitted event, those of one source row together; rows that emitted none disappear."""
    columns = rows.collect_schema().names()
    emitted = [name for name in columns if name.startswith(EMITS)]
    places, kept = range(len(emitted)), [name for name in EVENT_COLUMNS if name in columns and name not in ("type", "value")]
    # Repeating the row once per possible event and filtering is ten times faster than lists of records.
    repeated = rows.select(*kept, *(n for n in columns if n.startswith((EMITS, EMIT_VALUE))), pl.lit(list(places)).alias("_place")).explode(
        "_place"
    )
    at = [pl.col("_place") == place for place in places]
    kind = pl.coalesce([pl.when(at[i] & pl.col(name)).then(pl.lit(name.split(":", 1)[1])) for i, name in enumerate(emitted)])
    value = pl.coalesce([pl.when(at[i]).then(pl.col(f"{EMIT_VALUE}{i}")) for i in places])
    return repeated.select(*kept, kind.alias("type"), value.alias("value")).filter(pl.col("type").is_not_null())


def one_item_decisions(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Each row showed one item: a decision with a list of one, and its propensity if `_propensity` is there."""
    names = rows.collect_schema().names()
    extra = [pl.concat_list("_propensity").alias("propensity")] if "_propensity" in names else []
    return rows.with_columns(pl.concat_list("item_id").alias("shown"), *extra)


def conform(frame: pl.LazyFrame, columns: dict[str, pl.DataType]) -> pl.LazyFrame:
    """Exactly these columns, in this order and of these types; absent ones are null."""
    have = frame.collect_schema()
    picked = []
    for name, dtype in columns.items():
        column = pl.col(name) if name in have else pl.lit(None)
        picked.append(column.alias(name) if have.get(name) == dtype else column.cast(dtype).alias(name))
    return frame.select(picked)


def conform_events(frame: pl.LazyFrame) -> pl.LazyFrame:
    """The events table of the contract."""
    return conform(frame, EVENT_COLUMNS)


def conform_decisions(frame: pl.LazyFrame) -> pl.LazyFrame:
    """The decisions table of the contract, and what it says of each candidate."""
    own: dict[str, pl.DataType] = {name: pl.List(pl.Float64()) for name in frame.collect_schema().names() if name.startswith(CANDIDATE)}
    return conform(frame, DECISION_COLUMNS | own)
