"""Numbers far outside what anybody means, types that look right, and empty options: one line, and nothing written."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import polars as pl
import pytest

import qurate
from qurate.cli.arguments import command_of
from qurate.environments.registry import make_engine, make_env, make_vector_env
from qurate.errors import Code, UserError, nearest, whole_number
from qurate.experiments.customers import customers
from qurate.serving.stores.sqlite import SqliteStore
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


@pytest.mark.parametrize(
    ("option", "text"),
    [("--algorithm", "a known algorithm, got , at --algorithm"), ("--budget", "a duration such as 30d, 12h or 10m, got '', at --budget")],
)
def test_an_empty_option_is_not_one_that_was_left_out(option: str, text: str, tmp_path: Path, capsys: Capture) -> None:
    assert text in refused(capsys, "train", "--env", "toy_chain", "-o", tmp_path / "new", option, "")


def test_names_in_other_letters_are_found() -> None:
    assert nearest("DQN", ["dqn", "bcq"]) == "did you mean dqn?" and nearest("cartpole-V1", ["CartPole-v1"]) == "did you mean CartPole-v1?"
    assert nearest("xyz", ["dqn", "bcq"]) == "known: bcq, dqn"


def test_a_policy_that_is_named_twice() -> None:
    with pytest.raises(UserError, match="each policy once, got random twice, at compare; leave one of them out"):
        qurate.compare(["random", "random"], "toy_chain", seeds=1, customers=5)


def logged(**more: Any) -> pl.DataFrame:
    """Twenty decisions of two items with probabilities, and the clicks that answered the first of each."""
    n = 20
    decisions: dict[str, Any] = {
        "decision_id": [f"d{i}" for i in range(n)], "user_id": [f"u{i % 4}" for i in range(n)],
        "timestamp": [1_717_200_000 + 60 * i for i in range(n)], "shown": [[f"i{i % 3}", f"i{(i + 1) % 3}"] for i in range(n)],
        "propensity": [[0.5, 0.5]] * n, "candidate.price": [[1.0, 2.0 + i] for i in range(n)],
    }  # fmt: skip
    answers = {
        "decision_id": decisions["decision_id"], "user_id": decisions["user_id"], "type": ["click"] * n,
        "timestamp": [time + 5 for time in decisions["timestamp"]], "item_id": [shown[0] for shown in decisions["shown"]],
    }  # fmt: skip
    return pl.concat([pl.DataFrame(decisions | more), pl.DataFrame(answers)], how="diagonal")


def test_values_of_candidates_that_nobody_learns_from_are_named() -> None:
    """With probabilities, all that was available could have been shown, and a row that names no candidates says nothing of that."""
    unused = "candidate.price is not learned from in 20 decisions that do not name their candidates"
    without = qurate.build_dataset(logged())
    assert any(note.startswith(unused) for note in without.manifest["notes"])
    assert without.transitions.candidate_values.size == 0
    assert qurate.train(without, steps=1, form="now_later").candidate_columns == ()
    named = logged(candidates=[[f"i{i % 3}", f"i{(i + 1) % 3}"] for i in range(20)])
    dataset = qurate.build_dataset(named)
    assert not any("not learned from" in note for note in dataset.manifest["notes"])
    assert "price" in qurate.train(dataset, steps=1, form="now_later").candidate_columns
    shown = qurate.build_dataset(logged().drop("propensity"))
    assert shown.kind == "exposure" and not any("not learned from" in note for note in shown.manifest["notes"])


def test_a_truth_that_is_no_world_is_found_before_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qurate.experiments.customers.fit_customers", lambda *args, **more: pytest.fail("fitted"))
    with pytest.raises(UserError, match="a known environment, got nope"):
        customers(qurate.build_dataset(logged()), truth="nope")


def test_a_file_where_the_data_of_a_service_belong(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=r"expected a directory, got a file, at .*file; choose another --data"):
        SqliteStore(tmp_path / "file", lambda writes: None)
    assert (tmp_path / "file").read_text() == "mine"


def test_features_of_candidates_under_names_that_are_no_text() -> None:
    model = qurate.train(logged(), steps=1)
    with pytest.raises(UserError, match="lists of numbers by name"):
        model.recommend("u1", 2, ["i1", "i2"], candidate_features={1: [1.0, 2.0]})  # type: ignore[dict-item]


def test_seeds_of_numpy_and_budgets_as_text() -> None:
    """`for seed in np.arange(5)` is how studies are written, and `10m` is what the command takes."""
    one, same = (train(env="toy_chain", algorithm="q_learning", steps=64, seed=seed, budget="10m") for seed in (np.int64(3), 3))  # type: ignore[arg-type]
    assert one.metrics["steps"] == same.metrics["steps"] == 64
    first, second = (model.recommend("x", 2).items for model in (one, same))
    assert [item.score for item in first] == [item.score for item in second]


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"seed": 1.5}, "a seed of 0 or more"),
        ({"seed": "x"}, "a seed of 0 or more"),
        ({"steps": 2.5}, "a whole number of at least 1, got 2.5"),
        ({"steps": "x"}, "a whole number of at least 1, got 'x'"),
        ({"budget": "10"}, "a duration such as"),
        ({"budget": float("nan")}, "seconds, or a duration such as 10m"),
        ({"budget": -1}, "seconds, or a duration such as 10m"),
    ],
)
def test_numbers_of_a_run(more: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        train(**({"env": "toy_chain", "steps": 64} | more))


def test_ids_that_are_whole_numbers_are_those_of_the_log() -> None:
    """A table of integers has them; the log keeps them as text."""
    table = pl.DataFrame(
        {"user_id": [i % 4 for i in range(40)], "item_id": [i % 5 for i in range(40)], "type": ["click"] * 40,
         "timestamp": [1_717_200_000 + 600 * i for i in range(40)]}
    )  # fmt: skip
    model = qurate.train(table, algorithm="popularity")
    text, number = model.recommend("3", 2, ["1", "2", "4"], exclude=["2"]), model.recommend(3, 2, [1, np.int64(2), 4], exclude=[2])  # type: ignore[arg-type, list-item]
    assert text.degraded is None and number.degraded is None and number.user_id == "3"
    assert [item.item_id for item in text.items] == [item.item_id for item in number.items]
    assert {item.item_id for item in number.items} == {"1", "4"}
    for wrong in ({"user": 1.5}, {"candidates": [None]}, {"exclude": [b"x"]}):
        with pytest.raises(UserError, match="an id as text, got"):
            model.recommend(**wrong)
    for wrong in ({"candidates": 3}, {"exclude": 3}):
        with pytest.raises(UserError, match="a list of item ids, got 3"):
            model.recommend(**wrong)
    with pytest.raises(UserError, match="k of at least 1, got True"):
        model.recommend(k=True)


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"seeds": 1.5}, "a whole number of at least 1, got 1.5"),
        ({"seeds": [0, 1]}, r"a whole number of at least 1, got \[0, 1\]"),
        ({"seed": -1}, "a whole number of at least 0, got -1"),
        ({"customers": 2.5}, "a whole number of at least 1, got 2.5"),
    ],
)
def test_numbers_of_a_comparison(more: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        qurate.compare(["random"], "toy_chain", **more)


@pytest.mark.parametrize("value", [True, 0, 11, 1.0, "3"])
def test_what_is_no_whole_number_within_limits(value: Any) -> None:
    with pytest.raises(UserError, match="expected a whole number"):
        whole_number(value, "n", 1, Code.BAD_STEPS, high=10)
    assert whole_number(np.int64(10), "n", 1, Code.BAD_STEPS, high=10) == 10


def test_a_budget_as_text_is_in_seconds() -> None:
    model = train(env="toy_chain", algorithm="q_learning", steps=100_000, seed=0, budget="1s")
    assert model.metrics["steps"] < 100_000
