"""Every deep algorithm in a world of items and on CartPole: trained, saved, resumed bit for bit, recommended from, compared."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load as load_tensors

from qurate.cli import app as cli
from qurate.errors import UserError
from qurate.learning.checkpoint import REPLAY, TENSORS
from qurate.models.model import load
from qurate.training.train import train

NAMES = ["noisy_dqn", "qr_dqn", "iqn", "rainbow", "munchausen"]
SMALL: dict[str, Any] = {"hidden": 8, "embedding_dim": 4, "window": 4, "batch_size": 16, "warm_up": 256}
TASK: dict[str, Any] = {"hidden": 8, "batch_size": 16, "warm_up": 256}


def support(name: str) -> dict[str, Any]:
    return {"v_min": -1.0, "v_max": 500.0} if name == "rainbow" else {}


@pytest.mark.usefixtures("few_customers")
@pytest.mark.parametrize("name", NAMES)
def test_in_a_world_of_items(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = SMALL | support(name)
    whole = train(env="toy_chain", algorithm=name, steps=384, seed=3, **given)
    train(env="toy_chain", algorithm=name, steps=320, seed=3, **given).save(tmp_path / "half")
    resumed = train(resume=tmp_path / "half", steps=384)
    for part in (TENSORS, REPLAY):
        mine, other = load_tensors(whole.checkpoint[part]), load_tensors(resumed.checkpoint[part])
        assert mine.keys() == other.keys() and [key for key in mine if not torch.equal(mine[key], other[key])] == []
    assert whole.metrics["updates"] > 2 and whole.metrics["skipped"] == 0
    whole.save(tmp_path / "m")
    loaded = load(tmp_path / "m")
    history = [{"item_id": "part", "type": "shown", "timestamp": 10**15}]
    first, again = (model.recommend(history=history, k=2) for model in (whole, loaded))
    assert [(i.item_id, i.score) for i in first.items] == [(i.item_id, i.score) for i in again.items] and len(first.items) == 2
    assert [i.propensity for i in first.items] == [1.0, 1.0], "greedy, by the means of noisy layers"
    assert first.items == whole.recommend(history=history, k=2).items, "the same answer each time"
    if name not in ("noisy_dqn", "iqn"):  # noise and drawn fractions are what a comparison could leave on
        return
    command = ["compare", str(tmp_path / "m"), "random", "--env", "toy_chain", "--seeds", "2", "--json", "--quiet"]
    assert cli.main(command) == 0
    table = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in table["policies"]} >= {"random"} and table["seeds"] == [0, 1]


@pytest.mark.parametrize("name", NAMES)
def test_on_cart_pole(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qurate.experiments.evaluate.TASK_EPISODES", 8)
    path = tmp_path / "m"
    train(env="CartPole-v1", algorithm=name, steps=320, seed=1, **TASK, **support(name)).save(path)
    longer = train(resume=path, steps=400)
    assert longer.metrics["steps"] == 400 and longer.metrics["updates"] > longer.metrics["skipped"] == 0
    assert cli.main(["evaluate", str(path), "--env", "CartPole-v1", "--seeds", "1", "--json", "--quiet"]) == 0
    result = json.loads(capsys.readouterr().out)["metrics"]["return"]["mean"]
    assert result >= 8, "no episode of CartPole is shorter"


def test_with_noise_epsilon_is_0_unless_it_is_set() -> None:
    def epsilons(**given: Any) -> tuple[float, float]:
        s = train(env="toy_tasks:chain", steps=64, hidden=8, **given).settings.exploration
        return s.epsilon_start, s.epsilon_end

    assert epsilons(algorithm="noisy_dqn") == epsilons(algorithm="qr_dqn", noisy=True) == (0.0, 0.0)
    assert epsilons(algorithm="noisy_dqn", epsilon_start=0.5) == (0.5, 0.0)
    assert epsilons(algorithm="rainbow", noisy=False) == epsilons(algorithm="dqn") == (1.0, 0.05)


@pytest.mark.parametrize(
    "given",
    [
        {"algorithm": "qr_dqn", "noisy": True, "head": "dueling", "double": True, "prioritised": True, "n_step": 3},
        {"algorithm": "iqn", "noisy": True, "head": "dueling", "double": True, "prioritised": True, "encoder": "gru"},
        {"algorithm": "c51", "noisy": True, "head": "dueling", "v_max": 500.0},
        {"algorithm": "munchausen", "noisy": True, "head": "dueling", "prioritised": True, "loss": "huber"},
        {"algorithm": "double_dqn", "noisy": True, "prioritised": True, "n_step": 3, "form": "single"},
        {"algorithm": "rainbow", "head": "c51", "noisy": False, "prioritised": False, "n_step": 1, "v_max": 500.0},
    ],
)
def test_combinations_that_make_sense_train(given: dict[str, Any]) -> None:
    metrics = train(env="toy_chain", steps=320, **SMALL, **given).metrics
    assert metrics["updates"] > 1 and metrics["skipped"] == 0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"algorithm": "dqn", "head": "qr"}, "algorithm qr_dqn"),
        ({"algorithm": "qr_dqn", "head": "c51"}, "algorithm c51"),
        ({"algorithm": "rainbow", "head": "q"}, "head=c51 or head=dueling with rainbow"),
        ({"algorithm": "munchausen", "n_step": 3}, "a setting of munchausen"),
        ({"algorithm": "munchausen", "double": True}, "a setting of munchausen"),
        ({"algorithm": "qr_dqn", "cosines": 4}, "a setting of qr_dqn"),
        ({"algorithm": "iqn", "form": "now_later"}, "a setting of iqn"),
        ({"algorithm": "iqn", "cosines": 0}, "at least one cosine"),
        ({"algorithm": "noisy_dqn", "form": "linear_later"}, "noisy=true with form=linear_later"),
        ({"algorithm": "q_learning", "noisy": True}, "a setting of q_learning"),
        ({"algorithm": "qr_dqn", "quantiles": 0}, "quantiles"),
        ({"algorithm": "qr_dqn", "kappa": -1.0}, "kappa"),
        ({"algorithm": "munchausen", "munchausen_tau": 0.0}, "munchausen_tau"),
        ({"algorithm": "munchausen", "munchausen_clip": 0.0}, "munchausen_clip"),
        ({"algorithm": "noisy_dqn", "noisy_sigma": 0.0}, "noisy_sigma"),
        ({"algorithm": "rainbow", "v_max": 1.0}, "returns seen"),
        ({"algorithm": "dqn", "gamma": 1.01}, "gamma"),
        ({"algorithm": "rainbow", "n_step": 0}, "n_step"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line_that_names_it(given: dict[str, Any], words: str) -> None:
    network = {} if given["algorithm"] == "q_learning" else {k: v for k, v in SMALL.items() if k not in given}
    with pytest.raises(UserError) as caught:
        train(env="toy_chain", steps=1_280, **network, **given)
    assert words in str(caught.value) and "\n" not in str(caught.value)
