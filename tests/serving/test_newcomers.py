"""Customers of whom nothing is known: who answers them, that it is told, and that the log can learn from it."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from test_round_trip import NOW, network_model

from qurate.baselines.registry import random_policy
from qurate.environments.log_writer import simulate
from qurate.environments.registry import make_engine
from qurate.events.features import feature_matrix
from qurate.events.readers import read_events
from qurate.mdp.dataset import build_dataset
from qurate.models.model import Model, load
from qurate.serving.deployments import DecisionRequest
from qurate.serving.messages import RecommendRequest
from qurate.serving.served import ServedModel
from qurate.serving.service import Service
from qurate.serving.stores.sqlite import SqliteStore
from qurate.serving.windows import UserWindow
from qurate.training.train import train


def asked(model: Model, directory: Path, epsilon: float, requests: list[RecommendRequest]) -> list[Any]:
    service = Service(ServedModel(model, epsilon), partial(SqliteStore, directory), seed=0, clock=lambda: NOW)
    try:
        return [service.recommend(request) for request in requests]
    finally:
        service.close()


def test_the_fallback_explores_by_the_same_rule_and_says_how_probably(tmp_path: Path) -> None:
    """What is never shown to newcomers can never be learnt to be good for them."""
    answers = asked(network_model(), tmp_path, 0.3, [RecommendRequest(user_id=f"new{i}", k=1) for i in range(600)])
    assert {answer.degraded for answer in answers} == {"unknown_user"}
    assert {answer.policy for answer in answers} == {"popularity/epsilon_greedy"}
    items = [answer.items[0] for answer in answers]
    assert {item.source for item in items} == {"fallback"}
    top = np.array([item.item_id == "i30" for item in items])
    exact = 0.3 / 30 + np.where(top, 0.7, 0.0)
    assert np.allclose([item.propensity for item in items], exact, rtol=1e-12, atol=0)
    assert abs(top.mean() - 0.71) < 4 * (0.71 * 0.29 / 600) ** 0.5
    assert len({item.item_id for item in items}) > 20
    log = read_events(tmp_path)
    assert log.decisions is not None
    assert log.decisions.collect()["propensity"].list.first().to_list() == [item.propensity for item in items]


def test_a_model_that_has_met_newcomers_answers_them_itself(tmp_path: Path) -> None:
    model = network_model(supports_cold_start=True)
    (answer,) = asked(model, tmp_path, 0.0, [RecommendRequest(user_id="new", k=2, explain=True)])
    assert answer.degraded == "unknown_user" and answer.policy == "dqn/greedy"  # still told: nothing is known of this customer
    assert [item.source for item in answer.items] == ["q", "q"] and answer.items[0].components


def test_features_in_the_request_make_a_customer_known(tmp_path: Path) -> None:
    _, spec = feature_matrix(pl.DataFrame({"band": ["low", "high"] * 5}))
    model = network_model(supports_cold_start=True)
    assert model.user_dim == 0
    requests = [RecommendRequest(user_id="new", k=1, context={"band": "low"}), RecommendRequest(user_id="newer", k=1)]
    assert [answer.degraded for answer in asked(model, tmp_path / "a", 0.0, requests)] == ["unknown_user"] * 2  # it knows no features
    knows = user_model(spec)
    requests += [RecommendRequest(user_id="newest", k=1, context={"hat": "low"}), RecommendRequest(user_id="last", k=1, context={})]
    assert [answer.degraded for answer in asked(knows, tmp_path / "b", 0.0, requests)] == [None, *["unknown_user"] * 3]


def test_a_model_of_a_simulated_world_answers_whatever_the_request_says_of_the_customer(tmp_path: Path) -> None:
    """Its features of customers have no names, so the context is kept in the log and not read."""
    model = train(env="shop,n_items=8", steps=8)
    assert model.user_dim > 0 and not model.user_spec
    requests = [RecommendRequest(user_id="u", k=2, context={"segment": "a"}), RecommendRequest(user_id="v", k=2)]
    answers = asked(model, tmp_path, 0.0, requests)
    assert [(answer.policy, answer.degraded) for answer in answers] == [("dqn/greedy", "unknown_user")] * 2


def user_model(spec: dict[str, Any]) -> Model:
    from dataclasses import replace

    from qurate.models.network_ranker import NetworkRanker
    from qurate.networks.build import build_network

    model = network_model(supports_cold_start=True)
    assert isinstance(model.ranker, NetworkRanker)
    network = build_network(model.ranker.item_features, model.settings, n_types=3, user_dim=2, n_components=1, behaviour=False, seed=0)
    return replace(model.with_answering(user_dim=2, user_spec=spec), ranker=NetworkRanker(network, model.ranker.item_features))


@pytest.mark.parametrize("organic", [False, True])
def test_which_models_have_met_newcomers(organic: bool, tmp_path: Path) -> None:
    """Shown logs begin with the first request; organic ones with the customer's second event."""
    engine = make_engine("shop", n_items=20)
    files = simulate(engine, random_policy(), 40, 6, 0, tmp_path / "shop" / "log.csv")
    if organic:
        rows = pl.read_csv(files["events"]).drop("decision_id")
        rows.write_csv(tmp_path / "events.csv")
    dataset = build_dataset(read_events(tmp_path / "events.csv" if organic else Path(files["events"])), episode="user")
    assert dataset.kind == ("organic" if organic else "logged")
    model = train(dataset, steps=2, window=5, hidden=8, embedding_dim=4, batch_size=16)
    assert model.supports_cold_start is not organic
    loaded = load(model.save(tmp_path / "model") and tmp_path / "model")
    assert loaded.supports_cold_start is not organic
    decision = loaded.recommend(user="nobody", k=3)
    assert decision.degraded == "unknown_user"
    assert {item.source for item in decision.items} == ({"fallback"} if organic else {"q"})
    assert ServedModel(loaded, 0.0).decide([newcomer()], np.random.default_rng(0))[0].degraded == "unknown_user"


def newcomer() -> DecisionRequest:
    return DecisionRequest("nobody", UserWindow(), NOW, 1)


def test_what_a_request_says_of_a_customer_leaves_the_rest_as_it_was_known(tmp_path: Path) -> None:
    kinds = ("click", "click", "purchase")
    lines = [f"u{user},i{(user + step) % 9},{kinds[step % 3]},{1_700_000_000 + 60 * step}" for user in range(8) for step in range(9)]
    (tmp_path / "log.csv").write_text("user_id,item_id,type,timestamp\n" + "\n".join(lines) + "\n")
    people = pl.DataFrame({"user_id": [f"u{n}" for n in range(8)], "band": ["low", "high"] * 4, "town": ["a", "a", "b", "b"] * 2})
    dataset = build_dataset(read_events(tmp_path / "log.csv"), users=people)
    served = ServedModel(train(dataset, steps=2, hidden=8, embedding_dim=4, window=4), 0.0)
    known = {(band, town): served._user_features(f"u{n}", None) for n, (band, town) in enumerate(people.select("band", "town").rows())}
    assert len({str(one) for one in known.values()}) == 4
    assert np.array_equal(served._user_features("u0", {"band": "low"}), known["low", "a"])
    assert np.array_equal(served._user_features("u2", {"band": "high"}), known["high", "b"])
    assert np.array_equal(served._user_features("u3", {"town": "a", "hat": 1}), known["high", "a"])
    assert np.array_equal(served._user_features("nobody", {"band": "low", "town": "b"}), known["low", "b"])
