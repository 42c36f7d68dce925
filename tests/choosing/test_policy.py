"""Policies from scorers, and mixtures: what they state is what they do."""

import itertools

import numpy as np
import pytest

from policy_data import observe
from qurate.baselines.registry import ItemScorer, random_policy
from qurate.choosing.merchandising import MerchandisingRules, Pin
from qurate.choosing.policy import FirstThen, MixturePolicy, ScoredPolicy, over_candidates
from qurate.choosing.selection import GREEDY, SelectionRule, epsilon_greedy_rule, softmax_rule
from qurate.errors import UserError
from qurate.types import Observation

CATALOGUE = np.array([0, 0.5, 3, 1, 3, 2], np.float32)


class Fixed:
    """A scorer that always gives the same array."""

    name = "fixed"

    def __init__(self, values: list[list[float]]) -> None:
        self.values = np.array(values, np.float32)

    def scores(self, observation: Observation) -> np.ndarray:
        """[B, K]."""
        return np.broadcast_to(self.values, observation.actions.candidates.shape)


def test_over_candidates_is_a_view_on_a_shared_catalogue() -> None:
    table = np.arange(12, dtype=np.float32).reshape(2, 6)
    shared = np.broadcast_to(np.arange(1, 6), (2, 5))
    view = over_candidates(table, shared)
    assert np.shares_memory(view, table) and (view == table[:, 1:]).all()
    assert over_candidates(table, np.broadcast_to(np.array([4, 2]), (2, 2))).tolist() == [[4, 2], [10, 8]]
    assert over_candidates(table, np.broadcast_to(np.array([1, 3, 2, 4]), (2, 4))).tolist() == [[1, 3, 2, 4], [7, 9, 8, 10]]
    assert over_candidates(table, np.array([[4, 2], [1, 0]])).tolist() == [[4, 2], [7, 6]]
    assert over_candidates(table[:1], np.array([[4, 2], [1, 0]])).tolist() == [[4, 2], [1, 0]]
    assert over_candidates(table[:1], shared).strides[0] == 0


def test_first_then_ranks_the_rest_below() -> None:
    scorer = FirstThen(Fixed([[0, 0.001, 0, 2]]), Fixed([[10, 1000, 30, 20]]), "both")
    scores = scorer.scores(observe([[1]], np.arange(1, 5)))
    assert np.argsort(-scores[0]).tolist() == [3, 1, 2, 0] and scores.dtype == np.float32


@pytest.mark.parametrize("slate_size", [1, 2])
@pytest.mark.parametrize("rule", [GREEDY, epsilon_greedy_rule(0.2), softmax_rule(0.5)], ids=lambda r: r.name)
def test_policy_states_its_own_propensity(rule: SelectionRule, slate_size: int) -> None:
    observation = observe([[1]] * 300, np.arange(1, 6), mask=np.broadcast_to(np.array([[1, 1, 0, 1, 1]], np.int8), (300, 5)))
    policy = ScoredPolicy(ItemScorer(CATALOGUE, "items"), rule, slate_size)
    actions, propensity = policy.act(observation, np.random.default_rng(0))
    assert actions.shape == ((300,) if slate_size == 1 else (300, 2)) == propensity.shape
    assert actions.dtype == np.int64 and propensity.dtype == np.float64 and policy.name == "items"
    assert np.allclose(policy.propensity(observation, actions), propensity, atol=1e-15)
    assert not (actions == 2).any()
    first, stated = actions.reshape(300, -1)[:, 0], propensity.reshape(300, -1)[:, 0]
    assert np.allclose(policy.probabilities(observation)[np.arange(300), first], stated, atol=1e-12)


def test_rules_reach_the_policy() -> None:
    policy = ScoredPolicy(ItemScorer(CATALOGUE, "items"), slate_size=2, rules=MerchandisingRules(pins=(Pin(1, 0),), block=(2, 4)))
    observation = observe([[1]] * 4, np.arange(1, 6))
    actions, propensity = policy.act(observation, np.random.default_rng(0))
    assert (actions == [0, 4]).all() and (propensity == 1).all()
    assert (policy.propensity(observation, actions) == 1).all() and policy.probabilities(observation)[0].tolist() == [1, 0, 0, 0, 0]
    one, _ = ScoredPolicy(ItemScorer(CATALOGUE, "items"), rules=MerchandisingRules(block=(2, 4))).act(observation, np.random.default_rng(0))
    assert one.tolist() == [4] * 4


def test_popularity_plus_ten_percent_uniform_by_hand() -> None:
    """Two most popular of five: 0.9 / 2 + 0.1 / 5 each, 0.02 the others, whichever part drew."""
    policy = MixturePolicy([(0.9, ScoredPolicy(ItemScorer(CATALOGUE, "popularity"))), (0.1, random_policy())])
    observation = observe([[1]] * 20_000, np.arange(1, 6))
    actions, propensity = policy.act(observation, np.random.default_rng(0))
    expected = np.array([0.02, 0.47, 0.02, 0.47, 0.02])
    assert np.allclose(propensity, expected[actions], atol=1e-15)
    assert np.allclose(policy.probabilities(observation)[0], expected, atol=1e-15)
    assert np.bincount(actions, minlength=5) / 20_000 == pytest.approx(expected, abs=0.015)


def test_mixture_slates_agree_with_their_propensities() -> None:
    """Three different parts, one of which cannot score two of the items: frequencies of all ordered slates."""
    n = 40_000
    parts = [
        (0.5, ScoredPolicy(Fixed([[3, 1, 2, 2]]))),
        (0.2, random_policy()),
        (0.3, ScoredPolicy(Fixed([[np.nan, 1, 0, np.nan]]), softmax_rule(1.0))),
    ]
    policy = MixturePolicy(parts, slate_size=3, name="three")
    slates = np.array(list(itertools.permutations(range(4), 3)), np.int64)
    stated = policy.propensity(observe([[1]] * len(slates), np.arange(1, 5)), slates).prod(axis=1)
    assert stated.sum() == pytest.approx(1, abs=1e-12)
    drawn, propensity = policy.act(observe([[1]] * n, np.arange(1, 5)), np.random.default_rng(1))
    code = slates @ [25, 5, 1]
    frequency = np.bincount(drawn @ [25, 5, 1], minlength=125)[code] / n
    assert np.abs(frequency - stated).max() < 4.5 * np.sqrt(0.25 / n)
    lookup = dict(zip(code.tolist(), stated.tolist()))
    assert np.allclose(propensity.prod(axis=1), [lookup[c] for c in (drawn @ [25, 5, 1]).tolist()], atol=1e-12)


def test_a_part_without_finite_scores_leaves_its_weight() -> None:
    policy = MixturePolicy([(0.9, ScoredPolicy(Fixed([[np.nan] * 4]))), (0.1, random_policy())])
    actions, propensity = policy.act(observe([[1]] * 50, np.arange(1, 5)), np.random.default_rng(0))
    assert (actions >= 0).all() and np.allclose(propensity, 0.25)


def test_nothing_allowed() -> None:
    closed = observe([[1]] * 3, np.arange(1, 5), mask=np.zeros((3, 4), np.int8))
    mixture = MixturePolicy([(0.9, ScoredPolicy(ItemScorer(CATALOGUE, "popularity"))), (0.1, random_policy())])
    for policy in (mixture, random_policy(), ScoredPolicy(ItemScorer(CATALOGUE, "popularity"), rules=MerchandisingRules(block=(1,)))):
        actions, propensity = policy.act(closed, np.random.default_rng(0))
        assert actions.tolist() == [-1] * 3 and propensity.tolist() == [0] * 3


def test_bad_mixtures_are_refused() -> None:
    part = random_policy()
    for parts in ([], [(0.5, part)], [(1.5, part), (-0.5, part)], [(1.0, ScoredPolicy(part.scorer, rules=MerchandisingRules(block=(1,))))]):
        with pytest.raises(UserError):
            MixturePolicy(parts)
