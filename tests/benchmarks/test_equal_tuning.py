"""Settings tried for each learner, and their table."""

from pathlib import Path
from typing import Any

import equal_tuning
import pytest
from equal_tuning import COMMON, FIRST, OWN, READ, drawn, search, table, tables

from qurate.algorithms.table import setting_names
from qurate.settings import from_flat

LINES = Path(__file__).parents[2] / "docs" / "equal_tuning.jsonl"


def test_what_is_drawn_repeats_lies_in_its_range_and_is_a_setting_of_the_learner() -> None:
    for row, (algorithm, first) in FIRST.items():
        assert drawn(row, 0) == first
        tried = [drawn(row, trial) for trial in range(1, 30)]
        if row == "dqn default":
            assert all(given == {} for given in tried)
            continue
        assert tried == [drawn(row, trial) for trial in range(1, 30)] and len({str(one) for one in tried}) == 29
        for given in tried:
            read = {**{name: of for name, of in COMMON.items() if name in READ.get(row, COMMON)}, **OWN.get(row, {})}
            assert set(given) - {"form", "start"} == set(read)
            for name, of in read.items():
                assert of.low <= float(given[name]) <= of.high
            from_flat({name: value for name, value in given.items() if name in setting_names("dqn" if row in READ else algorithm)})
    assert {given["form"] for given in (drawn("cql", trial) for trial in range(1, 30))} == {"single", "now_later"}
    assert {given["start"] for given in (drawn("customers", trial) for trial in range(1, 30))} == {"log", "nothing"}


def test_what_is_drawn_of_a_row_stays_when_rows_are_added() -> None:
    """Lines of docs/equal_tuning.jsonl are read by their settings."""
    known = {str(line["set"]) for line in equal_tuning.read(LINES) if line["row"] == "iql" and line["seed"] == 100}
    assert {str(drawn("iql", trial)) for trial in range(6)} <= known


def test_the_better_mean_of_the_best_two_is_chosen_and_nothing_is_trained_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = [str(drawn("bcq", trial)) for trial in range(4)]
    worth = {100: [1.0, 5.0, 4.0, 3.0], 101: [9.0, 1.0, 4.0, 9.0]}
    calls: list[tuple[int, int]] = []

    def one_other(study: str, customers: int, seed: int, name: str, given: dict[str, str], logs: Path) -> dict[str, Any]:
        calls.append((seed, tried.index(str(given))))
        if calls[-1] == (100, 3):
            raise ValueError("diverged")
        return {"mean": worth[seed][tried.index(str(given))], "train_seconds": 1}

    monkeypatch.setattr(equal_tuning, "one_other", one_other)
    monkeypatch.setattr(equal_tuning, "digest", lambda: "code")
    for _ in range(2):
        assert str(search("bcq", 4, tmp_path / "lines.jsonl", tmp_path)) == tried[2]  # 4 + 4 against 5 + 1
    assert sorted(calls) == [(100, 0), (100, 1), (100, 2), (100, 3), (101, 1), (101, 2)]


def test_the_table_pairs_seeds() -> None:
    def line(row: str, seed: int, mean: float, lr: str = "0.1", customers: int = 6000) -> dict[str, Any]:
        return {"row": row, "seed": seed, "set": {"lr": lr}, "mean": mean, "customers": customers}

    lines = [line("dqn", 100, 51.0), line("dqn", 20, 50.0), line("dqn", 21, 54.0)]
    lines += [line("cql", 100, 40.0), line("cql", 100, 31.0, "0.2"), line("cql", 20, 30.0), line("cql", 21, 32.0)]
    made = table(lines, {20: 40.0, 21: 41.0}).splitlines()
    assert made[2].startswith("| dqn | 1 | 51.0 | lr=0.1 | 52.0 [26.6, 77.4] |  |  | +11.5")
    assert made[3].startswith("| cql | 2 | 40.0 | lr=0.1 | 31.0 [18.3, 43.7] | -21.0 [-33.7, -8.3] |  | -9.5")
    again = table([line("cql", 100, 1.0), *lines], {20: 40.0, 21: 41.0}).splitlines()
    assert again[3] == made[3], "a setting that was trained again by other code is one setting, and the newest line counts"
    both = tables([*lines, line("dqn", 20, 30.0, customers=600), line("dqn", 100, 1.0, customers=600)], {20: 40.0, 21: 41.0})
    small, large = both.split("6,000 logged customers")
    assert "| 30.0 |  |  | -10.0 |" in small and large.strip().splitlines() == made
    later = table([*lines, line("dqn later", 20, 51.0), line("dqn later", 21, 52.0)], {20: 40.0, 21: 41.0}).splitlines()
    assert "| -20.5 [-26.9, -14.1] |" in later[3] and later[4].startswith("| dqn later | 0 | ")
