"""Visits: which rows of a customer belong together."""

import numpy as np
from numpy.typing import NDArray

from qurate.mdp.types import SESSION_GAP_US, IntArray


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
    """Visit numbers int32 [E] of rows sorted by user and time; a visit belongs to one user.

    A row with a session id belongs to the visit of that id, also where two visits of a user interleave; rows without
    one form visits that end with a pause of `gap_us` or more.

    Args:
        user: [E] user numbers, ascending.
        time: [E] microseconds.
        session: [E] session codes, -1 where the log has none.
        gap_us: microseconds of silence that end a visit.
    """
    if not len(user):
        return np.empty(0, np.int32)
    new = np.empty(len(user), bool)
    new[0] = True
    named = session >= 0
    pause = np.diff(time) >= gap_us
    new[1:] = (np.diff(user) != 0) | (np.diff(session) != 0) | (pause & ~named[1:])
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
