"""Matrix factorisation for implicit feedback, fitted by the library `implicit`: ALS and BPR.

What is kept are the items' factors. A customer's factors are made from the history at hand, so that they hold for customers
who came later, and for what a known customer did since:

* ALS (Hu, Koren and Volinsky 2008, doi:10.1109/ICDM.2008.22): the least-squares solution for the given items, equation 4;
* BPR (Rendle et al. 2009, arXiv:1205.2618): it has no such solution; a linear map of the mean of the items' factors, fitted by
  ridge regression to the factors that training gave the customers of the log.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qurate.baselines.training_rows import different_items, popular_if_unknown
from qurate.choosing.policy import over_candidates
from qurate.errors import Code, UserError
from qurate.types import FloatArray, IntArray, Observation

RIDGE = 1.0
"""Of BPR's map, in customers: without it, the map of a log with fewer customers than factors has weights of any size."""
SOLVED = 512
"""Customers whose systems of equations are solved at a time."""


@dataclass(eq=False)
class AlsScorer:
    """Items by the product of their factors with those of the customer.

    Args:
        factors: float32 [N + 1, f], row 0 zeros.
        confidence: of an item that a customer had, beside 1 of the others.
        regularisation: of the customer's factors.
        popularity: float32 [N + 1], ranks for customers without a history.
        counts: bool [M + 1], which types of history rows count.
        decay: confidence of a history row relative to the next newer one; 1 as published.
    """

    factors: FloatArray
    confidence: float
    regularisation: float
    popularity: FloatArray
    counts: NDArray[np.bool_]
    decay: float = 1.0

    name = "als"

    def scores(self, observation: Observation) -> FloatArray:
        """float32 [B, K]."""
        rows, length = observation.state.history_items.shape
        row, item, weight = different_items(observation, self.counts, length, self.decay)
        customers = self.fold_in(row, item, weight, rows)
        table = (customers @ self.factors.T).astype(np.float32)
        return over_candidates(popular_if_unknown(table, row, self.popularity), observation.actions.candidates)

    def fold_in(self, row: IntArray, item: IntArray, weight: FloatArray, rows: int) -> NDArray[np.float64]:
        """Factors of customers, float64 [rows, f]: (Y'Y + Y'(C - I)Y + l I)^-1 Y'C p, where C is `confidence` x weight at the items had.

        Args:
            row, item, weight: [P], sorted by row.
        """
        every, f = self.factors.astype(np.float64), self.factors.shape[1]
        shared = every.T @ every + self.regularisation * np.eye(f)
        bounds = np.searchsorted(row, np.arange(rows + 1))
        out = np.zeros((rows, f))
        for first in range(0, rows, SOLVED):
            last = min(first + SOLVED, rows)
            at = slice(bounds[first], bounds[last])
            owner, own, confidence = row[at] - first, every[item[at]], self.confidence * weight[at].astype(np.float64)
            system, side = np.broadcast_to(shared, (last - first, f, f)).copy(), np.zeros((last - first, f))
            start, present = np.unique(owner, return_index=True)[::-1]
            if len(present):
                system[present] += outer_sums(own, confidence - 1, start)
                side[present] = np.add.reduceat(confidence[:, None] * own, start)
            out[first:last] = np.linalg.solve(system, side[:, :, None])[:, :, 0]
        return out


def outer_sums(vectors: NDArray[np.float64], weight: NDArray[np.float64], start: IntArray) -> NDArray[np.float64]:
    """Weighted sums of v v' over runs of vectors [P, f] that begin at `start` [S]: [S, f, f]."""
    ends = np.append(start[1:], len(vectors))
    return np.stack([(vectors[a:b] * weight[a:b, None]).T @ vectors[a:b] for a, b in zip(start, ends)])


@dataclass(eq=False)
class BprScorer:
    """Items by the product of their factors with those of the customer, and their own bias; those without factors last.

    Args:
        factors: float32 [N + 1, f + 1]; the last column is the item's bias. Zeros: nobody had the item in training.
        to_customer: float32 [f + 2, f], from the mean of the factors of the items had, and 1, to the customer's factors.
        popularity: float32 [N + 1], ranks for customers without a history.
        counts: bool [M + 1], which types of history rows count.
        decay: weight of a history row in that mean relative to the next newer one.
    """

    factors: FloatArray
    to_customer: FloatArray
    popularity: FloatArray
    counts: NDArray[np.bool_]
    decay: float = 1.0

    name = "bpr"

    def scores(self, observation: Observation) -> FloatArray:
        """float32 [B, K]."""
        rows, length = observation.state.history_items.shape
        row, item, weight = different_items(observation, self.counts, length, self.decay)
        customers = mean_factors(self.factors, row, item, weight, rows) @ self.to_customer
        table = (customers @ self.factors[:, :-1].T + self.factors[:, -1]).astype(np.float32)
        unknown = ~self.factors.any(1)
        table[:, unknown] = table[:, ~unknown].min(1, keepdims=True, initial=0) - 1
        return over_candidates(popular_if_unknown(table, row, self.popularity), observation.actions.candidates)


def mean_factors(factors: FloatArray, row: IntArray, item: IntArray, weight: FloatArray, rows: int) -> FloatArray:
    """Weighted means of the factors of each row's items, and a last column of ones: float32 [rows, f + 2]."""
    total = np.zeros((rows, factors.shape[1] + 1), np.float32)
    np.add.at(total, row, weight[:, None] * np.column_stack([factors[item], np.ones(len(item), np.float32)]))
    total[:, :-1] /= np.maximum(total[:, -1:], np.finfo(np.float32).tiny)
    total[:, -1] = 1
    return total


def fit_als_scorer(
    customer: IntArray, item: IntArray, popularity: FloatArray, counts: NDArray[np.bool_], *,
    factors: int, regularisation: float, confidence: float, iterations: int, decay: float, seed: int,
) -> AlsScorer:  # fmt: skip
    """The scorer of customers' items.

    Args:
        customer, item: [P], different pairs.
        popularity: float32 [N + 1]. counts: bool [M + 1], which types of history rows count.
        factors, regularisation, confidence, iterations: see `settings.FittedSettings`.
        decay: see `AlsScorer`.
        seed: of the first factors.

    Raises:
        UserError: the library is not installed, or the factors become NaN.
    """
    implicit, pairs = _pairs(customer, item, len(popularity), "als")
    model = implicit.als.AlternatingLeastSquares(
        factors=factors, regularization=regularisation, alpha=confidence, iterations=iterations, num_threads=1, random_state=seed
    )
    _fit(model, pairs, "raise regularisation, or lower confidence")
    return AlsScorer(_item_factors(model, item), confidence, regularisation, popularity, counts, decay)


def fit_bpr_scorer(
    customer: IntArray, item: IntArray, popularity: FloatArray, counts: NDArray[np.bool_], *,
    factors: int, regularisation: float, lr: float, iterations: int, decay: float, seed: int,
) -> BprScorer:  # fmt: skip
    """The scorer of customers' items; arguments and errors as in `fit_als_scorer`, `lr`: step size."""
    implicit, pairs = _pairs(customer, item, len(popularity), "bpr")
    model = implicit.bpr.BayesianPersonalizedRanking(
        factors=factors, learning_rate=lr, regularization=regularisation, iterations=iterations, num_threads=1, random_state=seed
    )
    _fit(model, pairs, "lower lr")
    own = _item_factors(model, item)
    active = np.unique(customer)
    means = mean_factors(own, customer, item, np.ones(len(item), np.float32), len(model.user_factors))[active].astype(np.float64)
    system = means.T @ means + RIDGE * np.eye(means.shape[1])
    to_customer = np.linalg.solve(system, means.T @ model.user_factors[active, :-1])
    return BprScorer(own, to_customer.astype(np.float32), popularity, counts, decay)


def _pairs(customer: IntArray, item: IntArray, rows: int, algorithm: str) -> tuple[Any, Any]:
    """The library, and the pairs as a sparse matrix of customers by items."""
    try:
        import implicit.als
        import implicit.bpr
        from scipy.sparse import csr_matrix
    except ImportError:
        hint = "pip install 'qurate[baselines]'"
        raise UserError("the library implicit", "none", where=f"--algorithm {algorithm}", hint=hint, code=Code.MISSING_EXTRA) from None
    shape = (int(customer.max(initial=-1)) + 1, rows)
    return implicit, csr_matrix((np.ones(len(item), np.float32), (customer, item)), shape=shape)


def _fit(model: Any, pairs: Any, hint: str) -> None:
    """Fits the library's model.

    Raises:
        UserError: the factors have become NaN; `hint`: which settings to change.
    """
    from implicit.recommender_base import ModelFitError
    from threadpoolctl import threadpool_limits

    try:
        with threadpool_limits(1, "blas"):  # its own loops run over customers, and warn where each product starts threads besides
            model.fit(pairs, show_progress=False)
    except ModelFitError:
        raise UserError("factors that are numbers", "NaN", where="--set", hint=hint, code=Code.DIVERGED) from None


def _item_factors(model: Any, item: IntArray) -> FloatArray:
    """Of all items, zeros where nobody had the item in training."""
    factors = np.array(model.item_factors, np.float32)
    factors[np.setdiff1d(np.arange(len(factors)), item)] = 0
    return factors
