"""States by hand: windows, gaps, context."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qurate.mdp.states import derive_context, gather_state
from qurate.types import EventArrays

SECOND = 1_000_000


def arrays_of(*users: list[tuple[int, int, float, float]]) -> EventArrays:
    """Rows (item, type, seconds, value) per user."""
    rows = [row for user in users for row in user]
    item, kind, time, value = (np.array([row[i] for row in rows]) for i in range(4))
    start = np.concatenate([[0], np.cumsum([len(user) for user in users])]).astype(np.int64)
    return EventArrays(
        item.astype(np.int32), kind.astype(np.uint8), np.round(time * SECOND).astype(np.int64), value.astype(np.float32), start
    )


TWO = arrays_of([(7, 1, 0, 0), (8, 2, 10, 3.5), (0, 3, 40, 0)], [(9, 1, 5, 0), (7, 1, 4000, 0)])


def state_at(arrays: EventArrays, user: list[int], history_end: list[int], clock: list[float], window: int):
    rows = np.array(user)
    clocks = np.round(np.array(clock) * SECOND).astype(np.int64)
    return gather_state(arrays, arrays.user_start[rows], np.array(history_end), clocks, window, np.zeros((len(user), 0), np.float32))


def test_window_by_hand():
    state = state_at(TWO, [0, 1], [3, 5], [100, 4001], 4)
    assert state.history_items.tolist() == [[0, 7, 8, 0], [0, 0, 9, 7]]
    assert state.history_types.tolist() == [[0, 1, 2, 3], [0, 0, 1, 1]]
    assert state.history_gaps.tolist() == [[0, 10, 30, 60], [0, 0, 3995, 1]]
    assert state.history_values.tolist() == [[0, 0, 3.5, 0], [0, 0, 0, 0]]
    assert state.history_items.dtype == np.int64 and state.history_gaps.dtype == np.float32
    # a row that names no item counts as a row of the visit; the second user came back after 3995 s
    np.testing.assert_allclose(state.context, np.log1p([[3, 0], [1, 3995 / 3600]]), rtol=1e-6)


def test_window_shorter_than_the_history_keeps_the_newest():
    state = state_at(TWO, [0], [3], [40], 2)
    assert state.history_items.tolist() == [[8, 0]]
    assert state.history_gaps.tolist() == [[30, 0]]


def test_no_history_is_all_zero():
    state = state_at(TWO, [0, 1], [0, 3], [50, 50], 3)
    for array in (state.history_items, state.history_types, state.history_gaps, state.history_values, state.context):
        assert not array.any()


def test_a_window_longer_than_the_whole_log():
    assert state_at(TWO, [1], [5], [4000], 9).history_items.tolist() == [[0] * 7 + [9, 7]]


def test_no_rows_at_all():
    empty = EventArrays(*(np.empty(0, t) for t in (np.int32, np.uint8, np.int64, np.float32)), np.zeros(2, np.int64))
    assert not state_at(empty, [0], [0], [1], 3).history_items.any()


def test_a_late_event_never_gives_a_negative_gap():
    late = arrays_of([(7, 1, 10, 0), (8, 1, 4, 0)])  # order of arrival, as a service saw it
    assert state_at(late, [0], [2], [6], 2).history_gaps.tolist() == [[0, 2]]


def test_context_of_a_visit_that_has_just_begun():
    gaps = np.array([[0, 5, 1800], [0, 1799, 2]], np.float32)
    types = np.array([[0, 1, 1], [0, 1, 1]])
    np.testing.assert_allclose(derive_context(types, gaps), np.log1p([[0, 0.5], [2, 0]]), rtol=1e-6)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.integers(1, 9), st.integers(0, 2**32))
def test_batch_equals_single(lengths: list[int], window: int, seed: int):
    rng = np.random.default_rng(seed)
    users = [[(int(rng.integers(9)), 1, float(t), float(rng.random())) for t in np.cumsum(rng.integers(0, 4000, n))] for n in lengths]
    if not sum(lengths):
        return
    arrays = arrays_of(*users)
    user = rng.integers(0, len(lengths), 7)
    history_end = arrays.user_start[user] + [int(rng.integers(0, lengths[u] + 1)) for u in user]
    clock = (arrays.time[np.maximum(history_end - 1, 0)] + 5 * SECOND) / SECOND
    batch = state_at(arrays, list(user), list(history_end), list(clock), window)
    for i in range(7):
        single = state_at(arrays, [user[i]], [history_end[i]], [clock[i]], window)
        for together, alone in zip(batch, single, strict=True):
            np.testing.assert_array_equal(together[i : i + 1], alone)
