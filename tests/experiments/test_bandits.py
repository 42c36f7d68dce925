"""Bandits in worlds: they learn while they serve, and what they say of their probabilities."""

from math import erf, sqrt

import numpy as np
import pytest

from policy_data import observe
from qurate.baselines.bandit import BanditScorer, Sums, bandit_of, features, listed_features
from qurate.baselines.registry import random_policy
from qurate.choosing.policy import ScoredPolicy
from qurate.environments.registry import make_engine
from qurate.environments.worlds import references
from qurate.evaluation.rollouts import customers_seed, rollout
from qurate.experiments.bandits import BANDITS, ThompsonPolicy, _of_each, bandit_in
from qurate.experiments.compare import compare
from qurate.types import Feedback


def two_items() -> ThompsonPolicy:
    sums = Sums.empty(2, 0)
    sums.add(np.zeros((8, 0)), np.array([1, 1, 1, 1, 1, 2, 2, 2]), np.array([1.0, 0, 1, 0, 1, 0, 1, 0]))
    return ThompsonPolicy(bandit_of(sums, np.zeros((3, 0), np.float32), np.array([False, True]), 1.0, 0.0), 0.7)


def test_probabilities_of_thompson_sampling_are_estimated_or_not_stated() -> None:
    policy, observation, rng = two_items(), observe([[]] * 400, np.arange(1, 3)), np.random.default_rng(0)
    first = 0.5 * (1 + erf((3 / 6 - 1 / 4) / (0.7 * sqrt(1 / 6 + 1 / 4)) / sqrt(2)))
    actions, unknown = policy.act(observation, rng)
    assert np.isnan(unknown).all() and (actions == 0).mean() == pytest.approx(first, abs=4 * (first * (1 - first) / 400) ** 0.5)
    policy.draws = 400
    actions, estimated = policy.act(observation, rng)
    assert ((estimated > 0) & (estimated <= 1)).all()
    assert estimated[actions == 0].mean() == pytest.approx(first, abs=0.01)
    assert estimated[actions == 1].mean() == pytest.approx(1 - first, abs=0.01)


def test_nothing_that_is_closed_is_shown() -> None:
    policy = two_items()
    closed = observe([[]] * 50, np.arange(1, 3), mask=np.tile(np.array([0, 1], np.int8), (50, 1)))
    assert (policy.act(closed, np.random.default_rng(0))[0] == 1).all()


def test_the_reward_of_a_slate_goes_to_what_was_clicked() -> None:
    assert _of_each(np.array([3.0, 2.0]), np.array([1, -1]), 2).tolist() == [[0, 3], [1, 1]]
    assert _of_each(np.array([3.0]), np.array([-1]), 1).tolist() == [[3]]


@pytest.mark.parametrize("name", BANDITS)
def test_it_learns_which_item_pays(name: str) -> None:
    """Where foresight is another matter, it earns what knowing the next reward earns, and more than chance."""
    engine = make_engine("toy_chain")
    learnt = bandit_in(name, engine, 0, 6_400)
    policies = [learnt, references("toy_chain")["true_myopic"](engine), random_policy()]
    earned = [rollout(engine, one, customers_seed(0, "evaluate"), 200, every_lane=True).returns.mean() for one in policies]
    assert earned[0] > 0.97 * earned[1] > earned[2]
    again = bandit_in(name, engine, 0, 6_400)
    assert rollout(engine, again, customers_seed(0, "evaluate"), 200).returns.mean() == pytest.approx(earned[0], rel=0.05)
    if isinstance(learnt, ScoredPolicy):
        assert learnt.scorer.width > 0  # type: ignore[attr-defined]


def test_it_learns_from_what_is_seen_of_the_candidate_that_it_showed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three steps of 64 readers of news are one ridge regression on z, with the features of the article shown to each."""
    engine, met = make_engine("news", n_items=200), []
    step = engine.step

    def noted(actions: np.ndarray) -> Feedback:
        before = engine.observation
        feedback = step(actions)
        met.append((before, actions, feedback.reward))
        return feedback

    monkeypatch.setattr(engine, "step", noted)
    learnt = bandit_in("linucb", engine, 0, 192)
    assert isinstance(learnt, ScoredPolicy) and isinstance(learnt.scorer, BanditScorer)
    scorer, lane = learnt.scorer, np.arange(64)
    sums = Sums.empty(200, len(scorer.beta))
    for observation, actions, reward in met:
        items = observation.actions.candidates[lane, actions]
        own = listed_features(observation, ("age_hours",), 3)[lane, actions]
        z = np.concatenate([features(observation, scorer.numbers, scorer.wanted, items[:, None])[:, 0], own], axis=1)
        sums.add(z.astype(np.float64), items, reward.astype(np.float64))
    assert scorer.columns == ("age_hours",) and len(met) == 3 and met[-1][1].any()
    assert np.allclose(scorer.beta, bandit_of(sums, scorer.numbers, scorer.wanted, 1.0, 0.0).beta, atol=1e-6)


def test_they_are_compared_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qurate.experiments.compare.ONLINE_STEPS", 6_400)
    result = compare([*BANDITS, "random"], "toy_chain", seeds=1, customers=40)
    rows = {row["name"]: row for row in result["policies"]}
    assert rows["linucb"]["steps_trained"] == rows["thompson"]["steps_trained"] == 6_400 and rows["random"]["steps_trained"] == 0
    assert min(rows[name]["mean"] for name in BANDITS) > rows["random"]["mean"]
