"""Which column is what: by `--map`, else by its name and its values. Whatever is assumed is written down for the plan."""

from collections.abc import Iterable

import polars as pl

from qurate.events.answer_names import RESPONSES, answer_of, fits, in_order, words_of
from qurate.events.answers import NOTHING, are_signs, known_words, refuse_told, refuse_unclear
from qurate.events.doubts import are_lists, doubts, refuse_answers_in_basket, refuse_objects, refuse_pairs
from qurate.events.expressions import amount, parse_value
from qurate.events.fields import MISSING, Columns, key_of
from qurate.events.listed import (
    IN_BRACKETS,
    LABELLED,
    PARSED,
    SIGNS,
    STRUCTURED,
    TRUTH,
    TYPE_KEYS,
    Listed,
    is_list,
    items_of,
    picked,
    vector_of,
)
from qurate.events.mapped import check_map, joined_values, parts_of
from qurate.events.nearest_role import USUAL
from qurate.events.ratings import RATING_KEYS, is_rating, unrated_said
from qurate.events.role_rows import each_row_a_user, joined_by_id, nobody
from qurate.events.roles import ANSWER, CLICKED, EVERY_ROW, REWARD, TAKEN, Asked, Roles, contract_names
from qurate.events.schema import STANDARD_TYPES
from qurate.events.sources import Table

PROPENSITY_KEYS = ["pscore", "propensityscore", "actionprob", "actionprobability", "loggingprob"]
MAX_TYPE_NAMES = 100


def roles_of(table: Table, asked: Asked, sample: pl.DataFrame) -> Roles:
    """What every column of the table is.

    Args:
        table: the open file.
        asked: what the user said.
        sample: its first rows.

    Raises:
        UserError: a mapping that names no column, a column twice, a name that is not the contract's.
    """
    mapped, where = asked.map_of(table), str(table.path)
    check_map(mapped, table.columns, sample, where)
    found = _Finder(table.columns, sample, mapped)
    given = asked.type_of(table)
    found.lists(where)
    found.shown_and_answers(given, where)
    found.value(asked.value)
    found.kind(given)
    found.rating(given)
    if found.told is not None and found.told not in found.used:
        refuse_told(found.told, found.sample[found.told], where)
    refuse_unclear(found.roles, found.sample, [name for name in table.columns if is_rating(name)], where)
    nobody(found.roles, found.sample)
    refuse_objects(found.roles, found.sample, where)
    found.items_missing()
    found.roles.notes += doubts(found.roles, found.sample, [name for name in table.columns if name not in found.used])
    joined_by_id(found.roles, found.sample, found.free(("id", "eventid", "requestid", "rankingid", "impressionid")))
    return found.roles


class _Finder:
    """One table's roles, found one after the other; what a column is taken for, it is not taken for again."""

    def __init__(self, columns: Columns, sample: pl.DataFrame, mapped: dict[str, str]) -> None:
        paths = {
            source: joined_values(parts_of(name, source, columns), columns) for name, source in mapped.items() if source not in columns
        }
        self.own = columns
        self.sample = sample.with_columns(**paths)
        self.columns = {**columns, **{path: self.sample[path].dtype for path in paths}}
        self.roles = Roles({}, paths)
        self.mapped, self.told = set(mapped.values()), mapped.get(CLICKED)
        self.used: set[str] = set()
        sources = set(mapped.values())
        roots = {part.partition(".")[0] for source in paths for part in source.split("+")}
        for name in contract_names([*mapped, *columns]):
            if name in mapped:
                self._take(name, mapped[name])
                for part in parts_of(name, mapped[name], columns):
                    column = part if part in columns else part.partition(".")[0]
                    self.used.add(column)
                    if column != mapped[name]:
                        self.roles.parts[column] = f"{name} (of {mapped[name]})"
            elif name in columns and name not in sources and name not in roots:
                self._take(name, name)
        self.roles.drop = [name for name in (*mapped, *roots.difference(mapped)) if name in columns and name not in sources]

    def _take(self, name: str, column: str) -> None:
        self.roles.source[name] = column
        self.used.add(column)
        if column != name:
            self.roles.rename[column] = name

    def _assume(self, name: str, column: str) -> None:
        self._take(name, column)
        self.roles.assumed.append(name)

    def free(self, keys: Iterable[str]) -> list[str]:
        """Columns of these names that nothing else has taken, in the order of the names."""
        by_key = {key_of(name): name for name in reversed(self.columns) if name not in self.used}
        return [by_key[key] for key in keys if key in by_key]

    def values(self, name: str) -> pl.Series:
        """Some values of one of the contract's columns."""
        return self.sample[self.roles.source[name]]

    def lists(self, where: str) -> None:
        """Baskets, and one row per user: `item_id` (and times, values) that hold lists become one row an event."""
        source = self.roles.source
        if "item_id" not in source or source.get("shown") == source["item_id"]:
            return
        times = "timestamp" in source and is_list(self.values("timestamp"), times=True)
        several = is_list(self.values("item_id")) or are_lists(source["item_id"], self.values("item_id"))
        if not (several or (times and self._as_many("item_id"))):
            if self.values("item_id").dtype == pl.String:
                text = pl.col(source["item_id"])
                listed = text.str.contains(STRUCTURED) & ~text.str.contains(LABELLED)
                known = self.values("item_id")
                if not known.is_in(known.str.extract(IN_BRACKETS).drop_nulls().implode()).any():  # a word in brackets is no list then
                    listed &= ~text.str.contains(IN_BRACKETS)
                self.roles.broken.append((listed, "item_id holds a list or an object"))
            return
        lists = ["item_id", *(["timestamp"] if times else [])]
        lists += [name for name in ("value", "type") if name in source and is_list(self.values(name)) and self._as_many(name)]
        for name in lists:
            holds = self._listed(name)
            if name == "item_id":
                refuse_answers_in_basket(holds, source[name], where)
                refuse_pairs(self.sample.select(holds.ids).to_series().explode(), source[name], where)
            self.roles.exprs[name] = holds.ids
            if holds.unread is not None:
                self.roles.broken.append((holds.unread, f"{name} is no list that can be read"))
        sizes = [self.roles.exprs[name].list.len() for name in lists]
        for name, size in zip(lists[1:], sizes[1:]):
            self.roles.broken.append((size != sizes[0], f"as many of {name} as of item_id are needed"))
        same = pl.all_horizontal([size == sizes[0] for size in sizes]) if len(lists) > 1 else pl.lit(True)
        for name in lists:
            self.roles.exprs[name] = pl.when(same).then(self.roles.exprs[name])
            self.roles.rename.pop(source[name], None)
        self.roles.explode = lists
        what = "one row holds several events" if times else "one row is a basket: one event for each of its items"
        self.roles.notes.append(f"{source['item_id']} holds lists: {what}")

    def _listed(self, name: str) -> Listed:
        return self._list_in(self.roles.source[name])

    def _list_in(self, column: str) -> Listed:
        listed = items_of(self.columns, column, self.sample[column])
        made = f"{PARSED}{column}"
        if listed.parsed is not None and made not in self.roles.parsed:
            self.roles.parsed[made] = listed.parsed
            self.sample = self.sample.with_columns(listed.parsed.alias(made))
        return listed

    def _as_many(self, name: str) -> bool:
        """Whether the column holds as many parts as the items, or the items as the times."""
        if name == "timestamp":
            return True
        lists = [self._listed(one).ids for one in (name, "timestamp" if name == "item_id" else "item_id")]
        counts = [self.sample.select(ids.list.len()).to_series() for ids in lists]
        return bool((counts[0] == counts[1]).mean() or 0 > 0.9)

    # what was shown, and what came of it

    def shown_and_answers(self, given: str | None, where: str) -> None:
        """`_shown` and `_taken` of lists; 0/1 columns beside an item."""
        source = self.roles.source
        if "shown" in source:
            self._shown_list(given, where)
        elif "item_id" in source and "type" not in source:
            self._answer_columns(given)
        elif "item_id" not in source and "type" not in source:
            self._bandit()

    def _shown_list(self, given: str | None, where: str) -> None:
        listed = self._listed("shown")
        roles = self.roles
        refuse_pairs(self.sample.select(listed.ids).to_series().explode(), roles.source["shown"], where)
        if listed.taken is not None:
            self._add_taken(listed.taken, given or listed.means)
        elif "item_id" not in roles.source:
            self._vectors(listed, given)
            self._answer_of_ids(listed)
        roles.exprs["shown"] = listed.ids
        roles.rename.pop(roles.source["shown"], None)
        if listed.unread is not None:
            roles.broken.append((listed.unread, "shown is no list that can be read"))
        if roles.taken:
            roles.type_from = f"the answers of {roles.source['shown']}: {', '.join(roles.taken)}"
        elif "type" not in roles.source:
            roles.type_from = f"rows with an item: {given or 'click'}; without: shown only"
            free = [column for column in self.columns if column not in self.used and "item_id" not in roles.source]
            no_answer = "is not read: it names no item shown, and is no list of 0 and 1 as long as they are"
            roles.notes += [f"{column} {no_answer}" for column in in_order(free)]
            vectors = [column for column in free if answer_of(column) is None and fits(self.columns, column, listed.ids, self.sample)]
            roles.notes += [f"{column} holds 0 and 1 for each item shown: if 1 is a click, name it clicked" for column in vectors]

    def _add_taken(self, ids: pl.Expr, kind: str, column: str = "") -> None:
        self.roles.exprs[f"{TAKEN}{kind}"] = ids
        if column:
            self.roles.source[f"taken ({kind})"] = column
            self.used.add(column)

    def _vectors(self, listed: Listed, given: str | None) -> None:
        """Lists of 0 and 1 as long as those shown, one for each type of event."""
        roles, free = self.roles, [column for column in self.columns if column not in self.used]
        named = [(column, answer_of(column) or "click") for column in in_order(free)]
        found = [(column, kind) for column, kind in named if fits(self.columns, column, listed.ids, self.sample)]
        if not found:
            others = [
                column for column in free if words_of(column)[-1:] in RESPONSES and fits(self.columns, column, listed.ids, self.sample)
            ]
            found = [(column, "click") for column in others[:1]]
        for column, kind in {kind: (column, kind) for column, kind in reversed(found)}.values():
            vector = vector_of(self.columns, column)
            both = pl.struct(listed.ids.alias("ids"), vector.alias("taken"))
            chosen = both.map_batches(picked, return_dtype=pl.List(pl.String), is_elementwise=True)
            roles.broken.append((vector.list.len() != listed.ids.list.len(), f"as many of {column} as items shown are needed"))
            roles.broken.append((vector.list.contains(None), f"{column} is not 0 or 1"))
            self._add_taken(chosen, given if given and len(found) == 1 else kind, column)

    def _answer_of_ids(self, listed: Listed) -> None:
        """`clicked`, `purchased_items` that name the item, or the items, of the list."""
        named = in_order([column for column in self.columns if column not in self.used])
        for column in [*named, *self.free(("chosen", "chosenitem", "selected"))] if not self.roles.taken else []:
            own, kind = self._list_in(column), answer_of(column) or "click"
            both = self.sample.select(listed.ids.alias("ids"), own.ids.alias("own")).drop_nulls()
            known = both.height and (both["own"].list.set_difference(both["ids"]).list.len() == 0).all()
            if known and f"{TAKEN}{kind}" not in self.roles.exprs:
                self._add_taken(own.ids, kind, column)

    def _answer_columns(self, given: str | None) -> None:
        named = in_order([name for name in self.columns if name not in self.used and not self.columns[name].is_nested()])
        told = [] if self.told is None or self.columns[self.told].is_nested() else [self.told]
        for column in [*told, *(name for name in named if name != self.told)]:
            known = known_words(self.sample[column]).str.to_lowercase()
            kind = (given or "click") if column == self.told else str(answer_of(column))
            if len(known) and (known.is_in(list(TRUTH)).all() or are_signs(column, known)):
                self._answer(column, kind)
            elif key_of(column) == REWARD and len(known) and known.cast(pl.Float64, strict=False).null_count() == 0:
                self._reward(column)
        if self.roles.type_from:
            for column in self.free(PROPENSITY_KEYS)[:1] if "propensity" not in self.roles.source else []:
                self._assume("propensity", column)

    def _answer(self, column: str, kind: str) -> None:
        """A 0/1 column: every row was shown, and a 1 is an event."""
        name = f"{ANSWER}{kind}"
        if name in self.roles.exprs:
            return
        text = pl.col(column).cast(pl.String).str.strip_chars().str.to_lowercase()
        signs = are_signs(column, known_words(self.sample[column]))
        if signs:
            self.roles.notes.append(f"{column}: -1 and 1 are read as no and yes")
        value = text.replace_strict(SIGNS if signs else TRUTH, default=None, return_dtype=pl.Int8)
        self.roles.broken.append((value.is_null() & text.is_not_null() & ~text.is_in(NOTHING), f"{column} is not 0 or 1"))
        self.roles.exprs[name] = value.fill_null(0)
        self._record(f"0/1: shown, and {kind} where 1", column)

    def _reward(self, column: str) -> None:
        self.roles.exprs[f"{ANSWER}{REWARD}"] = pl.col(column).cast(pl.Float64, strict=False)
        self.roles.broken.append(
            (pl.col(column).is_not_null() & pl.col(column).cast(pl.Float64, strict=False).is_null(), f"{column} is not a number")
        )
        self._record("shown, and a reward of this value", column)

    def _record(self, role: str, column: str) -> None:
        self.roles.source[role] = column
        self.used.add(column)
        self.roles.type_from += f"{', ' if self.roles.type_from else ''}column {column}: {role}"

    def _bandit(self) -> None:
        """action, reward, propensity: the table of a bandit, in which an action is an item."""
        action, reward = (self.free((name,)) for name in ("action", REWARD))
        if not action or not reward:
            return
        self._assume("item_id", action[0])
        self._answer_columns(None)
        if "user_id" not in self.roles.source and "session_id" not in self.roles.source:
            named = [(name, column) for name in ("user_id", "session_id") for column in self.free(USUAL[name])]
            if named:
                self._assume(*named[0])
            else:
                each_row_a_user(self.roles)

    def items_missing(self) -> None:
        """Where nothing says what happened, a row that names no item is a click on nothing."""
        source = self.roles.source
        nested = self.columns[source["item_id"]].is_nested() if "item_id" in source else True
        if self.roles.says_nothing and not nested and "item_id" not in self.roles.explode:
            text = pl.col(source["item_id"]).cast(pl.String).str.strip_chars()
            self.roles.broken.append((text.is_null() | text.is_in(MISSING), "missing item_id"))

    def value(self, expression: str | None) -> None:
        """`--value`, or the column that is mapped, or money written as text."""
        source = self.roles.source
        if expression is not None:
            known = {name: amount(name, dtype, self.sample[name])[0] for name, dtype in self.columns.items() if not dtype.is_nested()}
            self.roles.exprs["value"], used = parse_value(expression, known)
            if "value" in self.columns and source.get("value") == "value" and "value" not in used:
                self.roles.drop.append("value")
            source["value"] = expression
            self.used.update(used)
            for name in used:
                if self.columns[name] == pl.String:
                    unread = known[name].is_null() & ~pl.col(name).is_in(MISSING)
                    self.roles.broken.append((unread, f"{name} is not a number"))
            self.roles.parts |= dict.fromkeys(used, f"value (of {expression})")
        elif "value" in source and "value" not in self.roles.explode:
            self._amounts(source["value"])

    def _amounts(self, column: str) -> None:
        """The values where they are numbers as people write them."""
        number, how = amount(column, self.columns[column], self.sample[column])
        if how:
            self.roles.exprs["value"] = number
            self.roles.broken.append((number.is_null() & ~pl.col(column).is_in(MISSING), "value is not a number"))
            self.roles.rename.pop(column, None)
            self.roles.notes.append(f"{column} is read as {how}")

    def kind(self, given: str | None) -> None:
        """Where the event type comes from."""
        roles, source = self.roles, self.roles.source
        if given is not None:
            if "type" in source:
                if source["type"] == "type":
                    roles.drop.append("type")
                self.used.discard(source.pop("type"))
            if "shown" not in source and not roles.answers:
                roles.exprs["type"] = pl.lit(given)
                roles.type_from = f"--type: {given}"
            elif "shown" in source and not roles.taken and "item_id" in source:
                roles.exprs["type"] = pl.when(pl.col(source["item_id"]).is_not_null()).then(pl.lit(given)).otherwise(pl.lit("shown"))
            return
        if "type" in source and not self._says_one(source["type"]):
            roles.type_from = f"column {source['type']}"
            return
        if roles.type_from and not roles.taken and "shown" not in source:
            return
        named = [column for column in self.free(TYPE_KEYS) if self._names_types(column)]
        several = [column for column in named if self.sample[column].n_unique() > 1]
        if "type" in source:
            one, other = source["type"], (several or [source["type"]])[0]
            if other != one:
                roles.drop.append(one)
                self.used.discard(one)
                self._assume("type", other)
                roles.notes.append(f"{one} says the same of every row; {other} is read as what happened")
            roles.type_from = f"column {other}"
        elif named:
            self._assume("type", (several or named)[0])
            roles.type_from = f"column {source['type']}"

    def _says_one(self, column: str) -> bool:
        """Whether a column that nobody named as the type says one thing of all rows that is no type of the contract, such as `track`."""
        own = column == "type" and column not in self.mapped and not self.columns[column].is_nested()
        said = self.sample[column].drop_nulls().unique() if own else pl.Series([])
        return len(said) == 1 and said[0] not in STANDARD_TYPES

    def _names_types(self, column: str) -> bool:
        """Whether a column holds few words, other than no and yes, and no lists."""
        if self.columns[column].is_nested():
            return False
        texts = self.sample[column].cast(pl.String).str.strip_chars().drop_nulls()
        texts = texts.filter(texts != "")
        words = len(texts) and texts.n_unique() <= MAX_TYPE_NAMES and not texts.str.contains(STRUCTURED).any()
        return bool(words) and not texts.str.to_lowercase().is_in(list(TRUTH)).all()

    def rating(self, given: str | None) -> None:
        """A rating or score column: events of type rating, and its values."""
        source = self.roles.source
        if "value" not in source and "item_id" in source:
            others = [name for name in self.columns if name not in self.used and is_rating(name)]
            for column in dict.fromkeys([*(name for name in self.free(RATING_KEYS) if name in others), *others]):
                known = known_words(self.sample[column]) if not self.columns[column].is_nested() else pl.Series()
                if not len(known):
                    continue
                number, _ = amount(column, self.columns[column], known)
                if known.to_frame().select(number.is_not_null().mean()).item() >= 0.9:
                    self._assume("value", column)
                    self._amounts(column)
                    self.roles.notes += unrated_said(column, known.to_frame().select(number).to_series())
                    break
                self.roles.notes.append(f"{column} is not read: it holds no numbers, but for example {str(known[0])[:40]!r}")
        column = source.get("value", "")
        if given is None and not self.roles.type_from and is_rating(column):
            self.roles.exprs["type"] = pl.lit("rating")
            self.roles.type_from = f"column {column}: rating"
        if not self.roles.type_from:
            self.roles.type_from = EVERY_ROW
            self.roles.exprs["type"] = pl.lit("click")  # another file of the log may have the column
