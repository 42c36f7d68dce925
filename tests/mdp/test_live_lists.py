import numpy as np
import pytest
from test_shortlists import MINUTE, events

from qurate.mdp.live_lists import LiveLists
from qurate.mdp.shortlists import Shortlists
from qurate.types import EventArrays


def cut(arrays, visit, end):
    """The log before a moment."""
    kept = arrays.time < end
    start = np.concatenate([[0], np.cumsum(kept)])[arrays.user_start]
    return EventArrays(arrays.item[kept], arrays.type[kept], arrays.time[kept], arrays.value[kept], start), visit[kept]


def replay(live, arrays, visit, since):
    """Adds the events from a moment on, in the order of time."""
    for row in np.argsort(arrays.time, kind="stable"):
        if arrays.time[row] >= since:
            previous = int(arrays.item[row - 1]) if row and visit[row - 1] == visit[row] else 0
            live.add(int(arrays.item[row]), int(arrays.time[row]), previous)
    return live


@pytest.mark.parametrize("seconds", [0.0, 1.0, 61.0, 86_400.0])
def test_events_one_by_one_give_the_lists_of_the_whole_log(seconds):
    arrays, visit, n = events(1)
    half, whole = 1_500 * MINUTE, Shortlists.of(arrays, visit, n)
    live = replay(LiveLists.at_end(Shortlists.of(*cut(arrays, visit, half), n)), arrays, visit, half)
    clock = np.full(50, arrays.time.max() + 1 + round(seconds * 1e6))
    history = np.random.default_rng(0).integers(0, n + 1, (50, 4))
    listed = whole.candidates(history, clock)
    np.testing.assert_array_equal(live.candidates(history, clock), listed)
    values = live.values(listed, history, clock)
    np.testing.assert_array_equal(values, whole.values(listed, history, clock))
    assert (values[:, :, 4:8] > 0).any()


def test_saved_and_loaded_it_goes_on_alike():
    arrays, visit, n = events(2)
    live = LiveLists.at_end(Shortlists.of(*cut(arrays, visit, 1_500 * MINUTE), n))
    again = LiveLists.from_saved({name: np.copy(a) for name, a in live.saved().items()}, n)
    for one in (live, again):
        replay(one, arrays, visit, 1_500 * MINUTE)
    history, clock = np.array([[1, 2], [0, 9]]), np.full(2, 4_000 * MINUTE)
    listed = live.candidates(history, clock)
    np.testing.assert_array_equal(listed, again.candidates(history, clock))
    np.testing.assert_array_equal(live.values(listed, history, clock), again.values(listed, history, clock))
    with pytest.raises(ValueError, match="another catalogue"):
        LiveLists.from_saved(live.saved(), n + 1)
    for wrong in (-1, n + 1):
        with pytest.raises(ValueError, match="another catalogue"):
            LiveLists.from_saved(live.saved() | {"items": np.full_like(live.saved()["items"], wrong)}, n)


def test_an_item_is_a_candidate_from_its_first_event_on():
    arrays, visit, n = events(3)
    live, new = LiveLists.at_end(Shortlists.of(arrays, visit, n + 1)), n + 1
    end = int(arrays.time.max())
    history, clock = np.array([[0, 5]]), np.array([end + 3 * MINUTE])
    assert new not in live.candidates(history, clock)
    for _ in range(20):
        live.add(new, end + MINUTE, 5)
    listed = live.candidates(history, clock)
    values = live.values(listed, history, clock)[0, np.flatnonzero(listed[0] == new)[0]]
    assert values[0] == pytest.approx(20 * 0.5 ** (2 / 15)) and values[4] == values[0] and values[-1] == pytest.approx(2 / 60)


@pytest.mark.parametrize("seed", range(4))
def test_the_end_of_a_log_without_any_further_event(seed):
    """Also within the minute of its last event, for which the lists of that minute are not closed yet."""
    arrays, visit, n = events(seed)
    whole = Shortlists.of(arrays, visit, n)
    for seconds in (0, 1, 61):
        clock = np.full(5, arrays.time.max() + 1 + seconds * 1_000_000)
        history = np.random.default_rng(seed).integers(0, n + 1, (5, 4))
        np.testing.assert_array_equal(LiveLists.at_end(whole).candidates(history, clock), whole.candidates(history, clock))


@pytest.mark.parametrize("late", [0, 45 * MINUTE])
def test_late_counters_after_a_log_are_those_within_it(late):
    """Events that come `late` and requests at a later clock: the lists and values of the log at that clock."""
    arrays, visit, n = events(4)
    whole, known = Shortlists.of(arrays, visit, n, late), 2_000 * MINUTE
    live = replay(LiveLists.at_end(Shortlists.of(*cut(arrays, visit, 1_500 * MINUTE), n, late)), *cut(arrays, visit, known), 1_500 * MINUTE)
    history, clock = np.random.default_rng(0).integers(0, n + 1, (5, 4)), np.full(5, known + late)
    listed = whole.candidates(history, clock)
    np.testing.assert_array_equal(live.candidates(history, clock), listed)
    np.testing.assert_array_equal(live.values(listed, history, clock), whole.values(listed, history, clock))
    again = LiveLists.from_saved(live.saved(), n)
    np.testing.assert_array_equal(again.values(listed, history, clock), whole.values(listed, history, clock))


def test_the_most_popular_items_change_with_the_minute_of_an_event():
    """An event in a new minute closes the one before; one of the same minute does not."""
    arrays, visit, n = events(5)
    live = LiveLists.at_end(Shortlists.of(arrays, visit, n))
    end, before = int(live.minute[1]), live.top.copy()
    live.add(n, end - 1, 0)
    np.testing.assert_array_equal(live.top, before)
    for _ in range(50):
        live.add(n, end, 0)
    live.add(n, end + MINUTE, 0)
    assert live.top[0, 0] == n and live.minute[1] == end + 2 * MINUTE


def test_a_repeat_is_no_move():
    arrays, visit, n = events(6)
    live = LiveLists.at_end(Shortlists.of(arrays, visit, n))
    partners, moves = live.partners.copy(), len(live.moves.row)
    live.add(3, int(arrays.time.max()) + 1, 3)
    np.testing.assert_array_equal(live.partners, partners)
    assert len(live.moves.row) == moves
