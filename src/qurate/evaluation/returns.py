"""What followed a decision in the log: its discounted return."""

import numpy as np
from numpy.typing import NDArray

from qurate.replay.writers import step_discount
from qurate.types import FloatArray, IntArray, Transitions


def returns_of(t: Transitions, rows: IntArray, weights: FloatArray, gamma: float, tau_s: float) -> NDArray[np.float64]:
    """Discounted return that followed transitions `rows` [T] in the log, reward units, float64 [T].

        G = r + discount (r_1 + discount_1 (r_2 + ...))

    r is the weighted reward of the transition's own item, r_1, r_2, ... those of the decisions after it, up to the end of the episode
    or of the log. It is the return of whoever chose then (the log's policy), not of the ranker that is measured.

    Args:
        weights: float32 [R] of the reward components.
        gamma: discount per decision, in [0, 1]. tau_s: seconds; a pause is discounted by exp(-pause / tau).

    Successors are found in about log2 of the longest episode passes over all decisions: a pass adds to each sum of n rewards the sum
    of the n rewards after them (pointer jumping, Hillis and Steele 1986, doi:10.1145/7902.7903).
    """
    reward = (t.reward @ np.asarray(weights, np.float32)).astype(np.float64)
    total = np.bincount(t.state, weights=reward, minlength=len(t.user))
    discount: NDArray[np.float64] = np.zeros(len(t.user))
    following = np.full(len(t.user), -1, np.int64)
    discount[t.state] = step_discount(t.pause, gamma, tau_s)
    following[t.state] = t.next_state  # -1 where the episode ended or the log did
    first_discount, first = discount[t.state[rows]], following[t.state[rows]]
    while (open_ := np.flatnonzero(following >= 0)).size:
        to = following[open_]
        total[open_] = total[open_] + discount[open_] * total[to]
        discount[open_] = discount[open_] * discount[to]
        following[open_] = following[to]
    return np.asarray(reward[rows] + np.where(first >= 0, first_discount * total[np.maximum(first, 0)], 0))
