"""Seeds and purposes never share customers; a model sees its own window in a world that shows more."""

import itertools

import numpy as np
import pytest

from qurate.baselines.registry import random_policy
from qurate.environments.registry import make_engine
from qurate.evaluation.rollouts import PURPOSES, customers_seed, rollout
from qurate.experiments.compare import compare
from qurate.experiments.policies import SEQUENCE_MODELS, as_policy, popularity_in, present_recommender, random_log
from qurate.training.train import train


def test_no_two_shops_share_customers() -> None:
    seeds = [customers_seed(seed, purpose) for seed in range(200) for purpose in PURPOSES]
    assert len(set(seeds)) == len(seeds)
    assert [customers_seed(s, "train") for s in range(5)] == list(range(5))
    assert all(0 <= s < 2**31 for s in seeds)


def test_the_demo_learns_online_from_customers_of_no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    from qurate.experiments import demo

    met: list[int] = []
    monkeypatch.setattr(demo, "train_in_engine", lambda model, engine, customers, *args, **options: met.append(customers))
    model = train(env="toy_chain", steps=64, hidden=8, embedding_dim=4, window=4, batch_size=16)
    for seed in range(5):
        demo.learn_online(model, make_engine("toy_chain", window=4), seed, demo.DEMO)
    written = {customers_seed(seed, purpose) for seed in range(10) for purpose in ("train", "evaluate", "bounds")}
    assert len(set(met)) == 5 and not written & set(met)


def test_popularity_is_what_items_earned_while_shown_at_random() -> None:
    engine = make_engine("shop", n_items=20)
    table = popularity_in(engine, 3, 100).table
    seen = rollout(engine, random_policy(), customers_seed(3, "popularity"), 100)
    assert table == pytest.approx(np.maximum(seen.earned, 0)) and table[0] == 0
    shares = present_recommender(engine, 3, 100).probabilities(engine.reset(0, 1))[0]
    expected = 0.9 * table[1:].astype(float) ** 2 / (table[1:].astype(float) ** 2).sum() + 0.1 / 20
    assert shares == pytest.approx(expected, abs=1e-4)
    less = present_recommender(engine, 3, 100, 0.02).probabilities(engine.reset(0, 1))[0]
    assert less == pytest.approx((expected - 0.1 / 20) / 0.9 * 0.98 + 0.02 / 20, abs=1e-4)


def test_a_model_sees_its_own_window() -> None:
    model = train(env="shop", steps=64, hidden=8, embedding_dim=4, window=4, batch_size=16)
    narrow, wide = make_engine("shop", window=4), make_engine("shop", window=20)
    one, other = narrow.reset(0, 30), wide.reset(0, 30)
    policies = [as_policy(model, world, "m") for world in (narrow, wide)]
    for step in itertools.count():
        scores = [policy.scorer.scores(seen) for policy, seen in zip(policies, (one, other))]
        assert scores[0] == pytest.approx(scores[1], abs=1e-5)
        if step == 8:
            break
        shown = np.argmax(scores[0], axis=1)
        one, other = narrow.step(shown).obs, wide.step(shown).obs
    assert (other.state.history_items > 0).sum() > (one.state.history_items > 0).sum()


@pytest.mark.parametrize("name", SEQUENCE_MODELS)
def test_sequence_models_are_compared_by_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qurate.training.log_defaults.UPDATES", (40, 40))
    monkeypatch.setattr("qurate.experiments.policies.LOG_CUSTOMERS", 120)
    result = compare([name, "random"], "toy_chain", seeds=1, customers=60)
    mean = {row["name"]: row["mean"] for row in result["policies"]}
    assert mean["random"] < mean[name] < mean["optimal"]
    assert mean[name] == pytest.approx(mean["true_myopic"], rel=0.02), "what is chosen most often next, without foresight"


def test_they_learn_what_was_chosen_and_not_what_was_shown_at_random() -> None:
    engine = make_engine("shop", n_items=20)
    chosen, shown = random_log(engine, 3, choices=True), random_log(engine, 3)
    assert (chosen.kind, shown.kind) == ("organic", "logged")
    assert len(chosen.transitions.state) < len(shown.transitions.state), "most of what was shown was not clicked"
