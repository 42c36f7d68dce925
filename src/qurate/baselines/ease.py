"""EASE: item-to-item weights in closed form (Steck 2019, arXiv:1905.03375).

X says which customer had which item. The weights B, with a diagonal of zeros, minimise |X - X B|^2 + l |B|^2:
with P = (X'X + l I)^-1, B_ij = -P_ij / P_jj for i != j (equation 8). A customer's scores are x B.
"""

import logging
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from qurate.baselines.training_rows import different_items, popular_if_unknown, ragged
from qurate.choosing.policy import over_candidates
from qurate.types import FloatArray, IntArray, Observation

log = logging.getLogger("qurate.baselines")

MOST_ITEMS = 10_000
"""X'X of so many items takes 0.8 GB in float64, its factor as much, and the weights that are kept 0.4 GB."""

TIE = 1e-6
"""Score of the most popular item beside weights of 0.001 and more."""
PAIRS = 4_000_000
"""Pairs of items of one customer that are counted at a time."""


@dataclass(eq=False)
class EaseScorer:
    """Sum over the customer's different items of weight x B.

    Args:
        items: int64 [n], the items that B knows, ascending.
        weights: float32 [n, n], B: from the item had (row) to the item scored (column).
        popularity: float32 [N + 1], ranks for customers without any item that B knows.
        counts: bool [M + 1], which types of history rows count.
        decay: weight of a history row relative to the next newer one; 1 as published.
    """

    items: IntArray
    weights: FloatArray
    popularity: FloatArray
    counts: NDArray[np.bool_]
    decay: float = 1.0

    name = "ease"

    def scores(self, observation: Observation) -> FloatArray:
        """float32 [B, K]; items of the same score, such as those that B does not know (0), are ranked by popularity."""
        rows, length = observation.state.history_items.shape
        place = np.full(len(self.popularity), -1, np.int64)
        place[self.items] = np.arange(len(self.items))
        row, item, weight = different_items(observation, self.counts, length, self.decay)
        known = place[item] >= 0
        row, item, weight = row[known], item[known], weight[known]
        sums = torch.nn.functional.embedding_bag(
            torch.from_numpy(place[item]),
            torch.from_numpy(self.weights),
            torch.from_numpy(np.searchsorted(row, np.arange(rows))),
            per_sample_weights=torch.from_numpy(weight),
            mode="sum",
        )
        share = self.popularity / max(float(self.popularity.max(initial=0)), 1e-30)
        table = np.repeat(np.float32(TIE) * share[None], rows, axis=0)
        table[:, self.items] += sums.numpy()
        return over_candidates(popular_if_unknown(table, row, self.popularity), observation.actions.candidates)


def fit_ease_scorer(
    customer: IntArray, item: IntArray, popularity: FloatArray, counts: NDArray[np.bool_], regularisation: float, decay: float = 1.0
) -> EaseScorer:
    """The scorer of customers' items; of more than `MOST_ITEMS`, the most frequent are kept, and a note says so.

    Args:
        customer, item: [P], different pairs sorted by customer.
        popularity: float32 [N + 1].
        counts: bool [M + 1], which types of history rows count.
        regularisation: l, in customers.
        decay: see `EaseScorer`.
    """
    frequency = np.bincount(item, minlength=len(popularity))
    items = np.flatnonzero(frequency)
    if len(items) > MOST_ITEMS:
        log.warning(
            "note: ease knows the %s most frequent of %s items; the Gram matrix of all would not fit", f"{MOST_ITEMS:,}", f"{len(items):,}"
        )
        items = np.sort(items[np.argsort(-frequency[items], kind="stable")[:MOST_ITEMS]])
    place = np.full(len(popularity), -1, np.int64)
    place[items] = np.arange(len(items))
    kept = place[item] >= 0
    gram = gram_matrix(customer[kept], place[item[kept]], len(items))
    gram[np.diag_indices(len(items))] += regularisation
    factor = torch.linalg.cholesky(torch.from_numpy(gram))
    del gram  # as large as the factor
    inverse = torch.cholesky_inverse(factor)
    weights = (inverse / -inverse.diagonal()).fill_diagonal_(0).float().numpy()
    return EaseScorer(items.astype(np.int64), np.ascontiguousarray(weights), popularity, counts, decay)


def gram_matrix(customer: IntArray, item: IntArray, n: int) -> NDArray[np.float64]:
    """float64 [n, n]: how many customers have both items.

    Args:
        customer, item: [P], different pairs sorted by customer; items 0..n-1.
    """
    out = np.zeros((n, n))
    start = np.searchsorted(customer, customer)
    count = np.searchsorted(customer, customer, "right") - start
    pairs = np.cumsum(count)
    for part in np.split(np.arange(len(item)), np.searchsorted(pairs, np.arange(PAIRS, int(pairs[-1]) if len(pairs) else 0, PAIRS))):
        other, owner = ragged(start[part], count[part])
        np.add.at(out.reshape(-1), item[part[owner]] * n + item[other], 1.0)
    return out
