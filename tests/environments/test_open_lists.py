"""The table of what is open equals asking the availability at every moment."""

import numpy as np

from qurate.environments.arrivals import EPOCH_US
from qurate.environments.open_lists import open_lists
from qurate.types import ALWAYS, NEVER, Availability


def test_at_every_moment_the_open_items() -> None:
    since = np.array([NEVER, ALWAYS, 10, 10, 20, 30])
    until = np.array([NEVER, 20, 15, NEVER, 30, 40])
    availability = Availability(since, until)
    lists = open_lists(availability, 3)
    assert lists is not None
    for clock in (0, 9, 10, 14, 15, 19, 20, 29, 30, 39, 40, 1_000):
        items, mask = lists.at(np.array([clock]))[:2]
        expected = availability.open_items(clock)
        assert items[0][mask[0] > 0].tolist() == expected.tolist(), clock
        assert items[0].tolist() == [*expected, *[0] * (3 - len(expected))]


def test_no_table_where_more_are_open_than_the_lists_hold() -> None:
    availability = Availability(np.array([NEVER, 0, 5, 9]), np.array([NEVER, 10, 10, 10]))
    assert open_lists(availability, 2) is None and open_lists(availability, 3) is not None


def test_whether_something_is_always_open_once_customers_come() -> None:
    for second, last, expected in ((2, NEVER, True), (3, NEVER, False), (2, EPOCH_US + 9, False)):
        since, until = np.array([NEVER, EPOCH_US - 9, EPOCH_US + second]), np.array([NEVER, EPOCH_US + 2, last])
        lists = open_lists(Availability(since, until), 2)
        assert lists is not None and lists.never_empty is expected
    late = open_lists(Availability(np.array([NEVER, EPOCH_US + 1]), np.array([NEVER, NEVER])), 2)
    assert late is not None and not late.never_empty
