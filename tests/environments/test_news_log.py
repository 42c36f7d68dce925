"""A log of `news`: articles with their times, events with values, rewards that add up, a readable trace, and a model of it."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import qurate
from qurate.baselines.registry import random_policy
from qurate.environments.log_writer import simulate
from qurate.environments.registry import make_engine

REWARDS = {"click": 0.5, "read": {"weight": 0.01, "per": "value"}}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("news") / "log.parquet"
    simulate(make_engine("news"), random_policy(), 300, 30, 0, path, trace=5)
    return path


def test_clicks_lie_within_the_time_on_the_front_page_and_only_reading_has_a_value(log: Path) -> None:
    events, items = pl.read_parquet(log), pl.read_parquet(log.with_name("log.items.parquet"))
    assert set(events["type"]) == {"click", "read"}
    clicks, reads = (events.filter(pl.col("type") == name) for name in ("click", "read"))
    a_second = pl.duration(seconds=1)  # from the decision to the click
    joined = clicks.join(items, on="item_id").filter(
        (pl.col("timestamp") >= pl.col("available_from")) & (pl.col("timestamp") - a_second < pl.col("available_until"))
    )
    assert joined.height == clicks.height == reads.height > 500
    assert clicks["value"].max() == 0 < reads["value"].min()
    both = reads.join(clicks, on="decision_id")
    seconds = (both["timestamp"] - both["timestamp_right"]).dt.total_microseconds() / 1e6
    assert seconds.to_numpy() == pytest.approx(both["value"].to_numpy(), abs=1e-3), "the value is the seconds from the click to the end"


def test_the_rewards_of_the_dataset_are_the_worlds(log: Path) -> None:
    dataset = qurate.build_dataset(qurate.read_events(log), rewards=REWARDS)
    assert dataset.kind == "logged"
    events = pl.read_parquet(log)
    expected = 0.5 * (events["type"] == "click").sum() + 0.01 * events.filter(pl.col("type") == "read")["value"].sum()
    total = sum(dataset.weights[i] * dataset.manifest["credit"][name]["total"] for i, name in enumerate(dataset.components))
    assert total == pytest.approx(expected, rel=1e-6)


def test_a_model_of_the_log_recommends_what_is_on_the_front_page(log: Path) -> None:
    dataset = qurate.build_dataset(qurate.read_events(log), rewards=REWARDS)
    model = qurate.train(dataset, algorithm="dqn", form="now_later", steps=20, hidden=16, embedding_dim=8, window=10, batch_size=32)
    user = dataset.user_ids[5]
    last = pl.read_parquet(log.with_name("log.decisions.parquet")).filter(pl.col("user_id") == user)["timestamp"].max()
    gone = dataset.items.filter(pl.col("available_until") <= last)["item_id"]
    shown = model.recommend(user=user, k=5).items
    assert len(shown) == 5 and not {item.item_id for item in shown} & set(gone) and len(gone) > 5
    assert np.isfinite([item.score for item in shown]).all()


def test_the_trace_says_what_each_article_is_about_and_what_the_reader_did(log: Path) -> None:
    rows = [json.loads(line) for line in log.with_name("log.trace.jsonl").read_text().splitlines()]
    assert len({row["customer"] for row in rows}) == 5
    items = {row["item_id"]: row for row in pl.read_parquet(log.with_name("log.items.parquet")).to_dicts()}
    for row in rows:
        item, about = items[row["items"][0]], row["about"][0]
        assert about.startswith(f"topic={item['topic']} publisher={item['publisher']} ")
        assert about.endswith(f" available_from={item['available_from']:%Y-%m-%d %H:%M}") and " clickbait_score=" in about
        assert [answer["type"] for answer in row["answers"]] in ([], ["click", "read"])
    assert any(row["answers"] for row in rows)
