"""What every baseline is fitted from: the history rows of the train split, the visits they form, and what counts."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qurate.types import TRAIN, EventArrays, FloatArray, IntArray, Observation, Transitions

NOT_INTEREST = frozenset({"shown", "no_response", "leave", "hide", "dislike"})
"""Types that do not say that the customer wanted the item."""


class Rows(NamedTuple):
    """R history rows with an item, in the order of the log."""

    item: IntArray  # [R] 1..N
    type: IntArray  # [R] 1..M
    time: IntArray  # [R] microseconds
    visit: IntArray  # [R] number of the visit


def train_rows(events: EventArrays, transitions: Transitions) -> NDArray[np.bool_]:
    """[E] True for rows known from train decisions: in their states, or the action itself where it is a row (organic logs).

    Nothing that happened after a customer's last train decision is used.
    """
    end = events.user_start[:-1].copy()
    train = transitions.split == TRAIN
    np.maximum.at(end, transitions.user[train], transitions.history_end[train])
    keep = np.zeros(len(events.item) + 1, np.int8)  # +1 where a user's rows begin, -1 where they end
    np.add.at(keep, events.user_start[:-1], 1)
    np.add.at(keep, end, -1)
    known: NDArray[np.bool_] = np.cumsum(keep[:-1], dtype=np.int8) > 0
    own = train[transitions.state]
    state = transitions.state[own]
    row = transitions.history_end[state]
    inside = row < events.user_start[transitions.user[state] + 1]
    row, action = row[inside], transitions.action[own][inside]
    known[row[events.item[row] == action]] = True
    return known


def interest(types: Sequence[str], components: Sequence[str], weights: FloatArray) -> NDArray[np.bool_]:
    """bool [M + 1] by type index: whether a row of this type says that the customer wanted the item.

    True for all types but `NOT_INTEREST` and those with a negative reward weight; False for padding.
    """
    worth = dict(zip(components, weights.tolist()))
    return np.array([False, *(name not in NOT_INTEREST and worth.get(name, 0.0) >= 0 for name in types)])


def type_worth(types: Sequence[str], components: Sequence[str], weights: FloatArray) -> NDArray[np.float64]:
    """float64 [M + 1]: reward weight of each type where positive, else 0; the weights of `interest` where none is positive."""
    worth = dict(zip(components, weights.tolist()))
    out = np.array([0.0, *(max(worth.get(name, 0.0), 0.0) for name in types)])
    return out if out.any() else interest(types, components, weights).astype(np.float64)


def rows_of_interest(events: EventArrays, transitions: Transitions, visit: NDArray[np.integer], counts: NDArray[np.bool_]) -> Rows:
    """The train rows that name an item and whose type counts.

    Args:
        events: all history rows.
        transitions: they say what is train.
        visit: [E] number of the visit of each row, unique over customers.
        counts: bool [M + 1] by type index.
    """
    keep = train_rows(events, transitions) & (events.item > 0) & counts[events.type]
    return Rows(events.item[keep].astype(np.int64), events.type[keep].astype(np.int64), events.time[keep], visit[keep].astype(np.int64))


def customer_items(events: EventArrays, transitions: Transitions, counts: NDArray[np.bool_]) -> tuple[IntArray, IntArray]:
    """The different items of each customer in the train rows whose type counts: (customer 0..U-1, item 1..N), each [P], sorted.

    Args:
        counts: bool [M + 1] by type index.
    """
    keep = train_rows(events, transitions) & (events.item > 0) & counts[events.type]
    user = np.repeat(np.arange(len(events.user_start) - 1), np.diff(events.user_start))[keep]
    size = int(events.item.max(initial=0)) + 1
    key = np.unique(user * size + events.item[keep])
    return key // size, key % size


def recent_items(observation: Observation, counts: NDArray[np.bool_], last: int, decay: float) -> tuple[IntArray, IntArray, FloatArray]:
    """The last items of each customer, flat: (row of the batch, item, weight), each [n].

    Args:
        observation: histories [B, L].
        counts: bool [M + 1], which types count.
        last: at most so many history rows of a customer.
        decay: weight of a row relative to the next newer one, in (0, 1].
    """
    real = (observation.state.history_items > 0) & counts[observation.state.history_types]
    rank = np.cumsum(real[:, ::-1], axis=1)[:, ::-1] - 1
    row, column = np.nonzero(real & (rank < last))
    weight = np.power(decay, rank[row, column]).astype(np.float32)
    return row, observation.state.history_items[row, column], weight


def different_items(observation: Observation, counts: NDArray[np.bool_], last: int, decay: float) -> tuple[IntArray, IntArray, FloatArray]:
    """`recent_items`, where an item that came more than once counts once, with its newest weight; sorted by row, then item."""
    row, item, weight = recent_items(observation, counts, last, decay)
    _, newest = np.unique((row * (int(item.max(initial=0)) + 1) + item)[::-1], return_index=True)
    newest = len(row) - 1 - newest
    return row[newest], item[newest], weight[newest]


def popular_if_unknown(table: FloatArray, row: IntArray, popularity: FloatArray) -> FloatArray:
    """Scores [B, N + 1] with those of popularity [N + 1] in the rows that are not in `row`: customers of whom nothing is known."""
    unknown = np.ones(len(table), np.bool_)
    unknown[row] = False
    table[unknown] = popularity
    return table


def ragged(start: IntArray, count: IntArray) -> tuple[IntArray, IntArray]:
    """Indices of the ranges start[i] : start[i] + count[i], one after the other, and the range each one belongs to."""
    owner = np.repeat(np.arange(len(count)), count)
    first = np.cumsum(count) - count
    return start[owner] + np.arange(len(owner)) - first[owner], owner
