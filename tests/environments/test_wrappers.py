"""Gymnasium's wrappers and stable-baselines3's checker on our worlds."""

import importlib.util
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import FlattenObservation, NormalizeObservation, RecordVideo, RenderCollection, TimeLimit

import qurate  # noqa: F401 - registers the worlds

IDS = ["qurate/Shop-v0", "qurate/ToyChain-v0"]


def played(env: gymnasium.Env, steps: int) -> list[bool]:
    """Random legal actions; whether each step was truncated."""
    env.reset(seed=0)
    env.action_space.seed(0)
    out = []
    for _ in range(steps):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        out.append(truncated)
        if terminated or truncated:
            env.reset()
    return out


@pytest.mark.parametrize("name", IDS)
def test_time_limit_truncates(name: str) -> None:
    assert sum(played(TimeLimit(gymnasium.make(name), 3), 30)) >= 5
    assert not any(played(gymnasium.make(name), 20))


@pytest.mark.parametrize("name", IDS)
def test_flat_observations_can_be_normalised(name: str) -> None:
    env = NormalizeObservation(FlattenObservation(gymnasium.make(name)))
    played(env, 50)
    observation, _ = env.reset(seed=1)
    assert observation.shape == env.observation_space.shape and np.isfinite(observation).all()
    assert np.abs(env.obs_rms.mean).max() > 0, "it has seen observations"


@pytest.mark.parametrize("name", IDS)
def test_pictures_show_the_history(name: str) -> None:
    env = RenderCollection(gymnasium.make(name, render_mode="rgb_array"), pop_frames=False, reset_clean=False)
    played(env, 10)
    pictures = env.render()
    window = env.unwrapped.engine.window
    assert len(pictures) >= 10
    for picture in pictures:
        assert picture.dtype == np.uint8 and picture.shape == (32, 16 * window, 3)
    shown = (env.unwrapped._current.state.history_items[0] > 0).sum()
    drawn = env.unwrapped.render()[0, ::16].any(1).sum()
    assert drawn == shown


@pytest.mark.parametrize("name", IDS)
def test_the_checker_also_renders(name: str) -> None:
    check_env(gymnasium.make(name, render_mode="rgb_array").unwrapped)
    assert gymnasium.make(name).unwrapped.render() is None


@pytest.mark.skipif(importlib.util.find_spec("moviepy") is None, reason="RecordVideo needs moviepy")
def test_a_video_is_recorded(tmp_path: Path) -> None:
    env = RecordVideo(gymnasium.make(IDS[0], render_mode="rgb_array"), str(tmp_path))
    played(TimeLimit(env, 5), 6)
    env.close()
    assert list(tmp_path.glob("*.mp4"))


@pytest.mark.parametrize("name", IDS)
def test_stable_baselines3_accepts_them(name: str) -> None:
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    checker.check_env(gymnasium.make(name).unwrapped, warn=False)
