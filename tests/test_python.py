"""Python as a caller uses it: DataFrames, policies and environments as objects, what a notebook shows, errors in its words."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

import qurate
from qurate.environments.given import name_of, task_of, world_of
from qurate.errors import UserError
from qurate.types import Observation

SMALL: dict[str, Any] = {"hidden": 8, "embedding_dim": 8, "batch_size": 16}
ROWS = 240
COLUMNS = {
    "user_id": [f"u{i % 6}" for i in range(ROWS)],
    "item_id": [i % 7 for i in range(ROWS)],
    "type": ["purchase" if i % 5 == 0 else "click" for i in range(ROWS)],
    "timestamp": [1_717_200_000 + 600 * i for i in range(ROWS)],
}
LOG = pl.DataFrame(COLUMNS)
ITEMS = pl.DataFrame({"item_id": list(range(7)), "price": [float(i) for i in range(7)]})


def same(one: qurate.Dataset, other: qurate.Dataset) -> bool:
    parts = zip((*vars_of(one.arrays), *vars_of(one.transitions)), (*vars_of(other.arrays), *vars_of(other.transitions)))
    return one.vocabulary == other.vocabulary and all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in parts)


def vars_of(arrays: Any) -> list[NDArray[Any]]:
    return [getattr(arrays, name) for name in arrays.__slots__]


@pytest.fixture(scope="module")
def dataset() -> qurate.Dataset:
    return qurate.build_dataset(LOG, items=ITEMS)


@pytest.fixture(scope="module")
def model(dataset: qurate.Dataset) -> qurate.Model:
    return qurate.train(dataset, steps=3, **SMALL)


@pytest.mark.parametrize("form", ["csv", "parquet", "lazy", "datetime", "categorical", "renamed", "two"])
def test_a_frame_is_read_as_the_file_of_its_rows(form: str, tmp_path: Path) -> None:
    LOG.write_csv(tmp_path / "log.csv")
    LOG.write_parquet(tmp_path / "log.parquet")
    expected = qurate.build_dataset(qurate.read_events(tmp_path / "log.csv"))
    given: dict[str, Any] = {
        "csv": {"path": tmp_path / "log.csv"},
        "parquet": {"path": str(tmp_path / "log.parquet")},
        "lazy": {"path": LOG.lazy()},
        "datetime": {"path": LOG.with_columns(pl.from_epoch("timestamp"))},
        "categorical": {"path": LOG.with_columns(pl.col("type", "user_id").cast(pl.Categorical))},
        "renamed": {"path": LOG.rename({"user_id": "who", "item_id": "row"}), "map": {"user_id": "who", "item_id": "row_2"}},
        "two": {"path": [LOG.head(100), LOG.tail(ROWS - 100)]},
    }
    assert same(qurate.build_dataset(qurate.read_events(**given[form])), expected)


def test_a_frame_beside_a_file_of_the_same_log(tmp_path: Path) -> None:
    LOG.tail(ROWS - 100).write_csv(tmp_path / "rest.csv")
    log = qurate.read_events([LOG.head(100), tmp_path / "rest.csv"])
    assert log.rows == ROWS and log.source == ["DataFrame", str(tmp_path / "rest.csv")]


class Arrow:
    """A table of another library: all that is known of it is the Arrow stream that it hands out."""

    def __init__(self, table: pl.DataFrame) -> None:
        self.table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)


def test_a_table_of_another_library_is_read_by_its_arrow_stream() -> None:
    assert same(qurate.build_dataset(Arrow(LOG)), qurate.build_dataset(LOG))
    with pytest.raises(qurate.UserError):
        qurate.build_dataset(LOG["user_id"])  # type: ignore[arg-type]


def test_pandas_is_read_where_it_is_installed() -> None:
    pandas = pytest.importorskip("pandas")
    assert same(qurate.build_dataset(pandas.DataFrame(COLUMNS)), qurate.build_dataset(LOG))


def test_a_frame_takes_nothing_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ITEMS.write_csv("items.csv")
    pl.DataFrame({"decision_id": ["d"], "user_id": ["u"], "timestamp": [1], "shown": ["a|b"]}).write_csv("decisions.csv")
    log = qurate.read_events(LOG)
    assert log.items is None and log.decisions is None


def test_tables_of_items_and_users_are_frames_or_files(tmp_path: Path, dataset: qurate.Dataset) -> None:
    ITEMS.write_csv(tmp_path / "items.csv")
    users = pl.DataFrame({"user_id": [f"u{i}" for i in range(6)], "age": [20.0 + i for i in range(6)]})
    users.write_parquet(tmp_path / "users.parquet")
    from_file = qurate.build_dataset(LOG, items=tmp_path / "items.csv", users=str(tmp_path / "users.parquet"))
    assert same(qurate.build_dataset(LOG, items=ITEMS.lazy(), users=users), from_file) and from_file.user_features.shape == (6, 1)
    assert dataset.item_spec == from_file.item_spec and np.array_equal(dataset.item_features, from_file.item_features)


def test_the_decisions_are_a_frame_too() -> None:
    shown = {"decision_id": ["d1"], "user_id": ["u0"], "timestamp": [1_717_200_000], "list": [["1", "2"]], "candidate.price": [[1.5, 2]]}
    events = LOG.with_columns(decision_id=pl.lit(None, pl.String))
    log = qurate.read_events(events, decisions=pl.DataFrame(shown, strict=False), map={"decisions:shown": "list"})
    assert log.decisions is not None and log.kind == "exposure"
    assert log.decisions.collect()["shown"].to_list() == [["1", "2"]]


def test_train_and_evaluate_take_a_frame(model: qurate.Model) -> None:
    trained = qurate.train(LOG, steps=3, **SMALL)
    assert trained.recommend(user="u1", k=2, exclude=["none"]).degraded is None
    assert qurate.evaluate(trained, LOG).to_dict()["n"] > 0
    assert qurate.train(qurate.read_events(LOG), algorithm="popularity").algorithm == "popularity"


class FirstAllowed:
    """Shows the first item that may be shown."""

    name = "first"

    def act(self, observation: Observation[Any], rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        mask = observation.actions.mask
        return np.where(mask.any(axis=1), mask.argmax(axis=1), -1), mask.any(axis=1).astype(np.float64)


def test_arguments_that_were_swapped_or_no_list_are_the_callers_mistake(dataset: qurate.Dataset, model: qurate.Model) -> None:
    with pytest.raises(UserError, match="expected a model or its directory, got Dataset"):
        qurate.evaluate(dataset, model)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="expected a list of at least one policy"):
        qurate.compare(model, "shop")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="at k;"):
        model.recommend("u1", k=0)


def test_compare_takes_models_and_policies_as_objects() -> None:
    model = qurate.train(env="shop", steps=64, **SMALL)
    engine = qurate.make_engine("shop", max_steps=5)
    by_object = qurate.compare([model, FirstAllowed(), FirstAllowed(), "random"], engine, seeds=2, customers=20)
    assert [row["name"] for row in by_object["policies"]] == ["dqn", "first", "first 2", "random"]
    assert by_object["env"] == "Shop object" and by_object["policies"][1]["mean"] == by_object["policies"][2]["mean"]
    named = qurate.compare([FirstAllowed(), "random"], "shop", seeds=2, customers=20)
    assert named["env"] == "shop" and {"true_myopic", "far_sighted"} <= {row["name"] for row in named["policies"]}
    for wrong in ("random", [object()], []):
        with pytest.raises(UserError, match="policy"):
            qurate.compare(wrong, "shop")  # type: ignore[arg-type]


class Corridor(gymnasium.Env[Any, Any]):
    """Right is the way: five steps of it, and 1 is earned."""

    def __init__(self, length: int = 5) -> None:
        self.length = length
        self.observation_space = gymnasium.spaces.Discrete(length + 1)
        self.action_space = gymnasium.spaces.Discrete(2)
        self.at = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.at = 0
        return self.at, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        self.at = max(self.at + (1 if action else -1), 0)
        return self.at, float(self.at == self.length), self.at == self.length, False, {}


@pytest.mark.parametrize("form", ["object", "function", "class in a lambda"])
def test_train_takes_an_environment_as_an_object(form: str) -> None:
    env: Any = {"object": Corridor(4), "function": lambda: Corridor(4), "class in a lambda": lambda: Corridor(length=4)}[form]
    model = qurate.train(env=env, algorithm="q_learning", steps=2_000, gamma=0.9)
    report = qurate.evaluate(model, env=env, seeds=2, customers=5).to_dict()
    assert report["metrics"]["return"]["mean"] == 1.0 and str(report["on"]).endswith(" object")


def test_a_run_in_an_object_goes_on_with_the_object(tmp_path: Path) -> None:
    path = tmp_path / "model"
    qurate.train(env=Corridor(4), algorithm="q_learning", steps=200).save(path)
    with pytest.raises(UserError, match="the Corridor object that the model was trained in"):
        qurate.train(resume=path, steps=400)
    assert qurate.train(resume=path, env=Corridor(4), steps=400).metrics["steps"] >= 400


def test_a_world_as_an_object_is_the_world_with_its_options(tmp_path: Path) -> None:
    engine = qurate.make_engine("shop", n_items=30, max_steps=7)
    assert world_of(engine, 5).item_ids == engine.item_ids and world_of(engine, 5).window == 5
    by_env = world_of(gymnasium.make("qurate/Shop-v0", n_items=30), 9)
    assert by_env.n_items == 30
    model = qurate.train(env=engine, steps=64, **SMALL)
    assert model.environment == "Shop object" and model.vocabulary.n_items == 30
    assert not hasattr(engine, "seed")  # the object itself was not played


def test_what_is_no_environment_is_one_line() -> None:
    class Stuck(Corridor):
        def __deepcopy__(self, memo: Any) -> None:
            raise TypeError("a socket")

    for env in (3, Corridor, object()):
        with pytest.raises(UserError, match=r"a function that returns a new gymnasium\.Env"):
            task_of(env)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="can be copied, got TypeError: a socket, at Stuck object"):
        task_of(Stuck())
    assert name_of("shop") == "shop"


def test_every_object_says_in_one_line_what_it_is(dataset: qurate.Dataset, model: qurate.Model, tmp_path: Path) -> None:
    report = qurate.evaluate(model, dataset)
    decision = model.recommend(user="u1", k=3, exclude=["none"])
    shown = [qurate.read_events(LOG), dataset, model, report, decision, model.save(tmp_path / "m")]
    texts = [repr(one) for one in shown]
    assert all("\n" not in text and len(text) < 200 for text in texts)
    assert texts[0] == f"EventLog(organic, layout qurate, {ROWS} rows, 0 bad, from DataFrame)"
    assert texts[2] == "Model(dqn, 7 items, trained from a dataset in memory, version unsaved)" and "unsaved" not in texts[5]
    assert texts[3].startswith("Report(dqn on dataset: HR@20 ") and texts[4].startswith("Decision(user 'u1': ")


def test_notebooks_get_tables_in_which_data_is_escaped(model: qurate.Model) -> None:
    log = LOG.with_columns(type=pl.when(pl.col("type") == "click").then(pl.lit("<script>x")).otherwise(pl.col("type")))
    dataset = qurate.build_dataset(log, rewards={"<script>x": 1, "purchase": 5})
    trained = qurate.train(dataset, algorithm="popularity")
    report = qurate.evaluate(trained, dataset)
    for one in (dataset, trained, report):
        page = one._repr_html_()
        assert "<script>" not in page and page.count("<table") + page.count("<iframe") == 1
    assert "&lt;script&gt;x 1" in dataset._repr_html_() and "users</th><td>6" in trained._repr_html_()
    assert report._repr_html_().startswith("<iframe sandbox srcdoc=")


def test_several_models_as_objects_rank_the_same_decisions(dataset: qurate.Dataset, model: qurate.Model, tmp_path: Path) -> None:
    model.save(tmp_path / "m")
    by_object = qurate.evaluate_many([model, "popularity", qurate.train(dataset, algorithm="popularity")], dataset).to_dict()
    by_path = qurate.evaluate_many([tmp_path / "m", "popularity"], dataset).to_dict()
    assert [one["name"] for one in by_object["contenders"]] == ["dqn", "popularity", "popularity 2"]
    assert by_object["metrics"] == by_path["metrics"]
    with pytest.raises(UserError, match="two or more models"):
        qurate.evaluate_many([model], dataset)
