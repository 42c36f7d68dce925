"""A small stand-in for a dataset: the arrays of an organic log from item sequences, and of an exposure log."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from qurate.types import HISTORY, TEST, TRAIN, Actions, EventArrays, Observation, State, Transitions


@dataclass
class Data:
    arrays: EventArrays
    transitions: Transitions
    item_features: np.ndarray
    components: list[str] = field(default_factory=lambda: ["click"])
    weights: np.ndarray = field(default_factory=lambda: np.ones(1, np.float32))
    vocabulary: Any = field(default_factory=lambda: SimpleNamespace(types=("click", "shown")))
    kind: str = "organic"
    row_visit: np.ndarray = field(init=False)
    user_features: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        users = len(self.arrays.user_start) - 1
        self.row_visit = np.repeat(np.arange(users, dtype=np.int32), np.diff(self.arrays.user_start))  # one visit each
        self.user_features = np.zeros((users, 0), np.float32)


def organic(lengths: np.ndarray, items: np.ndarray, train: np.ndarray, n_items: int) -> Data:
    """One user per sequence, one second between rows; every row but the first is a decision.

    Args:
        lengths: rows of each user.
        items: all rows.
        train: bool per user; the others' last decision is TEST, the rest of them HISTORY.
        n_items: N.
    """
    start = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    user = np.repeat(np.arange(len(lengths)), lengths)
    place = np.arange(len(items)) - start[user]
    arrays = EventArrays(
        items.astype(np.int32), np.ones(len(items), np.uint8), place.astype(np.int64) * 1_000_000, np.ones(len(items), np.float32), start
    )
    history_end = np.flatnonzero(place > 0)
    last = history_end == start[user[history_end] + 1] - 1
    split = np.where(train[user[history_end]], TRAIN, np.where(last, TEST, HISTORY)).astype(np.uint8)
    return Data(
        arrays, transitions(arrays, user[history_end], history_end, items[history_end], split), np.zeros((n_items + 1, 0), np.float32)
    )


def transitions(
    arrays: EventArrays,
    user: np.ndarray,
    history_end: np.ndarray,
    action: np.ndarray,
    split: np.ndarray,
    reward: np.ndarray | None = None,
) -> Transitions:
    """One transition per decision, without successors: baselines look at states, actions and rewards only."""
    d = len(history_end)
    return Transitions(
        user=user.astype(np.int32),
        history_end=history_end.astype(np.int64),
        clock=arrays.time[history_end - 1],
        candidates=np.zeros(0, np.int32),
        candidates_start=np.zeros(d + 1, np.int64),
        split=split.astype(np.uint8),
        state=np.arange(d, dtype=np.int32),
        action=action.astype(np.int32),
        reward=np.ones((d, 1), np.float32) if reward is None else reward.astype(np.float32),
        pause=np.zeros(d, np.float32),
        next_state=np.full(d, -1, np.int32),
        end=np.full(d, 2, np.uint8),
        propensity=np.full(d, np.nan, np.float32),
    )


def observe(
    histories: list[list[int]], candidates: np.ndarray, types: list[list[int]] | None = None, mask: np.ndarray | None = None
) -> Observation:
    """An observation of these histories (oldest first); `candidates` [K] is shared as a broadcast view, [B, K] is not."""
    length = max(map(len, histories), default=0) + 1
    items, kinds = np.zeros((len(histories), length), np.int64), np.zeros((len(histories), length), np.int64)
    for row, history in enumerate(histories):
        items[row, length - len(history) :] = history
        kinds[row, length - len(history) :] = types[row] if types else 1
    shape = (len(histories), candidates.shape[-1])
    shared = np.broadcast_to(candidates, shape)
    nothing = np.zeros((len(histories), length), np.float32)
    open_all = np.broadcast_to(np.ones((1, shape[1]), np.int8), shape)
    user, context = np.zeros((len(histories), 0), np.float32), np.zeros((len(histories), 2), np.float32)
    state = State(items, kinds, nothing, nothing, user, context)
    return Observation(state, Actions(shared, open_all if mask is None else mask))
