"""Rows whose user is nobody, and rows that belong to a list by another id than their own."""

import polars as pl

from qurate.events.roles import Roles

NOBODY = (
    "na",
    "n/a",
    "null",
    "none",
    "nan",
    "guest",
    "anonymous",
    "anon",
    "unknown",
    "undefined",
    "(not set)",
    "-",
    "0",
    "-1",
    "0.0",
    "-1.0",
    "00000000-0000-0000-0000-000000000000",
    *("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "d41d8cd98f00b204e9800998ecf8427e"),  # hashes of no text
    "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    *("游客", "遊客", "访客", "訪客", "匿名", "匿名用户", "匿名用戶", "未登录", "未登入", "未知", "ゲスト", "gast", "invitado"),
)
FEATURE_ROWS = ("item", "user")
"""Metarank's rows that describe an item or a user."""
NOBODY_NUMBERS = {"0": "1", "-1": "-2", "0.0": "1.0", "-1.0": "-2.0"}
"""Numbers that may stand for nobody, each with its neighbour: beside that one it may be a user like the others."""
NOBODY_SHARE, NOBODY_TIMES = 0.05, 3
"""A sentinel stands for more than so many of the rows; a number beside its neighbour for so many times those of the next user."""


def each_row_a_user(roles: Roles) -> None:
    """Of a table of a bandit that names no user."""
    roles.exprs["user_id"] = pl.format("u{}", "row")
    roles.source["user_id"] = "(each row a user of its own)"
    roles.users = False
    roles.notes.append("no column names a user: every row is one of its own")


def nobody(roles: Roles, sample: pl.DataFrame) -> None:
    """`NA`, `guest`, `0` that stand for many rows are no user: the session stands in, where there is one."""
    source = roles.source
    if "user_id" not in source:
        roles.users = False
    if not roles.users or sample[source["user_id"]].dtype.is_nested():
        return
    users = sample[source["user_id"]].cast(pl.String).str.strip_chars()
    counts = users.drop_nulls().value_counts(sort=True, name="n")
    empty = int(users.null_count() + (users == "").sum())
    many = NOBODY_SHARE * len(users)
    by_user = users.rle_id().n_unique() == users.n_unique()  # user 0 may stand first of a sorted file, his neighbour after the sample
    names = []
    for name, n in counts.head(20).rows():
        following = max((other for who, other in counts.head(20).rows() if who != name), default=0)
        may_be_user = (users == NOBODY_NUMBERS.get(name, "")).any() or (by_user and name in ("0", "0.0"))
        if name.lower() in NOBODY and n > many and (not may_be_user or n > NOBODY_TIMES * following):
            names.append((name, n))
    with_session = "session_id" in source
    for name, n in names:
        stands = "the session stands in" if with_session else "name a session with --map session_id=COLUMN, or leave these rows out"
        roles.notes.append(f"user {name!r} of {n:,} in {len(users):,} rows is no user: {stands}")
    if empty > many:
        stands = "the session stands in" if with_session else "such rows are bad; --map session_id=COLUMN lets the session stand in"
        roles.notes.append(f"{empty:,} of {len(users):,} rows have no user: {stands}")
    if names and with_session:
        raw = roles.exprs.get("user_id", pl.col(source["user_id"]))
        no_user = raw.cast(pl.String).str.strip_chars().is_in([name for name, _ in names])
        roles.exprs["user_id"] = pl.when(~no_user).then(raw)
        roles.rename.pop(source["user_id"], None)


def joined_by_id(roles: Roles, sample: pl.DataFrame, ids: list[str]) -> None:
    """Lists that name themselves by `id`, and events that name the list by another column (metarank).

    Args:
        roles: of the table; changed.
        sample: its first rows.
        ids: columns that may name a row.
    """
    source = roles.source
    kinds = sample["event"].drop_nulls() if sample.schema.get("event") == pl.String else pl.Series([], dtype=pl.String)
    if kinds.is_in(["ranking"]).any() and kinds.is_in(["interaction"]).any():
        roles.leave_out = pl.col("event").is_in(FEATURE_ROWS).fill_null(False)
        if kinds.is_in(FEATURE_ROWS).any():
            roles.notes.append("rows of event item and user say features and are no events; they are not read")
    if "decision_id" not in source or "shown" not in source or source["decision_id"] not in sample.columns:
        return
    named = sample.filter(sample.select(roles.exprs["shown"].is_not_null()).to_series())
    others = sample[source["decision_id"]].drop_nulls().cast(pl.String)
    if not named.height or named[source["decision_id"]].null_count() < named.height:
        return
    for column in [*ids, *(["event_id"] if source.get("event_id") == "event_id" else [])]:
        if others.is_in(named[column].cast(pl.String).implode()).any():
            own = pl.when(roles.exprs["shown"].is_not_null()).then(pl.col(column).cast(pl.String))
            roles.exprs["decision_id"] = pl.coalesce(pl.col(source["decision_id"]).cast(pl.String), own)
            roles.rename.pop(source["decision_id"], None)
            roles.source["decision_id of the lists"] = column
            return
