"""A replay of tasks without a catalogue: one ring of states per lane, filled by a batched environment."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qurate.types import Batch, DenseState, Feedback, FloatArray, IntArray, Observation, OpenActions, take_rows

OPEN = -1
"""`action` of a slot that holds a state without an action yet, or the last state of a truncated episode."""


class DenseRing:
    """States and what followed them; a slot is a state, and becomes a transition when its action and reward arrive.

    Where an episode is truncated one more slot holds its last state, so that its value can be bootstrapped. Pixels are kept
    as uint8.

    Args:
        lanes: copies of the task.
        capacity: transitions kept in all.
        example: an observation of the task: shapes and kinds of its arrays, and the number of actions.
        weights: float32 [R] of the reward components.
        gamma: discount per step.
        life_ends: a lost life ends a return, though the game goes on.
    """

    def __init__(
        self, lanes: int, capacity: int, example: Observation[DenseState], weights: FloatArray, gamma: float, *, life_ends: bool = False
    ) -> None:
        self.lanes, self.weights, self.gamma, self.life_ends = lanes, weights, gamma, life_ends
        self.lane_states = max(8, -(-capacity // lanes))
        slots, actions = lanes * self.lane_states, example.actions.mask.shape[1]
        self._make_room(slots, example.state)
        self.mask = np.ones((slots, actions + 1), np.bool_)
        self.mask[:, 0] = False
        self.action = np.full(slots, OPEN, np.int32)
        self.reward = np.zeros((slots, len(weights)), np.float32)
        self.discount = np.zeros(slots, np.float32)
        self.explored = np.zeros(slots, np.bool_)
        self.written = np.zeros(lanes, np.int64)  # states ever written per lane; the newest is the open one
        self._lane = np.arange(lanes)

    @property
    def store(self) -> "DenseRing":
        """Where batches come from: the ring itself."""
        return self

    def _make_room(self, slots: int, example: DenseState) -> None:
        self.states = DenseState(*(np.zeros((slots, *part.shape[1:]), part.dtype) for part in example))

    def _write(self, slot: IntArray, state: DenseState) -> None:
        """Puts states [n] into slots [n]."""
        for kept, new in zip(self.states, state):
            kept[slot] = new

    def _read(self, slot: IntArray) -> DenseState:
        """The states in slots [n]."""
        return take_rows(self.states, slot)

    def _lead(self, lanes: IntArray, state: DenseState) -> None:
        """What must stand before the first states of episodes; nothing where a slot holds a whole state."""

    def _slot(self, count: IntArray, lanes: IntArray) -> IntArray:
        return lanes * self.lane_states + count % self.lane_states

    def begin(self, observation: Observation[DenseState], clock: IntArray) -> None:
        """The first states of all lanes, after `reset`."""
        self._lead(self._lane, observation.state)
        self._open(self._lane, observation.state, observation.actions.mask)

    def _open(self, lanes: IntArray, state: DenseState, mask: NDArray[np.int8]) -> None:
        slot = self._slot(self.written[lanes], lanes)
        self._write(slot, state)
        self.mask[slot, 1:] = mask
        self.action[slot] = OPEN
        self.written[lanes] += 1

    def add(self, action: IntArray, feedback: Feedback, explored: NDArray[np.bool_] | None = None) -> IntArray:
        """Closes the open slots with `action` [lanes] (1..N) and `feedback`, and opens the next ones; the slots that were closed."""
        slot = self._slot(self.written - 1, self._lane)
        self.action[slot] = action
        self.explored[slot] = False if explored is None else explored
        self.reward[slot] = feedback.components * self.weights
        ends = feedback.terminated
        if self.life_ends and feedback.life_lost is not None:
            ends = ends | feedback.life_lost
        self.discount[slot] = np.where(ends, 0, self.gamma)
        cut = np.flatnonzero(feedback.truncated & ~feedback.terminated)
        if len(cut):
            final: DenseState = feedback.final
            actions = feedback.final_actions
            mask = np.ones((self.lanes, self.mask.shape[1] - 1), np.int8) if actions is None else actions.mask
            self._open(cut, take_rows(final, cut), mask[cut])
        over = np.flatnonzero(feedback.terminated | feedback.truncated)
        if len(over):
            self._lead(over, take_rows(feedback.obs.state, over))
        self._open(self._lane, feedback.obs.state, feedback.obs.actions.mask)
        return slot

    def batch(self, index: IntArray, n_step: int = 1) -> Batch[DenseState]:
        """Transitions `index` [B] with n-step returns that stop where an episode does and before an exploratory action."""
        lane, reward = index // self.lane_states, self.reward[index]
        following, discount = self._next(index, lane), self.discount[index].copy()
        later = np.zeros_like(reward)
        for _ in range(n_step - 1):
            go = (discount > 0) & (self.action[following] != OPEN) & ~self.explored[following]
            later += np.where(go[:, None], discount[:, None] * self.reward[following], 0)
            discount = np.where(go, discount * self.discount[following], discount)
            following = np.where(go, self._next(following, lane), following)
        taken = np.maximum(self.action[following], 0).astype(np.int64)
        return Batch(
            self._read(index), self.action[index].astype(np.int64), reward, later, discount,
            np.ones(len(index), np.float32), self._read(following),
            OpenActions(None, None, None, None, self.mask[following]), taken, index,
            actions=OpenActions(None, None, None, None, self.mask[index]),
        )  # fmt: skip

    def _next(self, index: IntArray, lane: IntArray) -> IntArray:
        """The slot after each of `index`, in its lane's ring."""
        return lane * self.lane_states + (index + 1 - lane * self.lane_states) % self.lane_states

    def filled(self) -> IntArray:
        """States held per lane, [lanes]."""
        return np.minimum(self.written, self.lane_states)

    def oldest(self) -> IntArray:
        """Count of the oldest state held per lane, [lanes]."""
        return np.maximum(self.written - self.lane_states, 0)

    def complete(self, index: IntArray) -> NDArray[np.bool_]:
        """Which slots hold a transition, bool [len(index)]."""
        held: NDArray[np.bool_] = self.action[index] != OPEN
        return held

    def steps(self) -> tuple[FloatArray, FloatArray, IntArray]:
        """Of each slot: reward [S] of its decision, discount [S] of the successor, and the successor's slot [S], -1 = none."""
        index = np.arange(len(self.action))
        decided = self.action != OPEN
        following = np.where(decided, self._next(index, index // self.lane_states), -1)
        return np.where(decided, self.reward.sum(1), 0), self.discount, following

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything that changes, by name: of each lane the slots that were ever written, so that a short run is a small file."""
        held = int(self.filled().max(initial=0))
        kept = {name: self._by_lane(array)[:, :held].reshape(self.lanes * held, *array.shape[1:]) for name, array in self._slots().items()}
        return kept | {"written": self.written}

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Goes on from what `state` returned, on a new ring of the same arguments."""
        self.written[...] = state["written"]
        for name, array in self._slots().items():
            held = len(state[name]) // self.lanes
            self._by_lane(array)[:, :held] = state[name].reshape(self.lanes, held, *array.shape[1:])

    def _slots(self) -> dict[str, NDArray[Any]]:
        """The arrays with a row for each slot, by name."""
        names = ("mask", "action", "reward", "discount", "explored")
        return {name: getattr(self, name) for name in names} | {f"states.{k}": v for k, v in self.states._asdict().items()}

    def _by_lane(self, array: NDArray[Any]) -> NDArray[Any]:
        """The slots of each lane: [lanes, lane_states, ...], no copy."""
        return array.reshape(self.lanes, self.lane_states, *array.shape[1:])
