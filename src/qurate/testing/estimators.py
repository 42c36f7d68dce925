"""`check_estimator`: what an off-policy estimator promises."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from qurate.testing.rules import SIGMAS, equal, require, require_array

Estimator = Callable[[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]
"""(reward, logged propensity, new policy's probability of the logged action), each float64 [n] -> contributions float64 [n]."""


def check_estimator(estimator: Estimator, n: int = 20_000) -> None:
    """An off-policy estimator: per-sample contributions whose mean is the new policy's value.

    Rules: contributions, arguments untouched, same arrays same contributions, order does not matter, on-policy mean, mean.

    Args:
        estimator: (reward, logged propensity, probability under the new policy) -> contributions, each float64 [n]. One
            that needs more (a reward model) is given as a function that knows it.
        n: samples of the bandit it is tried on: 4 actions, weights of at most 2.8.
    """
    rng = np.random.default_rng(3)
    logged, new, worth = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.1, 0.2, 0.42, 0.28]), np.array([0.1, 0.4, 0.5, 0.9])
    action = rng.choice(4, n, p=logged)
    arrays = ((rng.random(n) < worth[action]).astype(np.float64), logged[action], new[action])
    before = [array.copy() for array in arrays]
    out = estimator(*arrays)
    require_array(out, (n,), np.float64, "contributions", "the result")
    require(np.isfinite(out).all(), "contributions", "not finite")
    require(equal(before, arrays), "arguments untouched", "an array was changed")
    require(np.array_equal(out, estimator(*arrays)), "same arrays, same contributions", "two calls differ")
    turned = rng.permutation(n)
    require(np.allclose(estimator(*(a[turned] for a in arrays)), out[turned]), "order does not matter", "contributions follow positions")
    same = float(estimator(arrays[0], arrays[1], arrays[1]).mean())
    require(abs(same - arrays[0].mean()) < 1e-9, "on-policy mean", f"{same:.6f} where the log's own mean is {arrays[0].mean():.6f}")
    truth, error = float(new @ worth), float(out.std() / n**0.5)
    require(abs(out.mean() - truth) <= SIGMAS * error + 1e-9, "mean", f"{out.mean():.4f} +- {error:.4f} where the value is {truth:.4f}")
