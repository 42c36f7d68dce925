"""The ring of single frames against lists of whole stacks: ends, lost lives, n-step returns, and the place where it is overwritten."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from qurate.errors import UserError
from qurate.replay.frame_ring import FrameRing
from qurate.replay.prioritised import PrioritisedSampler
from qurate.replay.samplers import OnlineSampler
from qurate.types import Actions, DenseState, EventRows, Feedback, Observation

GAMMA, ACTIONS, STACK, SIDE = 0.9, 3, 4, 2
NOTHING = np.zeros(0, np.int64)
NO_ROWS = EventRows(NOTHING, NOTHING.astype(np.int32), NOTHING.astype(np.uint8), NOTHING, NOTHING.astype(np.float32))
Stack = NDArray[np.uint8]


@dataclass
class Step:
    """One decision of a lane with its whole stacks."""

    state: Stack
    action: int
    reward: float
    end: str  # "" | "terminated" | "truncated" | "life"
    explored: bool
    successor: Stack


class Game:
    """One lane: every frame is random, the first stack of a game is padded as the game likes, a lost life changes no stack."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.begin()

    def frame(self) -> Stack:
        return self.rng.integers(0, 256, (1, SIDE, SIDE)).astype(np.uint8)

    def begin(self) -> None:
        first = self.frame()
        padding = [np.zeros_like(first), first, self.frame()][int(self.rng.integers(3))]
        self.stack = np.concatenate([padding] * (STACK - 1) + [first])

    def step(self) -> Stack:
        self.stack = np.concatenate([self.stack[1:], self.frame()])
        return self.stack


def observation(stacks: list[Stack]) -> Observation[DenseState]:
    mask = np.ones((len(stacks), ACTIONS), np.int8)
    candidates = np.broadcast_to(np.arange(1, ACTIONS + 1), mask.shape)
    return Observation(DenseState(np.stack(stacks), np.zeros((len(stacks), 0), np.int64)), Actions(candidates, mask))


def filled(lanes: int, steps: int, capacity: int, life_ends: bool = True) -> tuple[FrameRing, list[list[Step]]]:
    """A ring after so many steps of random play, and the same as lists."""
    rng = np.random.default_rng(steps + capacity)
    games = [Game(rng) for _ in range(lanes)]
    now = observation([game.stack for game in games])
    ring = FrameRing(lanes, capacity, now, np.ones(1, np.float32), GAMMA, life_ends=life_ends)
    ring.begin(now, np.zeros(lanes, np.int64))
    lists: list[list[Step]] = [[] for _ in range(lanes)]
    for _ in range(steps):
        action, reward = rng.integers(1, ACTIONS + 1, lanes), rng.normal(size=lanes).astype(np.float32)
        end, explored = rng.choice(["", "", "", "", "", "terminated", "truncated", "life"], lanes), rng.random(lanes) < 0.2
        before, last = [game.stack for game in games], [game.step() for game in games]
        for lane, game in enumerate(games):
            lists[lane].append(Step(before[lane], int(action[lane]), float(reward[lane]), str(end[lane]), bool(explored[lane]), last[lane]))
            if end[lane] in ("terminated", "truncated"):
                game.begin()
        final = observation(last)
        ring.add(
            action,
            Feedback(
                observation([game.stack for game in games]), reward, reward[:, None], end == "terminated", end == "truncated",
                np.full(lanes, -1), NO_ROWS, np.zeros(lanes, np.int64), np.zeros(lanes, np.float32), final.state, final.actions,
                life_lost=end == "life",
            ),
            explored,
        )  # fmt: skip
    return ring, lists


def n_step(steps: list[Step], at: int, n: int, ends: tuple[str, ...]) -> tuple[float, float, float, Stack]:
    """First reward, discounted later rewards, discount, and the stack that is bootstrapped."""
    first, later, discount = steps[at].reward, 0.0, GAMMA
    while steps[at].end not in (*ends, "truncated") and n > 1 and at + 1 < len(steps) and not steps[at + 1].explored:
        at, n = at + 1, n - 1
        later, discount = later + discount * steps[at].reward, discount * GAMMA
    return first, later, 0.0 if steps[at].end in ends else discount, steps[at].successor


@pytest.mark.parametrize("life_ends", [True, False])
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("steps", [5, 60, 300])  # before and after the ring runs over
def test_transitions_equal_those_of_whole_stacks(steps: int, n: int, life_ends: bool) -> None:
    ring, lists = filled(lanes=2, steps=steps, capacity=128, life_ends=life_ends)
    ends = ("terminated", "life") if life_ends else ("terminated",)
    held = np.flatnonzero(ring.complete(np.arange(2 * ring.lane_states)))
    batch: Any = ring.batch(held, n)
    where = {step.state.tobytes(): (lane, at) for lane, found in enumerate(lists) for at, step in enumerate(found)}
    assert len(held) >= min(2 * steps, 60)
    stacks, successors = batch.state.numbers.numpy(), batch.next_state.numbers.numpy()
    for i in range(len(held)):
        lane, at = where[stacks[i].tobytes()]
        first, later, discount, successor = n_step(lists[lane], at, n, ends)
        assert batch.action[i] == lists[lane][at].action
        assert (batch.reward[i, 0], batch.later_reward[i, 0]) == pytest.approx((first, later), rel=1e-5, abs=1e-6)
        assert batch.discount[i] == pytest.approx(discount, rel=1e-5)
        if discount:
            assert np.array_equal(successors[i], successor), "of a truncated game: its own last stack"


@pytest.mark.parametrize("capacity", [64, 65, 67, 100])
def test_no_stack_reaches_across_the_place_of_writing(capacity: int) -> None:
    """After every single step everything that is complete is a stack that was really seen, newest ones included."""
    for steps in range(30, 90):
        ring, lists = filled(lanes=1, steps=steps, capacity=capacity)
        held = np.flatnonzero(ring.complete(np.arange(ring.lane_states)))
        seen = {step.state.tobytes(): at for at, step in enumerate(lists[0])}
        ages = [seen[stack.tobytes()] for stack in ring.batch(held).state.numbers.numpy()]  # type: ignore[attr-defined]
        assert max(ages) == steps - 1
        assert sorted(ages) == list(range(min(ages), steps)), "the newest ones, without a hole"


@pytest.mark.parametrize("prioritised", [False, True])
def test_only_complete_transitions_are_drawn(prioritised: bool) -> None:
    ring, _ = filled(lanes=2, steps=200, capacity=64)
    slots = 2 * ring.lane_states
    sampler = PrioritisedSampler(slots, ready=ring.complete) if prioritised else OnlineSampler(ring)
    sampler.add(np.arange(slots))
    drawn = np.unique(sampler.sample(np.random.default_rng(0), 20_000).index)
    assert drawn.tolist() == np.flatnonzero(ring.complete(np.arange(slots))).tolist()


def test_a_replay_larger_than_the_memory_is_one_line() -> None:
    now = observation([Game(np.random.default_rng(0)).stack])
    with pytest.raises(UserError, match=r"a replay that fits the memory, got 1,000,000,000,000,000 frames, 4e\+06 GB.*replay_capacity"):
        FrameRing(1, 10**15, now, np.ones(1, np.float32), GAMMA)
