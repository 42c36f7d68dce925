"""How much Q has to say in log pi_b + power log Q, by held-out decisions."""

from dataclasses import replace

import numpy as np

from qurate.evaluation.intervals import sum_by_user
from qurate.evaluation.ranking import gains, observations, rank_targets
from qurate.evaluation.returns import returns_of
from qurate.mdp.storage import Dataset
from qurate.models.network_ranker import NetworkRanker
from qurate.types import FloatArray, IntArray

POWERS = (1.0, 0.5, 0.25, 0.0)
MOST, SCORES = 3_000, 150_000_000
"""Held-out decisions that are ranked; in large catalogues fewer, with so many scores in all, but 500 at least."""
CLEAR = 2.0
"""Standard errors over users by which another power has to be better than 1."""
K = 20


def q_power(dataset: Dataset, ranker: NetworkRanker, rows: IntArray, window: int, weights: FloatArray, gamma: float) -> float:
    """The power in `POWERS` by which held-out choices, each counted by its return in the log, stand highest: mean of R / log2(rank + 1).

    That mean is greatest where items stand by pi_b times the return expected of them: by power 1, where Q is what it claims to be. A Q
    that is mostly noise (a hundred purchases worth a hundred clicks each) moves items up by chance, and all the more the further apart the
    rewards are. 1 where no other power is clearly better, for all that held-out choices do not tell.

    Args:
        rows: held-out transitions. window: L. weights: float32 [R]. gamma: discount per decision of Q.
    """
    t = dataset.transitions
    most = min(MOST, max(SCORES // len(dataset.item_features), 500))
    rows = rows[:: -(-len(rows) // most)] if len(rows) > most else rows
    follows = returns_of(t, rows, weights, gamma, float(dataset.manifest["episode"]["tau_s"]))
    chosen = t.action[rows].astype(np.int64)
    ranked = [np.zeros(len(rows)) for _ in POWERS]
    for part, observation in observations(dataset, rows, window):
        mask = observation.actions.mask
        place = np.where(chosen[part] <= mask.shape[1], chosen[part] - 1, -1)  # candidates are the items 1..K
        by = replace(ranker, q_power=1.0).scores_by(observation)
        inside, with_q = by["behaviour"], by["behaviour_times_q"]
        for out, power in zip(ranked, POWERS, strict=True):
            scores = inside + np.float32(power) * (with_q - inside)
            out[part] = gains(rank_targets(scores, mask, place), K)[f"NDCG@{K}"]
    _, user = np.unique(t.user[t.state[rows]], return_inverse=True)
    gained = np.stack([(one - ranked[0]) * follows for one in ranked])
    of_users = sum_by_user(user, int(user.max()) + 1, gained)
    clear = of_users.sum(axis=1) > CLEAR * np.sqrt(np.square(of_users).sum(axis=1))
    return POWERS[int(np.argmax(np.where(clear, of_users.sum(axis=1), 0.0)))]
