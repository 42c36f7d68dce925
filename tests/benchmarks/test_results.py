"""`make results` on a log of a few sessions: figures, words, and what a second run takes from the cache."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import results
import results_logs
import results_page

from qurate.models.model import load

DAY = 86_400


def tiny_log(folder: Path) -> Path:
    """60 customers who click along a circle of 12 items, over 20 days."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(60):
        item, time = int(rng.integers(12)), 1_600_000_000 + int(rng.integers(6 * DAY))  # short: episodes are sessions
        for _ in range(8):
            rows.append((f"u{user}", f"i{item}", "click", time))
            item, time = (item + 1) % 12, time + 60
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "type", "timestamp"], orient="row")
    frame.write_parquet(folder / "events.parquet")
    return folder / "events.parquet"


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    data = tmp_path / "data"
    data.mkdir()
    log = results_logs.Log("tiny", "events.parquet", "clicks", steps=30)
    monkeypatch.setattr(results, "LOGS", (log,))
    return {"file": tiny_log(data), "data": data, "cache": tmp_path / "cache", "out": tmp_path / "docs"}


def run(tiny: dict[str, Path], seeds: int = 2) -> dict[str, Any]:
    results.main(["--data", str(tiny["data"]), "--cache", str(tiny["cache"]), "--out", str(tiny["out"]), "--seeds", str(seeds)])
    found: dict[str, Any] = json.loads((tiny["out"] / "results.json").read_text())
    return found["logs"]["tiny"]


def test_a_log_becomes_figures_and_a_page_and_is_not_trained_twice(
    tiny: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = run(tiny)
    assert entry["key"]["sha256"] == hashlib.sha256(tiny["file"].read_bytes()).hexdigest()
    assert (entry["kind"], entry["rows"], entry["items"], entry["seeds"]) == ("organic", 480, 12, 2)
    assert set(entry["ranking"]["by_score"]) == {"q", "q_in_support", "behaviour", "behaviour_times_q", "myopic"}
    assert set(entry["ranking"]["baselines"]) == {"popularity", "item_knn", "recent"}
    assert set(entry["training"]) == {"dqn/0", "dqn/1", "myopic/0", "myopic/1"}
    gammas = [load(tiny["cache"] / f"tiny-{name}-0").settings.learning.gamma for name in ("dqn", "myopic")]
    assert gammas == [0.9, 0.0]
    assert entry["ranking"]["by_score"]["behaviour"]["first_choice_as_behaviour"] == 1.0
    text = (tiny["out"] / "results.md").read_text()
    assert entry["key"]["sha256"] in text and "agreement with what was chosen, not value" in text
    capsys.readouterr()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(results, "train", refuse)
    assert run(tiny) == entry
    assert "tiny: from" in capsys.readouterr().out
    (tiny["cache"] / "tiny.json").unlink()  # stopped before the figures: the models are still there
    again = run(tiny)
    assert again["ranking"] == entry["ranking"]


def test_another_file_is_trained_anew(tiny: dict[str, Path]) -> None:
    before = run(tiny, seeds=1)
    pl.read_parquet(tiny["file"]).head(400).write_parquet(tiny["file"])
    after = run(tiny, seeds=1)
    assert after["key"]["sha256"] != before["key"]["sha256"] and after["rows"] == 400


def row(mean: float, low: float, high: float) -> dict[str, Any]:
    return {"NDCG@20": {"mean": mean, "ci": [low, high]}}


def test_the_words_say_what_won() -> None:
    """Intervals that overlap decide nothing; the behaviour head is a rival of Q, not a part of it."""
    rows = {"q": row(0.20, 0.19, 0.21), "q_in_support": row(0.18, 0.17, 0.19), "myopic": row(0.15, 0.14, 0.16)}
    assert results_page.verdict(rows, "NDCG@20") == "DQN, ranked by Q wins over every other row"
    assert "more with what was chosen than myopic" in results_page.against_myopic(rows, "q", "NDCG@20")
    assert "item-kNN wins over Q" in results_page.verdict(rows | {"item_knn": row(0.3, 0.28, 0.32)}, "NDCG@20")
    rows["behaviour"] = row(0.3, 0.28, 0.32)
    assert "behaviour head (cross-entropy, not Q-learning) wins over Q" in results_page.verdict(rows, "NDCG@20")
    rows["behaviour"] = row(0.1, 0.09, 0.11)
    near = rows | {"item_knn": row(0.21, 0.2, 0.22)}
    assert results_page.verdict(near, "NDCG@20").startswith("not enough evidence")
    paired = {"metric": "NDCG@20", "over": "item_knn", "mean": -0.01, "ci": [-0.015, -0.005]}
    assert "item-kNN wins over Q" in results_page.verdict(near, "NDCG@20", paired)


def test_unknown_log_and_absent_folder(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="got taobao, at --only"):
        results.main(["--data", str(tmp_path), "--only", "taobao"])
    with pytest.raises(SystemExit, match="expected the folder of the real logs"):
        results.main(["--data", str(tmp_path / "absent")])
