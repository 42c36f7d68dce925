import numpy as np

from qurate.mdp import shortlists
from qurate.mdp.clocks import COLUMNS, SECONDS
from qurate.mdp.shortlists import Shortlists, asked_at, distinct, last_item
from qurate.types import EventArrays

MINUTE = 60_000_000


def events(seed=0, visits=400, n_items=300):
    """Visits of three rows, whose items move on with time."""
    rng = np.random.default_rng(seed)
    start = np.sort(rng.integers(0, 3_000, visits)) * MINUTE
    time = (start[:, None] + np.arange(3) * MINUTE).ravel()
    item = 1 + (np.repeat(start // MINUTE, 3) // 15 + rng.integers(0, 60, 3 * visits)) % n_items
    arrays = EventArrays(
        item.astype(np.int32), np.ones(len(time), np.uint8), time, np.zeros(len(time), np.float32), np.arange(0, len(time) + 1, 3)
    )
    return arrays, np.repeat(np.arange(visits), 3).astype(np.int32), n_items


def popular(arrays, clock, half_life):
    """The most popular items strictly before a moment, by the definition."""
    before = arrays.time < clock
    count = np.bincount(arrays.item[before], 0.5 ** ((clock - arrays.time[before]) / 1e6 / half_life), minlength=301)
    return count


def test_the_most_popular_are_those_of_the_definition():
    arrays, visit, n = events()
    lists = Shortlists.of(arrays, visit, n)
    for cell in (5, 700, len(lists.grid) - 1):
        for h, half_life in enumerate(SECONDS):
            count = popular(arrays, lists.grid[cell], half_life)
            found = lists.top[cell, h][lists.top[cell, h] > 0]
            expected = np.sort(count)[::-1][: len(found)]
            np.testing.assert_allclose(count[found], expected, rtol=1e-9)
            assert len(found) == min(shortlists.TOP, (count > 0).sum())


def test_a_list_has_the_window_what_others_chose_next_and_what_is_popular():
    arrays, visit, n = events(1)
    lists, clock = Shortlists.of(arrays, visit, n), 2_000 * MINUTE
    last = int(arrays.item[arrays.time < clock][-1])
    history = np.array([[0, 299, last]])
    row = lists.candidates(history, np.array([clock]))[0]
    source, target = arrays.item.reshape(-1, 3)[:, :2].ravel(), arrays.item.reshape(-1, 3)[:, 1:].ravel()
    moved = (arrays.time.reshape(-1, 3)[:, 1:].ravel() < clock) & (source == last) & (target != last)
    assert {299, last} <= set(row) and set(target[moved][-shortlists.PARTNERS :]) <= set(row)
    assert set(lists.top[np.searchsorted(lists.grid, clock, "right") - 1].ravel()) - {0} <= set(row)
    assert (np.diff(row[row > 0]) > 0).all()


def test_a_list_and_its_values_know_nothing_later():
    arrays, visit, n = events(2)
    clock = np.full(4, arrays.time[600])
    history = np.arange(1, 5)[:, None] + np.zeros((4, 3), np.int64)
    moved = arrays.time >= clock[0]
    shifted = EventArrays(
        arrays.item, arrays.type, np.where(moved, arrays.time + 5_000 * MINUTE, arrays.time), arrays.value, arrays.user_start
    )
    one, other = (Shortlists.of(a, visit, n) for a in (arrays, shifted))
    assert other.grid[-1] > one.grid[-1] > clock[0]
    lists = [x.candidates(history, clock) for x in (one, other)]
    np.testing.assert_array_equal(*lists)
    np.testing.assert_array_equal(*(x.values(lists[0], history, clock) for x in (one, other)))


def test_before_the_log_only_the_window_is_offered():
    arrays, visit, n = events(3)
    lists = Shortlists.of(arrays, visit, n)
    history = np.array([[0, 7, 3], [0, 0, 0]])
    np.testing.assert_array_equal(lists.candidates(history, np.array([-1, -1])), [[3, 7], [0, 0]])
    values = lists.values(np.array([[3, 7]]), history[:1], np.array([-1]))
    assert values.shape == (1, 2, len(COLUMNS)) and (values[:, :, :-1] == 0).all() and np.isnan(values[:, :, -1]).all()


def test_late_lists_are_those_of_earlier():
    arrays, visit, n = events(4)
    lists, history, clock = Shortlists.of(arrays, visit, n), np.array([[1, 2]]), np.array([2_000 * MINUTE])
    late = lists.late(60 * MINUTE)
    np.testing.assert_array_equal(late.candidates(history, clock), lists.candidates(history, clock - 60 * MINUTE))


def test_distinct_and_last():
    np.testing.assert_array_equal(distinct(np.array([[3, 0, 1, 3], [0, 0, 0, 0]])), [[1, 3], [0, 0]])
    np.testing.assert_array_equal(last_item(np.array([[0, 4, 0], [0, 0, 0], [1, 2, 3]])), [4, 0, 3])


def test_a_decision_asks_right_after_the_last_event_of_its_customer():
    """So that this event counts, as it does in a service; where the next one bears the same time, neither counts."""
    time = np.array([100, 200, 200, 300, 50], np.int64)
    arrays = EventArrays(np.ones(5, np.int32), np.ones(5, np.uint8), time, np.zeros(5, np.float32), np.array([0, 4, 5]))
    end, user = np.array([1, 2, 3, 4, 5]), np.array([0, 0, 0, 0, 1])
    asked = asked_at(time[end - 1], end, user, arrays)
    np.testing.assert_array_equal(asked, [101, 200, 201, 301, 51])
