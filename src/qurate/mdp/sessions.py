"""Visits: which rows of a customer belong together."""

import numpy as np
from numpy.typing import NDArray

from qurate.types import SESSION_GAP_US, IntArray


def order_rows(user: NDArray[np.int32], time: IntArray, order: IntArray) -> IntArray:
    """Positions that sort rows by user, then time, then `order`; equal rows keep their places.

    Args:
        user: [E] user numbers.
        time: [E] microseconds.
        order: [E] tie-breaker; rows that already stand in this order are sorted several times faster.
    """
    if not len(user):
        return np.empty(0, np.int64)
    first, span = int(time.min()), int(time.max()) - int(time.min())
    bits = span.bit_length()
    if bits + int(user.max()).bit_length() > 62:
        return np.lexsort((order, time, user))
    key = (user.astype(np.int64) << bits) | (time - first)
    if np.all(order[1:] >= order[:-1]):
        return np.argsort(key, kind="stable")
    return np.lexsort((order, key))


def number_visits(user: NDArray[np.int32], time: IntArray, session: NDArray[np.int32], gap_us: int = SESSION_GAP_US) -> NDArray[np.int32]:
    """Visit numbers int32 [E] of rows sorted by user, then time or arrival; a visit belongs to one user.

    A row with a session id belongs to the visit of that id, also where two visits of a user interleave; rows without
    one form visits that end with a pause of `gap_us` or more. A row that arrives late, with a time older than that of
    the rows before it, belongs to the visit that is under way and ends none.

    Args:
        user: [E] user numbers, ascending.
        time: [E] microseconds; within a user ascending but for late arrivals.
        session: [E] session codes, -1 where the log has none.
        gap_us: microseconds of silence that end a visit.
    """
    if not len(user):
        return np.empty(0, np.int32)
    new = np.empty(len(user), bool)
    new[0] = True
    named = session >= 0
    same_user = user[1:] == user[:-1]
    new[1:] = ~same_user | (session[1:] != session[:-1])
    if not named.all():
        silence = np.diff(time)
        if np.any((silence < 0) & same_user):
            silence = time[1:] - _newest(user, time)[:-1]
        new[1:] |= (silence >= gap_us) & ~named[1:]
    run = np.cumsum(new) - 1
    starts = np.flatnonzero(new)
    if not named.any():
        return run.astype(np.int32)
    key = user[starts].astype(np.int64) * (int(session.max()) + 1) + session[starts]
    key[session[starts] < 0] = -1 - np.flatnonzero(session[starts] < 0)  # runs without an id stay on their own
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    if len(first) == len(starts):
        return run.astype(np.int32)
    same = first[inverse]  # the first run of the same session
    number = np.cumsum(same == np.arange(len(starts))) - 1
    visit: NDArray[np.int32] = number[same][run].astype(np.int32)
    return visit


def _newest(user: NDArray[np.int32], time: IntArray) -> IntArray:
    """[E] microseconds: the largest time of each row's user up to that row, for ascending users."""
    order = np.argsort(time, kind="stable")
    rank = np.empty(len(time), np.int64)
    rank[order] = np.arange(len(time))
    base = user.astype(np.int64) * len(time)  # a later user's ranks are above all earlier ones, so that one maximum serves all
    newest: IntArray = time[order[np.maximum.accumulate(base + rank) - base]]
    return newest
