"""Rows of a step from its kinds."""

import numpy as np

from qurate.environments.history_rows import Group, event_rows

EVERYONE = np.arange(3)


def table(groups: list[Group], times: list[np.ndarray], has_values: bool) -> list[list[float]]:
    return [column.tolist() for column in event_rows(groups, times, EVERYONE, has_values)]


def test_rows_stand_group_after_group() -> None:
    shown = Group(2, None, np.array([7, 8, 9]), 0)
    watch = Group(5, np.array([1]), np.array([8]), 4, np.array([2.5], np.float32))
    now, then = np.array([10, 20, 30]), np.array([24])
    assert table([shown, watch], [now, then], True) == [[0, 1, 2, 1], [7, 8, 9, 8], [2, 2, 2, 5], [10, 20, 30, 24], [0, 0, 0, 2.5]]
    assert table([shown], [now], True) == [[0, 1, 2], [7, 8, 9], [2, 2, 2], [10, 20, 30], [0, 0, 0]]
    assert table([watch], [then], True) == [[1], [8], [5], [24], [2.5]]
    assert table([shown, watch._replace(value=None)], [now, then], False)[4] == [0, 0, 0, 0]
    assert table([], [], True) == [[], [], [], [], []]
    rows = event_rows([shown, watch], [now, then], EVERYONE, True)
    assert [rows.lane.dtype, rows.item.dtype, rows.type.dtype, rows.time.dtype, rows.value.dtype] == [
        np.int64, np.int32, np.uint8, np.int64, np.float32,
    ]  # fmt: skip
