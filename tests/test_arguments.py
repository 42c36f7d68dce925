"""Arguments of another kind, from Python: one line that names the argument, whatever Python itself would have said."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import qurate
from qurate.settings import ELSEWHERE, OWNER

ROWS = [
    (f"u{user}", f"i{(user + step) % 5}", ("click", "purchase")[step % 2], 1_700_000_000 + 60 * step, "a")
    for user in range(6)
    for step in range(6)
]
LOG = pl.DataFrame(ROWS, schema=["user_id", "item_id", "type", "timestamp", "segment"], orient="row")
USERS = pl.DataFrame({"user_id": [f"u{user}" for user in range(6)], "segment": ["a", "b"] * 3})


@pytest.fixture(scope="module")
def model() -> qurate.Model:
    dataset = qurate.build_dataset(qurate.read_events(LOG.drop("segment")), users=USERS)
    return qurate.train(dataset, algorithm="popularity")


def said(call: Any, *args: Any, **kwargs: Any) -> str:
    """The one line that the call ends with."""
    with pytest.raises(qurate.UserError) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "name,value,text",
    [
        ("device", 3, "auto, cpu or cuda, got 3, at device"),
        ("device", ["cpu"], "auto, cpu or cuda, got ['cpu'], at device"),
        ("algorithm", ["dqn"], "the name of an algorithm, got ['dqn'], at algorithm"),
        ("algorithm", 3, "the name of an algorithm, got 3, at algorithm"),
        ("seed", True, "a seed of 0 or more, below 2**63, got True, at seed"),
        ("seed", np.array([3]), "a seed of 0 or more, below 2**63, got array([3]), at seed"),
        ("budget", True, "seconds, or a duration such as 10m, got True, at budget"),
        ("rewards", {1: 1}, "a reward component of the dataset, got 1, at rewards"),
        ("resume", 3, "a model's directory, got 3, at resume"),
        ("start", 3, "a model or its directory, got 3, at start"),
        ("histories", "no", "True or False, got 'no', at histories"),
        ("keep_diverged", "x", "True or False, got 'x', at keep_diverged"),
    ],
)
def test_of_train(name: str, value: Any, text: str) -> None:
    assert said(qurate.train, LOG, **{"steps": 2, name: value}).startswith(f"expected {text}")


@pytest.mark.parametrize(
    "name,value,text",
    [
        ("path", b"log.csv", "a path or several, got b'log.csv', at path"),
        ("path", ["log.csv", 3], "a path or several, got ['log.csv', 3], at path"),
        ("map", 3, "a mapping of texts, got 3, at map"),
        ("map", ["user_id=x"], "a mapping of texts, got ['user_id=x'], at map"),
        ("map", {"user_id": 3}, "a mapping of texts, got {'user_id': 3}, at map"),
        ("type", 3, "a mapping of texts, got 3, at type"),
        ("layout", ["qurate"], "text, got ['qurate'], at layout"),
        ("separator", 3, "text, got 3, at separator"),
        ("encoding", 3, "text, got 3, at encoding"),
        ("value", 3, "text, got 3, at value"),
        ("time_form", 3, "text, got 3, at time_form"),
        ("order", 3, "text, got 3, at order"),
        ("columns", 3, "a list of words, got 3, at columns"),
        ("columns", "user_id", "a list of words, got 'user_id', at columns"),
        ("header", "no", "True or False, got 'no', at header"),
        ("keep_duplicates", "no", "True or False, got 'no', at keep_duplicates"),
        ("rows", -1, "a whole number of at least 1, got -1, at rows"),
        ("max_bad", True, "a share from 0 to 1, got True, at max_bad"),
    ],
)
def test_of_read_events(name: str, value: Any, text: str, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\nu,i,1700000000\n")
    assert said(qurate.read_events, **{"path": tmp_path / "log.csv", name: value}).startswith(f"expected {text}")


@pytest.mark.parametrize(
    "name,value,text",
    [
        ("context", 3, "features of the customer by name, got 3, at context"),
        ("context", [("segment", "a")], "features of the customer by name, got [('segment', 'a')], at context"),
        ("context", {1: 2}, "a feature the model was trained with, got 1, at context; did you mean segment?"),
        ("context", {"segment": {"a": 1}}, "a value of a feature, got {'a': 1}, at context, segment"),
        ("history", 3, "a list of events, got 3, at history"),
        ("explain", "no", "True or False, got 'no', at explain"),
        ("seed", "x", "a seed of 0 or more, below 2**63, got 'x', at seed"),
        ("seed", 1.5, "a seed of 0 or more, below 2**63, got 1.5, at seed"),
        ("exclude", "seen", "a list of item ids, got 'seen', at exclude"),
    ],
)
def test_of_recommend(name: str, value: Any, text: str, model: qurate.Model) -> None:
    line = said(model.recommend, **{"user": "u1", name: value})
    assert line.replace("known: segment", "did you mean segment?").startswith(f"expected {text}")


def test_of_the_others(model: qurate.Model) -> None:
    for value in (3, None, b"model"):
        assert said(model.save, value).startswith(f"expected the path of a directory, got {value!r}, at save")
    assert "a whole number of at least 1, got -1, at visits" in said(qurate.evaluate, model, LOG, visits=-1)
    assert "a whole number of at least 1, got 'x', at visits" in said(qurate.evaluate_many, [model, "random"], LOG, visits="x")
    for value in (3, "seen"):
        assert f"a list of words, got {value!r}, at exclude" in said(qurate.evaluate, model, LOG, exclude=value)
        assert f"a list of words, got {value!r}, at exclude" in said(qurate.compare, ["random"], "toy_chain", 1, customers=2, exclude=value)
    assert "a list of at least one policy, got 3, at compare" in said(qurate.compare, 3, "toy_chain")
    for value in (3, ["http://127.0.0.1:1"]):
        assert "an address such as http://127.0.0.1:8000" in said(qurate.Client, value)


def test_numbers_of_numpy_are_numbers() -> None:
    given = {"batch_size": np.int64(8), "lr": np.float32(0.5), "double": np.bool_(True), "hidden": np.int32(4)}
    trained = qurate.train(LOG, seed=np.int64(1), steps=np.int64(2), budget=np.float32(60), **given)
    assert trained.settings.learning.batch_size == 8 and trained.settings.learning.lr == 0.5
    assert type(trained.settings.learning.batch_size) is int
    assert "batch_size" in said(qurate.train, LOG, batch_size=np.float64(3.5))


@pytest.mark.parametrize(
    "name,meant",
    [
        ("learnin_rate", "lr"),
        ("learning-rate", "lr"),
        ("discount", "gamma"),
        ("Gamma", "gamma"),
        ("n_steps", "n_step"),
        ("bufer_size", "replay_capacity"),
    ],
)
def test_a_setting_by_its_name_elsewhere_is_hinted(name: str, meant: str) -> None:
    assert said(qurate.train, LOG, steps=2, **{name: 1}).endswith(f"at settings; did you mean {meant}?")


def test_names_elsewhere_are_of_settings_that_there_are() -> None:
    assert set(ELSEWHERE.values()) <= set(OWNER) and not set(ELSEWHERE) & set(OWNER)
    assert "known: half_life" in said(qurate.train, LOG, algorithm="popularity", learning_rate=1)  # no setting of it comes near
