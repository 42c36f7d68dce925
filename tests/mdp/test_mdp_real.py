"""Real logs through the whole stage, against figures computed from the files by other means."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from qurate.events.readers import read_events
from qurate.mdp.dataset import Dataset, build_dataset
from qurate.mdp.states import gather_state
from qurate.types import HISTORY, TERMINATED, TEST, TRAIN

RealLog = Callable[[str], Path]


def dataset_of(path: Path, **settings) -> Dataset:
    return build_dataset(read_events(path), **settings)


def test_trivago_orders(real_log: RealLog):
    dataset = dataset_of(real_log("trivago_100k/sessions.parquet"))
    steps = dataset.transitions
    states = np.arange(len(steps.history_end))
    assert len(states) == 13_597 and dataset.kind == "exposure"
    start = np.searchsorted(steps.state, states)
    place = np.arange(len(steps.action)) - start[steps.state]
    right = steps.reward[:, 0] > 0
    assert right.sum() == 13_596  # in one row the clicked item is not in the list
    mrr = np.sum(1 / (1 + place[right])) / len(states)
    assert mrr == pytest.approx(0.450, abs=0.0005)
    lo = dataset.arrays.user_start[steps.user]
    window = gather_state(dataset.arrays, lo, steps.history_end, steps.clock, 200, dataset.user_features[steps.user])
    newest = window.history_items.shape[1] - 1 - np.argmax(window.history_items[:, ::-1] > 0, axis=1)
    touched = window.history_items[states, newest]
    is_touched = steps.action == touched[steps.state]
    place_of = np.full(len(states), 1_000)
    np.minimum.at(place_of, steps.state[is_touched], place[is_touched])
    moved = np.where(place == place_of[steps.state], 0, place + (place < place_of[steps.state]) * (place_of[steps.state] < 1_000))
    assert np.sum(1 / (1 + moved[right])) / len(states) == pytest.approx(0.601, abs=0.0005)
    np.testing.assert_array_equal(steps.candidates, steps.action)


def test_kuairand_totals(real_log: RealLog):
    path = real_log("kuairand/like_hate_27k_core15.parquet")
    raw = pl.read_parquet(path).unique()
    dataset = dataset_of(path, rewards="click=1,like=1,hide=-1", churn_after="3d")
    steps = dataset.transitions
    assert len(steps.action) == raw.height == 41_704
    assert steps.reward.sum(axis=0).tolist() == [raw[f"is_{name}"].sum() for name in ("click", "like", "hate")]
    assert dataset.manifest["history"] == "events+shown"
    assert len(dataset.arrays.item) == dataset.manifest["counts"]["events"] + raw.height
    gone = np.count_nonzero(steps.end == TERMINATED)
    assert 0 < gone < 664


def test_retailrocket_tests_are_prefixes_with_an_answer(real_log: RealLog):
    path = real_log("retailrocket_sessions/retailrocket.parquet")
    raw = pl.read_parquet(path).filter(pl.col("split") == "test")
    dataset = dataset_of(path)
    steps = dataset.transitions
    test = np.flatnonzero(steps.split == TEST)
    assert len(test) == raw.height == 15_132
    answers = pl.Series([dataset.vocabulary.items[i - 1] for i in steps.action[test]])
    assert sorted(answers) == sorted(raw["items"].list.last().cast(pl.String))
    before = steps.history_end[test] - dataset.arrays.user_start[steps.user[test]]
    assert sorted(before) == sorted(raw["items"].list.len() - 1)
    assert np.count_nonzero(steps.split == HISTORY) == before.sum() - len(test)
    seen = pl.read_parquet(path).filter(pl.col("split") == "train")["items"].explode().n_unique()
    assert dataset.n_ever_available == seen


def test_movielens_genres_and_demographics(real_log: RealLog):
    path = real_log("movielens_small/ratings.parquet")
    people = pl.DataFrame({"user_id": [str(i) for i in range(1, 611)], "age": np.arange(610) % 60 + 18, "job": ["cook", "nurse"] * 305})
    dataset = dataset_of(path, users=people)
    movies = pl.read_parquet(real_log("movielens_small/movies.parquet"))
    genres = movies["genres"].str.split("|").explode().unique()
    assert dataset.item_features.shape == (movies.height + 1, 19)
    assert len(genres) == 20  # one of them is "(no genres listed)"
    assert dataset.user_features.shape == (610, 3)
    assert dataset.n_ever_available == movies.height
    total = pl.read_parquet(path)["rating"].sum()
    assert dataset.manifest["credit"]["rating"]["total"] == total


def test_open_bandit_propensities(real_log: RealLog):
    path = real_log("open_bandit_small/log.parquet")
    dataset = dataset_of(path)
    raw = pl.read_parquet(path)
    assert dataset.kind == "logged"
    steps = dataset.transitions
    assert sorted(steps.propensity) == sorted(raw["propensity"].cast(pl.Float32))
    assert steps.reward.sum() == raw["click"].sum() == 207
    assert np.isin(np.diff(steps.candidates_start), (34, 46)).all()


@pytest.mark.study
def test_globo_speed_and_memory_per_transition(real_log: RealLog, tmp_path: Path):
    path = real_log("globo_news/clicks.parquet")
    begin = time.process_time()
    dataset = dataset_of(path).write(tmp_path / "globo")
    seconds = time.process_time() - begin
    assert dataset.manifest["counts"]["events"] == 2_988_181
    assert seconds < 30  # the aim, 6 s on an idle machine, is the benchmark's; this catches only a loop over rows
    steps = dataset.transitions
    columns = (steps.user, steps.history_end, steps.clock, steps.split, steps.state, steps.action)
    columns += (steps.reward, steps.pause, steps.next_state, steps.end, steps.propensity)
    assert sum(column.nbytes for column in columns) / len(steps.action) <= 64
    assert steps.candidates_start.strides == (0,)  # no lists, no memory
    assert np.all(steps.clock <= dataset.arrays.time[steps.history_end]) and np.count_nonzero(steps.split == TRAIN) > 2_000_000
