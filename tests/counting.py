"""Gymnasium environments whose every observation, reward and end is known."""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Counting(gymnasium.Env):
    """Counts its steps. An episode of seed s is truncated or terminated (in turn) after 2 + s % 3 steps, the next one after
    one step more, and so on in turn.

    Observation [seed, episode, step]; reward 100 * episode + step after the step, plus 0.25 * action.
    """

    observation_space = spaces.Box(-1, 1e6, (3,), np.float32)
    action_space = spaces.Discrete(4)

    def __init__(self) -> None:
        self.first = self.episode = self.t = -1

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self.first, self.episode = seed, -1
        self.episode, self.t = self.episode + 1, 0
        return self.seen(), self.info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        over = self.t == length(self.first, self.episode)
        ends = (over and self.episode % 2 == 1, over and self.episode % 2 == 0)
        return self.seen(), 100 * self.episode + self.t + 0.25 * float(action), *ends, self.info()

    def seen(self) -> Any:
        return np.array([self.first, self.episode, self.t], np.float32)

    def info(self) -> dict[str, Any]:
        return {}


def length(seed: int, episode: int) -> int:
    """Steps of an episode of `Counting`."""
    return 2 + (seed + episode) % 3


def mask_at(episode: int, t: int) -> np.ndarray:
    """Legal actions of the masked ones: all but (episode + t) % 4."""
    mask = np.ones(4, np.int8)
    mask[(episode + t) % 4] = 0
    return mask


class MaskInObservation(Counting):
    observation_space = spaces.Dict({"action_mask": spaces.Box(0, 1, (4,), np.int8), "x": Counting.observation_space})

    def seen(self) -> Any:
        return {"x": super().seen(), "action_mask": mask_at(self.episode, self.t)}


class MaskInInfo(Counting):
    def info(self) -> dict[str, Any]:
        return {"action_mask": mask_at(self.episode, self.t)}


class NothingLegal(Counting):
    """Nothing is legal after the second step."""

    def info(self) -> dict[str, Any]:
        return {"action_mask": np.full(4, self.t != 2, np.int8)}


class OneStep(Counting):
    """Every episode ends at once."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        return self.seen(), float(action), True, False, {}


class Spoilt(Counting):
    """Goes wrong at step 2 in a way of its own."""

    def __init__(self, part: str, value: Any) -> None:
        super().__init__()
        self.part, self.value = part, value

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        seen, reward, _, _, info = super().step(action)
        if self.t == 2 and self.part == "raise":
            raise self.value
        if self.t == 2 and self.part == "observation":
            seen = self.value
        if self.t == 2 and self.part == "reward":
            reward = self.value
        if self.t == 2 and self.part == "mask":
            info = {"action_mask": self.value}
        return seen, reward, False, False, info


class Showing(Counting):
    """Shows one given observation of one given space."""

    def __init__(self, space: spaces.Space, seen: Any, action_space: spaces.Space | None = None) -> None:
        super().__init__()
        self.observation_space, self.given = space, seen
        self.action_space = action_space or Counting.action_space

    def seen(self) -> Any:
        return self.given


# factories, as a user names them on the command line


def counting() -> gymnasium.Env:
    return Counting()


def with_wrapper() -> gymnasium.Env:
    return gymnasium.wrappers.TimeLimit(Counting(), 2)


def fails() -> gymnasium.Env:
    raise OSError("the robot is unplugged")


def gives_text() -> str:
    return "an environment"


ONE = Counting()


def always_the_same() -> gymnasium.Env:
    return ONE


not_callable = 3
Make = Callable[[], gymnasium.Env]
