import math

import numpy as np
import pytest

from qurate.evaluation.intervals import Interval, paired_t, percentile, student_t, sum_by_user, t_quantile, user_bootstrap

PUBLISHED = [
    (0.975, 1, 12.7062),
    (0.975, 2, 4.30265),
    (0.975, 4, 2.77645),
    (0.975, 5, 2.57058),
    (0.995, 3, 5.84091),
    (0.95, 9, 1.83311),
    (0.975, 10, 2.22814),
    (0.9995, 7, 5.40788),
    (0.975, 30, 2.04227),
    (0.975, 120, 1.97993),
]


@pytest.mark.parametrize(("p", "df", "expected"), PUBLISHED)
def test_quantile_equals_the_published_table(p: float, df: int, expected: float) -> None:
    assert t_quantile(p, df) == pytest.approx(expected, rel=3e-6)
    assert t_quantile(1 - p, df) == pytest.approx(-expected, rel=3e-6)


def test_quantile_closed_forms_and_limits() -> None:
    assert t_quantile(0.5, 3) == 0.0
    assert t_quantile(0.9, 1) == pytest.approx(math.tan(math.pi * 0.4), rel=1e-9)  # df 1 is Cauchy
    p = 0.93
    assert t_quantile(p, 2) == pytest.approx((2 * p - 1) / math.sqrt(2 * p * (1 - p)), rel=1e-9)
    assert t_quantile(0.975, 2_000) == pytest.approx(t_quantile(0.975, 2_001), abs=1e-6)  # the sum and the series meet
    assert t_quantile(0.975, 10**9) == pytest.approx(1.959963985, abs=1e-8)
    with pytest.raises(ValueError, match="df >= 1"):
        t_quantile(0.9, 0)


def test_student_t_by_hand() -> None:
    mean, lo, hi = student_t([1.0, 2.0, 3.0, 4.0, 5.0])
    assert mean == 3.0
    half = 2.776445105 * math.sqrt(2.5) / math.sqrt(5)
    assert (lo, hi) == pytest.approx((3 - half, 3 + half))


def test_one_seed_has_no_interval_and_json_has_no_nan() -> None:
    assert student_t([2.0]).to_dict() == {"mean": 2.0, "ci": [None, None]}
    assert student_t([]).to_dict() == {"mean": None, "ci": [None, None]}


def test_pairing_removes_what_the_seeds_share() -> None:
    shared = np.array([0.0, 100.0, -50.0, 30.0, 7.0])
    lift = paired_t(list(shared + np.array([1.0, 1.1, 0.9, 1.0, 1.0])), list(shared))
    assert lift.mean == pytest.approx(1.0)
    assert 0.85 < lift.lo < lift.hi < 1.15
    with pytest.raises(ValueError, match="as many seeds"):
        paired_t([1.0], [1.0, 2.0])


def test_t_interval_covers_at_its_level() -> None:
    rng = np.random.default_rng(0)
    hits = [lo <= 0.0 <= hi for _, lo, hi in (student_t(row) for row in rng.normal(size=(1_000, 5)))]
    assert 0.93 < np.mean(hits) < 0.97


def test_sum_by_user() -> None:
    sums = sum_by_user(np.array([0, 2, 2]), 4, np.array([[1.0, 2.0, 3.0], [0.0, 1.0, 0.0]]))
    assert sums.tolist() == [[1, 0, 5, 0], [0, 0, 1, 0]]


def test_bootstrap_matches_the_normal_theory_of_a_mean() -> None:
    x = np.random.default_rng(1).normal(3.0, 2.0, 400)
    draws = user_bootstrap(x[None, None, :], np.ones((1, 400)), draws=4_000)[:, 0]
    assert draws.std() == pytest.approx(x.std() / 20, rel=0.05)
    mean, lo, hi = percentile(float(x.mean()), draws)
    assert (lo, hi) == pytest.approx((mean - 1.96 * x.std() / 20, mean + 1.96 * x.std() / 20), abs=0.03)


def test_seeds_do_not_shrink_the_spread_of_the_users_they_share() -> None:
    """Three identical seeds know no more about the customers than one."""
    x = np.random.default_rng(2).normal(size=200)
    one = user_bootstrap(x[None, None, :], np.ones((1, 200)), draws=500)
    three = user_bootstrap(np.repeat(x[None, None, :], 3, axis=1), np.ones((1, 200)), draws=500)
    np.testing.assert_allclose(one, three, atol=1e-12)


def test_the_seeds_own_spread_enters() -> None:
    """Users all alike, seeds 0, 1, 2: the standard error is sd / sqrt(3) with the unbiased sd of 1, as wide as Student says."""
    sums = np.repeat(np.array([0.0, 1.0, 2.0])[None, :, None], 50, axis=2)
    draws = user_bootstrap(sums, np.ones((1, 50)), draws=6_000)[:, 0]
    assert draws.mean() == pytest.approx(1.0, abs=0.05)
    assert draws.std() == pytest.approx(t_quantile(0.975, 2) / 1.96 / math.sqrt(3), rel=0.05)


@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_hold_what_they_promise_where_seeds_differ_more_than_users(seeds: int) -> None:
    rng, hits, times = np.random.default_rng(1), 0, 300
    for time in range(times):
        values = rng.normal(0, 1, seeds)[:, None] + rng.normal(0, 0.1, (seeds, 100))
        _, lo, hi = percentile(float(values.mean()), user_bootstrap(values[None], np.ones((1, 100)), draws=300, seed=time)[:, 0])
        hits += lo <= 0 <= hi
    assert 0.9 < hits / times < 0.99


def test_two_calls_are_paired_and_ratios_weigh_users_by_their_targets() -> None:
    rng = np.random.default_rng(3)
    counts = rng.integers(1, 9, 300).astype(float)
    a = rng.normal(size=300) * counts
    first = user_bootstrap(a[None, None, :], counts[None, :], draws=200, seed=5)
    second = user_bootstrap((a + 0.5 * counts)[None, None, :], counts[None, :], draws=200, seed=5)
    np.testing.assert_allclose(second - first, 0.5, atol=1e-12)


def test_a_metric_without_targets_has_no_interval() -> None:
    draws = user_bootstrap(np.zeros((1, 1, 3)), np.zeros((1, 3)), draws=10)
    assert percentile(math.nan, draws[:, 0]).to_dict() == {"mean": None, "ci": [None, None]}


def test_one_user_drawn_again_and_again_gives_no_interval() -> None:
    """Where a metric has targets of one user alone, others may be anything; a metric of two users beside it has its draws."""
    draws = user_bootstrap(np.array([[[3.0, 0, 0]], [[3.0, 1, 0]]]), np.array([[4.0, 0, 0], [4.0, 2, 0]]), 300, 0)
    assert np.isnan(draws[:, 0]).all() and np.isfinite(draws[:, 1]).sum() > 200
    assert math.isnan(percentile(0.75, draws[:, 0]).lo) and percentile(0.75, draws[:, 0]).mean == 0.75


def test_an_interval_comes_back_from_json() -> None:
    whole, none = Interval(1.5, 1.0, 2.0), Interval(1.5, math.nan, math.nan)
    assert Interval.from_dict(whole.to_dict()) == whole
    assert Interval.from_dict(none.to_dict())[0] == 1.5 and all(map(math.isnan, Interval.from_dict(none.to_dict())[1:]))


def test_users_and_seeds_are_resampled_independently() -> None:
    """Two users at 0 and 1 and two seeds at 0 and 1: the variances add, Var = (1/4)/2 for the users, wider^2 (1/4)/2 for the seeds."""
    sums = np.array([[[0.0, 1.0], [1.0, 2.0]]])
    draws = user_bootstrap(sums, np.ones((1, 2)), draws=40_000)[:, 0]
    wider = math.sqrt(2) * t_quantile(0.975, 1) / 1.959963985
    assert draws.std() == pytest.approx(math.sqrt((1 + wider**2) / 8), rel=0.02)
