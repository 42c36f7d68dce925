"""Credit: each event's value goes once, to the item and the decision that earned it.

An event that names its decision belongs to it, however late; any other to the customer's last decision within the
window that showed the item. An event of a decision that names no item is shared equally by the items shown.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qurate.mdp.decisions import DecisionTable, repeat_states
from qurate.mdp.encode import EventColumns
from qurate.mdp.rewards import DERIVED, Reward
from qurate.types import FloatArray, IntArray

CREDIT_WINDOW_US = 30 * 60 * 1_000_000
"""An event without a decision is credited up to 30 minutes after its item was shown."""


@dataclass(frozen=True, slots=True)
class Credit:
    """Rewards of T transitions and what became of every event."""

    reward: FloatArray  # [T, R] by component, unweighted
    report: dict[str, dict[str, float]]  # per component {total, credited, uncredited}; "events": why not, in events


def credit(
    decisions: DecisionTable, rewards: Mapping[str, Reward], horizon: IntArray, gone: NDArray[np.bool_], window_us: int = CREDIT_WINDOW_US
) -> Credit:
    """Credit the events to the shown items.

    Args:
        decisions: decisions and events.
        rewards: the R components.
        horizon: [D] microseconds; an event at or after the horizon of its decision's split is not known and not credited.
        gone: [D] the customer left after this decision (the derived reward `leave`).
        window_us: for events that name no decision, and for `no_response`.
    """
    events, total = decisions.events, len(decisions.action)
    states = repeat_states(decisions.action_start)
    single = total == len(decisions.history_end)
    # organic logs name a decision for every choice; there is nothing else to look for
    if decisions.organic:
        target: NDArray[Any] = events.decision
    else:
        target = np.full(len(events.user), -1, np.int64)
        named = np.flatnonzero(events.decision >= 0)
        target[named] = _own_item(decisions, named, single)
        free = np.flatnonzero((events.decision < 0) & (events.item > 0))
        target[free] = _last_shown(decisions, states, free, window_us)
    found = target >= 0
    known = events.time < horizon[states[target]]  # of no interest where nothing was found
    whole = (events.decision >= 0) & (events.item == 0)
    shared = whole & (events.time < horizon[events.decision]) if whole.any() else whole
    reward = np.zeros((total, len(rewards)))
    report: dict[str, dict[str, float]] = {}
    for column, (name, worth) in enumerate(rewards.items()):
        if name in DERIVED:
            continue
        rows = np.flatnonzero(events.type == decisions.types.index(name) + 1) if name in decisions.types else np.empty(0, np.int64)
        amount = worth.amount(events.value[rows])
        good = found[rows] & known[rows]
        reward[:, column] = np.bincount(target[rows[good]], amount[good], total)
        part = shared[rows]
        if part.any():
            reward[:, column] += _share(decisions, states, events.decision[rows[part]], amount[part])
        credited = float(amount[good].sum() + amount[part].sum())
        report[name] = {"total": float(amount.sum()), "credited": credited, "uncredited": float(amount[~(good | part)].sum())}
    answered = target[found & known]
    _derived(reward, rewards, decisions, states, gone=gone, horizon=horizon, window_us=window_us, answered=answered, shared=shared)
    report["events"] = {
        "credited": float(np.count_nonzero((found & known) | shared)),
        "after_the_cut": float(np.count_nonzero((found & ~known) | (whole & ~shared))),
        "no_decision": float(np.count_nonzero(~found & (events.decision < 0))),
        "not_among_the_shown": float(np.count_nonzero(~found & (events.decision >= 0) & ~whole)),
    }
    return Credit(reward.astype(np.float32), report)


def _own_item(decisions: DecisionTable, rows: IntArray, single: bool) -> IntArray:
    """The transition of each event that names its decision; -1 where the item was not shown there."""
    decision, item = decisions.events.decision[rows].astype(np.int64), decisions.events.item[rows]
    if single:
        return np.where(decisions.action[decision] == item, decision, -1)
    base = int(max(decisions.action.max(initial=0), item.max(initial=0))) + 1
    keys = repeat_states(decisions.action_start).astype(np.int64) * base + decisions.action
    order = np.argsort(keys, kind="stable")
    wanted = decision * base + item
    at = np.minimum(np.searchsorted(keys[order], wanted), max(len(keys) - 1, 0))
    return np.where(keys[order[at]] == wanted, order[at], -1)


def _last_shown(decisions: DecisionTable, states: NDArray[np.int32], rows: IntArray, window_us: int) -> IntArray:
    """The last transition that showed the event's item to its user at most `window_us` before; -1 where none."""
    events: EventColumns = decisions.events
    total = len(states)
    user = np.concatenate([decisions.user[states], events.user[rows]])
    item = np.concatenate([decisions.action, events.item[rows]])
    time = np.concatenate([decisions.clock[states], events.time[rows]])
    is_event = np.arange(len(user)) >= total
    order = np.lexsort((is_event, time, item, user))
    shown = np.maximum.accumulate(np.where(is_event[order], -1, np.arange(len(order))))
    last = order[np.maximum(shown, 0)]
    ok = (shown >= 0) & (user[last] == user[order]) & (item[last] == item[order]) & (time[order] - time[last] <= window_us)
    target = np.full(len(order), -1, np.int64)
    target[order] = np.where(ok, last, -1)
    return target[total:]


def _share(
    decisions: DecisionTable, states: NDArray[np.int32], decision: NDArray[np.int32], amount: NDArray[np.float64]
) -> NDArray[np.float64]:
    """[T] equal shares of amounts that belong to whole decisions."""
    sizes = np.diff(decisions.action_start)
    each = np.bincount(decision, amount, len(sizes)) / np.maximum(sizes, 1)
    return np.asarray(each[states], np.float64)


def _derived(
    reward: NDArray[np.float64],
    rewards: Mapping[str, Reward],
    decisions: DecisionTable,
    states: NDArray[np.int32],
    *,
    gone: NDArray[np.bool_],
    horizon: IntArray,
    window_us: int,
    answered: IntArray,
    shared: NDArray[np.bool_],
) -> None:
    """Fill the columns of `no_response` and `leave`."""
    names = list(rewards)
    if "no_response" in rewards:
        silent = np.bincount(answered, minlength=len(states)) == 0
        silent &= ~np.isin(states, decisions.events.decision[shared])
        observed = decisions.clock[states] + window_us < horizon[states]  # the window had time to pass
        reward[:, names.index("no_response")] = silent & observed
    if "leave" in rewards:
        reward[:, names.index("leave")] = gone[states] / np.diff(decisions.action_start)[states]
