"""The role that a column could have by its name, for hints and for the plan; nothing is read because of it."""

import re

from qurate.events.doubts import is_shown
from qurate.events.fields import Columns, key_of
from qurate.events.roles import Roles

WORDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("timestamp", ("timestamp", "datetime", "time", "date", "created", "createdat", "ts", "ordered", "when", "at", "day", "unixtime")),
    ("session_id", ("session", "visit", "sessionid", "visitid")),
    ("decision_id", ("request", "impressionid", "ranking", "decision", "requestid", "recommendationid")),
    ("shown", ("shown", "impressions", "impression", "slate", "items", "candidates", "list", "recommendations", "inview")),
    ("propensity", ("propensity", "pscore", "prob", "probability")),
    ("user_id", ("user", "customer", "visitor", "client", "member", "account", "buyer", "userid", "uid", "kunde", "reviewer", "person")),
    (
        "item_id",
        (
            *("item", "product", "sku", "article", "movie", "track", "song", "video", "content", "asin", "book", "listing", "artist"),
            *("itemid", "productid", "iid", "ad", "news", "stockcode", "isbn", "restaurant", "recipe", "game", "course"),
        ),
    ),
    ("type", ("type", "event", "action", "behavior", "behaviour", "interaction", "activity", "kind")),
    (
        "value",
        (
            "value",
            "price",
            "amount",
            "quantity",
            "qty",
            "total",
            "revenue",
            "rating",
            "score",
            "duration",
            "dwell",
            "weight",
            "count",
            "reward",
            "stars",
            "plays",
            "label",
        ),
    ),
)
"""Words in the names of columns, the surest roles first."""


def nearest_role(column: str) -> str | None:
    """The contract's name that a column could go under.

    >>> nearest_role("visitorId")
    'user_id'
    """
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", column)]
    if not words:
        return None
    whole = key_of(column)
    for role, known in WORDS:
        if whole in known:
            return role
    for role, known in WORDS:
        if words[0] in known or (words[-1] in known and role != "timestamp") or (words[-1] in known and len(words) <= 3):
            return role
    return None


def guesses(columns: Columns, roles: Roles) -> dict[str, str]:
    """Role -> column, for the roles that an event needs and nobody has said, at most one column each."""
    taken = set(roles.source.values())
    wanted = {"user_id", "item_id", "timestamp", "session_id", "type", "decision_id", "shown"} - set(roles.source)
    out: dict[str, str] = {}
    for column in columns:
        role = nearest_role(column)
        if role in wanted and column not in taken:
            out.setdefault(role, column)
    if not {"item_id", "decision_id"} & {*out, *roles.source} and "shown" in out and not is_shown(out["shown"]):
        out["item_id"] = out.pop("shown")
    return out
