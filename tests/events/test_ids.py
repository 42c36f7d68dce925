"""Reading ids: text that stays itself, bytes and columns that are no ids."""

import json
from pathlib import Path

import polars as pl
import pytest
from event_files import GOOD, HEADER, T0, lines, refused, write

from qurate.cli import app as cli
from qurate.events.readers import read_events
from qurate.events.validate import validate


def test_an_id_that_is_not_utf8_is_a_bad_row(tmp_path: Path) -> None:
    text = lines(GOOD).encode().replace(b"u3,i3,click,1700000003", b"u\xff3,i3,click,1700000003")
    log = read_events(write(tmp_path / "log.csv", text))
    assert log.rejects.select("line", "reason").rows() == [(5, "user_id is not UTF-8")]
    quote = read_events(write(tmp_path / "quote.csv", text.replace(b"u4,i4,click,1700000004", b'"u4,i4,click,1700000004', 1)))
    assert quote.rejects.select("line", "reason").rows() == [(5, "user_id is not UTF-8"), (6, "unbalanced quotes")]
    latin = HEADER.encode() + b"".join(b"caf\xe9,i%d,click,170000000%d,\ncaf\xe8,i%d,click,170000000%d,\n" % (i, i, i, i) for i in range(5))
    assert "user_id is not UTF-8" in str(refused(write(tmp_path / "latin.csv", latin)))
    checks = validate(read_events(tmp_path / "latin.csv", max_bad=1.0))["checks"]
    assert [check["count"] for check in checks if check["name"] == "text"] == [10]
    flat = b"user_id,item_id,type,timestamp,shown\nu,a,click,1700000000,a|b\xe9\n"
    assert "shown is not UTF-8" in str(refused(write(tmp_path / "flat.csv", flat)))


def test_a_replacement_character_that_the_source_holds_is_kept_where_bytes_are_checked(tmp_path: Path) -> None:
    row = {**GOOD[0], "user_id": "caf\ufffd"}
    pl.DataFrame([row]).write_parquet(tmp_path / "a.parquet")
    write(tmp_path / "b.jsonl", json.dumps(row))
    for name in ("a.parquet", "b.jsonl"):
        assert read_events(tmp_path / name).events.collect()["user_id"].to_list() == ["caf\ufffd"]


def test_ids_are_text_and_keep_their_zeros(tmp_path: Path) -> None:
    text = HEADER + "007,1.10,click,1700000000,\n7,1.1,click,1700000001,\n"
    kept = read_events(write(tmp_path / "log.csv", text)).events.collect()
    assert kept["user_id"].to_list() == ["007", "7"]
    assert kept["item_id"].to_list() == ["1.10", "1.1"]
    pl.DataFrame({"user_id": [1.0, None], "item_id": [2.0, 3.0], "timestamp": [T0, T0]}).write_parquet(tmp_path / "f.parquet")
    log = read_events(tmp_path / "f.parquet", max_bad=1.0)
    assert log.events.collect()["user_id"].to_list() == ["1"]
    assert log.rejects["reason"].to_list() == ["missing user_id"]


def test_whole_numbers_that_pandas_wrote_as_floats_are_the_same_ids(tmp_path: Path) -> None:
    text = "user_id,item_id,type,timestamp,shown\n12.0,,shown,1700000000,7.0|8\n12,7,click,1700000001,\n1.0.0,v2.0,click,1700000002,\n"
    log = read_events(write(tmp_path / "log.csv", text))
    assert log.events.collect().select("user_id", "item_id").rows() == [("12", "7"), ("1.0.0", "v2.0")]
    assert log.decisions is not None
    assert log.decisions.collect().select("user_id", "shown").rows() == [("12", ["7", "8"])]
    rows = [{**GOOD[0], "user_id": 12.0, "item_id": "7"}, {**GOOD[1], "user_id": 12, "item_id": 7.0}]
    log = read_events(write(tmp_path / "log.jsonl", "\n".join(json.dumps(row) for row in rows)))
    assert log.events.collect().select("user_id", "item_id").rows() == [("12", "7")] * 2


def test_words_for_nothing_are_missing_ids(tmp_path: Path) -> None:
    words = ["NULL", "null", "NaN", "nan", "None", r"\N", "", "NA", "N/A", "Nan"]
    text = HEADER + "".join(f"{word},i,click,{T0},\nu,{word},search,{T0 + i},\n" for i, word in enumerate(words))
    log = read_events(write(tmp_path / "log.csv", text), max_bad=1.0)
    assert log.rejects["line"].to_list() == [2, 4, 6, 8, 10, 12, 14]
    assert set(log.rejects["reason"]) == {"missing user_id"}
    found = log.events.filter(pl.col("type") == "search").collect()["item_id"].to_list()
    assert found == [None] * 7 + ["NA", "N/A", "Nan"]
    flat = f"user_id,timestamp,shown\nu,{T0},a|NULL\nu,{T0 + 1},a|b\n"
    bad = read_events(write(tmp_path / "flat.csv", flat), max_bad=1.0)
    assert bad.rejects["reason"].to_list() == ["missing item_id in the shown list"]


def test_ids_that_are_fractions_stay_different(tmp_path: Path) -> None:
    ids = [0.025, 0.05, 2.0, float("nan"), 1e300]
    pl.DataFrame({"user_id": ids, "item_id": ["a"] * 5, "timestamp": [T0 + i for i in range(5)]}).write_parquet(tmp_path / "f.parquet")
    log = read_events(tmp_path / "f.parquet", max_bad=1.0)
    assert log.events.collect()["user_id"].to_list() == ["0.025", "0.05", "2", "1e+300"]
    assert log.rejects["reason"].to_list() == ["missing user_id"]


@pytest.mark.parametrize(
    ("column", "value"),
    [("user_id", ["u1"]), ("type", {"a": 1}), ("value", [1.0]), ("timestamp", {"at": T0})],
)
def test_a_list_where_one_value_belongs_is_refused(tmp_path: Path, column: str, value: object) -> None:
    rows = [{**row, column: value} for row in GOOD[:3]]
    pl.DataFrame(rows).write_parquet(tmp_path / "log.parquet")
    paths = [tmp_path / "log.parquet"]
    if isinstance(value, list):
        paths.append(write(tmp_path / "log.jsonl", "\n".join(json.dumps(row) for row in rows)))
    for path in paths:
        error = refused(path)
        assert f"column {column}" in str(error) and "damaged" not in str(error)


def test_shown_objects_without_an_id_are_refused(tmp_path: Path) -> None:
    pl.DataFrame([{**row, "shown": [{"x": "a", "y2": 3}]} for row in GOOD[:3]]).write_parquet(tmp_path / "log.parquet")
    assert "shown is no list that can be read" in str(refused(tmp_path / "log.parquet"))


def test_a_duration_is_no_timestamp(tmp_path: Path) -> None:
    pl.DataFrame(GOOD).with_columns(pl.duration(seconds="timestamp").alias("timestamp")).write_parquet(tmp_path / "log.parquet")
    assert "got a column of type Duration" in str(refused(tmp_path / "log.parquet"))


def test_a_second_half_that_holds_baskets_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also beyond the rows that a plan looks at."""
    rows = [f"u{i % 90},p{i % 40},{1_700_000_000 + 60 * i}" for i in range(10_500)]
    rows += [f"u{i % 90},p{i % 40}|p{(i + 1) % 40},{1_700_700_000 + 60 * i}" for i in range(300)]
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\n" + "\n".join(rows) + "\n")
    assert cli.main(["ingest", str(tmp_path / "log.csv"), "-o", str(tmp_path / "d")]) == 0
    said = "40 of 80 items are made of others, such as 'p0|p1': where a row holds several, write a row for each of them"
    assert said in capsys.readouterr().err
