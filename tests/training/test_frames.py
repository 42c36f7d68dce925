"""Tasks whose observations are frames: what is learned, what is cut, where it computes, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from frame_tasks import catch, rich
from qurate.environments.from_gymnasium import make_task
from qurate.errors import UserError
from qurate.learning.checkpoint import REPLAY
from qurate.replay.frame_ring import FrameRing
from qurate.settings import flat
from qurate.training.on_task import task_defaults
from qurate.training.train import train
from test_cli import one_error, run

Capture = pytest.CaptureFixture[str]
SMALL: dict[str, Any] = {
    "warm_up": 500, "epsilon_steps": 3_000, "filters": 8, "hidden": 64, "update_every": 8, "target_period": 100, "lr": 1e-3, "ema": 0.99,
}  # fmt: skip
TINY: dict[str, Any] = {"lanes": 4, "warm_up": 64, "filters": 2, "hidden": 8, "update_every": 16, "batch_size": 8}


def written(**settings: Any) -> list[str]:
    return [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]


@pytest.mark.study
def test_a_game_is_learned_from_its_frames() -> None:
    """At random a third of the balls is caught: a mean return of about -0.35."""
    model = train(env=catch, steps=12_000, seed=0, **SMALL)
    returns = [point["return"] for point in model.metrics["curve"] if "return" in point]
    assert np.mean(returns[:10]) < 0 < 0.6 < np.mean(returns[-10:])


def test_the_curve_counts_whole_returns_while_the_learner_sees_clipped_rewards(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    add = FrameRing.add

    def watched(self: FrameRing, action: Any, feedback: Any, explored: Any = None) -> Any:
        seen.extend(feedback.components.ravel().tolist())
        return add(self, action, feedback, explored)

    monkeypatch.setattr(FrameRing, "add", watched)
    model = train(env=rich, steps=240, **TINY)
    points = [point for point in model.metrics["curve"] if "return" in point]
    assert set(seen) == {0.0, 1.0, -1.0}
    assert points and all(round(point["return"] * point["episodes"], 6) % 50 == 0 for point in points)
    assert max(abs(point["return"]) for point in points) > 1
    seconds = [point["seconds"] for point in points]  # tenths: the first ones may be 0
    assert seconds == sorted(seconds) and seconds[-1] > 0


def test_the_frames_stay_out_of_the_checkpoint_and_a_resumed_run_warms_up_again(tmp_path: Path) -> None:
    model = train(env="frame_tasks:catch", steps=208, **TINY)
    assert sum(map(len, model.checkpoint.values())) < 2e6 and len(model.checkpoint[REPLAY]) < 100
    model.save(tmp_path / "m")
    updates = model.metrics["updates"]
    assert updates == (208 - 64) // 16
    same = train(resume=tmp_path / "m", steps=256)
    assert (same.metrics["steps"], same.metrics["updates"]) == (256, updates), "64 decisions without an update"
    assert train(resume=tmp_path / "m", steps=288).metrics["updates"] == updates + 1, "and then as before"


def test_defaults_follow_size_of_images_and_device() -> None:
    frames, small = make_task("frame_tasks:catch"), make_task("toy_tasks:pixels")
    on_cpu, on_gpu = (task_defaults(frames, torch.device(name)) for name in ("cpu", "cuda"))
    assert frames.frames == 4 and small.frames == 1
    assert on_cpu["lanes"] < on_gpu["lanes"] and on_cpu["replay_capacity"] < on_gpu["replay_capacity"] == 1_000_000
    assert on_cpu["replay_capacity"] == 771_000, "one gigabyte of frames of 36 x 36"
    assert task_defaults(small, torch.device("cpu"))["lanes"] == 8
    model = train(env="frame_tasks:catch", steps=64, **TINY)
    assert flat(model.settings)["reward_clip"] == 1.0 and flat(model.settings)["double"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("not_a_number", ["a finite reward", "nan", "step "]),
        ("too_much", ["a finite reward", "1e+30", "step "]),
        ("no_action", ["at least one legal action", "none in lane 0", "step 3"]),
    ],
)
def test_a_broken_game_is_one_line_and_nothing_is_written(name: str, words: list[str], tmp_path: Path, capsys: Capture) -> None:
    code, out, err = run(capsys, "train", "--env", f"frame_tasks:{name}", "-o", str(tmp_path / "m"), "--steps", "400", *written(**TINY))
    assert code == 2 and out == ""
    assert all(word in one_error(err) for word in words), err
    assert list(tmp_path.iterdir()) == []


def test_a_game_that_ends_at_once_is_a_game(tmp_path: Path) -> None:
    model = train(env="frame_tasks:ends_at_once", steps=192, **TINY)
    assert model.metrics["steps"] == 192 and model.metrics["skipped"] == 0
    assert sum(point["episodes"] for point in model.metrics["curve"]) == 192, "every decision of every lane"


def test_a_gpu_that_is_not_there_is_one_line(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, out, err = run(capsys, "--device", "cuda", "train", "--env", "frame_tasks:catch", "-o", str(tmp_path / "m"))
    assert code == 2 and out == "" and "a CUDA GPU" in one_error(err) and "--device cpu" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_computes_the_same() -> None:
    """The first updates: later ones drift apart as rounding differs."""
    one, two = (train(env="frame_tasks:catch", steps=160, device=device, **TINY) for device in ("cpu", "cuda"))
    for key, value in one.ranker.module.state_dict().items():  # type: ignore[union-attr]
        assert torch.allclose(value, two.ranker.module.state_dict()[key], atol=1e-3), key  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("frames") / "model"
    train(env="frame_tasks:catch", steps=64, **TINY).save(path)
    return path


class TestPlay:
    def test_a_gif_has_a_picture_for_each_decision(self, model: Path, tmp_path: Path, capsys: Capture) -> None:
        image = pytest.importorskip("PIL.Image")
        target = tmp_path / "game.gif"
        options = ["play", str(model), "--env", "frame_tasks:catch_in_colours", "-o", str(target), "--episodes", "2", "--json", "--quiet"]
        code, out, err = run(capsys, *options)
        assert code == 0, err
        result = json.loads(out)
        assert len(result["returns"]) == 2 and set(result["returns"]) <= {1.0, -1.0}
        assert result["decisions"] == result["pictures"] == 16
        with image.open(target) as picture:
            assert picture.size == (36, 36) and picture.n_frames == 16
        assert run(capsys, *options)[0] == 0, "what qurate wrote may be replaced"
        target.write_bytes(b"mine")
        code, _, err = run(capsys, *options)
        assert code == 2 and "--force" in err and target.read_bytes() == b"mine"

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (["--env", "frame_tasks:catch_in_colours", "-o", "game.png"], "ends in .gif"),
            (["--env", "shop", "-o", "game.gif"], "a world of events"),
            (["--env", "toy_tasks:numbers", "-o", "game.gif"], "a task that draws pictures"),
            (["--env", "CartPole-v1", "-o", "game.gif"], "task that draws pictures|a model for CartPole-v1"),
            (["--env", "frame_tasks:nothing", "-o", "game.gif"], "a callable in frame_tasks"),
        ],
    )
    def test_what_cannot_be_played_is_one_line(
        self, options: list[str], words: str, model: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("PIL")
        monkeypatch.chdir(tmp_path)
        code, out, err = run(capsys, "play", str(model), *options)
        assert code == 2 and out == "" and any(word in one_error(err) for word in words.split("|")), err
        assert list(tmp_path.iterdir()) == []


def test_ale_s_pictures_are_those_of_the_game_that_is_played() -> None:
    pytest.importorskip("ale_py")
    from qurate.environments.pictured import pictured_task

    task, rng = pictured_task("ALE/Breakout-v5"), np.random.default_rng(0)
    observation = task.reset(3)
    for _ in range(200):
        mask = observation.actions.mask
        observation = task.step((rng.random(mask.shape) * mask).argmax(1)).obs
        picture, grey = task.picture(), observation.state.numbers[0, -1]
        assert picture.shape == (210, 160, 3)
        bright = picture.max(2)[93:189, 8:152] > 60
        assert abs(int(bright.any(0).sum()) - int((grey[37:75, 4:80] > 60).any(0).sum() * 160 / 84)) <= 12, "the same ball and paddle"
    task.close()


def test_a_replay_that_does_not_fit_is_one_line() -> None:
    with pytest.raises(UserError, match=r"a replay that fits the memory"):
        train(env="frame_tasks:catch", steps=64, **TINY | {"replay_capacity": 10**15})
