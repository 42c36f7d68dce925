"""Returns of the episodes that end while a loop runs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qurate.types import FloatArray


class Returns:
    """Undiscounted returns of the episodes of each lane."""

    def __init__(self, lanes: int) -> None:
        self.total = np.zeros(lanes)

    def add(self, earned: FloatArray, over: NDArray[np.bool_]) -> Sequence[float]:
        """The returns of those that ended in this step, after rewards `earned` [lanes]; `over` [lanes] says whose episode ended."""
        self.total += earned
        if not over.any():
            return ()
        ended: list[float] = self.total[over].tolist()
        self.total[over] = 0.0
        return ended

    def state(self) -> dict[str, NDArray[Any]]:
        """For a checkpoint."""
        return {"total": self.total}

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Goes on from what `state` returned."""
        self.total[...] = state["total"]
