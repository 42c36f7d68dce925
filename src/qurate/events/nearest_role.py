"""The role that a column could have by its name: for hints and for the plan, and, where the name is a usual one, to read it."""

import json
import re
import shlex

import polars as pl

from qurate.events.answer_names import answer_of, words_of
from qurate.events.doubts import is_shown
from qurate.events.fields import Columns, key_of
from qurate.events.listed import ANSWER_KEYS, ID_KEYS, STRUCTURED, is_list
from qurate.events.nearest_value import guesses_by_ids, guesses_by_values
from qurate.events.paths import paths_in
from qurate.events.roles import Roles, contract_names

WORDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "timestamp",
        (
            "timestamp",
            "tstamp",
            "dt",
            "datetime",
            "time",
            "date",
            "created",
            "createdat",
            "updated",
            "ts",
            "ordered",
            "when",
            "at",
            "day",
            "unixtime",
            "datum",
            "zeit",
            "fecha",
        ),
    ),
    ("session_id", ("session", "visit", "sessionid", "visitid")),
    ("decision_id", ("request", "impressionid", "ranking", "decision", "requestid", "recommendationid")),
    ("shown", ("shown", "impressions", "impression", "slate", "items", "candidates", "list", "recommendations", "inview")),
    ("propensity", ("propensity", "pscore", "prob", "probability", "propensities", "pscores", "probs", "probabilities")),
    (
        "user_id",
        (
            "user",
            "customer",
            "visitor",
            "client",
            "member",
            "account",
            "buyer",
            "userid",
            "uid",
            "distinctid",
            "email",
            "reviewer",
            "person",
            "kunde",
            "nutzer",
            "utilisateur",
            "usuario",
            "cliente",
            *("cust", "household", "card", "username", "login"),
        ),
    ),
    (
        "item_id",
        (
            *("item", "product", "sku", "article", "movie", "track", "song", "video", "content", "asin", "book", "listing", "artist"),
            *("itemid", "productid", "iid", "ad", "news", "stockcode", "isbn", "restaurant", "recipe", "game", "course"),
            *("adgroup", "creative", "campaign", "prod", "venue", "place", "business", "hotel", "offer", "anime", "merchant"),
            *("artikel", "produkt", "produit", "producto"),
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
            *("seconds", "watched", "ratio", "points", "grade", "percent", "progress"),
            "label",
        ),
    ),
)
"""Words in the names of columns, the surest roles first."""
OTHERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("value", ("停留时间", "停留時間", "滞在時間", "視聴時間")),
    ("timestamp", ("时间", "時間", "日期", "日時", "日付", "일시", "시간", "날짜", "дата", "время")),
    ("session_id", ("会话", "會話")),
    (
        "user_id",
        (
            "用户",
            "用戶",
            "会员",
            "會員",
            "客户",
            "客戶",
            "顾客",
            "顧客",
            "买家",
            "買家",
            "ユーザー",
            "会員",
            "회원",
            "고객",
            "사용자",
            "пользовател",
            "клиент",
            "покупател",
        ),
    ),
    (
        "item_id",
        (
            "商品",
            "物品",
            "产品",
            "產品",
            "视频",
            "影片",
            "文章",
            "新闻",
            "电影",
            "電影",
            "歌曲",
            "图书",
            "货号",
            "宝贝",
            "アイテム",
            "製品",
            *("상품", "제품", "товар"),
        ),
    ),
    ("type", ("行为", "行為", "事件", "操作", "행동", "이벤트", "событие", "действие")),
    ("value", ("评分", "評分", "金额", "金額", "价格", "價格", "单价", "数量", "數量", "时长", "時長")),
)
"""The same in Chinese, Japanese, Korean and Russian: parts of a name, between which no blank need stand."""
HAPPENED = ("event", "action", "behavior", "behaviour", "interaction", "activity", "feedback", "reaction")
"""Beside `type` one of them says that it is the type of an event, not of a device."""
PSEUDONYM = "userpseudoid"
FLAGS = ("start", "stop", "end", "is", "has", "new", "first", "last", "length", "duration")
"""With such a word beside it `session` names no session."""
LASTING = (
    *("watch", "watched", "watching", "play", "played", "playing", "dwell", "stay", "stayed", "read", "reading", "listen", "listening"),
    *("spent", "elapsed", "active", "usage", "viewing", "on", "to"),
)
"""With such a word beside it `time` is how long something took: time_on_page, time_to_click."""
NO_IDS = (
    *("count", "counts", "url", "link", "image", "zone", "country", "region", "language", "location", "platform", "device"),
    *("category", "brand", "gender", "age"),
)
"""A name that ends in one of them is of something about users, items or times."""
SEGMENT = ("event", "properties", "anonymousId")
"""Columns of Segment's track calls, in which `type` says `track` and no more."""


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
        *("用户id", "用戶id", "用户", "用戶", "用户编号", "會員id", "会员id", "会员", "会员编号", "客户id", "客戶id", "客户", "客户编号"),
        *("顾客id", "顧客id", "顾客", "买家id", "買家id"),
    ),
    "session_id": ("sessionid", "visitid", "会话id", "會話id", "会话"),
    "item_id": (
        *("itemid", "item", "productid", "product", "sku", "articleid", "movieid", "trackid", "songid", "videoid", "contentid", "asin"),
        *("bookid", "listingid", "artistid", "newsid", "gameid", "courseid", "adid", "iid", "businessid", "placeid", "locationid"),
        *("商品id", "商品", "商品编号", "商品編號", "物品id", "物品", "物品编号", "产品id", "產品id", "产品", "产品编号", "货号"),
        *("视频id", "影片id", "文章id", "新闻id", "新聞id", "电影id", "電影id", "歌曲id", "图书id"),
    ),
    "timestamp": (
        *("timestamp", "datetime", "time", "ts", "unixtime", "eventtime", "eventtimestamp", "eventdate", "createdat", "date"),
        *("occurredat", "clicktime", "viewtime", "visittime", "orderdate", "purchasedate"),
        *("unixreviewtime", "tdat", "时间戳", "時間戳", "时间", "時間", "日期", "日期时间", "行为时间", "行為時間", "事件时间", "发生时间"),
        *("点击时间", "點擊時間", "浏览时间", "购买时间", "下单时间", "订单时间", "创建时间"),
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
    return _by_name(column) or _by_words(column)


def _by_name(column: str) -> str | None:
    """The role of a name that is known as a whole."""
    whole = key_of(column)
    if whole == "eventid":
        return "event_id"
    usual = next((role for role, names in USUAL.items() if whole in names), None)
    return usual or next((role for role, known in WORDS if whole in known), None)


def _by_words(column: str) -> str | None:
    """The role that a part of a name says."""
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", column)]
    if "timestamp" in words:
        return "timestamp"
    if "time" in words and any(word in LASTING for word in words):
        return "value"
    if words[-1:] == ["id"] and len(words) > 2:  # shop_customer_id
        words = words[:-1]
    for role in ("type", "value") if len(words) > 1 else ():
        if words[-1] in dict(WORDS)[role]:  # product_action, product_price
            return role if words[-1] != "type" or set(words) & {*HAPPENED} else None
    for role, known in WORDS if words else ():
        if words[0] in known or (words[-1] in known and (role != "timestamp" or len(words) <= 3)):
            about = role.endswith("_id") or role in ("shown", "timestamp")
            flag = role == "session_id" and any(word in FLAGS for word in words)
            return None if flag or (about and words[-1] in NO_IDS) else role
    return next((role for role, parts in OTHERS if any(part in column.lower() for part in parts)), None)


def guesses(columns: Columns, roles: Roles, sample: pl.DataFrame | None = None) -> dict[str, str]:
    """Role -> column, for the roles that an event needs and nobody has said, at most one column each; whole names first.

    Of a list of objects the field that names the item. GA4's `user_pseudo_id` stands also where a `user_id` is, which few rows have.
    With a sample of the rows also by what the columns hold (`guesses_by_values`).
    """
    taken = set(roles.source.values())
    wanted = {"user_id", "item_id", "timestamp", "session_id", "type", "decision_id", "shown"} - set(roles.source)
    found: dict[str, list[str]] = {}
    for by_words in (False, True):
        for column in columns:
            role = _by_name(column)
            if by_words:
                role = None if role else _by_words(column)
            if (columns[column].is_nested() and role not in ("item_id", "shown")) or (role == "type" and _holds_objects(column, sample)):
                continue
            if role in wanted and column not in taken:
                found.setdefault(role, []).append(column)
    found.get("user_id", []).sort(key=lambda name: words_of(name)[-1:] == ["uid"] and "user" not in words_of(name))
    out = {role: names[0] for role, names in found.items()}
    if (times := found.get("timestamp")) and (moments := [name for name in times if "timestamp" in key_of(name)]):
        out["timestamp"] = moments[0]  # a column of days beside it says less
    if not {"item_id", "decision_id"} & {*out, *roles.source} and "shown" in out and not is_shown(out["shown"]):
        out["item_id"] = out.pop("shown")
    if not {"item_id", "shown"} & {*out, *roles.source}:
        listed = next((name for name in columns if _with_id(name, columns)), None)
        out |= {} if listed is None else {"item_id": listed}
    if path := _with_id(out.get("item_id", ""), columns):
        answers = any(key_of(field) in ANSWER_KEYS for field in _fields(out["item_id"], columns))
        out |= {"shown": out.pop("item_id")} if answers else {"item_id": path}
    if sample is not None:
        more = guesses_by_values({**roles.source, **out}, taken, sample, nearest_role)
        out |= {role: column for role, column in more.items() if role not in roles.source}
        someone = {"session_id", "user_id"} & {*out, *roles.source}
        needed = {"timestamp", "item_id"} | (set() if someone else {"user_id"})
        if is_list(sample[out["item_id"]]) if out.get("item_id") in sample.columns else False:
            free = [name for name in columns if name not in out.values()]
            out |= {"shown": out.pop("item_id")} if any(answer_of(name) for name in free) else {}
        needed -= {*out, *roles.source} | ({"item_id"} if "shown" in {*out, *roles.source} else set())
        out |= guesses_by_ids(
            needed, {*out.values(), *taken}, sample, {"user_id": dict(WORDS)["user_id"], "item_id": dict(WORDS)["item_id"]}
        )
    if set(SEGMENT) <= set(columns):
        out |= {"type": "event", "item_id": _segment_item(sample), "session_id": "anonymousId"}
    pseudonym = next((name for name in columns if key_of(name) == PSEUDONYM), None)
    return out if pseudonym is None else {**out, "user_id": pseudonym}


def _segment_item(sample: pl.DataFrame | None) -> str:
    """Where the item stands in the properties, by the first usual name that is there."""
    known = {key_of(path): path for path in reversed(paths_in(sample.select("properties")))} if sample is not None else {}
    usual = (known.get(key_of(f"properties.{name}")) for name in ("productid", *USUAL["item_id"]))
    return next((path for path in usual if path), "properties.product_id")


def _holds_objects(column: str, sample: pl.DataFrame | None) -> bool:
    texts = sample[column] if sample is not None and column in sample.columns else pl.Series([])
    return texts.dtype == pl.String and bool(texts.str.contains(STRUCTURED).any())


def _with_id(column: str, columns: Columns) -> str:
    """The path to the ids of a list of objects, "" for another column."""
    by_key = {key_of(name): name for name in reversed(_fields(column, columns))}
    return next((f"{column}.{by_key[key]}" for key in ID_KEYS if key in by_key), "")


def _fields(column: str, columns: Columns) -> list[str]:
    """Names of the fields of a list of objects, none for another column."""
    inner = getattr(columns.get(column), "inner", None)
    return [field.name for field in inner.fields] if isinstance(inner, pl.Struct) else []


def join_hint(first: str, columns: Columns, others: dict[str, Columns]) -> str:
    """How to join a table of who and when with one of what, "" where no two tables have a column of ids in common.

    Args:
        first: a table that is no log by itself, with its columns.
        others: the other tables.
    """
    for second, theirs in others.items():
        shared = [name for name in columns if name in theirs and key_of(name).endswith("id")]
        roles = Roles({name: name for name in contract_names(()) if name in {*columns, *theirs}})
        together = {**columns, **theirs}
        needed = {"user_id", "item_id"} - set(roles.source) - set(usual_roles(together, roles) or guesses(together, roles))
        needed -= {"user_id"} if any(key_of(name) in ("uuid", "cookie", "cookieid", "deviceid") for name in together) else set()
        if len(shared) == 1 and not needed:
            files = [f"pl.read_csv({json.dumps(name, ensure_ascii=False)}, infer_schema=False)" for name in (first, second)]
            code = (
                f'import polars as pl; {files[0]}.join({files[1]}, on={json.dumps(shared[0], ensure_ascii=False)}).write_csv("joined.csv")'
            )
            return f"{first} and {second} have {shared[0]} in common: join them with python -c {shlex.quote(code)} and give joined.csv"
    return ""
