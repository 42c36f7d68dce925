"""The role that a column could have by its values, where names do not tell: for the hint of an error."""

from collections.abc import Callable

import polars as pl

from qurate.events.answer_names import words_of
from qurate.events.fields import key_of
from qurate.events.listed import ID_KEYS, STRUCTURED, TYPE_KEYS
from qurate.events.paths import keys_of_text, paths_in

ITEM_KEYS = ("id", "documentid", "canonicalurl", "pageurl", "url", "page", "path")
"""Names of what a row may be about, the surest first: of the row itself where each value occurs once."""
ITEM_LISTS = ("items", "products", "lineitems", "goods", "articles")
"""Names of lists of objects, each of an item."""
TYPE_NAMES = (*TYPE_KEYS, "type")
ID_WORDS = ("id", "ids", "key", "code", "hash", "uri", "uid", "no", "number", "sku", "md")
"""The last word of a name that says that its values name something."""
NO_ITEMS = frozenset(
    (
        *("srch", "search", "query", "order", "transaction", "basket", "cart", "session", "visit", "request", "row", "event"),
        *("country", "city", "region", "category", "store", "shop", "site", "group", "device", "type", "friend"),
    )
)
"""Words in names of ids that are of no item."""
PLACES = frozenset(("country", "city", "region", "category"))
"""Words in names of ids that say something about a user or an item."""
LAST_RESORT = ("uuid", "cookie", "cookieid", "deviceid")
"""Names of what may stand for a user where nothing else does."""
REPEATED = 0.9
"""Where so many of the values differ, they are of the rows."""
REPEATS = 20
CLOCK = r"^\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?( ?[AaPp][Mm])?$"
OWNERS = {"user": "user_id", "customer": "user_id", "visitor": "user_id", "item": "item_id", "product": "item_id", "article": "item_id"}
"""Objects whose `id` has a role."""


def guesses_by_values(found: dict[str, str], taken: set[str], sample: pl.DataFrame, role_of: Callable[[str], str | None]) -> dict[str, str]:
    """More of what `guesses` gives: role -> column, path, or two columns.

    Args:
        found: by the names of columns.
        taken: columns that have a role.
        sample: rows of the table.
        role_of: the role that a name says.
    """
    out = dict(found)
    free = [name for name in sample.columns if name not in taken and not sample[name].dtype.is_nested()]
    if parts := _date_in_parts(sample.columns):
        out["timestamp"] = "+".join(parts)
    elif "timestamp" in out and (clock := _clock_beside(out["timestamp"], free, sample)):
        out["timestamp"] = f"{out['timestamp']}+{clock}"
    for role in ("user_id", "item_id", "session_id"):
        if out.get(role) in sample.columns and (ids := [path for path in paths_in(sample.select(out[role])) if _is_id(path, role)]):
            out[role] = ids[0]
    wanted = {"user_id", "item_id", "timestamp"} - set(out) - ({"item_id"} if "shown" in out else set())
    paths = paths_in(sample) if wanted else []
    for role in sorted(wanted):
        if path := next((path for path in paths if _role_inside(path, role_of) == role), None):
            out[role] = path
    if "item_id" in wanted and "item_id" not in out:
        lists = [path for path in paths if key_of(path.rpartition(".")[2]) in ITEM_LISTS]
        out |= {"item_id": lists[0]} if lists else {}
    if path := _id_inside(out.get("item_id", ""), sample):
        out["item_id"] = path
    inside = out.get("item_id", "").rpartition(".")[0]
    if "type" not in out and inside:
        types = [path for path in paths_in(sample) if path.rpartition(".")[0] == inside and key_of(path.rpartition(".")[2]) in TYPE_NAMES]
        out |= {"type": types[0]} if types else {}
    if "item_id" in wanted and "item_id" not in out:
        by_key = {key_of(name): name for name in reversed(free)}
        about = [by_key[key] for key in ITEM_KEYS if key in by_key and _repeats(sample[by_key[key]])]
        out |= {"item_id": about[0]} if about else {}
    return out


def guesses_by_ids(wanted: set[str], taken: set[str], sample: pl.DataFrame, words: dict[str, tuple[str, ...]]) -> dict[str, str]:
    """Role -> column or path, for users and items that no name has said: what ends in a word for an id, and whose values repeat.

    Args:
        wanted: roles that are lacking.
        taken: columns that have a role.
        sample: rows of the table.
        words: of names, for users and for items.
    """
    out: dict[str, str] = {}
    paths = {path: words_of(path.rpartition(".")[2]) for path in paths_in(sample) if path.count(".") > 1}
    names = {name: words_of(name) for name in sample.columns if name not in taken}
    flat = {name: said for name, said in names.items() if not sample[name].dtype.is_nested() and _repeats(sample[name])}
    ids = [name for name, said in flat.items() if (said and said[-1] in ID_WORDS) or key_of(name).endswith("id")]
    ids += [name for name in names if sample[name].dtype == pl.List(pl.String) and key_of(name).endswith("ids")]
    ids += [path for path, said in paths.items() if said[-1:] == ["id"]]
    for role in sorted(wanted & {"user_id", "item_id"}, reverse=True):
        free = [name for name in ids if name not in out.values()]
        said = [name for name in free if any(word in words[role] for word in words_of(name)) and not set(words_of(name)) & PLACES]
        other = next(one for one in words if one != role)
        rest = [name for name in free if name in flat and not any(word in words[other] and word not in ID_WORDS for word in words_of(name))]
        rest = [
            name for name in rest if key_of(name) not in LAST_RESORT and not set(words_of(name)) & NO_ITEMS and sample[name].n_unique() > 1
        ]
        if said:
            out[role] = said[0]
        elif role == "item_id":
            deep = [name for name in free if name not in flat]
            out[role] = max(rest, key=lambda name: sample[name].n_unique()) if rest else (*deep, "")[0]
        elif role == "user_id":
            out[role] = next((name for name in flat if key_of(name) in LAST_RESORT), "")
    return {role: name for role, name in out.items() if name}


def _date_in_parts(columns: list[str]) -> list[str]:
    """Columns of year, month and day, and of the clock where they are there; none where one of the three is not."""
    by_key = {key_of(name): name for name in reversed(columns)}
    if not {"year", "month", "day"} <= set(by_key):
        return []
    clock = ("hour", "minute", "second") if {"hour", "minute"} <= set(by_key) else ()
    return [by_key[key] for key in ("year", "month", "day", *clock) if key in by_key]


def _id_inside(path: str, sample: pl.DataFrame) -> str:
    """The way to the id, where a path leads to objects: `productDetails.product` to `productDetails.product.id`; "" elsewhere."""
    column, _, key = path.partition(".")
    if column not in sample.columns or not key:
        return ""
    dtype = getattr(sample[column].dtype, "inner", None)
    fields = [field.name for field in dtype.fields] if isinstance(dtype, pl.Struct) else []
    if key not in fields:
        return ""
    texts = sample[column].drop_nulls().head(REPEATS).explode().struct.field(key).cast(pl.String).drop_nulls()
    keys = {key_of(one): one for one in keys_of_text(texts.filter(texts.str.contains(STRUCTURED)))}
    return next((f"{path}.{keys[one]}" for one in ID_KEYS if one in keys), "")


def _is_id(path: str, role: str) -> bool:
    """Whether a path within an object leads to what names it."""
    return path.count(".") == 1 and key_of(path.partition(".")[2]) in ("id", key_of(role))


def _role_inside(path: str, role_of: Callable[[str], str | None]) -> str | None:
    """The role of what stands at a path; of an `id` that of its owner."""
    *owners, name = path.split(".")
    return OWNERS.get(key_of(owners[-1])) if key_of(name) == "id" else role_of(name)


def _repeats(values: pl.Series) -> bool:
    known = values.drop_nulls()
    return len(known) > 1 and known.n_unique() < REPEATED * len(known)


def _clock_beside(day: str, free: list[str], sample: pl.DataFrame) -> str | None:
    """A column of clock times, where `day` holds days only."""
    if day not in sample.columns or sample[day].dtype not in (pl.String, pl.Date):
        return None
    days = sample[day].cast(pl.String).drop_nulls()
    if days.str.contains(":", literal=True).any():
        return None
    texts = {name: sample[name].cast(pl.String).drop_nulls() for name in free if name != day and sample[name].dtype in (pl.String, pl.Time)}
    return next((name for name, known in texts.items() if len(known) and known.str.contains(CLOCK).all()), None)
