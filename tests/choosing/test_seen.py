"""What was seen or bought is not shown again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qurate.choosing.merchandising import contains, listed
from qurate.choosing.seen import ExcludingPolicy, SeenRule, default_rule, parse_exclude
from qurate.errors import UserError
from qurate.types import Actions, EventArrays, Observation, State

TYPES = ["shown", "click", "purchase"]
DAY = 86_400.0


def rule(*parts: str) -> SeenRule:
    found = parse_exclude(parts, TYPES)[1]
    assert found is not None
    return found


def test_words_are_rules_and_the_rest_are_ids() -> None:
    assert parse_exclude(["a", "b:c"], TYPES) == (["a", "b:c"], None)
    ids, found = parse_exclude(["a", "purchased:30d", "click"], TYPES)
    assert ids == ["a"] and found is not None
    assert found.seconds(TYPES).tolist() == [-1, -1, np.inf, 30 * DAY]
    assert rule("seen").seconds(TYPES).tolist() == [-1, np.inf, np.inf, np.inf]
    assert rule("seen:1h", "purchased").seconds(TYPES).tolist() == [-1, 3600, 3600, np.inf]
    assert rule("none").seconds(TYPES).tolist() == [-1, -1, -1, -1]
    assert parse_exclude(["none", "a"], TYPES)[0] == parse_exclude(["a", "none"], TYPES)[0] == ["a"]
    assert rule("purchased").seconds(["click"]).tolist() == [-1, -1]  # a log without purchases


@pytest.mark.parametrize(
    ("parts", "word"), [(["purchased:30"], "unit"), (["seen:x"], "'x'"), (["none", "seen"], "none alone"), (["none:1d"], "none alone")]
)
def test_a_rule_that_cannot_be_read_is_one_line(parts: list[str], word: str) -> None:
    with pytest.raises(UserError, match=word):
        parse_exclude(parts, TYPES)


def test_which_rows_count() -> None:
    items, types, age = np.array([3, 1, 0, 2, 1]), np.array([3, 2, 3, 3, 1]), np.array([40.0, 9.0, 8.0, 5.0, 0.0]) * DAY
    for parts, expected in (
        (("purchased",), [2, 3]),
        (("purchased:30d",), [2]),
        (("click",), [1]),
        (("seen",), [1, 2, 3]),
        (("none",), []),
        (("shown:1s",), [1]),
    ):
        assert rule(*parts).rows(items, types, age, TYPES).tolist() == expected


def state(items: list[list[int]], types: list[list[int]], gaps: list[list[float]]) -> State:
    n = len(items)
    nothing = np.zeros((n, 0), np.float32)
    return State(np.array(items), np.array(types), np.array(gaps, np.float32), np.zeros(np.shape(items), np.float32), nothing, nothing)


def test_a_window_counts_as_rows_do() -> None:
    """Ages are the sums of the gaps that follow."""
    window = state([[0, 3, 1, 2]], [[0, 3, 2, 3]], [[0, 31 * DAY, 4 * DAY, 5 * DAY]])
    assert rule("purchased").items(window, TYPES).tolist() == [[0, 3, 0, 2]]
    assert rule("purchased:30d").items(window, TYPES).tolist() == [[0, 0, 0, 2]]
    assert rule("purchased:4d").items(window, TYPES).tolist() == [[0, 0, 0, 0]]
    assert rule("seen:9d").items(window, TYPES).tolist() == [[0, 0, 1, 2]]


@given(st.integers(1, 6), st.integers(0, 12), st.booleans(), st.integers(0, 999))
def test_a_flat_list_masks_as_a_loop(rows: int, count: int, shared: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    candidates = np.broadcast_to(np.arange(1, 9), (rows, 8)) if shared else rng.integers(0, 9, (rows, 8))
    owner, items = rng.integers(0, rows, count), rng.integers(0, 9, count)
    sets = [{int(item) for item in items[owner == row]} - {0} for row in range(rows)]
    assert listed(candidates, owner, items).tolist() == [[int(c) in have for c in line] for line, have in zip(candidates, sets)]
    padded = np.zeros((rows, max(count, 1)), np.int64)
    padded[owner, np.arange(count)] = items
    np.testing.assert_array_equal(contains(candidates, padded), listed(candidates, owner, items))


def log(purchases: list[tuple[int, int]]) -> EventArrays:
    """Purchases (user, item) of a log, sorted by user."""
    n = len(purchases)
    users = np.array([user for user, _ in purchases])
    start = np.searchsorted(users, np.arange(users.max() + 2))
    items = np.array([item for _, item in purchases], np.int32)
    return EventArrays(items, np.full(n, 3, np.uint8), np.arange(n), np.zeros(n, np.float32), start)


def test_the_default_follows_the_log() -> None:
    once = [(user, item) for user in range(5) for item in range(1, 5)]
    assert default_rule(log(once), TYPES) == ("purchased", "0% of the log's purchases repeat an earlier one")
    often = [(user, item) for user, item in once for _ in range(2)]
    assert default_rule(log(often), TYPES) == ("none", "50% of the log's purchases repeat an earlier one")
    assert default_rule(log(once), ["view", "click", "watch"]) == ("none", "the log has no purchases")


def test_nothing_seen_is_shown_again_where_nobody_ever_chose_twice() -> None:
    types = ["view", "like", "rating"]
    once = [(user, item) for user in range(50) for item in range(1, 31)]
    assert default_rule(log(once), types, True) == ("seen", "0.0% of the log's choices repeat an earlier one")
    assert default_rule(log(once), types)[0] == "none", "answers to what was shown say nothing of it"
    assert default_rule(log(once[:900]), types, True)[0] == "none", "too few to tell"
    again = sorted([*once, *[(user, 1) for user in range(0, 50, 8)]])
    assert default_rule(log(again), types, True)[0] == "none"
    assert default_rule(log(once), TYPES, True)[0] == "purchased"


class First:
    """Shows the first candidate that may be shown."""

    name = "first"

    def act(self, observation: Observation, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return observation.actions.mask.argmax(axis=1), np.ones(len(observation.actions.mask))


def test_a_policy_is_not_offered_what_is_excluded_unless_nothing_else_is_left() -> None:
    window = state([[0, 1], [1, 2], [2, 3]], [[0, 3], [3, 2], [3, 3]], [[0, 1], [1, 1], [1, 1]])
    candidates = np.array([[1, 2, 3], [1, 2, 3], [3, 2, 2]])
    mask = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], np.int8)
    policy = ExcludingPolicy(First(), rule("purchased"), TYPES)
    actions, _ = policy.act(Observation(window, Actions(candidates, mask)), np.random.default_rng(0))
    assert actions.tolist() == [1, 2, 0] and policy.name == "first"
