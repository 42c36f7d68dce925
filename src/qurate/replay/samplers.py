"""What is sampled: positions of transitions, uniformly. Further samplers (prioritised) return the same shape."""

import numpy as np
from numpy.typing import NDArray

from qurate.replay.writers import OnlineWriter
from qurate.types import TRAIN, Transitions


class LogSampler:
    """Uniform over the transitions of one split of a log.

    Args:
        transitions: of the dataset.
        split: TRAIN, VALID or TEST.
    """

    def __init__(self, transitions: Transitions, split: int = TRAIN) -> None:
        self.index = np.flatnonzero(transitions.split[transitions.state] == split)

    def sample(self, rng: np.random.Generator, batch_size: int) -> NDArray[np.int64]:
        """Transitions, int64 [batch_size], with replacement."""
        return self.index[rng.integers(0, len(self.index), batch_size)]


class OnlineSampler:
    """Uniform over the complete transitions that the rings still hold."""

    def __init__(self, writer: OnlineWriter) -> None:
        self.writer = writer

    def sample(self, rng: np.random.Generator, batch_size: int) -> NDArray[np.int64]:
        """Transitions, int64 [batch_size]; slots without an action are drawn again."""
        lanes, slots = self.writer.lanes, self.writer.lane_states
        filled = self.writer.filled()
        picked = np.empty(0, np.int64)
        while len(picked) < batch_size:
            lane = rng.integers(0, lanes, batch_size)
            offset = (rng.random(batch_size) * filled[lane]).astype(np.int64)
            index = lane * slots + (self.writer.oldest()[lane] + offset) % slots
            picked = np.concatenate([picked, index[self.writer.complete(index)]])
        return picked[:batch_size]
