"""One environment among the lanes of a vector environment."""

import copy
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit

UNSEEN = object()


class Lane(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment that may fill one and the same array with each observation.

    A vector environment of mode SAME_STEP keeps an episode's last observation and then resets the environment; an array that
    is filled again would show the next episode's first observation in both places.

    Attributes: `seen`, the newest observation as the environment gave it, `UNSEEN` before the first.
    """

    seen: Any = UNSEEN

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """As the environment's own."""
        self.seen, info = self.env.reset(seed=seed, options=options)
        return self.seen, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As the environment's own; the last observation of an episode is a copy."""
        self.seen, reward, terminated, truncated, info = self.env.step(action)
        last = copy.deepcopy(self.seen) if terminated or truncated else self.seen
        return last, reward, terminated, truncated, info


def step_limit(env: gymnasium.Env[Any, Any]) -> int | None:
    """The step limit of an episode: of Gymnasium's entry, else of a TimeLimit around the environment; None where there is neither."""
    if env.spec is not None and env.spec.max_episode_steps is not None:
        return int(env.spec.max_episode_steps)
    limits = []
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, TimeLimit):
            limits.append(int(env._max_episode_steps))
        env = env.env
    return min(limits, default=None)


def misfit(space: spaces.Space[Any], observation: Any, place: str = "observation") -> tuple[str, str] | None:
    """What was expected and what was there instead, of the first array that does not fit its space; None where all do."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        for key, part in space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces):
            try:
                inner = observation[key]
            except (LookupError, TypeError):
                return f"{place} with {key!r}", f"{observation!r:.60}".replace("\n", " ")
            found = misfit(part, inner, f"{place}[{key!r}]")
            if found is not None:
                return found
        return None
    try:
        array = np.asarray(observation)
    except ValueError:  # rows of different lengths
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        return f"{place}, an array of numbers", f"{observation!r:.60}".replace("\n", " ")
    shape = list(space.shape or ())
    if list(array.shape) != shape:
        return f"{place} of shape {shape}", f"shape {list(array.shape)}"
    castable = space.dtype is None or np.can_cast(array.dtype, space.dtype, "same_kind")
    return None if castable else (f"{place} of {space.dtype}", str(array.dtype))
