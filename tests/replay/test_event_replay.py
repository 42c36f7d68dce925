"""The store returns what the state function returns, keeps little, and never reads across a write head."""

import itertools

import numpy as np
import pytest

from qurate.mdp.states import gather_state
from qurate.replay.samplers import LogSampler, OnlineSampler
from qurate.replay.writers import OnlineWriter, step_discount, store_from_log
from qurate.types import (
    CENSORED,
    CONTINUES,
    TERMINATED,
    Actions,
    Availability,
    EventArrays,
    EventRows,
    Feedback,
    Observation,
    State,
    Transitions,
)

N, TYPES = 50, 4
DAY = 86_400_000_000


def random_log(users: int = 40, seed: int = 0) -> tuple[EventArrays, Transitions, np.ndarray]:
    rng = np.random.default_rng(seed)
    counts = rng.integers(2, 30, users)
    start = np.concatenate([[0], np.cumsum(counts)])
    total = int(start[-1])
    time = np.concatenate([np.sort(rng.integers(0, DAY, n)) for n in counts])
    events = EventArrays(
        rng.integers(1, N + 1, total).astype(np.int32), rng.integers(1, TYPES + 1, total).astype(np.uint8), time,
        rng.random(total).astype(np.float32), start,
    )  # fmt: skip
    user = np.repeat(np.arange(users), counts - 1).astype(np.int32)
    history_end = np.concatenate([np.arange(a + 1, b) for a, b in itertools.pairwise(start)])
    states = len(history_end)
    last = np.r_[user[1:] != user[:-1], True]
    end = np.where(last, np.where(user % 2 == 0, TERMINATED, CENSORED), CONTINUES).astype(np.uint8)
    transitions = Transitions(
        user, history_end, events.time[history_end - 1] + 5_000_000, np.zeros(0, np.int32), np.zeros(states + 1, np.int64),
        np.zeros(states, np.uint8), np.arange(states, dtype=np.int32), events.item[history_end], rng.random((states, 2)).astype(np.float32),
        np.where(rng.random(states) < 0.2, 7200, 0).astype(np.float32), np.where(last, -1, np.arange(1, states + 1)).astype(np.int32),
        end, np.full(states, np.nan, np.float32),
    )  # fmt: skip
    return events, transitions, rng.random((users, 3)).astype(np.float32)


WEIGHTS = np.array([1.0, 5.0], np.float32)


@pytest.mark.parametrize("window", [1, 7, 50])
def test_states_equal_the_state_function_bit_for_bit(window: int) -> None:
    events, t, features = random_log()
    store = store_from_log(events, t, WEIGHTS, features, 0.9, 1e5, window, Availability.always(N))
    index = np.arange(len(t.history_end))
    expected = gather_state(events, events.user_start[t.user], t.history_end, t.clock, window, features[t.user])
    for name, got, want in zip(State._fields, store.states(index), expected):
        assert np.array_equal(got, want), name


def test_one_step_batch_by_hand() -> None:
    events, t, features = random_log()
    store = store_from_log(events, t, WEIGHTS, features, 0.9, 1e5, 10, Availability.always(N))
    batch = store.batch(np.arange(len(t.history_end)))
    assert np.allclose(batch.reward, t.reward * WEIGHTS)
    assert not batch.later_reward.any()
    expected = np.where(t.end == TERMINATED, 0, np.where(t.pause > 0, np.exp(-7200 / 1e5), 0.9))
    assert np.allclose(batch.discount, expected)
    assert np.array_equal(batch.bootstrap == 0, t.end == CENSORED)


@pytest.mark.parametrize("n", [2, 3, 7])
def test_n_step_equals_the_sum_along_the_episode(n: int) -> None:
    events, t, features = random_log()
    store = store_from_log(events, t, WEIGHTS, features, 0.9, 1e5, 10, Availability.always(N))
    batch = store.batch(np.arange(len(t.history_end)), n)
    reward, discount = t.reward * WEIGHTS, np.where(t.end == TERMINATED, 0, step_discount(t.pause, 0.9, 1e5))
    for i in range(len(t.history_end)):
        factor, later, at, censored = discount[i], np.zeros(2), i, bool(t.end[i] == CENSORED)
        for _ in range(n - 1):
            if censored or t.end[at] == TERMINATED:
                break
            at = t.next_state[at]
            later, censored = later + factor * reward[at], bool(t.end[at] == CENSORED)
            factor *= discount[at]
        assert np.allclose(batch.later_reward[i], later, atol=1e-5)
        assert batch.discount[i] == pytest.approx(factor, abs=1e-6)
        assert batch.bootstrap[i] == (0 if censored else 1)


def test_a_later_list_counts_with_the_rewards_of_all_its_items() -> None:
    """One customer: a list of two items, then a list of three that earned 1, 2 and 0, at weight 2 and discount .9."""
    events = EventArrays(*(np.ones(1, kind) for kind in (np.int32, np.uint8, np.int64, np.float32)), np.array([0, 1]))  # type: ignore[arg-type]
    state = np.array([0, 0, 1, 1, 1], np.int32)
    t = Transitions(
        np.zeros(2, np.int32), np.ones(2, np.int64), np.array([5, 10]) * 1_000_000, np.zeros(0, np.int32),
        np.zeros(3, np.int64), np.zeros(2, np.uint8), state, np.array([1, 2, 3, 4, 5], np.int32),
        np.array([[0], [1], [1], [2], [0]], np.float32), np.zeros(5, np.float32), np.where(state == 0, 1, -1).astype(np.int32),
        np.where(state == 0, CONTINUES, TERMINATED).astype(np.uint8), np.full(5, np.nan, np.float32),
    )  # fmt: skip
    store = store_from_log(events, t, np.array([2.0], np.float32), np.zeros((1, 0), np.float32), 0.9, 1e5, 4, Availability.always(N))
    batch = store.batch(np.arange(5), 2)
    assert batch.reward[:, 0].tolist() == [0, 2, 2, 4, 0], "each item with its own"
    assert batch.later_reward[:, 0] == pytest.approx([0.9 * 6, 0.9 * 6, 0, 0, 0])


def test_n_step_returns_stop_before_an_exploratory_action() -> None:
    """Rewards 1, 2, 3, 4 at discount .9; the third action was drawn at random."""
    world = TwoRowWorld(1, 0)
    writer = OnlineWriter(1, 20, 4, np.ones(1, np.float32), Availability.always(N), 1, 0.9, 1e5)
    writer.begin(world.observation(), world.clock)
    none = np.zeros(1, np.bool_)
    for i in range(6):
        feedback = world.step(np.array([1]))
        feedback = feedback._replace(components=np.array([[i + 1]], np.float32), terminated=none, truncated=none)
        writer.add(np.array([1]), feedback, np.array([i == 2]))
    batch = writer.store.batch(np.arange(4), 4)
    assert batch.reward[:, 0].tolist() == [1, 2, 3, 4], "its own reward counts wherever the action came from"
    assert batch.later_reward[:, 0] == pytest.approx([0.9 * 2, 0, 0.9 * 4 + 0.81 * 5 + 0.729 * 6, 0.9 * 5 + 0.81 * 6])
    assert batch.discount == pytest.approx([0.9**2, 0.9, 0.9**4, 0.9**3], abs=1e-6)


def test_one_step_is_n_step_of_one() -> None:
    events, t, features = random_log()
    store = store_from_log(events, t, WEIGHTS, features, 0.9, 1e5, 10, Availability.always(N))
    index = LogSampler(t).sample(np.random.default_rng(0), 64).index
    one, other = (arrays_of(batch) for batch in (store.batch(index), store.batch(index, 1)))
    assert len(one) == len(other) > 15 and all(np.array_equal(x, y) for x, y in zip(one, other))


def arrays_of(part: object) -> list[np.ndarray]:
    """All arrays of a nested tuple."""
    if isinstance(part, tuple):
        return [array for inner in part for array in arrays_of(inner)]
    return [] if part is None else [np.asarray(part)]


def test_at_most_64_bytes_per_transition() -> None:
    events, t, features = random_log(400)
    assert store_from_log(events, t, np.ones(2, np.float32), features, 0.9, 1e5, 50, Availability.always(N)).bytes_per_transition() <= 64


class TwoRowWorld:
    """Every decision leaves a `shown` row and, every third time, a click; episodes end at random."""

    def __init__(self, lanes: int, seed: int) -> None:
        self.rng, self.lanes, self.clock = np.random.default_rng(seed), lanes, np.full(lanes, 10**15)
        self.histories: list[list[tuple[int, int, int]]] = [[] for _ in range(lanes)]

    def observation(self) -> Observation:
        z, f = np.zeros((self.lanes, 3), np.int64), np.zeros((self.lanes, 3), np.float32)
        user = np.array([[h[0][0] if h else 0.0] for h in self.histories], np.float32)
        state = State(z, z, f, f, user, f[:, :2])
        return Observation(state, Actions(np.ones((self.lanes, 1), np.int64), np.ones((self.lanes, 1), np.int8)))

    def step(self, action: np.ndarray) -> Feedback:
        click = self.rng.random(self.lanes) < 0.33
        lanes, items, types, times = [], [], [], []
        for lane in range(self.lanes):
            rows = [(int(action[lane]), 1, int(self.clock[lane]))]
            rows += [(int(action[lane]), 2, int(self.clock[lane]) + 2_000_000)] if click[lane] else []
            self.histories[lane] += rows
            for item, kind, time in rows:
                lanes.append(lane), items.append(item), types.append(kind), times.append(time)
        self.clock = self.clock + self.rng.integers(3_000_000, 9_000_000, self.lanes)
        clock = self.clock.copy()
        terminated, truncated = self.rng.random(self.lanes) < 0.1, self.rng.random(self.lanes) < 0.1
        truncated &= ~terminated
        for lane in np.flatnonzero(terminated | truncated):
            self.histories[lane] = []
        rows = EventRows(
            np.array(lanes), np.array(items, np.int32), np.array(types, np.uint8), np.array(times), np.zeros(len(lanes), np.float32)
        )
        reward = click[:, None].astype(np.float32) + action[:, None] / 100
        return Feedback(
            self.observation(), reward[:, 0], reward.astype(np.float32), terminated, truncated, np.zeros(self.lanes, np.int64), rows, clock,
            np.zeros(self.lanes, np.float32),
        )  # fmt: skip


def test_online_rings_give_back_what_happened_and_nothing_overwritten() -> None:
    """2,000 steps through rings of 40 states: every sampled transition equals a plain record of what happened."""
    lanes, window, capacity = 3, 6, 120
    world, rng = TwoRowWorld(lanes, 0), np.random.default_rng(1)
    writer = OnlineWriter(lanes, capacity, window, np.ones(1, np.float32), Availability.always(N), 1, 0.9, 1e5)
    writer.begin(world.observation(), world.clock)
    sampler, record = OnlineSampler(writer), {}
    for step in range(2_000):
        action = rng.integers(1, N + 1, lanes)
        before = [(list(h), int(c)) for h, c in zip(world.histories, world.clock)]
        clock = world.clock.copy()
        feedback = world.step(action)
        for lane in range(lanes):
            slot = lane * writer.lane_states + (writer.written[lane] - 1) % writer.lane_states
            record[slot] = (before[lane], int(action[lane]), float(feedback.reward[lane]), bool(feedback.terminated[lane]))
        del clock
        writer.add(action, feedback)
        if step % 50 == 49:
            index = sampler.sample(rng, 64).index
            batch = writer.store.batch(index)
            for row, slot in enumerate(index):
                (history, now), shown, reward, terminated = record[slot]
                tail = history[-window:]
                items = [0] * (window - len(tail)) + [item for item, _, _ in tail]
                assert batch.state.history_items[row].tolist() == items
                gaps = np.diff([time for _, _, time in tail] + [now]) / 1e6 if tail else []
                assert batch.state.history_gaps[row, window - len(tail) :] == pytest.approx(gaps, abs=1e-3)
                assert (batch.action[row], batch.reward[row, 0]) == (shown, pytest.approx(reward))
                assert batch.discount[row] == (0 if terminated else pytest.approx(0.9))
                if not terminated:  # the successor begins with this state's rows and the item just shown
                    following = [i for i in batch.next_state.history_items[row].tolist() if i]
                    assert shown in following[-2:]
