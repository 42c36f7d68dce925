"""The pieces that worlds share, by hand."""

import numpy as np
import pytest

from qurate.environments.customers import choose, comes_back, probabilities, pull, rest, segment_tastes, segments, tire, visit_ends


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
    tire(level, np.array([[0, 0], [2, 3]]), np.array([[1.0, 2.0], [3.0, 4.0]]), 1.0, repeated=True)
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


def test_a_visit_ends_for_some_who_return_and_some_who_do_not() -> None:
    dwell = np.array([5, 6, 7, 8])
    pause, gone = visit_ends(4, np.array([1, 3]), np.array([True, False]), np.array([20, 30]), dwell)
    assert pause.tolist() == [0, 20, 0, 0] and gone.tolist() == [False, False, False, True]
    assert dwell.tolist() == [5, 20_000_006, 7, 30_000_008]


def test_every_segment_likes_so_many_kinds_each_kind_alike() -> None:
    tastes = segment_tastes(np.random.default_rng(0), (4_000, 8), 3, 1.5, -0.5)
    assert ((tastes == 1.5).sum(axis=1) == 3).all() and ((tastes == -0.5).sum(axis=1) == 5).all()
    assert (tastes == 1.5).mean(axis=0) == pytest.approx(3 / 8, abs=0.04)


def test_the_visible_segment_is_the_true_one_or_any() -> None:
    luck = np.array([[0.0, 0.49, 0.5, 0.99], [0.79, 0.79, 0.81, 0.81], [0.99, 0.99, 0.0, 0.3]])
    true, seen = segments(luck, 4, 0.8)
    assert true.tolist() == [0, 1, 2, 3] and seen.tolist() == [0, 1, 0, 1]
