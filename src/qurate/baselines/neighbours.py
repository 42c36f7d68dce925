"""Neighbourhood baselines: items seen in the same visits (item-kNN), whole visits like this one (session-kNN),
and the customer's own items again: the last ones, or the most frequent ones."""

from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from qurate.baselines.training_rows import Rows, different_items, ragged, recent_items
from qurate.choosing.policy import over_candidates
from qurate.choosing.slate_sampling import is_shared
from qurate.types import FloatArray, IntArray, Observation

DENSE_ITEMS = 2048
"""Below this size, keep a dense similarity matrix: a product is then faster than gathering neighbours."""


@dataclass(eq=False)
class RecentScorer:
    """The customer's own last items, most recent first; all other items get 0.

    Args:
        counts: bool [M + 1], which types of history rows count.
        limit: so many different items.
    """

    counts: NDArray[np.bool_]
    limit: int = 3

    name = "recent"

    def scores(self, observation: Observation) -> FloatArray:
        """float32 [B, K]: `limit` for the last item, limit - 1 for the one before it, ..., else 0."""
        items = np.where(self.counts[observation.state.history_types], observation.state.history_items, 0)
        picks = np.zeros((len(items), min(self.limit, items.shape[1])), np.int64)
        rows = np.arange(len(items))
        for rank in range(picks.shape[1]):
            newest = items.shape[1] - 1 - np.argmax(items[:, ::-1] > 0, axis=1)
            picks[:, rank] = items[rows, newest]
            items[items == picks[:, rank, None]] = 0
        worth = np.arange(self.limit, 0, -1, dtype=np.float32)[: picks.shape[1]]
        candidates = observation.actions.candidates
        if not is_shared(candidates):
            match = (candidates[:, :, None] == picks[:, None, :]) & (picks > 0)[:, None, :]
            out: FloatArray = (match * worth).sum(axis=2, dtype=np.float32)
            return out
        table = np.zeros((len(items), int(max(candidates.max(initial=0), picks.max(initial=0))) + 1), np.float32)
        table[rows[:, None], picks] = worth
        table[:, 0] = 0
        return over_candidates(table, candidates)


@dataclass(eq=False)
class FrequentScorer:
    """The customer's own items, most often met first; all other items get 0.

    In groceries and music hard to beat (Hu et al. 2020, arXiv:2006.00556: personal frequency of items in next-basket recommendation).

    Args:
        counts: bool [M + 1], which types of history rows count.
        decay: weight of a history row relative to the next newer one, in (0, 1]: of items met equally often the newer one comes first.
    """

    counts: NDArray[np.bool_]
    decay: float = 0.98

    name = "frequent"

    def scores(self, observation: Observation) -> FloatArray:
        """float32 [B, K]: the weights of the history rows of each candidate, added up."""
        candidates = observation.actions.candidates
        row, item, weight = recent_items(observation, self.counts, observation.state.history_items.shape[1], self.decay)
        width = int(max(candidates.max(initial=0), item.max(initial=0))) + 1
        sums = np.bincount(row * width + item, weights=weight, minlength=len(candidates) * width)
        return over_candidates(sums.reshape(len(candidates), width).astype(np.float32), candidates)


@dataclass(eq=False)
class ItemKnnScorer:
    """Sum over the customer's last items of weight x similarity to the candidate.

    Args:
        neighbours: int32 [N + 1, M], most similar first, 0 = none.
        similarity: float32 [N + 1, M].
        counts: bool [M + 1], which types of history rows count.
        last: history rows used.
        decay: weight of a row relative to the next newer one.
    """

    neighbours: NDArray[np.int32]
    similarity: FloatArray
    counts: NDArray[np.bool_]
    last: int = 10
    decay: float = 0.8
    dense: FloatArray | None = field(init=False, repr=False, default=None)

    name = "item_knn"

    def __post_init__(self) -> None:
        size = len(self.neighbours)
        if size <= DENSE_ITEMS:
            self.dense = np.zeros((size, size), np.float32)
            self.dense[np.arange(size)[:, None], self.neighbours] = self.similarity

    def scores(self, observation: Observation) -> FloatArray:
        """float32 [B, K]; 0 where no neighbour of the last items is near."""
        row, item, weight = recent_items(observation, self.counts, self.last, self.decay)
        size = len(self.neighbours)
        table = np.zeros((len(observation.state.history_items), size), np.float32)
        if self.dense is not None:
            np.add.at(table, (row, item), weight)
            table = table @ self.dense
        else:
            at = (row * size)[:, None] + self.neighbours[item]
            np.add.at(table.reshape(-1), at.ravel(), (weight[:, None] * self.similarity[item]).ravel())
        return over_candidates(table, observation.actions.candidates)


def fit_item_knn(
    rows: Rows, n_items: int, window: int = 20, neighbours: int = 100, shrink: float = 5.0
) -> tuple[NDArray[np.int32], FloatArray]:
    """Cosine of co-occurrence in visits: c_ab / (sqrt(n_a n_b) + shrink).

    c_ab counts the visits in which a and b stand at most `window` rows apart, n_a the visits with a: each visit counts once.

    Args:
        rows: train rows.
        n_items: N.
        window: rows.
        neighbours: M, the most similar items kept for each item.
        shrink: visits; lowers the similarity of pairs seen rarely.

    Returns:
        neighbours int32 [N + 1, M] (0 = none) and similarity float32 [N + 1, M], most similar first.
    """
    visits_with = np.zeros(n_items + 1, np.float64)
    once = pl.DataFrame({"item": rows.item, "visit": rows.visit}).unique().group_by("item").len()
    visits_with[once["item"].to_numpy()] = once["len"].to_numpy()
    pairs = _pairs(rows, window)
    a, b, c = (pairs[name].to_numpy() for name in ("a", "b", "c"))
    cosine = (c / (np.sqrt(visits_with[a] * visits_with[b]) + shrink)).astype(np.float32)
    a, b, cosine = np.concatenate([a, b]), np.concatenate([b, a]), np.concatenate([cosine, cosine])
    order = np.argsort(a * (n_items + 1) + b)  # pairs come in any order; equal similarities are ranked by item
    order = order[np.argsort(-cosine[order], kind="stable")]
    order = order[np.argsort(a[order], kind="stable")]
    a, b, cosine = a[order], b[order], cosine[order]
    rank = np.arange(len(a)) - np.searchsorted(a, a)
    keep = rank < neighbours
    width = int(rank[keep].max(initial=0)) + 1
    near = np.zeros((n_items + 1, width), np.int32)
    similarity = np.zeros((n_items + 1, width), np.float32)
    near[a[keep], rank[keep]] = b[keep]
    similarity[a[keep], rank[keep]] = cosine[keep]
    return near, similarity


def _pairs(rows: Rows, window: int) -> pl.DataFrame:
    """Columns a < b (items) and c (visits in which both stand within `window` rows)."""
    found = []
    for step in range(1, window + 1):
        same = rows.visit[step:] == rows.visit[:-step]
        if not same.any():
            break
        left, right = rows.item[:-step][same], rows.item[step:][same]
        differ = left != right
        visit = rows.visit[step:][same][differ]
        left, right = left[differ], right[differ]
        found.append(pl.DataFrame({"visit": visit, "a": np.minimum(left, right), "b": np.maximum(left, right)}))
    if not found:
        return pl.DataFrame({"a": np.zeros(0, np.int64), "b": np.zeros(0, np.int64), "c": np.zeros(0, np.int64)})
    return pl.concat(found).unique().group_by("a", "b").agg(pl.len().alias("c"))


@dataclass(eq=False)
class SessionKnnScorer:
    """Items of the past visits most like the customer's last items (Jannach and Ludewig 2017, without sampling by time of day).

    The likeness of a past visit is the sum of the weights of the items it shares, over the square root of its length;
    an item scores the sum of the likenesses of the `neighbours` nearest visits that hold it.

    Args:
        items: int32, the items of visit v (0 = the latest) are items[items_start[v] : items_start[v + 1]].
        items_start: int64 [V + 1].
        visits: int32, the visits that hold item i, latest first, are visits[visits_start[i] : visits_start[i] + visits_count[i]].
        visits_start: int64 [N + 2].
        visits_count: int64 [N + 1], at most so many of the latest visits with an item are looked at.
        counts: bool [M + 1], which types of history rows count.
        neighbours: nearest visits used.
        last: history rows used.
        decay: weight of a row relative to the next newer one.
    """

    items: NDArray[np.int32]
    items_start: IntArray
    visits: NDArray[np.int32]
    visits_start: IntArray
    visits_count: IntArray
    counts: NDArray[np.bool_]
    neighbours: int = 100
    last: int = 10
    decay: float = 0.8

    name = "session_knn"

    @property
    def n_items(self) -> int:
        """N."""
        return len(self.visits_count) - 1

    @property
    def n_visits(self) -> int:
        """V."""
        return len(self.items_start) - 1

    def scores(self, observation: Observation) -> FloatArray:
        """float32 [B, K]; 0 where no near visit holds the item."""
        row, visit, likeness = self._nearest(observation)
        start = self.items_start[visit]
        at, owner = ragged(start, self.items_start[visit + 1] - start)
        table = np.zeros((len(observation.state.history_items), self.n_items + 1), np.float32)
        np.add.at(table.reshape(-1), row[owner] * (self.n_items + 1) + self.items[at], likeness[owner].astype(np.float32))
        return over_candidates(table, observation.actions.candidates)

    def _nearest(self, observation: Observation) -> tuple[IntArray, IntArray, NDArray[np.float64]]:
        """(row of the batch, visit, likeness) of the nearest visits of each customer."""
        row, item, weight = different_items(observation, self.counts, self.last, self.decay)
        at, owner = ragged(self.visits_start[item], self.visits_count[item])
        key, where = np.unique(row[owner] * self.n_visits + self.visits[at], return_inverse=True)
        likeness = np.bincount(where, weights=weight[owner], minlength=len(key))
        row, visit = key // max(self.n_visits, 1), key % max(self.n_visits, 1)
        likeness = likeness / np.sqrt(self.items_start[visit + 1] - self.items_start[visit])
        order = np.lexsort((visit, -likeness, row))
        row, visit, likeness = row[order], visit[order], likeness[order]
        keep = np.arange(len(row)) - np.searchsorted(row, row) < self.neighbours
        return row[keep], visit[keep], likeness[keep]


def fit_session_knn_scorer(
    rows: Rows, n_items: int, counts: NDArray[np.bool_], neighbours: int = 100, sample: int = 500, decay: float = 0.8
) -> SessionKnnScorer:
    """The scorer over the visits of train rows.

    Args:
        n_items: N.
        counts: bool [M + 1], which types of history rows count.
        neighbours: nearest visits used.
        sample: for each item only so many of the latest visits with it are looked at.
        decay: weight of a history row relative to the next newer one.
    """
    _, visit = np.unique(rows.visit, return_inverse=True)
    n_visits = int(visit.max(initial=-1)) + 1
    ended = np.zeros(n_visits, np.int64)
    np.maximum.at(ended, visit, rows.time)
    place = np.empty(n_visits, np.int64)  # 0 = the latest visit
    place[np.argsort(-ended, kind="stable")] = np.arange(n_visits)
    key = np.unique(place[visit] * (n_items + 1) + rows.item)
    by_visit, item = key // (n_items + 1), key % (n_items + 1)
    order = np.argsort(item, kind="stable")  # within an item: the latest visits first
    visits_start = np.searchsorted(item[order], np.arange(n_items + 2))
    return SessionKnnScorer(
        items=item.astype(np.int32),
        items_start=np.searchsorted(by_visit, np.arange(n_visits + 1)),
        visits=by_visit[order].astype(np.int32),
        visits_start=visits_start,
        visits_count=np.minimum(np.diff(visits_start), sample),
        counts=counts,
        neighbours=neighbours,
        decay=decay,
    )
