"""From one decision to the next: successors, pauses, and where an episode ends.

`session`: the end of a session terminates. `user`: transitions cross sessions, with the pause in seconds; a customer
silent longer than `churn_after` has terminated, any other is censored: the successor was never observed.

What a transition says depends only on what was known at its split's horizon. A customer who was silent for long enough
at the cut is gone for training, also if the test period sees a return; a visit that was still going on, or may have
been, is censored.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qurate.mdp.decisions import DecisionTable
from qurate.mdp.splits import Split
from qurate.types import CENSORED, CONTINUES, TERMINATED, TRAIN, VALID, FloatArray, IntArray, Transitions


@dataclass(frozen=True, slots=True)
class Links:
    """What follows each of D decisions."""

    next: NDArray[np.int32]  # -1 where none
    end: NDArray[np.uint8]
    pause: FloatArray  # seconds
    gone: NDArray[np.bool_]  # silent longer than churn_after: the customer left


def link(decisions: DecisionTable, split: Split, rule: str, churn_after_us: int | None, session_gap_us: int, log_end: int) -> Links:
    """Successors and ends of the decisions.

    Args:
        decisions: decisions sorted by user and time.
        split: their split; a training decision never learns what came after the cut.
        rule: session | user.
        churn_after_us: silence in microseconds after which a customer counts as gone; None: nobody does.
        session_gap_us: silence in microseconds after which a visit counts as over at a cut; the log's end ends them all.
        log_end: last time in the log, microseconds.
    """
    horizon = split.horizon(log_end)
    gone = np.zeros(len(decisions.user), bool)
    if churn_after_us is not None:
        last_of_user = ~_known(_next_in(decisions.user), decisions, horizon)
        gone = last_of_user & (horizon - _last_seen(decisions, decisions.user, _row_user(decisions), horizon) > churn_after_us)
    over = gone
    if rule == "session":
        over = horizon > log_end
        if not over.all():
            over |= horizon - _last_seen(decisions, decisions.visit, decisions.row_visit, horizon) >= session_gap_us
    following = _next_in(decisions.visit if rule == "session" else decisions.user)
    known = _known(following, decisions, horizon)
    # a split by column has no cut in time: that a successor follows is known, but another split's is not learnt from
    taught = known & ((split.of == split.of[following]) | ((split.of != TRAIN) & (split.of != VALID)))
    following[~taught] = -1
    end = np.where(taught, CONTINUES, np.where(over & ~known, TERMINATED, CENSORED)).astype(np.uint8)
    crosses = taught & (decisions.visit[following] != decisions.visit)
    pause = np.where(crosses, np.maximum(decisions.when[following] - decisions.when, 0) * 1e-6, 0.0)
    return Links(following, end, pause.astype(np.float32), gone)


def _known(following: NDArray[np.int32], decisions: DecisionTable, horizon: IntArray) -> NDArray[np.bool_]:
    """[D] whether there is a next decision before the horizon."""
    return (following >= 0) & (decisions.when[following] < horizon)


def _next_in(group: NDArray[np.int32]) -> NDArray[np.int32]:
    """The next decision of the same group, -1 where none."""
    following = np.full(len(group), -1, np.int32)
    if np.all(group[1:] >= group[:-1]):  # groups that stand in order need no sorting
        same = np.flatnonzero(group[1:] == group[:-1])
        following[same] = same + 1
        return following
    order = np.argsort(group, kind="stable").astype(np.int32)
    same = group[order[1:]] == group[order[:-1]]
    following[order[:-1][same]] = order[1:][same]
    return following


def _row_user(decisions: DecisionTable) -> NDArray[np.int32]:
    """[E] the user of each history row."""
    start = decisions.arrays.user_start
    return np.repeat(np.arange(len(start) - 1, dtype=np.int32), np.diff(start))


def _last_seen(decisions: DecisionTable, group: NDArray[np.int32], row_group: NDArray[np.int32], horizon: IntArray) -> IntArray:
    """[D] last time before its horizon at which anything of a decision's group (user or visit) is in the log.

    Args:
        decisions: D decisions and E history rows.
        group: [D].
        row_group: [E].
        horizon: [D] microseconds, with as many values as there are splits.
    """
    seen = np.empty(len(group), np.int64)
    for limit in np.unique(horizon):
        last = np.full(int(max(group.max(initial=0), row_group.max(initial=0))) + 1, np.iinfo(np.int64).min // 2, np.int64)
        for who, when in ((row_group, decisions.arrays.time), (group, decisions.clock)):
            before = when < limit
            np.maximum.at(last, who[before], when[before])
        here = horizon == limit
        seen[here] = last[group[here]]
    return seen


def constant_solution(transitions: Transitions, weights: FloatArray) -> str | None:
    """Why learning would be pointless: a sentence where the Bellman solution of the training data is one constant.

    All rewards zero: Q = 0 everywhere. All rewards equal and nothing follows any decision: Q = r everywhere. All rewards
    equal, no end and no pause: Q = r / (1 - gamma) everywhere.
    """
    train = transitions.split[transitions.state] == TRAIN
    if not train.any():
        return "no decision falls into the training split"
    reward = transitions.reward[train] @ np.asarray(weights, np.float64)
    if not reward.any():
        return "every training decision has reward 0, so that every item is worth 0"
    ends = transitions.end[train]
    if np.ptp(reward) == 0 and not np.any(ends == CONTINUES):
        return f"every training decision has reward {reward[0]:g} and nothing follows it, so that every item is worth {reward[0]:g}"
    if np.ptp(reward) == 0 and not np.any(ends == TERMINATED) and not np.any(transitions.pause[train] > 0):
        return (
            f"every training decision has reward {reward[0]:g} and no episode ends, so that every item is worth {reward[0]:g} / (1 - gamma)"
        )
    return None
