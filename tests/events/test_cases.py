"""Small logs with one oddity each: the right answer in numbers, for copies written here and for the shared files."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from qurate.errors import UserError
from qurate.events.readers import read_events
from qurate.events.schema import EventLog
from qurate.events.validate import validate

T0 = 1_717_200_000
SHARED = Path(os.environ.get("QURATE_DATA", "../shared/data")).parent / "cases" / "ingest"


def found(log: EventLog) -> dict[str, Any]:
    """Kind, events by type, sum of values, decisions, and how many different items."""
    events = log.events.collect()
    decisions = None if log.decisions is None else log.decisions.collect()
    items = set(events["item_id"].drop_nulls()) | (set() if decisions is None else set(decisions["shown"].explode()))
    return {
        "kind": log.kind,
        "types": dict(events.group_by("type").len().rows()),
        "value": round(events["value"].sum(), 6),
        "lists": 0 if decisions is None else decisions.height,
        "shown": 0 if decisions is None else int(decisions["shown"].list.len().sum()),
        "items": len(items),
        "bad": log.bad_rows,
    }


Case = tuple[str, dict[str, Any], dict[str, Any]]

CASES: list[Case] = [
    ("etype_unmapped.csv", {}, {"kind": "organic", "types": {"view": 40, "purchase": 20}}),
    ("rating_unmapped.csv", {}, {"types": {"rating": 60}, "value": 180.0}),
    ("label01.csv", {}, {"kind": "exposure", "types": {"click": 15}, "lists": 60, "shown": 60}),
    ("shown_no_type.csv", {}, {"kind": "exposure", "types": {"click": 36}, "lists": 60, "shown": 180}),
    ("shown_click_vector.csv", {}, {"kind": "exposure", "types": {"click": 36}, "lists": 60, "shown": 180}),
    (
        "shown_dicts.csv",
        {"map": {"user_id": "customer", "timestamp": "day", "decision_id": "request", "shown": "impressions"}},
        {"kind": "exposure", "types": {"click": 36}, "lists": 60, "shown": 180, "items": 8},
    ),
    ("basket_json.csv", {}, {"types": {"click": 120}, "items": 8}),
    (
        "nested_props.jsonl",
        {"map": {"user_id": "userId", "type": "event", "item_id": "properties.product_id"}},
        {"types": {"Product Viewed": 30, "Order Completed": 30}, "items": 8},
    ),
    ("per_type", {}, {"types": {"view": 60, "purchase": 15}}),
    ("na_user.csv", {}, {"types": {"click": 60}}),
    ("returns.csv", {"map": {"user_id": "customer", "item_id": "sku", "value": "quantity", "timestamp": "ordered"}, "type": "purchase"},
     {"types": {"purchase": 48, "return": 12}, "value": 84.0}),
    ("same_day.csv", {}, {"types": {"purchase": 60}, "bad": 0}),
    ("session_only.tsv", {"map": {"session_id": "SessionId", "item_id": "ItemId", "timestamp": "Time"}},
     {"types": {"click": 60}, "bad": 0}),
    ("guests.csv", {}, {"types": {"click": 60}, "bad": 0}),
    (
        "ranking.jsonl",
        {"map": {"user_id": "user", "item_id": "item", "session_id": "session", "decision_id": "ranking", "shown": "items"}},
        {"kind": "exposure", "types": {"click": 36}, "lists": 60, "shown": 180},
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_the_shared_inputs(case: Case) -> None:
    name, options, expected = case
    if not (SHARED / name).exists():
        pytest.skip(f"no {SHARED / name}")
    got = found(read_events(SHARED / name, **options))
    assert {key: got[key] for key in expected} == expected


def rows(columns: str, line: Callable[[int], str], n: int = 12) -> str:
    return columns + "\n" + "\n".join(line(i) for i in range(n)) + "\n"


def who(i: int) -> str:
    return f"u{i % 3},i{i % 4}"


def at(i: int) -> str:
    return f"{T0 + 900 * i}"


TABLES: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    *(
        (f"type in {name}", rows(f"user_id,item_id,{name},timestamp", lambda i: f"{who(i)},{'view' if i % 3 else 'purchase'},{at(i)}"),
         {}, {"types": {"view": 8, "purchase": 4}})
        for name in ("event_type", "Event", "action", "behaviour", "eventName", "interaction type", "activity", "behavior_type")
    ),
    *(
        (f"values in {name}", rows(f"user_id,item_id,{name},timestamp", lambda i: f"{who(i)},{1 + i % 5},{at(i)}"),
         {}, {"types": {"rating": 12}, "value": 33.0})
        for name in ("rating", "Score", "stars", "ratings")
    ),
    *(
        (f"0/1 in {name}", rows(f"user_id,item_id,{name},timestamp", lambda i: f"{who(i)},{int(i % 4 == 0)},{at(i)}"),
         {}, {"kind": "exposure", "types": {kind: 3}, "lists": 12, "shown": 12})
        for name, kind in (("label", "click"), ("is_clicked", "click"), ("Click", "click"), ("reward", "click"), ("purchased", "purchase"))
    ),
    (
        "true and false",
        rows("user_id,item_id,clicked,timestamp", lambda i: f"{who(i)},{['True', 'False'][i % 2]},{at(i)}"),
        {},
        {"kind": "exposure", "types": {"click": 6}, "lists": 12},
    ),
    (
        "two 0/1 columns",
        rows("user_id,item_id,is_click,is_like,timestamp", lambda i: f"{who(i)},{i % 2},{int(i == 0)},{at(i)}"),
        {},
        {"kind": "exposure", "types": {"click": 6, "like": 1}, "lists": 12},
    ),
    (
        "one row an item of a list",
        rows("user_id,decision_id,item_id,position,click,timestamp",
             lambda i: f"u{i // 3},q{i // 3},i{i % 4},{i % 3},{int(i % 3 == 1)},{at(i // 3)}"),
        {},
        {"kind": "exposure", "types": {"click": 4}, "lists": 4, "shown": 12},
    ),
    (
        "bandit, 0/1",
        rows("timestamp,action,reward,pscore", lambda i: f"{at(i)},{i % 4},{i % 2},0.25"),
        {},
        {"kind": "logged", "types": {"click": 6}, "lists": 12, "items": 4},
    ),
    (
        "bandit, amounts",
        rows("timestamp,user_id,action,reward,propensity", lambda i: f"{at(i)},u{i % 2},{i % 4},{i % 2 * 2.5},0.25"),
        {},
        {"kind": "logged", "types": {"reward": 6}, "value": 15.0, "lists": 12},
    ),
    ("lists without an answer", rows("user_id,timestamp,shown", lambda i: f"u{i % 3},{at(i)},a|b|c"), {},
     {"kind": "exposure", "types": {}, "lists": 12, "shown": 36}),
    ("clicked names the item", rows("user_id,timestamp,shown,clicked", lambda i: f"u{i % 3},{at(i)},a|b|c,{'b' if i % 2 else ''}"), {},
     {"kind": "exposure", "types": {"click": 6}, "lists": 12}),
    ("id-0/1", rows("user_id,timestamp,shown", lambda i: f"u{i % 3},{at(i)},a-0 b-{i % 2} c-0"), {},
     {"kind": "exposure", "types": {"click": 6}, "lists": 12, "shown": 36, "items": 3}),
    ("one row per user", rows("user_id,item_id,timestamp", lambda i: f'u{i},"[1, 2, 3]","[{at(0)}, {at(1)}, {at(2)}]"', 4), {},
     {"types": {"click": 12}, "items": 3}),
    ("one row per user, blanks", rows("user_id,item_id,timestamp", lambda i: f"u{i},1 2 3,{at(0)} {at(1)} {at(2)}", 4), {},
     {"types": {"click": 12}, "items": 3}),
    ("an unequal number of times", rows("user_id,item_id,timestamp", lambda i: f"u{i},1|2{'|3' if i else ''},{at(0)}|{at(1)}|{at(2)}", 4),
     {"max_bad": 1.0}, {"types": {"click": 9}, "bad": 1}),
    ("quantity and price", rows("user_id,item_id,quantity,price,timestamp", lambda i: f'{who(i)},2,"$1,000.50",{at(i)}'),
     {"value": "quantity*price", "type": "purchase"}, {"types": {"purchase": 12}, "value": 24012.0}),
    ("currency text", rows("user_id,item_id,value,type,timestamp", lambda i: f'{who(i)},"4,50 EUR",purchase,{at(i)}'), {},
     {"types": {"purchase": 12}, "value": 54.0}),
]  # fmt: skip


@pytest.mark.parametrize("case", TABLES, ids=[case[0] for case in TABLES])
def test_kinds_of_tables(case: tuple[str, str, dict[str, Any], dict[str, Any]], tmp_path: Path) -> None:
    _, text, options, expected = case
    (tmp_path / "log.csv").write_text(text)
    got = found(read_events(tmp_path / "log.csv", **options))
    assert {key: got[key] for key in expected} == expected


def test_a_file_has_columns_and_a_type_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "views.csv").write_text(rows("user_id,item_id,timestamp", lambda i: f"{who(i)},{at(i)}"))
    (tmp_path / "purchases.csv").write_text(rows("user_id,product_id,timestamp", lambda i: f"{who(i)},{at(i)}000", 3))
    log = read_events(
        [tmp_path / "views.csv", tmp_path / "purchases.csv"],
        map={"purchases.csv:item_id": "product_id"},
        type={"views.csv": "view", "purchases.csv": "purchase"},
    )
    assert found(log)["types"] == {"view": 12, "purchase": 3}
    assert log.events.collect()["timestamp"].max() == read_events(tmp_path / "views.csv").events.collect()["timestamp"].max()
    with pytest.raises(UserError, match=r"did you mean purchases\.csv\?"):
        read_events([tmp_path / "views.csv", tmp_path / "purchases.csv"], type={"purchase.csv": "x"})


def test_names_of_files_that_say_nothing_are_no_types(tmp_path: Path) -> None:
    for name in ("day1.csv", "day2.csv"):
        (tmp_path / name).write_text(rows("user_id,item_id,timestamp", lambda i, day=int(name[3]): f"{who(i)},{at(i + 90 * day)}"))
    assert set(found(read_events(tmp_path))["types"]) == {"click"}


@pytest.mark.parametrize("nobody", ["NA", "guest", "null", "-1", "0", ""])
def test_a_name_that_is_nobody_gives_way_to_the_session(nobody: str, tmp_path: Path) -> None:
    text = rows("user_id,session_id,item_id,timestamp", lambda i: f"{nobody if i % 3 else f'u{i}'},s{i % 4},i{i % 5},{at(i)}", 60)
    (tmp_path / "log.csv").write_text(text)
    log = read_events(tmp_path / "log.csv")
    users = log.events.collect()["user_id"].to_list()
    assert [user for i, user in enumerate(users) if i % 3] == [f"s{i % 4}" for i in range(60) if i % 3]
    assert any("40" in note and "the session stands in" in note for note in log.notes)


def test_a_real_user_named_0_stays(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(rows("user_id,session_id,item_id,timestamp", lambda i: f"{i % 4},s{i},i{i % 5},{at(i)}", 60))
    assert set(read_events(tmp_path / "log.csv").events.collect()["user_id"]) == {"0", "1", "2", "3"}


def test_without_a_session_nobody_is_only_named(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(rows("user_id,item_id,timestamp", lambda i: f"{'guest' if i % 2 else f'u{i}'},i{i % 5},{at(i)}", 60))
    log = read_events(tmp_path / "log.csv")
    assert log.events.collect()["user_id"].n_unique() == 31
    assert any("'guest' of 30 in 60 rows is no user" in note for note in log.notes)


@pytest.mark.parametrize("text", ['[{"item_id": "a", "clicked": tr', "[1, 2", "{'a': 0.3, 'b': 0.7}", "[[1, 2], [3]]", "[1 2 ... 8 9]"])
def test_a_list_that_cannot_be_read_is_refused(text: str, tmp_path: Path) -> None:
    quoted = text.replace('"', '""')
    (tmp_path / "log.csv").write_text(rows("user_id,timestamp,shown", lambda i: f'u{i % 3},{at(i)},"{quoted}"'))
    with pytest.raises(UserError, match="no list that can be read"):
        read_events(tmp_path / "log.csv")
    (tmp_path / "basket.csv").write_text(rows("user_id,timestamp,item_id", lambda i: f'u{i % 3},{at(i)},"{quoted}"'))
    with pytest.raises(UserError, match="no list that can be read"):
        read_events(tmp_path / "basket.csv")


def test_equal_rows_of_a_day_are_repeats_and_of_a_second_are_duplicates(tmp_path: Path) -> None:
    days = rows("user_id,item_id,type,timestamp", lambda i: f"u{i % 3},i,purchase,2024-06-0{1 + i // 6}")
    (tmp_path / "days.csv").write_text(days)
    log = read_events(tmp_path / "days.csv")
    assert found(log)["types"] == {"purchase": 12} and any("6 equal rows of a day" in note for note in log.notes)
    (tmp_path / "seconds.csv").write_text(days.replace("2024-06-0", "2024-06-01T00:00:0"))
    assert found(read_events(tmp_path / "seconds.csv"))["types"] == {"purchase": 6}
    assert found(read_events(tmp_path / "seconds.csv", keep_duplicates=True))["types"] == {"purchase": 12}


def test_baskets_that_begin_alike_are_no_duplicates(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text('user_id,timestamp,item_id\nu,1717200000,"[""a"", ""b""]"\nu,1717200000,"[""a"", ""c"", ""c""]"\n')
    assert read_events(tmp_path / "log.csv").events.collect()["item_id"].to_list() == ["a", "b", "a", "c", "c"]
    (tmp_path / "log.csv").write_text('user_id,timestamp,item_id\nu,1717200000,"[""a"", ""b""]"\nu,1717200000,"[""a"", ""b""]"\n')
    assert read_events(tmp_path / "log.csv").events.collect()["item_id"].to_list() == ["a", "b"]


def test_an_unread_path_is_named(tmp_path: Path) -> None:
    lines = [json.dumps({"userId": "u", "timestamp": T0 + i, "properties": {"product_id": f"i{i}"}}) for i in range(4)]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"did you mean properties\.product_id\?"):
        read_events(tmp_path / "log.jsonl", map={"user_id": "userId", "item_id": "product_id"})
    with pytest.raises(UserError, match=r"did you mean properties\.product_id\?"):
        read_events(tmp_path / "log.jsonl", map={"user_id": "userId", "item_id": "properties.productid"})


@pytest.mark.parametrize(
    "text", ["quantity**2", "__import__('os')", "quantity.x", "a if b else c", "quantity[0]", "'a'", "quantity %", "`a"]
)
def test_a_value_is_arithmetic_and_nothing_else(text: str, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(rows("user_id,item_id,quantity,timestamp", lambda i: f"{who(i)},2,{at(i)}"))
    with pytest.raises(UserError, match="value"):
        read_events(tmp_path / "log.csv", value=text)


def test_values_with_signs_in_their_names_stand_in_backquotes(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(rows("user_id,item_id,unit price,timestamp", lambda i: f"{who(i)},2.5,{at(i)}"))
    assert read_events(tmp_path / "log.csv", value="-(`unit price` - 1) / 2 + 3").events.collect()["value"].unique().to_list() == [2.25]


def test_negative_values_are_named(tmp_path: Path) -> None:
    text = rows("user_id,item_id,value,timestamp", lambda i: f"{who(i)},{-1 if i % 4 == 0 else 2},{at(i)}")
    (tmp_path / "log.csv").write_text(text)
    checks = {c["name"]: c for c in validate(read_events(tmp_path / "log.csv"))["checks"]}
    assert "3 click events have a negative value" in checks["impossible values"]["message"]
    checks = {c["name"]: c for c in validate(read_events(tmp_path / "log.csv", type="purchase"))["checks"]}
    assert "3 purchases of a negative value" in checks["impossible values"]["message"] and checks["impossible values"]["ok"]


def test_every_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(rows("user_id,item_id,visitorId,colour,price,timestamp", lambda i: f"{who(i)},v,red,2,{at(i)}"))
    columns = read_events(tmp_path / "log.csv").files[0]["columns"]
    assert [(one["column"], one["role"], one["nearest"]) for one in columns] == [
        ("user_id", "user_id", None),
        ("item_id", "item_id", None),
        ("visitorId", None, "user_id"),
        ("colour", None, None),
        ("price", None, "value"),
        ("timestamp", "timestamp", None),
    ]


def test_a_decisions_table_under_other_names(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(rows("user_id,item_id,type,timestamp,decision_id", lambda i: f"u{i % 3},a,click,{at(i)},q{i}"))
    pl.DataFrame(
        {"request": [f"q{i}" for i in range(12)], "who": [f"u{i % 3}" for i in range(12)], "at": [T0 + 900 * i - 5 for i in range(12)],
         "list": ["a b c"] * 12}
    ).write_csv(tmp_path / "asked.csv")  # fmt: skip
    names = {"decision_id": "request", "user_id": "who", "timestamp": "at", "shown": "list"}
    log = read_events(
        tmp_path / "log.csv", decisions=tmp_path / "asked.csv", map={f"asked.csv:{name}": column for name, column in names.items()}
    )
    assert found(log) | {"value": 0} == found(log) and found(log)["lists"] == 12 and found(log)["shown"] == 36
