"""The page of rivals from its rows, and what a search that was too short gives."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import results_rivals
from mdp_logs import event, make_log

from qurate.errors import Code, UserError
from qurate.evaluation.ranking import ranking_targets
from qurate.mdp.dataset import build_dataset
from qurate.training.train import train

METRICS = ("HR@20", "NDCG@20", "MRR@20")


def metrics(value: float) -> dict[str, Any]:
    return {name: {"mean": value, "ci": [value - 0.1, value + 0.1]} for name in METRICS}


def row(value: float, behind: float, **more: Any) -> dict[str, Any]:
    found = {"settings": {}, "trials": 3, "default": 0.25, "best": 0.3, "minutes": 3.0, "seconds": [1.0], "metrics": metrics(value)}
    return found | {"dqn_minus_it": {"metric": "NDCG@20", "mean": behind, "ci": [behind - 0.1, behind + 0.1]}} | more


ENTRY = {
    "dqn": {"by": "q", "n": 1_234, "users": 56, **metrics(0.5)},
    "rows": {"popularity": row(0.2, 0.3), "ease": row(0.7, -0.2), "sasrec": row(0.4, 0.1, trials=0, default=None, best=None, minutes=12.0)},
}


def test_rows_stand_by_falling_figure_with_what_dqn_is_ahead() -> None:
    lines = results_rivals.section("a_log", ENTRY)
    assert lines[0] == "## a_log" and "1,234 targets of 56 users." in lines
    rows = [line.split(" | ") for line in lines if line.startswith("| ") and "row" not in line]
    assert [cells[0] for cells in rows] == ["| EASE", "| DQN, default options (q)", "| SASRec (one seed)", "| popularity with decay"]
    assert rows[0][2] == "0.7000 (0.6000 to 0.8000)" and rows[0][4] == "-0.2000 (-0.3000 to -0.1000)"
    assert rows[0][5:] == ["3", "3", "0.2500, 0.3000 |"] and rows[2][5:] == ["12", "0", "-, - |"]


def test_the_tables_stand_between_the_marks(tmp_path: Path) -> None:
    page = tmp_path / "rivals.md"
    page.write_text(f"before\n{results_rivals.BEGIN}\nold\n{results_rivals.END}\nafter\n")
    results_rivals.write_page({"a_log": ENTRY}, tmp_path)
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith(f"{results_rivals.END}\nafter\n") and "old" not in text and "## a_log" in text
    assert (tmp_path / "rivals.json").is_file()


def test_too_little_time_for_one_training_gives_the_default_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def too_short(*given: Any, **more: Any) -> Any:
        raise UserError("time for one training", "1 s", where="--budget", code=Code.BAD_DURATION)

    monkeypatch.setattr(results_rivals, "tune", too_short)
    data: Any = None
    found = results_rivals.tuned_within(data, "sasrec", tmp_path, 1.0)
    assert found["best"]["settings"] == {} and found["default"] is None and found["trials"] + found["pruned"] == 0


def test_ahead_is_dqn_minus_the_rival_on_the_same_targets() -> None:
    rng = np.random.default_rng(0)
    rows = [event(f"u{i // 8}", f"i{int(rng.integers(0, 40) ** 2 / 40)}", 1.7e9 + 60 * i) for i in range(1_600)]
    data = build_dataset(make_log(rows), episode="session")
    popular, chance = (train(data, algorithm=name) for name in ("popularity", "random"))
    judge = results_rivals.Judge(data, ranking_targets(data), [popular])
    assert judge.row([popular])["dqn_minus_it"] == {"metric": "NDCG@20", "mean": 0.0, "ci": [0.0, 0.0]}
    found = judge.row([chance])
    ahead = found["dqn_minus_it"]
    assert ahead["mean"] == pytest.approx(judge.own.total["NDCG@20"]["mean"] - found["metrics"]["NDCG@20"]["mean"])
    assert ahead["ci"][0] < ahead["mean"] < ahead["ci"][1] and ahead["mean"] > 0


def test_no_minutes_are_the_default_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data: Any = None
    monkeypatch.setattr(results_rivals, "tune", lambda *given, **more: {"best": {"settings": {"hidden": 8}}})
    assert results_rivals.tuned_within(data, "sasrec", tmp_path, 0.0)["best"]["settings"] == {}
    assert results_rivals.tuned_within(data, "sasrec", tmp_path, 1.0)["best"]["settings"] == {"hidden": 8}
