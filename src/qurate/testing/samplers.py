"""`check_sampler`: what a replay sampler promises."""

from typing import Any, Protocol

import numpy as np

from qurate.testing.rules import SIGMAS, require, require_array
from qurate.types import FloatArray, IntArray


class Sampler(Protocol):
    """Draws transitions from a replay."""

    def sample(self, rng: np.random.Generator, batch_size: int) -> Any: ...


def check_sampler(sampler: Sampler, population: IntArray, weights: FloatArray | None = None) -> None:
    """A replay sampler: indices of transitions, each as often as it should.

    Rules: indices, same draw same sample, only what may be drawn, as often as promised.

    Args:
        population: int64 [P], distinct: every index that may be drawn.
        weights: [P], how often in relation to the others; None = uniform.
    """
    for size in (1, 7, 256, len(population) + 3):
        require_array(sampler.sample(np.random.default_rng(size), size).index, (size,), np.int64, "indices", f"sample(rng, {size})")
    one, other = (sampler.sample(np.random.default_rng(9), 64).index for _ in range(2))
    require(np.array_equal(one, other), "same draw, same sample", "the same generator state gave other indices")
    drawn = sampler.sample(np.random.default_rng(2), 40 * len(population)).index
    require(np.isin(drawn, population).all(), "only what may be drawn", f"{np.setdiff1d(drawn, population)[:3]} came")
    share = np.ones(len(population)) if weights is None else np.asarray(weights, np.float64)
    expected = share / share.sum() * len(drawn)
    count = (np.sort(drawn).searchsorted(population, "right") - np.sort(drawn).searchsorted(population)).astype(np.float64)
    chi = float(((count - expected) ** 2 / np.maximum(expected, 1e-9)).sum())
    limit = len(population) + SIGMAS * (2 * len(population)) ** 0.5 + SIGMAS**2
    require(chi <= limit, "as often as promised", f"chi-square {chi:.0f} with {len(population)} indices, at most {limit:.0f}")
