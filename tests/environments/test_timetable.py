"""Items that come and go, by hand."""

import datetime as dt

import numpy as np

from qurate.environments.arrivals import EPOCH_US
from qurate.environments.timetable import SECOND, AgeTable, first_open, times, timetable, with_zero
from qurate.types import NEVER


def test_the_first_items_are_those_open_at_the_beginning_or_later() -> None:
    since, length = np.array([7, -5, 3, -5, -9, 3]), np.array([1, 6, 1, 5, 30, 1])
    assert first_open(since, length, 10).tolist() == [4, 1, 2, 5, 0], "item 3 ends when the timetable begins"
    assert first_open(since, length, 3).tolist() == [4, 1, 2]


def test_what_is_open_when_the_last_item_begins_stays_open() -> None:
    availability = timetable(np.array([-10, 0, 20, 50]), np.array([61, 50, 10, 5]))
    assert availability.since.tolist() == [NEVER, EPOCH_US - 10, EPOCH_US, EPOCH_US + 20, EPOCH_US + 50]
    assert availability.until.tolist() == [NEVER, NEVER, EPOCH_US + 50, EPOCH_US + 30, NEVER]


def test_times_as_an_export_has_them() -> None:
    columns = times(timetable(np.array([0, 10 * SECOND]), np.array([5 * SECOND, SECOND])))
    begin = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    assert columns["available_from"].to_list() == [begin, begin + dt.timedelta(seconds=10)]
    assert columns["available_until"].to_list() == [begin + dt.timedelta(seconds=5), None]


def test_a_value_for_every_age() -> None:
    table = AgeTable(np.array([[0, 0, 0], [1, 2, 3], [4, 5, 6]], np.float32), np.array([NEVER, 100, 200]), 60)
    assert table.at(np.array([1, 1, 2]), 100 + np.array([0, 60 * SECOND - 1, 160 * SECOND])).tolist() == [1, 1, 6]
    assert table.at(np.array([[1, 2]]), 200 + np.array([[60 * SECOND], [10**15]])).tolist() == [[2, 5], [3, 6]]
    assert with_zero(np.array([2.5])).tolist() == [0, 2.5]
