"""A replay of tasks whose observations are stacks of frames: every frame is kept once, as uint8, on the learner's device."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qurate.errors import Code, UserError
from qurate.replay.dense_ring import OPEN, DenseRing
from qurate.types import DenseState, FloatArray, IntArray, Observation


class FrameRing(DenseRing):
    """A `DenseRing` whose slots hold the newest frame of a state; the stack is gathered when it is read.

    Before the first state of an episode stand the older frames of its stack, in slots of their own without an action. So a stack
    never reaches into another episode. A transition whose stack the ring has begun to overwrite is not complete any more.

    Args:
        lanes, capacity, example, weights, gamma, life_ends: as for `DenseRing`; `example.state.numbers` uint8 [B, C, H, W], the newest
            frame last. Of two consecutive states of an episode the second is the first without its oldest frame, and a new one.
        device: where the frames are. A million of 84 x 84 take 7 GB.

    Raises:
        UserError: the frames do not fit the memory of the device.
    """

    def __init__(
        self, lanes: int, capacity: int, example: Observation[DenseState], weights: FloatArray, gamma: float, *,
        life_ends: bool = False, device: torch.device | str = "cpu",
    ) -> None:  # fmt: skip
        self.device = torch.device(device)
        super().__init__(lanes, capacity, example, weights, gamma, life_ends=life_ends)

    def _make_room(self, slots: int, example: DenseState) -> None:
        _, self.stack, height, width = example.numbers.shape
        try:
            self.frames = torch.zeros((slots, height * width), dtype=torch.uint8, device=self.device)
        except RuntimeError as error:  # torch's kind for memory of any device
            got, hint = f"{slots:,} frames, {slots * height * width / 1e9:.3g} GB", "--set replay_capacity= keeps fewer"
            raise UserError("a replay that fits the memory", got, where="replay_capacity", hint=hint, code=Code.BAD_SETTING) from error
        self.shape = (self.stack, height, width)
        self.categories = np.zeros((slots, *example.categories.shape[1:]), np.int64)

    def _write(self, slot: IntArray, state: DenseState) -> None:
        self._keep(slot, state.numbers[:, -1])
        self.categories[slot] = state.categories

    def _keep(self, slot: IntArray, frames: NDArray[Any]) -> None:
        flat = torch.from_numpy(np.ascontiguousarray(frames).reshape(len(frames), -1))
        self.frames[torch.from_numpy(slot).to(self.device)] = flat.to(self.device)

    def _lead(self, lanes: IntArray, state: DenseState) -> None:
        for place in range(self.stack - 1):
            slot = self._slot(self.written[lanes], lanes)
            self._keep(slot, state.numbers[:, place])
            self.action[slot] = OPEN
            self.written[lanes] += 1

    def _read(self, slot: IntArray) -> DenseState:
        """Frames as a tensor on the device, uint8 [n, C, H, W]."""
        start = slot // self.lane_states * self.lane_states
        places = start[:, None] + (slot[:, None] - start[:, None] - np.arange(self.stack - 1, -1, -1)) % self.lane_states
        stacks = self.frames.index_select(0, torch.from_numpy(places.ravel()).to(self.device))
        return DenseState(stacks.view(len(slot), *self.shape), self.categories[slot])  # type: ignore[arg-type]

    def complete(self, index: IntArray) -> NDArray[np.bool_]:
        """Which slots hold a transition whose whole stack is still there, bool [len(index)]."""
        lane = index // self.lane_states
        newest = self.written[lane] - 1
        age = (newest - index) % self.lane_states  # 0 for the newest slot: lanes begin at multiples of lane_states
        held: NDArray[np.bool_] = (self.action[index] != OPEN) & (age + self.stack - 1 < self.filled()[lane])
        return held
