"""From one decision to the next: successors, pauses, and where an episode ends.

`session`: the end of a session terminates. `user`: transitions cross sessions, with the pause in seconds; a customer
silent longer than `churn_after` before the end of what the split may know has terminated, any other is censored: the
successor was never observed. A successor beyond the cut of a split is censored too.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qurate.mdp.actions import Decided
from qurate.mdp.splits import Split
from qurate.mdp.types import CENSORED, CONTINUES, TERMINATED, TRAIN, VALID, FloatArray, IntArray, Transitions


@dataclass(frozen=True, slots=True)
class Links:
    """What follows each of D decisions."""

    next: NDArray[np.int32]  # -1 where none
    end: NDArray[np.uint8]
    pause: FloatArray  # seconds
    gone: NDArray[np.bool_]  # silent longer than churn_after: the customer left


def link(decided: Decided, split: Split, rule: str, churn_after_us: int | None, log_end: int) -> Links:
    """Successors and ends of the decisions.

    Args:
        decided: decisions sorted by user and time.
        split: their split; a training decision never learns what came after the cut.
        rule: session | user.
        churn_after_us: silence in microseconds after which a customer counts as gone; None: nobody does.
        log_end: last time in the log, microseconds.
    """
    last_of_user = _next_in(decided.user) < 0
    gone = np.zeros(len(decided.user), bool)
    if churn_after_us is not None:
        silence = split.horizon(log_end) - _last_seen(decided)[decided.user]
        gone = last_of_user & (silence > churn_after_us)
    following = _next_in(decided.visit if rule == "session" else decided.user)
    end = np.full(len(following), CONTINUES, np.uint8)
    stops = following < 0
    end[stops] = TERMINATED if rule == "session" else np.where(gone[stops], TERMINATED, CENSORED)
    beyond = ~stops & (split.of != split.of[following]) & ((split.of == TRAIN) | (split.of == VALID))
    end[beyond], following[beyond] = CENSORED, -1
    crosses = (following >= 0) & (decided.visit[following] != decided.visit)
    pause = np.where(crosses, np.maximum(decided.when[following] - decided.when, 0) * 1e-6, 0.0)
    return Links(following, end, pause.astype(np.float32), gone)


def _next_in(group: NDArray[np.int32]) -> NDArray[np.int32]:
    """The next decision of the same group, -1 where none."""
    order = np.argsort(group, kind="stable").astype(np.int32)
    following = np.full(len(group), -1, np.int32)
    same = group[order[1:]] == group[order[:-1]]
    following[order[:-1][same]] = order[1:][same]
    return following


def _last_seen(decided: Decided) -> IntArray:
    """[U] last time at which anything of a user is in the log."""
    last = np.full(len(decided.arrays.user_start) - 1, np.iinfo(np.int64).min // 2, np.int64)
    np.maximum.at(last, decided.events.user, decided.events.time)
    np.maximum.at(last, decided.user, decided.clock)
    return last


def constant_solution(transitions: Transitions, weights: FloatArray) -> str | None:
    """Why learning would be pointless: a sentence where the Bellman solution of the training data is one constant.

    All rewards zero: Q = 0 everywhere. All rewards equal, no end and no pause: Q = r / (1 - gamma) everywhere.
    """
    train = transitions.split[transitions.state] == TRAIN
    if not train.any():
        return "no decision falls into the training split"
    reward = transitions.reward[train] @ np.asarray(weights, np.float64)
    if not reward.any():
        return "every training decision has reward 0, so that every item is worth 0"
    ends = transitions.end[train]
    if np.ptp(reward) == 0 and not np.any(ends == TERMINATED) and not np.any(transitions.pause[train] > 0):
        return (
            f"every training decision has reward {reward[0]:g} and no episode ends, so that every item is worth {reward[0]:g} / (1 - gamma)"
        )
    return None
