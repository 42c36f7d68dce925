"""A task that is played one decision at a time, with a picture of each moment."""

import math
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from qurate.environments.atari import atari_vectors, is_atari
from qurate.environments.from_gymnasium import FAILS, GymnasiumEngine, checked_env, make_task, registered, task_engine, task_factory
from qurate.errors import Code, UserError
from qurate.types import DenseState, Feedback, Observation

Picture = NDArray[np.uint8]
"""[H, W, 3]"""
ATARI_RATE, USUAL_RATE = 15.0, 30.0
"""Decisions per second of an Atari game with frame skip 4; of a task that declares no rate."""


class PicturedTask:
    """One lane of a task: `engine` for the policy, and `picture()` of what it sees now.

    Attributes: `engine`; `rate`, decisions per second at the task's own pace.
    """

    def __init__(self, engine: GymnasiumEngine, picture: Callable[[], Any], rate: float) -> None:
        self.engine, self._picture, self.rate = engine, picture, rate

    def reset(self, seed: int) -> Observation[DenseState]:
        """A new episode."""
        return self.engine.reset(seed, 1)

    def step(self, action: NDArray[np.int64]) -> Feedback:
        """One decision, int64 [1]."""
        return self.engine.step(action)

    def close(self) -> None:
        """Closes the environment."""
        self.engine.close()

    def picture(self) -> Picture:
        """uint8 [H, W, 3].

        Raises:
            UserError: the task draws something else.
        """
        drawn = _drawn(self._picture, self.engine.name)
        if not isinstance(drawn, np.ndarray) or drawn.dtype != np.uint8 or drawn.shape[2:] != (3,) or not drawn.size:
            got = f"{drawn.dtype} {list(drawn.shape)}" if isinstance(drawn, np.ndarray) else type(drawn).__name__
            raise UserError("pictures uint8 [H, W, 3] from render", got, where=self.engine.name, code=Code.BAD_ENV)
        return drawn


class _ColourTwin(PicturedTask):
    """The same Atari game twice, with the same seed and the same actions: small, grey and stacked for the policy, in colours for people."""

    def __init__(self, name: str) -> None:
        colours = {"grayscale": False, "img_height": 210, "img_width": 160, "stack_num": 1}
        self.twin = atari_vectors(name, **colours)(1)
        super().__init__(make_task(name), lambda: self.seen[0, 0], ATARI_RATE)

    def reset(self, seed: int) -> Observation[DenseState]:
        self.seen, _ = self.twin.reset(seed=seed)
        return super().reset(seed)

    def step(self, action: NDArray[np.int64]) -> Feedback:
        self.seen, *_ = self.twin.step(action)
        return super().step(action)

    def close(self) -> None:
        self.twin.close()
        super().close()


def pictured_task(name: str) -> PicturedTask:
    """A task by its id or `package.module:factory`, whose environment is made with render_mode "rgb_array".

    Raises:
        UserError: as `make_task`; or the task draws no pictures.
    """
    if is_atari(name):
        return _ColourTwin(name)
    make = task_factory(name)
    if make is None:
        registered(name)
    made = _made(lambda: make(render_mode="rgb_array") if make is not None else gymnasium.make(name, render_mode="rgb_array"), name)
    env = checked_env(made, name)
    if env.render_mode != "rgb_array":
        hint = 'its render_mode must be "rgb_array"; a factory takes it as an argument'
        raise UserError(
            "a task that draws pictures", f"render_mode {env.render_mode!r}", where=f"--env {name}", hint=hint, code=Code.BAD_ENV
        )
    declared: Any = env.metadata.get("render_fps")
    known = isinstance(declared, int | float) and 0 < declared < math.inf
    return PicturedTask(task_engine(lambda: env, name), env.render, float(declared) if known else USUAL_RATE)


def _drawn(picture: Callable[[], Any], name: str) -> Any:
    """What the environment draws; what it raises is told as a mistake there, or as a missing library."""
    try:
        return picture()
    except gymnasium.error.DependencyNotInstalled as error:
        hint = str(error).replace("\n", " ")
        raise UserError("the library that draws its pictures", "none", where=f"--env {name}", hint=hint, code=Code.MISSING_EXTRA) from error
    except FAILS as error:
        got = f"{type(error).__name__}: {error}"
        raise UserError("an environment that draws pictures", got, where=f"--env {name}", code=Code.BAD_ENV) from error


def _made(make: Callable[[], Any], name: str) -> Any:
    try:
        return make()
    except UserError:
        raise
    except FAILS as error:
        got, hint = f"{type(error).__name__}: {error}", 'it is made with render_mode="rgb_array"'
        raise UserError("a task that draws pictures", got, where=f"--env {name}", hint=hint, code=Code.BAD_ENV) from error
