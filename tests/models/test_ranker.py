"""Rankers keep what they compute once for as long as they are the same, and come back from their files as they were."""

from dataclasses import replace

import numpy as np
import pytest
from mdp_logs import event, make_log

from qurate.baselines.registry import ItemScorer
from qurate.baselines.saved import scorer_from_saved, scorer_to_saved
from qurate.choosing.policy import FirstThen
from qurate.environments.registry import make_engine
from qurate.evaluation.ranking import observations
from qurate.experiments.evaluate import EveryScore, OneScore
from qurate.mdp.dataset import build_dataset
from qurate.models.answer import observe
from qurate.models.histories import parse_history
from qurate.models.model import Model
from qurate.models.network_ranker import NetworkRanker
from qurate.models.ranker import Sizes
from qurate.networks.catalogue_values import CatalogueValues
from qurate.settings import from_flat
from qurate.training.in_environment import fresh_model, train_in_engine
from qurate.training.train import train

SMALL = {"hidden": 8, "embedding_dim": 4, "window": 4, "batch_size": 16}


def ranker(model: Model) -> NetworkRanker:
    assert isinstance(model.ranker, NetworkRanker)
    return model.ranker


def test_another_network_has_another_item_table() -> None:
    engine = make_engine("shop", window=4)
    one, other = (train(env="shop", steps=192, warm_up=64, seed=seed, **SMALL) for seed in (0, 1))
    observation = engine.reset(0, 5)
    scores = one.scores(observation)
    exchanged = replace(one, ranker=replace(ranker(one), network=ranker(other).network))
    assert np.array_equal(exchanged.scores(observation), other.scores(observation))
    assert not np.array_equal(scores, other.scores(observation)) and np.array_equal(one.scores(observation), scores)


def test_the_item_table_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_engine("toy_chain", window=4)
    model = fresh_model(engine, from_flat(SMALL), "dqn", 0, "toy_chain")
    network, calls = ranker(model).network, []
    bind = network.bind
    monkeypatch.setattr(network, "bind", lambda: calls.append(1) or bind())
    observation = engine.reset(0, 3)
    for _ in range(3):
        model.scores(observation)
        model.explain(observation, observation.actions.candidates)
    assert calls == [1]


def test_a_short_list_of_a_large_catalogue_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [event(f"u{i // 4}", f"i{i % 600:03d}", 1.7e9 + i * 60, "click" if i % 5 else "purchase") for i in range(1_200)]
    model = train(build_dataset(make_log(rows), {"click": 1, "purchase": 5}, episode="session"), steps=3, **SMALL)  # type: ignore[arg-type]
    history = parse_history(model.vocabulary, [{"item_id": "i300", "type": "click"}])
    observation = observe(model, [history], np.array([10**15]), np.array([[7, 301, 12]]))
    monkeypatch.setattr("qurate.models.network_ranker.SMALL_PART", 200)  # 3 x 200 < 601
    whole: list[int] = []
    own = CatalogueValues.all
    monkeypatch.setattr(CatalogueValues, "all", lambda values, *rest: (whole.append(1), own(values, *rest))[1])
    looked_up = ranker(model).scores_by(observation)
    assert not whole
    monkeypatch.setattr("qurate.models.network_ranker.SMALL_PART", 201)
    for name, scores in ranker(model).scores_by(observation).items():
        assert scores == pytest.approx(looked_up[name], abs=1e-5) and len(np.unique(scores)) == 3
    assert whole


def test_a_ranker_is_not_trained_any_further() -> None:
    model = train(env="toy_chain", steps=192, warm_up=64, **SMALL)
    parameters = list(model.network.parameters())
    assert parameters and not model.network.training
    assert all(p.is_leaf and not p.requires_grad for p in parameters)
    copy = ranker(model).trainable_copy(model.settings, Sizes(model.vocabulary.n_types, model.user_dim, len(model.components)), 0)
    assert all(p.requires_grad for p in copy.parameters())  # type: ignore[attr-defined]


def test_learning_online_discounts_pauses_as_the_dataset_did(monkeypatch: pytest.MonkeyPatch) -> None:
    from qurate.training import in_environment

    seen: list[float] = []
    writer = in_environment.OnlineWriter
    monkeypatch.setattr(in_environment, "OnlineWriter", lambda *given, **more: seen.append(given[-1]) or writer(*given, **more))
    engine = make_engine("shop", window=4)
    model = train(env="shop", steps=64, **SMALL)
    train_in_engine(model.with_provenance(tau_s=86_400.0), engine, 0, 64)
    assert seen == [30 * 86_400.0, 86_400.0]


def test_scorers_inside_scorers_are_kept() -> None:
    tables = [ItemScorer(np.arange(n, n + 4, dtype=np.float32), f"t{n}") for n in (0, 10, 20)]
    nested = FirstThen(FirstThen(tables[0], tables[1], "inner"), tables[2], "outer")
    again = scorer_from_saved(*scorer_to_saved(nested))
    assert isinstance(again, FirstThen) and isinstance(again.first, FirstThen) and (again.name, again.first.name) == ("outer", "inner")
    found = [again.first.first, again.first.then, again.then]
    assert [(t.name, t.table.tolist()) for t in found] == [(t.name, t.table.tolist()) for t in tables]  # type: ignore[attr-defined]


def test_log_q_has_a_floor_in_proportion_to_the_rewards_of_the_log() -> None:
    """Where all values lie below a hundredth of the mean reward, the behaviour head alone decides the order."""
    data = build_dataset(make_log([event(f"u{i // 6}", f"i{i % 9}", 1.7e9 + i * 60) for i in range(240)]), episode="session")
    own = ranker(train(data, steps=5, **SMALL))
    _, observation = next(observations(data, np.arange(20), 4))
    head = replace(own, by="behaviour", calibration=None).scores(observation)
    for mean in (1e4, 1e6):
        scores = replace(own, by="behaviour_times_q", calibration=None, mean_reward=mean).scores(observation)
        np.testing.assert_allclose(scores, head + np.log(mean / 100), rtol=1e-4)


def test_all_scores_for_the_work_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    data = build_dataset(make_log([event(f"u{i // 6}", f"i{i % 9}", 1.7e9 + i * 60) for i in range(240)]), episode="session")
    model = train(data, steps=10, **SMALL)
    _, observation = next(iter(observations(data, np.arange(20), 4)))
    alone = {by: model.ranked_by(by).scores(observation) for by in model.ranker.ranking_scores}
    assert set(alone) >= {"q", "q_in_support", "behaviour", "behaviour_times_q"}
    assert not np.array_equal(alone["q"], alone["behaviour"]) and not np.array_equal(alone["behaviour"], alone["behaviour_times_q"])
    calls = []
    action_values = NetworkRanker.action_values
    monkeypatch.setattr(NetworkRanker, "action_values", lambda self, state: calls.append(1) or action_values(self, state))
    every = EveryScore(model)
    scores = {by: OneScore(every, by).scores(observation) for by in alone}
    assert calls == [1] and all(np.array_equal(scores[by], alone[by]) for by in alone)
    other = observation._replace(actions=observation.actions._replace(mask=observation.actions.mask * 0 + 1))
    OneScore(every, "q").scores(other)
    assert calls == [1, 1]
