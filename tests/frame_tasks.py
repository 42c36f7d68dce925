"""Games of frames for `--env frame_tasks:NAME`, without ale-py: a ball falls, and a paddle catches it."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import FrameStackObservation
from numpy.typing import NDArray

SIDE, CELL = 36, 4
CELLS = SIDE // CELL


class Catch(gymnasium.Env[NDArray[np.uint8], int]):
    """The ball falls a cell a step, sideways too; caught it pays `prize`, missed it costs as much, and the game is over."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 8}  # noqa: RUF012
    action_space = spaces.Discrete(3)
    observation_space = spaces.Box(0, 255, (SIDE, SIDE), np.uint8)

    def __init__(self, prize: float = 1.0, broken: str = "", render_mode: str | None = None) -> None:
        self.prize, self.broken, self.render_mode = prize, broken, render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        super().reset(seed=seed)
        self.ball, self.paddle = [0, int(self.np_random.integers(CELLS))], CELLS // 2
        self.drift = int(self.np_random.integers(-1, 2))
        return self._frame(), {}

    def step(self, action: int) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        self.paddle = int(np.clip(self.paddle + int(action) - 1, 0, CELLS - 1))
        column = self.ball[1] + self.drift
        if not 0 <= column < CELLS:
            self.drift, column = -self.drift, self.ball[1] - self.drift
        self.ball = [self.ball[0] + 1, column]
        down = self.ball[0] == CELLS - 1
        reward = 0.0 if not down else self.prize if abs(column - self.paddle) <= 1 else -self.prize
        if self.broken == "nan" and down:
            reward = float("nan")
        info = {"action_mask": np.zeros(3, np.int8)} if self.broken == "no action" and self.ball[0] == 3 else {}
        return self._frame(), reward, down or self.broken == "ends at once", False, info

    def _frame(self) -> NDArray[np.uint8]:
        frame = np.zeros((SIDE, SIDE), np.uint8)
        row, column = CELL * self.ball[0], CELL * self.ball[1]
        frame[row : row + CELL, column : column + CELL] = 255
        frame[-CELL:, CELL * self.paddle : CELL * (self.paddle + 1)] = 128
        return frame

    def render(self) -> NDArray[np.uint8]:  # type: ignore[override]
        return np.repeat(self._frame()[:, :, None], 3, axis=2)


def catch(**options: Any) -> gymnasium.Env[Any, int]:
    return FrameStackObservation(Catch(**options), 4)


def rich() -> gymnasium.Env[Any, int]:
    return catch(prize=50.0)


def not_a_number() -> gymnasium.Env[Any, int]:
    return catch(broken="nan")


def too_much() -> gymnasium.Env[Any, int]:
    return catch(prize=1e30)


def ends_at_once() -> gymnasium.Env[Any, int]:
    return catch(broken="ends at once")


def catch_in_colours(render_mode: str | None = None) -> gymnasium.Env[Any, int]:
    return catch(render_mode=render_mode)


def no_action() -> gymnasium.Env[Any, int]:
    return catch(broken="no action")
