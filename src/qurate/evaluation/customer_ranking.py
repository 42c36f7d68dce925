"""Do learned customers rank policies as held-out data does? Off-policy estimates on logged decisions against the customers' own.

Each policy shows one of the best tenth of its order, drawn evenly: one that always shows its first choice meets hardly any logged
decision that agrees with it. With the logged propensity b and the policy's probability pi of what was shown,

    v = sum_t (pi_t / b_t) r_t / sum_t (pi_t / b_t)             self-normalised importance sampling (Swaminathan and Joachims 2015)

is set beside the mean over the same decisions of sum_a pi(a) E[r | s, a] under the learned customers: rewards of a single decision.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qurate.evaluation.intervals import percentile, user_bootstrap
from qurate.evaluation.ranking import RankingData, checked_scores, observations
from qurate.types import FloatArray, IntArray, Observation, Scorer

Floats = NDArray[np.float64]
Expected = Callable[[IntArray], FloatArray]
"""Expected weighted reward of items 1..N at decisions [B], float32 [B, N]."""

SHARE = 0.1
"""Of its order that a policy draws from."""
WINDOW = 50


def top_share(scores: FloatArray, mask: NDArray[np.int8]) -> Floats:
    """Probabilities [B, K] of one of the best tenth of the open candidates, at least one; equal scores share alike."""
    scores = np.where(mask > 0, scores, -np.inf)
    k = np.maximum(1, np.round(SHARE * (mask > 0).sum(1))).astype(np.int64)
    limit = np.take_along_axis(-np.sort(-scores, axis=1), k[:, None] - 1, axis=1)
    above, same = scores > limit, (scores == limit) & (mask > 0)
    room = (k - above.sum(1)) / np.maximum(same.sum(1), 1)
    out: Floats = (above + same * room[:, None]) / k[:, None]
    return out


def rank_policies(
    data: RankingData, rows: IntArray, scorers: Sequence[Scorer], expected: Expected, reward: FloatArray, propensity: FloatArray
) -> dict[str, Any]:
    """Values of policies by both, and the rank correlation.

    Args:
        data: a log of single items.
        rows: its held-out transitions. scorers: the policies' orders.
        expected: of the learned customers, for decisions (rows of the transitions' states).
        reward, propensity: [T] of `rows`.

    Returns:
        `{"policies": [{"name", "log", "ci", "customers", "effective"}], "rank_correlation", "decisions"}`.
    """
    n, m = len(rows), len(scorers)
    agrees, own = np.zeros((m, n)), np.zeros((m, n))
    action = data.transitions.action[rows]
    states = data.transitions.state[rows].astype(np.int64)
    for part, observation in observations(data, rows, WINDOW):
        table = expected(states[part])
        candidates = observation.actions.candidates
        values = np.take_along_axis(table, np.minimum(candidates, table.shape[1]) - 1, axis=1)
        shown = candidates == action[part][:, None]
        for i, scorer in enumerate(scorers):
            chance = top_share(checked_scores(scorer, observation), observation.actions.mask)
            agrees[i, part] = (chance * shown).sum(1)
            own[i, part] = (chance * values).sum(1)
    weight = agrees / propensity
    user = np.unique(data.transitions.user[states], return_inverse=True)[1]
    rows_of = [_value(scorer.name, weight[i], own[i], reward, user) for i, scorer in enumerate(scorers)]
    known = [row for row in rows_of if row["log"] is not None]
    correlation = spearman([row["log"] for row in known], [row["customers"] for row in known]) if len(known) > 2 else None
    return {"policies": rows_of, "rank_correlation": correlation, "decisions": n}


def _value(name: str, weight: Floats, own: Floats, reward: FloatArray, user: NDArray[np.int64]) -> dict[str, Any]:
    if not weight.any():
        return {"name": name, "log": None, "ci": [None, None], "customers": float(own.mean()), "effective": 0.0}
    n = int(user.max()) + 1
    sums, counts = (np.bincount(user, of, n).astype(np.float64) for of in (weight * reward, weight))
    estimate = percentile(float((weight * reward).sum() / weight.sum()), user_bootstrap(sums[None, None], counts[None])[:, 0])
    effective = float(weight.sum() ** 2 / (weight**2).sum())
    return {"name": name, "log": estimate.mean, "ci": estimate.ci(), "customers": float(own.mean()), "effective": effective}


def spearman(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Rank correlation; equal values share their mean rank; None where all values of one side are equal."""
    x, y = (_ranks(np.asarray(values, np.float64)) for values in (a, b))
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])


def _ranks(values: Floats) -> Floats:
    _, group, count = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(count)
    out: Floats = (ends - (count - 1) / 2)[group]
    return out


class Reversed:
    """The order of a scorer, worst first: a policy that is known to be bad."""

    def __init__(self, scorer: Scorer, name: str) -> None:
        self.scorer, self.name = scorer, name

    def scores(self, observation: Observation) -> FloatArray:
        """float32 [B, K]."""
        return -self.scorer.scores(observation)
