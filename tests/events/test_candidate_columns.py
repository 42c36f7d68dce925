"""`candidate.NAME`: what a log says of each candidate at its decision, in every place where a decision may stand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from qurate.errors import UserError
from qurate.events.readers import read_events
from qurate.mdp.dataset import build_dataset
from qurate.mdp.reading import Request, plan
from qurate.mdp.storage import Dataset

T0 = 1_717_200_000
DECISIONS = [
    {"decision_id": f"d{i}", "user_id": f"u{i % 4}", "timestamp": T0 + 600 * i, "shown": [f"i{i % 5}", f"i{(i + 1) % 5}"],
     "candidate.price": [1.5 + i % 5, 1.5 + (i + 1) % 5], "candidate.rank": [0, 1]}
    for i in range(40)
]  # fmt: skip
EVENTS = [
    {"decision_id": one["decision_id"], "user_id": one["user_id"], "timestamp": T0 + 600 * i + 5, "type": "click", "item_id": f"i{i % 5}"}
    for i, one in enumerate(DECISIONS)
    if i % 2 == 0
]  # fmt: skip


def json_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def prices(dataset: Dataset) -> dict[str, float]:
    """The price of each item, which in this log never changes."""
    t, column = dataset.transitions, dataset.candidate_columns.index("price")
    names = np.array(["", *dataset.vocabulary.items])
    return {str(names[item]): float(value) for item, value in zip(t.candidates, t.candidate_values[:, column])}


EXPECTED = {f"i{n}": 1.5 + n for n in range(5)}


@pytest.mark.parametrize("form", ["jsonl", "parquet", "csv", "frame", "beside"])
def test_a_decisions_table_says_something_of_each_candidate(form: str, tmp_path: Path) -> None:
    events = json_lines(tmp_path / "events.jsonl", EVENTS)
    path = tmp_path / {"beside": "decisions.jsonl"}.get(form, f"shown.{form}")
    frame = pl.DataFrame(DECISIONS)
    given: Any = path
    if form in ("jsonl", "beside"):
        json_lines(path, DECISIONS)
    elif form == "parquet":
        frame.write_parquet(path)
    elif form == "csv":
        lists = [pl.col(name).cast(pl.List(pl.String)).list.join("|") for name in ("shown", "candidate.price", "candidate.rank")]
        frame.with_columns(lists).write_csv(path)
    else:
        given = frame
    log = read_events(events) if form == "beside" else read_events(events, decisions=given)
    dataset = build_dataset(log)
    assert set(dataset.candidate_columns) >= {"price", "rank"} and prices(dataset) == EXPECTED
    assert prices(Dataset.read(str(dataset.write(tmp_path / "d").path))) == EXPECTED


def test_they_stand_in_the_log_itself_too(tmp_path: Path) -> None:
    log = json_lines(tmp_path / "log.jsonl", [*DECISIONS, *EVENTS])
    assert prices(build_dataset(read_events(log))) == EXPECTED


def test_a_list_of_numbers_as_long_as_the_shown_one_is_offered_and_can_be_mapped(tmp_path: Path) -> None:
    rows = [
        {"request": one["decision_id"], "user_id": one["user_id"], "timestamp": one["timestamp"], "shown": one["shown"],
         "clicked": [1, 0], "prices": one["candidate.price"], "tags": ["a", "b"], "sizes": [1, 2, 3]}
        for one in DECISIONS
    ]  # fmt: skip
    path = json_lines(tmp_path / "log.jsonl", rows)
    made = plan(Request([path]))
    nearest = {one["column"]: one["nearest"] for one in made["files"][0]["columns"] if one["role"] is None}
    assert nearest["prices"] == "candidate.prices" and nearest["tags"] is None and nearest["sizes"] != "candidate.sizes"
    mapped = Request([path], read={"map": {"candidate.price": "prices"}})
    roles = {one["column"]: one["role"] for one in plan(mapped)["files"][0]["columns"]}
    assert roles["prices"] == "candidate.price" and "--map candidate.price=prices" in plan(mapped)["command"]
    assert prices(build_dataset(read_events(path, map={"candidate.price": "prices"}))) == EXPECTED


def test_a_name_that_is_none_of_the_contracts_is_refused(tmp_path: Path) -> None:
    path = json_lines(tmp_path / "log.jsonl", DECISIONS)
    for name in ("candidate.", "candidates.price"):
        with pytest.raises(UserError, match="a column of the contract"):
            read_events(path, map={name: "candidate.price"})
