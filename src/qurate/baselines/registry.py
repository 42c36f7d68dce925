"""The baselines by name, fitted from the train split of a dataset."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qurate.baselines.content import fit_content_scorer
from qurate.baselines.neighbours import ItemKnnScorer, RecentScorer, fit_item_knn, fit_session_knn_scorer
from qurate.baselines.training_rows import Rows, interest, rows_of_interest, type_worth
from qurate.choosing.policy import FirstThen, ScoredPolicy, over_candidates
from qurate.choosing.selection import GREEDY, UNIFORM
from qurate.errors import Code, UserError, nearest
from qurate.types import TRAIN, EventArrays, FloatArray, Observation, Scorer, Transitions

DAY_US = 86_400_000_000


class Types(Protocol):
    """The part of a vocabulary that baselines need."""

    @property
    def types(self) -> Sequence[str]:
        """Names of types 1..M."""
        ...


class BaselineData(Protocol):
    """The part of a dataset (`mdp.storage.Dataset`) that baselines need."""

    @property
    def arrays(self) -> EventArrays: ...
    @property
    def transitions(self) -> Transitions: ...
    @property
    def item_features(self) -> FloatArray: ...  # [N + 1, F]
    @property
    def components(self) -> list[str]: ...  # [R]
    @property
    def weights(self) -> FloatArray: ...  # [R]
    @property
    def row_visit(self) -> NDArray[np.int32]: ...  # [E] visit of each history row
    @property
    def vocabulary(self) -> Types: ...
    @property
    def kind(self) -> str: ...  # organic | exposure | logged


@dataclass(eq=False)
class ItemScorer:
    """The same score for every customer: popularity, a static list.

    Args:
        table: float32 [N + 1] by item index.
        name: display name.
    """

    table: FloatArray
    name: str

    def scores(self, observation: Observation) -> FloatArray:
        """float32 [B, K]; a broadcast view where all customers share the candidates."""
        return over_candidates(self.table[None], observation.actions.candidates)


@dataclass(eq=False)
class ChanceScorer:
    """No opinion: every candidate scores 0."""

    name = "random"

    def scores(self, observation: Observation) -> FloatArray:
        """float32 [B, K] zeros, a view without memory."""
        return np.broadcast_to(np.zeros((1, 1), np.float32), observation.actions.candidates.shape)


@dataclass(eq=False)
class ShownOrderScorer:
    """Keeps the order of the candidates: what the site itself showed."""

    name = "shown_order"

    def scores(self, observation: Observation) -> FloatArray:
        """float32 [B, K]: 0 for the first candidate, -1 for the second, ..."""
        return np.broadcast_to(-np.arange(observation.actions.candidates.shape[1], dtype=np.float32), observation.actions.candidates.shape)


def random_policy(slate_size: int = 1) -> ScoredPolicy:
    """Uniform over what may be shown."""
    return ScoredPolicy(ChanceScorer(), UNIFORM, slate_size)


def is_organic(data: BaselineData) -> bool:
    """True where the log says only what customers chose, so that no item was ever shown in vain."""
    return data.kind == "organic"


def popularity(
    item: NDArray[np.integer], worth: NDArray[np.floating], time: NDArray[np.int64], n_items: int, half_life_days: float | None = None
) -> FloatArray:
    """float32 [N + 1]: worth summed by item, halved for every `half_life_days` before the last time (None: no decay).

    Args:
        item: [R] 0..N.
        worth: [R] what each row counts.
        time: [R] microseconds.
        n_items: N.
        half_life_days: above 0.
    """
    weight = np.asarray(worth, np.float64)
    if half_life_days is not None and len(time):
        weight = weight * np.exp2(-(time.max() - time) / (half_life_days * DAY_US))
    return np.bincount(item, weights=weight, minlength=n_items + 1).astype(np.float32)


def mean_reward(item: NDArray[np.integer], reward: NDArray[np.floating], n_items: int, prior: float = 20.0) -> FloatArray:
    """float32 [N + 1]: mean reward of each item when shown, drawn to the overall mean by `prior` imaginary showings.

    Args:
        item: [T] item shown.
        reward: [T] weighted reward it earned.
        n_items: N.
        prior: showings; more of them trust rare items less.
    """
    total = np.bincount(item, weights=reward, minlength=n_items + 1)
    shown = np.bincount(item, minlength=n_items + 1)
    overall = float(reward.mean()) if len(reward) else 0.0
    return ((total + prior * overall) / (shown + prior)).astype(np.float32)


def _rows(data: BaselineData) -> tuple[Rows, NDArray[np.bool_]]:
    counts = interest(data.vocabulary.types, data.components, data.weights)
    return rows_of_interest(data.arrays, data.transitions, data.row_visit, counts), counts


def _rewards(data: BaselineData) -> tuple[NDArray[np.int32], FloatArray, NDArray[np.int64]]:
    """Item, weighted reward and clock of the train transitions."""
    t = data.transitions
    train = t.split[t.state] == TRAIN
    return t.action[train], t.reward[train] @ data.weights, t.clock[t.state[train]]


def fit_popularity(data: BaselineData, half_life_days: float | None = None) -> ItemScorer:
    """Organic logs: train rows by item, weighted by the reward of their type; others: reward earned by item when shown."""
    n_items = len(data.item_features) - 1
    if is_organic(data):
        rows, _ = _rows(data)
        worth = type_worth(data.vocabulary.types, data.components, data.weights)[rows.type]
        return ItemScorer(popularity(rows.item, worth, rows.time, n_items, half_life_days), "popularity")
    item, reward, clock = _rewards(data)
    return ItemScorer(popularity(item, np.maximum(reward, 0), clock, n_items, half_life_days), "popularity")


def fit_static(data: BaselineData) -> ItemScorer:
    """One list for everybody: mean reward when shown; on organic logs, where nothing else was shown, total reward."""
    item, reward, clock = _rewards(data)
    n_items = len(data.item_features) - 1
    if is_organic(data):
        return ItemScorer(popularity(item, reward, clock, n_items), "static")
    return ItemScorer(mean_reward(item, reward, n_items), "static")


def fit_neighbours(data: BaselineData) -> FirstThen:
    """Item-kNN; popularity below it and for customers without a history."""
    rows, counts = _rows(data)
    near, similarity = fit_item_knn(rows, len(data.item_features) - 1)
    return FirstThen(ItemKnnScorer(near, similarity, counts), fit_popularity(data), "item_knn")


def fit_session_knn(data: BaselineData) -> FirstThen:
    """Session-kNN; popularity below it and for customers without a history."""
    rows, counts = _rows(data)
    return FirstThen(fit_session_knn_scorer(rows, len(data.item_features) - 1, counts), fit_popularity(data), "session_knn")


def fit_recent(data: BaselineData) -> FirstThen:
    """The customer's own items most recent first (3), then session-kNN; re-ranking lists: the last item first, then the list's order."""
    counts = interest(data.vocabulary.types, data.components, data.weights)
    if len(data.transitions.candidates):
        return FirstThen(RecentScorer(counts, limit=1), ShownOrderScorer(), "recent")
    return FirstThen(RecentScorer(counts, limit=3), fit_session_knn(data), "recent")


def fit_content(data: BaselineData) -> FirstThen:
    """Likeness of item features to the last items; popularity for customers without a history."""
    counts = interest(data.vocabulary.types, data.components, data.weights)
    return FirstThen(fit_content_scorer(data.item_features, counts), fit_popularity(data), "content")


def fit_random(data: BaselineData) -> ChanceScorer:
    """Every item alike; nothing is fitted."""
    return ChanceScorer()


FITTED: dict[str, Callable[[BaselineData], Scorer]] = {
    "random": fit_random,
    "popularity": fit_popularity,
    "static": fit_static,
    "item_knn": fit_neighbours,
    "session_knn": fit_session_knn,
    "recent": fit_recent,
    "content": fit_content,
}
"""Baselines by name, fitted on the train split."""

READS_HISTORY = frozenset({"item_knn", "session_knn", "recent", "content"})
"""Baselines that have a `window`: the others score every customer alike."""


def fit_scorer(name: str, data: BaselineData) -> Scorer:
    """The named baseline, fitted on the train split.

    Raises:
        UserError: unknown name (the nearest is named); `content` without item features.
    """
    if name not in FITTED:
        raise UserError("a baseline", name, where="policy", hint=nearest(name, FITTED), code=Code.UNKNOWN_POLICY)
    return FITTED[name](data)


def fit_baseline(name: str, data: BaselineData, slate_size: int = 1) -> ScoredPolicy:
    """A greedy policy of the named baseline; its `scorer` ranks. Errors as in `fit_scorer`."""
    return random_policy(slate_size) if name == "random" else ScoredPolicy(fit_scorer(name, data), GREEDY, slate_size)
