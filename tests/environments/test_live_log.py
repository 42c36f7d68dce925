"""A log of `live`: rooms with their opening times, events with values, rewards that add up, and a model of it."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import qurate
from qurate.baselines.registry import random_policy
from qurate.environments.log_writer import simulate
from qurate.environments.registry import make_engine

REWARDS = {"watch": {"weight": 0.01, "per": "value"}, "like": 1, "gift": 20}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("live") / "log.parquet"
    simulate(make_engine("live"), random_policy(), 300, 20, 0, path, trace=2)
    return path


def test_events_lie_within_the_opening_times_and_only_watching_has_a_value(log: Path) -> None:
    events, items = pl.read_parquet(log), pl.read_parquet(log.with_name("log.items.parquet"))
    assert set(events["type"]) == {"click", "comment", "gift", "like", "watch"}
    joined = events.join(items, on="item_id")
    open_then = (pl.col("timestamp") >= pl.col("available_from")) & (
        pl.col("available_until").is_null() | (pl.col("timestamp") <= pl.col("available_until"))
    )
    assert joined.select(open_then.all()).item()
    assert events.filter(pl.col("type") != "watch")["value"].max() == 0 < events.filter(pl.col("type") == "watch")["value"].min()
    watched = events.filter(pl.col("type") == "watch").join(events.filter(pl.col("type") == "click"), on="decision_id")
    seconds = (watched["timestamp"] - watched["timestamp_right"]).dt.total_microseconds() / 1e6
    assert seconds.to_numpy() == pytest.approx(watched["value"].to_numpy(), abs=1e-3), "the value is the seconds from the click to the end"


def test_the_dataset_knows_when_rooms_are_open_and_its_rewards_are_the_worlds(log: Path) -> None:
    dataset = qurate.build_dataset(qurate.read_events(log), rewards=REWARDS)
    items = pl.read_parquet(log.with_name("log.items.parquet"))
    assert dataset.items.select("item_id", "available_from", "available_until").equals(
        items.select("item_id", "available_from", "available_until")
    )
    assert dataset.kind == "logged"
    events = pl.read_parquet(log).filter(pl.col("type") != "click")
    expected = 0.01 * events["value"].sum() + (events["type"] == "like").sum() + 20 * (events["type"] == "gift").sum()
    total = sum(dataset.weights[i] * dataset.manifest["credit"][name]["total"] for i, name in enumerate(dataset.components))
    assert total == pytest.approx(expected, rel=1e-6)


def test_a_model_of_the_log_recommends_rooms_that_are_open(log: Path) -> None:
    dataset = qurate.build_dataset(qurate.read_events(log), rewards=REWARDS)
    model = qurate.train(dataset, algorithm="dqn", form="now_later", steps=20, hidden=16, embedding_dim=8, window=10, batch_size=32)
    user = dataset.user_ids[5]
    last = pl.read_parquet(log.with_name("log.decisions.parquet")).filter(pl.col("user_id") == user)["timestamp"].max()
    items = dataset.items
    later = items.filter(pl.col("available_from") <= last, pl.col("available_until").is_null() | (pl.col("available_until") > last))
    closed = items.filter(pl.col("available_until") <= last)["item_id"]
    shown = [item.item_id for item in model.recommend(user=user, k=5).items]
    assert shown and not set(shown) & set(closed) and later.height > 5
    assert np.isfinite([item.score for item in model.recommend(user=user, k=5).items]).all()
