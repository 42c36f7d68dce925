"""Prioritised replay (Schaul et al. 2016, arXiv:1511.05952): transitions are drawn by the size of their last TD error."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from qurate.replay.samplers import Sample
from qurate.types import FloatArray, IntArray

SMALLEST_PRIORITY = 1e-6
"""Added to |TD error|, so that every transition keeps a chance."""


FAN = 16
"""Values, or sums, that one sum of the next level adds up: few levels, each a handful of array operations."""
TOP = 4_096
"""So many sums are searched in one go."""
BEFORE = np.tril(np.ones((FAN + 1, FAN)), -1)
"""Times FAN values: 0, and the sums of the first 1, 2, ..., FAN of them. What adds 0 leaves a sum as it was, in any order of additions."""


class SumTree:
    """Non-negative values whose prefix sums are found level by level: level 0 holds at most `TOP` sums, the last level the values.

    Args:
        size: number of values, all 0 at first.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        lengths = [-(-max(size, 1) // FAN) * FAN]
        while lengths[0] > TOP:
            lengths.insert(0, -(-lengths[0] // (FAN * FAN)) * FAN)
        self.levels = [np.zeros(length, np.float64) for length in lengths]

    @property
    def total(self) -> float:
        """Sum of all values."""
        return float(self.levels[0].sum())

    @property
    def values(self) -> NDArray[np.float64]:
        """[size], a view."""
        return self.levels[-1][: self.size]

    def set(self, index: IntArray, values: NDArray[np.floating]) -> None:
        """Writes `values` [n] at `index` [n]; of a repeated index the last value stays."""
        self.levels[-1][index] = values
        for below, level in zip(self.levels[:0:-1], self.levels[-2::-1]):
            index = index // FAN
            level[index] = below.reshape(-1, FAN).take(index, 0) @ BEFORE[-1]

    def find(self, prefix: NDArray[np.float64]) -> IntArray:
        """The positions at which the running sum passes each of `prefix` [n], 0 <= prefix < total."""
        index, rest = self._search_top(prefix)
        column = np.arange(len(prefix))
        for level in self.levels[1:]:
            ends = BEFORE @ level.reshape(-1, FAN).take(index, 0).T  # as a product several times as fast as `cumsum`
            rest = np.minimum(rest, np.nextafter(ends[-1], 0))  # the sum above was rounded otherwise
            child = (ends[1:] <= rest).sum(0)
            rest -= ends[child, column]
            index = index * FAN + child
        return index

    def _search_top(self, prefix: NDArray[np.float64]) -> tuple[IntArray, NDArray[np.float64]]:
        """The sum of level 0 in which each prefix ends, and what is left of it there."""
        ends = np.zeros(len(self.levels[0]) + 1)
        np.cumsum(self.levels[0], out=ends[1:])
        prefix = np.minimum(prefix, np.nextafter(ends[-1], 0))
        index = ends[1:].searchsorted(prefix, "right")
        return index, prefix - ends[index]


class PrioritisedSampler:
    """Draws position i with probability p_i^alpha / sum p^alpha, and weights it by (n P(i))^-beta over the largest weight of the batch.

    New transitions get the largest priority seen, so that each is soon drawn.

    Args:
        size: positions of the store.
        alpha: exponent of the priorities, in [0, 1]; 0 = uniform.
        beta: exponent of the importance weights at the start, in [0, 1]; it grows linearly to 1.
        beta_draws: samples until beta is 1.
        ready: which of some positions hold a complete transition (rings); None = all that were added.
    """

    def __init__(
        self, size: int, *, alpha: float = 0.6, beta: float = 0.4, beta_draws: int = 10_000,
        ready: Callable[[IntArray], NDArray[np.bool_]] | None = None,
    ) -> None:  # fmt: skip
        self.tree = SumTree(size)
        self.alpha, self.beta, self.beta_draws, self.ready = alpha, beta, beta_draws, ready
        self.largest, self.draws = 1.0, 0

    def add(self, index: IntArray) -> None:
        """New transitions at `index`."""
        self.tree.set(index, np.full(len(index), self.largest**self.alpha))

    def remove(self, index: IntArray) -> None:
        """Positions that hold no transition any more; they are never drawn."""
        self.tree.set(index, np.zeros(len(index)))

    def sample(self, rng: np.random.Generator, batch_size: int) -> Sample:
        """See `Sampler.sample`; one draw from each of `batch_size` equal parts of the sum (stratified)."""
        picked = self._draw(rng, batch_size)
        if self.ready is not None:
            while not (ready := self.ready(picked)).all():
                self.remove(picked[~ready])
                picked = np.concatenate([picked[ready], self._draw(rng, int((~ready).sum()))])
        beta = self.beta + (1 - self.beta) * min(self.draws / self.beta_draws, 1.0)
        self.draws += 1
        weight = self.tree.values[picked] ** -beta
        return Sample(picked, (weight / weight.max()).astype(np.float32))

    def _draw(self, rng: np.random.Generator, n: int) -> IntArray:
        edges = self.tree.total / n
        prefix = (np.arange(n) + rng.random(n)) * edges
        return self.tree.find(np.minimum(prefix, np.nextafter(self.tree.total, 0)))

    def update(self, index: IntArray, td_errors: FloatArray) -> None:
        """See `Sampler.update`."""
        size = np.abs(np.asarray(td_errors, np.float64)) + SMALLEST_PRIORITY
        size = np.where(np.isfinite(size), size, self.largest)
        self.largest = max(self.largest, float(size.max(initial=0.0)))
        self.tree.set(index, size**self.alpha)

    def state(self) -> dict[str, NDArray[np.float64]]:
        """What changes, as arrays."""
        return {"values": self.tree.values, "counters": np.array([self.largest, self.draws], np.float64)}

    def restore(self, state: dict[str, NDArray[np.float64]]) -> None:
        """Goes on from what `state` returned."""
        self.tree.set(np.arange(self.tree.size), state["values"])
        self.largest, self.draws = float(state["counters"][0]), int(state["counters"][1])
