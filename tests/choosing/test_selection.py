"""Hand values, closed forms and properties of choosing: what is stated is what happens."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qurate.choosing.selection import (
    GREEDY,
    UNIFORM,
    SelectionRule,
    choose,
    epsilon_greedy,
    epsilon_greedy_rule,
    legal_scores,
    softmax_rule,
)
from qurate.choosing.slate_sampling import is_shared
from qurate.errors import UserError

RULES = [GREEDY, UNIFORM, epsilon_greedy_rule(0.3), softmax_rule(0.7), epsilon_greedy_rule(1.0)]


def rows(scores: list[float], mask: list[int], n: int, shared: bool) -> tuple[np.ndarray, np.ndarray]:
    """n equal rows, as a broadcast view or as a copy."""
    s, m = np.array([scores], np.float32), np.array([mask], np.int8)
    if shared:
        return np.broadcast_to(s, (n, len(scores))), np.broadcast_to(m, (n, len(scores)))
    return s.repeat(n, 0), m.repeat(n, 0)


def test_greedy_takes_the_best_allowed() -> None:
    scores = np.array([[1, 5, 3], [1, 5, 3], [9, np.nan, np.inf]], np.float32)
    mask = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], np.int8)
    positions, propensity = choose(GREEDY, scores, mask, np.random.default_rng(0))
    assert positions.tolist() == [1, 2, 0] and positions.dtype == np.int64
    assert propensity.tolist() == [1, 1, 1] and propensity.dtype == np.float64


def test_epsilon_greedy_by_hand() -> None:
    """Four allowed, two best of equal score: 0.2 / 4 + 0.8 / 2 for those, 0.2 / 4 for the others."""
    scores, mask = rows([2, 7, 7, 1, 9], [1, 1, 1, 1, 0], 4000, shared=False)
    positions, propensity = epsilon_greedy(scores, mask, 0.2, np.random.default_rng(1))
    expected = np.array([0.05, 0.45, 0.45, 0.05, 0])
    assert np.allclose(propensity, expected[positions], atol=1e-15)
    assert np.bincount(positions, minlength=5) / 4000 == pytest.approx(expected, abs=0.03)


def test_epsilon_of_zero_and_one_are_the_pure_rules() -> None:
    x = legal_scores(*rows([1, 3, 2], [1, 1, 1], 1, shared=False))
    assert epsilon_greedy_rule(0.0).probabilities(x).tolist() == [[0, 1, 0]]
    assert np.allclose(epsilon_greedy_rule(1.0).probabilities(x), 1 / 3)


def test_softmax_by_hand() -> None:
    scores, mask = rows([0, np.log(2), np.log(5), 50], [1, 1, 1, 0], 6, shared=False)
    positions, propensity = choose(softmax_rule(1.0), scores, mask, np.random.default_rng(0))
    assert np.allclose(propensity, np.array([1, 2, 5, 0])[positions] / 8, rtol=1e-6)
    assert softmax_rule(1.0).probabilities(legal_scores(scores, mask))[0] == pytest.approx([1 / 8, 2 / 8, 5 / 8, 0], rel=1e-6)


def test_top_k_order_ties_and_short_rows() -> None:
    scores = np.array([[3, 1, 3, 2], [0, 0, 0, 0], [5, 6, 7, 8]], np.float32)
    mask = np.array([[1, 1, 1, 1], [1, 1, 1, 0], [0, 1, 0, 0]], np.int8)
    positions, propensity = choose(GREEDY, scores, mask, np.random.default_rng(0), 3)
    assert set(positions[0, :2]) == {0, 2} and positions[0, 2] == 3
    assert propensity[0].tolist() == [1 / 2, 1, 1]
    assert sorted(positions[1]) == [0, 1, 2] and propensity[1].tolist() == [1 / 3, 1 / 2, 1]
    assert positions[2].tolist() == [1, -1, -1] and propensity[2].tolist() == [1, 0, 0]


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.name)
@pytest.mark.parametrize("k", [None, 1, 3])
def test_nothing_to_choose_is_minus_one_and_zero(rule: SelectionRule, k: int | None) -> None:
    for scores, mask in [
        (np.ones((2, 4)), np.zeros((2, 4), bool)),
        (np.full((2, 4), np.nan), np.ones((2, 4), bool)),
        (np.ones((2, 0)),) * 2,
    ]:
        positions, propensity = choose(rule, scores, mask != 0, np.random.default_rng(0), k)
        assert (positions == -1).all() and (propensity == 0).all()
        assert positions.shape == ((2,) if k is None else (2, k))


def test_bad_parameters_are_the_users_mistake() -> None:
    for call in (
        lambda: softmax_rule(0.0),
        lambda: softmax_rule(float("inf")),
        lambda: epsilon_greedy_rule(1.5),
        lambda: epsilon_greedy_rule(-0.1),
    ):
        with pytest.raises(UserError):
            call()
    with pytest.raises(ValueError, match="shape"):
        legal_scores(np.ones((2, 3)), np.ones((2, 2), bool))


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.name)
def test_slate_frequencies_agree_with_stated_propensities(rule: SelectionRule, shared: bool) -> None:
    """Every ordered slate of 3 out of 4 allowed: frequency = product of the conditional propensities; they sum to 1."""
    n = 30_000
    scores, mask = rows([1.0, 0.5, 1.0, 0.5, 9.0], [1, 1, 1, 1, 0], n, shared)
    x = legal_scores(scores, mask)
    slates = np.array(list(itertools.permutations(range(4), 3)), np.int64)
    stated = rule.propensity(x[: len(slates)], slates).prod(axis=1)
    assert stated.sum() == pytest.approx(1, abs=1e-12)
    drawn, propensity = choose(rule, scores, mask, np.random.default_rng(3), 3)
    code = slates @ [25, 5, 1]
    frequency = np.bincount(drawn @ [25, 5, 1], minlength=125)[code] / n
    assert np.abs(frequency - stated).max() < 4.5 * np.sqrt(0.25 / n)
    lookup = dict(zip(code.tolist(), stated.tolist()))
    assert np.allclose(propensity.prod(axis=1), [lookup[c] for c in (drawn @ [25, 5, 1]).tolist()], atol=1e-12)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.name)
def test_single_choice_frequencies(rule: SelectionRule, shared: bool) -> None:
    n = 30_000
    scores, mask = rows([0.2, 2.0, -1.0, 2.0, 1.0, 3.0], [1, 1, 1, 1, 1, 0], n, shared)
    positions, propensity = choose(rule, scores, mask, np.random.default_rng(5))
    p = rule.probabilities(legal_scores(scores, mask))[0]
    assert p.sum() == pytest.approx(1, abs=1e-12) and p[5] == 0
    assert np.allclose(propensity, p[positions], rtol=1e-12)
    assert np.abs(np.bincount(positions, minlength=6) / n - p).max() < 4.5 * np.sqrt(0.25 / n)


def test_few_allowed_of_many_are_found() -> None:
    """Rejection gives up after some rounds; the exact search must then be uniform too."""
    mask = np.zeros((3000, 5000), bool)
    mask[:, [7, 1234, 4999]] = True
    scores = np.zeros(mask.shape, np.float32)
    positions, propensity = choose(UNIFORM, scores, mask, np.random.default_rng(0), 4)
    assert (np.sort(positions[:, :3], axis=1) == [7, 1234, 4999]).all() and (positions[:, 3] == -1).all()
    assert np.allclose(propensity, [1 / 3, 1 / 2, 1, 0])
    assert np.abs(np.bincount(positions[:, 0], minlength=5000)[[7, 1234, 4999]] / 3000 - 1 / 3).max() < 0.04


def test_extreme_softmax_scores_stay_exact() -> None:
    """A first item that holds all the mass must not spoil the propensities below it (no 1 - 1 = 0)."""
    scores = np.array([[1000.0, 0.0, 0.0], [3e38, -3e38, -3e38]], np.float32)
    mask = np.ones((2, 3), bool)
    slate = np.array([[0, 1, 2], [0, 1, 2]])
    assert np.allclose(softmax_rule(0.01).propensity(legal_scores(scores, mask), slate), [[1, 0.5, 1]] * 2, rtol=1e-12)
    positions, _ = choose(softmax_rule(1e-6), scores, mask, np.random.default_rng(0), 3)
    assert (positions[:, 0] == 0).all()
    for n, shared in ((2, True), (2, False)):  # only differences of scores count, however large the scores are
        single, single_mask = rows([1000.0, 1000.0 - np.log(3), 0.0], [1, 1, 1], n, shared)
        chosen, propensity = choose(softmax_rule(1.0), single, single_mask, np.random.default_rng(0))
        assert np.allclose(propensity, np.array([0.75, 0.25, 0])[chosen], rtol=1e-4)
        assert np.allclose(softmax_rule(1.0).probabilities(legal_scores(single, single_mask)), [0.75, 0.25, 0], rtol=1e-4)
    second = choose(softmax_rule(1e-6), scores[[1]].repeat(2000, 0), mask[[1]].repeat(2000, 0), np.random.default_rng(0), 3)[0][:, 1]
    assert (second == 1).mean() == pytest.approx(0.5, abs=0.05)


@settings(max_examples=80, deadline=None)
@given(
    data=st.data(),
    n=st.integers(1, 4),
    width=st.integers(1, 6),
    k=st.integers(1, 4),
    which=st.integers(0, len(RULES) - 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_properties(data: st.DataObject, n: int, width: int, k: int, which: int, seed: int) -> None:
    """Masked is never chosen, positions are distinct, the stated probabilities sum to 1, both ways of stating agree."""
    values = st.sampled_from([-2.0, 0.0, 1.0, 1.5, np.nan, np.inf])
    scores = data.draw(hnp.arrays(np.float32, (n, width), elements=values))
    mask = data.draw(hnp.arrays(np.int8, (n, width), elements=st.integers(0, 1)))
    rule, rng = RULES[which], np.random.default_rng(seed)
    slate, propensity = choose(rule, scores, mask, rng, k)
    usable = (mask != 0) & np.isfinite(scores)
    assert ((slate >= 0).sum(axis=1) == np.minimum(usable.sum(axis=1), k)).all()
    for row in range(n):
        chosen = slate[row][slate[row] >= 0]
        assert len(set(chosen)) == len(chosen) and usable[row, chosen].all()
    assert ((propensity > 0) == (slate >= 0)).all() and (propensity <= 1 + 1e-12).all()
    x = legal_scores(scores, mask)
    p = rule.probabilities(x)
    assert np.allclose(p.sum(axis=1), usable.any(axis=1)) and (p[~usable] == 0).all()
    single = np.stack([rule.propensity(x, np.full((n, 1), i))[:, 0] for i in range(width)], axis=1)
    assert np.allclose(single, p, atol=1e-12)


def test_shared_rows_are_handled_without_copies() -> None:
    scores, mask = rows([1.0, 2.0, 3.0], [1, 1, 0], 1000, shared=True)
    x = legal_scores(scores, mask)
    assert is_shared(x) and x.shape == (1000, 3) and x[0].tolist() == [1, 2, -np.inf]
