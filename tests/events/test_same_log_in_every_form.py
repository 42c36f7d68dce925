"""One log written in every form of a kind gives the same dataset, bit for bit."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from qurate.events.readers import read_events
from qurate.mdp.dataset import Dataset, build_dataset

T0 = 1_717_200_000
IDS = st.text("abcxyz0179_", min_size=1, max_size=6).map(lambda text: f"p{text}q")
QUICK = settings(max_examples=3)
Row = dict[str, Any]


def digest(dataset: Dataset) -> str:
    """Of all arrays, names and rewards; not of the manifest, which names the files."""
    hashed = hashlib.sha256(json.dumps([dataset.vocabulary.to_json(), dataset.user_ids, dataset.components, dataset.kind]).encode())
    for part in (dataset.arrays, dataset.transitions):
        for field in fields(part):
            value = getattr(part, field.name)
            hashed.update(field.name.encode() + (b"none" if value is None else np.ascontiguousarray(value).tobytes()))
    for matrix in (dataset.item_features, dataset.user_features):
        hashed.update(repr(matrix.shape).encode() + matrix.tobytes())
    return hashed.hexdigest()


def same(forms: dict[str, Callable[[Path], dict[str, Any]]], rewards: dict[str, float] | None = None) -> None:
    """Each form writes files into a folder and gives the arguments of `read_events`."""
    digests = {}
    for name, write in forms.items():
        with TemporaryDirectory() as folder:
            digests[name] = digest(build_dataset(read_events(**write(Path(folder))), rewards=rewards or {"click": 1.0}, episode="user"))
    assert len(set(digests.values())) == 1, digests


def csv(rows: list[Row], **options: Any) -> Callable[[Path], dict[str, Any]]:
    def write(folder: Path) -> dict[str, Any]:
        pl.DataFrame(rows, infer_schema_length=None).write_csv(folder / "log.csv")
        return {"path": folder / "log.csv", **options}

    return write


def jsonl(rows: list[Row], **options: Any) -> Callable[[Path], dict[str, Any]]:
    def write(folder: Path) -> dict[str, Any]:
        (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return {"path": folder / "log.jsonl", **options}

    return write


def parquet(rows: list[Row], **options: Any) -> Callable[[Path], dict[str, Any]]:
    def write(folder: Path) -> dict[str, Any]:
        pl.DataFrame(rows, infer_schema_length=None).write_parquet(folder / "log.parquet")
        return {"path": folder / "log.parquet", **options}

    return write


@st.composite
def impressions(draw: st.DrawFn) -> list[tuple[str, int, list[str], list[int]]]:
    """user, time, items shown, 0/1 for each; at least one answer, and at least two lists of one user."""
    pool = draw(st.lists(IDS, min_size=3, max_size=8, unique=True))
    out = []
    for i in range(draw(st.integers(3, 12))):
        items = draw(st.lists(st.sampled_from(pool), min_size=2, max_size=len(pool), unique=True))
        answers = draw(st.lists(st.integers(0, 1), min_size=len(items), max_size=len(items)))
        out.append((f"u{i % 2}", T0 + 600 * i, items, [1, *answers[1:]] if i == 0 else answers))
    return out


@QUICK
@given(impressions())
def test_lists_with_answers(log: list[tuple[str, int, list[str], list[int]]]) -> None:
    def table(shown: Callable[[list[str], list[int]], Any], **more: Callable[[list[str], list[int]], Any]) -> list[Row]:
        return [
            {
                "user_id": user,
                "timestamp": time,
                "shown": shown(items, answers),
                **{name: one(items, answers) for name, one in more.items()},
            }
            for user, time, items, answers in log
        ]

    def records(items: list[str], answers: list[int]) -> list[Row]:
        return [{"item_id": item, "clicked": bool(answer)} for item, answer in zip(items, answers)]

    def pairs(items: list[str], answers: list[int]) -> dict[str, int]:
        return dict(zip(items, answers))

    same(
        {
            "JSON objects in CSV": csv(table(lambda i, a: json.dumps(records(i, a)))),
            "Python objects in CSV": csv(table(lambda i, a: repr(records(i, a)))),
            "objects in JSONL": jsonl(table(records)),
            "objects in Parquet": parquet(table(records)),
            "id-0/1": csv(table(lambda i, a: " ".join(f"{item}-{answer}" for item, answer in zip(i, a)))),
            "list of id-0/1": jsonl(table(lambda i, a: [f"{item}-{answer}" for item, answer in zip(i, a)])),
            "{id: 0/1} as JSON": csv(table(lambda i, a: json.dumps(pairs(i, a)))),
            "{id: 0/1} as Python": csv(table(lambda i, a: repr(pairs(i, a)))),
            "{id: 0/1} in JSONL": jsonl(table(pairs)),
            "pairs": csv(table(lambda i, a: json.dumps(list(zip(i, a))))),
            "columns": csv(table(lambda i, a: json.dumps({"item_id": i, "clicked": a}))),
            "a vector of blanks": csv(table(lambda i, a: "|".join(i), clicked=lambda i, a: " ".join(map(str, a)))),
            "a vector in brackets": csv(table(lambda i, a: repr(i), label=lambda i, a: repr(a))),
            "a numpy vector": csv(table(lambda i, a: str(np.array(i)), label=lambda i, a: str(np.array(a)))),
            "lists in Parquet": parquet(table(lambda i, a: i, is_clicked=lambda i, a: [float(x) for x in a])),
            "clicked ids": jsonl(table(lambda i, a: i, clicked=lambda i, a: [item for item, answer in zip(i, a) if answer])),
        }
    )


@st.composite
def baskets(draw: st.DrawFn) -> list[tuple[str, int, list[str]]]:
    pool = draw(st.lists(IDS, min_size=2, max_size=8, unique=True))
    sizes = draw(st.lists(st.integers(2, 4), min_size=3, max_size=10))
    return [
        (f"u{i % 2}", T0 + 600 * i, draw(st.lists(st.sampled_from(pool), min_size=size, max_size=size))) for i, size in enumerate(sizes)
    ] + [("u0", T0 + 99_999, pool[:2])]


@QUICK
@given(baskets())
def test_baskets(log: list[tuple[str, int, list[str]]]) -> None:
    def table(item: Callable[[list[str]], Any]) -> list[Row]:
        return [{"user_id": user, "timestamp": time, "item_id": item(items)} for user, time, items in log]

    same(
        {
            "one row an event": csv(
                [{"user_id": user, "timestamp": time, "item_id": item, "n": n} for user, time, items in log for n, item in enumerate(items)]
            ),
            "JSON": csv(table(json.dumps)),
            "Python": csv(table(repr)),
            "tuples": csv(table(lambda items: repr(tuple(items)))),
            "numpy": csv(table(lambda items: str(np.array(items)))),
            "array(...)": csv(table(lambda items: repr(np.array(items, dtype=object)))),
            "bars": csv(table("|".join)),
            "lists": parquet(table(list)),
            "objects": jsonl(table(lambda items: [{"id": item, "price": 3} for item in items])),
            "JSON objects": csv(table(lambda items: json.dumps([{"sku": item} for item in items]))),
        }
    )


@QUICK
@given(baskets())
def test_one_row_per_user(log: list[tuple[str, int, list[str]]]) -> None:
    events = [(user, time + 7 * n, item) for user, time, items in log for n, item in enumerate(items)]
    users = {user: [(time, item) for who, time, item in events if who == user] for user in ("u0", "u1")}

    def table(form: Callable[[list[Any]], Any]) -> list[Row]:
        return [
            {"user_id": user, "item_id": form([item for _, item in rows]), "timestamp": form([time for time, _ in rows])}
            for user, rows in users.items()
            if rows
        ]

    same(
        {
            "one row an event": csv([{"user_id": user, "timestamp": time, "item_id": item} for user, time, item in events]),
            "JSON": csv(table(json.dumps)),
            "numpy": csv(table(lambda values: str(np.array(values)).replace("\n", ""))),
            "bars": csv(table(lambda values: "|".join(map(str, values)))),
            "blanks": csv(table(lambda values: " ".join(map(str, values)))),
            "lists": parquet(table(list)),
            "JSONL": jsonl(table(list)),
        }
    )


EVENTS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4), st.booleans(), st.integers(1, 9)), min_size=6, max_size=20)


@QUICK
@given(EVENTS)
def test_what_happened(log: list[tuple[int, int, bool, int]]) -> None:
    log = [*log, (0, 0, True, 1), (0, 1, False, 1)]
    rows = [
        {"user_id": f"u{u}", "item_id": f"i{i}", "type": "purchase" if bought else "view", "timestamp": T0 + 60 * n}
        for n, (u, i, bought, _) in enumerate(log)
    ]

    def renamed(**names: str) -> list[Row]:
        return [{names.get(name, name): value for name, value in row.items()} for row in rows]

    def by_file(folder: Path) -> dict[str, Any]:
        for kind in ("view", "purchase"):
            mine = [{name: value for name, value in row.items() if name != "type"} for row in rows if row["type"] == kind]
            pl.DataFrame(mine, schema=["user_id", "item_id", "timestamp"], orient="row").write_csv(folder / f"{kind}s.csv")
        return {"path": folder}

    def by_option(folder: Path) -> dict[str, Any]:
        by_file(folder)
        (folder / "purchases.csv").rename(folder / "b.csv")
        (folder / "views.csv").rename(folder / "a.csv")
        return {"path": [folder / "a.csv", folder / "b.csv"], "type": {"a.csv": "view", "b.csv": "purchase"}}

    nested = [
        {
            "who": {"id": row["user_id"]},
            "event": row["type"],
            "timestamp": row["timestamp"],
            "properties": {"product": {"id": row["item_id"]}},
        }
        for row in rows
    ]
    path = {"user_id": "who.id", "item_id": "properties.product.id"}
    same(
        {
            "type": csv(rows),
            "event_type": csv(renamed(type="event_type")),
            "Action": jsonl(renamed(type="Action")),
            "mapped": csv(renamed(type="x", item_id="sku"), map={"type": "x", "item_id": "sku"}),
            "name of the file": by_file,
            "--type": by_option,
            "nested JSONL": jsonl(nested, map=path),
            "nested Parquet": parquet(nested, map=path),
            "JSON in CSV": csv(
                [{**row, "who": json.dumps(row["who"]), "properties": json.dumps(row["properties"])} for row in nested], map=path
            ),
        },
        {"view": 1.0, "purchase": 5.0},
    )


@QUICK
@given(EVENTS)
def test_values(log: list[tuple[int, int, bool, int]]) -> None:
    def table(**value: Callable[[int], Any]) -> list[Row]:
        return [
            {"user_id": f"u{u}", "item_id": f"i{i}", "timestamp": T0 + 60 * n, **{name: one(v) for name, one in value.items()}}
            for n, (u, i, _, v) in enumerate([*log, (0, 0, True, 3), (0, 1, True, 3)])
        ]

    def cents(v: int) -> float:
        return v * 1000.25

    def euro(v: int) -> str:
        return f"{cents(v):,.2f}".translate({ord(","): ".", ord("."): ","})

    def typed(rows: list[Row], **options: Any) -> Callable[[Path], dict[str, Any]]:
        return csv(rows, type="purchase", **options)

    same(
        {
            "numbers": typed(table(value=cents)),
            "dollars": typed(table(value=lambda v: f"${cents(v):,.2f}")),
            "euros": typed(table(value=lambda v: euro(v).replace(".", " ") + " €")),
            "code and thousands": typed(
                table(value=lambda v: f"EUR {cents(v):,.2f}".replace(",", "_").replace(".", ",").replace("_", "."))
            ),
            "quantity x price": typed(table(quantity=lambda v: v, price=lambda v: 1000.25), value="quantity*price"),
            "sum of two": typed(table(a=lambda v: cents(v) - 5, b=lambda v: "5.00"), value="a + b"),
        },
        {"purchase": 1.0},
    )


@QUICK
@given(EVENTS)
def test_sessions_in_place_of_users(log: list[tuple[int, int, bool, int]]) -> None:
    log = [*log, (0, 0, True, 1), (0, 1, True, 1), (0, 2, True, 1), (0, 3, True, 1)]

    def table(guest: Any) -> list[Row]:
        return [
            {"user_id": guest if known else f"u{u}", "session_id": f"s{u}", "item_id": f"i{i}", "timestamp": T0 + 60 * n}
            for n, (u, i, known, _) in enumerate(log)
        ]

    stands = [{**row, "user_id": row["user_id"] or row["session_id"]} for row in table(None)]
    same(
        {
            "said": csv(stands),
            "empty": csv(table(None)),
            "null": jsonl(table(None)),
            "NA": csv(table("NA")),
            "guest": parquet(table("guest")),
        }
    )
