"""Availability by hand: from `since`, that moment included, until `until`, that moment not."""

import numpy as np

from qurate.types import ALWAYS, NEVER, Availability

CATALOGUE = Availability(np.array([NEVER, ALWAYS, 10, 20, 20, NEVER]), np.array([NEVER, NEVER, 30, NEVER, 40, NEVER]))


def test_what_has_begun_and_what_is_open() -> None:
    assert CATALOGUE.ends and CATALOGUE.n_ever == 4
    assert CATALOGUE.n_begun(np.array([-5, 9, 10, 19, 20, 10**6])).tolist() == [1, 1, 2, 2, 4, 4]
    for clock, items in ((9, [1]), (10, [1, 2]), (20, [1, 2, 3, 4]), (29, [1, 2, 3, 4]), (30, [1, 3, 4]), (40, [1, 3])):
        assert CATALOGUE.open_items(clock).tolist() == items
        every = np.arange(6)
        assert np.flatnonzero(CATALOGUE.is_open(every, np.full(6, clock))).tolist() == items, "item 0 and what never comes are not open"


def test_a_catalogue_that_is_always_there() -> None:
    always = Availability.always(3)
    assert not always.ends and always.n_ever == 3
    assert always.open_items(-(10**18)).tolist() == [1, 2, 3]
    assert always.is_open(np.arange(4), np.zeros(4, np.int64)).tolist() == [False, True, True, True]
