"""The pieces that worlds share, by hand."""

import numpy as np
import pytest

from qurate.environments.customers import choose, comes_back, probabilities, pull, rest, tire


def test_probabilities_are_logistic_of_negated_logits() -> None:
    assert probabilities(np.array([0.0, -np.log(3), np.log(9)])) == pytest.approx([0.5, 0.75, 0.1])


def test_choice_is_proportional_to_odds_with_an_outside_option() -> None:
    """Odds 1 and 3 beside nothing: 1/5, 3/5 and 1/5."""
    luck = (np.arange(1000) + 0.5) / 1000
    position, share, within = choose(np.tile([0.5, 0.75], (1000, 1)), luck)
    assert [(position == i).mean() for i in (0, 1, -1)] == pytest.approx([0.2, 0.6, 0.2])
    assert set(np.round(share[position == 1], 9)) == {0.6}
    taken = position >= 0
    assert (within[taken] >= 0).all() and (within[taken] < share[taken]).all(), "luck is uniform again, within what was taken"
    assert within[position == 1].max() > 0.59


def test_one_item_is_chosen_with_its_own_probability() -> None:
    position, share, _ = choose(np.full((100, 1), 0.3), (np.arange(100) + 0.5) / 100)
    assert (position == 0).sum() == 30 and share == pytest.approx(0.3)


def test_satiation_heals_and_grows_and_repeats_count() -> None:
    level = np.array([[1.0, 2.0], [0.0, 4.0]])
    tire(level, np.array([0, 3]), np.array([0.5, 0.25]), 0.5)
    assert np.array_equal(level, [[1.0, 1.0], [0.0, 2.25]])
    tire(level, np.array([[0, 0], [2, 3]]), np.array([[1.0, 2.0], [3.0, 4.0]]), 1.0)
    assert np.array_equal(level, [[4.0, 1.0], [3.0, 6.25]])


def test_rest_fades_the_levels_of_those_who_are_away() -> None:
    level = np.ones((3, 2))
    rest(level, np.array([0, 2]), np.array([5.0, 10.0]), 10.0)
    assert np.allclose(level, [[np.exp(-0.5)] * 2, [1, 1], [np.exp(-1)] * 2])


def test_pull_is_a_share_of_the_way() -> None:
    assert pull(np.array([0.2]), np.array([1.0]), 0.25) == pytest.approx(0.2)


def test_who_comes_back_and_when() -> None:
    luck = np.array([[0.49, 0.51, 0.1], [0.0, 0.0, 1 - np.exp(-2)]])
    returns, hours, seconds = comes_back(luck, np.zeros(3), 10.0, 5.0)
    assert returns.tolist() == [True, False, True]
    assert hours == pytest.approx([10, 10, 20]) and seconds.tolist() == pytest.approx([36_000, 36_000, 72_000], abs=1)
