"""A run that stops and goes on is the run that did not stop, bit for bit: weights, averages, optimiser and figures."""

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from mdp_logs import event, make_log
from safetensors.torch import load as load_tensors

from qurate.errors import UserError
from qurate.learning.checkpoint import REPLAY, STATE, TENSORS
from qurate.mdp.dataset import build_dataset
from qurate.models.model import Model, load
from qurate.training.run import noticed_ctrl_c
from qurate.training.train import train

SMALL: dict[str, Any] = {"hidden": 8, "embedding_dim": 4, "window": 5, "batch_size": 16, "seed": 3}
WORLD = {**SMALL, "replay_capacity": 600, "update_every": 24, "warm_up": 300}
"""Rings that run over, and a number of updates per batched step that is no whole number."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = []
    for user in range(60):
        for step in range(20):
            kind = "purchase" if step % 3 == 2 else "click"
            rows.append(event(f"u{user}", f"i{(user + step * step) % 9}", 1.7e9 + user * 7919 + step * 6_000, kind))
    path = tmp_path_factory.mktemp("log") / "dataset"
    build_dataset(make_log(rows), out=path)
    return path


def assert_same_run(a: Model, b: Model) -> None:
    for name in (TENSORS, *([REPLAY] if a.environment else [])):
        mine, other = load_tensors(a.checkpoint[name]), load_tensors(b.checkpoint[name])
        assert mine.keys() == other.keys()
        assert [key for key in mine if not torch.equal(mine[key], other[key])] == []
    mine, other = (json.loads(m.checkpoint[STATE]) for m in (a, b))
    for key in ("updates", "rng"):
        assert mine[key] == other[key]
    for name, value in a.network.state_dict().items():
        assert torch.equal(value, b.network.state_dict()[name])


def figures(model: Model) -> dict[str, Any]:
    return {name: value for name, value in model.metrics.items() if name != "seconds"}


class Press:
    """Presses Ctrl-C when training reports that it has come this far."""

    def __init__(self, at: int) -> None:
        self.at = at

    def __call__(self, done: int, wanted: int, figures: dict[str, float]) -> None:
        if done >= self.at:
            os.kill(os.getpid(), signal.SIGINT)
            self.at = wanted + 1


def test_60_updates_and_60_more_are_120(dataset: Path, tmp_path: Path) -> None:
    whole = train(dataset, steps=120, **SMALL)
    train(dataset, steps=60, **SMALL).save(tmp_path / "half")
    assert_same_run(whole, train(resume=tmp_path / "half", steps=120))


def test_ctrl_c_stops_between_two_updates_and_nothing_is_lost(dataset: Path, tmp_path: Path) -> None:
    whole = train(dataset, steps=80, **SMALL)
    stopped = train(dataset, steps=80, progress=Press(at=41), **SMALL)
    assert stopped.metrics["stopped"] == "interrupted" and stopped.metrics["steps"] == 41
    stopped.save(tmp_path / "stopped")
    assert load(tmp_path / "stopped").metrics == stopped.metrics
    resumed = train(resume=tmp_path / "stopped")  # to the steps once wanted
    assert_same_run(whole, resumed)
    assert figures(whole) == figures(resumed), "also the learning curve is that of one run"


@pytest.mark.parametrize("env", ["toy_clickbait", "shop"])
def test_a_run_in_a_simulated_world_goes_on_with_its_customers_and_its_replay(env: str, tmp_path: Path) -> None:
    whole = train(env=env, steps=1_200, **WORLD)
    train(env=env, steps=800, **WORLD).save(tmp_path / "half")
    train(resume=tmp_path / "half", steps=1_000).save(tmp_path / "more")
    assert_same_run(whole, train(resume=tmp_path / "more", steps=1_200))


def test_ctrl_c_in_a_simulated_world(tmp_path: Path) -> None:
    whole = train(env="toy_chain", steps=1_000, **WORLD)
    train(env="toy_chain", steps=1_000, progress=Press(at=750), **WORLD).save(tmp_path / "stopped")
    resumed = train(resume=tmp_path / "stopped")
    assert_same_run(whole, resumed)
    assert figures(whole) == figures(resumed)


def test_a_budget_stops_and_says_so(dataset: Path, tmp_path: Path) -> None:
    model = train(dataset, steps=100_000, budget=0.2, **SMALL)
    assert model.metrics["stopped"] == "budget" and 0 < model.metrics["steps"] < 100_000 and model.metrics["seconds"] < 5
    model.save(tmp_path / "m")
    steps = model.metrics["steps"]
    assert_same_run(train(dataset, steps=steps + 20, **SMALL), train(resume=tmp_path / "m", steps=steps + 20))


def test_a_run_that_is_over_stays_as_it_is(dataset: Path, tmp_path: Path) -> None:
    model = train(dataset, steps=30, **SMALL).save(tmp_path / "m")
    assert_same_run(model, train(resume=tmp_path / "m"))
    assert_same_run(model, train(resume=tmp_path / "m", steps=10))


def test_what_cannot_be_resumed_is_refused(dataset: Path, tmp_path: Path) -> None:
    train(dataset, steps=5, **SMALL).save(tmp_path / "log")
    train(env="toy_chain", steps=64, **WORLD).save(tmp_path / "world")
    train(dataset, steps=5, algorithm="myopic", **SMALL).save(tmp_path / "myopic")
    load(tmp_path / "log").save(tmp_path / "bare")  # a loaded model carries no checkpoint
    build_dataset(make_log([event("u", f"i{i % 3}", 1.7e9 + i * 60) for i in range(60)]), out=tmp_path / "other")
    refused: list[tuple[str, dict[str, Any], str]] = [
        ("bare", {}, "no_checkpoint"),
        ("log", {"data": tmp_path / "other"}, "other_dataset"),
        ("world", {"data": dataset}, "bad_resume"),
        ("world", {"env": "shop"}, "bad_resume"),
        ("log", {"rewards": "click=1"}, "bad_resume"),
        ("log", {"lr": 0.1}, "bad_resume"),
        ("log", {"algorithm": "myopic"}, "bad_resume"),
        ("myopic", {"algorithm": "dqn"}, "bad_resume"),
    ]
    for name, options, code in refused:
        with pytest.raises(UserError) as caught:
            train(resume=tmp_path / name, **options)
        assert caught.value.code == code and caught.value.exit_code == 2, options


def test_a_second_ctrl_c_does_not_wait_and_other_handlers_are_left_alone() -> None:
    with pytest.raises(KeyboardInterrupt), noticed_ctrl_c() as pressed:
        os.kill(os.getpid(), signal.SIGINT)
        assert pressed()
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1_000):  # the interpreter looks at signals between instructions
            pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with noticed_ctrl_c() as pressed:
            os.kill(os.getpid(), signal.SIGINT)
            assert not pressed() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    seen: list[bool] = []

    def elsewhere() -> None:
        with noticed_ctrl_c() as pressed:
            seen.append(pressed())

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [False]
