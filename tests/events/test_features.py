"""Tables of items and users: nothing in them is lost without a word."""

import json
import lzma
from pathlib import Path

import polars as pl
import pytest
from event_files import T0, write

from qurate.errors import UserError
from qurate.events.features import feature_matrix, feature_names
from qurate.events.readers import read_events
from qurate.events.side_tables import read_features


def refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_features(path, "item_id").collect()
    return caught.value.typed


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["a,1,red", ",2,blue"], ["the item_id in every row", "line 3"]),
        (["a,1,red", "NULL,2,blue"], ["the item_id in every row", "line 3"]),
        (["a,1,red", "b,2,red", "a,1,blue"], ["one row per item_id", "'a'", "line 4"]),
        (["a,1,red", 'b,2,"two\nlines"', "a.0,1,red", "7.0,1,red", "7,2,red"], ["one row per item_id", "'7'", "line 7"]),
        (["a,1,red", "b,1,200,blue"], ["as many fields", "line 3"]),
    ],
)
def test_rows_that_would_be_lost_are_refused_with_their_line(tmp_path: Path, rows: list[str], words: list[str]) -> None:
    line = refused(write(tmp_path / "items.csv", "\n".join(["item_id,price,colour", *rows])))
    assert all(word in line for word in ["items.csv", *words]) and "\n" not in line


def test_rows_that_stand_twice_count_once(tmp_path: Path) -> None:
    table = read_features(write(tmp_path / "items.csv", "item_id,price\na,1\nb,2\na,1\n"), "item_id").collect()
    assert table.rows() == [("a", "1"), ("b", "2")]
    write(tmp_path / "ids.csv", "item_id\na\na\n")
    assert read_features(tmp_path / "ids.csv", "item_id").collect().rows() == [("a",)]
    text = "".join(json.dumps({"item_id": name, "tags": tags}) + "\n" for name, tags in (("a", ["x"]), ("a", ["x"]), ("b", ["y"])))
    assert read_features(write(tmp_path / "items.jsonl", text), "item_id").collect().height == 2
    pl.DataFrame({"item_id": [1, 1], "price": [1.0, 2.0]}).write_parquet(tmp_path / "items.parquet")
    assert "row 2" in refused(tmp_path / "items.parquet")


def test_a_number_that_is_none_is_refused(tmp_path: Path) -> None:
    assert "got 'cheap'" in refused(write(tmp_path / "shop.item", "item_id:token\tprice:float\na\t\nb\tcheap\n"))
    assert "decompress" in refused(write(tmp_path / "items.csv", lzma.compress(b"item_id,price\na,1\n")))


def test_items_of_campaigns_that_the_log_lacks_are_left_out(tmp_path: Path) -> None:
    write(tmp_path / "item_context.csv", "item_id,campaign,item_feature_0\n3,men,0.5\n4,men,0.25\n3,women,1\n3,all,1\n")
    head = "timestamp,item_id,position,click,propensity_score,campaign\n"
    log = read_events(write(tmp_path / "log.csv", head + f"{T0},3,1,1,0.25,men\n{T0 + 1},3,1,0,0.25,women\n"))
    assert log.items is not None
    assert sorted(log.items.collect().rows()) == [("men:3", "0.5"), ("men:4", "0.25"), ("women:3", "1")]


def test_the_small_open_bandit_log_has_its_own_80_items(real_log: object) -> None:
    log = read_events(real_log("open_bandit_small/log.parquet"))  # type: ignore[operator]
    assert log.items is not None and log.items.select(pl.len()).collect().item() == 80


@pytest.mark.parametrize("rows", ["a,1\na,2\n", ",1\n", "a,1,2\n", 'a,"1\nb,2\n'])
def test_a_table_that_lies_beside_the_log_is_checked_as_a_named_one(tmp_path: Path, rows: str) -> None:
    (tmp_path / "ev.csv").write_text("user_id,item_id,type,timestamp\nu,a,click,1700000000\n")
    (tmp_path / "ev.items.csv").write_text("item_id,price\n" + rows)
    with pytest.raises(UserError, match=r"ev\.items\.csv"):
        read_events(tmp_path / "ev.csv")


def test_a_missing_value_of_a_one_hot_column_has_a_column_of_its_own() -> None:
    table = pl.DataFrame({"colour": ["red", None, "red", "blue", " ", "blue"], "city": ["a", "b", "a", "b", "a", "b"]})
    matrix, spec = feature_matrix(table)
    assert feature_names(spec) == ["colour=blue", "colour=red", "colour:missing", "city=a", "city=b"]
    assert matrix[:, 2].tolist() == [0, 1, 0, 0, 1, 0] and matrix[1, :2].tolist() == [0, 0]
    again = feature_matrix(pl.DataFrame({"city": ["a"]}), spec)[0]  # the column is not there: it is missing
    assert again.tolist() == [[0, 0, 1, 1, 0]]
    before = {**spec, "columns": [{k: v for k, v in column.items() if k != "missing"} for column in spec["columns"]]}
    assert feature_matrix(table, before)[0].shape == (6, 4)  # a model of an earlier version reads as it did
