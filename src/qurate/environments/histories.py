"""The histories of the engine's customers: rings of rows, from which observations copy the newest L."""

from typing import Any, TypeVar

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from qurate.environments.history_rows import Group
from qurate.environments.visits import Visits
from qurate.mdp.states import gap_seconds
from qurate.types import FloatArray, IntArray, State

ScalarT = TypeVar("ScalarT", bound=np.generic)

COMPACT_EVERY = 12
"""Steps between two moves of the histories to the front of their rings."""
ARRAYS = ("codes", "gaps", "values", "end", "last", "until_compact")
"""Names of what `Histories` keeps, without what follows from it."""
_ONE, _BITS, _TYPE, _NONE = (np.array(number) for number in (1, 8, 255, 0))  # arrays without a dimension, see rng.py


class Histories:
    """The rows of n lanes.

    Args:
        n: lanes.
        window: L, rows in an observation.
        rows_per_step: most rows that a lane gets in one step.
        n_types: of events.
        has_values: whether rows carry values.
        padded: whether a lane may be left without a row at a step, as slates may.
    """

    def __init__(self, n: int, window: int, rows_per_step: int, n_types: int, *, has_values: bool, padded: bool) -> None:
        self.n, self.window, self.has_values, self.padded = n, window, has_values, padded
        self._window, self._of_type = np.array(window), [np.array(kind) for kind in range(n_types + 1)]
        capacity = window + rows_per_step * COMPACT_EVERY
        self.codes = np.zeros(n * capacity, np.int64)  # item << 8 | type: one gather serves both
        self.gaps = np.zeros(n * capacity, np.float32)
        self.values = np.zeros(len(self.gaps) if has_values else 0, np.float32)
        self._code_runs, self._gap_runs = _runs(self.codes, window), _runs(self.gaps, window)
        self._value_runs = _runs(self.values, window) if has_values else None
        self._base = np.arange(n, dtype=np.int64) * capacity + window
        self.end = self._base.copy()  # flat position after each lane's newest row
        self.last = np.zeros(n, np.int64)  # time of each lane's newest row
        self.until_compact = COMPACT_EVERY
        self.visits = Visits(n, window)
        self._no_value = np.zeros((n, window), np.float32)
        self._no_value.flags.writeable = False

    def enter(self, lanes: IntArray) -> None:
        """The customers in `lanes` begin without rows."""
        for front, _ in self._fronts():
            front[lanes] = 0
        self.end[lanes] = self._base[lanes]
        self.visits.enter(lanes)

    def append(self, groups: list[Group], times: list[IntArray], clock: IntArray) -> None:
        """Writes a step's rows with their `times`; `clock` [n]: the next decision."""
        if self.until_compact == 0:
            self._compact()
        self.until_compact -= 1
        for place, (group, time) in enumerate(zip(groups, times)):
            self._append(group, time, first=place == 0)
        self._set_gaps(None, self.end - _ONE, clock - self.last)

    def state(self, user: FloatArray) -> State:
        """What a policy sees of customers with features `user` [n, U]; copies, but for `user`."""
        start = self.end - self._window
        codes, gaps = _at(self._code_runs, start), _at(self._gap_runs, start)
        values = self._no_value if self._value_runs is None else _at(self._value_runs, start)
        return State(codes >> _BITS, codes & _TYPE, gaps, values, user, self.visits.context())

    def restore(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Continues from arrays by name (ARRAYS)."""
        for name in ARRAYS[:-1]:
            getattr(self, name)[...] = state[name]
        self.until_compact = int(state["until_compact"])
        start = self.end - self._window
        self.visits.restore(self._code_runs[start] & _TYPE, self._gap_runs[start])

    def _fronts(self) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        """Of each ring its front [n, L], a view, and all runs of L rows."""
        rings: list[tuple[NDArray[Any], NDArray[Any] | None]]
        rings = [(self.codes, self._code_runs), (self.gaps, self._gap_runs), (self.values, self._value_runs)]
        return [(ring.reshape(self.n, -1)[:, : self.window], runs) for ring, runs in rings if runs is not None]

    def _append(self, group: Group, time: IntArray, *, first: bool) -> None:
        code = group.items << _BITS
        code += self._of_type[group.type]
        lanes = group.lanes
        if lanes is None:
            end, last = self.end, self.last
            self.last, self.end = time.copy(), end + _ONE  # copies: later groups write into them
        else:
            end, last = self.end[lanes], self.last[lanes]
            self.last[lanes], self.end[lanes] = time, end + _ONE
        if not (first and isinstance(group.after, int) and group.after == 0):  # at the clock, the last observation's gap is right
            self._set_gaps(lanes, end - _ONE, time - last)
        self.visits.row(lanes)
        self.codes[end] = code
        if self.has_values:
            self.values[end] = 0 if group.value is None else group.value

    def _set_gaps(self, lanes: IntArray | None, at: IntArray, gap: IntArray) -> None:
        """Gap (microseconds) from the rows of `lanes` at flat positions `at` to what follows; padding keeps 0."""
        seconds = gap_seconds(gap)
        if self.padded:
            seconds *= self.codes[at] != _NONE
        self.gaps[at] = seconds
        self.visits.gap(lanes, seconds)

    def _compact(self) -> None:
        """Moves every lane's window to the front of its ring."""
        start = self.end - self._window
        for front, runs in self._fronts():
            front[:] = runs[start]
        self.end = self._base.copy()
        self.until_compact = COMPACT_EVERY


def _runs(flat: NDArray[ScalarT], window: int) -> NDArray[ScalarT]:
    """View [len - window + 1, window] of all runs of `window` neighbours; indexing rows copies whole runs."""
    return as_strided(flat, (len(flat) - window + 1, window), (flat.itemsize, flat.itemsize), writeable=False)


def _at(runs: NDArray[ScalarT], start: IntArray) -> NDArray[ScalarT]:
    """The runs that begin at `start` [n], copied; a slice of one is cheaper than an array of one index."""
    if len(start) > 1:
        return runs[start]
    first = start.item()
    return runs[first : first + 1].copy()
