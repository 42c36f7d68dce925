"""Credit by hand: once, to the right item, and nothing lost."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mdp_logs import decision, event, make_log

from qurate.errors import UserError
from qurate.events.validate import validate
from qurate.mdp.dataset import build_dataset
from qurate.mdp.rewards import Reward, parse_rewards, resolve_rewards, weighted_sum

REST = [decision(f"z{i}", "z", ["a", "b"], 90_000 + i) for i in range(40)]
"""Decisions of another customer, far later, so that the cuts do not fall into the case at hand."""


def rewards_of(rows: list[dict], decisions: list[dict], rewards, **more) -> tuple[list, dict]:
    dataset = build_dataset(make_log(rows, [*decisions, *REST], "exposure"), rewards, **more)
    steps = dataset.transitions
    mine = steps.user[steps.state] == 0
    return np.round(steps.reward[mine].astype(float), 4).tolist(), dataset.manifest["credit"]


def test_an_event_that_names_its_decision_belongs_to_it_however_late():
    decisions = [decision("d1", "u", ["a", "b"], 0), decision("d2", "u", ["a", "b"], 60)]
    rewards, report = rewards_of([event("u", "a", 50_000, "purchase", decision_id="d1")], decisions, {"purchase": 5})
    assert rewards == [[1], [0], [0], [0]]
    assert report["purchase"] == {"total": 1, "credited": 1, "uncredited": 0}


def test_other_events_go_to_the_last_decision_that_showed_the_item_within_the_window():
    decisions = [decision("d1", "u", ["a", "b"], 0), decision("d2", "u", ["b", "c"], 60), decision("d3", "u", ["c"], 70)]
    rows = [event("u", "a", 1800), event("u", "b", 61), event("u", "b", 59), event("u", "c", 1871), event("u", "x", 5)]
    rewards, report = rewards_of(rows, decisions, {"click": 1})
    assert rewards == [[1], [1], [1], [0], [0]]  # d1: a, b; d2: b, c; d3: c is 1801 s old
    assert report["click"] == {"total": 5, "credited": 3, "uncredited": 2}
    assert report["events"] == {"credited": 3, "after_the_cut": 0, "no_decision": 2, "not_among_the_shown": 0}


def test_another_customers_event_is_not_credited():
    rewards, _ = rewards_of([event("w", "a", 1)], [decision("d1", "u", ["a", "b"], 0)], {"click": 1})
    assert rewards == [[0], [0]]


def test_another_customers_decision_cannot_be_named():
    decisions = [decision("d1", "u", ["a", "b"], 0), decision("d3", "v", ["a", "b"], 60), decision("d2", "u", ["a", "b"], 90)]
    rows = [event("v", "a", 61, decision_id="d1"), event("w", None, 62, "rating", value=5.0, decision_id="d1")]
    rows += [event("w", "a", 63, decision_id="d2"), event("u", "b", 91, decision_id="d2")]
    dataset = build_dataset(make_log(rows, [*decisions, *REST], "exposure"), {"click": 1, "no_response": 1, "rating": 1})
    steps = dataset.transitions
    assert steps.reward[:6].tolist() == [[0, 1, 0], [0, 1, 0], [0, 1, 0], [1, 0, 0], [1, 0, 0], [0, 1, 0]]  # u: d1, d2; v: d3
    assert dataset.manifest["notes"] == ["3 events name another user's decision and are credited as if they named none"]
    assert dataset.manifest["credit"]["events"] == {"credited": 2, "after_the_cut": 0, "no_decision": 2, "not_among_the_shown": 0}


def test_validate_names_answers_of_another_user():
    decisions = [decision("d1", "u", ["a"], 0), decision("d2", None, ["a"], 0, session_id="s")]
    rows = [event("u", "a", 1, decision_id="d1"), event("v", "a", 2, decision_id="d1")]
    rows += [event(None, "a", 3, session_id="s", decision_id="d2")]  # the session stands for a missing user
    check = next(c for c in validate(make_log(rows, decisions, "exposure"))["checks"] if c["name"] == "same user")
    assert (check["ok"], check["count"], check["rows"]) == (False, 1, [1])


def test_an_item_that_was_not_in_the_list_is_reported():
    rewards, report = rewards_of([event("u", "q", 1, decision_id="d1")], [decision("d1", "u", ["a", "b"], 0)], {"click": 1})
    assert rewards == [[0], [0]]
    assert report["events"]["not_among_the_shown"] == 1


def test_what_is_credited_to_nothing_is_told_when_the_dataset_is_made():
    rows = [event("u", item, 1 + n, decision_id="d1") for n, item in enumerate(["a", "q", "q"])]
    dataset = build_dataset(make_log(rows, [decision("d1", "u", ["a", "b"], 0), decision("d2", "u", ["a"], 9)], "exposure"))
    assert dataset.manifest["notes"] == ["2 events name a decision that did not show their item, and are not credited"]


def test_a_log_without_rewards_names_a_few_types_or_says_that_it_only_shows():
    many = [event("u", "a", n, f"type{n:03d}") for n in range(300)]
    with pytest.raises(UserError, match=r"say for example rewards type000=1; the log has type000, .*type009 and 290 more$"):
        resolve_rewards(None, [row["type"] for row in many], "organic", False)
    with pytest.raises(UserError, match="nothing of what came of it"):
        resolve_rewards(None, [], "logged", False)


def test_an_event_of_a_whole_decision_is_shared_equally():
    row = event("u", None, 9, "rating", value=6.0, decision_id="d1")
    rewards, report = rewards_of([row], [decision("d1", "u", ["a", "b", "c"], 0)], {"rating": {"weight": 1, "per": "value"}})
    assert rewards == [[2], [2], [2]]
    assert report["rating"]["uncredited"] == 0


def test_an_event_of_a_whole_decision_after_the_cut_is_not_known_to_training():
    """The cut falls among the decisions of `REST`, at second 90,000; 80,000 is before it and 99,000 after."""
    decisions = [decision("d1", "u", ["a", "b", "c"], 0)]
    spec = {"rating": {"weight": 1, "per": "value"}}
    rows = [event("u", None, at, "rating", value=6.0, decision_id="d1") for at in (80_000, 99_000)]
    rewards, report = rewards_of(rows, decisions, spec)
    assert rewards == [[2], [2], [2]]
    assert report["rating"] == {"total": 12, "credited": 6, "uncredited": 6}
    assert report["events"]["after_the_cut"] == 1 and report["events"]["not_among_the_shown"] == 0


def test_an_event_of_a_whole_decision_answers_for_all_its_items():
    decisions = [decision("d1", "u", ["a", "b"], 0), decision("d2", "u", ["a", "b"], 60)]
    rows = [event("u", None, 9, "rating", value=1.0, decision_id="d1")]
    rewards, _ = rewards_of(rows, decisions, {"rating": 1, "no_response": -0.1})
    assert rewards == [[0.5, 0], [0.5, 0], [0, 1], [0, 1]]


def test_an_item_shown_twice_in_a_list_is_credited_once():
    rewards, _ = rewards_of([event("u", "a", 1, decision_id="d1")], [decision("d1", "u", ["a", "b", "a"], 0)], {"click": 1})
    assert rewards == [[1], [0], [0]]


def test_values_are_capped_per_event():
    rows = [event("u", "a", 1, "watch", value=v, decision_id="d1") for v in (100.0, 20.0, None, float("nan"))]
    spec = {"watch": {"weight": 0.01, "per": "value", "cap": 60}}
    rewards, report = rewards_of(rows, [decision("d1", "u", ["a", "b"], 0)], spec)
    assert rewards == [[80], [0]]
    assert report["watch"]["total"] == 80


def test_no_response_needs_the_whole_window_in_silence():
    decisions = [decision("d1", "u", ["a", "b"], 0)]
    rewards, _ = rewards_of([event("u", "a", 5, "look")], decisions, {"click": 1, "no_response": -0.1})
    assert rewards == [[0, 0], [0, 1]]  # any answer counts as one
    rows = [event("u", "a", 1, "click", decision_id="d1")]
    log = make_log(rows, [*decisions, *REST], "exposure")
    last = build_dataset(log, {"click": 1, "no_response": -0.1}).transitions
    assert last.reward[-1].tolist() == [0, 0]  # the log ends before its window does


def test_no_response_on_an_organic_log_is_refused():
    log = make_log([event("u", "ab"[i % 2], i) for i in range(4)])
    with pytest.raises(UserError, match="organic"):
        build_dataset(log, {"click": 1, "no_response": -1})


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.booleans(), st.integers(1, 3))
def test_nothing_is_lost_and_nothing_counted_twice(seed: int, named: bool, shown: int):
    rng = np.random.default_rng(seed)
    catalogue = list("abcdefg")
    decisions = [
        decision(f"d{i}", f"u{rng.integers(3)}", list(rng.choice(catalogue, shown, replace=False)), int(rng.integers(9000)))
        for i in range(30)
    ]
    rows = []
    for i in range(60):
        given_decision = decisions[rng.integers(30)] if named and rng.random() < 0.7 else None
        user = given_decision["user_id"] if given_decision else f"u{rng.integers(3)}"
        at = (given_decision["timestamp"] / 1e6 if given_decision else 0) + int(rng.integers(4000))
        name = given_decision["decision_id"] if given_decision else None
        item = None if rng.random() < 0.1 else str(rng.choice(catalogue))
        rows.append(event(user, item, at, ["watch", "click"][i % 2], value=float(rng.random()), decision_id=name))
    spec = {"watch": {"weight": 1, "per": "value"}, "click": 2}
    dataset = build_dataset(make_log(rows, decisions, "exposure"), spec)
    totals = dataset.transitions.reward.sum(axis=0, dtype=np.float64)
    before = [sum(np.float32(r["value"]) for r in rows if r["type"] == "watch"), 30]
    for name, total, given_total in zip(dataset.components, totals, before, strict=True):
        report = dataset.manifest["credit"][name]
        assert report["total"] == pytest.approx(given_total, rel=1e-6)
        assert report["credited"] + report["uncredited"] == pytest.approx(report["total"], rel=1e-6)
        assert total == pytest.approx(report["credited"], rel=1e-5)
    assert sum(dataset.manifest["credit"]["events"].values()) == 60


def test_reward_texts():
    assert parse_rewards("click=1, purchase=10") == {"click": Reward(1), "purchase": Reward(10)}
    assert parse_rewards('{"watch": {"weight": 0.1, "per": "value", "cap": 3}}') == {"watch": Reward(0.1, True, 3)}
    assert Reward(0.1, True, 3).to_json() == {"weight": 0.1, "per": "value", "cap": 3}


@pytest.mark.parametrize(
    "text",
    [
        "click",
        "click=",
        "click=x",
        "click=nan",
        "click=inf",
        "",
        "{",
        '{"a": {"weight": 1, "cap": 2}}',
        '{"a": {"per": "second"}}',
        '{"a": {"w": 1}}',
        '{"a": {"weight": 1, "per": "value", "cap": 0}}',
    ],
)
def test_bad_rewards(text: str):
    with pytest.raises(UserError):
        parse_rewards(text)


def test_an_unknown_type_names_the_nearest():
    with pytest.raises(UserError, match="did you mean purchase"):
        resolve_rewards("purchas=1", ["click", "purchase"], "organic", False)
    with pytest.raises(UserError, match="zero"):
        resolve_rewards("click=0", ["click"], "organic", False)
    assert list(resolve_rewards(None, ["purchase", "click", "nod"], "organic", False)) == ["click", "purchase"]


def test_a_reward_is_the_weighted_sum_and_has_the_same_bits_beside_any_others() -> None:
    rng, weights = np.random.default_rng(0), np.array([0.5, 0.01], np.float32)
    assert weighted_sum(np.array([[2, 100], [0, 50]], np.float32), weights) == pytest.approx([2, 0.5])
    components = rng.random((1000, 2)).astype(np.float32) * 100
    together = weighted_sum(components, weights)
    for n in (1, 3, 7):
        apart = [weighted_sum(components[i : i + n], weights) for i in range(0, 1000, n)]
        assert np.array_equal(np.concatenate(apart), together)
    three = np.array([[1, 2, 3]], np.float32)
    assert weighted_sum(three, np.array([100, 10, 1], np.float32)) == pytest.approx([123])
    assert weighted_sum(three[:, :1], np.array([4], np.float32)) == pytest.approx([4])
