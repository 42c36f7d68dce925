"""Visits by hand, and against a plain loop over rows that arrive out of order."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from mdp_logs import SECOND, decision, event, make_log

from qurate.mdp.dataset import build_dataset
from qurate.mdp.sessions import number_visits
from qurate.types import SESSION_GAP_US


def visits(user: list[int], seconds: list[float], session: list[int] | None = None) -> list[int]:
    time = np.array([round(s * SECOND) for s in seconds], np.int64)
    return number_visits(np.array(user, np.int32), time, np.array(session or [-1] * len(user), np.int32)).tolist()


def test_a_pause_of_exactly_30_minutes_starts_a_new_visit():
    assert visits([0, 0, 0], [0, 1800, 3600 - 1e-6]) == [0, 1, 1]


def test_a_late_event_does_not_split_a_visit():
    """The row of second 10 arrives an hour late; the pause that counts is the one since the newest row."""
    assert visits([0, 0, 0, 0], [0, 4000, 10, 4010]) == [0, 1, 1, 1]
    assert visits([0, 0, 0, 0], [0, 4000, 10, 5800]) == [0, 1, 1, 2]  # 1800 s after second 4000
    assert visits([0, 0, 1, 1, 1], [9000, 8000, 100, 50, 1850]) == [0, 0, 1, 1, 1]  # another user's times do not count


def test_rows_with_a_session_id_are_not_split_by_a_pause():
    assert visits([0, 0, 0, 0], [0, 9000, 9001, 9002], [0, 0, 1, 0]) == [0, 0, 1, 0]


def test_an_event_that_reaches_the_service_late_leaves_the_visit_whole():
    decisions = [decision(f"d{i}", "u", ["a", "b"], 5000 + 60 * i, as_of=as_of) for i, as_of in enumerate([0, 1, 2])]
    rows = [event("u", "a", 5001, decision_id="d0"), event("u", "b", 20), event("u", "b", 5070, decision_id="d1")]
    dataset = build_dataset(make_log(rows, decisions, "logged"), {"click": 1})
    assert dataset.transitions.clock.tolist() == [5000 * SECOND, 5060 * SECOND, 5120 * SECOND]
    assert dataset.state_visit.tolist() == [0, 0, 0]


def plain_visits(user: np.ndarray, time: np.ndarray, session: np.ndarray) -> list[int]:
    """Row by row: a new visit at another user or session, or after a pause since the user's newest row."""
    numbers: list[int] = []
    of_session: dict[tuple[int, int], int] = {}
    newest, count = 0, 0
    for i in range(len(user)):
        known = i > 0 and user[i] == user[i - 1]
        key = (int(user[i]), int(session[i]))
        if session[i] >= 0 and key in of_session:
            numbers.append(of_session[key])
        elif session[i] < 0 and known and session[i - 1] < 0 and time[i] - newest < SESSION_GAP_US:
            numbers.append(numbers[-1])
        else:
            of_session[key] = count
            numbers.append(count)
            count += 1
        newest = max(newest, int(time[i])) if known else int(time[i])
    return numbers


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.booleans(), st.booleans())
def test_visits_equal_a_plain_loop(seed: int, late: bool, named: bool):
    rng = np.random.default_rng(seed)
    user = np.sort(rng.integers(0, 4, 50)).astype(np.int32)
    time = rng.integers(0, 20, 50) * 600 * SECOND
    if not late:
        time = time[np.lexsort((time, user))]
    session = np.where(rng.random(50) < 0.5 * named, rng.integers(0, 3, 50), -1).astype(np.int32)
    assert number_visits(user, time, session).tolist() == plain_visits(user, time, session)
