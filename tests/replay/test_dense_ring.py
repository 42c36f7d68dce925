"""The ring of a Gymnasium task against lists: n-step returns, ends, masks, and the place where it is overwritten."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from qurate.replay.dense_ring import OPEN, DenseRing
from qurate.replay.samplers import OnlineSampler
from qurate.training.support import returns_seen
from qurate.types import Actions, DenseState, EventRows, Feedback, Observation

GAMMA, ACTIONS = 0.9, 3
NOTHING = np.zeros(0, np.int64)
NO_ROWS = EventRows(NOTHING, NOTHING.astype(np.int32), NOTHING.astype(np.uint8), NOTHING, NOTHING.astype(np.float32))
Array = NDArray[Any]


@dataclass
class Step:
    """One decision of a lane, in a list of its own."""

    state: float
    action: int
    reward: float
    end: str  # "" | "terminated" | "truncated"
    explored: bool
    successor: float
    mask: list[int]  # legal actions in the successor


def observation(numbers: Array, mask: Array) -> Observation[DenseState]:
    candidates = np.broadcast_to(np.arange(1, ACTIONS + 1), mask.shape)
    return Observation(DenseState(numbers[:, None].astype(np.float32), np.zeros((len(numbers), 0), np.int64)), Actions(candidates, mask))


def random_masks(rng: np.random.Generator, lanes: int) -> Array:
    mask = (rng.random((lanes, ACTIONS)) < 0.6).astype(np.int8)
    mask[:, 0] = 1
    return mask


def filled(lanes: int, steps: int, capacity: int, seed: int = 0) -> tuple[DenseRing, list[list[Step]]]:
    """A ring after so many steps of random play, and the same as lists. Every state is another number."""
    rng, names = np.random.default_rng(seed), iter(range(1, 10**6))
    fresh = lambda: np.array([next(names) for _ in range(lanes)], np.float64)  # noqa: E731
    now, mask = fresh(), random_masks(rng, lanes)
    ring = DenseRing(lanes, capacity, observation(now, mask), np.array([2], np.float32), GAMMA)
    ring.begin(observation(now, mask), np.zeros(lanes, np.int64))
    lists: list[list[Step]] = [[] for _ in range(lanes)]
    for _ in range(steps):
        action, reward = rng.integers(1, ACTIONS + 1, lanes), rng.normal(size=lanes).astype(np.float32)
        end, explored = rng.choice(["", "", "", "", "terminated", "truncated"], lanes), rng.random(lanes) < 0.3
        last, last_mask = fresh(), random_masks(rng, lanes)
        begun, begun_mask = fresh(), random_masks(rng, lanes)
        over = end != ""
        after, after_mask = np.where(over, begun, last), np.where(over[:, None], begun_mask, last_mask)
        feedback = Feedback(
            observation(after, after_mask), reward * 2, reward[:, None], end == "terminated", end == "truncated", np.full(lanes, -1),
            NO_ROWS, np.zeros(lanes, np.int64), np.zeros(lanes, np.float32), observation(last, last_mask).state,
            observation(last, last_mask).actions,
        )  # fmt: skip
        ring.add(action, feedback, explored)
        for i in range(lanes):
            lists[i].append(
                Step(now[i], int(action[i]), 2 * float(reward[i]), str(end[i]), bool(explored[i]), last[i], last_mask[i].tolist())
            )
        now, mask = after, after_mask
    return ring, lists


def n_step(steps: list[Step], at: int, n: int) -> tuple[float, float, float, Step]:
    """First reward, discounted later rewards, discount, and the step whose successor is bootstrapped."""
    first, later, discount = steps[at].reward, 0.0, GAMMA
    while not steps[at].end and n > 1 and at + 1 < len(steps) and not steps[at + 1].explored:
        at, n = at + 1, n - 1
        later, discount = later + discount * steps[at].reward, discount * GAMMA
    return first, later, 0.0 if steps[at].end == "terminated" else discount, steps[at]


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("steps", [7, 60, 200])  # before and after the ring runs over
def test_transitions_equal_those_of_a_list(steps: int, n: int) -> None:
    ring, lists = filled(lanes=2, steps=steps, capacity=64)
    held = np.flatnonzero(ring.complete(np.arange(2 * ring.lane_states)))
    batch = ring.batch(held, n)
    where = {step.state: (lane, at) for lane, found in enumerate(lists) for at, step in enumerate(found)}
    assert len(held) >= min(2 * steps, 50)
    for i, number in enumerate(batch.state.numbers[:, 0].tolist()):
        lane, at = where[number]
        first, later, discount, last = n_step(lists[lane], at, n)
        assert batch.action[i] == lists[lane][at].action
        assert (batch.reward[i, 0], batch.later_reward[i, 0]) == pytest.approx((first, later), rel=1e-5, abs=1e-6)
        assert batch.discount[i] == pytest.approx(discount, rel=1e-5)
        if last.end != "terminated":
            assert batch.next_state.numbers[i, 0] == last.successor, "of a truncated episode: its own last state"
            assert batch.next_actions.mask is not None and batch.next_actions.mask[i].tolist() == [False, *map(bool, last.mask)]
        following = lists[lane][lists[lane].index(last) + 1 :][:1]
        known = following[0].action if following and not last.end else 0
        if last.end != "terminated":
            assert batch.next_action[i] == known
    assert batch.bootstrap.min() == 1


def test_the_newest_transitions_are_held_and_the_oldest_are_gone() -> None:
    ring, lists = filled(lanes=2, steps=200, capacity=64)
    held = ring.batch(np.flatnonzero(ring.complete(np.arange(64)))).state.numbers[:, 0]
    for found in lists:
        ages = [step.state in held for step in found]
        assert ages == sorted(ages) and 20 < sum(ages) < 32, "the last ones, without a hole; truncated episodes take a slot more"


def test_every_held_transition_is_drawn_equally_often() -> None:
    ring, _ = filled(lanes=2, steps=100, capacity=32)
    held = np.flatnonzero(ring.complete(np.arange(32)))
    counts = np.bincount(OnlineSampler(ring).sample(np.random.default_rng(0), 40_000).index, minlength=32)
    assert (counts[held] > 0).all() and counts.sum() == counts[held].sum()
    expected = 40_000 / len(held)
    assert np.abs(counts[held] / expected - 1).max() < 0.15


def test_after_a_resume_nothing_joins_the_old_episode_to_the_new_one() -> None:
    ring, _ = filled(lanes=2, steps=10, capacity=64)
    again = DenseRing(2, 64, observation(np.zeros(2), np.ones((2, ACTIONS), np.int8)), np.array([2], np.float32), GAMMA)
    again.restore({name: array.copy() for name, array in ring.state().items()})
    newest = again._slot(again.written - 2, np.arange(2))
    before = ring.batch(newest, 5)
    again.begin(observation(np.array([-1.0, -2.0]), np.ones((2, ACTIONS), np.int8)), np.zeros(2, np.int64))
    after = again.batch(newest, 5)
    for mine, other in zip((*before[1:6], *before.next_state), (*after[1:6], *after.next_state)):
        assert np.array_equal(mine, other)
    assert (again.action[newest + 1] == OPEN).all()


@pytest.mark.parametrize("steps", [3, 10, 31, 32, 80])
def test_a_state_holds_the_written_slots_and_gives_them_back(steps: int) -> None:
    ring, _ = filled(lanes=2, steps=steps, capacity=64)
    state = ring.state()
    held = min(int(ring.written.max()), 32)
    assert {len(array) for name, array in state.items() if name != "written"} == {2 * held}
    again = DenseRing(2, 64, observation(np.zeros(2), np.ones((2, ACTIONS), np.int8)), np.array([2], np.float32), GAMMA)
    again.restore(state)
    for mine, other in zip(ring.batch(np.arange(64), 3), again.batch(np.arange(64), 3)):
        assert all(np.array_equal(a, b) for a, b in zip(mine, other)) if isinstance(mine, tuple) else np.array_equal(mine, other)
    assert np.array_equal(ring.written, again.written)


def test_pixels_stay_bytes() -> None:
    frames = DenseState(np.full((2, 1, 8, 8), 200, np.uint8), np.zeros((2, 0), np.int64))
    actions = Actions(np.broadcast_to(np.arange(1, 3), (2, 2)), np.ones((2, 2), np.int8))
    ring = DenseRing(2, 20, Observation(frames, actions), np.ones(1, np.float32), GAMMA)
    ring.begin(Observation(frames, actions), np.zeros(2, np.int64))
    assert ring.states.numbers.dtype == np.uint8 and ring.batch(np.array([0])).state.numbers.max() == 200


def test_the_returns_seen_are_those_of_the_lists() -> None:
    ring, lists = filled(lanes=2, steps=20, capacity=200)
    returns = []
    for found in lists:
        value = 0.0
        for step in reversed(found):
            value = step.reward + (0 if step.end else GAMMA * value)
            returns.append(value)
    low, high = returns_seen(*ring.steps())
    assert (low, high) == pytest.approx((min(0, *returns), max(0, *returns)), rel=1e-5)
