"""Tasks for `--env toy_tasks:NAME`: the toys as Gymnasium tasks whose observation is the state's number, and small ones of other kinds."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from qurate.environments.scenarios.toys import FiniteMDP, toy_chain, toy_clickbait, toy_delayed, toy_satiation


class ToyTask(gymnasium.Env[int, int]):
    """A finite MDP whose state is seen."""

    def __init__(self, mdp: FiniteMDP) -> None:
        self.mdp = mdp
        self.observation_space = spaces.Discrete(len(mdp.states))
        self.action_space = spaces.Discrete(len(mdp.items))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.state = self.mdp.start
        return self.state, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        mdp, at = self.mdp, (self.state, int(action))
        reward = float(mdp.amount[at]) if self.np_random.random() < mdp.chance[at] else 0.0
        after = int((self.np_random.random() >= mdp.transition[at].cumsum()).sum())
        gone = after == len(mdp.states)
        self.state = self.mdp.start if gone else after
        return self.state, reward, gone, False, {}


def chain() -> ToyTask:
    return ToyTask(toy_chain())


def clickbait() -> ToyTask:
    return ToyTask(toy_clickbait())


def satiation() -> ToyTask:
    return ToyTask(toy_satiation())


def delayed() -> ToyTask:
    return ToyTask(toy_delayed())


class Small(gymnasium.Env[Any, int]):
    """Eight decisions; the action that the observation names earns 1. `kind` says what the observation is."""

    action_space = spaces.Discrete(3)

    def __init__(self, kind: str, broken: float | None = None) -> None:
        self.kind, self.broken = kind, broken
        self.observation_space = {
            "numbers": spaces.Box(-1, 1, (3,), np.float32),
            "pixels": spaces.Box(0, 255, (12, 12), np.uint8),
            "integers": spaces.MultiDiscrete([3, 4]),
            "dict": spaces.Dict({"which": spaces.Discrete(3), "clock": spaces.Box(0, 8, (), np.float32)}),
            "masked": spaces.Dict({"which": spaces.Box(-1, 1, (3,), np.float32), "action_mask": spaces.MultiBinary(3)}),
        }[kind]

    def _observe(self) -> Any:
        one = np.eye(3, dtype=np.float32)[self.right]
        if self.kind == "pixels":
            return np.repeat((one * 255).astype(np.uint8), 4)[None].repeat(12, 0)
        if self.kind == "integers":
            return np.array([self.right, self.at % 4])
        if self.kind == "dict":
            return {"which": self.right, "clock": np.array(self.at, np.float32)}
        mask = np.ones(3, np.int8)
        mask[(self.right + 1) % 3] = 0
        return {"which": one, "action_mask": mask} if self.kind == "masked" else one

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.at, self.right = 0, int(self.np_random.integers(3))
        return self._observe(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.kind != "masked" or action != (self.right + 1) % 3, "an illegal action"
        reward = float(action == self.right) if self.broken is None else self.broken
        self.at, self.right = self.at + 1, int(self.np_random.integers(3))
        return self._observe(), reward, False, self.at == 8, {}


def numbers() -> Small:
    return Small("numbers")


def pixels() -> Small:
    return Small("pixels")


def integers() -> Small:
    return Small("integers")


def dict_of_both() -> Small:
    return Small("dict")


def masked() -> Small:
    return Small("masked")


def not_a_number() -> Small:
    return Small("numbers", broken=float("nan"))


def huge() -> Small:
    return Small("numbers", broken=1e30)
