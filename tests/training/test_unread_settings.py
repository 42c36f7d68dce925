"""A setting that nothing reads where it is trained is an error; a run without an update says so; names of the wrong kind are told apart."""

import logging
from typing import Any

import gymnasium
import pytest
from mdp_logs import event, make_log

from qurate.environments.given import world_of
from qurate.environments.pictured import pictured_task
from qurate.errors import Code, UserError
from qurate.experiments.compare import compare
from qurate.mdp.dataset import build_dataset
from qurate.mdp.storage import Dataset
from qurate.training.train import train

SMALL: dict[str, Any] = {"hidden": 8, "embedding_dim": 4, "window": 4}


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    rows = [event(f"u{i // 20}", f"i{i % 7}", 1.7e9 + i * 60, "click" if i % 3 else "purchase") for i in range(800)]
    return build_dataset(make_log(rows), {"click": 1, "purchase": 5}, episode="session")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name,value",
    [
        ("lanes", 3),
        ("warm_up", "9"),
        ("reward_clip", 0.5),
        ("life_ends", True),
        ("filters", 3),
        ("epsilon_start", 0.5),
        ("epsilon_end", 0.5),
        ("epsilon_steps", 7),
        ("epsilon_spread", True),
        ("replay_capacity", 9_000),
        ("update_every", 3),
    ],
)
def test_a_dataset_reads_no_settings_of_tasks(dataset: Dataset, name: str, value: Any) -> None:
    with pytest.raises(UserError) as refused:
        train(dataset, algorithm="double_dqn", steps=1, **{name: value})
    assert refused.value.code == Code.SETTING_OF_ANOTHER_ALGORITHM and f"got {name}" in str(refused.value)


@pytest.mark.parametrize("name,value", [("passes", 2), ("calibrate", True), ("clocks", "on"), ("life_ends", "true"), ("filters", 3)])
def test_a_world_reads_no_settings_of_logs(name: str, value: Any) -> None:
    with pytest.raises(UserError, match="a simulated world reads"):
        train(env="toy_chain", steps=64, **SMALL, **{name: value})


def test_what_holds_anyway_may_be_said(dataset: Dataset) -> None:
    assert train(dataset, steps=2, warm_up=1_000, **SMALL).metrics["steps"] == 2


def test_a_run_that_ends_in_its_warm_up_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        train(env="toy_chain", steps=64, warm_up=5_000, **SMALL)
    assert "no update was made" in caplog.text and "5000 decisions" in caplog.text


def test_a_task_is_no_unknown_environment() -> None:
    with pytest.raises(UserError, match="a simulated world, got CartPole-v1, a task"):
        world_of("CartPole-v1", 5)
    with pytest.raises(UserError, match="a known environment, got NoSuchTask-v0"):
        pictured_task("NoSuchTask-v0")


class Undrawn(gymnasium.Env[Any, Any]):
    """An environment whose pictures need what is not there."""

    observation_space, action_space = gymnasium.spaces.Discrete(2), gymnasium.spaces.Discrete(2)
    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 - as Gymnasium's own

    def __init__(self, render_mode: str | None = None, error: Exception | None = None) -> None:
        self.render_mode, self.error = render_mode, error or gymnasium.error.DependencyNotInstalled("pygame is not installed")

    def reset(self, **options: Any) -> tuple[int, dict[str, Any]]:  # type: ignore[override]
        return 0, {}

    def render(self) -> Any:
        raise self.error


def undrawn(render_mode: str | None = None) -> Undrawn:
    return Undrawn(render_mode)


def broken(render_mode: str | None = None) -> Undrawn:
    return Undrawn(render_mode, RuntimeError("no screen"))


@pytest.mark.parametrize("name,code", [("undrawn", Code.MISSING_EXTRA), ("broken", Code.BAD_ENV)])
def test_pictures_that_cannot_be_drawn_are_told_as_what_they_are(name: str, code: Code, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "undrawn_tasks", sys.modules[__name__])
    task = pictured_task(f"undrawn_tasks:{name}")
    task.reset(0)
    with pytest.raises(UserError) as refused:
        task.picture()
    assert refused.value.code == code


def test_a_bandit_makes_as_many_decisions_as_what_it_is_beside() -> None:
    model = train(env="toy_chain", algorithm="qr_dqn", steps=128, **SMALL)
    rows = {row["name"]: row for row in compare([model, "linucb"], "toy_chain", seeds=2, customers=10)["policies"]}
    assert rows["linucb"]["steps_trained"] == 128


def test_what_has_no_values_says_that_there_is_nothing_to_explain(dataset: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    answer = train(dataset, algorithm="popularity").recommend("u1", 2, None, ["none"], explain=True)
    assert answer.items and "popularity learns no values of items" in caplog.text
    caplog.clear()
    explained = train(dataset, steps=2, **SMALL).recommend("u1", 2, None, ["none"], explain=True)
    assert explained.items[0].later is not None and "no values" not in caplog.text
