"""When customers leave and whether they return, from a log: logistic models of what just happened and of what is remembered of it.

A visit ends with its last decision. Whether a customer comes back is known of visits after which the log goes on for long enough:
`HORIZON` of the pauses that were seen are shorter than that; later returns count as none.
"""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qurate.environments.customer_response import Wide
from qurate.environments.scenarios.fitted import MEMORY, summary
from qurate.mdp.storage import Dataset
from qurate.types import SESSION_GAP_US, TRAIN, VALID, FloatArray, IntArray

HORIZON = 0.97
LEAST_OF_EACH = 30
"""Ends (returns) and others below which a rate takes the place of a model."""
QUANTILES = 129
RIDGE, NEWTON_STEPS = 1.0, 50
NOT_KNOWN = -1


@dataclass(frozen=True)
class Visits:
    """What followed each of D decisions, as far as was known before the split's end."""

    ended: NDArray[np.int8]  # [D] 1 = the last decision of a visit, 0 = not, -1 = not known
    returned: NDArray[np.int8]  # [D] of ends: 1 = came back within the horizon, 0 = not, -1 = not known
    wait: FloatArray  # [D] seconds to the next decision; NaN where there is none
    x: Wide  # [D, X] what is known after the decision (`scenarios/fitted.summary`)


@dataclass(frozen=True)
class VisitModel:
    """Leaving and returning."""

    arrays: dict[str, NDArray[Any]]  # leave, return, dwell, pause
    returns: bool
    figures: dict[str, Any] = field(default_factory=dict)


def visits_of(dataset: Dataset, happened: NDArray[np.bool_], vectors: Wide) -> Visits:
    """Labels and features of all decisions.

    Args:
        happened: [D, R] what each decision brought. vectors: [N + 1, d] of the items.
    """
    t, shown = dataset.transitions, np.zeros((len(dataset.transitions.user), vectors.shape[1]))
    np.add.at(shown, t.state, vectors[np.minimum(t.action, len(vectors) - 1) * (t.action < len(vectors))])
    shown /= np.maximum(np.bincount(t.state, minlength=len(shown)), 1)[:, None]
    limit = _limits(dataset)
    following = np.append(t.user[1:] == t.user[:-1], False) & (np.append(t.clock[1:], 0) < limit)
    wait = np.where(following, np.append(np.diff(t.clock), 0) * 1e-6, np.nan).astype(np.float32)
    same_visit = np.append(dataset.state_visit[1:] == dataset.state_visit[:-1], False)
    silent = limit - t.clock
    over = silent > SESSION_GAP_US
    ended = np.where(following, ~same_visit, np.where(over, 1, NOT_KNOWN)).astype(np.int8)
    horizon = _horizon(wait[following & ~same_visit & (t.split == TRAIN)])
    back = following & (wait <= horizon)
    returned = np.where((ended == 1) & (silent * 1e-6 > horizon), back, NOT_KNOWN).astype(np.int8)
    return Visits(ended, returned, wait, _features(dataset, happened.astype(np.float64), shown))


def fit_visits(dataset: Dataset, visits: Visits) -> VisitModel:
    """Both models from the training decisions, and how long customers wait."""
    train = dataset.transitions.split == TRAIN
    returns = dataset.manifest["episode"]["rule"] == "user"
    within = visits.wait[train & (visits.ended == 0)]
    pauses = visits.wait[train & (visits.returned == 1)]
    answered = visits.x[train & (visits.ended == 0)][:, 1 : 1 + _events(dataset, visits)].any(1)
    dwell = np.stack([_table(within[~answered], within), _table(within[answered], within)])
    leave, of_leave = _model(visits.x, visits.ended, train)
    back, of_return = _model(visits.x, visits.returned, train) if returns else (np.zeros(visits.x.shape[1]), {"model": "none"})
    returns = returns and len(pauses) > 0
    arrays = {"leave": leave, "return": back, "dwell": dwell, "pause": _table(pauses, pauses)}
    return VisitModel(arrays, returns, {"leave": of_leave, "return": of_return})


def logistic(x: Wide, y: Wide, ridge: float = RIDGE) -> Wide:
    """Weights [X] of a logistic regression of y [D] on x [D, X], whose first column is 1, with an L2 penalty on the others.

    Newton's method on standardised columns (iteratively reweighted least squares; McCullagh and Nelder 1989, section 4.4).
    """
    mean, spread = x.mean(0), x.std(0)
    mean[0], spread = 0, np.where(spread > 0, spread, 1)
    z, w, penalty = (x - mean) / spread, np.zeros(x.shape[1]), np.full(x.shape[1], ridge)
    penalty[0] = 1e-9
    for _ in range(NEWTON_STEPS):
        p = 1 / (1 + np.exp(-np.clip(z @ w, -30, 30)))
        step = np.linalg.solve((z * (p * (1 - p))[:, None]).T @ z + np.diag(penalty), z.T @ (y - p) - penalty * w)
        w += step * min(1, 5 / max(np.abs(step).max(), 1e-12))
        if np.abs(step).max() < 1e-8:
            break
    own = w / spread
    own[0] -= own[1:] @ mean[1:]
    return own


def _limits(dataset: Dataset) -> IntArray:
    """[D] what a decision's split may know ends here, microseconds: training ends where the held-out part begins, if time split them."""
    t = dataset.transitions
    cut, first = t.clock[t.split == TRAIN].max(), t.clock[t.split != TRAIN].min(initial=np.iinfo(np.int64).max)
    end = dataset.log_end + 1
    if first < cut:
        return np.full(len(t.clock), end)
    later = t.clock[t.split > VALID].min(initial=end)
    limits: IntArray = np.select([t.split == TRAIN, t.split == VALID], [first, max(later, first)], end).astype(np.int64)
    return limits


def _horizon(pauses: FloatArray) -> float:
    return float(np.quantile(pauses, HORIZON)) if len(pauses) else np.inf


def _features(dataset: Dataset, happened: Wide, shown: Wide) -> Wide:
    """x of all decisions: the memory runs over each customer's decisions in order, as in the world."""
    t = dataset.transitions
    new = np.concatenate([happened, shown], axis=1)
    first_of_user = np.append(True, t.user[1:] != t.user[:-1])
    first_of_visit = first_of_user | np.append(True, dataset.state_visit[1:] != dataset.state_visit[:-1])
    place, of_visit = _place(first_of_user), _place(first_of_visit)
    memory = (1 - MEMORY) * new
    order = np.argsort(place, kind="stable")
    bounds = np.searchsorted(place[order], np.arange(1, int(place.max()) + 2))
    for begin, stop in pairwise(bounds):  # the decisions that are their customer's second, third, ...
        rows = order[begin:stop]
        memory[rows] += MEMORY * memory[rows - 1]
    return summary(happened, memory, of_visit + 1, place + 1, dataset.user_features[t.user])


def _place(first: NDArray[np.bool_]) -> IntArray:
    """[D] how many decisions of the same group came before."""
    at = np.arange(len(first))
    out: IntArray = at - np.maximum.accumulate(np.where(first, at, 0))
    return out


def _events(dataset: Dataset, visits: Visits) -> int:
    """R: x holds 1, R events, R + d of the memory, two counts and the customer's features."""
    return sum(name not in ("no_response", "leave") for name in dataset.components)


def _table(values: FloatArray, otherwise: FloatArray) -> Wide:
    """Equally spaced quantiles of some seconds, [QUANTILES]; of others where there are too few; a minute where there are none."""
    chosen = values if len(values) >= LEAST_OF_EACH else otherwise
    return np.quantile(chosen.astype(np.float64), np.linspace(0, 1, QUANTILES)) if len(chosen) else np.full(QUANTILES, 60.0)


def _model(x: Wide, label: NDArray[np.int8], train: NDArray[np.bool_]) -> tuple[Wide, dict[str, Any]]:
    """Weights of a logistic model of the known labels, or of a rate where one of the two is too rare."""
    rows = train & (label != NOT_KNOWN)
    y = label[rows].astype(np.float64)
    few = min(y.sum(), len(y) - y.sum()) < LEAST_OF_EACH
    figures = {"model": "rate" if few else "logistic", "decisions": len(y), "rate": float(y.mean()) if len(y) else 0.0}
    if not few:
        return logistic(x[rows], y), figures
    weights, rate = np.zeros(x.shape[1]), (y.sum() + 0.5) / (len(y) + 1)
    weights[0] = np.log(rate / (1 - rate))
    return weights, figures
