"""What happened in a step, from kinds of rows to one table."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from qurate.types import EventRows, FloatArray, IntArray


class Group(NamedTuple):
    """History rows of one kind within a step: m customers, at most one row each."""

    type: int  # event type index
    lanes: IntArray | None  # [m], None = all lanes
    items: IntArray  # [m]
    after: IntArray | int  # [m] microseconds after the decision
    value: FloatArray | None = None  # [m]; only from worlds that have values
    decision: IntArray | None = None  # [m] which decision of the customer led to the row, from 0; None = this one


def event_rows(groups: Sequence[Group], times: Sequence[IntArray], everyone: IntArray, has_values: bool) -> EventRows:
    """The rows of a step, per lane in order of time.

    Args:
        groups: in order of time for each customer.
        times: of each group, [m] microseconds.
        everyone: [B] all lanes.
        has_values: whether any row may have a value.
    """
    if not groups:
        return EventRows(everyone[:0], everyone[:0].astype(np.int32), np.zeros(0, np.uint8), everyone[:0], np.zeros(0, np.float32))
    if len(groups) == 1:
        group, when = groups[0], times[0]
        kind, value = np.empty(len(when), np.uint8), np.zeros(len(when), np.float32) if group.value is None else group.value
        kind.fill(group.type)
        return EventRows(everyone if group.lanes is None else group.lanes, group.items.astype(np.int32), kind, when, value)
    lanes = [everyone if group.lanes is None else group.lanes for group in groups]
    sizes = [len(own) for own in lanes]
    kind = np.array([group.type for group in groups], np.uint8).repeat(sizes)
    items = np.concatenate([group.items for group in groups]).astype(np.int32)
    if has_values:
        values = [np.zeros(size, np.float32) if group.value is None else group.value for group, size in zip(groups, sizes)]
        value = np.concatenate(values)
    else:
        value = np.zeros(len(items), np.float32)
    return EventRows(np.concatenate(lanes), items, kind, np.concatenate(times), value)
