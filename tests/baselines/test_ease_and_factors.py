"""EASE against a direct solution of its problem, ALS against the library's own answer, BPR against a log with two kinds of customers."""

import builtins
import logging
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from policy_data import Data, observe, organic
from qurate.baselines import ease, factors
from qurate.baselines.ease import fit_ease_scorer, gram_matrix
from qurate.baselines.factors import AlsScorer, BprScorer, fit_als_scorer, mean_factors
from qurate.baselines.registry import fit_scorer, fitted_settings
from qurate.baselines.training_rows import customer_items, different_items
from qurate.errors import Code, UserError

CLICKS = np.array([False, True, False])
N = 12


def two_kinds(customers: int = 60, length: int = 6) -> Data:
    """Customers who take items 1..6, and others who take items 7..12; the last of each kind is a test customer."""
    rng = np.random.default_rng(0)
    items = np.stack([1 + 6 * (c % 2) + rng.choice(6, length, replace=False) for c in range(customers)])
    return organic(np.full(customers, length), items.ravel(), np.arange(customers) < customers - 2, N)


def pairs_of(data: Data) -> tuple[np.ndarray, np.ndarray]:
    return customer_items(data.arrays, data.transitions, CLICKS)


def test_pairs_are_different_and_only_of_train_customers() -> None:
    data = organic(np.array([4, 3, 3]), np.array([2, 1, 2, 1, 3, 3, 3, 4, 4, 4]), np.array([True, True, False]), 4)
    customer, item = pairs_of(data)
    assert (customer.tolist(), item.tolist()) == ([0, 0, 1], [1, 2, 3])


def test_an_item_counts_once_with_its_newest_weight() -> None:
    row, item, weight = different_items(observe([[5, 2, 5], [1]], np.arange(1, 6)), CLICKS, 9, 0.5)
    assert (row.tolist(), item.tolist(), weight.tolist()) == ([0, 0, 1], [2, 5, 1], [0.5, 1.0, 1.0])
    row, item, weight = different_items(observe([[5, 2, 5]], np.arange(1, 6)), CLICKS, 1, 0.5)
    assert (row.tolist(), item.tolist(), weight.tolist()) == ([0], [5], [1.0])


def test_gram_matrix_counts_customers(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    x = (rng.random((40, 7)) < 0.3).astype(float)
    customer, item = np.nonzero(x)
    monkeypatch.setattr(ease, "PAIRS", 11)  # in several parts
    assert np.array_equal(gram_matrix(customer, item, 7), x.T @ x)
    assert not gram_matrix(customer[:0], item[:0], 3).any()


def test_ease_solves_its_problem_directly() -> None:
    """Column j of B: ridge regression of x_j on all the other items (equation 4 without item j)."""
    rng = np.random.default_rng(2)
    x = (rng.random((50, N + 1)) < 0.3).astype(float)
    x[:, 0] = 0
    customer, item = np.nonzero(x)
    scorer = fit_ease_scorer(customer, item, np.zeros(N + 1, np.float32), CLICKS, regularisation=3.0)
    direct = np.zeros((N, N))
    for j in range(N):
        others = np.delete(np.arange(N), j)
        own = x[:, 1 + others]
        direct[others, j] = np.linalg.solve(own.T @ own + 3.0 * np.eye(N - 1), own.T @ x[:, 1 + j])
    assert scorer.items.tolist() == list(range(1, N + 1)) and np.allclose(scorer.weights, direct, atol=1e-5)
    history = [3, 5, 5, 9]
    scores = scorer.scores(observe([history], np.arange(1, N + 1)))[0]
    assert np.allclose(scores, direct[[2, 4, 8]].sum(0), atol=1e-5)


def test_ease_of_a_large_catalogue_says_which_items_it_knows(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(ease, "MOST_ITEMS", 2)
    with caplog.at_level(logging.WARNING, "qurate"):
        scorer = fit_ease_scorer(
            np.array([0, 0, 1, 1, 2]), np.array([1, 3, 3, 4, 4]), np.arange(6, dtype=np.float32), CLICKS, regularisation=1.0
        )
    assert scorer.items.tolist() == [3, 4] and "2 most frequent of 3 items" in caplog.text
    scores = scorer.scores(observe([[3], [1], []], np.arange(1, 6)))
    assert scores[0].argmax() == 3 and np.allclose(scores[0, [0, 1, 2, 4]], 1e-6 * np.array([1, 2, 3, 5]) / 5)  # ties by popularity
    assert scores[1:].tolist() == [[1, 2, 3, 4, 5]] * 2  # nothing known of them: by popularity


def test_als_fold_in_is_the_librarys_own() -> None:
    data = two_kinds()
    customer, item = pairs_of(data)
    options: dict[str, Any] = {"factors": 8, "regularisation": 0.7, "confidence": 5.0, "iterations": 4, "decay": 1.0, "seed": 3}
    popular = np.zeros(N + 1, np.float32)
    scorer = fit_als_scorer(customer, item, popular, CLICKS, **options)
    model = factors._pairs(customer, item, N + 1, "als")[0].als.AlternatingLeastSquares(
        factors=8, regularization=0.7, alpha=5.0, iterations=4, num_threads=1, random_state=3
    )
    seen = csr_matrix((np.ones(len(item), np.float32), (customer, item)), shape=(int(customer.max()) + 1, N + 1))
    factors._fit(model, seen, "")
    assert np.allclose(scorer.factors[1:], model.item_factors[1:]) and not scorer.factors[0].any()
    asked = csr_matrix((np.ones(4, np.float32), ([0, 0, 1, 1], [2, 5, 7, 8])), shape=(3, N + 1))
    theirs = model.recalculate_user([0, 1, 2], asked)
    row, own = asked.nonzero()
    assert np.allclose(scorer.fold_in(row, own, np.ones(4, np.float32), 3), theirs, atol=1e-4)
    scores = scorer.scores(observe([[2, 5], [7, 8, 7]], np.arange(1, N + 1)))
    assert np.allclose(scores, theirs[:2] @ scorer.factors[1:].T, atol=1e-4)


@pytest.mark.parametrize("name", ["ease", "als", "bpr"])
def test_it_learns_which_items_go_together(name: str) -> None:
    settings = fitted_settings(name, {"factors": 8, "confidence": 5} if name == "als" else {"factors": 8} if name == "bpr" else {})
    scorer = fit_scorer(name, two_kinds(), settings)
    scores = scorer.scores(observe([[1, 2, 3], [7, 8, 9], []], np.arange(1, N + 1)))
    assert scores[0, 3:6].min() > scores[0, 6:].max() and scores[1, 9:].min() > scores[1, :6].max()
    popular = fit_scorer("popularity", two_kinds()).scores(observe([[]], np.arange(1, N + 1)))
    assert np.array_equal(scores[2:], popular)


def test_the_seed_decides_the_factors() -> None:
    def factors_of(seed: int) -> np.ndarray:
        scorer = fit_scorer("als", two_kinds(), fitted_settings("als", {"factors": 4, "iterations": 1}), seed)
        assert isinstance(scorer, AlsScorer)
        return scorer.factors

    assert np.array_equal(factors_of(1), factors_of(1)) and not np.array_equal(factors_of(1), factors_of(2))


def test_bpr_maps_the_mean_of_the_items_had() -> None:
    scorer = fit_scorer("bpr", two_kinds(), fitted_settings("bpr", {"factors": 4}))
    assert isinstance(scorer, BprScorer) and scorer.to_customer.shape == (6, 4)
    means = mean_factors(scorer.factors, np.array([0, 0, 1]), np.array([1, 2, 7]), np.array([1, 3, 1], np.float32), 3)
    assert np.allclose(means[0, :-1], (scorer.factors[1] + 3 * scorer.factors[2]) / 4, atol=1e-6) and means[:, -1].tolist() == [1, 1, 1]
    assert not means[2, :-1].any()


def test_an_item_nobody_had_stands_last_by_bpr() -> None:
    data = organic(np.array([3, 3]), np.array([1, 2, 3, 3, 2, 1]), np.array([True, True]), 5)
    scorer = fit_scorer("bpr", data, fitted_settings("bpr", {"factors": 2}))
    scores = scorer.scores(observe([[1], [2, 3]], np.arange(1, 6)))
    assert isinstance(scorer, BprScorer) and not scorer.factors[4:].any()
    assert (scores[:, 3:] < scores[:, :3].min(1, keepdims=True)).all()


def test_factors_that_become_nan_are_an_error_that_says_what_to_change() -> None:
    settings = fitted_settings("bpr", {"factors": 16, "lr": 1e30, "iterations": 20})
    with pytest.raises(UserError, match="expected factors that are numbers, got NaN, at settings; lower lr") as caught:
        fit_scorer("bpr", two_kinds(), settings)
    assert caught.value.code == Code.DIVERGED


def test_without_the_library_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("implicit"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(UserError, match=r"pip install 'qurate\[baselines\]'") as caught:
        fit_scorer("als", two_kinds())
    assert caught.value.code == "missing_extra" and caught.value.code.exit_code == 2
