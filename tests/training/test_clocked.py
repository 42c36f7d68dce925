"""A log whose catalogue turns over: shortlists, counters, items first seen after training, from the log to the answer."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mdp_logs import decision, event, make_log

from qurate.errors import UserError
from qurate.evaluation.ranking import observations, rank_all, ranking_targets
from qurate.experiments.evaluate import evaluate
from qurate.experiments.generations import evaluate_many
from qurate.mdp.clocks import COLUMNS
from qurate.mdp.dataset import build_dataset
from qurate.mdp.storage import Dataset
from qurate.models.model import Model, load
from qurate.models.network_ranker import NetworkRanker
from qurate.models.recommend import recommend_all
from qurate.networks.catalogue_network import CatalogueNetwork
from qurate.training import clocked
from qurate.training.log_defaults import log_defaults
from qurate.training.train import train

MINUTE = 60.0
SMALL = {"hidden": 16, "embedding_dim": 4, "window": 5, "batch_size": 64}


@pytest.fixture(scope="module")
def news() -> Dataset:
    """2,000 visits of three clicks over four days; every half hour two articles replace two others, and one of the four is hot."""
    rng, rows = np.random.default_rng(0), []
    for visit, start in enumerate(np.sort(rng.uniform(0, 4 * 1_440, 2_000))):
        newest = 2 * int(start // 30)
        for step in range(3):
            article = newest + int(rng.choice(6, p=[0.4, 0.25, 0.15, 0.1, 0.05, 0.05]))
            rows.append(event(f"u{visit}", f"a{article}", 1.7e9 + (start + step) * MINUTE))
    return build_dataset(make_log(rows), episode="session")


@pytest.fixture(scope="module")
def model(news: Dataset) -> Model:
    patch = pytest.MonkeyPatch()
    patch.setattr(clocked, "FEWEST", 100)
    trained = train(news, steps=100, seed=1, **SMALL)
    patch.undo()
    return trained


def test_the_log_decides_and_a_setting_overrides(news: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    assert log_defaults(news, "dqn").get("clocks") is None  # too few validation choices to say
    monkeypatch.setattr(clocked, "FEWEST", 100)
    assert clocked.turnover(news) > 0.3
    assert "clocks" not in log_defaults(news, "c51")
    assert log_defaults(news, "dqn")["clocks"] == "on" and "clocks" not in log_defaults(news, "dqn", "off")
    same = replace(news.arrays, item=1 + news.arrays.item % 7)
    assert clocked.turnover(replace(news, arrays=same, transitions=replace(news.transitions, action=1 + news.transitions.action % 7))) == 0
    assert train(news, steps=1, clocks="off", **SMALL).lists is None and train(news, steps=1, clocks="auto", **SMALL).lists is not None


def test_a_log_that_gets_shortlists_unasked_is_told_why_once(
    news: Dataset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(clocked, "FEWEST", 100)
    train(news, steps=1, **SMALL)
    assert [record.getMessage() for record in caplog.records if "shortlists with clocks" in record.getMessage()] == [
        f"note: {100 * clocked.turnover(news):.0f} % of the validation choices are of new and popular items: "
        "shortlists with clocks (clocks=off: without)"
    ]
    caplog.clear()
    train(news, steps=1, clocks="on", **SMALL)
    assert not any("shortlists with clocks" in record.getMessage() for record in caplog.records), "it was asked for"


def test_rare_items_are_no_turnover(news: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most items of a small log are new in its last tenth, and nobody else has chosen them."""
    monkeypatch.setattr(clocked, "FEWEST", 100)
    rows = [event(f"u{v}", f"i{(v * 31 + step) % 3_000}", 1.7e9 + 60 * v + step) for v in range(600) for step in range(4)]
    rare = build_dataset(make_log(rows), episode="session")
    assert clocked.turnover(rare) == 0 and clocked.turnover(news) > 0


def test_new_items_are_ranked_by_their_clocks(news: Dataset, model: Model) -> None:
    assert isinstance(model.ranker, NetworkRanker) and model.ranker.columns == COLUMNS and model.by == "behaviour_times_q"
    data, rows = news.with_lists(), ranking_targets(news)
    new = news.transitions.action[rows] > news.n_ever_available
    ranked, _ = rank_all(data, rows, {"model": model}, 3, model.window)
    without, _ = rank_all(news, rows, {"model": train(news, steps=5, clocks="off", **SMALL)}, 3, 5)
    assert new.mean() > 0.9 and (without["model"].ranks.ties[new] == 0).all()
    hits = (ranked["model"].ranks.better < 3) & (ranked["model"].ranks.ties > 0)
    assert hits[new].mean() > 0.45


def test_evaluation_gives_every_ranker_the_same_lists_with_values(news: Dataset, model: Model, tmp_path: Path) -> None:
    found = evaluate(model, news).result
    assert {"count_15m", "count_1h", "co_clicks_1h", "popularity"} <= set(found["baselines"]) and "in_visit" in found
    assert found["by_score"]["behaviour_times_q"]["HR@20"]["mean"] > found["baselines"]["popularity"]["HR@20"]["mean"]
    model.save(tmp_path / "m")
    beside = evaluate_many([tmp_path / "m", "popularity"], news).result
    assert str(tmp_path / "m") in beside["sentence"] and beside["candidates"] > 0
    for _, observation in observations(news.with_lists(), ranking_targets(news)[:50], 5):
        assert observation.actions.columns == COLUMNS and (observation.actions.candidates.max(1) > 0).all()


def test_answers_after_the_log_are_those_of_its_end(news: Dataset, model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "m")
    loaded = load(tmp_path / "m")
    newest = max(int(name[1:]) for name in np.array(news.vocabulary.items)[news.arrays.item - 1][np.argsort(news.arrays.time)[-60:]])
    for user in (news.user_ids[0], None):
        history = None if user else [{"item_id": "?", "type": "click", "timestamp": news.log_end + 1}]  # a stranger, now
        answer = [item.item_id for item in loaded.recommend(user, 5, history=history).items]
        assert answer == [item.item_id for item in model.recommend(user, 5, history=history).items]
        assert sum(int(item[1:]) >= newest - 6 for item in answer) >= 4
    assert loaded.lists is not None
    loaded.lists.add(1, news.log_end + 1, 0)


def test_all_users_get_what_each_alone_would(news: Dataset, model: Model) -> None:
    table = next(iter(recommend_all(model, 4)))
    user = news.user_ids[3]
    alone = model.recommend(user, 4)
    assert table.filter(table["user_id"] == user)["item_id"].to_list() == [item.item_id for item in alone.items]


def test_decisions_that_begin_a_visit_do_not_train(news: Dataset) -> None:
    apart = replace(news, row_visit=np.arange(len(news.row_visit), dtype=np.int32))  # every row a visit of its own
    assert (clocked.of_clocks(apart).split != 0).all()
    shown = replace(apart, manifest=news.manifest | {"kind": "exposure"})
    assert (clocked.of_clocks(shown).split == news.transitions.split).all(), "what was shown has a clock of its own"
    kept = clocked.of_clocks(news)
    assert ((kept.split == 0) == (news.transitions.split == 0)).all()


def test_a_log_of_what_was_shown_counts_what_customers_did(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every video is shown as often as any other, and those of the hour are liked: counters of shows would say nothing."""
    monkeypatch.setattr(clocked, "FEWEST", 100)
    rng, rows, decisions = np.random.default_rng(0), [], []
    for n, minute in enumerate(np.sort(rng.uniform(0, 4 * 1_440, 4_000))):
        newest = 2 * int(minute // 30)
        video, at = f"v{newest + int(rng.integers(6))}", 1.7e9 + minute * MINUTE
        decisions.append(decision(f"d{n}", f"u{n % 700}", [video], at))
        if int(video[1:]) < newest + 2:
            rows.append(event(f"u{n % 700}", video, at + 1, type="like", decision_id=f"d{n}"))
    dataset = build_dataset(make_log(rows, decisions, "exposure"), rewards={"like": 1.0})
    assert dataset.kind == "exposure" and dataset.manifest["history"] == "events+shown" and clocked.turns_over(dataset)
    lists, at = dataset.with_lists().lists, np.array([dataset.log_end])
    assert lists is not None
    newest = max(int(name[1:]) for name in dataset.vocabulary.items)
    liked, only_shown = (dataset.vocabulary.items.index(f"v{newest - back}") + 1 for back in (5, 1))
    counts = lists.values(np.array([[liked, only_shown]]), np.zeros((1, 1), np.int32), at)[0, :, COLUMNS.index("count_1h")]
    assert counts[0] > 1 and counts[1] == 0
    model = train(dataset, steps=100, seed=1, **SMALL)
    assert model.by == "behaviour_times_q" and model.settings.offline.clocks == "on"
    found = evaluate(model, dataset).result
    assert found["by_score"]["behaviour_times_q"]["NDCG@20"]["mean"] > found["baselines"]["popularity"]["NDCG@20"]["mean"] + 0.1


def test_items_without_training_events_have_no_vector(news: Dataset) -> None:
    model = train(news, steps=3, clocks="on", id_embedding=True, **SMALL)
    assert isinstance(model.network, CatalogueNetwork) and model.network.tower.ids is not None
    ids = model.network.tower.ids.numpy()
    assert (ids[news.n_ever_available + 1 :] == 0).all() and (ids[1:20] != 0).all()


def test_logs_that_cannot_have_clocks_are_refused(news: Dataset) -> None:
    timeless = replace(news, manifest=news.manifest | {"time_unit": "order"})
    assert clocked.turnover(timeless) == 0
    for data, algorithm in ((timeless, "dqn"), (replace(news, manifest=news.manifest | {"kind": "logged"}), "dqn"), (news, "c51")):
        with pytest.raises(UserError, match="clocks=on"):
            train(data, algorithm=algorithm, steps=1, clocks="on", **SMALL)


def test_only_the_newest_decisions_train(news: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clocked, "NEWEST", 50)
    t = news.transitions
    kept = clocked.of_clocks(news).split == 0
    assert 50 <= kept.sum() < 60, "those of the same microsecond stay together"
    assert t.clock[kept].min() >= np.sort(t.clock[t.split == 0])[-60] and not kept[t.split != 0].any()
