"""Every algorithm on a dataset: trained, recommended from, evaluated, saved, and resumed bit for bit."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mdp_logs import decision, event, make_log
from safetensors.torch import load as load_tensors

from qurate.algorithms.table import ALGORITHMS
from qurate.errors import UserError
from qurate.experiments.evaluate import evaluate
from qurate.learning.checkpoint import REPLAY, TENSORS
from qurate.mdp.dataset import build_dataset
from qurate.models.model import load
from qurate.training.train import train

TABLES = ["q_learning", "sarsa"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        event(f"u{user}", f"i{(user + step * step) % 9}", 1.7e9 + user * 7919 + step * 6_000, "purchase" if step % 3 == 2 else "click")
        for user in range(60)
        for step in range(20)
    ]
    path = tmp_path_factory.mktemp("log") / "dataset"
    build_dataset(make_log(rows), out=path)
    return path


def settings_of(name: str) -> dict[str, Any]:
    small: dict[str, Any] = {"batch_size": 16}
    small |= {} if name in TABLES else {"hidden": 8, "embedding_dim": 4, "window": 5}
    return small | ({"v_min": -1.0, "v_max": 60.0, "atoms": 21} if name in ("c51", "rainbow") else {})


@pytest.mark.parametrize("name", sorted(name for name, row in ALGORITHMS.items() if not row.slates))
def test_it_trains_answers_is_evaluated_and_goes_on_bit_for_bit(name: str, dataset: Path, tmp_path: Path) -> None:
    whole = train(dataset, algorithm=name, steps=8, seed=3, **settings_of(name))
    train(dataset, algorithm=name, steps=4, seed=3, **settings_of(name)).save(tmp_path / "half")
    resumed = train(resume=tmp_path / "half", steps=8)
    parts = [TENSORS, *([REPLAY] if name in ("per_dqn", "rainbow") else [])]
    for part in parts:
        mine, other = load_tensors(whole.checkpoint[part]), load_tensors(resumed.checkpoint[part])
        assert mine.keys() == other.keys() and [key for key in mine if not torch.equal(mine[key], other[key])] == []
    whole.save(tmp_path / "whole")
    answer = load(tmp_path / "whole").recommend("u1", 3)
    assert [item.item_id for item in answer.items] == [item.item_id for item in whole.recommend("u1", 3).items]
    assert len(answer.items) == 3 and answer.degraded is None
    report = evaluate(tmp_path / "whole", dataset).to_dict()
    assert 0 <= report["metrics"]["HR@20"]["mean"] <= 1 and json.dumps(report, allow_nan=False)


def test_the_support_must_cover_the_returns_of_the_log(dataset: Path) -> None:
    with pytest.raises(UserError, match="returns seen") as caught:
        train(dataset, algorithm="c51", steps=5, v_min=0.0, v_max=0.5)
    assert "0 to 0.5" in str(caught.value)


def test_sarsa_needs_to_know_what_was_shown_next() -> None:
    shown = [decision(f"d{user}-{i}", f"u{user}", ["a", "b"], 1e9 + 9000 * user + 600 * i) for user in range(20) for i in range(5)]
    clicks = [
        event(f"u{user}", "ab"[(user + i) % 2], 1e9 + 9000 * user + 600 * i + 5, decision_id=f"d{user}-{i}")
        for user in range(20)
        for i in range(4)
    ]
    lists = build_dataset(make_log(clicks, shown, "exposure"))
    with pytest.raises(UserError, match="a log of single items for sarsa, got one of lists"):
        train(lists, algorithm="sarsa", steps=5)
    assert train(lists, algorithm="q_learning", steps=5).metrics["steps"] == 5
