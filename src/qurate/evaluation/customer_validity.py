"""How far customers learned from a log may be trusted: on held-out decisions, beside simple rates.

Calibration: of the decisions to which a probability near p was given, a share near p should have brought the event (expected
calibration error: Naeini et al. 2015, doi:10.1609/aaai.v29i1.9602, over ten bins of equally many decisions). Log-likelihood in
nats a decision: the customers' own against a constant rate, and rates of each item and of each user, shrunk towards the constant one
by as many decisions as is best on the validation split.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qurate.evaluation.intervals import percentile, user_bootstrap

Floats = NDArray[np.float64]

BINS = 10
PRIORS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0)
"""Decisions at the constant rate that a rate of an item or a user begins with: tried on the validation split."""
PRIOR_AMOUNTS = 10.0
LEAST = 1e-6
"""Probabilities count as at least this far from 0 and 1."""
FEW = 20
"""Held-out events (or decisions without it) below which nothing is said of an event."""


class Rows(NamedTuple):
    """Decisions of one split."""

    user: NDArray[np.int64]  # [T]
    item: NDArray[np.int64]  # [T]
    happened: Floats  # [T, R] 0 or 1
    amount: Floats  # [T, R]


def log_likelihood(p: Floats, y: Floats) -> Floats:
    """Nats of each decision, [T]; at most 0."""
    p = np.clip(p, LEAST, 1 - LEAST)
    out: Floats = np.where(y > 0, np.log(p), np.log1p(-p))
    return out


def reliability(p: Floats, y: Floats, bins: int = BINS) -> dict[str, Any]:
    """`{"error", "predicted", "observed", "bins": [{"predicted", "observed", "n"}]}`; bins of equally many decisions, by p."""
    order = np.argsort(p, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    table = [{"predicted": float(p[part].mean()), "observed": float(y[part].mean()), "n": len(part)} for part in parts]
    error = sum(abs(row["predicted"] - row["observed"]) * row["n"] for row in table) / max(len(p), 1)
    return {"error": error, "predicted": float(p.mean()), "observed": float(y.mean()), "bins": table}


def rates(group: NDArray[np.int64], y: Floats, asked: NDArray[np.int64], prior: float) -> Floats:
    """The rate of each group `asked` for, counted in `group` and `y`, with `prior` decisions at the mean rate; strangers have that."""
    size = int(max(group.max(initial=0), asked.max(initial=0))) + 1
    count, sums = np.bincount(group, minlength=size), np.bincount(group, y, size)
    out: Floats = ((sums + prior * y.mean()) / (count + prior))[asked]
    return out


def simple_rates(train: Rows, valid: Rows, test: Rows, event: int) -> dict[str, Floats]:
    """Probabilities of an event at each test decision by three rates, [T] each."""
    y = train.happened[:, event]
    out = {"constant": np.full(len(test.user), y.mean())}
    for name in ("item", "user"):
        groups, of_valid, of_test = (getattr(rows, name) for rows in (train, valid, test))
        scores = [log_likelihood(rates(groups, y, of_valid, prior), valid.happened[:, event]).mean() for prior in PRIORS]
        out[f"per_{name}"] = rates(groups, y, of_test, PRIORS[int(np.argmax(scores))])
    return out


def event_figures(names: Sequence[str], p: Floats, train: Rows, valid: Rows, test: Rows) -> dict[str, Any]:
    """Of each event: calibration, log-likelihoods, and what the customers gain over the best simple rate.

    Args:
        names: [R]. p: [T, R] of the test decisions.
    """
    return {name: _event(p[:, i], train, valid, test, i) for i, name in enumerate(names)}


def binary_figures(p: Floats, y: Floats, rate: float, user: NDArray[np.int64]) -> dict[str, Any]:
    """The same for leaving or returning, beside a constant rate alone."""
    return _figures(p, y, {"constant": np.full(len(y), rate)}, user)


def amount_figures(names: Sequence[str], amounts: Floats, train: Rows, test: Rows) -> dict[str, Any]:
    """Root mean squared errors of amounts where an event happened, beside those of its mean and of each item's mean (shrunk by
    `PRIOR_AMOUNTS`); of events whose amounts vary."""
    out: dict[str, Any] = {}
    for i, name in enumerate(names):
        own, here = train.amount[train.happened[:, i] > 0, i], test.happened[:, i] > 0
        if here.sum() < FEW or np.ptp(own) == 0:
            continue
        actual = test.amount[here, i]
        of_item = rates(train.item[train.happened[:, i] > 0], own, test.item[here], PRIOR_AMOUNTS)
        errors = {"customers": amounts[here, i] - actual, "mean": own.mean() - actual, "per_item": of_item - actual}
        out[name] = {key: float(np.sqrt(np.mean(error**2))) for key, error in errors.items()} | {"n": int(here.sum())}
    return out


def _event(p: Floats, train: Rows, valid: Rows, test: Rows, event: int) -> dict[str, Any]:
    return _figures(p, test.happened[:, event], simple_rates(train, valid, test, event), test.user)


def _figures(p: Floats, y: Floats, simple: dict[str, Floats], user: NDArray[np.int64]) -> dict[str, Any]:
    count = {"n": len(y), "happened": int(y.sum())}
    if min(y.sum(), len(y) - y.sum()) < FEW:
        return count | {"note": "too rare, or too rarely absent, on the held-out decisions to say anything"}
    own = log_likelihood(p, y)
    others = {name: log_likelihood(of, y) for name, of in simple.items()}
    best = max(others, key=lambda name: float(others[name].mean()))
    likelihood = {"customers": float(own.mean())} | {name: float(ll.mean()) for name, ll in others.items()}
    gain = clustered_mean(own - others[best], user)
    return count | {"calibration": reliability(p, y), "log_likelihood": likelihood, "gain": {"over": best, **gain}}


def clustered_mean(values: Floats, user: NDArray[np.int64]) -> dict[str, Any]:
    """`{"mean", "ci"}` of values [T], bootstrapped over users."""
    _, group = np.unique(user, return_inverse=True)
    n = int(group.max()) + 1
    sums, counts = (np.bincount(group, of, n).astype(np.float64) for of in (values, np.ones(len(values))))
    draws = user_bootstrap(sums[None, None], counts[None])[:, 0]
    return percentile(float(values.mean()), draws).to_dict()
