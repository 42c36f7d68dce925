"""Visits of many customers, kept up as their rows come: `Visits.context` is what `derive_context` says of their windows."""

import numpy as np
from numpy.typing import NDArray

from qurate.mdp.states import SESSION_GAP_SECONDS, log_hours, visit_of
from qurate.types import FloatArray, IntArray

_ONE = np.array(1)  # without a dimension, see rng.py


class Visits:
    """The present visits of n customers.

    Args:
        n: customers.
        window: L, rows that are looked at.

    Attributes:
        rows: [n] of the present visit.
        pause: [n] log1p of the hours between the row before them and the first of them; 0 where there is no such row.
    """

    def __init__(self, n: int, window: int) -> None:
        self.rows, self.pause = np.zeros(n, np.int64), np.zeros(n, np.float32)
        self._window, self._log_rows = np.array(window), np.log1p(np.arange(window + 1, dtype=np.float32))

    def enter(self, lanes: IntArray) -> None:
        """New customers in `lanes` have no rows."""
        self.rows[lanes] = self.pause[lanes] = 0

    def row(self, lanes: IntArray | None) -> None:
        """One more row for each of `lanes` (None: all)."""
        if lanes is None:
            self.rows += _ONE
        else:
            self.rows[lanes] += 1

    def gap(self, lanes: IntArray | None, seconds: FloatArray) -> NDArray[np.int64]:
        """So many seconds [m] follow the newest rows of `lanes` (None: all); returns those whose visit ended so."""
        paused: NDArray[np.int64] = (seconds >= SESSION_GAP_SECONDS).nonzero()[0]
        if paused.size:
            hours = log_hours(seconds[paused])
            paused = paused if lanes is None else lanes[paused]
            self.rows[paused], self.pause[paused] = 0, hours
        return paused

    def context(self) -> FloatArray:
        """Context of all customers, float32 [n, 2]."""
        context = np.empty((len(self.rows), 2), np.float32)
        context[:, 0] = self._log_rows.take(self.rows, mode="clip")
        context[:, 1] = self.pause * (self.rows < self._window)  # the row before the pause has left the window
        return context

    def restore(self, types: IntArray, gaps: FloatArray) -> None:
        """Continues from windows [n, L]."""
        self.rows[:], seconds = visit_of(types, gaps)
        self.pause[:] = log_hours(seconds)
