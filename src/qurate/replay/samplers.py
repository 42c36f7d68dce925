"""Samplers: which transitions make a batch, with importance weights. Uniform ones; `prioritised.py` has the other."""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from qurate.types import TRAIN, FloatArray, IntArray, Transitions


class Sample(NamedTuple):
    """B transitions."""

    index: IntArray  # type: ignore[assignment]  # [B] positions in the store
    weight: FloatArray | None  # [B] importance weights in (0, 1]; None = 1


class Sampler(Protocol):
    """Draws transitions, and takes their TD errors back after the update."""

    def sample(self, rng: np.random.Generator, batch_size: int) -> Sample:
        """`batch_size` transitions, with replacement."""
        ...

    def add(self, index: IntArray) -> None:
        """New transitions at these positions of the store; uniform samplers do not need to be given them."""
        ...

    def update(self, index: IntArray, td_errors: FloatArray) -> None:
        """TD errors [B] of transitions just learned from; uniform samplers have no use for them."""
        ...


class Rings(Protocol):
    """What samplers ask of a replay filled online: slots per lane, of which some hold complete transitions."""

    lanes: int
    lane_states: int

    def filled(self) -> IntArray:
        """States held per lane, [lanes]."""
        ...

    def oldest(self) -> IntArray:
        """Count of the oldest state held per lane, [lanes]."""
        ...

    def complete(self, index: IntArray) -> NDArray[np.bool_]:
        """Which slots hold a transition that can be sampled, bool [len(index)]."""
        ...


class LogSampler:
    """Uniform over the transitions of one split of a log.

    Args:
        transitions: of the dataset.
        split: TRAIN, VALID or TEST.
    """

    def __init__(self, transitions: Transitions, split: int = TRAIN) -> None:
        self.index = np.flatnonzero(transitions.split[transitions.state] == split)

    def sample(self, rng: np.random.Generator, batch_size: int) -> Sample:
        """See `Sampler.sample`."""
        return Sample(self.index[rng.integers(0, len(self.index), batch_size)], None)

    def add(self, index: IntArray) -> None:
        """See `Sampler.add`."""

    def update(self, index: IntArray, td_errors: FloatArray) -> None:
        """See `Sampler.update`."""


class OnlineSampler:
    """Uniform over the complete transitions that the rings still hold."""

    def __init__(self, rings: Rings) -> None:
        self.rings = rings

    def sample(self, rng: np.random.Generator, batch_size: int) -> Sample:
        """See `Sampler.sample`; slots without an action are drawn again."""
        lanes, slots = self.rings.lanes, self.rings.lane_states
        filled = self.rings.filled()
        picked = np.empty(0, np.int64)
        while len(picked) < batch_size:
            lane = rng.integers(0, lanes, batch_size)
            offset = (rng.random(batch_size) * filled[lane]).astype(np.int64)
            index = lane * slots + (self.rings.oldest()[lane] + offset) % slots
            picked = np.concatenate([picked, index[self.rings.complete(index)]])
        return Sample(picked[:batch_size], None)

    def add(self, index: IntArray) -> None:
        """See `Sampler.add`."""

    def update(self, index: IntArray, td_errors: FloatArray) -> None:
        """See `Sampler.update`."""
