"""Names of columns that say what came of what was shown: `click_bool`, `is_booked`, `response`; and columns that may say so."""

import re

import polars as pl

from qurate.events.fields import Columns, key_of
from qurate.events.listed import ANSWER_KEYS, TRUTH, vector_of

MORE_ANSWERS = {
    **dict.fromkeys(("booking", "booked", "ordered", "orders"), "purchase"),
    **dict.fromkeys(("install", "installed"), "install"),
    **dict.fromkeys(("download", "downloaded"), "download"),
}
"""What a 1 means, beside ANSWER_KEYS, in a name that has another word as well, such as `is_booking`."""
ABOUT = frozenset(
    (
        *("is", "was", "has", "did", "bool", "flag", "ind", "indicator", "binary", "label", "labels", "list", "lists", "vector"),
        *("user", "item", "items", "id", "ids", "sku", "skus", "product", "products", "hash"),
    )
)
"""Words beside one that says what happened; the rest of the name must say it."""
RESPONSES = [[word] for word in ("response", "responses", "feedback", "answer", "answers", "outcome", "outcomes", "target", "taken")]
"""Last words in the name of a list of 0 and 1 beside a list of items: without one it may be a feature of the items."""
MENTIONS = ("click", "purchas", "bought", "booking", "convers", "install", "recommend", "thumb", "like", "点击", "购买")
EVENT_WORDS = (
    *("view", "click", "cart", "purchas", "bought", "buy", "order", "watch", "play", "like", "share", "wish", "visit", "search"),
    *("浏览", "瀏覽", "点击", "點擊", "购买", "購買", "加购", "收藏", "下单", "下單"),
)
"""Parts of the words of event types."""
MAX_WORDS = 20
QUANTITIES = ("quantity", "qty", "units", "amount", "menge", "数量", "數量")


def words_of(column: str) -> list[str]:
    """The words of a name, in small letters.

    >>> words_of("isClicked_items")
    ['is', 'clicked', 'items']
    """
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^\W\d_a-zA-Z]+", column)]


def answer_of(column: str) -> str | None:
    """The type of event that a 1 in a column of this name is, None where the name says none.

    >>> answer_of("click_bool"), answer_of("is_mobile"), answer_of("purchased_items")
    ('click', None, 'purchase')
    """
    if (known := ANSWER_KEYS.get(key_of(column))) is not None:
        return known
    words = words_of(column)
    said = "".join(word for word in words if word not in ABOUT)
    return (ANSWER_KEYS | MORE_ANSWERS).get(said) if 0 < len(said) < len("".join(words)) else None


def in_order(columns: list[str]) -> list[str]:
    """Those columns whose names say an answer: usual names first, in the order of ANSWER_KEYS."""
    named = {key_of(column): column for column in reversed(columns)}
    usual = [named[key] for key in ANSWER_KEYS if key in named]
    return [*usual, *(column for column in columns if column not in usual and answer_of(column))]


def fits(columns: Columns, column: str, ids: pl.Expr, sample: pl.DataFrame) -> bool:
    """Whether a column holds, in most rows, as many 0 and 1 as a list has items.

    Args:
        ids: of the lists, List(String).
    """
    if columns[column].is_nested() and not isinstance(columns[column], pl.List | pl.Array):
        return False
    vector = vector_of(columns, column)
    counts = sample.select(vector.list.len().alias("n"), ids.list.len().alias("k"), vector.list.contains(None).alias("odd"))
    counts = counts.filter(pl.col("k").is_not_null() & pl.col("n").is_not_null())
    return 2 * counts.filter((pl.col("n") == pl.col("k")) & ~pl.col("odd")).height > counts.height


def may_say(unread: list[str], sample: pl.DataFrame) -> list[str]:
    """Columns that nothing reads and that may say what happened: by a word in their name, or because they hold 0 and 1."""
    flat = [column for column in unread if column in sample.columns and not sample[column].dtype.is_nested()]
    return [column for column in flat if any(word in key_of(column) for word in MENTIONS) or _zero_one(sample[column])]


def types_in(unread: list[str], sample: pl.DataFrame) -> list[str]:
    """Columns that nothing reads and that hold few words, most of which are those of event types."""
    found = []
    for column in unread:
        if column not in sample.columns or sample[column].dtype != pl.String:
            continue
        words = sample[column].str.strip_chars().str.to_lowercase().drop_nulls().unique()
        said = words.str.contains_any(list(EVENT_WORDS)).sum()
        if 1 < len(words) <= MAX_WORDS and 2 * said > len(words):
            found.append(column)
    return found


def _zero_one(values: pl.Series) -> bool:
    words = values.cast(pl.String).str.strip_chars().str.to_lowercase().drop_nulls().unique()
    return len(words) == 2 and bool(words.is_in(list(TRUTH)).all())


def returns_said(unread: list[str], sample: pl.DataFrame) -> list[str]:
    """Notes on quantities below 0 that nothing reads: returns, which would count as the other rows do."""
    notes = []
    for column in unread:
        if not any(word in key_of(column) for word in QUANTITIES) or sample[column].dtype.is_nested():
            continue
        below = int((sample[column].cast(pl.Float64, strict=False) < 0).sum())
        if below:
            option = f"--type purchase --map value={column}"
            notes.append(f"{column} is below 0 in {below:,} of {sample.height:,} rows, which count as clicks like the others: say {option}")
    return notes
