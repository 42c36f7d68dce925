"""Atari games: ale-py's own vector environment, with the preprocessing of Mnih et al. (2015, doi:10.1038/nature14236)."""

import os
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from numpy.typing import NDArray

from qurate.errors import Code, UserError, nearest

PREFIX, OLD_SUFFIX = "ALE/", "NoFrameskip-v4"
STICKY = 0.25
"""Probability that a frame repeats the last action, of the v5 ids (Machado et al. 2018, arXiv:1709.06009); 0 in the v4 ids."""
EVALUATION_EPSILON = 0.001
"""Probability of a random action in games that are only measured, so that no game goes round in circles."""
FRAME_SKIP, STACK, SIDE, NO_OPS = 4, 4, 84, 30
MOST_FRAMES = 108_000
"""Half an hour of play, after which a game is truncated."""


class AtariVector(VectorWrapper[Any, Any, Any, Any, Any]):
    """A vector environment of ale-py that also says which lives were lost, and lets only FIRE begin a life.

    * `info["life_lost"]` bool [B]: this step lost a life and the game goes on.
    * `info["action_mask"]` int8 [B, n]: where the game has FIRE, it is the one legal action of the first step of a life. Breakout
      and others wait for it, and a policy that never presses it would wait until the game is truncated.
    """

    stacked_frames = STACK
    """The channels of an observation are the newest frames, oldest first; consecutive observations share all but one."""

    max_decisions = MOST_FRAMES // FRAME_SKIP

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        import ale_py

        actions = list(env.ale.get_action_set())
        self._n_actions = len(actions)
        self._fire = actions.index(ale_py.Action.FIRE) if ale_py.Action.FIRE in actions else None
        self._lives = np.zeros(env.num_envs, np.int64)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """See `VectorEnv.reset`."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._lives = np.asarray(info["lives"], np.int64)
        return observation, self._told(info, np.ones(len(self._lives), np.bool_), np.zeros(len(self._lives), np.bool_))

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """See `VectorEnv.step`."""
        self.step_async(actions)
        return self.step_wait()

    def step_async(self, actions: NDArray[np.int64]) -> None:
        """Begins a step of all games in threads of their own."""
        self.env.send(actions)  # type: ignore[attr-defined]

    def step_wait(self) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """What the step brought that `step_async` began."""
        observation, reward, terminated, truncated, info = self.env.recv()  # type: ignore[attr-defined]
        lives, over = np.asarray(info["lives"], np.int64), terminated | truncated
        lost = (lives < self._lives) & ~over
        self._lives = lives
        return observation, reward, terminated, truncated, self._told(info, lost | over, lost)

    def _told(self, info: dict[str, Any], begins: NDArray[np.bool_], lost: NDArray[np.bool_]) -> dict[str, Any]:
        mask = np.ones((len(begins), self._n_actions), np.int8)
        if self._fire is not None:
            mask[begins] = 0
            mask[:, self._fire] = 1
        return info | {"action_mask": mask, "life_lost": lost}


def is_atari(name: str) -> bool:
    """Whether an id is one of an Atari game: `ALE/Breakout-v5`, or `BreakoutNoFrameskip-v4` (the same without sticky actions)."""
    return name.startswith(PREFIX) or name.endswith(OLD_SUFFIX)


def atari_vectors(name: str, **changes: Any) -> Callable[[int], VectorEnv[Any, Any, Any]]:
    """A function that makes n copies of an Atari game: frame skip 4, grey 84 x 84, 4 frames, up to 30 no-ops; rewards as they are.

    Args:
        name: see `is_atari`.
        changes: arguments of ale-py's vector environment in place of these.

    Raises:
        UserError: an unknown game, or ale-py is not installed.
    """
    game, sticky = _game(name), 0.0 if name.endswith(OLD_SUFFIX) else STICKY
    arguments: dict[str, Any] = {
        "frameskip": FRAME_SKIP, "stack_num": STACK, "img_height": SIDE, "img_width": SIDE, "grayscale": True, "noop_max": NO_OPS,
        "repeat_action_probability": sticky, "max_num_frames_per_episode": MOST_FRAMES, "episodic_life": False, "reward_clipping": False,
        "use_fire_reset": True, "autoreset_mode": AutoresetMode.SAME_STEP,
    }  # fmt: skip

    def make(n: int) -> VectorEnv[Any, Any, Any]:
        from ale_py.vector_env import AtariVectorEnv

        return AtariVector(AtariVectorEnv(game, n, num_threads=min(n, _cores()), **(arguments | changes)))

    return make


def _game(name: str) -> str:
    """ale-py's name of the game: `ms_pacman` for `ALE/MsPacman-v5`."""
    try:
        from ale_py import registration, roms
    except ImportError as error:
        hint = "pip install 'qurate[atari]'"
        raise UserError("the extra for Atari games", "no ale-py", where=f"--env {name}", hint=hint, code=Code.MISSING_EXTRA) from error
    ids = {
        form.format(registration.rom_id_to_name(rom)): rom
        for rom in roms.get_all_rom_ids()
        for form in (f"{PREFIX}{{}}-v5", f"{{}}{OLD_SUFFIX}")
    }
    if name not in ids or (name.startswith(PREFIX) and name not in gymnasium.registry):
        raise UserError("a known Atari game", name, where="--env", hint=nearest(name, ids), code=Code.UNKNOWN_ENVIRONMENT)
    return ids[name]


def _cores() -> int:
    """Cores that this process may use, less the one that learns, at least 1."""
    return max(len(os.sched_getaffinity(0)) - 1, 1) if hasattr(os, "sched_getaffinity") else 1
