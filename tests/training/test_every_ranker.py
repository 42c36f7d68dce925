"""Every ranker, baselines included: trained, saved, loaded, recommended from, ranked, evaluated, compared and served alike."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qurate.algorithms.table import ALGORITHMS
from qurate.baselines.registry import FITTED, fit_scorer
from qurate.cli.app import main
from qurate.environments.log_writer import simulate
from qurate.environments.registry import make_engine
from qurate.errors import UserError
from qurate.evaluation.ranking import observations, ranking_targets
from qurate.events.readers import read_events
from qurate.experiments.compare import compare
from qurate.experiments.evaluate import evaluate
from qurate.experiments.policies import present_recommender, rewards_of
from qurate.mdp.dataset import build_dataset
from qurate.mdp.storage import Dataset
from qurate.models.answer import BY_VALUE
from qurate.models.baseline_ranker import BaselineRanker
from qurate.models.model import Model, load
from qurate.models.recommend import recommend_all
from qurate.serving.messages import RecommendRequest
from qurate.serving.served import ServedModel
from qurate.serving.service import Service
from qurate.serving.stores.sqlite import SqliteStore
from qurate.training.train import train

SMALL: dict[str, Any] = {"steps": 5, "hidden": 8, "embedding_dim": 4, "window": 6, "batch_size": 16}
TABLES = ("q_learning", "sarsa")
EVERY = [*FITTED, *(name for name, row in ALGORITHMS.items() if not row.slates)]  # those learn from the slates of a world only
OF_THE_SUM = ("c51", "qr_dqn", "iqn", "rainbow", "munchausen")
NOW_AND_LATER = ("dqn", "double_dqn", "nstep_dqn", "noisy_dqn", "per_dqn", "myopic")


def small(name: str) -> dict[str, Any]:
    """Settings with which it is trained at once."""
    if name in FITTED:
        return {}
    if name in ("c51", "rainbow"):
        return SMALL | {"v_min": -1.0, "v_max": 50.0, "seed": 1}
    return {"steps": 5, "batch_size": 16} if name in TABLES else SMALL


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log of a small shop as a dataset, and a model of every algorithm; treat it as read-only."""
    out = tmp_path_factory.mktemp("every")
    engine = make_engine("shop", n_items=60)
    simulate(engine, present_recommender(engine, 0, 50), 150, 12, 0, out / "log" / "events.csv")
    data = build_dataset(read_events(out / "log"), rewards=rewards_of(engine), episode="user", out=out / "dataset")
    for name in EVERY:
        train(data.path, algorithm=name, **small(name)).save(out / name)
    return out


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Dataset:
    return Dataset.read(folder / "dataset")


@pytest.fixture(params=EVERY)
def model(folder: Path, request: pytest.FixtureRequest) -> Model:
    return load(folder / request.param)


def test_what_is_loaded_is_what_was_saved(model: Model, folder: Path, dataset: Dataset, tmp_path: Path) -> None:
    again = train(dataset, algorithm=model.algorithm, **small(model.algorithm))
    for part, observation in observations(dataset, ranking_targets(dataset)[:50], model.window):
        assert len(part) and np.array_equal(again.scores(observation), model.scores(observation))
    assert model.save(tmp_path / "copy").version == model.version
    manifest = json.loads((folder / model.algorithm / "manifest.json").read_text())
    assert manifest["algorithm"] == model.algorithm and len(manifest["golden"]) == 3
    assert all(len(entry["sha256"]) == 64 for entry in manifest["files"].values())


def test_versions_differ_between_algorithms(folder: Path) -> None:
    assert len({load(folder / name).version for name in EVERY}) == len(EVERY)


def test_it_recommends_to_one_and_to_everybody(model: Model, dataset: Dataset) -> None:
    user = dataset.user_ids[3]
    decision = model.recommend(user, 4)
    assert decision.degraded is None and decision.policy == f"{model.algorithm}/greedy" and len(decision.items) == 4
    source = "q" if model.by in BY_VALUE else "rule"
    assert {item.source for item in decision.items} == {source}
    table = next(iter(recommend_all(model, 4)))
    assert table.height == 4 * len(dataset.user_ids)
    if model.algorithm not in ("random", *TABLES):  # many items have the same score there
        assert [i.item_id for i in decision.items] == table.filter(user_id=user)["item_id"].to_list()
        assert [i.score for i in decision.items] == pytest.approx(table.filter(user_id=user)["score"].to_list(), abs=1e-4)
    stranger = model.recommend("nobody", 2)
    assert stranger.degraded == "unknown_user" and [item.source for item in stranger.items] == [source, source]


def test_random_says_how_probable_each_item_was(folder: Path, dataset: Dataset) -> None:
    items, n = load(folder / "random").recommend(dataset.user_ids[0], 3).items, len(dataset.vocabulary.items)
    assert [item.propensity for item in items] == [1 / n, 1 / (n - 1), 1 / (n - 2)]


def test_an_explanation_comes_only_from_what_estimates_rewards(model: Model, dataset: Dataset) -> None:
    if model.algorithm in OF_THE_SUM:
        with pytest.raises(UserError, match="a value for each reward component"):
            model.recommend(dataset.user_ids[0], 2, explain=True)
        return
    explained = model.recommend(dataset.user_ids[0], 2, explain=True).items[0]
    assert isinstance(explained.now, float) is (model.algorithm in NOW_AND_LATER)


def test_its_scores_are_the_fitted_scorers(model: Model, dataset: Dataset) -> None:
    if model.algorithm not in FITTED:
        with pytest.raises(AttributeError):
            assert model.ranker.scorer  # type: ignore[attr-defined]
        return
    assert isinstance(model.ranker, BaselineRanker)
    scorer = fit_scorer(model.algorithm, dataset)
    for _, observation in observations(dataset, ranking_targets(dataset)[:50], model.window):
        assert np.array_equal(model.scores(observation), scorer.scores(observation))


def test_it_is_evaluated_on_its_dataset(model: Model, dataset: Dataset) -> None:
    result = evaluate(model, dataset, visits=200).to_dict()
    main = "score" if model.algorithm in FITTED else ALGORITHMS[model.algorithm].ranks_by or "q"
    assert result["main"] == main and result["metrics"]["HR@20"]["mean"] > 0
    if model.algorithm in ("popularity", "item_knn"):
        assert result["metrics"]["NDCG@20"] == result["baselines"][model.algorithm]["NDCG@20"]


def test_all_of_them_are_compared_in_a_world(folder: Path) -> None:
    names = [str(folder / name) for name in EVERY]
    result = compare([*names, "random", "session_knn"], "shop,n_items=60", seeds=1, customers=8)
    assert {row["name"] for row in result["policies"]} == {*names, "random", "session_knn", "true_myopic", "far_sighted"}
    assert all(row["mean"] > 0 for row in result["policies"])


def test_it_is_served(model: Model, tmp_path: Path) -> None:
    served = ServedModel(model, 0.0)
    served.warm_up()
    service = Service(served, partial(SqliteStore, tmp_path / "data"), seed=0)
    try:
        answer = service.recommend(RecommendRequest(user_id="u0_000001", k=3, explain=True))
    finally:
        service.close()
    assert answer.policy == f"{model.algorithm}/greedy" and len(answer.items) == 3 and answer.model_version == model.version


def test_the_command_line_trains_and_recommends(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = str(folder / "dataset"), str(tmp_path / "m")
    assert main(["train", data, "--algorithm", "item_knn", "-o", out, "--set", "window=4", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["model"], result["algorithm"], result["steps"]) == (out, "item_knn", 0)
    assert load(out).window == 4
    assert main(["recommend", out, "--user", "u0_000001", "-k", "2", "--explain", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["items"]) == 2


@pytest.mark.parametrize(
    ("given", "code", "named"),
    [
        ({"algorithm": "ease", "factors": 4}, "setting_of_another_algorithm", "ease has decay, regularisation, window"),
        ({"algorithm": "als", "factors": 0}, "bad_setting", "factors"),
        ({"algorithm": "popularity", "lr": 0.1}, "setting_of_another_algorithm", "popularity"),
        ({"algorithm": "popularity", "window": 4}, "setting_of_another_algorithm", "window"),
        ({"algorithm": "item_knn", "hidden": 4}, "setting_of_another_algorithm", "item_knn"),
        ({"algorithm": "item_knn", "windw": 4}, "unknown_setting", "did you mean window"),
        ({"algorithm": "popularity", "steps": 4}, "bad_options", "no steps"),
        ({"algorithm": "popularity", "budget": 4.0}, "bad_options", "no budget"),
        ({"algorithm": "poplarity"}, "unknown_algorithm", "did you mean popularity"),
    ],
)
def test_what_an_algorithm_does_not_have_is_refused(given: dict[str, Any], code: str, named: str, dataset: Dataset) -> None:
    with pytest.raises(UserError, match=named) as caught:
        train(dataset, **given)
    assert caught.value.code == code


def test_a_baseline_is_fitted_on_a_log(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="qurate simulate"):
        train(env="shop", algorithm="popularity")
    with pytest.raises(UserError) as caught:
        train(resume=folder / "popularity")
    assert caught.value.code == "no_checkpoint"
    with pytest.raises(ValueError, match="a model of popularity ranks by score"):
        load(folder / "popularity").ranked_by("behaviour")


def test_other_rewards_make_other_items_popular(dataset: Dataset) -> None:
    clicks, purchases = (train(dataset, algorithm="popularity", rewards={name: 1}) for name in ("click", "purchase"))
    assert clicks.weights.tolist() != purchases.weights.tolist()
    assert not np.array_equal(clicks.popularity, purchases.popularity)
    for _, observation in observations(dataset, ranking_targets(dataset)[:1], 6):
        assert np.array_equal(clicks.scores(observation)[0], clicks.popularity[observation.actions.candidates[0]])


def test_the_time_constant_of_the_dataset_stays_with_the_model(dataset: Dataset, tmp_path: Path) -> None:
    rows = read_events(Path(str(dataset.path)).with_name("log"))
    model = train(build_dataset(rows, episode="user", tau="3d"), **SMALL)
    assert load(model.save(tmp_path / "m") and tmp_path / "m").provenance.tau_s == 3 * 86_400
