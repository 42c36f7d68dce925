"""The role that a column could have by its name: for hints and for the plan, and, where the name is a usual one, to read it."""

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


USUAL: dict[str, tuple[str, ...]] = {
    "user_id": (
        "userid",
        "user",
        "uid",
        "customerid",
        "visitorid",
        "memberid",
        "clientid",
        "accountid",
        "buyerid",
        "reviewerid",
        "personid",
    ),
    "session_id": ("sessionid", "visitid"),
    "item_id": (
        *("itemid", "item", "productid", "product", "sku", "articleid", "movieid", "trackid", "songid", "videoid", "contentid", "asin"),
        *("bookid", "listingid", "artistid", "newsid", "gameid", "courseid", "adid", "iid"),
    ),
    "timestamp": (
        *("timestamp", "datetime", "time", "ts", "unixtime", "eventtime", "eventtimestamp", "eventdate", "createdat", "date"),
        *("occurredat", "clicktime", "viewtime", "visittime", "orderdate", "purchasedate"),
    ),
}
"""Names without capitals, blanks and signs (`key_of`) under which public logs have a role. `WORDS` are looser: they only give hints."""


def usual_roles(columns: Columns, roles: Roles) -> dict[str, str]:
    """Role -> column for what an event needs and the table lacks, by usual names; nothing where a role has none or two of them."""
    free = [column for column in columns if column not in roles.source.values()]
    found = {role: [column for column in free if key_of(column) in names] for role, names in USUAL.items() if role not in roles.source}
    one = {role: named[0] for role, named in found.items() if len(named) == 1}
    whole = set(roles.missing()) - ({"user_id"} if "session_id" in one and not found.get("user_id") else set()) <= set(one)
    return one if whole else {}


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
