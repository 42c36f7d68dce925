"""What was made of each column of a file, for the plan: its role, or that it is not read, with the nearest role."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import polars as pl

from qurate.errors import UserError
from qurate.events.answer_names import types_in
from qurate.events.fields import EMIT_VALUE, EMITS, Layout, unchanged
from qurate.events.listed import number_list
from qurate.events.nearest_role import nearest_role
from qurate.events.roles import CLICKED, Asked, Roles, contract_names, sample_of
from qurate.events.schema import CANDIDATE
from qurate.events.sources import Table

SAMPLE_ROWS = 1_000
MANY_NUMBERED = 8
"""So many columns whose names differ by a number alone are the numbers of one vector, and none of them is an id or a time."""


def described(layout: Layout, table: Table, roles: Roles | None, asked: Asked) -> dict[str, Any]:
    """{"file", "layout", ..., "type_from", "columns": [{"column", "role", "nearest", "assumed"}], "map", "type"}.

    `role` is null for a column that is not read; `nearest` is then what it could be, null where its name says nothing.
    """
    named = {} if roles is None else roles.source
    by_column = _own_roles(table, roles) if roles is not None else _layout_roles(layout, table)
    if table.order:
        by_column.setdefault(table.order, "the order")
    assumed = set() if roles is None else {named[name] for name in roles.assumed}
    columns, lists = (
        [],
        [] if roles is None else _lists_beside_shown(table, roles, [name for name in table.columns if name not in by_column]),
    )
    of_vectors = numbered(table.columns)
    unread = [name for name in table.columns if name not in by_column]
    types = types_in(unread, sample_of(table, SAMPLE_ROWS)) if roles is not None and roles.says_nothing else []
    for column in [*table.columns, *(source for source in by_column if source not in table.columns)]:
        role = by_column.get(column)
        nearest = None if role is not None or column in of_vectors else nearest_role(column)
        nearest = "type" if column in types else nearest
        nearest = f"{CANDIDATE}{column}" if column in lists and nearest != "propensity" else nearest
        columns.append({"column": column, "role": role, "nearest": nearest, "assumed": column in assumed})
    given, told = asked.type_of(table), asked.map_of(table).get(CLICKED) if roles is not None else None
    by_name = roles is not None and roles.type_from.startswith("the name of the file")
    return {
        **table.found(),
        "layout": layout.name,
        "type_from": roles.type_from if roles is not None else f"--type: {given}" if given else _type_from(by_column, layout),
        "columns": columns,
        "map": {name: source for name, source in named.items() if name in contract_names(named) and _can_be_mapped(source, table)}
        | ({} if told is None else {CLICKED: told}),
        "type": roles.type_from.rpartition(": ")[2] if by_name and roles is not None else given,
    }


def stem_of(column: str) -> str | None:
    """The name without the number at its end, None where there is none."""
    found = re.fullmatch(r"(.*?\D)\d+", column)
    return found[1] if found else None


def numbered(columns: Iterable[str]) -> set[str]:
    """Columns that are one of `MANY_NUMBERED` or more with the same stem."""
    sizes = Counter(map(stem_of, columns))
    return {column for column in columns if stem_of(column) is not None and sizes[stem_of(column)] >= MANY_NUMBERED}


def _lists_beside_shown(table: Table, roles: Roles, unread: list[str]) -> list[str]:
    """Columns that nothing reads and that hold as many numbers as items were shown: they may say something of each candidate."""
    if "shown" not in roles.source or not unread:
        return []
    rows = roles.apply(sample_of(table, SAMPLE_ROWS).lazy()).collect()
    rows = rows.filter(pl.col("shown").list.len() > 0)
    found = []
    for column in (name for name in unread if name in rows.columns):
        dtype = getattr(rows[column].dtype, "inner", rows[column].dtype)
        if not (dtype.is_numeric() or dtype == pl.String):
            continue
        numbers = rows.select(number_list(rows.schema, column)).to_series()
        sizes = numbers.list.len() == rows["shown"].list.len()
        known = numbers.list.eval(pl.element().is_finite()).list.all()
        if rows.height and sizes.fill_null(False).all() and known.all() and (numbers.list.len() > 1).any():
            found.append(column)
    return found


def _can_be_mapped(source: str, table: Table) -> bool:
    return source in table.columns or source.partition(".")[0] in table.columns or "+" in source


def _own_roles(table: Table, roles: Roles) -> dict[str, str]:
    """Column -> role, of a log of one's own."""
    out = dict(roles.parts)
    for role, source in roles.source.items():
        out[source] = f"{out[source]}, {role}" if source in out else role
    return out


def _type_from(by_column: dict[str, str], layout: Layout) -> str:
    column = next((column for column, role in by_column.items() if "type" in role.split(", ")), None)
    return f"column {column}" if column else f"the layout {layout.name}"


def _layout_roles(layout: Layout, table: Table) -> dict[str, str]:
    """Column -> role, of a published layout: which columns its expressions read."""
    try:
        columns = dict(layout.spread(table.frame).collect_schema())
        fields = layout.fields(columns)
    except UserError:  # a column of lists: the reader says so
        return {}
    out: dict[str, list[str]] = {}
    for name, expr in fields.items():
        role = _role(name)
        for root in expr.meta.root_names():
            out.setdefault(root, []).append(role)
    time = next((name for name in layout.time if name in columns), None)
    if time is not None:
        out.setdefault(time, []).append("timestamp")
    if layout.spread is not unchanged:
        for need in layout.needs:
            for name in need.split("|"):
                if name in table.columns:
                    out.setdefault(name, ["events"])
    return {column: ", ".join(dict.fromkeys(roles)) for column, roles in out.items() if column in table.columns}


def _role(name: str) -> str:
    if name.startswith(EMITS):
        return name.partition(":")[2]
    if name.startswith(EMIT_VALUE):
        return "value"
    for prefix, owner in (("item.", "item"), ("user.", "user")):
        if name.startswith(prefix):
            return f"feature of the {owner}"
    return name.removeprefix("_").removesuffix("_list")
