"""Decisions, states, candidates and ends of small logs, by hand."""

import dataclasses

import numpy as np
import polars as pl
import pytest
from mdp_logs import decision, event, make_log

from qurate.errors import UserError
from qurate.mdp.dataset import Dataset, build_dataset, parse_duration
from qurate.mdp.episodes import constant_solution
from qurate.mdp.states import gather_state
from qurate.types import CENSORED, CONTINUES, HISTORY, TERMINATED, TEST, TRAIN, VALID

DAY = 86_400


def names(dataset: Dataset, indices: np.ndarray) -> list[str | None]:
    return [dataset.vocabulary.items[i - 1] if i else None for i in indices]


def available(dataset: Dataset, state: int) -> set[str]:
    steps = dataset.transitions
    explicit = steps.candidates[steps.candidates_start[state] : steps.candidates_start[state + 1]]
    chosen = explicit if len(explicit) else dataset.availability.open_items(int(steps.clock[state]))
    return set(names(dataset, chosen))


def n_open(dataset: Dataset) -> list[int]:
    """How many items were available at each decision."""
    return dataset.availability.n_open(dataset.transitions.clock).tolist()


def history(dataset: Dataset, state: int, window: int = 6) -> list[tuple[str | None, str, float]]:
    """(item, type, gap) of the rows of a state."""
    steps = dataset.transitions
    at = np.array([state])
    lo = dataset.arrays.user_start[steps.user[at]]
    window_of = gather_state(dataset.arrays, lo, steps.history_end[at], steps.clock[at], window, np.zeros((1, 0), np.float32))
    kept = window_of.history_types[0] > 0
    types = [dataset.vocabulary.types[t - 1] for t in window_of.history_types[0][kept]]
    return list(zip(names(dataset, window_of.history_items[0][kept]), types, window_of.history_gaps[0][kept].tolist(), strict=True))


def organic(**settings) -> Dataset:
    """Two users; u1 comes back after two hours and searches in between."""
    rows = [
        event("u1", "a", 0),
        event("u2", "b", 5),
        event("u1", "b", 10, "cart"),
        event("u1", None, 20, "search"),
        event("u1", "c", 7200, "purchase"),
        event("u2", "a", 65),
        event("u2", "a", 70, "purchase"),
    ]
    return build_dataset(make_log(rows), **settings)


def test_organic_decisions_by_hand():
    dataset = organic(rewards={"purchase": 10, "cart": 1}, episode="session")
    steps = dataset.transitions
    assert dataset.user_ids == ["u1", "u2"]
    assert steps.user.tolist() == [0, 0, 1, 1]  # the first row of a user and the search are no decisions
    assert names(dataset, steps.action) == ["b", "c", "a", "a"]
    assert (steps.clock / 1e6).tolist() == [0, 20, 5, 65]  # time of the last row of the state, never of the outcome
    assert history(dataset, 0) == [("a", "click", 0)]
    assert history(dataset, 1) == [("a", "click", 10), ("b", "cart", 10), (None, "search", 0)]
    assert history(dataset, 3) == [("b", "click", 60), ("a", "click", 0)]
    assert dataset.components == ["purchase", "cart"]
    assert dataset.weights.tolist() == [10, 1]
    assert steps.reward.tolist() == [[0, 1], [1, 0], [0, 0], [1, 0]]
    assert np.isnan(steps.propensity).all()


def test_session_ends_terminate():
    rows = [event("u", "a", 0), event("u", "b", 1), event("u", "c", 2), event("u", "a", 5000), event("u", "b", 5001)]
    rows += [event("v", "a", 9000 + i) for i in range(20)]  # pushes the cuts behind u
    dataset = build_dataset(make_log(rows), episode="session")
    mine = dataset.transitions.user[dataset.transitions.state] == 0
    # b and c of the first visit; a and b of the second: each visit ends for good
    assert dataset.transitions.end[mine].tolist() == [CONTINUES, TERMINATED, CONTINUES, TERMINATED]
    assert dataset.transitions.next_state[mine].tolist() == [1, -1, 3, -1]
    assert not dataset.transitions.pause.any()


def test_user_episodes_cross_sessions_and_end_in_churn_or_are_censored():
    rows = [event("gone", "a", 0), event("gone", "b", 1), event("gone", "c", 3601), event("gone", "a", 3602)]
    rows += [event("here", x, 50 * DAY + i) for i, x in enumerate("abcabc")]
    rows += [event("late", "a", 60 * DAY + i) for i in range(4)]
    dataset = build_dataset(make_log(rows), episode="user", churn_after="30d")
    steps = dataset.transitions
    gone, here = steps.user == 0, steps.user == 1
    assert steps.end[gone].tolist() == [CONTINUES, CONTINUES, TERMINATED]
    assert steps.pause[gone].tolist() == [3600, 0, 0]  # b at 1 s, then c an hour later
    assert steps.end[here].tolist() == [CONTINUES] * 4 + [CENSORED]  # silent for 10 days only
    without = build_dataset(make_log(rows), episode="user").transitions
    assert not np.any(without.end == TERMINATED)


def test_leave_is_rewarded_once():
    rows = [event("gone", "a", 0), event("gone", "b", 1)] + [event("here", "ab"[i % 2], 50 * DAY + i) for i in range(12)]
    dataset = build_dataset(make_log(rows), {"click": 1, "leave": -3}, episode="user", churn_after=30 * DAY)
    assert dataset.transitions.reward[:, 1].tolist() == [1] + [0] * 11
    with pytest.raises(UserError, match="churn"):
        build_dataset(make_log(rows), {"click": 1, "leave": -3})


def test_default_episode_rule():
    day = [event("u", "ab"[i % 2], i) for i in range(12)]
    assert build_dataset(make_log(day)).manifest["episode"]["rule"] == "session"
    month = [*day, event("u", "a", 30 * DAY)]
    assert build_dataset(make_log(month)).manifest["episode"]["rule"] == "user"
    assert build_dataset(make_log(month, has_users=False)).manifest["episode"]["rule"] == "session"


def shift_later(rows: list[dict], clock: int) -> list[dict]:
    """Everything that happened after `clock` happened an hour later."""
    return [{**row, "timestamp": row["timestamp"] + (3600_000_000 if row["timestamp"] > clock else 0)} for row in rows]


@pytest.mark.parametrize("kind", ["organic", "exposure", "logged"])
def test_shifting_all_later_timestamps_changes_no_state_and_no_candidates(kind: str):
    rng = np.random.default_rng(3)
    times = np.sort(rng.choice(5000, 60, replace=False))
    items = rng.choice(list("abcdefgh"), 60)
    users = rng.choice(["u", "v", "w"], 60)
    if kind == "organic":
        rows, decisions = [event(u, i, t) for u, i, t in zip(users, items, times, strict=True)], None
    else:
        decisions = [decision(f"d{n}", users[n], [items[n]], times[n]) for n in range(60)]
        rows = [event(users[n], items[n], times[n] + 0.5, decision_id=f"d{n}") for n in range(0, 60, 2)]
    dataset = build_dataset(make_log(rows, decisions, kind))
    steps = dataset.transitions
    for state in range(0, len(steps.history_end), 5):
        clock = int(steps.clock[state])
        later = None if decisions is None else shift_later(decisions, clock)
        moved = build_dataset(make_log(shift_later(rows, clock), later, kind))
        assert moved.transitions.clock[state] == clock
        assert history(moved, state) == history(dataset, state)
        assert available(moved, state) == available(dataset, state)
        assert moved.transitions.split[state] == steps.split[state]


def test_an_item_is_available_once_it_was_seen_in_training():
    rows = [event("u", x, i) for i, x in enumerate("aabbccaabbccd")]
    dataset = build_dataset(make_log(rows))
    steps = dataset.transitions
    assert available(dataset, 0) == {"a"}
    assert available(dataset, 2) == {"a", "b"}
    assert dataset.vocabulary.items == ("a", "b", "c", "d")
    assert dataset.n_ever_available == 3  # d was first seen in the test period
    assert available(dataset, len(steps.history_end) - 1) == {"a", "b", "c"}


def test_declared_items_are_available_from_their_date_or_from_the_beginning():
    items = pl.DataFrame({"item_id": ["z", "a", "b"], "available_from": [None, None, 4], "price": [1.0, 2.0, 3.0]})
    items = items.with_columns((pl.col("available_from") * 1_000_000).cast(pl.Datetime("us", "UTC")))
    dataset = build_dataset(make_log([event("u", x, i) for i, x in enumerate("aabbbbaabb")]), items=items)
    assert dataset.vocabulary.items == ("z", "a", "b")
    assert available(dataset, 0) == {"z", "a"}
    assert available(dataset, 4) == {"z", "a", "b"}
    assert dataset.item_features.shape == (4, 1)
    assert not dataset.item_features[0].any()
    np.testing.assert_allclose(dataset.item_features[1:, 0], [-1.2247449, 0, 1.2247449], rtol=1e-6)


def test_availability_as_text():
    log = make_log([event("u", x, i) for i, x in enumerate("aabbbbaabb")])
    items = pl.DataFrame({"item_id": ["a", "b"], "available_from": ["1970-01-01T00:00:00Z", "1970-01-01T02:00:04+02:00"]})
    dataset = build_dataset(log, items=items)
    assert n_open(dataset) == [1] * 4 + [2] * 5
    for bad in (["soon", None], [1, 2]):
        with pytest.raises(UserError, match=r"times since 1970.*column available_from"):
            build_dataset(log, items=pl.DataFrame({"item_id": ["a", "b"], "available_from": bad}))
    with pytest.raises(UserError, match="a column item_id"):
        build_dataset(log, items=pl.DataFrame({"id": ["a"]}))


def test_one_item_decisions_leave_a_row_that_says_shown():
    decisions = [decision("d1", "u", ["a"], 10), decision("d2", "u", ["b"], 20), decision("d3", "u", ["a"], 30)]
    rows = [event("u", "a", 10, decision_id="d1"), event("u", "b", 4), event("u", "a", 33, decision_id="d3")]
    dataset = build_dataset(make_log(rows, decisions, "exposure"))
    assert dataset.manifest["history"] == "events+shown"
    assert history(dataset, 0) == [("b", "click", 6)]
    assert history(dataset, 1) == [("b", "click", 6), ("a", "shown", 0), ("a", "click", 10)]
    assert history(dataset, 2)[-1] == ("b", "shown", 10)
    steps = dataset.transitions
    assert (steps.clock / 1e6).tolist() == [10, 20, 30]
    assert steps.reward[:, 0].tolist() == [1, 0, 1]


def test_lists_are_not_history_and_share_state_and_successor():
    decisions = [decision("d1", "u", ["a", "b", "c"], 10), decision("d2", "u", ["c", "d"], 20)]
    rows = [event("u", "b", 0, "look"), event("u", "b", 10, decision_id="d1"), event("u", "c", 21, decision_id="d2")]
    dataset = build_dataset(make_log(rows, decisions, "exposure"), {"click": 2})
    steps = dataset.transitions
    assert dataset.manifest["history"] == "events"
    assert steps.state.tolist() == [0, 0, 0, 1, 1]
    assert names(dataset, steps.action) == ["a", "b", "c", "c", "d"]
    assert steps.reward[:, 0].tolist() == [0, 1, 0, 1, 0]
    assert history(dataset, 0) == [("b", "look", 10)]  # not the click that answers it, though it has the same time
    assert history(dataset, 1) == [("b", "look", 10), ("b", "click", 10)]
    assert available(dataset, 0) == {"a", "b", "c"}  # of a list without candidates only the list is sure
    assert available(dataset, 1) == {"c", "d"}


def test_a_flat_log_keeps_the_order_of_its_rows_within_a_second():
    decisions = [decision("d1", "u", ["a", "b"], 10, row=1), decision("d2", "u", ["a", "b"], 10, row=3)]
    rows = [event("u", "b", 10, "look"), event("u", "b", 10, decision_id="d1"), event("u", "a", 10, "look")]
    rows += [event("u", "a", 10, decision_id="d2")]
    dataset = build_dataset(make_log(rows, decisions, "exposure"))
    assert history(dataset, 0) == [("b", "look", 0)]
    assert history(dataset, 1) == [("b", "look", 0), ("b", "click", 0), ("a", "look", 0)]


def test_beside_a_single_item_stands_the_catalogue_also_where_other_decisions_showed_lists():
    shown = [["a"], ["b", "c"], ["c"], ["a"]]
    log = make_log(
        [event("u", "a", 1, decision_id="d0")], [decision(f"d{i}", "u", items, 60 * i) for i, items in enumerate(shown)], "exposure"
    )
    dataset = build_dataset(log, items=pl.DataFrame({"item_id": ["a", "b", "c"]}))
    t = dataset.transitions
    assert np.diff(t.candidates_start).tolist() == [0, 2, 0, 0] and len(t.candidates) == 2
    assert {dataset.vocabulary.items[i - 1] for i in t.candidates} == {"b", "c"} and n_open(dataset) == [3] * 4


def test_logged_candidates_and_propensities_are_kept():
    decisions = [decision("d1", "u", ["a"], 1, propensity=[0.25], candidates=["a", "c"])]
    decisions += [decision("d2", "u", ["b"], 2, propensity=[0.5])]
    dataset = build_dataset(make_log([event("u", "a", 1.5, decision_id="d1")], decisions, "logged"))
    assert dataset.transitions.propensity.tolist() == [0.25, 0.5]
    assert available(dataset, 0) == {"a", "c"}
    assert available(dataset, 1) == {"a", "c"}  # b was shown for the first time in the test period


def test_arrival_order_of_a_service_gives_the_state_it_saw():
    decisions = [decision("d1", "u", ["a", "b"], 10, as_of=1), decision("d2", "u", ["a", "b"], 20, as_of=2)]
    rows = [event("u", "a", 5), event("u", "b", 7), event("u", "b", 6), event("u", "a", 11, decision_id="d1")]
    dataset = build_dataset(make_log(rows, decisions, "logged"))
    assert history(dataset, 0) == [("a", "click", 2), ("b", "click", 3)]
    # the event of second 6 arrived after the first decision: it follows, and time does not run backwards
    assert history(dataset, 1) == [("a", "click", 2), ("b", "click", 0), ("b", "click", 14)]


def test_interleaved_sessions_keep_their_own_successors():
    rows = [event("u", "abc"[i % 3], i, session_id="st"[i % 2]) for i in range(8)] + [event("v", "a", 99 + i) for i in range(40)]
    steps = build_dataset(make_log(rows), episode="session").transitions
    mine = steps.user == 0
    assert steps.next_state[mine].tolist() == [2, 3, 4, 5, 6, -1, -1]


def test_split_column_is_used_and_history_is_never_a_target():
    split = ["train"] * 4 + ["history", "history", "test"]
    rows = [event("a" if i < 4 else "b", "xyzxyzx"[i], i % 4, split=s) for i, s in enumerate(split)]
    dataset = build_dataset(make_log(rows, time_unit="order"))
    assert dataset.transitions.split.tolist() == [TRAIN] * 3 + [HISTORY, TEST]
    assert dataset.manifest["splits"]["rule"] == "column"
    assert n_open(dataset) == [3] * 5  # no times: what was seen in training was always there
    with pytest.raises(UserError, match="split column"):
        build_dataset(make_log([event("u", "ab"[i % 2], i) for i in range(9)]), split="column")


def test_nothing_after_the_cut_reaches_training():
    rng = np.random.default_rng(5)
    rows = [event(f"u{rng.integers(6)}", str(rng.integers(9)), 1000 * i + rng.integers(900)) for i in range(300)]
    dataset = build_dataset(make_log(rows), episode="user")
    cut = dataset.manifest["splits"]["cuts_us"][0]
    late = [row for row in rows if row["timestamp"] >= cut]
    changed = [row for row in rows if row["timestamp"] < cut]
    changed += [{**row, "item_id": f"new{i}", "type": "purchase", "value": 9.0} for i, row in enumerate(late)]
    other = build_dataset(make_log(changed), {"click": 1, "purchase": 5}, episode="user")
    for old, new in zip(train_part(dataset), train_part(other), strict=True):
        assert list(old) == list(new)
    steps = dataset.transitions
    counts = [np.count_nonzero(steps.split == s) for s in (TRAIN, VALID, TEST)]
    assert abs(counts[0] - 0.8 * sum(counts)) < 3 and abs(counts[1] - counts[2]) < 3


def train_part(dataset: Dataset) -> tuple:
    """What training sees, with items by name."""
    steps = dataset.transitions
    chosen = np.flatnonzero(steps.split[steps.state] == TRAIN)
    states = np.flatnonzero(steps.split == TRAIN)
    column = dataset.components.index("click")
    successor = np.where(steps.next_state[chosen] >= 0, steps.clock[steps.next_state[chosen]], -1)
    histories = [history(dataset, s) for s in states]
    offers = [available(dataset, s) for s in states]
    return names(dataset, steps.action[chosen]), steps.reward[chosen, column], successor, steps.end[chosen], histories, offers


def test_a_session_cut_in_two_is_censored():
    rows = [event("u", "abc"[i % 3], i) for i in range(41)]
    steps = build_dataset(make_log(rows), episode="session").transitions
    last = np.flatnonzero(steps.split == TRAIN)[-1]
    assert (steps.end[last], steps.next_state[last]) == (CENSORED, -1)
    assert steps.end[-1] == TERMINATED


@pytest.mark.parametrize("back", [None, 62 * DAY])
def test_a_customer_silent_at_the_cut_is_gone_for_training_also_if_the_test_period_sees_a_return(back: float | None):
    rows = [event(f"u{user}", "abca"[i], 6 * DAY * user + i) for user in range(10) for i in range(4)]
    rows += [event("z", "ab"[i % 2], (60 + i) * DAY) for i in range(12)]
    rows[-1]["user_id"] = "u0" if back else "z"
    rows[-1]["timestamp"] = round((back or 71 * DAY) * 1e6)
    steps = build_dataset(make_log(rows), {"click": 1, "leave": -3}, episode="user", churn_after="10d").transitions
    mine = (steps.user == 0) & (steps.split == TRAIN)
    assert steps.end[mine].tolist() == [CONTINUES, CONTINUES, TERMINATED]
    assert steps.next_state[mine].tolist() == [1, 2, -1]
    assert steps.reward[mine, 1].tolist() == [0, 0, 1]


@pytest.mark.parametrize("returns", [False, True])
def test_a_visit_is_over_for_training_where_it_was_at_the_cut(returns: bool):
    """Session s0 had been silent for a long time at the cut and s1 for a minute; what they do afterwards changes nothing."""
    rows = [event("v", "ab"[i % 2], 60 * i, session_id="s0") for i in range(5)]
    rows += [event("w", "ab"[i % 2], 20_000 + 60 * i, session_id="s1") for i in range(5)]
    late = [event("x", "ab"[i % 2], 20_300 + 60 * i, session_id="s2") for i in range(4)]
    if returns:
        late[2] |= {"user_id": "v", "session_id": "s0"}
        late[3] |= {"user_id": "w", "session_id": "s1"}
    steps = build_dataset(make_log([*rows, *late]), episode="session").transitions
    assert np.count_nonzero(steps.split == TRAIN) == 8
    assert steps.end[steps.split == TRAIN].tolist() == [CONTINUES] * 3 + [TERMINATED] + [CONTINUES] * 3 + [CENSORED]


@pytest.mark.parametrize(("name", "hint"), [("validation", "did you mean valid"), ("Test", "did you mean test"), ("dev", "known: history")])
def test_a_split_of_another_name_is_refused(name: str, hint: str):
    """Its rows would train."""
    rows = [event("u", "abcd"[i % 4], i, split=name if i > 6 else "train" if i else None) for i in range(9)]
    decisions = [decision(f"d{i}", "u", ["a"], i, split=name if i > 6 else "train") for i in range(9)]
    for log in (make_log(rows), make_log([event("u", "b", 1)], decisions, "exposure")):
        with pytest.raises(UserError, match=f"got '{name}', at column split; {hint}"):
            build_dataset(log)


def test_a_split_by_column_has_no_cut_in_time():
    rows = [event("u", "abcd"[i], i, split=s) for i, s in enumerate(["train", "train", "train", "test"])]
    rows += [event("v", "abc"[i], i, split="train") for i in range(3)]
    rows += [event("w", "ab"[i], 50 * DAY + i, split="train") for i in range(2)]
    steps = build_dataset(make_log(rows), episode="user", churn_after="10d").transitions
    assert steps.end.tolist() == [CONTINUES, CENSORED, TERMINATED, CONTINUES, TERMINATED, CENSORED]


def test_outside_training_and_validation_a_successor_of_another_split_counts():
    """By column, b is history, c test, d train, e valid, f test: only what could teach train or valid is cut off."""
    split = ["history", "history", "test", "train", "valid", "test"]
    rows = [event("u", "abcdef"[i], i, split=s) for i, s in enumerate(split)]
    steps = build_dataset(make_log(rows), {"click": 1}, episode="session").transitions
    assert steps.split.tolist() == [HISTORY, TEST, TRAIN, VALID, TEST]
    assert steps.end.tolist() == [CONTINUES, CONTINUES, CENSORED, CENSORED, TERMINATED]
    assert steps.next_state.tolist() == [1, 2, -1, -1, -1]


def test_repeated_event_ids_count_once():
    rows = [event("u", "a", 0, event_id="1"), event("u", "b", 1, event_id="2"), event("u", "b", 1, event_id="2")]
    rows += [event("u", "a", 2), event("u", "a", 2)]  # without ids both count
    dataset = build_dataset(make_log(rows))
    assert dataset.manifest["counts"]["events"] == 4
    assert dataset.manifest["notes"] == ["1 repeated event ids dropped"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "at least one event"),
        ([event("u", "a", 0)], "at least two events"),
        ([event(f"u{i}", "ab"[i % 2], i) for i in range(5)], "at least two events"),
        ([event("u", "a", i) for i in range(5)], "at least two items"),
        ([event("u", "ab"[i % 2], i, "nod") for i in range(5)], "default"),
    ],
)
def test_logs_that_cannot_train_anything_are_refused(rows: list[dict], message: str):
    with pytest.raises(UserError, match=message):
        build_dataset(make_log(rows))


def test_one_user_is_enough():
    assert build_dataset(make_log([event("u", "ab"[i % 2], i) for i in range(4)])).transitions.split[0] == TRAIN


def test_constant_solution_is_named():
    rows = [event("u", "ab"[i % 2], i) for i in range(40)]
    dataset = build_dataset(make_log(rows), episode="user")
    assert "1 / (1 - gamma)" in (constant_solution(dataset.transitions, dataset.weights) or "")
    zero = dataclasses.replace(dataset.transitions, reward=np.zeros_like(dataset.transitions.reward))
    assert "reward 0" in (constant_solution(zero, dataset.weights) or "")
    sessions = [event(f"u{i // 4}", "ab"[i % 2], 5000 * (i // 4) + i) for i in range(40)]
    ends = build_dataset(make_log(sessions), episode="session")
    assert constant_solution(ends.transitions, ends.weights) is None  # clicks to come differ
    mixed = build_dataset(make_log([*rows, event("u", "a", 99, "purchase")]), {"click": 1, "purchase": 5}, episode="user")
    assert constant_solution(mixed.transitions, mixed.weights) is not None  # the purchase is in the test period


def test_one_equally_rewarded_decision_per_visit_is_a_constant_solution():
    """Two clicks a visit: every decision earns 1 and is the last of its episode, so Q = 1 whatever the item."""
    rows = [event(f"u{i // 2}", "abc"[i % 3], 5000 * (i // 2) + i % 2) for i in range(40)]
    dataset = build_dataset(make_log(rows), {"click": 1}, episode="session")
    assert (dataset.transitions.end == TERMINATED).all() and (dataset.transitions.reward == 1).all()
    why = constant_solution(dataset.transitions, dataset.weights)
    assert why == "every training decision has reward 1 and nothing follows it, so that every item is worth 1"
    assert "reward 3 and nothing follows" in (constant_solution(dataset.transitions, np.array([3], np.float32)) or "")
    one_more = build_dataset(make_log([event("u0", "b", 2), *rows]), {"click": 1}, episode="session")
    assert constant_solution(one_more.transitions, one_more.weights) is None  # one visit has two: 1 + gamma, then 1
    unequal = dataset.transitions.reward.copy()
    unequal[0] = 0
    assert constant_solution(dataclasses.replace(dataset.transitions, reward=unequal), dataset.weights) is None


def test_users_and_their_features():
    users = pl.DataFrame({"user_id": ["v", "u", "w"], "age": [20.0, 40.0, 60.0]})
    dataset = build_dataset(make_log([event("u", "ab"[i % 2], i) for i in range(4)]), users=users)
    assert dataset.user_ids == ["u", "v", "w"]  # declared customers are known before their first event
    np.testing.assert_allclose(dataset.user_features[:, 0], [0, -1.2247449, 1.2247449], rtol=1e-6, atol=1e-7)
    assert dataset.arrays.user_start.tolist() == [0, 4, 4, 4]
    assert dataset.manifest["counts"]["users"] == 1


@pytest.mark.parametrize(("text", "seconds"), [("30d", 30 * DAY), ("1.5h", 5400), ("90s", 90), (90, 90), ("2w", 14 * DAY)])
def test_durations(text: str | int, seconds: float):
    assert parse_duration(text, "x") == seconds * 1e6


@pytest.mark.parametrize("text", ["", "soon", "-3d", "0", "30", " 30 ", "nan", "1e99"])
def test_bad_durations(text: str):
    with pytest.raises(UserError, match="duration"):
        parse_duration(text, "--churn-after")


def test_what_is_left_out_is_said():
    decisions = [decision("d", "u", ["a", "b"], 1), decision("d", "u", ["b"], 2), decision("e", "u", [], 3)]
    rows = [event("u", "a", 1, decision_id="d"), {"item_id": "a", "timestamp": 5, "type": "click"}]
    dataset = build_dataset(make_log(rows, decisions, "exposure"))
    assert dataset.manifest["counts"]["states"] == 1
    assert dataset.manifest["notes"] == [
        "1 events without user and session, time or type left out",
        "2 decisions that repeat an id, show nothing or have no user left out",
    ]


def test_a_log_in_which_nobody_ever_answered():
    decisions = [decision(f"d{i}", "u", ["ab"[i % 2]], i) for i in range(20)]
    dataset = build_dataset(make_log([], decisions, "exposure"), {"click": 1})
    assert not dataset.transitions.reward.any()
    assert "reward 0" in (constant_solution(dataset.transitions, dataset.weights) or "")
    with pytest.raises(UserError, match="a reward"):
        build_dataset(make_log([], decisions, "exposure"))


def test_the_session_stands_for_a_missing_user():
    rows = [event(None, "ab"[i % 2], i, session_id=f"s{i // 4}") for i in range(12)]
    assert build_dataset(make_log(rows)).user_ids == ["s0", "s1", "s2"]
