"""Every published form of log that is known by its column names, most specific first; and the one table of them all."""

import shlex
from pathlib import Path

import polars as pl

from qurate.errors import Code, UserError, nearest
from qurate.events.fields import Columns, Fields, Layout, LogTables, emit, first, flag, ident, number, optional, renamed
from qurate.events.layouts_own import expand_own, own_fields
from qurate.events.layouts_shown import SHOWN_LAYOUTS, expand_emitted, recorded
from qurate.events.listed import candidate_lists, text_list
from qurate.events.nearest_role import guesses, join_hint
from qurate.events.roles import Roles
from qurate.events.side_tables import Owner, features_beside, read_features

SHOP_TYPES = {
    "pv": "click",
    "clicks": "click",
    "addtocart": "cart",
    "carts": "cart",
    "fav": "like",
    "buy": "purchase",
    "transaction": "purchase",
    "orders": "purchase",
}
"""Other names of the contract's event types; taobao's pv and OTTO's clicks are opened pages: click."""


def _movielens(c: Columns) -> Fields:
    return {"user_id": ident(c, "userId"), "item_id": ident(c, "movieId"), "type": pl.lit("rating"), "value": number("rating")}


def _movies(path: Path) -> dict[str, pl.LazyFrame]:
    return {key: table.drop("title", strict=False) for key, table in features_beside(path, items="movies", users="users").items()}


def _globo(c: Columns) -> Fields:
    article = first(c, "article_id", "click_article_id") or ""
    ids = {"user_id": ident(c, "user_id"), "item_id": ident(c, article), "session_id": ident(c, "session_id")}
    return {**ids, "type": pl.lit("click")}


def _otto(c: Columns) -> Fields:
    session = ident(c, "session")
    kind = first(c, "event", "type") or ""
    return {"user_id": session, "session_id": session, "item_id": ident(c, "aid"), "type": renamed(SHOP_TYPES, kind)}


def _otto_nested(frame: pl.LazyFrame) -> pl.LazyFrame:
    return frame.explode("events").unnest("events")


def _taobao(c: Columns) -> Fields:
    kind = first(c, "behavior", "behavior_type", "behaviour") or ""
    fields = {"user_id": ident(c, "user_id"), "item_id": ident(c, "item_id"), "type": renamed(SHOP_TYPES, kind)}
    return {**fields, **optional(c, {"item.category_id": "category_id"})}


def _retailrocket(c: Columns) -> Fields:
    return {"user_id": ident(c, "visitorid"), "item_id": ident(c, "itemid"), "type": renamed(SHOP_TYPES, "event")}


def _sessions_spread(frame: pl.LazyFrame) -> pl.LazyFrame:
    """One row per item. Test rows are prefixes whose answer is their last item: only that one is tested."""
    last = pl.col("items").list.len() - 1
    role = pl.when(pl.col("split") == "train").then(pl.lit("train"))
    place = frame.with_columns(pl.int_ranges(0, pl.col("items").list.len()).alias("_place"), last.cast(pl.Int64).alias("_last"))
    flat = place.explode("items", "_place").filter(pl.col("items").is_not_null())
    held = pl.when(pl.col("_place") == pl.col("_last")).then(pl.col("split")).otherwise(pl.lit("history"))
    return flat.with_columns(pl.coalesce(role, held).alias("split"))


def _sessions(c: Columns) -> Fields:
    session = ident(c, "session")
    return {"user_id": session, "session_id": session, "item_id": ident(c, "items"), "type": pl.lit("click"), "split": pl.col("split")}


def _rees46(c: Columns) -> Fields:
    fields = {"user_id": ident(c, "user_id"), "item_id": ident(c, "product_id"), "type": renamed(SHOP_TYPES, "event_type")}
    if "price" in c:
        fields["value"] = pl.when(pl.col("event_type").cast(pl.String) == "purchase").then(number("price"))
        fields["item.price"] = number("price")
    names = {"session_id": "user_session", "item.category_code": "category_code", "item.brand": "brand", "item.category_id": "category_id"}
    return {**fields, **optional(c, names)}


def _lastfm(c: Columns) -> Fields:
    return {"user_id": ident(c, "userID"), "item_id": ident(c, "artistID"), "type": pl.lit("listen"), "value": number("weight")}


def _lastfm_tags_spread(frame: pl.LazyFrame) -> pl.LazyFrame:
    names = frame.collect_schema().names()
    if "timestamp" in names:
        return frame
    day, month, year = (pl.col(name).cast(pl.Int32, strict=False) for name in ("day", "month", "year"))
    return frame.with_columns(pl.datetime(year, month, day, ambiguous="null").alias("timestamp"))


def _lastfm_tags(c: Columns) -> Fields:
    return {"user_id": ident(c, "userID"), "item_id": ident(c, "artistID"), "type": pl.lit("tag")}


def _recbole_name(c: Columns, name: str) -> str | None:
    return next((column for column in c if column.split(":")[0] == name), None)


def _recbole(c: Columns) -> Fields:
    fields = {"user_id": ident(c, _recbole_name(c, "user_id") or ""), "item_id": ident(c, _recbole_name(c, "item_id") or "")}
    rating, session = _recbole_name(c, "rating"), _recbole_name(c, "session_id")
    fields["type"] = pl.lit("rating" if rating else "click")
    label = None if rating else _recbole_name(c, "label")
    if label:  # 0/1: shown, and clicked where 1
        fields |= {"type": pl.lit("shown"), "decision_id": pl.format("d{}", "row"), **emit((flag(label), "click", None))}
    if rating:
        fields["value"] = number(rating)
    return fields | ({"session_id": ident(c, session)} if session else {})


def _expand_recbole(rows: pl.LazyFrame) -> LogTables:
    return expand_emitted(rows) if "decision_id" in rows.collect_schema() else LogTables(rows)


def _recbole_files(path: Path) -> dict[str, pl.LazyFrame]:
    owners: tuple[tuple[str, str, Owner], ...] = (("items", ".item", "item_id"), ("users", ".user", "user_id"))
    there = [(key, path.with_suffix(suffix), owner) for key, suffix, owner in owners if path.with_suffix(suffix).is_file()]
    return {key: read_features(file, owner) for key, file, owner in there}


def _personalize(c: Columns) -> Fields:
    fields = {"user_id": ident(c, "USER_ID"), "item_id": ident(c, "ITEM_ID")}
    kind = first(c, "EVENT_TYPE", "TYPE")
    fields["type"] = ident(c, kind).str.to_lowercase().fill_null("click") if kind else pl.lit("click")
    if "EVENT_VALUE" in c:
        fields["value"] = number("EVENT_VALUE")
    if "IMPRESSION" in c:
        fields["_shown"] = text_list(c, "IMPRESSION")
        fields["decision_id"] = pl.when(fields["_shown"].is_not_null()).then(pl.format("d{}", "row"))
    return fields


def _qurate_tables(path: Path) -> dict[str, pl.LazyFrame]:
    return features_beside(path, items="items", users="users")


OWN = "qurate"
OWN_LAYOUT = Layout(
    "qurate",
    ("user_id", "timestamp", "item_id|shown"),
    own_fields,
    ("timestamp",),
    expand_own,
    numbers=("value",),
    required=("user_id", "type"),
    companions=_qurate_tables,
)
"""The contract's own columns, from the start or by the roles of a log of one's own."""

LAYOUTS: tuple[Layout, ...] = (
    *SHOWN_LAYOUTS,
    Layout("movielens", ("userId", "movieId", "rating", "timestamp"), _movielens, ("timestamp",), numbers=("rating",), companions=_movies),
    Layout(
        "globo",
        ("user_id", "session_id", "article_id|click_article_id", "timestamp_ms|click_timestamp"),
        _globo,
        ("timestamp_ms", "click_timestamp"),
    ),
    Layout("otto", ("session", "aid", "ts", "event|type"), _otto, ("ts",), has_users=False),
    Layout("otto", ("session", "events"), _otto, ("ts",), spread=_otto_nested, has_users=False, dedupe=False),
    Layout("taobao", ("user_id", "item_id", "behavior|behavior_type|behaviour", "timestamp"), _taobao, ("timestamp",)),
    Layout("retailrocket", ("timestamp", "visitorid", "event", "itemid"), _retailrocket, ("timestamp",)),
    Layout("retailrocket_sessions", ("session", "split", "items"), _sessions, (), spread=_sessions_spread, has_users=False, dedupe=False),
    Layout("rees46", ("event_time", "event_type", "product_id", "user_id"), _rees46, ("event_time",), numbers=("price",)),
    Layout("lastfm", ("userID", "artistID", "weight"), _lastfm, (), numbers=("weight",), merges=False),
    Layout(
        "lastfm",
        ("userID", "artistID", "tagID", "day|timestamp", "month|timestamp", "year|timestamp"),
        _lastfm_tags,
        ("timestamp",),
        spread=_lastfm_tags_spread,
        merges=False,
    ),
    Layout("personalize", ("USER_ID", "ITEM_ID", "TIMESTAMP"), _personalize, ("TIMESTAMP",), expand_own, numbers=("EVENT_VALUE",)),
    Layout(
        "recbole",
        ("user_id:token", "item_id:token"),
        _recbole,
        ("timestamp:float", "timestamp:token"),
        _expand_recbole,
        numbers=("rating:float",),
        companions=_recbole_files,
    ),
    OWN_LAYOUT,
)


def _decision_fields(c: Columns) -> Fields:
    fields = {"decision_id": ident(c, "decision_id"), "user_id": ident(c, "user_id"), "_shown": text_list(c, "shown")}
    if "propensity" in c:
        fields["_propensity_list"] = text_list(c, "propensity").cast(pl.List(pl.Float64), strict=False)
    if "candidates" in c:
        fields["_candidates"] = text_list(c, "candidates")
    return fields | candidate_lists(c) | optional(c, {name: name for name in ("session_id", "policy", "split")})


DECISIONS = Layout(
    "qurate",
    ("decision_id", "user_id", "timestamp", "shown"),
    _decision_fields,
    ("timestamp",),
    recorded,
    required=("decision_id", "user_id", "_shown"),
)
"""The contract's decisions table; it stands beside a log of events and is no log of its own."""

NAMES = tuple(dict.fromkeys(layout.name for layout in LAYOUTS))


def recognise(columns: Columns, name: str | None = None) -> Layout | None:
    """The layout that these columns have, or None; `name` allows only that one.

    Raises:
        UserError: no layout of that name.
    """
    if name is not None and name not in NAMES:
        raise UserError("a known layout", name, where="--layout", hint=nearest(name, NAMES), code=Code.UNKNOWN_LAYOUT)
    return next((one for one in LAYOUTS if name in (None, one.name) and not one.missing(columns)), None)


COLUMN = "COL"
"""Stands in a hint where nothing can be guessed."""


def unknown_columns(
    columns: Columns,
    where: str,
    name: str | None = None,
    roles: Roles | None = None,
    others: dict[str, Columns] | None = None,
    sample: pl.DataFrame | None = None,
) -> UserError:
    """The error for columns of no known layout: names the nearest layout and what it lacks, or the mapping that reads it.

    Args:
        columns: of the table.
        where: the table.
        name: of the layout that was asked for.
        roles: what is known of the columns.
        others: columns of the other tables of the log, by their paths.
        sample: some of the table's rows.
    """
    guess = {} if roles is None else guesses(columns, roles, sample)
    known = {*guess, *roles.source} if roles is not None else set()
    complete = {"item_id", "timestamp"} <= known and bool({"user_id", "session_id"} & known)
    if name is None and not complete and (hint := join_hint(where, columns, others or {})):
        got = ", ".join(list(columns)[:20])
        return UserError("users, items and times in one table", got, where=where, hint=hint, code=Code.UNKNOWN_COLUMNS)
    options = [layout for layout in LAYOUTS if name in (None, layout.name)]
    best = max(options, key=lambda layout: 1 - len(layout.missing(columns)) / len(layout.needs))
    lacking = best.missing(columns)
    hint = f"nearest is {best.name}, which lacks {', '.join(lacking)}; or " if 2 * len(lacking) <= len(best.needs) else ""
    if complete:
        hint = ""  # every role has a column
    if roles is not None and roles.missing() == ["timestamp"] and "timestamp" not in guess:
        hint = "a log needs times, because what came before what is what is learned: name their column with --map timestamp=COLUMN, "
        hint += "or take the order of the file with --order"
        return UserError("times", ", ".join(list(columns)[:20]), where=where, hint=hint, code=Code.UNKNOWN_COLUMNS)
    hint += "say which column is which: "
    has = {} if roles is None else roles.source
    stands_in = "user_id" not in {*guess, *has} and "session_id" in {*guess, *has}
    needed = ["session_id" if stands_in else "user_id", "item_id", "timestamp", *guess]
    lists = "shown" in guess and "item_id" not in guess
    missing = [name for name in dict.fromkeys(needed) if (name in guess or name not in has) and not (lists and name in ("item_id", "type"))]
    hint += " ".join(f"--map {name}={shlex.quote(guess.get(name, COLUMN))}" for name in missing)
    hint += "; session_id stands in for the user, unless --map user_id=COL names one" if stands_in and "session_id" in has else ""
    hint += ", or --order, if the log has no times" if "timestamp" in missing and "timestamp" not in guess else ""
    return UserError(
        f"the columns of {name or 'a known layout'}", ", ".join(list(columns)[:20]), where=where, hint=hint, code=Code.UNKNOWN_COLUMNS
    )
