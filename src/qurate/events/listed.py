"""Lists of items in one field: JSON, Python or numpy text, `a|b`, `a-1 b-0`, `{a: 1}`, lists of objects, lists as such.

Each item may carry an answer, 1 where the customer took it. What cannot be read is said, never split into pieces.
"""

import ast
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import polars as pl

from qurate.events.fields import Columns, flat, key_of, plain_list, plain_lists, tidy
from qurate.events.schema import CANDIDATE

ID_KEYS = (
    *("itemid", "productid", "articleid", "contentid", "videoid", "movieid", "newsid", "asin"),
    *("id", "item", "product", "sku", "article"),  # beside one of the others `id` is that of a line
)
ANSWER_KEYS = {
    "clicked": "click",
    "click": "click",
    "isclick": "click",
    "isclicked": "click",
    "label": "click",
    "reward": "click",
    "y": "click",
    "clk": "click",
    "clicks": "click",
    "labels": "click",
    "like": "like",
    "dislike": "dislike",
    "isdislike": "dislike",
    "share": "share",
    "isshare": "share",
    "comment": "comment",
    "iscomment": "comment",
    "follow": "follow",
    "cart": "cart",
    "purchase": "purchase",
    "buy": "purchase",
    "converted": "purchase",
    "conversion": "purchase",
    "isconversion": "purchase",
    "purchased": "purchase",
    "ispurchased": "purchase",
    "ispurchase": "purchase",
    "bought": "purchase",
    "isbuy": "purchase",
    "liked": "like",
    "isliked": "like",
    "islike": "like",
    "isfollow": "follow",
    "addedtocart": "cart",
    "iscart": "cart",
    **dict.fromkeys(("点击", "是否点击", "點擊", "是否點擊"), "click"),
    **dict.fromkeys(("购买", "是否购买", "購買", "是否購買"), "purchase"),
    **dict.fromkeys(("收藏", "是否收藏", "是否喜欢", "是否点赞"), "like"),
    **dict.fromkeys(("加购", "是否加购"), "cart"),
}
"""Names of a 0/1 column or key beside a shown item (without `_` and capitals), and what a 1 means."""

TYPE_KEYS = (
    *("eventtype", "event", "action", "behavior", "behaviour", "interaction", "eventname", "activity", "behaviortype"),
    *("behaviourtype", "interactiontype", "actiontype", "activitytype", "usereventtype", "useraction"),
    *("feedbacktype", "feedback", "reaction", "reactiontype"),
    *("行为类型", "行为", "用户行为", "事件类型", "事件", "操作类型", "操作", "行為類型", "行為", "事件類型", "動作"),
)
"""Names of a column that says what happened."""

STRUCTURED = r"^\s*(?:\[|\{|\(|array\(|\"\[|\"\{)"
LABELLED = r"^\s*(?:\[[^\[\]{}]*\]|\([^(){}]*\))\s*\w"
"""A name that begins with a word in brackets, such as `[SALE] red shoe` or `(500) Days`: no list."""
IN_BRACKETS = r"^\s*[\[(]([^\[\](){}\"',;|]*)[\])]\s*$"
"""One word in brackets, such as `[REC]`."""
_TOKEN = r"""(?:'[^']*'|"[^"]*"|[^\s,'"\[\]{}()]+)"""
_NUMPY = re.compile(rf"\[\s*({_TOKEN}(?:\s+{_TOKEN})*)?\s*\]")
_BARE = re.compile(r"""[\[({]?\s*[^\[\](){}'":]*[\])}]?""")
_ARRAY = re.compile(r"array\((.*?)(?:,\s*dtype=[^)]*)?\)", re.DOTALL)

PARSED = "_parsed_"
"""Before the name of a column of text: what `_parse_all` makes of it."""

ITEMS = {"ids": pl.List(pl.String), "taken": pl.List(pl.String)}
"""Items of a text, and those whose answer is 1; both are null where it cannot be read."""

Item = tuple[str | None, int | None]


@dataclass(frozen=True)
class Listed:
    """A column of lists."""

    ids: pl.Expr  # List(String), null where empty or unreadable
    taken: pl.Expr | None  # List(String): the items whose answer is 1; None: the lists hold no answers
    answered: pl.Expr | None  # List(Int8), for a vector of answers of its own
    unread: pl.Expr | None  # bool: text that cannot be read
    form: str  # for people: "objects", "id-0/1", "text", "list"
    means: str = "click"  # type of the events that the answers are
    parsed: pl.Expr | None = None  # the column PARSED + name, which must be made before the others, so that text is parsed once


def items_of(columns: Columns, name: str, sample: pl.Series) -> Listed:
    """What a column of lists holds.

    Args:
        columns: of the table.
        name: the column.
        sample: some thousands of its values, to tell from whether the items carry answers.
    """
    dtype = columns[name]
    raw = pl.col(name)
    if isinstance(dtype, pl.List | pl.Array) and isinstance(dtype.inner, pl.Struct):
        return _of_records(raw, dtype.inner)
    if isinstance(dtype, pl.Struct):
        return _parsed(name, raw.struct.json_encode(), sample.struct.json_encode() if len(sample) else sample.cast(pl.String))
    if isinstance(dtype, pl.List | pl.Array):
        if dtype.inner.is_nested():
            return Listed(pl.lit(None, pl.List(pl.String)), None, None, raw.is_not_null(), "lists of lists")
        texts = raw.cast(pl.List(pl.String))
        inside = pl.element().str.contains(STRUCTURED) & ~pl.element().str.contains(LABELLED)
        unread = texts.list.eval(inside).list.any() if dtype.inner == pl.String else None
        ids = texts.list.eval(tidy(pl.element()))
        known = sample.cast(pl.List(pl.String)).explode().drop_nulls()
        listed = _suffixed(pl.when(ids.list.len() > 0).then(ids), known) or _plain(ids, "list")
        return replace(listed, ids=pl.when(~unread).then(listed.ids), unread=unread) if unread is not None else listed
    known = sample.cast(pl.String).drop_nulls()
    if known.str.contains(STRUCTURED).any():
        return _parsed(name, raw.cast(pl.String), known)
    ids = plain_list(raw.cast(pl.String))
    values = pl.select(plain_list(pl.lit(known))).to_series().explode().drop_nulls()
    unread = raw.cast(pl.String).str.contains(STRUCTURED)
    listed = _suffixed(ids, values) or _plain(ids, "text")
    return Listed(pl.when(~unread).then(listed.ids), listed.taken, None, unread, listed.form)


def _plain(ids: pl.Expr, form: str) -> Listed:
    return Listed(pl.when(ids.list.len() > 0).then(ids), None, None, None, form)


def _suffixed(ids: pl.Expr, known: pl.Series) -> Listed | None:
    """MIND's `id-1 id-0`, where every entry of the sample ends so."""
    if len(known) == 0 or not known.str.contains(r".-[01]$").all():
        return None
    bare = pl.element().str.replace(r"-[01]$", "")
    taken = ids.list.eval(pl.when(pl.element().str.ends_with("-1")).then(bare)).list.drop_nulls()
    return Listed(ids.list.eval(bare), taken, None, None, "id-0/1")


def _of_records(raw: pl.Expr, record: pl.Struct) -> Listed:
    names = [field.name for field in record.fields]
    key = _id_key(names)
    if key is None:
        return Listed(pl.lit(None, pl.List(pl.String)), None, None, raw.is_not_null(), f"objects without an id among {', '.join(names)}")
    ids = raw.list.eval(tidy(pl.element().struct.field(key).cast(pl.String)))
    answer = next((name for name in names if key_of(name) in ANSWER_KEYS), None)
    ids = pl.when(raw.list.len() > 0).then(ids)
    if answer is None:
        return Listed(ids, None, None, None, f"objects ({key})")
    element = pl.element().struct.field
    taken = raw.list.eval(pl.when(truth(element(answer)) == 1).then(tidy(element(key).cast(pl.String)))).list.drop_nulls()
    return Listed(ids, taken, None, None, f"objects ({key}, {answer})", ANSWER_KEYS[key_of(answer)])


def is_list(values: pl.Series, times: bool = False) -> bool:
    """Whether a column holds lists: as such, as bracketed text, or with `|` between; times also with blanks or commas."""
    if isinstance(values.dtype, pl.List | pl.Array):
        return True
    if values.dtype != pl.String:
        return False
    known = values.drop_nulls().str.strip_chars()
    known = known.filter(known != "")
    if not len(known):
        return False
    if (known.str.contains(STRUCTURED) & ~known.str.contains(LABELLED)).mean() > 0.5 or known.str.contains("|", literal=True).mean() > 0.5:  # type: ignore[operator]
        return True
    return times and bool(known.str.contains(r"^\d{9,}([ ,;]+\d{9,})*$").all() and known.str.contains(r"\d[ ,;]+\d").any())


def _parsed(name: str, text: pl.Expr, known: pl.Series) -> Listed:
    parsed = text.map_batches(_parse_all, return_dtype=pl.Struct(ITEMS), is_elementwise=True)
    ids, taken = (pl.col(f"{PARSED}{name}").struct.field(part) for part in ITEMS)
    unread = ids.is_null() & text.is_not_null() & ~text.str.strip_chars().is_in(["", "null", "None", "nan", "NaN"])
    ids = pl.when(ids.list.len() > 0).then(ids)
    values = known.unique(maintain_order=True).to_list()
    if not any(answer is not None for value in values if value for _, answer in parse_items(value) or ()):
        return Listed(ids, None, None, unread, "text of lists", parsed=parsed)
    means = next((ANSWER_KEYS[k] for value in values if value for k in _keys(value) if k in ANSWER_KEYS), "click")
    return Listed(ids, taken, None, unread, "text of lists with answers", means, parsed)


def _keys(text: str) -> list[str]:
    value = _structure(text)
    first = value[0] if isinstance(value, list) and value else value
    return [key_of(str(key)) for key in first] if isinstance(first, dict) else []


def _parse_all(texts: pl.Series) -> pl.Series:
    # The same lists are shown again and again: each text is parsed once.
    found = {text: _ids_and_taken(parse_items(text)) for text in texts.drop_nulls().unique().to_list()}
    rows = [found.get(text, (None, None)) for text in texts.to_list()]
    return pl.DataFrame(rows, schema=ITEMS, orient="row").to_struct(texts.name)


def _ids_and_taken(items: list[Item] | None) -> tuple[list[str | None] | None, list[str] | None]:
    if items is None:
        return None, None
    return [item for item, _ in items], [item for item, answer in items if answer == 1 and item is not None]


def parse_items(text: str) -> list[Item] | None:
    """(id, answer 0 | 1 | None) of each item in a text, None where it cannot be read.

    >>> parse_items('[{"item_id": "a", "clicked": true}]')
    [('a', 1)]
    """
    stripped = text.strip()
    if not stripped or stripped in ("null", "None", "nan", "NaN"):
        return []
    if not re.match(STRUCTURED, stripped):
        return [(item, None) for item in re.split(r"\s*[|]\s*|\s*,\s*|\s*;\s*|\s+", stripped) if item]
    return _items(_structure(stripped))


def _structure(text: str) -> Any:
    """The value of JSON, Python or numpy text, None where it is none of them."""
    inner = _ARRAY.fullmatch(text)
    if inner:
        return _structure(inner[1].strip())
    with suppress(msgspec.DecodeError, RecursionError):  # not JSON: one of the other forms
        value = msgspec.json.decode(text)
        return _structure(value) if isinstance(value, str) and re.match(STRUCTURED, value) else value
    if _NUMPY.fullmatch(text):  # before Python, which reads 'a' 'b' as one string
        tokens: list[str] = re.findall(_TOKEN, text[1:-1])
        return None if "..." in tokens else [token.strip("'\"") for token in tokens]
    with suppress(ValueError, SyntaxError, RecursionError, MemoryError):  # not Python either
        return ast.literal_eval(text)
    if _BARE.fullmatch(text) and text[0] in "[({" and text[-1] in "])}":
        return [token.strip() for token in text[1:-1].split(",") if token.strip()]
    return None


def _items(value: Any) -> list[Item] | None:
    """The items of a decoded value."""
    if isinstance(value, dict):
        return _items_of_object(value)
    if not isinstance(value, list | tuple | set | frozenset):
        return None
    entries = sorted(value, key=str) if isinstance(value, set | frozenset) else list(value)
    if entries and all(isinstance(entry, dict) for entry in entries):
        return _items_of_records(entries)
    if entries and all(isinstance(entry, list | tuple) and len(entry) == 2 and _answer(entry[1]) is not None for entry in entries):
        return [(_id(entry[0]), _answer(entry[1])) for entry in entries]
    if any(isinstance(entry, dict | list | tuple | set | bool) or entry is ... for entry in entries):
        return None
    return [(_id(entry), None) for entry in entries]


def _items_of_object(value: dict[Any, Any]) -> list[Item] | None:
    """`{id: 0/1}`, one record, or columns `{"item_id": [...], "clicked": [...]}`."""
    if value and all(_answer(answer) is not None for answer in value.values()):
        return [(_id(key), _answer(answer)) for key, answer in value.items()]
    key = _id_key([str(name) for name in value])
    if key is None or not isinstance(value[key], list):
        return _items_of_records([value]) if key is not None else None
    answer = next((name for name in value if key_of(str(name)) in ANSWER_KEYS), None)
    answers = value[answer] if answer is not None else [None] * len(value[key])
    if not isinstance(answers, list) or len(answers) != len(value[key]):
        return None
    return [(_id(item), _answer(taken)) for item, taken in zip(value[key], answers)]


def _items_of_records(entries: Sequence[dict[Any, Any]]) -> list[Item] | None:
    key = _id_key([str(name) for name in entries[0]])
    if key is None or any(key not in entry or isinstance(entry[key], dict | list) for entry in entries):
        return None
    answer = next((name for name in entries[0] if key_of(str(name)) in ANSWER_KEYS), None)
    return [(_id(entry[key]), None if answer is None else _answer(entry.get(answer)) or 0) for entry in entries]


def _id_key(names: Sequence[str]) -> str | None:
    """The key that holds an item's id: a usual name, or the only one there is."""
    by_name = {key_of(name): name for name in reversed(names)}
    known = next((by_name[key] for key in ID_KEYS if key in by_name), None)
    rest = [name for name in names if key_of(name) not in ANSWER_KEYS]
    return known if known is not None else rest[0] if len(rest) == 1 else None


def _id(value: Any) -> str | None:
    if value is None or value != value:  # NaN
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = str(value).strip()
    return text or None


def _answer(value: Any) -> int | None:
    """0 or 1 for what says no or yes, None for anything else."""
    if isinstance(value, bool | int | float):
        return int(value) if value in (0, 1) else None
    return TRUTH.get(value.strip().lower()) if isinstance(value, str) else None


TRUTH = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1, "no": 0, "yes": 1, "f": 0, "t": 1, "n": 0, "y": 1}
TRUTH |= dict.fromkeys(
    ("否", "无", "無", "off", "nein", "non", "não", "нет", "いいえ", "아니오", "아니요", "falsch", "faux", "falso", "×", "✗", "✘"), 0
)
TRUTH |= dict.fromkeys(
    ("是", "有", "on", "ja", "oui", "si", "sí", "sim", "да", "はい", "예", "네", "wahr", "vrai", "vero", "verdadero", "√", "✓", "✔"), 1
)
SIGNS = {"-1": 0, "1": 1, "+1": 1, "-1.0": 0, "1.0": 1}
"""The same where nothing but -1 and 1 stands in a column."""


def truth(raw: pl.Expr) -> pl.Expr:
    """0 or 1 (Int8) for what says no or yes, null for anything else."""
    return raw.cast(pl.String).str.strip_chars().str.to_lowercase().replace_strict(TRUTH, default=None, return_dtype=pl.Int8)


def vector_of(columns: Columns, name: str) -> pl.Expr:
    """A list of 0/1 as List(Int8): a list, or text such as `1 0 0`, `[1, 0, 0]`, `1|0|0`; null where it is none."""
    dtype = columns[name]
    if isinstance(dtype, pl.List | pl.Array):
        return pl.col(name).cast(pl.List(pl.String)).list.eval(truth(pl.element()))
    bare = pl.col(name).cast(pl.String).str.replace_all(r"(?i)array|dtype=\w+|[\[\](){}\"']", " ")
    return bare.str.extract_all(r"[^\s,;|]+").list.eval(truth(pl.element()))


def text_list(columns: Columns, name: str) -> pl.Expr:
    """A list of ids: a list, text of one (JSON, Python, numpy), or text with `|`, commas or blanks; null where empty.

    The ids become what `ident` makes of them elsewhere. Text that begins as JSON and is none becomes a list of one null,
    which the reader rejects: an id never holds half an object.

    Raises:
        UserError: the column holds objects, or lists of lists or of objects.
    """
    raw, dtype = pl.col(name), columns[name]
    flat({name: getattr(dtype, "inner", dtype)}, name)
    if isinstance(dtype, pl.List | pl.Array):
        listed = raw.cast(pl.List(pl.String))
        listed = listed.list.eval(tidy(pl.element())) if dtype.inner == pl.String else listed
        return pl.when(listed.list.len() > 0).then(listed)
    return raw.cast(pl.String).map_batches(_lists_of, return_dtype=pl.List(pl.String), is_elementwise=True)


def number_list(columns: Columns, name: str) -> pl.Expr:
    """A list of numbers: a list, or text with `|`, commas or blanks; null where empty, NaN for what is no number."""
    raw, dtype = pl.col(name), columns[name]
    if isinstance(dtype, pl.List | pl.Array):
        return raw.cast(pl.List(pl.Float64), strict=False).list.eval(pl.element().fill_null(float("nan")))
    listed = raw.cast(pl.String).str.strip_chars("[](){} ").str.extract_all(r"[^\s,;|]+")
    return pl.when(listed.list.len() > 0).then(listed.list.eval(pl.element().cast(pl.Float64, strict=False).fill_null(float("nan"))))


def candidate_lists(columns: Columns) -> dict[str, pl.Expr]:
    """The columns `candidate.NAME`, lists of numbers."""
    return {name: number_list(columns, name) for name in columns if name.startswith(CANDIDATE)}


def _lists_of(texts: pl.Series) -> pl.Series:
    """The ids of each text; only the forms that occur among the texts are looked at."""
    structured = texts.str.contains(STRUCTURED).fill_null(False)
    if not structured.any():
        return plain_lists(texts)
    found = {text: _ids_of(text) for text in texts.filter(structured).unique().to_list()}
    rows = [(found.get(text),) for text in texts.to_list()]
    parsed = pl.DataFrame(rows, schema={texts.name: pl.List(pl.String)}, orient="row").to_series()
    rest = ~structured & texts.is_not_null()
    return parsed.zip_with(~rest, plain_lists(texts)) if rest.any() else parsed


def _ids_of(text: str) -> list[str | None] | None:
    """The ids of structured text, null for none; one that is null where the text cannot be read."""
    items = parse_items(text)
    if not items:
        return [None] if text.strip("[](){} ") else None
    return [item for item, _ in items]


def picked(batch: pl.Series) -> pl.Series:
    """The ids whose answer is 1."""
    ids, taken = batch.struct.field("ids").to_list(), batch.struct.field("taken").to_list()
    rows = [None if a is None or b is None else [i for i, t in zip(a, b) if t == 1] for a, b in zip(ids, taken)]
    return pl.Series(batch.name, rows, dtype=pl.List(pl.String))
