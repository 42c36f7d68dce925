"""A model from a log that did not explore shows first what the log supports; what an item is worth stays Q."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from mdp_logs import decision, event, make_log

from qurate.environments.registry import make_engine
from qurate.errors import UserError
from qurate.events.schema import Kind
from qurate.experiments.evaluate import evaluate
from qurate.mdp.dataset import build_dataset
from qurate.mdp.storage import Dataset
from qurate.models.model import Model, load
from qurate.models.network_ranker import NetworkRanker, supported_first
from qurate.models.recommend import recommend_all
from qurate.training.in_environment import train_in_engine
from qurate.training.train import train

SMALL = {"hidden": 8, "embedding_dim": 4, "window": 4, "batch_size": 16}


def test_what_the_log_supports_comes_first_and_the_rest_in_its_own_order() -> None:
    q = np.array([[5.0, 1.0, 2.0, 4.0, 3.0]], np.float32)
    logits = np.log(np.array([[0.02, 0.5, 0.25, 0.14, 0.09]], np.float32))
    every = np.ones((1, 5), np.int8)

    def order(mask: np.ndarray, threshold: float) -> list[int]:
        return np.argsort(-supported_first(q, logits, mask, threshold)[0]).tolist()

    assert order(every, 0.3) == [2, 1, 0, 3, 4], "within .15 to .5: 1 and 2, by Q; then the others, by Q"
    assert order(every, 0.0) == [0, 3, 4, 2, 1], "no support asked for"
    without = np.array([[1, 0, 1, 1, 1]], np.int8)
    assert order(without, 0.5)[:2] == [3, 2], "the peak is of what may be shown: .25, so that .14 is inside"
    assert np.isfinite(supported_first(q, logits, np.zeros((1, 5), np.int8), 0.3)).all()


def test_ranks_outside_the_support_are_as_fine_as_q() -> None:
    q = np.array([[1.0, 1.0 + 1e-6, 1.0 + 2e-6, 0.0]], np.float32)
    scores = supported_first(q, np.array([[-9.0, -9.0, -9.0, 0.0]], np.float32), np.ones((1, 4), np.int8), 0.3)
    assert np.argsort(-scores[0]).tolist() == [3, 2, 1, 0]


def shown(size: int, kind: Kind = "exposure") -> Dataset:
    """A log that shows i0 and i1 nearly always; everybody clicks whatever is shown later in the alphabet than i3."""
    rng, events, decisions = np.random.default_rng(0), [], []
    for user in range(80):
        for step in range(6):
            items = [f"i{i}" for i in rng.choice(8, size, replace=False, p=[0.45, 0.45, *[0.1 / 6] * 6])]
            at, name = 1.7e9 + user * 9_999 + step * 60, f"d{user}-{step}"
            decisions.append(decision(name, f"u{user}", items, at, propensity=[0.5] * size if kind == "logged" else None))
            if max(items) > "i3":
                events.append(event(f"u{user}", max(items), at + 5, decision_id=name))
    items = pl.DataFrame({"item_id": [f"i{i}" for i in range(8)]})
    return build_dataset(make_log(events, decisions, kind, items), rewards="click=1")


def test_who_is_ranked_within_the_support() -> None:
    data = shown(1)
    assert train(data, steps=3, **SMALL).by == "q_in_support"
    assert train(data, steps=3, support_threshold=0.0, **SMALL).by == "q"
    assert train(data, steps=3, aux_weight=0.0, **SMALL).by == "q"
    assert train(env="toy_chain", steps=64, **SMALL).by == "q"
    assert train(shown(1, "logged"), steps=3, **SMALL).by == "q", "the log has explored"
    lists = train(shown(2), steps=3, **SMALL)
    assert lists.by == "q_in_support" and network(lists).candidate_lists_in_support
    assert not network(train(data, steps=3, **SMALL)).candidate_lists_in_support


def network(model: Model) -> NetworkRanker:
    assert isinstance(model.ranker, NetworkRanker)
    return model.ranker


def test_on_an_explicit_list_everything_is_inside_and_in_the_catalogue_it_is_not(tmp_path: Path) -> None:
    data = shown(2)
    model = train(data, steps=150, lr=0.01, **SMALL).save(tmp_path / "m")
    for one in (model, load(tmp_path / "m")):
        free, every = one.ranked_by("q"), [f"i{i}" for i in range(8)]
        for user in ("u1", "u7", "nobody"):
            listed = one.recommend(user, 8, candidates=every)
            assert [i.item_id for i in listed.items] == [i.item_id for i in free.recommend(user, 8, candidates=every).items]
        assert {one.recommend(f"u{user}", 1).items[0].item_id for user in range(20)} <= {"i0", "i1"}
        assert {free.recommend(f"u{user}", 1).items[0].item_id for user in range(20)} - {"i0", "i1"}
    scores = evaluate(model, data).to_dict()["by_score"]
    assert scores["q"]["HR@20"] == scores["q_in_support"]["HR@20"] and scores["q"]["MRR"] == scores["q_in_support"]["MRR"]


def test_recommend_evaluate_and_batches_show_the_same_and_say_what_it_is_worth() -> None:
    data = shown(1)
    model = train(data, steps=150, lr=0.01, **SMALL)
    first = [model.recommend(f"u{user}", 8) for user in range(20)]
    assert {item.item_id for answer in first for item in answer.items[:1]} <= {"i0", "i1"}
    free = [model.ranked_by("q").recommend(f"u{user}", 8) for user in range(20)]
    assert {item.item_id for answer in free for item in answer.items[:1]} - {"i0", "i1"}, "Q alone would show others first"
    for one, other in zip(first, free):
        assert {i.item_id: i.score for i in one.items} == pytest.approx({i.item_id: i.score for i in other.items}), "the score is Q"
    batch = pl.concat(list(recommend_all(model, 8))).filter(pl.col("user_id") == "u3")
    assert batch["item_id"].to_list() == [item.item_id for item in first[3].items]
    assert batch["score"].to_list() == pytest.approx([item.score for item in first[3].items], abs=1e-5)
    result = evaluate(model, data).to_dict()
    assert result["main"] == "q_in_support" and result["metrics"]["HR@20"] == result["by_score"]["q_in_support"]["HR@20"]


def test_learning_online_ends_the_support_of_the_log() -> None:
    engine = make_engine("toy_satiation", window=4)
    online = train(env="toy_satiation", steps=64, **SMALL)
    supported = replace(online, ranker=replace(network(online), by="q_in_support"))
    assert train_in_engine(supported, engine, 0, 64).by == "q"


def test_a_log_in_which_nothing_could_be_shown_is_refused() -> None:
    rows = [event(f"u{user}", f"i{(user + step) % 5}", 1.7e9 + user * 977 + step * 60) for user in range(30) for step in range(6)]
    items = pl.DataFrame({"item_id": [f"i{i}" for i in range(5)], "available_from": ["2030-01-01"] * 5})
    data = build_dataset(make_log(rows, items=items.with_columns(pl.col("available_from").str.to_datetime(time_zone="UTC"))))
    with pytest.raises(UserError, match="an item that could be shown in training, got none"):
        train(data, steps=3, **SMALL)
