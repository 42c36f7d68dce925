"""Ids of decisions."""

import time

from qurate.decision import new_ids


def test_ids_are_32_hexadecimal_digits_that_differ_and_grow_with_time() -> None:
    before, first, second = time.time_ns() // 1_000_000, new_ids(100), None
    while second is None or second[0][:12] == first[0][:12]:
        second = new_ids(100)
    assert len({*first, *second}) == 200
    assert all(len(one) == 32 and int(one, 16) >= 0 and one == one.lower() for one in first + second)
    assert before <= int(first[0][:12], 16) < int(second[0][:12], 16) <= time.time_ns() // 1_000_000
    assert max(first) < min(second)
    assert len({one[12:] for one in first}) == 100, "what is not the time is random"
