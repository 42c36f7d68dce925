"""Tasks that draw pictures, or try to."""

import sys
from typing import Any, ClassVar

import numpy as np

from counting import Counting


class Drawing(Counting):
    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 20}

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__()
        self.render_mode = render_mode

    def render(self) -> Any:
        return np.full((4, 6, 3), self.t, np.uint8)


class Talking(Drawing):
    """Prints, as pygame does when it is imported."""

    def step(self, action: Any) -> Any:
        print("hello from the task")
        return super().step(action)


class OddRate(Drawing):
    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": "fast"}


class NothingDrawn(Drawing):
    def render(self) -> Any:
        return np.zeros((0, 6, 3), np.uint8)


class Leaving(Drawing):
    def render(self) -> Any:
        sys.exit(4)


class Endless(Drawing):
    def step(self, action: Any) -> Any:
        seen, reward, _, _, info = super().step(action)
        return seen, reward, False, False, info


def gives_text(render_mode: str | None = None) -> str:
    return "an environment"
