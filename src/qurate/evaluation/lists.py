"""What stands on the recommended lists, whether it was chosen or not: novelty, diversity, and how evenly items are shown."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qurate.evaluation.intervals import Interval, percentile, sum_by_user, user_bootstrap
from qurate.types import TRAIN, FloatArray, IntArray, Transitions

Entry = dict[str, Any]
CHUNK = 4_096
"""Lists whose items are compared with each other at a time."""


def chosen_in_training(transitions: Transitions, weights: FloatArray, n_items: int) -> NDArray[np.float64]:
    """How often each item earned something in the train split, float64 [N + 1]."""
    t = transitions
    earned = (t.split[t.state] == TRAIN) & (t.reward @ np.asarray(weights, np.float32) > 0)
    return np.bincount(t.action[earned], minlength=n_items + 1).astype(np.float64)


def novelty(lists: IntArray, chosen: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean self-information of the items of each list, bits, float64 [T] (Vargas and Castells 2011, doi:10.1145/2043932.2043955).

    -log2 of the share of training choices that were of the item; an item that was never chosen counts as if once. NaN without items.

    Args:
        lists: [T, k], 0 = no item. chosen: [N + 1].
    """
    bits = -np.log2(np.maximum(chosen, 1) / max(chosen[1:].sum(), 1))
    return _mean(bits[lists], lists > 0)


def diversity(lists: IntArray, item_features: FloatArray) -> NDArray[np.float64]:
    """Mean of 1 - cosine over the pairs of items of each list, float64 [T] (Ziegler et al. 2005, doi:10.1145/1060745.1060754).

    NaN for lists of fewer than two items with features.

    Args:
        lists: [T, k], 0 = no item. item_features: [N + 1, F].
    """
    length = np.linalg.norm(item_features, axis=1, keepdims=True)
    unit = np.divide(item_features, length, out=np.zeros_like(item_features), where=length > 0)
    out = np.full(len(lists), np.nan)
    for first in range(0, len(lists), CHUNK):
        part = lists[first : first + CHUNK]
        known = (length[part, 0] > 0) & (part > 0)
        n = known.sum(1).astype(np.float64)
        total = (unit[part] * known[:, :, None]).sum(1, dtype=np.float64)
        pairs = n * (n - 1)
        likeness = (total**2).sum(1) - n  # sum of the cosines of all ordered pairs
        np.divide(pairs - likeness, pairs, out=out[first : first + CHUNK], where=pairs > 0)
    return out


def gini(lists: IntArray, n_open: int) -> float:
    """Gini coefficient of how often the items are on the lists: 0 = all alike, towards 1 = a few items are all that is shown.

    Args:
        lists: [T, k], 0 = no item. n_open: items that could be shown to anybody.
    """
    shown = np.sort(np.bincount(lists[lists > 0]))
    shown = shown[shown > 0].astype(np.float64)
    n = max(n_open, len(shown))
    if not len(shown):
        return math.nan
    rank = np.arange(n - len(shown) + 1, n + 1)  # the items that were never shown come first
    return float((2 * rank - n - 1) @ shown / (n * shown.sum()))


def list_figures(
    runs: Sequence[IntArray], user: IntArray, chosen: NDArray[np.float64], item_features: FloatArray, *,
    k: int, n_open: int, draws: int, seed: int,
) -> Entry:  # fmt: skip
    """Novelty and, where items have features, diversity, with bootstrap intervals over users; coverage and Gini, which have none.

    Args:
        runs: the lists [T, k] of each training seed.
        user: [T] number of each list's user, 0..U-1.
        chosen: see `chosen_in_training`. n_open: items that could be shown to anybody.
    """
    figures = {f"novelty@{k}": [novelty(lists, chosen) for lists in runs]}
    if item_features.shape[1]:
        figures[f"diversity@{k}"] = [diversity(lists, item_features) for lists in runs]
    users, out = int(user.max(initial=-1)) + 1, dict[str, Any]()
    for name, values in figures.items():
        there = np.isfinite(np.stack(values)).min(axis=0)
        sums = np.stack([sum_by_user(user, users, np.where(there, one, 0.0))[0] for one in values])
        counts = sum_by_user(user, users, there.astype(np.float64))
        mean = float(sums.sum() / len(values) / counts.sum()) if counts.sum() else math.nan
        out[name] = percentile(mean, user_bootstrap(sums[None], counts, draws, seed)[:, 0]).to_dict()
    covered = [len(np.unique(lists[lists > 0])) / max(n_open, 1) for lists in runs]
    for name, one in ((f"coverage@{k}", covered), (f"gini@{k}", [gini(lists, n_open) for lists in runs])):
        out[name] = Interval(float(np.mean(one)), math.nan, math.nan).to_dict()
    return out


def segments(transitions: Transitions, rows: IntArray) -> dict[str, NDArray[np.bool_]]:
    """Groups of the targets [T]: of users without a training decision, of the tenth with the most of them, and of items that no
    training decision was about.
    """
    t = transitions
    train = t.split[t.state] == TRAIN
    by_user = np.bincount(t.user[t.state[train]], minlength=int(t.user.max(initial=0)) + 1)
    by_item = np.bincount(t.action[train], minlength=int(t.action.max(initial=0)) + 1)
    user = t.user[t.state[rows]]
    active = by_user[by_user > 0]
    many = np.quantile(active, 0.9) if len(active) else math.inf
    return {"new_users": by_user[user] == 0, "heavy_users": by_user[user] >= many, "new_items": by_item[t.action[rows]] == 0}


def _mean(values: NDArray[np.float64], there: NDArray[np.bool_]) -> NDArray[np.float64]:
    count = there.sum(1)
    total = np.where(there, values, 0.0).sum(1)
    out = np.full(len(total), np.nan)
    np.divide(total, count, out=out, where=count > 0)
    return out
