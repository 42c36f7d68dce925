"""The baselines by name, fitted from the train split of a dataset."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from qurate.baselines.bandit import BanditScorer, Sums, bandit_of, features, item_numbers, n_features
from qurate.baselines.content import fit_content_scorer
from qurate.baselines.ease import EaseScorer, fit_ease_scorer
from qurate.baselines.factors import AlsScorer, BprScorer, fit_als_scorer, fit_bpr_scorer
from qurate.baselines.neighbours import FrequentScorer, ItemKnnScorer, RecentScorer, fit_item_knn, fit_session_knn_scorer
from qurate.baselines.training_rows import Rows, customer_items, interest, rows_of_interest, type_worth
from qurate.choosing.policy import FirstThen, ScoredPolicy, over_candidates
from qurate.choosing.selection import GREEDY, UNIFORM
from qurate.errors import Code, UserError, nearest
from qurate.mdp.states import gather_state
from qurate.settings import FittedSettings, Settings, from_flat, parse_leaves
from qurate.types import TRAIN, Actions, EventArrays, FloatArray, Observation, Scorer, Transitions

DAY_US = 86_400_000_000
DEFAULTS = FittedSettings()


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
    def user_features(self) -> FloatArray: ...  # [U, D], row = user index
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


def own_settings(settings: Settings) -> FittedSettings:
    """Those of a baseline."""
    return settings.algorithm if isinstance(settings.algorithm, FittedSettings) else DEFAULTS


def fit_neighbours(data: BaselineData, settings: FittedSettings) -> FirstThen:
    """Item-kNN; popularity below it and for customers without a history."""
    rows, counts = _rows(data)
    near, similarity = fit_item_knn(rows, len(data.item_features) - 1, neighbours=settings.neighbours, shrink=settings.shrink)
    return FirstThen(ItemKnnScorer(near, similarity, counts, decay=settings.decay), fit_popularity(data), "item_knn")


def fit_session_knn(data: BaselineData, settings: FittedSettings = DEFAULTS) -> FirstThen:
    """Session-kNN; popularity below it and for customers without a history."""
    rows, counts = _rows(data)
    nearest_visits = fit_session_knn_scorer(rows, len(data.item_features) - 1, counts, neighbours=settings.neighbours, decay=settings.decay)
    return FirstThen(nearest_visits, fit_popularity(data), "session_knn")


def fit_recent(data: BaselineData, settings: FittedSettings) -> FirstThen:
    """The customer's own items most recent first (3), then session-kNN; re-ranking lists: the last item first, then the list's order."""
    counts = interest(data.vocabulary.types, data.components, data.weights)
    if len(data.transitions.candidates):
        return FirstThen(RecentScorer(counts, limit=1), ShownOrderScorer(), "recent")
    return FirstThen(RecentScorer(counts, limit=3), fit_session_knn(data, settings), "recent")


def fit_frequent(data: BaselineData, settings: FittedSettings) -> FirstThen:
    """The customer's own items most often met first, then session-kNN; re-ranking lists: then the list's order."""
    counts = interest(data.vocabulary.types, data.components, data.weights)
    rest = ShownOrderScorer() if len(data.transitions.candidates) else fit_session_knn(data)
    return FirstThen(FrequentScorer(counts, settings.decay), rest, "frequent")


def fit_content(data: BaselineData, settings: FittedSettings) -> FirstThen:
    """Likeness of item features to the last items; popularity for customers without a history."""
    counts = interest(data.vocabulary.types, data.components, data.weights)
    scorer = fit_content_scorer(data.item_features, counts)
    return FirstThen(replace(scorer, decay=settings.decay), fit_popularity(data), "content")


def fit_ease(data: BaselineData, settings: FittedSettings) -> EaseScorer:
    """EASE over customers and the different items they had."""
    counts = interest(data.vocabulary.types, data.components, data.weights)
    customer, item = customer_items(data.arrays, data.transitions, counts)
    return fit_ease_scorer(customer, item, fit_popularity(data).table, counts, settings.regularisation, settings.decay)


def fit_als(data: BaselineData, settings: Settings, seed: int) -> AlsScorer:
    """ALS over customers and the different items they had."""
    s, counts = own_settings(settings), interest(data.vocabulary.types, data.components, data.weights)
    return fit_als_scorer(
        *customer_items(data.arrays, data.transitions, counts), fit_popularity(data).table, counts, factors=s.factors,
        regularisation=s.regularisation, confidence=s.confidence, iterations=s.iterations, decay=s.decay, seed=seed,
    )  # fmt: skip


def fit_bpr(data: BaselineData, settings: Settings, seed: int) -> BprScorer:
    """BPR over customers and the different items they had."""
    s, counts = own_settings(settings), interest(data.vocabulary.types, data.components, data.weights)
    return fit_bpr_scorer(
        *customer_items(data.arrays, data.transitions, counts), fit_popularity(data).table, counts, factors=s.factors,
        regularisation=s.regularisation, lr=settings.learning.lr, iterations=s.iterations, decay=s.decay, seed=seed,
    )  # fmt: skip


BANDIT_ROWS = 2_048
"""Transitions whose features are held at a time."""


def fit_bandit(data: BaselineData, settings: Settings, name: str) -> BanditScorer:
    """The regression of what was earned by what was shown; items that were never shown have the mean of their features.

    Raises:
        UserError: the log does not say what was shown.
    """
    if is_organic(data):
        got, hint = "an organic log: what customers chose, and nothing shown in vain", "ease and als learn from such a log"
        raise UserError("a log of what was shown", got, where=f"--algorithm {name}", hint=hint, code=Code.BAD_TRAIN)
    s, t, numbers = own_settings(settings), data.transitions, item_numbers(data.item_features)
    wanted = interest(data.vocabulary.types, data.components, data.weights)
    sums = Sums.empty(len(numbers) - 1, n_features(numbers.shape[1], data.user_features.shape[1]))
    train = np.flatnonzero(t.split[t.state] == TRAIN)
    for first in range(0, len(train), BANDIT_ROWS):
        row = train[first : first + BANDIT_ROWS]
        state, item = t.state[row], t.action[row].astype(np.int64)
        user = t.user[state]
        history = gather_state(
            data.arrays, data.arrays.user_start[user], t.history_end[state], t.clock[state], settings.window, data.user_features[user]
        )
        shown = Observation(history, Actions(item[:, None], np.ones((len(row), 1), np.int8)))
        z = features(shown, numbers, wanted, item[:, None])[:, 0].astype(np.float64)
        sums.add(z, item, (t.reward[row] @ data.weights).astype(np.float64))
    return bandit_of(sums, numbers, wanted, s.regularisation, s.width if name == "linucb" else 0.0, name)


def fit_random(data: BaselineData) -> ChanceScorer:
    """Every item alike; nothing is fitted."""
    return ChanceScorer()


@dataclass(frozen=True, slots=True)
class Fitted:
    """A baseline.

    Attributes:
        fit: from a dataset, settings and a seed.
        settings: the leaves that it reads.
        defaults: those of them that differ from the defaults of `settings.py`.
        source: the paper, where there is one.
    """

    fit: Callable[[BaselineData, Settings, int], Scorer]
    settings: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""


FACTORS = ("window", "factors", "regularisation", "iterations", "decay")
BANDIT = ("window", "regularisation")
# fmt: off
FITTED: dict[str, Fitted] = {
    "random": Fitted(lambda data, s, seed: fit_random(data)),
    "popularity": Fitted(lambda data, s, seed: fit_popularity(data, own_settings(s).half_life or None), ("half_life",)),
    "static": Fitted(lambda data, s, seed: fit_static(data)),
    "item_knn": Fitted(
        lambda data, s, seed: fit_neighbours(data, own_settings(s)), ("window", "neighbours", "shrink", "decay"),
        source="Sarwar et al. 2001, doi:10.1145/371920.372071",
    ),
    "session_knn": Fitted(
        lambda data, s, seed: fit_session_knn(data, own_settings(s)), ("window", "neighbours", "decay"),
        source="Jannach and Ludewig 2017, doi:10.1145/3109859.3109872",
    ),
    "recent": Fitted(lambda data, s, seed: fit_recent(data, own_settings(s)), ("window", "neighbours", "decay")),
    "frequent": Fitted(
        lambda data, s, seed: fit_frequent(data, own_settings(s)), ("window", "decay"), {"window": 100, "decay": 0.98},
        "Hu et al. 2020, arXiv:2006.00556",
    ),
    "content": Fitted(lambda data, s, seed: fit_content(data, own_settings(s)), ("window", "decay")),
    "ease": Fitted(
        lambda data, s, seed: fit_ease(data, own_settings(s)), ("window", "regularisation", "decay"),
        {"regularisation": 100.0}, "Steck 2019, arXiv:1905.03375",
    ),
    "als": Fitted(
        fit_als, (*FACTORS, "confidence"), source="Hu, Koren and Volinsky 2008, doi:10.1109/ICDM.2008.22",
    ),
    "bpr": Fitted(
        fit_bpr, (*FACTORS, "lr"), {"regularisation": 0.01, "iterations": 100, "lr": 0.05},
        "Rendle et al. 2009, arXiv:1205.2618",
    ),
    "linucb": Fitted(
        lambda data, s, seed: fit_bandit(data, s, "linucb"), (*BANDIT, "width"), source="Li et al. 2010, arXiv:1003.0146",
    ),
    "thompson": Fitted(
        lambda data, s, seed: fit_bandit(data, s, "thompson"), BANDIT, source="Agrawal and Goyal 2013, arXiv:1209.3352",
    ),
}
# fmt: on
"""Baselines by name, fitted on the train split."""


def fitted_settings(name: str, given: Mapping[str, Any] = MappingProxyType({})) -> Settings:
    """The settings of a baseline with what the user sets over them.

    Raises:
        UserError: an unknown setting, one that the baseline does not have, or a value out of range.
    """
    row = FITTED[name]
    own = {field.name: field.default for field in msgspec.structs.fields(FittedSettings) if field.name in row.settings}
    return from_flat(own | dict(row.defaults) | parse_leaves(given, row.settings, name))


def fit_scorer(name: str, data: BaselineData, settings: Settings | None = None, seed: int = 0) -> Scorer:
    """The named baseline, fitted on the train split.

    Args:
        settings: as `fitted_settings` gives them; None = its defaults.
        seed: of what is drawn while fitting.

    Raises:
        UserError: unknown name (the nearest is named); a dataset without what the baseline needs, such as item features.
    """
    if name not in FITTED:
        raise UserError("a baseline", name, where="policy", hint=nearest(name, FITTED), code=Code.UNKNOWN_POLICY)
    return FITTED[name].fit(data, fitted_settings(name) if settings is None else settings, seed)


def fit_baseline(name: str, data: BaselineData, slate_size: int = 1) -> ScoredPolicy:
    """A greedy policy of the named baseline; its `scorer` ranks. Errors as in `fit_scorer`."""
    return random_policy(slate_size) if name == "random" else ScoredPolicy(fit_scorer(name, data), GREEDY, slate_size)
