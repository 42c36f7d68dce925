"""Tables of items and users that stand beside a log or are given by `--items` and `--users`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import polars as pl
from polars.exceptions import PolarsError

from qurate.errors import Code, UserError, nearest
from qurate.events.doubts import OBJECT
from qurate.events.fields import Columns, first, ident, number
from qurate.events.frames import Frame, table_of
from qurate.events.lines import raw_lines
from qurate.events.paths import lookup, value_at
from qurate.events.places import find_places
from qurate.events.problems import REPLACEMENT
from qurate.events.schema import TIME
from qurate.events.sources import EXTRA, Table, beside, open_table, unreadable
from qurate.events.times import parse_time

Owner = Literal["item_id", "user_id"]

OWNERS: dict[str, Owner] = {"items": "item_id", "users": "user_id"}
ID_NAMES: dict[str, tuple[str, ...]] = {
    "item_id": ("item_id", "item_id:token", "ITEM_ID", "movieId", "video_id", "article_id", "itemid", "product_id", "news_id", "aid"),
    "user_id": ("user_id", "user_id:token", "USER_ID", "userId", "visitorid", "userID"),
}
AVAILABILITY_NAMES: dict[str, tuple[str, ...]] = {
    "available_from": ("available_from", "available_since", "start_timestamp"),
    "available_until": ("available_until", "end_timestamp"),
}
"""When an item may be shown, from (inclusive) until (exclusive), and how tables spell it."""
GENRES, BARRED = "genres", r"^[^\[{|]+\|"
"""A column of words between bars; under this name, but in other notations, it is a feature like any other."""
SAMPLE_ROWS = 10_000


@dataclass(frozen=True)
class SideTable:
    """A table of items or users: `frame` has the id and the features; `notes` say what was assumed in reading it."""

    frame: pl.LazyFrame
    notes: tuple[str, ...]
    found: dict[str, Any]  # see `described_table`


def read_features(path: str | Path, owner: Owner, names: Mapping[str, str] | None = None, *, encoding: str | None = None) -> pl.LazyFrame:
    """The frame of `read_side_table`."""
    return read_side_table(path, owner, names, encoding=encoding).frame


def read_side_table(path: str | Path, owner: Owner, names: Mapping[str, str] | None = None, *, encoding: str | None = None) -> SideTable:
    """A table of items (`item_id`) or users (`user_id`) from text, JSON, Parquet or RecBole files.

    The id is text; `available_from` and `available_until` of items (other spellings: `AVAILABILITY_NAMES`) are times
    (UTC, microseconds); the other columns are features as they stand. A table whose id has the name of a published
    layout (movieId, ITEM_ID) is understood. Rows that stand twice count once.

    Args:
        path: the file.
        owner: whose table it is.
        names: column of ours -> the table's own, such as {"item_id": "sku"}.
        encoding: of text that is not UTF-8.

    Raises:
        UserError: no such file, no id column, an id that is missing, not UTF-8 or stands twice with other values, an
            unreadable number or time, an item that ends before it begins, a row of too many fields, more than one file.
    """
    files = find_places(path)[0]
    if len(files) != 1:
        raise UserError("one file", f"a directory with {len(files)}", where=str(path), hint="name the file", code=Code.BAD_PATH)
    table = open_table(files[0])
    if encoding is not None and table.guess is not None:
        table = open_table(files[0], encoding=encoding)
    table = _renamed(table, names or {}, owner)
    notes = tuple(f"{table.path.name}: {note}" for note in table.notes)
    return SideTable(_checked(table, owner), notes, described_table(table, owner, names))


def described_table(table: Table, owner: Owner, names: Mapping[str, str] | None = None) -> dict[str, Any]:
    """For the plan: {"table": "items" or "users", "file", "format", ..., "columns": [{"column", "role"}]} of what is no feature.

    Args:
        table: with columns under our names. owner: whose it is.
        names: as for `read_side_table`: column of ours -> the table's own.
    """
    id_column = first(table.columns, *ID_NAMES[owner]) or owner
    times = {column: name for name, spelt in AVAILABILITY_NAMES.items() if (column := first(table.columns, *spelt)) is not None}
    roles = {id_column: owner, **(times if owner == "item_id" else {})}
    columns = [{"column": (names or {}).get(column, column), "role": role} for column, role in roles.items()]
    return {"table": next(name for name, one in OWNERS.items() if one == owner), **table.found(), "columns": columns}


def side_frame(given: Frame, owner: Owner, name: str) -> pl.LazyFrame:
    """The same of a DataFrame: an id that stands twice with other values is refused there too.

    Args:
        given: the frame.
        owner: whose table it is.
        name: of the argument, for errors.
    """
    return _checked(table_of(given, name), owner)


def _renamed(table: Table, names: Mapping[str, str], owner: Owner) -> Table:
    """The table with columns under the names that the user says: the id, or any feature, also what stands at a path."""
    for target, source in names.items():
        where = f"--map {target}={source}, {table.path}"
        if source not in table.columns and source.partition(".")[0] in table.columns:
            lookup(source, table.columns, table.frame.head(SAMPLE_ROWS).collect(), where)
            found = table.frame.with_columns(value_at(source, table.columns).alias(source))
            table = replace(table, frame=found, columns={**table.columns, source: found.collect_schema()[source]})
        if source not in table.columns:
            hint = nearest(source, table.columns)
            raise UserError("a column of the table", source, where=where, hint=hint, code=Code.UNKNOWN_COLUMN)
    if not names:
        return table
    new = {source: target for target, source in names.items() if source != target}
    hidden = [target for target in new.values() if target in table.columns and target not in new]
    # Another column with an id's usual name would be taken for the id.
    hidden += [name for name in ID_NAMES[owner] if owner in names and name in table.columns and name not in (names[owner], *hidden)]
    columns = {new.get(name, name): dtype for name, dtype in table.columns.items() if name not in hidden}
    return replace(table, frame=table.frame.drop(hidden).rename(new), columns=columns)


def _checked(table: Table, owner: Owner) -> pl.LazyFrame:
    """The features of an open table in which every row is one owner's."""
    try:
        return features_of(_each_once(table, owner), owner)
    except PolarsError as error:
        raise unreadable(table.path, error) from None


def features_of(table: Table, owner: Owner) -> pl.LazyFrame:
    """The features of a table that is open already, row by row as they stand."""
    columns, name = table.columns, _id_column(table, owner)
    key = ident(columns, name)
    times = _availability(table) if owner == "item_id" else {}
    if len(times) == 2:
        _refuse_reversed(table, key, dict(times.values()))
    picked = [key.alias(owner), *(moment.alias(named) for named, moment in times.values())]
    barred = columns.get(GENRES) == pl.String and _first(table, pl.col(GENRES), pl.col(GENRES).str.contains(BARRED)) is not None
    rest = [column for column in columns if column != name and column not in times]
    picked += [_genres() if column == GENRES and barred else _feature(column) for column in rest]
    return table.frame.filter(key.is_not_null()).select(picked)


def _id_column(table: Table, owner: Owner) -> str:
    name = first(table.columns, *ID_NAMES[owner])
    if name is None:
        got = ", ".join(list(table.columns)[:20])
        hint = f"name it with --map {table.path.name}:{owner}={_likely_id(table)}"
        hint = f"rename the id column to {owner}" if table.kind == "frame" else hint
        raise UserError(f"a column {owner}", got, where=str(table.path), hint=hint, code=Code.UNKNOWN_COLUMNS)
    if table.separator and (broken := _first(table, pl.col(name), pl.col(name).str.contains(REPLACEMENT, literal=True))):
        raise UserError(
            "ids in UTF-8", repr(broken), where=f"{table.path}, column {name}", hint=f"say --encoding {table.guess}", code=Code.BAD_ENCODING
        )
    if table.columns[name] == pl.String and (inside := _first(table, pl.col(name), pl.col(name).str.contains(OBJECT))):
        got, hint = f"objects such as {inside[:60]}", f"name the field inside: --map {table.path.name}:{owner}=COLUMN.KEY"
        raise UserError(f"ids in {owner}", got, where=f"{table.path}, column {name}", hint=hint, code=Code.BAD_MAP)
    return name


def _likely_id(table: Table) -> str:
    """The column whose values differ from row to row, by the first rows; COLUMN where there is none."""
    flat = [name for name, dtype in table.columns.items() if not dtype.is_nested() and not dtype.is_float()]
    rows = table.frame.select(flat).head(SAMPLE_ROWS).collect()
    return next((name for name in flat if rows[name].null_count() == 0 and rows[name].n_unique() == rows.height), "COLUMN")


def _each_once(table: Table, owner: Owner) -> Table:
    """The table without repeated rows; refuses what would otherwise be lost without a word."""
    name = _id_column(table, owner)
    rest = [column for column in table.columns if column != name]
    seen = table.frame.select(
        "row",
        ident(table.columns, name).alias("id"),
        (pl.struct(rest).hash(seed=1) if rest else pl.lit(0)).alias("rest"),
        (pl.col(EXTRA).is_not_null() if table.separator else pl.lit(False)).alias("ragged"),
    ).collect()
    once = seen.unique(["id", "rest"], keep="first", maintain_order=True)
    faults = (
        (seen.filter("ragged"), "as many fields as the header has", "more", "quote a field that holds the separator", Code.RAGGED_ROW),
        (
            seen.filter(pl.col("id").is_null()),
            f"the {owner} in every row",
            "none",
            "add it, or remove the row",
            Code.MISSING_ID,
        ),
        (
            once.filter(~pl.col("id").is_first_distinct()),
            f"one row per {owner}",
            "other values for {}",
            "keep one of them",
            Code.DUPLICATE_ID,
        ),
    )
    for rows, expected, got, hint, code in faults:
        if rows.height:
            row, value = rows["row"][0], rows["id"][0]
            line = raw_lines(table, [row]).get(row, (row, ""))[0]
            raise UserError(
                expected, got.format(repr(value)), where=f"{table.path}, {'line' if table.is_text else 'row'} {line}", hint=hint, code=code
            )
    for column in (column for column in rest if column.endswith(":float")):
        if (bad := _first(table, pl.col(column), pl.col(column).is_not_null() & number(column).is_null())) is not None:
            raise UserError(
                "a number, or nothing", repr(bad), where=f"{table.path}, column {column}", hint="repair it", code=Code.BAD_NUMBER
            )
    return table if once.height == seen.height else replace(table, frame=table.frame.filter(pl.col("row").is_in(once["row"].implode())))


def _availability(table: Table) -> dict[str, tuple[str, pl.Expr]]:
    """`available_from` and `available_until` as times, by the column that holds them.

    An unreadable time would count as available from the beginning, or for ever.
    """
    out = {}
    for name, spellings in AVAILABILITY_NAMES.items():
        column = first(table.columns, *spellings)
        if column is None:
            continue
        raw, where = pl.col(column), f"{table.path}, column {column}"
        sample = table.frame.select(raw).drop_nulls().head(SAMPLE_ROWS).collect().to_series()
        if len(sample) == 0:
            out[column] = name, pl.lit(None, TIME)
            continue
        moment = parse_time(column, table.columns[column], sample, where)[0]
        if (bad := _first(table, raw, raw.is_not_null() & moment.is_null())) is not None:
            raise UserError("a time, or nothing", repr(bad), where=where, hint="write 2024-05-31T12:00:00Z", code=Code.BAD_AVAILABILITY)
        out[column] = name, moment
    return out


def _refuse_reversed(table: Table, key: pl.Expr, times: dict[str, pl.Expr]) -> None:
    rows = table.frame.select("row", key.alias("item_id"), **times)
    bad = rows.filter(pl.col("available_until") < pl.col("available_from")).head(1).collect()
    if bad.height:
        line = raw_lines(table, [bad["row"][0]]).get(bad["row"][0], (bad["row"][0], ""))[0]
        raise reversed_interval(bad.row(0, named=True), f"{table.path}, {'line' if table.is_text else 'row'} {line}")


def reversed_interval(row: dict[str, Any], where: str) -> UserError:
    """The error about an item (`item_id`, `available_from`, `available_until`) that ends before it begins."""
    got = f"{row['available_until'].isoformat()} before {row['available_from'].isoformat()} for item {row['item_id']!r}"
    hint = "leave it empty where it does not end"
    return UserError("available_until at or after available_from", got, where=where, hint=hint, code=Code.BAD_AVAILABILITY)


def _first(table: Table, value: pl.Expr, where: pl.Expr) -> Any:
    """The first value for which `where` holds, or None."""
    found = table.frame.filter(where).select(value).head(1).collect()
    return found.item() if found.height else None


def _genres() -> pl.Expr:
    """MovieLens' genres, of which those of one film may be `(no genres listed)`."""
    return pl.col(GENRES).str.split("|").list.filter(pl.element() != "(no genres listed)")


def _feature(column: str) -> pl.Expr:
    """A feature under its plain name: RecBole's `name:type` headers say how to read it."""
    name, _, kind = column.partition(":")
    if kind == "float":
        return number(column).alias(name)
    if kind in ("token_seq", "float_seq"):
        listed = pl.col(column).str.split(" ")
        return (listed if kind == "token_seq" else listed.cast(pl.List(pl.Float32), strict=False)).alias(name)
    if kind == "token":
        return pl.col(column).alias(name)
    return pl.col(column)


def features_beside(path: Path, **names: str) -> dict[str, pl.LazyFrame]:
    """`items="movies", users="users"`: those files beside the log that exist and have the right id."""
    out = {}
    for key, name in names.items():
        table = beside(path, name)
        if table is not None and has_id(table.columns, OWNERS[key]):
            out[key] = _checked(table, OWNERS[key])
    return out


def has_id(columns: Columns, owner: Owner) -> bool:
    """Whether the table is one of items or users."""
    return first(columns, *ID_NAMES[owner]) is not None
