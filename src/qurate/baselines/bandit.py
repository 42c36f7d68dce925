"""A linear contextual bandit: LinUCB with hybrid models (Li et al. 2010, arXiv:1003.0146, Algorithm 2), and Thompson sampling.

The reward of item a for a customer is linear in z, which all items share, plus an intercept of the item's own:
r = z . beta + theta_a. That is the hybrid model with x = 1, and the same as one ridge regression on (z, which item). z holds the
item's features, their products with what the customer met and wanted, and their products with the customer's features. Where the
observation says something of each candidate at its decision (its age, how many others watch), the candidate features of
mdp/candidate_features.py follow, which are those that networks get.

* LinUCB scores an item by the expected reward plus `width` standard errors.
* Thompson sampling scores by a draw of (beta, theta) from the posterior (Agrawal and Goyal 2013, arXiv:1209.3352).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from qurate.baselines.training_rows import recent_items
from qurate.choosing.policy import over_candidates
from qurate.choosing.slate_sampling import is_shared
from qurate.mdp.candidate_features import feature_count, observed_features
from qurate.types import FloatArray, IntArray, Observation

Doubles = NDArray[np.float64]

MOST_NUMBERS = 24
"""Numbers of an item; more of them become their first principal components."""
MOST_FEATURES = 96
"""Where z would be longer, it has no products with the customer's features: a standard error takes k^2 operations per candidate."""
DECAY = 0.8
"""Weight of a history row relative to the next newer one, in what the customer met and wanted."""


class Sums(NamedTuple):
    """What the regression is computed from; sums of rows, so that those of two logs add."""

    zz: Doubles  # [k, k] of z z'
    zr: Doubles  # [k] of r z
    z: Doubles  # [N + 1, k] of z by item
    r: Doubles  # [N + 1] of r by item
    n: Doubles  # [N + 1] rows by item

    @classmethod
    def empty(cls, n_items: int, k: int) -> "Sums":
        """Of no rows."""
        return cls(np.zeros((k, k)), np.zeros(k), np.zeros((n_items + 1, k)), np.zeros(n_items + 1), np.zeros(n_items + 1))

    def add(self, z: Doubles, item: IntArray, reward: Doubles) -> None:
        """Rows with z [R, k], item [R] and reward [R]."""
        self.zz[:] += z.T @ z
        self.zr[:] += reward @ z
        np.add.at(self.z, item, z)
        self.r[:] += np.bincount(item, reward, len(self.r))
        self.n[:] += np.bincount(item, minlength=len(self.n))


class Posterior(NamedTuple):
    """The ridge regression of `Sums`, in the blocks of Li et al."""

    beta: FloatArray  # [k]
    theta: FloatArray  # [N + 1]
    shared: FloatArray  # [k, k] A_0^-1: the covariance of beta, per unit of noise
    coupling: FloatArray  # [N + 1, k] B_a / A_a
    own: FloatArray  # [N + 1] A_a

    @classmethod
    def of(cls, sums: Sums, regularisation: float) -> "Posterior":
        """With so much on the diagonal of all that is inverted."""
        own = regularisation + sums.n
        coupling = sums.z / own[:, None]
        a0 = regularisation * np.eye(len(sums.zr)) + sums.zz - sums.z.T @ coupling
        shared = np.linalg.inv(a0)
        beta = shared @ (sums.zr - coupling.T @ sums.r)
        theta = sums.r / own - coupling @ beta
        return cls(*(np.asarray(part, np.float32) for part in (beta, theta, shared, coupling, own)))


@dataclass(eq=False)
class BanditScorer:
    """Expected reward of an item, plus `width` standard errors.

    Args:
        numbers: float32 [N + 1, F] of the items (`item_numbers`).
        wanted: bool [M + 1], the types of history rows that say that the customer wanted the item.
        beta, theta, shared, coupling, own: see `Posterior`.
        width: alpha of Li et al.; 0 = the expected reward alone.
        name: display name.
        columns: what z uses of each candidate at its decision, beside how the customer met it; None: neither.
    """

    numbers: FloatArray
    wanted: NDArray[np.bool_]
    beta: FloatArray
    theta: FloatArray
    shared: FloatArray
    coupling: FloatArray
    own: FloatArray
    width: float = 0.0
    name: str = "linucb"
    columns: Sequence[str] | None = None

    @property
    def posterior(self) -> Posterior:
        """Its parts together."""
        return Posterior(self.beta, self.theta, self.shared, self.coupling, self.own)

    def scores(self, observation: Observation) -> FloatArray:
        """float32 [B, K]."""
        own = self._of_items(observation)
        weights = context_weights(observation, self.numbers, self.wanted, self.beta[:own])
        candidates, listed = observation.actions.candidates, listed_features(observation, self.columns, len(self.wanted) - 1)
        mean = over_candidates(weights @ self.numbers.T + self.theta, candidates)
        if listed is not None:
            mean = mean + listed @ self.beta[own:]
        if not self.width:
            return mean
        items = candidates[:1] if is_shared(candidates) and listed is None else candidates
        z = features(observation, self.numbers, self.wanted, items)
        z = z if listed is None else np.concatenate([z, listed], axis=2)
        return (mean + self.width * np.sqrt(variance(self.posterior, z, items))).astype(np.float32)

    def drawn(self, observation: Observation, scale: float, rng: np.random.Generator) -> FloatArray:
        """Scores by one draw from the posterior for each customer, float32 [B, K].

        Args:
            scale: standard deviation of the reward's noise.
        """
        rows = len(observation.state.user)
        root = np.linalg.cholesky(self.shared.astype(np.float64)) if len(self.beta) else np.zeros((0, 0))
        beta = self.beta + scale * (rng.standard_normal((rows, len(self.beta))) @ root.T).astype(np.float32)
        theta = self.theta - (beta - self.beta) @ self.coupling.T
        theta += (scale / np.sqrt(self.own) * rng.standard_normal(theta.shape)).astype(np.float32)
        own = self._of_items(observation)
        weights = context_weights(observation, self.numbers, self.wanted, beta[:, :own])
        scores = over_candidates((weights @ self.numbers.T + theta).astype(np.float32), observation.actions.candidates)
        listed = listed_features(observation, self.columns, len(self.wanted) - 1)
        return scores if listed is None else scores + np.matmul(listed, beta[:, own:, None])[:, :, 0]

    def _of_items(self, observation: Observation) -> int:
        """How many numbers of z stand before the candidate features."""
        return n_features(self.numbers.shape[1], observation.state.user.shape[1])


def variance(posterior: Posterior, z: FloatArray, items: IntArray) -> FloatArray:
    """s of Li et al. (Algorithm 2, line 13), [B, K]: the squared standard error of the expected reward, per unit of noise.

    z' A0^-1 z - 2 z' A0^-1 B_a' / A_a + 1 / A_a + B_a A0^-1 B_a' / A_a^2 is a squared length of z - B_a' / A_a, and 1 / A_a.
    """
    apart = z - posterior.coupling[items]
    out: FloatArray = np.einsum("bkf,bkf->bk", apart @ posterior.shared, apart) + 1 / posterior.own[items]
    return np.maximum(out, 0)


def profiles(observation: Observation, numbers: FloatArray, wanted: NDArray[np.bool_]) -> FloatArray:
    """What each customer met and what they wanted: decayed sums of the items' numbers, float32 [B, 2, F]."""
    rows, length = observation.state.history_items.shape
    out = np.zeros((rows, 2, numbers.shape[1]), np.float32)
    every = np.arange(len(wanted)) > 0
    for i, counts in enumerate((every, wanted)):
        row, item, weight = recent_items(observation, counts, length, DECAY)
        np.add.at(out[:, i], row, (1 - DECAY) * weight[:, None] * numbers[item])
    return out


def uses_customer(n_numbers: int, user_dim: int) -> bool:
    """Whether z has the products with the customer's features."""
    return n_numbers * (3 + user_dim) <= MOST_FEATURES


def n_features(n_numbers: int, user_dim: int, columns: Sequence[str] | None = None, n_types: int = 0) -> int:
    """k, the length of z."""
    return n_numbers * (3 + (user_dim if uses_customer(n_numbers, user_dim) else 0)) + feature_count(columns, n_types)


def listed_features(observation: Observation, columns: Sequence[str] | None, n_types: int) -> FloatArray | None:
    """The candidate features in z, float32 [B, K, F]: what is not known is 0; None where `columns` is."""
    return None if columns is None else np.nan_to_num(observed_features(observation, columns, n_types))


def features(observation: Observation, numbers: FloatArray, wanted: NDArray[np.bool_], items: IntArray) -> FloatArray:
    """z of the candidates, float32 [B, K, k].

    Args:
        items: [B, K], or [1, K] that all share.
    """
    user, f = observation.state.user, numbers.shape[1]
    of_item = np.broadcast_to(numbers[items], (len(user), items.shape[1], f))
    factors = [np.ones((len(user), 1, f), np.float32), profiles(observation, numbers, wanted)]
    if uses_customer(f, user.shape[1]):
        factors.append(np.broadcast_to(user[:, :, None], (*user.shape, f)))
    by_part = np.concatenate(factors, axis=1)  # [B, parts, F]: z is each part times the item's numbers
    return (of_item[:, :, None, :] * by_part[:, None]).reshape(len(user), items.shape[1], -1)


def context_weights(observation: Observation, numbers: FloatArray, wanted: NDArray[np.bool_], beta: FloatArray) -> FloatArray:
    """z . beta = weights . numbers: the weights of the items' numbers for each customer, float32 [B, F].

    Args:
        beta: [k], or [B, k] of each customer's own.
    """
    user, f = observation.state.user, numbers.shape[1]
    if not f:
        return np.zeros((len(user), 0), np.float32)
    parts = np.broadcast_to(beta, (len(user), beta.shape[-1])).reshape(len(user), -1, f)
    out = parts[:, 0] + (profiles(observation, numbers, wanted) * parts[:, 1:3]).sum(1)
    if uses_customer(f, user.shape[1]):
        out = out + np.einsum("bu,buf->bf", user, parts[:, 3:])
    return cast(FloatArray, out.astype(np.float32))


def item_numbers(item_features: FloatArray) -> FloatArray:
    """Centred features of items 1..N, or their first principal components, float32 [N + 1, at most MOST_NUMBERS]; row 0 zeros.

    Scaled so that the mean squared length of a row is 1.
    """
    real = item_features[1:].astype(np.float64)
    real = real - real.mean(0, keepdims=True) if len(real) else real
    if real.shape[1] > MOST_NUMBERS:
        _, directions = np.linalg.eigh(real.T @ real)
        real = real @ directions[:, ::-1][:, :MOST_NUMBERS]
    length = np.sqrt((real**2).sum(1).mean()) if real.size else 0.0
    out = np.zeros((len(item_features), real.shape[1]), np.float32)
    out[1:] = real / (length or 1.0)
    return out


def bandit_of(
    sums: Sums,
    numbers: FloatArray,
    wanted: NDArray[np.bool_],
    regularisation: float,
    width: float,
    name: str = "linucb",
    columns: Sequence[str] | None = None,
) -> BanditScorer:
    """The scorer of what has been seen so far."""
    return BanditScorer(numbers, wanted, *Posterior.of(sums, regularisation), width=width, name=name, columns=columns)
