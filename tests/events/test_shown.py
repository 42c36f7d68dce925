"""Reading what was shown: flat logs with lists or probabilities, and the table of decisions beside the events."""

import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from event_files import HEADER, T0, refused, write

from qurate.events.readers import read_events
from qurate.events.schema import DECISION_COLUMNS, EventLog


def test_flat_rows_become_decisions(tmp_path: Path) -> None:
    rows = [
        {"user_id": "u", "timestamp": T0, "item_id": "a", "type": "click", "shown": ["a", "b"], "propensity": [0.5, 0.25]},
        {"user_id": "u", "timestamp": T0 + 5, "item_id": None, "type": None, "shown": ["c"], "propensity": [1.0]},
        {"user_id": "u", "timestamp": T0 + 9, "item_id": "a", "type": "purchase"},
    ]
    log = read_events(write(tmp_path / "flat.jsonl", "\n".join(json.dumps(row) for row in rows)))
    assert log.kind == "logged"
    assert log.decisions is not None
    decisions = log.decisions.collect()
    assert dict(decisions.schema) == DECISION_COLUMNS
    assert decisions.select("decision_id", "shown", "propensity").rows() == [("d1", ["a", "b"], [0.5, 0.25]), ("d2", ["c"], [1.0])]
    assert log.events.select("type", "item_id", "decision_id").collect().rows() == [("click", "a", "d1"), ("purchase", "a", None)]


def test_flat_csv_with_one_item_per_row(tmp_path: Path) -> None:
    text = "user_id,item_id,type,timestamp,propensity\nu,a,click,1700000000,0.5\nu,b,shown,1700000001,0.25\n"
    log = read_events(write(tmp_path / "flat.csv", text))
    assert log.kind == "logged"
    assert log.decisions is not None
    assert log.decisions.select("shown", "propensity").collect().rows() == [(["a"], [0.5]), (["b"], [0.25])]
    assert log.events.select("item_id", "decision_id").collect().rows() == [("a", "d2")]


@pytest.mark.parametrize("name", ["flat.csv", "flat.parquet"])
def test_a_row_without_propensity_shows_nothing_unless_it_says_so(tmp_path: Path, name: str) -> None:
    def read(propensities: list[float | None], types: list[str]) -> EventLog:
        times = [T0 + i for i in range(len(types))]
        table = pl.DataFrame({"user_id": "u", "item_id": list("abc"), "type": types, "timestamp": times, "propensity": propensities})
        table = table.cast({"propensity": pl.Float64})
        table.write_csv(tmp_path / name) if name.endswith("csv") else table.write_parquet(tmp_path / name)
        return read_events(tmp_path / name)

    def decided(log: EventLog) -> list[tuple[object, ...]]:
        assert log.decisions is not None
        return log.decisions.select("shown", "propensity").collect().rows()

    log = read([0.5, None, 0.25], ["shown", "click", "shown"])
    assert (log.kind, decided(log)) == ("logged", [(["a"], [0.5]), (["c"], [0.25])])
    assert log.events.select("item_id", "type").collect().rows() == [("b", "click")]
    log = read([None, None, None], ["shown", "click", "shown"])
    assert (log.kind, decided(log)) == ("exposure", [(["a"], None), (["c"], None)])
    log = read([None, None, None], ["click", "view", "click"])
    assert (log.kind, log.decisions) == ("organic", None)
    assert log.events.collect().height == 3


def test_a_row_that_shows_nothing_needs_a_type_and_a_shown_item_an_id(tmp_path: Path) -> None:
    rows = [{"user_id": "u", "timestamp": T0, "item_id": "a", "type": None, "shown": shown} for shown in (["a"], None, ["a", None])]
    log = read_events(write(tmp_path / "flat.jsonl", "\n".join(json.dumps(row) for row in rows)), max_bad=1.0)
    assert log.rejects.select("line", "reason").rows() == [(2, "missing type"), (3, "missing item_id in the shown list")]


def test_decisions_go_with_any_layout_and_are_never_ignored(tmp_path: Path) -> None:
    log = write(tmp_path / "ratings.csv", f"userId,movieId,rating,timestamp\n1,a,4,{T0 + 1}\n")
    assert refused(log, decisions=tmp_path / "absent.csv").code == "not_found"
    shown = {"decision_id": "d", "user_id": "1", "timestamp": T0, "shown": ["a", "b"], "propensity": [0.5, 0.5]}
    read = read_events(log, decisions=write(tmp_path / "shown.jsonl", json.dumps(shown)))
    assert read.decisions is not None
    assert (read.layout, read.kind, read.decisions.collect()["shown"].to_list()) == ("movielens", "logged", [["a", "b"]])
    write(tmp_path / "events.sqlite", "")
    assert refused(tmp_path, decisions=tmp_path / "shown.jsonl").code == "bad_option"


def test_lists_in_csv_are_read_from_either_notation(tmp_path: Path) -> None:
    text = 'user_id,item_id,type,timestamp,shown\nu,a,click,1700000000,a|b\nu,b,click,1700000001,"[""a"", ""b c""]"\n'
    log = read_events(write(tmp_path / "flat.csv", text))
    assert log.decisions is not None
    assert log.kind == "exposure"
    assert log.decisions.collect()["shown"].to_list() == [["a", "b"], ["a", "b c"]]


def test_two_tables_and_impossible_propensities(tmp_path: Path) -> None:
    write(tmp_path / "events.csv", HEADER.replace("value", "decision_id") + "u,a,click,1700000001,d1\n")
    decisions = [
        {"decision_id": f"d{i}", "user_id": "u", "timestamp": T0, "shown": ["a", "b"], "propensity": [0.5, 0.5]} for i in range(300)
    ]
    decisions[5]["propensity"] = [0.5, 0.0]
    decisions[6]["propensity"] = [0.5]
    decisions[7]["propensity"] = [0.5, 1e-39]  # 0 or nearly as float32, in which training holds it
    write(tmp_path / "decisions.jsonl", "\n".join(json.dumps(row) for row in decisions))
    write(tmp_path / "items.csv", "item_id,price,available_from\na,1.5,2020-01-01\nb,2.5,2021-01-01\n")
    log = read_events(tmp_path / "events.csv")
    assert log.kind == "logged"
    assert log.decisions is not None
    assert log.decisions.collect().height == 297
    assert log.rejects["line"].to_list() == [6, 7, 8]
    assert all("propensity outside (0, 1]" in log.rejects["reason"][i] for i in (0, 2))
    assert log.items is not None
    items = log.items.collect()
    assert items["available_from"][1] == datetime(2021, 1, 1, tzinfo=UTC)
    assert read_events(tmp_path).layout == "qurate"


def test_a_large_share_of_bad_decisions_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "events.csv", HEADER + "u,a,click,1700000001,\n")
    write(
        tmp_path / "decisions.jsonl", json.dumps({"decision_id": "d", "user_id": "u", "timestamp": T0, "shown": ["a"], "propensity": [1.5]})
    )
    error = refused(tmp_path / "events.csv")
    assert "decisions: propensity outside (0, 1]" in str(error)
