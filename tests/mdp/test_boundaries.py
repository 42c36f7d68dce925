"""Equality at each boundary in time: the cut, a window, a pause, the end of the log."""

import numpy as np
import pytest
from mdp_logs import SECOND, decision, event, make_log

from qurate.mdp.dataset import Dataset, build_dataset
from qurate.mdp.rewards import resolve_rewards
from qurate.mdp.splits import split_by_column, split_by_time
from qurate.mdp.states import derive_context
from qurate.types import CENSORED, CONTINUES, TERMINATED, TEST, TRAIN, VALID

DAY = 86_400
MICRO = 1 / SECOND


def cut_of(dataset: Dataset) -> float:
    return dataset.manifest["splits"]["cuts_us"][0] / SECOND


def rest(n: int = 40) -> list[dict]:
    """Decisions of a later customer, among which the cut falls."""
    return [decision(f"z{i}", "z", ["a", "b"], 90_000 + i) for i in range(n)]


CUT = 90_031.0
"""With one or two decisions before `rest()`, the first that does not train is its 32nd."""


@pytest.mark.parametrize(("item", "share"), [("a", 1.0), (None, 0.5)])
def test_an_event_at_the_cut_is_not_known_to_training_and_one_just_before_is(item: str | None, share: float):
    for at, credited in ((CUT - MICRO, share), (CUT, 0.0)):
        log = make_log([event("u", item, at, decision_id="d")], [decision("d", "u", ["a", "b"], 0), *rest()], "exposure")
        dataset = build_dataset(log, {"click": 1})
        assert cut_of(dataset) == CUT
        assert dataset.transitions.reward[0, 0] == credited
        assert dataset.manifest["credit"]["events"]["after_the_cut"] == (credited == 0)


def test_silence_is_observed_once_an_answer_at_the_end_of_the_window_would_be_known():
    """An answer counts up to 1,800 s after; with the cut at 1,800 s after, the last of them would not be known."""
    for at, silent in ((CUT - 1800, 0), (CUT - 1800 - MICRO, 1)):
        log = make_log([event("z", "a", 90_001, decision_id="z0")], [decision("d", "u", ["a", "b"], at), *rest()], "exposure")
        dataset = build_dataset(log, {"click": 1, "no_response": -1})
        assert cut_of(dataset) == CUT and dataset.transitions.reward[:2, 1].tolist() == [silent] * 2


def test_an_answer_of_the_same_microsecond_belongs_to_the_decision():
    dataset = build_dataset(make_log([event("u", "a", 7)], [decision("d", "u", ["b", "a"], 7), *rest()], "exposure"), {"click": 1})
    assert dataset.transitions.reward[:2, 0].tolist() == [0, 1]


def test_an_item_shown_to_one_customer_earns_nothing_from_the_next_ones_event():
    """User v has no decision, so that the row before v's event in the order of users and items is u's."""
    dataset = build_dataset(make_log([event("v", "a", 1)], [decision("d", "u", ["a"], 0), *rest()], "exposure"), {"click": 1})
    assert dataset.transitions.reward[0, 0] == 0 and dataset.manifest["credit"]["click"]["credited"] == 0


def test_leaving_is_shared_by_the_items_of_the_last_list():
    decisions = [decision("d0", "u", ["a"], 0), decision("d", "u", ["a", "b"], 1)]
    decisions += [decision(f"z{i}", "z", ["a", "b"], 50 * DAY + i) for i in range(20)]
    log = make_log([event("u", "a", 2)], decisions, "exposure")
    steps = build_dataset(log, {"click": 1, "leave": -3}, episode="user", churn_after="30d").transitions
    assert steps.reward[:3, 1].tolist() == [0, 0.5, 0.5]


@pytest.mark.parametrize(("earlier", "end"), [(0.0, CENSORED), (MICRO, TERMINATED)])
def test_whoever_was_silent_for_exactly_churn_after_is_not_gone(earlier: float, end: int):
    others = [event("z", "ab"[i % 2], (60 + i) * DAY) for i in range(20)]
    rows = [event("u", "a", 0), event("u", "b", 1)]
    cut = cut_of(build_dataset(make_log([*rows, *others]), episode="user"))
    rows[1] = event("u", "b", cut - 10 * DAY - earlier)
    dataset = build_dataset(make_log([*rows, *others]), episode="user", churn_after="10d")
    assert cut_of(dataset) == cut and dataset.transitions.end[0] == end
    assert dataset.manifest["episode"]["churn_after_s"] == 10 * DAY


def test_whoever_was_shown_something_was_there_even_without_an_event():
    """Lists leave no history row: the decisions themselves say that u was there five days before the end."""
    decisions = [decision(f"d{i}", "u", ["a", "b"], at * DAY) for i, at in enumerate((0, 1, 55))]
    decisions += [decision(f"z{i}", "z", ["a", "b"], at * DAY) for i, at in enumerate((*range(20), 60))]
    steps = build_dataset(make_log([event("z", "a", 2)], decisions, "exposure"), episode="user", churn_after="10d").transitions
    last = np.flatnonzero(steps.user[steps.state] == 0)[-1]
    assert steps.clock[steps.state[last]] == 55 * DAY * SECOND and steps.end[last] == CENSORED


@pytest.mark.parametrize(("later", "end"), [(0.0, TERMINATED), (MICRO, CENSORED)])
def test_a_visit_that_was_silent_for_exactly_30_minutes_at_the_cut_is_over(later: float, end: int):
    others = [event(f"z{i}", "ab"[j], 50_000 + 7200 * i + j) for i in range(20) for j in range(2)]
    rows = [event("u", "a", 0), event("u", "b", 1)]
    cut = cut_of(build_dataset(make_log([*rows, *others]), episode="session"))
    rows = [event("u", "a", cut - 1801), event("u", "b", cut - 1800 + later)]
    dataset = build_dataset(make_log([*rows, *others]), episode="session")
    assert cut_of(dataset) == cut and dataset.transitions.end[0] == end


def test_a_visit_that_goes_on_in_the_last_moment_of_the_log_is_censored_for_those_who_do_not_know_that_moment():
    """Nine decisions in one visit: the test period is the last moment alone, which validation does not know."""
    steps = build_dataset(make_log([event("u", "ab"[i % 2], i) for i in range(10)]), episode="session").transitions
    assert steps.split.tolist() == [TRAIN] * 7 + [VALID, TEST]
    assert steps.end.tolist() == [CONTINUES] * 6 + [CENSORED, CENSORED, TERMINATED]


def test_an_item_first_seen_at_the_cut_is_not_known_to_training():
    rows = [event("u", "ab"[i % 2], i) for i in range(21)]  # decisions at 1 to 20, the cut at 17
    for at, known in ((17, 2), (16, 3)):
        rows[at] = event("u", "z", at)
        dataset = build_dataset(make_log(rows))
        assert cut_of(dataset) == 17 and dataset.n_ever_available == known
        rows[at] = event("u", "ab"[at % 2], at)


def test_an_item_only_offered_after_the_cut_is_not_known_to_training():
    decisions = [decision(f"d{i}", "u", ["a"], i, propensity=[0.5], candidates=["a", "b"]) for i in range(20)]
    for at, known in ((19, 2), (3, 3)):
        offered = [{**d, "candidates": ["a", "b", "z"]} if i == at else d for i, d in enumerate(decisions)]
        dataset = build_dataset(make_log([event("u", "a", 0.5, decision_id="d0")], offered, "logged"))
        assert dataset.n_ever_available == known


def test_rows_without_a_split_train():
    assert split_by_column(np.array([255, TRAIN, VALID, TEST, 255], np.uint8)).of.tolist() == [TRAIN, TRAIN, VALID, TEST, TRAIN]
    rows = [event("u", item, i, split=split) for i, (item, split) in enumerate(zip("aabz", [None, "train", None, "test"], strict=True))]
    dataset = build_dataset(make_log(rows))
    assert dataset.transitions.split.tolist() == [TRAIN, TRAIN, TEST]
    assert dataset.n_ever_available == 2, "b, whose row names no split, was there in training; z was not"


def test_where_most_times_are_equal_the_earliest_trains():
    split = split_by_time(np.array([5] * 9 + [9]))
    assert split.of.tolist() == [TRAIN] * 9 + [TEST] and split.cuts == (9, 9)
    assert split_by_time(np.array([5])).of.tolist() == [TRAIN]


def test_an_answer_that_stands_before_its_decision_means_that_the_tables_have_no_common_order():
    """Row numbers of two tables: d1's answer is row 0 and d1 row 1. In the same second decisions come first, or d1 would see it."""
    decisions = [decision("d0", "u", ["a", "b"], 10, row=0), decision("d1", "u", ["a", "b"], 10, row=1)]
    rows = [event("u", "a", 10, decision_id="d1"), event("u", "b", 10, decision_id="d0")]
    steps = build_dataset(make_log(rows, decisions, "exposure"), {"click": 1}).transitions
    assert steps.history_end.tolist() == [0, 0]


def test_a_minute_watched_is_worth_at_most_sixty_seconds_by_default():
    watch = resolve_rewards(None, ["watch"], "organic", False)["watch"]
    assert watch.weight == 0.01 and watch.amount(np.array([20.0, 60.0, 3600.0])).tolist() == [20, 60, 60]


def test_a_pause_of_exactly_30_minutes_begins_the_visit_wherever_it_stands_in_the_window():
    gaps = np.array([[1800, 5, 2], [1799, 5, 2], [5, 1800, 2]], np.float32)
    expected = np.log1p([[2, 0.5], [3, 0], [1, 0.5]])
    np.testing.assert_allclose(derive_context(np.ones((3, 3), np.int64), gaps), expected, rtol=1e-6)
