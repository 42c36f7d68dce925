"""What two simulated customers did, by hand, as transitions: rewards, discounts, ends, successors and what was open there."""

import numpy as np
import pytest

from qurate.environments.registry import make_engine
from qurate.replay.samplers import LogSampler, OnlineSampler
from qurate.replay.writers import OnlineWriter, step_discount, store_from_log
from qurate.types import (
    CENSORED,
    CONTINUES,
    TERMINATED,
    TEST,
    TRAIN,
    VALID,
    Actions,
    Availability,
    EventArrays,
    EventRows,
    Feedback,
    Observation,
    State,
    Transitions,
)

SECOND = 1_000_000
TAU = 1e5


def observation(users: list[float]) -> Observation:
    n = len(users)
    z, f = np.zeros((n, 3), np.int64), np.zeros((n, 3), np.float32)
    state = State(z, z, f, f, np.array(users, np.float32)[:, None], f[:, :2])
    return Observation(state, Actions(np.ones((n, 1), np.int64), np.ones((n, 1), np.int8)))


class Two:
    """Two lanes; each step shows an item, leaves one row a lane at the clock, and takes ten seconds and the pause."""

    def __init__(self, capacity: int = 40, gamma: float = 0.9, window: int = 3) -> None:
        self.writer = OnlineWriter(2, capacity, window, np.array([1, 5], np.float32), Availability.always(9), 1, gamma, TAU)
        self.clock, self.users = np.array([100, 200]) * SECOND, [1.0, 2.0]
        self.writer.begin(observation(self.users), self.clock)

    def step(
        self,
        items: list[int],
        components: list[list[float]],
        pause: float = 0,
        terminated: int = -1,
        truncated: int = -1,
        explored: int = -1,
    ) -> None:
        """`terminated` and `truncated` name the lane whose episode ends, `explored` the one whose item was drawn at random."""
        lanes = np.arange(2)
        rows = EventRows(lanes, np.array(items, np.int32), np.ones(2, np.uint8), self.clock.copy(), np.zeros(2, np.float32))
        gone, stopped = lanes == terminated, lanes == truncated
        pauses = np.where(gone, 0, pause).astype(np.float32)
        clock = self.clock + 10 * SECOND + (pauses * SECOND).astype(np.int64)
        self.clock = np.where(gone | stopped, 900 * SECOND, clock)
        self.users = [user + 10 * bool(over) for user, over in zip(self.users, gone | stopped, strict=True)]
        parts = np.array(components, np.float32)
        self.writer.add(
            np.array(items),
            Feedback(observation(self.users), parts @ [1, 5], parts, gone, stopped, np.full(2, -1), rows, clock, pauses),
            lanes == explored,
        )


def test_rewards_are_weighted_by_component_also_those_of_later_steps() -> None:
    two = Two()
    two.step([1, 2], [[1, 0], [0, 2]])
    two.step([3, 4], [[2, 1], [1, 1]])
    slots = two.writer.lane_states
    batch = two.writer.store.batch(np.array([0, slots]), 2)
    assert batch.reward.tolist() == [[1, 0], [0, 10]]
    assert np.allclose(batch.later_reward, [[0.9 * 2, 0.9 * 5], [0.9 * 1, 0.9 * 5]])


@pytest.mark.parametrize("gamma", [0.0, 0.9])
def test_the_discount_is_gamma_in_a_visit_exp_of_the_pause_across_and_0_at_the_end(gamma: float) -> None:
    two = Two(gamma=gamma)
    two.step([1, 2], [[0, 0], [0, 0]])
    two.step([1, 2], [[0, 0], [0, 0]], pause=5e4)
    two.step([1, 2], [[0, 0], [0, 0]], terminated=0)
    batch = two.writer.store.batch(np.arange(3))
    assert np.allclose(batch.discount, [gamma, np.exp(-0.5) if gamma else 0, 0])
    assert step_discount(np.array([0, 1e5], np.float32), 0.5, 1e5) == pytest.approx([0.5, np.exp(-1)])


def test_the_successor_its_clock_and_what_was_shown_there() -> None:
    two = Two()
    two.step([1, 2], [[0, 0], [0, 0]], pause=50)
    two.step([3, 4], [[0, 0], [0, 0]])
    two.step([5, 6], [[0, 0], [0, 0]])
    slots = two.writer.lane_states
    batch = two.writer.store.batch(np.array([0, 1, 2, slots]))
    assert batch.action.tolist() == [1, 3, 5, 2]
    assert batch.next_action.tolist() == [3, 5, 0, 4], "nothing has been shown yet in the newest state"
    assert batch.next_actions.clock is not None and (batch.next_actions.clock // SECOND).tolist() == [160, 170, 180, 260]
    assert batch.state.history_items.tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 3], [0, 0, 0]]
    assert batch.next_state.history_items.tolist() == [[0, 0, 1], [0, 1, 3], [1, 3, 5], [0, 0, 2]]
    assert batch.next_state.history_gaps.tolist() == [[0, 0, 60], [0, 60, 10], [60, 10, 10], [0, 0, 60]]
    two_steps = two.writer.store.batch(np.array([0]), 2)
    assert two_steps.next_actions.clock is not None and two_steps.next_actions.clock[0] == 170 * SECOND
    assert two_steps.next_action.tolist() == [5]


def test_a_truncated_episode_is_valued_at_its_last_state_and_the_next_customer_begins_anew() -> None:
    two = Two()
    two.step([1, 2], [[0, 0], [0, 0]], truncated=0, terminated=1)
    two.step([3, 4], [[0, 0], [0, 0]])
    slots = two.writer.lane_states
    stopped, gone = (two.writer.store.batch(np.array([i])) for i in (0, slots))
    assert stopped.bootstrap.tolist() == [1] and stopped.discount[0] == pytest.approx(0.9)
    assert stopped.next_state.history_items.tolist() == [[0, 0, 1]] and stopped.next_state.user.tolist() == [[1]]
    assert stopped.next_action.tolist() == [0]
    assert gone.discount.tolist() == [0] and gone.bootstrap.tolist() == [1]
    index = np.array([0, 1, 2, slots, slots + 1])
    assert two.writer.complete(index).tolist() == [True, False, True, True, True], "the last state of a truncated episode has no action"
    new = two.writer.store.batch(np.array([2, slots + 1]))
    assert new.state.user.tolist() == [[11], [12]] and not new.state.history_items.any() and not new.state.history_gaps.any()
    assert new.action.tolist() == [3, 4]
    assert two.writer.store.batch(np.array([0]), 5).later_reward.tolist() == [[0, 0]], "nobody else's rewards"


def test_a_restored_writer_goes_on_as_the_saved_one() -> None:
    one, two = Two(capacity=16), Two(capacity=16)
    for i in range(13):
        one.step([1 + i % 9, 2], [[i, 0], [0, i]], truncated=0 if i % 5 == 4 else -1, terminated=1 if i % 4 == 3 else -1, explored=i % 3)
    two.writer.restore({name: array.copy() for name, array in one.writer.state().items()})
    two.clock, two.users = one.clock.copy(), list(one.users)
    for each in (one, two):
        each.step([7, 8], [[3, 3], [4, 4]])
    index = np.flatnonzero(one.writer.complete(np.arange(16)))
    assert np.array_equal(index, np.flatnonzero(two.writer.complete(np.arange(16)))) and len(index) > 8
    a, b = one.writer.store.batch(index, 3), two.writer.store.batch(index, 3)
    for name in ("action", "reward", "later_reward", "discount", "bootstrap", "next_action"):
        assert np.array_equal(getattr(a, name), getattr(b, name)), name
    for x, y in zip((*a.state, *a.next_state, a.next_actions.clock), (*b.state, *b.next_state, b.next_actions.clock), strict=True):
        assert np.array_equal(x, y)


def test_what_was_overwritten_is_no_longer_complete_and_the_newest_state_has_no_action() -> None:
    """Twenty rows a step through a ring of 64; after six steps rows 56 to 119 are left."""
    writer = OnlineWriter(1, 8, 3, np.ones(1, np.float32), Availability.always(9), 1, 0.9, TAU)
    writer.begin(observation([1.0]), np.zeros(1, np.int64))
    assert writer.lane_rows == 64
    nobody = np.zeros(1, bool)
    for i in range(9):
        rows = EventRows(
            np.zeros(20, np.int64), np.ones(20, np.int32), np.ones(20, np.uint8), np.arange(20) + 20 * i, np.zeros(20, np.float32)
        )
        clock = np.array([20 * i + 20])
        parts = np.full((1, 1), i, np.float32)
        writer.add(
            np.array([i + 1]), Feedback(observation([1.0]), parts[:, 0], parts, nobody, nobody, np.full(1, -1), rows, clock, parts[0] * 0)
        )
        if i == 5:  # decisions after 0, 20, 40, 60, 80 and 100 rows, the window's three included
            assert writer.complete(np.arange(6)).tolist() == [False, False, False, True, True, True]
    assert writer.store.batch(np.array([0])).next_action.tolist() == [0], "slot 1 held an action before it was used again"
    assert writer.store.batch(np.array([0])).action.tolist() == [9]


@pytest.mark.parametrize("steps", [5, 30])
def test_samples_are_uniform_over_the_complete_transitions(steps: int) -> None:
    """Before and after the rings of eight states have run over."""
    two = Two(capacity=16)
    for i in range(steps):
        two.step([1, 2], [[0, 0], [0, 0]], truncated=0 if i % 3 == 2 else -1)
    complete = np.flatnonzero(two.writer.complete(np.arange(16)) & (np.tile(np.arange(8), 2) < np.repeat(two.writer.filled(), 8)))
    drawn = np.bincount(OnlineSampler(two.writer).sample(np.random.default_rng(0), 20_000).index, minlength=16)
    assert np.flatnonzero(drawn).tolist() == complete.tolist()
    lanes = [drawn[:8][drawn[:8] > 0], drawn[8:][drawn[8:] > 0]]
    for counts in lanes:
        assert np.abs(counts / counts.mean() - 1).max() < 0.15


def log(split: list[int]) -> tuple[EventArrays, Transitions]:
    """One customer, four decisions of one item a minute; the second and third name their candidates."""
    events = EventArrays(
        np.arange(1, 6, dtype=np.int32), np.ones(5, np.uint8), np.arange(5) * 60 * SECOND, np.zeros(5, np.float32), np.array([0, 5])
    )
    t = Transitions(
        user=np.zeros(4, np.int32), history_end=np.arange(1, 5), clock=np.arange(4) * 60 * SECOND + SECOND,
        candidates=np.array([3, 8, 9, 4, 7], np.int32), candidates_start=np.array([0, 0, 3, 5, 5]), split=np.array(split, np.uint8),
        state=np.arange(4, dtype=np.int32), action=np.arange(2, 6, dtype=np.int32), reward=np.ones((4, 1), np.float32),
        pause=np.zeros(4, np.float32), next_state=np.array([1, 2, 3, -1], np.int32),
        end=np.array([CONTINUES, CONTINUES, CONTINUES, CENSORED], np.uint8), propensity=np.full(4, np.nan, np.float32),
    )  # fmt: skip
    return events, t


def test_what_was_open_in_the_successor_of_a_logged_decision() -> None:
    events, t = log([TRAIN] * 4)
    store = store_from_log(events, t, np.ones(1, np.float32), np.zeros((1, 0), np.float32), 0.9, TAU, 3, Availability.always(9))
    batch = store.batch(np.arange(3))
    assert batch.next_actions.clock is not None and np.array_equal(batch.next_actions.clock, t.clock[1:])
    assert batch.next_actions.candidates is not None
    assert batch.next_actions.candidates.tolist() == [[3, 8, 9], [4, 7, 0], [0, 0, 0]], "no list: all that is available"
    assert batch.next_action.tolist() == [3, 4, 5]
    assert store.batch(np.array([3])).bootstrap.tolist() == [0], "its successor was never seen"


def test_a_log_is_sampled_from_one_split() -> None:
    _, t = log([TRAIN, VALID, TRAIN, TEST])
    for split, expected in ((TRAIN, {0, 2}), (VALID, {1}), (TEST, {3})):
        assert set(LogSampler(t, split).sample(np.random.default_rng(0), 200).index.tolist()) == expected
    assert TERMINATED not in t.end


def test_what_ends_is_known_in_the_successor() -> None:
    events, t = log([TRAIN] * 4)
    always = Availability.always(9)
    for until in (always.until, np.where(np.arange(10) == 4, 70 * SECOND, always.until)):
        store = store_from_log(
            events, t, np.ones(1, np.float32), np.zeros((1, 0), np.float32), 0.9, TAU, 3, Availability(always.since, until)
        )
        got = store.batch(np.arange(2)).next_actions
        assert got.since is not None and np.array_equal(got.since, always.since)
        assert got.until is None if until is always.until else got.until is not None and np.array_equal(got.until, until)


def test_customers_who_change_are_kept_as_they_were_at_each_decision() -> None:
    """In interest evolution what is seen of a viewer moves with every document watched, also in the last step of a truncated visit."""
    engine = make_engine("interest_evolution", slate_size=2, max_steps=4, window=3)
    seen = engine.reset(0, 2)
    writer = OnlineWriter(2, 40, 3, engine.component_weights, engine.availability, 20, 0.9, TAU, rows_per_step=2, n_candidates=10)
    writer.begin(seen, engine.clock)
    states, successors = [], []
    for _ in range(4):
        states.append(seen.state.user)
        feedback = engine.step(np.array([[0, 1], [2, 3]]))
        writer.add(np.zeros(2, np.int64), feedback)
        assert feedback.user is not None
        successors.append(feedback.user)
        seen = feedback.obs
    assert feedback.truncated.all() and (successors[-1] != seen.state.user).any()
    for lane in range(2):
        batch = writer.store.batch(np.arange(4) + lane * writer.lane_states)
        assert np.array_equal(batch.state.user, [user[lane] for user in states])
        assert np.array_equal(batch.next_state.user, [user[lane] for user in successors])
    assert len({user.tobytes() for user in states}) == 4


def test_slates_are_kept_with_what_was_chosen_of_them() -> None:
    engine = make_engine("interest_evolution", slate_size=2, max_steps=3, window=3)
    seen = engine.reset(3, 2)
    writer = OnlineWriter(
        2, 40, 3, engine.component_weights, engine.availability, 20, 0.9, TAU, rows_per_step=2, n_candidates=10, slate_size=2
    )
    writer.begin(seen, engine.clock)
    shown, chosen, places = [], [], set[int]()
    for step in range(3):
        slates = np.take_along_axis(seen.actions.candidates, np.array([[step, 5], [7, step]]), axis=1)
        feedback = engine.step(np.array([[step, 5], [7, step]]))
        writer.add(slates, feedback)
        shown.append(slates)
        places |= set(feedback.clicked.tolist())
        chosen.append([int(slate[at]) if at >= 0 else 0 for slate, at in zip(slates, feedback.clicked)])
        seen = feedback.obs
    for lane in range(2):
        batch = writer.store.batch(np.arange(3) + lane * writer.lane_states)
        assert batch.action.tolist() == [row[lane] for row in chosen]
        assert batch.shown is not None and batch.shown.tolist() == [slates[lane].tolist() for slates in shown]
        following = [shown[1][lane].tolist(), shown[2][lane].tolist(), [0, 0]]
        assert batch.next_shown is not None and batch.next_shown.tolist() == following, "nothing is shown any more after the last"
        assert batch.next_actions.candidates is not None and batch.next_actions.candidates.shape == (3, 10)
    assert places == {-1, 0, 1}, "nothing, the first and the second were chosen"
