"""The state, defined once: `gather_state` makes it of a log and in serving.

Replay and simulators gather windows from their own memory, with `gap_seconds` and `derive_context` of this file.
A state is the last L rows of one customer before the decision, the gap from each row to the next (the last: to the
decision's clock), the customer's features and a context derived from that window alone. Nothing here knows what
happened after the clock, and nothing depends on where the rows came from.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from qurate.types import SESSION_GAP_US, EventArrays, FloatArray, IntArray, State

ScalarT = TypeVar("ScalarT", bound=np.generic)

CONTEXT_NAMES = ("log_rows_of_visit", "log_hours_of_last_pause")
"""What `State.context` holds, in this order."""

# Constants are arrays without a dimension: NumPy converts a number at every call, which takes as long as a sum for one customer.
SESSION_GAP_SECONDS = np.array(SESSION_GAP_US / 1_000_000, np.float32)
_HOUR_SECONDS = np.array(3600, np.float32)
_SECOND, _NONE = np.array(1e-6), np.array(0)


def gap_seconds(microseconds: IntArray) -> FloatArray:
    """Microseconds (int64, any shape) as float32 seconds; a late event cannot make time run backwards (least 0).

    Every producer of `history_gaps` must use this function, so that the same times give the same bits.
    """
    seconds: FloatArray = (np.maximum(microseconds, _NONE) * _SECOND).astype(np.float32)
    return seconds


def derive_context(history_types: NDArray[np.integer], history_gaps: FloatArray) -> FloatArray:
    """Context of B windows, float32 [B, 2], from the window alone.

    Args:
        history_types: [B, L]; any array that is 0 exactly on padding (items serve too where every row has an item).
        history_gaps: [B, L] seconds to the next row, the last one to the decision's clock; 0 on padding.

    Returns:
        log1p of the rows of the present visit (counted back from the clock to the last gap of 30 minutes or more), and
        log1p of the hours of that gap, 0 where the window has none.
    """
    rows, pause = visit_of(history_types, history_gaps)
    context = np.empty((len(rows), len(CONTEXT_NAMES)), np.float32)
    context[:, 0] = rows
    context[:, 1] = pause / _HOUR_SECONDS
    np.log1p(context, context)
    return context


def visit_of(history_types: NDArray[np.integer], history_gaps: FloatArray) -> tuple[IntArray, FloatArray]:
    """How many rows of each of B windows are of the present visit [B], and the seconds [B] of the gap before them, 0 where the window has
    none; arguments as in `derive_context`."""
    n, length = history_gaps.shape
    outside = history_gaps >= SESSION_GAP_SECONDS  # of the visit: the last row before a pause, and padding, which stands on the left
    outside |= history_types == _NONE
    rows = outside[:, ::-1].argmax(axis=1)  # after the newest of these; 0 also where there is none
    at = np.arange(length - 1, n * length, length) - rows
    ends = outside.reshape(-1).take(at)  # False where the whole window is of the visit
    return np.where(ends, rows, np.array(length)), history_gaps.reshape(-1).take(at) * ends  # a gap is 0 on padding


def log_hours(seconds: FloatArray) -> FloatArray:
    """log1p of hours, float32 of the shape of `seconds`."""
    hours: FloatArray = np.log1p(seconds / _HOUR_SECONDS)
    return hours


def gather_state(
    arrays: EventArrays, history_start: IntArray, history_end: IntArray, clock: IntArray, window: int, user_features: FloatArray
) -> State:
    """The states of B decisions.

    Args:
        arrays: the history rows.
        history_start: [B] first row of the customer, `arrays.user_start[user]`.
        history_end: [B] first row that is not in the state; history_start <= history_end.
        clock: [B] microseconds at which the decision is made.
        window: L, rows of history in a state.
        user_features: [B, U] features of the B customers.

    Returns:
        State with arrays [B, L], newest row last, zeros on the left.
    """
    start = np.asarray(history_end, np.int64) - window
    real = np.arange(window) >= (history_start - start)[:, None]
    types = _windows(arrays.type, start, window)
    types *= real.view(np.uint8)
    items = _windows(arrays.item, start, window)
    items *= real
    values = _windows(arrays.value, start, window)
    values *= real
    times = _windows(arrays.time, start, window)
    passed = np.empty(times.shape, np.int64)
    np.subtract(times[:, 1:], times[:, :-1], out=passed[:, :-1])
    np.subtract(clock, times[:, -1], out=passed[:, -1])
    gaps = gap_seconds(passed)
    gaps *= real
    wide_types = types.astype(np.int64)
    return State(items.astype(np.int64), wide_types, gaps, values, user_features, derive_context(types, gaps))


def _windows(column: NDArray[ScalarT], start: IntArray, window: int) -> NDArray[ScalarT]:
    """A copy of `column[start:start + window]` for each start, [B, L]; a start before row 0 gives arbitrary values there."""
    if len(column) >= window and len(start) and start.min() >= 0:
        size = column.itemsize
        runs: NDArray[np.void] = np.ndarray((len(column) - window + 1,), f"V{size * window}", column, strides=(size,))
        return runs[start].view(column.dtype).reshape(len(start), window)  # whole runs, not one index per element
    if not len(column):
        return np.zeros((len(start), window), column.dtype)
    rows: NDArray[ScalarT] = column[np.maximum(start[:, None] + np.arange(window), 0)]
    return rows
