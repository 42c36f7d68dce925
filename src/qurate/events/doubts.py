"""What a table's values look like they have lost, or are not: notes that name it, before anything is learned from it."""

import re

import polars as pl

from qurate.errors import Code, UserError
from qurate.events.answer_names import may_say, returns_said, types_in
from qurate.events.fields import MISSING, key_of
from qurate.events.json_documents import objects_as_rows, without_constants
from qurate.events.listed import ANSWER_KEYS, TRUTH, TYPE_KEYS, Listed
from qurate.events.paths import paths_in
from qurate.events.role_rows import NOBODY, NOBODY_NUMBERS
from qurate.events.roles import Roles

CUT = r"^[+-]?\d(?:[.,]\d+)?[eE]\+?\d{2,}$"
"""A number as a spreadsheet shows a long one: `1.23457E+12`."""
COUNTED = r"^([^:\s]+):\d{1,3}$|^\d{1,3} ?[x×*] ?(\S.*)$"
"""An id with how many of it: `p1:2`, `2x p1`."""
NAMED = r"(?i)(?:^|[|;])(?:product_?id|item_?id|sku|quantity|qty|price|total|subtotal):"
"""Several things said of an item: `product_id:50|quantity:1`."""
UNSEEN = r"[\x{200b}-\x{200f}\x{2060}\x{feff}\x{00ad}\x00-\x08]"
"""Blanks of no width, marks of direction, soft hyphens, control characters."""
SEVERAL = r"^[^\s,;]*\d[^\s,;]*(?:(?:\s*[,;]\s*|\s+)[^\s,;]*\d[^\s,;]*)+$"
OBJECT = r"""^\s*\{\s*["'](\w+)["']\s*:"""
LIST_KEYS = (
    *("items", "itemids", "itemlist", "products", "productids", "skus", "articles", "articleids", "movies", "movieids", "songs", "tracks"),
    *("basket", "cart", "sequence", "itemsequence", "history", "purchases", "clicks"),
)
FEW = 0.01
REPEATED = 1.5
"""Parts of lists of words come again so often on average."""
EXAMPLES, LOOKED_INTO = 3, 50
SHOWN_WORDS = ("shown", "impression", "slate", "recommend", "inview", "candidate", "ranking", "exposure")


def doubts(roles: Roles, sample: pl.DataFrame, unread: list[str]) -> list[str]:
    """Notes on one table.

    Args:
        sample: its first rows. unread: columns that nothing reads.
    """
    notes = []
    for name in ("user_id", "item_id", "session_id", "timestamp"):
        column = roles.source.get(name, "")
        if column in sample.columns and sample[column].dtype == pl.String:
            cut = sample[column].drop_nulls().str.strip_chars()
            cut = cut.filter(cut.str.contains(CUT))
            if len(cut) and name == "timestamp":
                notes.append(f"times such as {cut[0]!r} have lost their last digits, as spreadsheets do: export them as text or dates")
            elif len(cut):
                notes.append(f"ids such as {cut[0]!r} in {column} have lost digits, as spreadsheets do: several may have become one")
    notes += _odd_ids(roles, sample)
    column = roles.source.get("item_id", "")
    if column in sample.columns and not roles.explode and "item_id" not in roles.exprs:
        several = ids_in_one(sample[column])
        several = several if len(several) > FEW * sample.height else words_in_one(sample[column])
        if len(several) > FEW * sample.height:
            notes.append(
                f"{column} such as {several[0]!r} may be several items: each text is read as one id; "
                f"a column named items is read as baskets, --map shown={column} as lists that were shown"
            )
    notes += _no_items(roles, sample)
    notes += _no_propensity(roles, sample)
    notes += _unread_answers(roles, sample, unread)
    if roles.says_nothing:
        notes += returns_said(unread, sample)
        notes += [
            f"every row counts as click, whatever {column} says, such as {sample[column].drop_nulls()[0]!r}: say --map type={column}"
            for column in types_in(unread, sample)
        ]
        said = [column for column in may_say(unread, sample) if key_of(column) not in (*ANSWER_KEYS, *TYPE_KEYS)]
        if said:
            names = ", ".join(said[:EXAMPLES]) + (", ..." if len(said) > EXAMPLES else "")
            notes.append(f"every row counts as click, whatever {names} may say: it is not read; if 1 is a click: --map clicked=COLUMN")
        notes += [
            f"{column} is not read: it says neither 0 and 1 nor no and yes, so it does not say what was clicked"
            for column in unread
            if key_of(column) in ANSWER_KEYS and not sample[column].dtype.is_nested()
        ]
        notes += [
            f"{column} is not read: 0 and 1 name no event; if 1 is a click, say --map clicked={column}"
            for column in unread
            if key_of(column) in TYPE_KEYS and not sample[column].dtype.is_nested()
        ]
    return notes


def _no_items(roles: Roles, sample: pl.DataFrame) -> list[str]:
    """Rows that name no item, or by a word that stands for none."""
    column = roles.source.get("item_id", "")
    if column not in sample.columns or "shown" in roles.source:
        return []
    values, notes = sample[column], []
    nested = isinstance(values.dtype, pl.List)
    texts = values.cast(pl.String).str.strip_chars().str.to_lowercase() if not values.dtype.is_nested() else pl.Series(column, [""])
    none = (values.is_null() | (values.list.len() == 0)) if nested else texts.is_null() | texts.is_in(["", *map(str.lower, MISSING)])
    empty = int(none.sum())
    if empty > FEW * len(values) and not roles.says_nothing and (nested or not values.dtype.is_nested()):
        key = column.rpartition(".")[2]
        others = [path for path in paths_in(sample) if path != column and path.rpartition(".")[2] == key] if "." in column else []
        more = f"; {', '.join(others[:EXAMPLES])} may hold them: only one path is read" if others else ""
        if inner := _list_with(key, sample.filter(none), column.partition(".")[0]):
            way = f"{column.partition('.')[0]}.{inner}"
            more += f"; {way} holds several of them: {objects_as_rows(column.partition('.')[0], inner)}"
        lost = _only_without(roles, sample.filter(none), sample)
        notes.append(f"{empty:,} of {len(values):,} rows name no item: they are events without one{lost}{more}")
    counts = texts.filter(texts.is_in([word for word in NOBODY if word not in (*MISSING, *NOBODY_NUMBERS)])).value_counts(name="n")
    notes += [
        f"item {name!r} of {n:,} in {len(texts):,} rows is no item: leave these rows out, or leave it empty"
        for name, n in counts.sort(column).rows()
        if n > FEW * len(texts)
    ]
    return notes


def _list_with(key: str, rows: pl.DataFrame, column: str) -> str:
    """The name of a list within the objects of `column` whose own objects have `key`; "" where there is none."""
    for value in rows[column].head(LOOKED_INTO).to_list() if column in rows.columns else ():
        record = without_constants(value) if isinstance(value, str) else value
        for name, inside in record.items() if isinstance(record, dict) else ():
            if isinstance(inside, list) and any(isinstance(one, dict) and key in one for one in inside):
                return str(name)
    return ""


def _only_without(roles: Roles, rows: pl.DataFrame, sample: pl.DataFrame) -> str:
    """The types whose rows all are among `rows`, which name no item: nothing that is shown can be credited with them."""
    column = roles.source.get("type", "")
    if column not in sample.columns or sample[column].dtype != pl.String:
        return ""
    counts = dict(sample[column].drop_nulls().value_counts(name="n").iter_rows())
    lost = [name for name, n in rows[column].drop_nulls().value_counts(name="n").sort(column).rows() if n == counts[name]]
    return f", among them all of {', '.join(lost[:EXAMPLES])}{', ...' if len(lost) > EXAMPLES else ''}" if lost else ""


def _unread_answers(roles: Roles, sample: pl.DataFrame, unread: list[str]) -> list[str]:
    """0/1 columns beside a type that is the same in every row, as of rows that all were shown."""
    column = roles.source.get("type", "")
    if column not in sample.columns or sample[column].dtype.is_nested() or sample[column].n_unique() != 1:
        return []
    known = {name: sample[name].drop_nulls().cast(pl.String).str.to_lowercase() for name in unread if key_of(name) in ANSWER_KEYS}
    said = [name for name, values in known.items() if values.n_unique() == 2 and values.is_in(list(TRUTH)).all()]
    why = f"is not read, because {column} says what happened, and says {sample[column][0]} in every row"
    return [f"{name} holds 0 and 1 and {why}: leave {column} out if every row was shown and a 1 is what came of it" for name in said]


def _no_propensity(roles: Roles, sample: pl.DataFrame) -> list[str]:
    """Rows that show something and have no probability, where others have one."""
    shown = sample.filter(pl.col(roles.source["shown"]).is_not_null()) if roles.source.get("shown") in sample.columns else sample
    if roles.source.get("propensity") not in sample.columns or not ("shown" in roles.source or roles.answers):
        return []
    empty = shown[roles.source["propensity"]].null_count()
    return [f"{empty:,} of {shown.height:,} rows show something without a propensity"] if empty else []


def _odd_ids(roles: Roles, sample: pl.DataFrame) -> list[str]:
    """Ids with signs that nobody sees, and numbers that a float does not hold."""
    notes = []
    for name in ("user_id", "item_id", "session_id"):
        column = roles.source.get(name, "")
        if column not in sample.columns:
            continue
        values = sample[column].drop_nulls()
        if values.dtype == pl.String and len(odd := values.filter(values.str.contains(UNSEEN))):
            notes.append(f"ids such as {odd[0]!a} in {column} hold signs that are not seen: they differ from the same ids without them")
        whole, digits = (2**24, 7) if values.dtype == pl.Float32 else (2**53, 15)
        if values.dtype.is_float() and len(odd := values.filter(values.is_finite() & (values.abs() > whole))):
            notes.append(f"ids such as {odd[0]:.0f} in {column} are floats, which hold {digits} digits: several may have become one")
    column = roles.source.get("timestamp", "")
    if column in sample.columns and sample[column].dtype == pl.Float32:
        notes.append(f"{column} holds floats of 32 bits, which have 7 digits: times since 1970 in them are minutes apart, or more")
    return notes


def ids_in_one(values: pl.Series) -> pl.Series:
    """Texts of several parts, each with a digit, between commas, semicolons or blanks."""
    if values.dtype != pl.String:
        return values.clear()
    known = values.drop_nulls().str.strip_chars()
    return known.filter(known.str.contains(SEVERAL))


def words_in_one(values: pl.Series) -> pl.Series:
    """Texts that most rows separate by semicolons, or by commas where their parts come again and differ in number."""
    if values.dtype != pl.String:
        return values.clear()
    texts = values.drop_nulls().str.strip_chars().unique(maintain_order=True)
    for sign in (";", ","):
        several = texts.filter(texts.str.contains(rf"[^{sign}\s]\s*{sign}\s*[^{sign}\s]"))
        sizes, parts = several.str.count_matches(sign, literal=True), several.str.split(sign).explode().str.strip_chars()
        lists = sign == ";" or (sizes.n_unique() > 1 and len(parts) >= REPEATED * parts.n_unique())
        if 2 * len(several) > len(texts) and lists:
            return values.filter(values.str.strip_chars().is_in(several.implode()))
    return values.clear()


def are_lists(column: str, values: pl.Series) -> bool:
    """Whether a column's name says that it holds several items, and some of its texts do."""
    return key_of(column) in LIST_KEYS and (len(ids_in_one(values)) > 0 or len(words_in_one(values)) > 0)


def refuse_objects(roles: Roles, sample: pl.DataFrame, where: str) -> None:
    """
    Raises:
        UserError: objects where an id is asked for: their JSON text would be the id.
    """
    for name in ("user_id", "session_id", "decision_id", "item_id", "timestamp", "type"):
        column = roles.source.get(name, "")
        if column not in sample.columns or name in roles.exprs or name in roles.explode:
            continue
        dtype, inside, got = sample[column].dtype, "", ""
        if name == "type" and isinstance(dtype, pl.List | pl.Array):
            hint = "write a row for each of them, or say one type for all rows with --type"
            raise UserError(
                "one name of what happened in each row", "lists", where=f"{where}, column {column}", hint=hint, code=Code.BAD_MAP
            )
        if isinstance(dtype, pl.Struct):
            fields = [field.name for field in dtype.fields]
            inside = next((field for field in fields if key_of(field) in ("id", key_of(name))), fields[0])
            got = f"objects of {', '.join(fields)}"
        elif dtype == pl.String and name != "item_id":
            known = sample[column].drop_nulls()
            objects = known.filter(known.str.contains(OBJECT))
            if len(objects) > len(known) / 2:
                first = re.match(OBJECT, objects[0])
                inside, got = first[1] if first else "id", f"objects such as {objects[0][:60]}"
        if got:
            expected = {"timestamp": "times", "type": "names of what happened"}.get(name, f"ids in {name}")
            hint = f"name the field inside: --map {name}={column}.{inside}"
            raise UserError(expected, got, where=f"{where}, column {column}", hint=hint, code=Code.BAD_MAP)


def refuse_pairs(ids: pl.Series, column: str, where: str) -> None:
    """
    Args:
        ids: items of the lists of `column`.

    Raises:
        UserError: items with a score or a number of them beside the id, which would be part of it; or objects.
    """
    known = ids.drop_nulls()
    objects = known.filter(known.str.contains(OBJECT))
    if len(objects):
        key = re.match(OBJECT, objects[0])
        hint = f"name the field inside, with the way to it: {column}.KEY.{key[1] if key else 'id'}"
        raise UserError(
            "lists of ids", f"objects such as {objects[0][:60]}", where=f"{where}, column {column}", hint=hint, code=Code.BAD_MAP
        )
    pairs = known.filter(known.str.contains(r".:-?\d*\.\d+$"))
    counted = known.filter(known.str.contains(COUNTED))
    counts = counted.str.extract(r"^(\d+)|:(\d+)$", 0).str.strip_chars(":")
    often = counts.value_counts(sort=True, name="n")
    things = counted.str.replace(COUNTED, "${1}${2}").n_unique()
    # Of many things few numbers, one of each most often; ids of a few kinds, such as track:7, have many numbers.
    if len(counted) and len(often) < min(things, counted.n_unique()) and (counts == "1").sum() >= often["n"].max():  # type: ignore[operator]
        pairs = counted
    named = known.filter(known.str.contains(NAMED))
    pairs = named if len(named) > len(pairs) else pairs
    if len(pairs) > len(known) / 2:
        hint = "write the ids, and what is said of them, into lists of their own"
        raise UserError("lists of ids", f"items such as {pairs[0]!r}", where=f"{where}, column {column}", hint=hint, code=Code.BAD_MAP)


def refuse_answers_in_basket(listed: Listed, column: str, where: str) -> None:
    """
    Raises:
        UserError: lists that say what was clicked of them are no baskets: what was not clicked would count as well.
    """
    if listed.taken is not None:
        hint = f"say --map shown={column}: then what was not clicked is no event"
        got = f"lists of {listed.form}, which say what came of each item"
        raise UserError("lists of what was bought or clicked together", got, where=where, hint=hint, code=Code.BAD_MAP)


def is_shown(column: str) -> bool:
    """Whether a column's name says that its lists were shown.

    >>> is_shown("impressions"), is_shown("items")
    (True, False)
    """
    return any(word in key_of(column) for word in SHOWN_WORDS)
