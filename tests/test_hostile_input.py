"""Numbers far outside what anybody means, types that look right, and empty options: one line, and nothing written."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from qurate.cli.arguments import command_of
from qurate.environments.registry import make_engine, make_env, make_vector_env
from qurate.errors import Code, UserError
from qurate.training.train import train
from test_bad_input import refused

Capture = pytest.CaptureFixture[str]
HUGE = 10**23


@pytest.mark.parametrize(
    ("algorithm", "setting", "text"),
    [
        ("dqn", f"replay_capacity={HUGE}", "replay_capacity: a number of at most 9.01e+15, got"),
        ("dqn", f"batch_size={HUGE}", "batch_size: a number of at most 9.01e+15, got"),
        ("dqn", "lr=1e300", "lr: a number of at most 3.4e+38, got"),
        ("dqn", "adam_eps=1e-300", "adam_eps: Expected `float` >= 1e-30, got"),
        ("c51", "v_max=1e300", "v_max: Expected `float` <= 1000000000000000.0, got"),
        ("c51", "v_min=-1e16", "v_min: Expected `float` >= -1000000000000000.0, got"),
    ],
)
def test_settings_that_no_arithmetic_holds(algorithm: str, setting: str, text: str, tmp_path: Path, capsys: Capture) -> None:
    line = refused(capsys, "train", "--env", "toy_chain", "-o", tmp_path / "new", "--algorithm", algorithm, "--set", setting)
    assert text in line and not any(tmp_path.iterdir())


def test_weights_that_are_no_numbers_any_more_are_a_run_that_diverged() -> None:
    """A step can break the weights though loss and gradient were finite; then no action has a value."""
    with pytest.raises(UserError, match=r"a training run that converges, got values of actions that are not finite, at lr=3e\+38"):
        train(env="toy_chain", steps=300, lr=3e38, warm_up=64, lanes=16, batch_size=16)


def test_the_command_of_a_line() -> None:
    assert command_of(["--json", "--seed", "3", "train", "x"]) == "train"
    assert command_of(["--seed=3", "--quiet"]) == "" and command_of(["--help"]) == "--help"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"n_items": HUGE}, "n_items from 2 to 10,000,000 for shop"),
        ({"window": "x"}, "window from 1 to 10,000 for shop, got x"),
        ({"window": 10**12}, "window from 1 to 10,000 for shop"),
        ({"max_steps": 2.5}, "max_steps of at least 1 for shop, got 2.5"),
        ({"n_candidates": "x"}, "n_candidates from 0 to 10,000,000 for shop, got x"),
    ],
)
def test_arguments_of_worlds_that_are_no_numbers_within_limits(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError) as caught:
        make_engine("shop", **arguments)
    assert text in str(caught.value) and caught.value.code is Code.BAD_ARGUMENT


def test_numbers_of_numpy_are_numbers() -> None:
    """A loop over `np.arange` gives them."""
    one = make_engine("shop", n_items=np.int64(20), strength=np.float32(1), world_seed=np.int64(1), slate_size=np.int32(1))  # type: ignore[arg-type]
    same = make_engine("shop", n_items=20, strength=1.0, world_seed=1)
    first, second = one.reset(np.int64(5), np.int64(3)), same.reset(5, 3)  # type: ignore[arg-type]
    assert all(np.array_equal(a, b) for a, b in zip(first.state, second.state))
    assert np.array_equal(one.step(np.arange(3)).reward, same.step(np.arange(3)).reward)


@pytest.mark.parametrize("seed,n", [(1.5, 2), ("x", 2), (None, 2), (0, 2.5), (0, "3"), (0, None)])
def test_what_an_engine_is_reset_with(seed: Any, n: Any) -> None:
    with pytest.raises(UserError, match="whole numbers as seed and n"):
        make_engine("toy_chain").reset(seed, n)


def test_a_step_before_the_first_reset() -> None:
    with pytest.raises(UserError, match="expected reset before step, got none, at step"):
        make_engine("toy_chain").step(np.zeros(2, np.int64))
    with pytest.raises(gymnasium.error.ResetNeeded):
        make_env("toy_chain").step(0)


@pytest.mark.parametrize(
    ("world", "action", "text"),
    [
        ("shop", np.zeros((2, 2), np.int64), r"an action of 1 whole numbers, got shape \[2, 2\]"),
        ("shop", [], "whole number"),
        ("interest_evolution,slate_size=2", np.zeros(3, np.int64), r"an action of 2 whole numbers, got shape \[3\]"),
        ("shop", np.uint64(2**63 + 1), "an action within int64, got 9223372036854775809"),
    ],
)
def test_actions_of_another_shape(world: str, action: Any, text: str) -> None:
    env = make_env(world)
    env.reset(seed=0)
    with pytest.raises(UserError, match=text):
        env.step(action)


@pytest.mark.parametrize("num_envs", [0, -1, 2.5, "x"])
def test_a_vector_of_no_environments(num_envs: Any) -> None:
    with pytest.raises(UserError, match="num_envs from 1 to 10,000,000 for shop, got"):
        make_vector_env("shop", num_envs)


@pytest.mark.parametrize("name", [3, None, b"shop"])
def test_a_name_that_is_no_text(name: Any) -> None:
    with pytest.raises(UserError, match="a known environment"):
        make_engine(name)
