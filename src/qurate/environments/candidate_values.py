"""What a policy sees of each candidate at its decision where the catalogue turns over: its age, and what the world shows of it.

A service knows both at that moment. `simulate` writes the same numbers under the same names (`candidate.age_hours`), so that training
from such a log, training in the world and a service that is told them compute the same features (mdp/candidate_features.py). When a
candidate will close is not among them: nobody knows.
"""

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from qurate.environments.arrivals import EPOCH_US
from qurate.environments.timetable import HOUR
from qurate.types import ALWAYS, Actions, Availability, FloatArray, IntArray

AGE = "age_hours"
_HOURS, _NONE = np.array(1 / HOUR), np.array(0)  # arrays without a dimension, see rng.py


@runtime_checkable
class ShowsCandidates(Protocol):
    """A world that shows something of its items that changes, such as how many others watch."""

    shown_columns: tuple[str, ...]  # [G] names

    def shown_of(self, items: IntArray, age: IntArray) -> FloatArray:
        """float32 [B, K, G] of items [B, K] at their ages [B, K] (microseconds); arbitrary but finite for item 0."""
        ...


class CandidateValues:
    """Describes lists of candidates.

    Args:
        world: whose items they are.
        availability: of its items; one that was always there has its age since the first customers came.
    """

    def __init__(self, world: object, availability: Availability) -> None:
        self._world = world if isinstance(world, ShowsCandidates) else None
        self.columns = (AGE, *(self._world.shown_columns if self._world is not None else ()))
        since = availability.since
        self._since = np.where(since == ALWAYS, EPOCH_US, since)
        self._since[0] = EPOCH_US

    def actions(self, candidates: IntArray, mask: NDArray[np.int8], clock: IntArray) -> Actions:
        """The candidates [B, K] at clocks [B] (microseconds) with what is seen of them; 0 where there is no candidate."""
        age = clock[:, None] - self._since.take(candidates)
        by_column = np.empty((len(self.columns), *candidates.shape), np.float32)  # its arithmetic runs over whole columns
        values = by_column.transpose(1, 2, 0)
        by_column[0] = age * _HOURS
        if self._world is not None:
            values[:, :, 1:] = self._world.shown_of(candidates, age)
        by_column *= candidates > _NONE
        return Actions(candidates, mask, values, self.columns)
