"""An earlier log and a service's data directory as one log."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from service_store import T0, make_store

from qurate.cli import app as cli
from qurate.events.readers import read_events
from qurate.mdp.dataset import build_dataset

SECOND = 1_000_000


def write_log(path: Path, rows: list[str], header: str = "user_id,item_id,event_type,timestamp") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def old_rows(before_s: int = 100_000) -> list[str]:
    """Newest first, as some exports are."""
    start = T0 // SECOND - before_s
    return [f"u{i % 3},{'abc'[i % 3]},{'buy' if i % 4 == 0 else 'click'},{start + i * 60}" for i in reversed(range(12))]


@pytest.fixture
def both(tmp_path: Path) -> tuple[Path, Path]:
    folder = tmp_path / "live"
    folder.mkdir()
    make_store(folder, decisions=3).close()
    return write_log(tmp_path / "old.csv", old_rows()), folder


def test_history_before_the_service_and_decisions_of_the_service(both: tuple[Path, Path]) -> None:
    log = read_events(list(both))
    assert log.kind == "logged" and any("it is their history" in note for note in log.notes)
    events = log.events.collect()
    assert events.height == 13 and events["row"].is_sorted()
    own = events.filter(pl.col("user_id") == "u0").sort("row")
    assert own["timestamp"].is_sorted() and own["type"].to_list()[-1] == "click" and own["decision_id"].to_list()[-1] == "d0"
    dataset = build_dataset(log)
    t, arrays = dataset.transitions, dataset.arrays
    # u0 was served first: before d0 lie its 4 old events, oldest first
    user = dataset.user_ids.index("u0")
    state = int(np.flatnonzero(t.user == user)[0])
    rows = slice(int(arrays.user_start[user]), int(t.history_end[state]))
    kinds = [dataset.vocabulary.types[i - 1] for i in arrays.type[rows]]
    assert kinds == ["buy", "click", "click", "click"] and np.all(np.diff(arrays.time[rows]) > 0)
    assert len(t.user) == 3


def test_the_order_of_the_two_paths_does_not_matter(both: tuple[Path, Path]) -> None:
    one, other = (read_events(list(paths)).events.collect() for paths in (both, both[::-1]))
    assert one.equals(other)


def test_what_stands_in_both_is_counted_once(tmp_path: Path) -> None:
    folder = tmp_path / "live"
    folder.mkdir()
    make_store(folder).close()
    again = f"u0,b,click,{(T0 + 9) // SECOND}"  # the store's event e1, to the second
    other = f"u0,b,purchase,{(T0 + 9) // SECOND}"
    log = read_events([write_log(tmp_path / "old.csv", [*old_rows(), again, other]), folder])
    events = log.events.collect()
    assert events.height == 14 and any(note.startswith("1 events of the log stand in the service's store") for note in log.notes)
    assert events.filter(pl.col("decision_id") == "d0").height == 1


def test_an_exposure_log_makes_the_whole_one(tmp_path: Path) -> None:
    folder = tmp_path / "live"
    folder.mkdir()
    make_store(folder).close()
    header = "user_id,item_id,clicked,timestamp"
    log = read_events([write_log(tmp_path / "old.csv", [f"u0,a,{i % 2},{T0 // SECOND - 900 + i}" for i in range(6)], header), folder])
    assert log.kind == "exposure" and any("no probabilities" in note for note in log.notes)
    assert log.decisions is not None and log.decisions.collect().height == 8


def test_tables_of_items_are_united(both: tuple[Path, Path]) -> None:
    pl.DataFrame({"item_id": ["a", "b", "c", "new"], "price": [1.0, 2.0, 3.0, 4.0]}).write_parquet(both[1] / "items.parquet")
    log = read_events(list(both))
    assert log.items is not None and log.items.collect()["item_id"].to_list() == ["a", "b", "c", "new"]


def test_weights_of_the_service_are_kept(both: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`buy` has no default weight, and `leave` cannot be without --churn-after."""
    worth = {"buy": {"weight": 7.0}, "click": {"weight": 0.5}, "leave": {"weight": -1.0}, "never": {"weight": 3.0}}
    (both[1] / "model-rewards.json").write_text(json.dumps(worth))
    paths = [str(path) for path in both]
    assert cli.main(["ingest", *paths, "-o", str(tmp_path / "d"), "--json"]) == 0
    out, err = capsys.readouterr()
    plan = json.loads(out)["plan"]
    assert {one["type"]: one["weight"] for one in plan["types"]} == {"buy": 7.0, "click": 0.5}
    assert "note: rewards as the service's model weighs them: buy 7, click 0.5; --rewards says otherwise" in err
    assert [Path(file["file"]).name for file in plan["files"]] == ["old.csv", "events.sqlite"]
    rewards: dict[str, Any] = json.loads((tmp_path / "d" / "dataset.json").read_text())["rewards"]
    assert {name: one["weight"] for name, one in rewards.items()} == {"buy": 7.0, "click": 0.5}
    assert cli.main(["ingest", *paths, "-o", str(tmp_path / "d"), "--rewards", "click=2"]) == 0
    rewards = json.loads((tmp_path / "d" / "dataset.json").read_text())["rewards"]
    assert {name: one["weight"] for name, one in rewards.items()} == {"click": 2.0}
    assert cli.main(["ingest", str(both[1]), "-o", str(tmp_path / "alone"), "--churn-after", "1d", "--quiet"]) == 0
    rewards = json.loads((tmp_path / "alone" / "dataset.json").read_text())["rewards"]
    assert {name: one["weight"] for name, one in rewards.items()} == {"click": 0.5, "leave": -1.0}


def test_the_printed_command_reads_the_same(both: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import shlex

    assert cli.main(["ingest", *map(str, both), "-o", str(tmp_path / "d"), "--plan", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert cli.main([*shlex.split(plan["command"])[1:], "--plan", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["plan"]["types"] == plan["types"]
    assert cli.main(["validate", *map(str, both)]) == 0


def test_two_services_are_refused(both: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "other").mkdir()
    make_store(tmp_path / "other").close()
    assert cli.main(["ingest", str(both[1]), str(tmp_path / "other"), "-o", str(tmp_path / "d")]) == 2
    assert "the store of one service" in capsys.readouterr().err


def test_the_same_item_a_few_seconds_apart_is_two_events(tmp_path: Path) -> None:
    folder = tmp_path / "live"
    folder.mkdir()
    make_store(folder).close()
    later = f"u0,b,click,{(T0 + 9) // SECOND + 20}"
    events = read_events([write_log(tmp_path / "old.csv", [*old_rows(), later]), folder]).events.collect()
    assert events.filter((pl.col("user_id") == "u0") & (pl.col("item_id") == "b")).height == 2
