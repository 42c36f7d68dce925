"""A setting that nothing reads where it is trained is an error; a run without an update says so; names of the wrong kind are told apart."""

import logging
from typing import Any

import gymnasium
import pytest
from mdp_logs import event, make_log

from qurate.algorithms.table import algorithm_settings
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


@pytest.mark.parametrize(
    "algorithm,name,value,words",
    [
        ("myopic", "gamma", 0.5, "expected gamma=0.0 with myopic, got gamma=0.5"),
        ("double_dqn", "double", "false", "expected double=true with double_dqn, got double=false"),
        ("per_dqn", "prioritised", "false", "expected prioritised=true with per_dqn"),
        ("noisy_dqn", "noisy", "false", "expected noisy=true with noisy_dqn"),
        ("dueling_dqn", "head", "q", "expected head=dueling with dueling_dqn"),
        ("nstep_dqn", "n_step", 1, "expected an n_step of at least 2 with nstep_dqn, got n_step=1"),
    ],
)
def test_what_an_algorithm_s_name_says_is_not_set_otherwise(algorithm: str, name: str, value: Any, words: str) -> None:
    with pytest.raises(UserError) as refused:
        algorithm_settings(algorithm, {name: value})
    assert refused.value.code == Code.BAD_SETTING and words in str(refused.value) and f"at {name}" in str(refused.value)


def test_what_its_name_says_may_be_said_and_more_steps_are_more_steps() -> None:
    assert algorithm_settings("double_dqn", {"double": "true"}) == algorithm_settings("double_dqn", {})
    assert algorithm_settings("nstep_dqn", {"n_step": 5}).learning.n_step == 5


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


@pytest.mark.parametrize("name,value", [("behaviour_head", "attention"), ("support_threshold", 0.5), ("aux_weight", 0.5), ("negatives", 5)])
@pytest.mark.parametrize("algorithm", ["dqn", "double_dqn"])
def test_a_network_that_begins_in_a_world_has_no_behaviour_head(algorithm: str, name: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"a setting that a simulated world reads, got {name}"):
        train(env="toy_chain", algorithm=algorithm, steps=64, **SMALL, **{name: value})


@pytest.mark.parametrize(
    "env,algorithm,name,value",
    [
        ("CartPole-v1", "dqn", "filters", 8),
        ("CartPole-v1", "dqn", "candidate_features", False),
        ("FrozenLake-v1", "q_learning", "table_states", 50),
        ("FrozenLake-v1", "sarsa", "table_history", 1),
        ("FrozenLake-v1", "q_learning", "adam_eps", 1e-3),
        ("toy_chain", "q_learning", "adam_eps", 1e-3),
        ("toy_chain", "sarsa", "item_updates", "touched"),
        ("interest_evolution,slate_size=2,n_candidates=10", "slateq", "item_updates", "touched"),
    ],
)
def test_settings_that_a_task_a_table_or_slates_do_not_read(env: str, algorithm: str, name: str, value: Any) -> None:
    with pytest.raises(UserError) as refused:
        train(env=env, algorithm=algorithm, steps=64, **{name: value})
    assert refused.value.code == Code.SETTING_OF_ANOTHER_ALGORITHM and f"got {name}" in str(refused.value)


@pytest.mark.parametrize("name,switch", [("noisy_sigma", "noisy"), ("priority_alpha", "prioritised"), ("priority_beta", "prioritised")])
@pytest.mark.parametrize("env", ["CartPole-v1", "toy_chain", None])
def test_a_setting_whose_switch_is_off(dataset: Dataset, env: str | None, name: str, switch: str) -> None:
    data = dataset if env is None else None
    with pytest.raises(UserError, match=f"{switch}=true with {name}, got {switch}=false, at {name}; set both"):
        train(data, env=env, steps=1, **{name: 0.9})
    train(data, env=env, steps=1, algorithm="rainbow", hidden=8, v_max=1e6, v_min=-1e6, **{name: 0.9})


def test_settings_that_the_usual_form_does_not_read_are_said(caplog: pytest.LogCaptureFixture) -> None:
    """In a world of many items the form of dqn is linear_later, though nobody asked for it; it has no target network."""
    settings: dict[str, Any] = {"double": True, "loss": "huber", "target_tau": 0.5, "gamma": 0.5, "lr": 0.002, "later_weight": 0.9}
    with caplog.at_level(logging.WARNING):
        train(env="shop,n_items=30", steps=64, **SMALL, **settings)
        assert "form=linear_later does not read double, loss, target_tau, later_weight;" in caplog.text
        caplog.clear()
        train(env="shop,n_items=30", steps=64, form="now_later", **SMALL, **settings)
        assert "does not read" not in caplog.text
        train(env="shop,n_items=30", algorithm="dueling_dqn", steps=64, later_weight=0.9, double=True, **SMALL)
        assert "form=single does not read later_weight;" in caplog.text


@pytest.mark.parametrize("text,number", [(".5", 0.5), ("5e-1", 0.5), ("1.", 1.0), ("+.25", 0.25)])
def test_numbers_as_people_write_them(text: str, number: float) -> None:
    assert train(env="toy_chain", steps=64, gamma=text, **SMALL).settings.learning.gamma == number
    assert train(env="toy_chain", steps=64, replay_capacity="1e3", **SMALL).settings.replay.replay_capacity == 1000
    with pytest.raises(UserError, match=r"expected gamma: Expected `float`, got 'half'"):
        train(env="toy_chain", steps=64, gamma="half", **SMALL)
    with pytest.raises(UserError, match=r"expected batch_size: Expected `int`, got '2.5'"):
        train(env="toy_chain", steps=64, batch_size="2.5", **SMALL)
