"""Features of a candidate in its decision: by hand, without the future, and as something a model learns from."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import qurate
from qurate.evaluation.ranking import gains, observations, rank_all, ranking_targets
from qurate.mdp.candidate_features import PLACE, candidate_features, feature_names
from qurate.mdp.states import derive_context
from qurate.models.model import Model
from qurate.types import State

TYPES = ["click", "view"]
COLUMNS = (PLACE, "price")


def state(items: list[list[int]], types: list[list[int]], gaps: list[list[float]]) -> State:
    window, kinds, seconds = np.array(items), np.array(types), np.array(gaps, np.float32)
    nothing = np.zeros((len(window), 0), np.float32)
    return State(window, kinds, seconds, np.zeros_like(seconds), nothing, derive_context(kinds, seconds))


def named(features: np.ndarray) -> dict[str, np.ndarray]:
    names = feature_names(COLUMNS, TYPES)
    assert features.shape[2] == len(names) and features.dtype == np.float32
    return {name: features[0, :, i] for i, name in enumerate(names)}


SEEN = state([[0, 7, 5, 0, 7, 3]], [[0, 2, 1, 2, 1, 2]], [[0, 10, 3600, 20, 30, 60]])
"""A pause of an hour, then a search (no item), item 7 clicked and item 3 viewed a minute before the decision."""


def test_features_by_hand() -> None:
    candidates = np.array([[5, 7, 3, 9]])
    values = np.stack([np.arange(4.0), [10.0, 20.0, 30.0, np.nan]], axis=1)[None].astype(np.float32)
    f = named(candidate_features(SEEN, candidates, values, COLUMNS, 2))
    assert f["touched"].tolist() == [1, 1, 1, 0]
    assert f["touched_in_visit"].tolist() == [0, 1, 1, 0], "item 5 was clicked before the pause"
    assert f["is_last"].tolist() == [0, 0, 1, 0]
    assert f["recency"] == pytest.approx([1 / 4, 1 / 2, 1, 0])
    assert f["recency_rank"] == pytest.approx([1 / 3, 1 / 2, 1, 0])
    assert f["log_hours_since"] == pytest.approx([np.log1p(3710 / 3600), np.log1p(90 / 3600), np.log1p(60 / 3600), 0], rel=1e-5)
    assert f["log_count"] == pytest.approx(np.log1p([1, 2, 1, 0]))
    assert f["log_count_click"] == pytest.approx(np.log1p([1, 1, 0, 0]))
    assert f["log_count_view"] == pytest.approx(np.log1p([0, 1, 1, 0]))
    assert f["log_count_in_visit"] == pytest.approx(np.log1p([0, 1, 1, 0]))
    assert f["last_is_view"].tolist() == [1] * 4 and f["last_is_click"].tolist() == [0] * 4
    assert f["log_touched_in_list"] == pytest.approx([np.log1p(3)] * 4) and f["log_list"] == pytest.approx([np.log1p(4)] * 4)
    assert f["place"] == pytest.approx(np.log1p(np.arange(4))) and f["place_share"] == pytest.approx(np.arange(4) / 4)
    assert f["steps_below_last"] == pytest.approx([-0.2, -0.1, 0, 0.1])
    assert f["just_below_last"].tolist() == [0, 0, 0, 1] and f["just_above_last"].tolist() == [0, 1, 0, 0]
    assert f["price_log"][:3] == pytest.approx(np.log1p([10, 20, 30])) and np.isnan(f["price_log"][3])
    assert f["price_in_list"][:3].mean() == pytest.approx(0, abs=1e-5) and f["price_in_list"][:3].std() == pytest.approx(1, rel=1e-4)


def test_what_is_not_known_is_nan_and_padding_counts_for_nothing() -> None:
    candidates = np.array([[5, 7, 3, 0]])
    nothing = np.full((1, 4, 2), np.nan, np.float32)
    f = named(candidate_features(SEEN, candidates, nothing, COLUMNS, 2))
    assert all(np.isnan(f[name]).all() for name in ("place", "place_share", "price_log", "price_in_list"))
    assert f["log_list"][0] == pytest.approx(np.log1p(3))
    assert f["touched"][3] == 0, "the search names no item, so it touched none"


def test_a_search_after_the_last_item_and_a_list_whose_first_candidate_was_never_met() -> None:
    """The newest row that names an item counts as last; where nothing in the list was met, no distance is known."""
    seen = state([[4, 0]], [[1, 2]], [[20, 30]])
    two = np.array([[9, 4]])
    values = np.array([[[0.0, 5.0], [1.0, 5.0]]], np.float32)
    f = named(candidate_features(seen, two, values, COLUMNS, 2))
    assert f["is_last"].tolist() == [0, 1] and f["steps_below_last"] == pytest.approx([-0.1, 0])
    unmet = named(candidate_features(seen, np.array([[9, 8]]), values, COLUMNS, 2))
    assert unmet["last_known"].tolist() == [0, 0] and unmet["steps_below_last"].tolist() == [0, 0]
    assert unmet["recency_rank"].tolist() == [0, 0] and unmet["nearness_below_last"].tolist() == [0, 0]


def test_padding_does_not_move_the_mean_of_a_column() -> None:
    values = np.array([[[0.0, 10.0], [1.0, 30.0], [2.0, 900.0]]], np.float32)
    padded = named(candidate_features(SEEN, np.array([[5, 7, 0]]), values, COLUMNS, 2))
    assert padded["price_in_list"][:2] == pytest.approx([-1, 1], rel=1e-3) and np.isnan(padded["price_log"][2])


def test_long_lists_and_many_rows_give_what_short_ones_give(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    seen = state(rng.integers(0, 60, (9, 8)).tolist(), rng.integers(1, 3, (9, 8)).tolist(), rng.integers(1, 99, (9, 8)).tolist())
    candidates = np.stack([rng.permutation(np.arange(1, 301)) for _ in range(9)])
    values = rng.random((9, 300, 2)).astype(np.float32)
    whole = candidate_features(seen, candidates, values, COLUMNS, 2)
    monkeypatch.setattr("qurate.mdp.candidate_features.ELEMENTS", 1)
    assert np.array_equal(candidate_features(seen, candidates, values, COLUMNS, 2), whole)
    rank = feature_names(COLUMNS, TYPES).index("recency_rank")
    for b in range(9):
        newest = [max(np.flatnonzero(seen.history_items[b] == item), default=-1) for item in candidates[b]]
        expected = [1 / (1 + sum(other > own for other in newest)) if own >= 0 else 0 for own in newest]
        assert whole[b, :, rank] == pytest.approx(expected)


def shop_log(folder: Path, decisions: int = 900) -> Path:
    """Lists of 6 of 300 items whose price changes from decision to decision; the cheapest is clicked."""
    rng, rows = np.random.default_rng(1), []
    for i in range(decisions):
        shown = rng.choice(300, 6, replace=False)
        prices = rng.integers(5, 500, 6)
        row = {
            "user_id": f"u{i % 60}",
            "session_id": f"s{i}",
            "timestamp": 1_700_000_000 + 60 * i,
            "step": 1,
            "action_type": "clickout item",
        }
        rows.append(
            row | {"reference": str(shown[prices.argmin()]), "impressions": "|".join(map(str, shown)), "prices": "|".join(map(str, prices))}
        )
    path = folder / "sessions.csv"
    pl.DataFrame(rows).write_csv(path)
    return path


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> qurate.mdp.storage.Dataset:
    folder = tmp_path_factory.mktemp("log")
    return qurate.build_dataset(qurate.read_events(shop_log(folder)), out=folder / "dataset")


SMALL: dict[str, Any] = {
    "steps": 150, "seed": 0, "id_embedding": False, "aux_weight": 0, "lr": 5e-3,
    "hidden": 16, "embedding_dim": 8, "window": 10, "batch_size": 64,
}  # fmt: skip


@pytest.fixture(scope="module")
def model(dataset: qurate.mdp.storage.Dataset) -> Model:
    return qurate.train(dataset, **SMALL)


def mrr(model: Model, dataset: qurate.mdp.storage.Dataset) -> float:
    rows = ranking_targets(dataset)
    ranked, _ = rank_all(dataset, rows, {"q": model}, 6, model.window)
    return float(gains(ranked["q"].ranks, 6)["MRR"].mean())


def test_the_log_says_place_and_price_of_each_candidate(dataset: qurate.mdp.storage.Dataset) -> None:
    assert dataset.candidate_columns == ("place", "price")
    values = dataset.transitions.candidate_values
    assert values.shape == (6 * 900, 2) and values[:6, 0].tolist() == [0, 1, 2, 3, 4, 5]
    again = qurate.mdp.storage.Dataset.read(dataset.path)
    assert np.array_equal(again.transitions.candidate_values, values, equal_nan=True)
    assert again.candidate_columns == dataset.candidate_columns


def test_a_model_learns_what_only_a_feature_of_the_decision_says(model: Model, dataset: qurate.mdp.storage.Dataset) -> None:
    assert mrr(model, dataset) > 0.95, "the cheapest was clicked"
    blind = qurate.train(dataset, **SMALL | {"steps": 60}, candidate_features=False)
    assert mrr(blind, dataset) < 0.6, "chance is .41"


def test_saved_is_loaded_and_q_of_a_list_is_q_of_its_parts(model: Model, dataset: qurate.mdp.storage.Dataset, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    loaded = qurate.load(tmp_path / "model")
    rows = ranking_targets(dataset)[:32]
    _, observation = next(observations(dataset, rows, model.window))
    q = model.scores(observation)
    assert np.array_equal(loaded.scores(observation), q)
    assert json.loads((tmp_path / "model" / "config.json").read_bytes())
    heads = model.explain(observation, observation.actions.candidates)
    assert heads is not None and heads.sum((2, 3)) == pytest.approx(q, abs=1e-4), "now and later add up to Q with its features"


def test_a_log_without_the_column_and_a_list_of_another_length(dataset: qurate.mdp.storage.Dataset, model: Model, tmp_path: Path) -> None:
    table = pl.read_csv(shop_log(tmp_path), schema_overrides={"reference": pl.String})
    short = table.with_columns(pl.when(pl.col("step").cum_count() == 3).then(pl.lit("1|2")).otherwise(pl.col("prices")).alias("prices"))
    short.write_csv(tmp_path / "short.csv")
    other = qurate.build_dataset(qurate.read_events(tmp_path / "short.csv"))
    assert "price has another length than the list in 1 decisions, where it is not read" in other.manifest["notes"]
    assert np.isnan(other.transitions.candidate_values[:, 1]).sum() == 6
    table.drop("prices").write_csv(tmp_path / "without.csv")
    without = qurate.build_dataset(qurate.read_events(tmp_path / "without.csv"))
    assert without.candidate_columns == ("place",)
    assert 0 < mrr(model, without) < 0.7, "price is not known there: it is read as the mean"


def test_nothing_later_than_the_decision_enters(dataset: qurate.mdp.storage.Dataset) -> None:
    """Features come from the window before `history_end` and from the list: other later rows change nothing."""
    rows = ranking_targets(dataset)[:20]
    _, before = next(observations(dataset, rows, 10))
    t = dataset.transitions
    last = int(t.history_end[t.state[rows]].max())
    later = np.arange(len(dataset.arrays.item)) >= last
    changed = dataclasses.replace(dataset.arrays, item=np.where(later, 1, dataset.arrays.item).astype(np.int32))
    _, after = next(observations(dataclasses.replace(dataset, arrays=changed), rows, 10))
    assert all(np.array_equal(a, b) for a, b in zip(before.state, after.state))
    assert np.array_equal(before.actions.values, after.actions.values, equal_nan=True)
