"""What programs write around values (single quotes, MongoDB's objects), the ends of times, and folders of many files."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from event_files import T0, write

from qurate.errors import UserError
from qurate.events.readers import read_events
from qurate.events.text_samples import PLAN_FILES

HEAD = "user_id,item_id,type,timestamp\n"


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("head", [True, False])
def test_single_quotes_around_fields_are_no_part_of_them(tmp_path: Path, separator: str, head: bool) -> None:
    names = ["user_id", "item_id", "type", "timestamp"]
    rows = [[f"'u{n % 3}'", f"'i{n}'", "'click'", str(T0 + n)] for n in range(20)]
    lines = [[f"'{name}'" for name in names] if head else names, *rows]
    log = read_events(write(tmp_path / "log.csv", "".join(separator.join(line) + "\n" for line in lines)))
    events = log.events.collect()
    assert sorted(events["item_id"].unique()) == sorted(f"i{n}" for n in range(20)) and set(events["type"]) == {"click"}
    assert set(events["user_id"]) == {"u0", "u1", "u2"} and any("single quotes" in note for note in log.notes)


def test_a_separator_within_single_quotes_and_apostrophes_without_them(tmp_path: Path) -> None:
    rows = "".join(f"'u{n}','i{n},x','click','{T0 + n}'\n" for n in range(20))
    log = read_events(write(tmp_path / "log.csv", "'user_id','item_id','type','timestamp'\n" + rows))
    assert set(log.events.collect()["item_id"]) == {f"i{n},x" for n in range(20)}
    plain = "".join(f"u{n},o'{n},click,{T0 + n}\n" for n in range(20))
    assert set(read_events(write(tmp_path / "plain.csv", HEAD + plain)).events.collect()["item_id"]) == {f"o'{n}" for n in range(20)}


@pytest.mark.parametrize("path", [False, True])
@pytest.mark.parametrize("form", ["text", "long", "number"])
def test_objects_of_mongodb_are_read_as_their_value(tmp_path: Path, form: Any, path: Any) -> None:
    def date(time: int) -> object:
        text = datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        return {"text": text, "long": {"$numberLong": str(time * 1000)}, "number": time * 1000}[form]

    rows = [{"who": {"$oid": f"a{n % 3}"}, "item_id": {"$numberInt": str(n)}, "at": {"$date": date(T0 + n)}} for n in range(9)]
    file = write(tmp_path / "log.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    log = read_events(file, map={"user_id": "who.$oid", "timestamp": "at.$date"} if path else {"user_id": "who", "timestamp": "at"})
    events = log.events.collect().sort("timestamp")
    assert events["user_id"].to_list() == [f"a{n % 3}" for n in range(9)] and events["item_id"].to_list() == [str(n) for n in range(9)]
    assert events["timestamp"].cast(pl.Int64).to_list() == [(T0 + n) * 1_000_000 for n in range(9)]
    assert any("MongoDB" in note for note in log.notes) and not any("list" in note for note in log.notes)


@pytest.mark.parametrize("path", [False, True])
def test_objects_of_dynamodb_are_read_as_their_value(tmp_path: Path, path: Any) -> None:
    rows = [
        {"user_id": {"S": f'a"{{{n % 3}}}'}, "item_id": {"N": str(n % 4)}, "type": {"S": "view"}, "timestamp": {"N": str(T0 + n)},
         "tags": {"L": [{"S": "x"}]}}
        for n in range(9)
    ]  # fmt: skip
    file = write(tmp_path / "log.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    log = read_events(file, map={"user_id": "user_id.S", "timestamp": "timestamp.N"} if path else None)
    events = log.events.collect()
    assert events["user_id"].to_list() == [f'a"{{{n % 3}}}' for n in range(9)] and events["type"].unique().to_list() == ["view"]
    assert events["item_id"].to_list() == [str(n % 4) for n in range(9)]
    assert events["timestamp"].cast(pl.Int64).to_list() == [(T0 + n) * 1_000_000 for n in range(9)]
    assert "log.jsonl: user_id, item_id, type, timestamp: DynamoDB's objects such as S and N are read as the value in them" in log.notes


def test_an_export_of_dynamodb_leads_to_the_values_step_by_step(tmp_path: Path) -> None:
    rows = [{"Item": {"who": {"S": f"a{n % 3}"}, "sku": {"S": f"b{n}"}, "what": {"S": "view"}, "at": {"N": str(T0 + n)}}} for n in range(9)]
    file = write(tmp_path / "log.json", "".join(json.dumps(row) + "\n" for row in rows))
    found = {"user_id": "Item.who.S", "item_id": "Item.sku.S", "timestamp": "Item.at.N"}
    with pytest.raises(UserError, match=r'names of what happened, got objects such as .*"view"') as caught:
        read_events(file, map={**found, "type": "Item.what"})
    assert caught.value.hint == "name the field inside: --map type=Item.what.S"
    assert read_events(file, map={**found, "type": "Item.what.S"}).events.collect()["type"].to_list() == ["view"] * 9


def test_offsets_that_differ_are_said_and_each_is_read_by_its_own(tmp_path: Path) -> None:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    texts = [(start + timedelta(hours=8 * (n % 2))).strftime("%Y-%m-%dT%H:%M:%S") + ("Z", "+08:00")[n % 2] for n in range(8)]
    log = read_events(write(tmp_path / "log.csv", HEAD + "".join(f"u,i{n},click,{text}\n" for n, text in enumerate(texts))))
    assert set(log.events.collect()["timestamp"]) == {start} and any("2 offsets from UTC" in note for note in log.notes)
    bare = [text.removesuffix("+08:00") for text in texts]
    log = read_events(write(tmp_path / "bare.csv", HEAD + "".join(f"u,i{n},click,{text}\n" for n, text in enumerate(bare))))
    assert any("4 of 8 times have no zone" in note for note in log.notes)
    same = read_events(write(tmp_path / "same.csv", HEAD + f"u,a,click,{texts[0]}\nu,b,click,2024-01-02T00:00:00+00:00\n"))
    assert not any("UTC" in note for note in same.notes)


@pytest.mark.parametrize("text", ["2024-02-28 24:00:00", "2024-02-28T24:00:00Z", "28.02.2024 24:00:00", "2024-02-28 24:00"])
def test_24_00_is_the_beginning_of_the_next_day(tmp_path: Path, text: str) -> None:
    other = text.replace("24:00", "13:00")
    log = read_events(write(tmp_path / "log.csv", HEAD + f"u,a,click,{other}\nu,b,click,{text}\n"))
    moments = log.events.collect().sort("item_id")["timestamp"].to_list()
    assert moments == [datetime(2024, 2, 28, 13, tzinfo=UTC), datetime(2024, 2, 29, tzinfo=UTC)]


def test_a_plan_opens_some_files_of_a_folder_and_says_so(tmp_path: Path) -> None:
    for n in range(PLAN_FILES + 60):
        write(tmp_path / f"f{n:03}.csv", HEAD + f"u,i{n},click,{T0 + n}\n")
    write(tmp_path / "f050b.csv", "sku,colour\na,red\n")
    plan, whole = read_events(tmp_path, rows=100), read_events(tmp_path)
    assert plan.rows <= PLAN_FILES + 2 and not plan.whole and whole.rows == PLAN_FILES + 60
    assert any(f"of {PLAN_FILES + 61} files" in note for note in plan.notes)
    assert all(any("f050b.csv" in note for note in log.notes) for log in (plan, whole))


def test_objects_in_lists_are_no_ids(tmp_path: Path) -> None:
    rows = [{"user_id": "u", "timestamp": T0 + n, "details": [{"product": {"id": f"i{n}"}, "quantity": 2}]} for n in range(5)]
    file = write(tmp_path / "log.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=r"details\.KEY\.id"):
        read_events(file, map={"item_id": "details"})
    named = read_events(file, map={"item_id": "details.product.id"}).events.collect()
    assert sorted(named["item_id"]) == [f"i{n}" for n in range(5)]


def test_doubled_quotes_of_tab_separated_fields_are_one(tmp_path: Path) -> None:
    rows = "".join(f'"u"\t"i{n} ""x"""\tclick\t{T0 + n}\n' for n in range(5))
    log = read_events(write(tmp_path / "log.tsv", "user_id\titem_id\ttype\ttimestamp\n" + rows))
    assert sorted(log.events.collect()["item_id"]) == [f'i{n} "x"' for n in range(5)]


def test_the_error_of_a_value_says_how_a_name_with_blanks_is_written(tmp_path: Path) -> None:
    head, row = "user_id,item_id,type,timestamp,unit price,quantity\n", f"u,a,purchase,{T0},2.5,4\n"
    file = write(tmp_path / "log.csv", head + row)
    with pytest.raises(UserError, match="backquotes"):
        read_events(file, value="quantity*unit price")
    assert read_events(file, value="quantity*`unit price`").events.collect()["value"].to_list() == [10.0]


def test_a_plan_opens_the_files_that_an_option_names(tmp_path: Path) -> None:
    for n in range(PLAN_FILES + 60):
        write(tmp_path / f"f{n:03}.csv", f"user_id,item_id,timestamp\nu,i{n},{T0 + n}\n")
    assert "i51" not in set(read_events(tmp_path, rows=9).events.collect()["item_id"]), "of all files alike some are opened"
    plan = read_events(tmp_path, rows=9, type={"": "view", "f051.csv": "purchase"}).events.collect()
    assert plan.filter(pl.col("type") == "purchase")["item_id"].to_list() == ["i51"]
    with pytest.raises(UserError, match=r"a file of the log, got f999\.csv"):
        read_events(tmp_path, rows=9, type={"f999.csv": "purchase"})


def test_usual_names_are_read_and_said(tmp_path: Path) -> None:
    rows = "".join(f"{n % 3},i{n},{T0 + n}\n" for n in range(9))
    log = read_events(write(tmp_path / "views.csv", "SessionId,ItemId,EventTime\n" + rows))
    assert (log.rows, log.events.collect()["item_id"].n_unique()) == (9, 9)
    assert any("assumed by their names: session_id=SessionId, item_id=ItemId, timestamp=EventTime" in note for note in log.notes)
    mapped = read_events(tmp_path / "views.csv", map={"session_id": "SessionId", "item_id": "ItemId", "timestamp": "EventTime"})
    assert mapped.events.collect().equals(log.events.collect()) and not any("assumed" in note for note in mapped.notes)
    both = write(tmp_path / "both.csv", "userId,customer_id,itemId,timestamp\n" + "".join(f"a,b,i{n},{T0 + n}\n" for n in range(9)))
    with pytest.raises(UserError, match="say which column is which"):  # two columns could be the user
        read_events(both)
    with pytest.raises(UserError, match="say which column is which"):  # a table of products is no log
        read_events(write(tmp_path / "products.csv", "productId,title,createdAt\n1,a,1700000000\n"))


def test_usual_names_are_not_assumed_of_a_file_that_only_lies_in_the_folder(tmp_path: Path) -> None:
    write(tmp_path / "log.csv", HEAD + "".join(f"u,i{n},click,{T0 + n}\n" for n in range(9)))
    write(tmp_path / "orders.csv", "customerId,productId,createdAt\n" + "".join(f"c,p{n},{T0 + n}\n" for n in range(5)))
    log = read_events(tmp_path)
    assert log.rows == 9 and any("not read as events" in note and "orders.csv" in note for note in log.notes)
