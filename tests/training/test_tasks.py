"""Gymnasium tasks through the commands: train, save, load, evaluate, resume, interrupt, and what is refused."""

import json
import logging
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from qurate.algorithms.table import ALGORITHMS
from qurate.errors import UserError
from qurate.learning.checkpoint import REPLAY, read_arrays
from qurate.models.model import load
from qurate.training.train import train
from test_cli import one_error, run

Capture = pytest.CaptureFixture[str]
SMALL = ["--set", "hidden=16", "--set", "epsilon_steps=1000"]


def mean_of(capsys: Capture, model: Path, env: str) -> tuple[float, float]:
    """Mean return per episode of the model and of random actions."""
    code, out, err = run(capsys, "evaluate", str(model), "--env", env, "--seeds", "1", "--json", "--quiet")
    assert code == 0, err
    result = json.loads(out)
    return result["metrics"]["return"]["mean"], result["baselines"]["random"]["return"]["mean"]


@pytest.mark.parametrize("kind", ["numbers", "pixels", "integers", "dict_of_both", "masked"])
def test_every_kind_of_observation_is_learnt_saved_and_evaluated(
    kind: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight decisions that each earn 1 when right; at random a third of them are (half with a mask)."""
    env, model = f"toy_tasks:{kind}", tmp_path / "model"
    monkeypatch.setattr("qurate.experiments.evaluate.TASK_EPISODES", 10)
    short = ["--steps", "1200", "--set", "warm_up=300", "--set", "epsilon_steps=600"]
    options = [*short, "--set", "hidden=32", "--set", "gamma=0.5", "--set", "lr=0.003"]
    code, out, err = run(capsys, "train", "--env", env, "-o", str(model), *options, "--json", "--quiet")
    assert code == 0, err
    assert json.loads(out)["steps"] == 1200
    mean, at_random = mean_of(capsys, model, env)
    assert mean > 7 > 6 > at_random


@pytest.mark.parametrize("name", sorted(name for name, row in ALGORITHMS.items() if not row.from_logs and not row.slates))
def test_every_algorithm_trains_saves_and_goes_on(name: str, tmp_path: Path) -> None:
    env = "toy_tasks:chain"
    some: dict[str, Any] = {"v_min": -1.0, "v_max": 120.0} if name in ("c51", "rainbow") else {}
    deep: dict[str, Any] = {"hidden": 8} if name not in ("q_learning", "sarsa") else {}
    model = train(env=env, algorithm=name, warm_up=300, steps=400, seed=4, **some, **deep)
    model.save(tmp_path / "m")
    again = load(tmp_path / "m")
    assert again.algorithm == name and again.kind == "task" and again.metrics == model.metrics
    for key, value in model.ranker.module.state_dict().items():  # type: ignore[union-attr]
        assert torch.equal(value, again.ranker.module.state_dict()[key])  # type: ignore[union-attr]
    longer = train(resume=tmp_path / "m", steps=480)
    assert longer.metrics["steps"] == 480 and longer.settings == model.settings
    before, after = (
        read_arrays({REPLAY: one.checkpoint[REPLAY]})["ring.action"].reshape(model.settings.replay.lanes, -1) for one in (model, longer)
    )
    done = before > 0
    assert done.sum() == 400
    assert np.array_equal(after[:, : before.shape[1]][done], before[done]), "the replay stays"
    assert (after > 0).sum() == 480


def test_a_resumed_run_meets_new_episodes_and_always_the_same(tmp_path: Path) -> None:
    train(env="toy_tasks:numbers", warm_up=200, steps=240, hidden=8).save(tmp_path / "m")
    one, two = (train(resume=tmp_path / "m", steps=320) for _ in range(2))
    assert one.checkpoint[REPLAY] == two.checkpoint[REPLAY]


def test_a_resume_that_has_nothing_to_do_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(env="toy_tasks:numbers", warm_up=200, steps=240, hidden=8).save(tmp_path / "m")
    with caplog.at_level(logging.WARNING):
        assert train(resume=tmp_path / "m", steps=320).metrics["steps"] == 320 and not caplog.messages
        assert train(resume=tmp_path / "m", steps=100).metrics["steps"] == 240
    assert "the saved run has made its 240 steps; --steps counts those of all runs together" in caplog.text


def test_ctrl_c_saves_a_checkpoint(tmp_path: Path) -> None:
    def press(done: int, wanted: int, figures: dict[str, float]) -> None:
        if 300 <= done < 400:
            os.kill(os.getpid(), signal.SIGINT)

    stopped = train(env="toy_tasks:numbers", warm_up=200, steps=600, hidden=8, progress=press)
    assert stopped.metrics["stopped"] == "interrupted" and 300 <= stopped.metrics["steps"] < 600
    stopped.save(tmp_path / "m")
    assert train(resume=tmp_path / "m").metrics["steps"] == 600, "to the steps once wanted"


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("task") / "model"
    train(env="toy_tasks:numbers", steps=64, hidden=8).save(path)
    return path


@pytest.mark.parametrize(
    "args",
    [
        ["recommend", "TASK", "--user", "u"],
        ["recommend", "TASK", "--all-users", "-o", "NEW.csv"],
        ["serve", "TASK", "--port", "0", "--data", "NEW"],
        ["evaluate", "TASK", "--env", "shop"],
        ["evaluate", "TASK", "--env", "toy_tasks:pixels"],
        ["compare", "TASK", "random", "--env", "toy_chain", "--seeds", "1"],
    ],
)
def test_a_task_s_model_where_it_does_not_belong_is_one_line(args: list[str], task: Path, tmp_path: Path, capsys: Capture) -> None:
    code, out, err = run(capsys, *[a.replace("TASK", str(task)).replace("NEW", str(tmp_path / "new")) for a in args])
    assert code == 2 and out == "", err
    assert "task" in one_error(err) or "train one with --env" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options,words",
    [
        (["--env", "toy_tasks:numbers", "--set", "gamma=1.5"], "gamma"),
        (["--env", "toy_tasks:numbers", "--set", "n_step=0"], "n_step"),
        (["--env", "toy_tasks:not_a_number"], "a finite reward"),
        (["--env", "toy_tasks:huge"], "a finite reward"),
        (["--env", "toy_tasks:numbers", "--algorithm", "q_learning"], "one integer"),
        (["--env", "toy_tasks:dict_of_both", "--algorithm", "sarsa"], "one integer"),
        (["--env", "toy_tasks:numbers", "--rewards", "reward=2"], "its reward is the environment's own"),
        (["--env", "toy_tasks:numbers", "--set", "encoder=gru"], "a setting of dqn"),
        (["--env", "toy_tasks:numbers", "--set", "atoms=5"], "a setting of dqn"),
        (["--env", "toy_tasks:numbers", "--set", "head=c51"], "--algorithm c51"),
        (["--env", "toy_tasks:chain", "--algorithm", "q_learning", "--set", "double=true"], "a setting of q_learning"),
        (["--env", "toy_tasks:numbers", "--algorithm", "c51", "--set", "v_min=5", "--set", "v_max=1"], "v_min below v_max"),
        (["--env", "toy_tasks:numbers", "--algorithm", "c51", "--set", "v_max=0.5", "--set", "gamma=0"], "returns seen, 0 to 1,"),
        (["--env", "toy_tasks:none"], "toy_tasks"),
        (["--env", "no_such_module:factory"], "no_such_module"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(options: list[str], words: str, tmp_path: Path, capsys: Capture) -> None:
    code, out, err = run(capsys, "train", *options, "-o", str(tmp_path / "m"), "--steps", "1200", "--quiet")
    assert code == 2 and out == "", err
    assert words in one_error(err)
    assert list(tmp_path.iterdir()) == []


def test_the_support_in_a_world_is_checked_too() -> None:
    with pytest.raises(UserError, match="returns seen"):
        train(env="toy_chain", algorithm="c51", steps=1_280, v_max=1.0, hidden=8, embedding_dim=4, window=4)


def test_returns_are_discounted_as_the_model_was_trained(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every decision of CartPole earns 1, and no policy falls in fewer than 8: the discounted return is nearly 1 / (1 - gamma)."""
    model = str(tmp_path / "m")
    monkeypatch.setattr("qurate.experiments.evaluate.TASK_EPISODES", 5)
    assert run(capsys, "train", "--env", "CartPole-v1", "-o", model, "--steps", "64", *SMALL, "--set", "gamma=0.5", "--quiet")[0] == 0
    code, out, err = run(capsys, "evaluate", model, "--env", "CartPole-v1", "--seeds", "1", "--json", "--quiet")
    assert code == 0, err
    result = json.loads(out)
    assert result["gamma"] == 0.5 and "discounted: by 0.5 per decision" in result["caption"]
    assert [part["discounted"]["mean"] for part in (result["metrics"], result["baselines"]["random"])] == pytest.approx([2, 2], abs=0.01)


@pytest.mark.study
def test_cart_pole_is_learnt_without_options(tmp_path: Path, capsys: Capture) -> None:
    """A floor far below what it reaches (500); one core needs about a minute."""
    assert run(capsys, "train", "--env", "CartPole-v1", "-o", str(tmp_path / "m"), "--steps", "40000", "--quiet")[0] == 0
    mean, at_random = mean_of(capsys, tmp_path / "m", "CartPole-v1")
    assert mean >= 400 and at_random < 40
