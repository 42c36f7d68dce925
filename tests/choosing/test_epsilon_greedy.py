"""Lists of many customers at once: the same distribution as the general rule, row by row, whatever the company."""

import numpy as np
import pytest

from qurate.choosing.epsilon_greedy import best_positions, epsilon_greedy_slates, nth_open
from qurate.choosing.selection import epsilon_greedy_rule, legal_scores

NONE = np.zeros(0, np.int64)


def scores_of(width: int, ties: bool, rows: int = 12) -> np.ndarray:
    drawn = np.random.default_rng(width).normal(size=(rows, width)).astype(np.float32)
    return np.round(drawn) if ties else drawn


@pytest.mark.parametrize("width", [1, 5, 40, 401, 3_000])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("k", [1, 3, 10])
def test_the_best_positions_are_those_of_a_sort(width: int, ties: bool, k: int) -> None:
    k, scores = min(k, width), scores_of(width, ties)
    for row, found in zip(scores, best_positions(scores, k)):
        assert set(found.tolist()) == set(np.flatnonzero(row >= np.sort(row)[-k]).tolist())
        assert (np.diff(row[found]) <= 0).all()


@pytest.mark.parametrize("width", [5, 40, 3_000])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_propensities_are_those_of_the_rule_and_no_row_feels_the_others(width: int, ties: bool, epsilon: float) -> None:
    scores, rng = scores_of(width, ties), np.random.default_rng(1)
    closed = [rng.choice(width, row % 3 * width // 4, replace=False) for row in range(len(scores))]
    scores[4, 2], scores[5, 1], scores[6, 3] = np.nan, np.inf, -np.inf
    k, luck = [1 + row % 7 for row in range(len(scores))], rng.random((len(scores), 14))
    rule, before = epsilon_greedy_rule(epsilon), scores.copy()
    for row, slate in enumerate(epsilon_greedy_slates(scores, closed, k, epsilon, luck)):
        mask = np.ones((1, width), np.bool_)
        mask[0, closed[row]] = False
        legal = legal_scores(scores[row : row + 1], mask)
        assert len(slate.positions) == len(set(slate.positions)) == min(k[row], int((legal > -np.inf).sum()))
        expected = rule.propensity(legal, np.array([slate.positions], np.int64).reshape(1, -1))
        assert slate.propensities == pytest.approx(expected[0].tolist(), rel=1e-14)
        (alone,) = epsilon_greedy_slates(scores[row : row + 1], closed[row : row + 1], k[row : row + 1], epsilon, luck[row : row + 1])
        assert alone == slate
    assert np.array_equal(scores, before, equal_nan=True)


@pytest.mark.parametrize("epsilon", [0.0, 0.4])
def test_lists_come_as_often_as_their_propensities_say(epsilon: float) -> None:
    """Five items, two of them equally good, one closed: all 12 lists of two, counted."""
    n = 40_000
    scores = np.tile(np.array([0.5, 1.0, 1.0, 9.0, 0.0], np.float32), (n, 1))
    luck = np.random.default_rng(3).random((n, 4))
    slates = epsilon_greedy_slates(scores, [np.array([3])] * n, [2] * n, epsilon, luck)
    count: dict[tuple[int, ...], int] = {}
    for slate in slates:
        count[tuple(slate.positions)] = count.get(tuple(slate.positions), 0) + 1
    probability = {tuple(slate.positions): float(np.prod(slate.propensities)) for slate in slates}
    assert sum(probability.values()) == pytest.approx(1, abs=1e-12) and len(count) == (12 if epsilon else 2)
    for slate, p in probability.items():
        assert abs(count[slate] / n - p) < 4.5 * (p * (1 - p) / n) ** 0.5, slate
    explored = np.mean([slate.explored for slate in slates])
    assert abs(explored - epsilon) < 4.5 * 0.5 / n**0.5


def test_explored_says_which_draw_filled_a_place_also_where_it_hit_the_best() -> None:
    luck = np.array([[0.05, 0.99, 0.5, 0.0]])  # explores and picks the last position, which is the best; then takes the best left
    (slate,) = epsilon_greedy_slates(np.array([[1.0, 2.0, 3.0]], np.float32), [NONE], [2], 0.1, luck)
    assert slate.positions == [2, 1] and slate.explored == [True, False]
    assert slate.propensities == pytest.approx([0.1 / 3 + 0.9, 0.1 / 2 + 0.9])


def test_nothing_open_gives_an_empty_list() -> None:
    (slate,) = epsilon_greedy_slates(np.ones((1, 3), np.float32), [np.arange(3)], [2], 0.5, np.zeros((1, 4)))
    assert slate.positions == [] == slate.propensities
    assert [nth_open(n, [4, 0, 2]) for n in range(4)] == [1, 3, 5, 6]
