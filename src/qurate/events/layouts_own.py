"""The contract's own layout, and what `roles` adds to it: answers of lists, 0/1 columns, sessions in place of users."""

import polars as pl

from qurate.events.fields import EMITS, Columns, Fields, LogTables, emit, explode_emitted, ident, json_text, number, optional
from qurate.events.layouts_shown import recorded
from qurate.events.listed import candidate_lists, text_list
from qurate.events.roles import ANSWER, RETURN, REWARD, TAKEN
from qurate.events.schema import CANDIDATE

SHOWINGS = ("shown", "impression", "none")
"""Types of rows that say what was shown, and no more."""


def own_fields(c: Columns) -> Fields:
    """The canonical columns of a row."""
    fields = {"user_id": _user(c), "type": _type(c)}
    fields |= optional(c, {name: name for name in ("event_id", "item_id", "session_id", "decision_id", "split", "policy")})
    if "value" in c:
        fields["value"] = number("value")
        fields["type"] = pl.when((fields["type"] == "purchase") & (fields["value"] < 0)).then(pl.lit(RETURN)).otherwise(fields["type"])
    if isinstance(c.get("props"), pl.Struct | pl.String):
        fields["props"] = json_text(c, "props")
    if "propensity" in c:
        listed = isinstance(c["propensity"], pl.List | pl.Array) or c["propensity"] == pl.String
        numbers = text_list(c, "propensity").cast(pl.List(pl.Float64), strict=False) if listed else pl.concat_list(number("propensity"))
        fields["_propensity_list"] = pl.when(pl.col("propensity").is_not_null()).then(numbers)
    answers = [name for name in c if name.startswith(ANSWER)]
    if answers:
        fields |= _answers(answers, fields) | ({"_list_of": pl.col("decision_id")} if "decision_id" in c else {})
    elif "shown" in c:
        fields["_shown"] = text_list(c, "shown")
    elif "propensity" in c and "item_id" in c:
        # An answer shows nothing: its row has no probability.
        showing = fields["_propensity_list"].is_not_null() | fields["type"].is_in(SHOWINGS)
        fields["_shown"] = pl.when(showing).then(pl.concat_list(ident(c, "item_id")))
    fields |= {name: pl.col(name) for name in c if name.startswith(TAKEN)}
    if "_shown" in fields:
        if "candidates" in c:
            fields["_candidates"] = text_list(c, "candidates")
        fields |= candidate_lists(c)
        shown, own = fields["_shown"].is_not_null(), fields.get("decision_id", pl.lit(None, pl.String))
        fields["decision_id"] = pl.coalesce(own, pl.when(shown).then(pl.format("d{}", "row")))
        fields["type"] = pl.coalesce(fields["type"], pl.when(shown).then(pl.lit("shown")))
    return fields


def _user(c: Columns) -> pl.Expr:
    """The session stands in for an absent user, row by row."""
    users = [ident(c, name) for name in ("user_id", "session_id") if name in c]
    return pl.coalesce(users) if len(users) > 1 else users[0]


def _type(c: Columns) -> pl.Expr:
    """Without a column that says what happened, a row with a list is an answer where it names an item, and shows where not."""
    if "type" in c:
        return ident(c, "type")
    if "shown" not in c:
        return pl.lit("click")
    if "item_id" not in c:
        return pl.lit("shown")
    return pl.when(ident(c, "item_id").is_not_null()).then(pl.lit("click")).otherwise(pl.lit("shown"))


def _answers(names: list[str], fields: Fields) -> Fields:
    """0/1 columns: the row shows its item, and each 1 is an event."""
    events = []
    for name in names:
        kind = name.removeprefix(ANSWER)
        happened = pl.col(name).cast(pl.Float64).fill_null(0) != 0
        events.append((happened, kind, pl.col(name) if kind == REWARD else fields.get("value")))
    return {**emit(*events), "type": pl.lit("shown"), "_shown": pl.concat_list(fields["item_id"])}


def expand_own(rows: pl.LazyFrame) -> LogTables:
    """Events, and decisions where a row shows something."""
    names = rows.collect_schema().names()
    if "_shown" not in names:
        return LogTables(rows)
    if any(name.startswith(EMITS) for name in names):
        shown = recorded(_one_per_decision(rows) if "_list_of" in names else rows)
        return LogTables(explode_emitted(rows), shown.decisions, shown.kind)
    tables = recorded(rows, events=~pl.col("type").is_in(SHOWINGS))
    kinds = [name for name in names if name.startswith(TAKEN)]
    taken = [
        rows.filter(pl.col(name).list.len() > 0)
        .explode(name)
        .with_columns(pl.col(name).alias("item_id"), pl.lit(name.removeprefix(TAKEN)).alias("type"))
        for name in kinds
    ]
    return LogTables(pl.concat([tables.events, *taken], how="diagonal_relaxed"), tables.decisions, tables.kind) if kinds else tables


def _one_per_decision(rows: pl.LazyFrame) -> pl.LazyFrame:
    """One row an item becomes one row a list, where several rows name the same decision."""
    names = rows.collect_schema().names()
    each = [name for name in names if name.startswith(CANDIDATE) and "_candidates" not in names]  # a number of the row's own item
    lists = [*(name for name in ("_shown", "_propensity_list") if name in names), *each]
    first = [name for name in names if name not in (*lists, "decision_id") and not name.startswith("_emit")]
    joined = [pl.col(name).explode(empty_as_null=False) for name in lists]
    return rows.group_by("decision_id", maintain_order=True).agg(*(pl.col(name).first() for name in first), *joined)
