"""Calibration, likelihoods and rankings against figures worked out by hand."""

import numpy as np
import pytest

from qurate.evaluation.customer_ranking import Reversed, spearman, top_share
from qurate.evaluation.customer_validity import Rows, amount_figures, binary_figures, event_figures, log_likelihood, rates, reliability


def test_reliability_compares_bins_of_equally_many() -> None:
    p = np.repeat([0.1, 0.5], 50)
    y = np.concatenate([np.arange(50) < 10, np.arange(50) < 20]).astype(float)  # .2 and .4
    found = reliability(p, y, bins=2)
    assert found["error"] == pytest.approx(0.1) and found["predicted"] == pytest.approx(0.3) and found["observed"] == pytest.approx(0.3)
    assert [row["observed"] for row in found["bins"]] == pytest.approx([0.2, 0.4]) and found["bins"][0]["n"] == 50


def test_log_likelihood_is_that_of_bernoulli_and_bounded() -> None:
    assert np.allclose(log_likelihood(np.array([0.25, 0.25, 0.0]), np.array([1.0, 0.0, 1.0])), np.log([0.25, 0.75, 1e-6]))


def test_rates_shrink_towards_the_mean() -> None:
    group, y = np.array([1, 1, 2, 2]), np.array([1.0, 1, 0, 1])
    assert np.allclose(rates(group, y, np.array([1, 2, 3]), 2.0), [(2 + 1.5) / 4, (1 + 1.5) / 4, 0.75])


def rows(n: int, seed: int) -> tuple[Rows, np.ndarray]:
    rng = np.random.default_rng(seed)
    item, user = rng.integers(1, 5, n), rng.integers(0, 40, n)
    p = np.array([0, 0.1, 0.3, 0.5, 0.9])[item]
    return Rows(user, item, (rng.random(n) < p)[:, None].astype(float), np.ones((n, 1))), p[:, None]


def test_the_best_simple_rate_is_what_customers_must_beat() -> None:
    (train, _), (valid, _), (test, p) = rows(4_000, 0), rows(1_000, 1), rows(2_000, 2)
    entry = event_figures(["click"], p, train, valid, test)["click"]
    assert entry["gain"]["over"] == "per_item" and abs(entry["gain"]["mean"]) < 0.01
    assert entry["log_likelihood"]["constant"] < entry["log_likelihood"]["customers"] - 0.1
    wrong = event_figures(["click"], 1 - p, train, valid, test)["click"]
    assert wrong["gain"]["ci"][1] < 0 and wrong["calibration"]["error"] > 0.2


def test_what_is_too_rare_is_said_so() -> None:
    assert "note" in binary_figures(np.full(100, 0.1), (np.arange(100) < 5).astype(float), 0.1, np.arange(100))


def test_amounts_are_compared_with_their_mean() -> None:
    rng = np.random.default_rng(0)
    make = [Rows(np.zeros(50, int), np.zeros(50, int), np.ones((50, 1)), rng.normal(3, 1, (50, 1))) for _ in range(2)]
    found = amount_figures(["rating"], make[1].amount, *make)["rating"]
    assert found["customers"] == 0 and 0.7 < found["mean"] < 1.3


def test_a_policy_draws_from_the_best_tenth_and_ties_share() -> None:
    scores = np.arange(20, dtype=np.float32)[None]
    mask = np.ones((1, 20), np.int8)
    assert top_share(scores, mask)[0, -2:].tolist() == [0.5, 0.5]
    mask[0, 19] = 0
    assert top_share(scores, mask)[0, [17, 18, 19]].tolist() == [0.5, 0.5, 0.0]
    assert top_share(np.arange(40, dtype=np.float32)[None], np.ones((1, 40), np.int8))[0, -5:].tolist() == [0, 0.25, 0.25, 0.25, 0.25]
    assert np.allclose(top_share(np.zeros((1, 20), np.float32), np.ones((1, 20), np.int8)), 1 / 20)


def test_rank_correlation_with_ties() -> None:
    assert spearman([1, 2, 3], [10, 20, 30]) == pytest.approx(1) and spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert spearman([1, 2, 2, 3], [1, 2, 3, 3]) == pytest.approx(3.75 / 4.5), "ranks 1, 2.5, 2.5, 4 and 1, 2, 3.5, 3.5"
    assert spearman([1, 1, 2], [1, 2, 3]) == pytest.approx(np.sqrt(0.75)) and spearman([1, 1], [1, 2]) is None


def test_the_worst_first() -> None:
    class Order:
        name = "x"

        def scores(self, observation: object) -> np.ndarray:
            return np.array([[1.0, 2.0]], np.float32)

    assert Reversed(Order(), "back").scores(None).tolist() == [[-1.0, -2.0]]  # type: ignore[arg-type]
