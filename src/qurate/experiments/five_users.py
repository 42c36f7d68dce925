"""What a model recommends to five users of its log, beside what they did last: HTML for the model's page and for reports."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from qurate.evaluation.page import escape, figure, name_cell, table
from qurate.events.titles import CATEGORIES, PRICES, first_of, text_of, title_column
from qurate.models.histories import Histories
from qurate.models.model import Model

USERS, LAST, K = 5, 8, 10


def five_users(model: Model, exclude: Sequence[str] = ()) -> list[str]:
    """Ready HTML: five users, from those with few events to those with many, each with the last events and ten recommendations.

    Nothing where the model keeps no histories: they are not for a page either.
    """
    past = model.histories
    if past is None:
        return []
    rows = np.diff(past.arrays.user_start)
    active = np.argsort(rows, kind="stable")
    active = active[rows[active] > 0]
    if not len(active):
        return []
    places = np.unique(np.linspace(0.1, 0.9, USERS) * (len(active) - 1)).astype(int)
    columns = _columns(past, model)
    seen = "an item that the user has met before is marked with its last event"
    words = f"From users with few events to users with many. The score is {_score_words(model)}; {seen}."
    return [
        f"<h2>Five users</h2><p>{escape(words)}</p>",
        *(_user(model, past, int(active[i]), columns, exclude) for i in dict.fromkeys(places)),
    ]


def _score_words(model: Model) -> str:
    if model.ranker.ranking_scores == ["score"]:
        return "the baseline's own; only its order has a meaning"
    if model.by in ("behaviour", "policy"):
        of = "what the log shows" if model.by == "behaviour" else "the policy that was extracted from the log"
        return f"the logarithm of how likely {of} makes the item in such a situation, up to a constant"
    order = {"q_in_support": "items stand by it, first those that the log often has in such a situation"}
    order["behaviour_times_q"] = "items stand by it times how likely they are to be chosen"
    ordered = order.get(model.by, "items stand by it")
    return f"the reward that the model expects from now on if it shows the item, in the units of the reward weights; {ordered}"


def _columns(past: Histories, model: Model) -> dict[str, str]:
    """Heading -> column of the table of items, of those that it has."""
    items = past.items
    title = title_column(items, model.answering.item_spec)
    found = {"title": title, "category": first_of(items.columns, CATEGORIES), "price": first_of(items.columns, PRICES)}
    return {heading: column for heading, column in found.items() if column is not None}


def _user(model: Model, past: Histories, number: int, columns: dict[str, str], exclude: Sequence[str]) -> str:
    user = past.users["user_id"][number]
    rows = past.rows(number)
    types = model.vocabulary.types
    head = ["item", *columns]
    last = {int(item): types[kind - 1] for item, kind in zip(rows.items, rows.types) if item}
    history = [
        [*_item(past, int(item), columns), escape(types[kind - 1]), _moment(int(time))]
        for item, kind, time in list(zip(rows.items, rows.types, rows.times))[: -LAST - 1 : -1]
    ]
    answer = model.recommend(user, K, exclude=exclude)
    index = {name: i + 1 for i, name in enumerate(model.vocabulary.items)}
    advice = [
        [*_item(past, index[item.item_id], columns), escape(last.get(index[item.item_id], "")), figure(item.score, 3)]
        for item in answer.items
    ]
    known = (
        ""
        if past.users.width == 1
        else " · "
        + ", ".join(
            f"{escape(name)} {escape(text_of(value))}" for name, value in past.users.drop("user_id").row(number, named=True).items()
        )
    )
    shown = table([*head, "met before", "score"], advice, [bool(row[-2]) for row in advice], text=len(head) + 1)
    before = table([*head, "event", "time"], history, text=len(head) + 1)
    caption = f"Last {len(history)} of {len(rows.items):,} events, newest first"
    parts = [f"<div><h4>Recommended now</h4>{shown}</div>", f"<div><h4>{caption}</h4>{before}</div>"]
    return f'<h3>User {name_cell(user)}<span class="caption">{known}</span></h3><div class="pair">{"".join(parts)}</div>'


def _item(past: Histories, number: int, columns: dict[str, str]) -> list[str]:
    """The cells of an item: id and what the table of items says of it."""
    row: dict[str, Any] = past.items.row(number - 1, named=True) if number else {}
    return [name_cell(row.get("item_id", "–")), *(name_cell(text_of(row.get(column))) for column in columns.values())]


def _moment(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M")
