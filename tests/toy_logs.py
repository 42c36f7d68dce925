"""Logs of finite worlds in which the last event names the state, and the MDP that such a log itself describes."""

from typing import NamedTuple

import numpy as np
from mdp_logs import decision, event, make_log
from numpy.typing import NDArray

from qurate.environments.scenarios.toys import FiniteMDP
from qurate.mdp.dataset import build_dataset
from qurate.mdp.storage import Dataset
from qurate.models.model import Model
from qurate.replay.writers import store_from_log
from qurate.types import CONTINUES, TRAIN, Actions, Observation

Array = NDArray[np.float64]
GAMMA, DAY = 0.9, 86_400


def toy_log(mdp: FiniteMDP, policy: Array, customers: int, seed: int) -> Dataset:
    """The log of `policy` [S, A]: before each decision an event of the type "at_S" without an item, so that a window of one is the state.

    One visit per customer, until leaving; 20 minutes between decisions, so that nobody's visit is cut by a pause.
    """
    rng, events, decisions = np.random.default_rng(seed), [], []
    for customer in range(customers):
        state, at, step, name = mdp.start, 1.7e9 + customer * DAY / 20, 0, f"u{customer:05d}"
        while state < len(mdp.states):
            shown = int(rng.choice(len(mdp.items), p=policy[state]))
            events.append(event(name, None, at, f"at_{state}"))
            decisions.append(decision(f"{name}-{step}", name, [mdp.items[shown]], at + 1, propensity=[float(policy[state, shown])]))
            if rng.random() < mdp.chance[state, shown]:
                amount = float(mdp.amount[state, shown])
                events.append(event(name, mdp.items[shown], at + 2, "watch", value=amount, decision_id=f"{name}-{step}"))
            after = mdp.transition[state, shown].cumsum()
            state, at, step = int((rng.random() >= after).sum()), at + 60, step + 1
    rewards = {"watch": {"weight": 1.0, "per": "value"}}
    return build_dataset(make_log(events, decisions, "logged"), episode="session", rewards=rewards)


class LoggedMDP(NamedTuple):
    """What the training split says."""

    P: Array  # [S, A, S], 0 where the pair was never shown
    R: Array  # [S, A] mean reward
    share: Array  # [S, A] of the training decisions
    behaviour: Array  # [S, A] what was shown, in each state; 0 in states never seen


def logged_mdp(dataset: Dataset, mdp: FiniteMDP) -> LoggedMDP:
    """Counted from the transitions."""
    t, types = dataset.transitions, dataset.vocabulary.types
    latent = np.array([int(name[3:]) if name.startswith("at_") else -1 for name in types])
    items = np.array([mdp.items.index(name) for name in dataset.vocabulary.items])
    of = latent[dataset.arrays.type[t.history_end - 1].astype(int) - 1]
    train = t.split[t.state] == TRAIN
    s, a = of[t.state][train], items[t.action[train] - 1]
    goes_on, reward, following = t.end[train] == CONTINUES, t.reward[train] @ dataset.weights, of[t.next_state[train]]
    counts, total = np.zeros(mdp.chance.shape), np.zeros(mdp.chance.shape)
    moves = np.zeros(mdp.transition.shape)
    np.add.at(counts, (s, a), 1)
    np.add.at(total, (s, a), reward)
    np.add.at(moves, (s[goes_on], a[goes_on], following[goes_on]), 1)
    often = np.maximum(counts, 1)
    return LoggedMDP(moves / often[:, :, None], total / often, counts / counts.sum(), counts / np.maximum(counts.sum(1, keepdims=True), 1))


def learned(model: Model, dataset: Dataset, mdp: FiniteMDP, by: str) -> Array:
    """The score `by` of every state and item, [S, A]: in each state that of its first decision in the log; NaN in states never seen."""
    t, types = dataset.transitions, dataset.vocabulary.types
    of = np.array([int(name[3:]) if name.startswith("at_") else -1 for name in types])[
        dataset.arrays.type[t.history_end - 1].astype(int) - 1
    ]
    store = store_from_log(dataset.arrays, t, dataset.weights, dataset.user_features, GAMMA, 1e9, model.window, dataset.availability)
    out = np.full(mdp.chance.shape, np.nan)
    for state in np.unique(of):
        first = np.flatnonzero(of == state)[:1]
        candidates = np.array([[dataset.vocabulary.items.index(name) + 1 if name in dataset.vocabulary.items else 0 for name in mdp.items]])
        actions = Actions(candidates, (candidates > 0).astype(np.int8))
        scores = model.ranked_by(by).scores(Observation(store.states(first), actions))[0]  # type: ignore[arg-type]
        out[state] = np.where(candidates[0] > 0, scores, np.nan)
    return out
