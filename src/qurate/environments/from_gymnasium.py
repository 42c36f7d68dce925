"""Any Gymnasium task as a batched engine: an id such as CartPole-v1, or a user's own `package.module:factory`."""

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import concatenate, create_empty_array
from gymnasium.wrappers import FrameStackObservation
from numpy.typing import NDArray

from qurate.environments.atari import atari_vectors, is_atari
from qurate.environments.lane import UNSEEN, Lane, misfit, step_limit
from qurate.environments.observation_layout import MASK, Layout, TaskSpec
from qurate.environments.worlds import WORLDS
from qurate.errors import Code, QurateError, UserError, innermost, nearest
from qurate.types import Actions, DenseState, EventRows, Feedback, FloatArray, IntArray, Observation

MAX_REWARD = 1e15
"""Rewards of this size or more are refused: float32 cannot hold the square of their sums."""

FAILS = (Exception, SystemExit)
"""What code of a user may raise: who calls `sys.exit` there must not end a training without a word."""

MakeEnv = Callable[[], gymnasium.Env[Any, Any]]
MakeVector = Callable[[int], VectorEnv[Any, Any, Any]]


class GymnasiumEngine:
    """`Engine` of types.py over Gymnasium environments, one per lane; its observations are `Observation[DenseState]`.

    Actions are positions 0..n-1 of the task's Discrete(n) space, whatever its start. The mask holds the legal ones: int8 [n] in
    the observation's "action_mask", else in info["action_mask"], else all. One reward component, "reward".

    Where an episode ends, `Feedback.obs` is already the first observation of the next one, whatever the autoreset mode:

    * SAME_STEP: the vector environment does it itself; the last observation is in its infos.
    * NEXT_STEP and DISABLED: the engine resets the ended lanes within the same step, through `reset(options={"reset_mask"})`. So
      the step in which a NEXT_STEP environment would ignore the action and answer reward 0 never happens: a learner
      never sees that transition, which nobody decided. A vector environment that cannot reset single lanes is refused.

    `Feedback.final` [B, ...] is set where any episode ended: each lane's successor before the reset, in the lanes that went on the
    same as `obs`; `final_actions` are the actions legal there (all, where the episode terminated).
    `Feedback.clock` counts the lane's decisions since `reset`; `pause` is 0 and there are no history rows.

    Args:
        make_vector: gives a vector environment of n lanes; it must declare its autoreset mode.
        name: in error messages.

    Attributes: `spec`, what a network must know; `max_steps`, the step limit of an episode if one is known, else None; `frames`, the
    number of frames that an observation stacks (1 = not known to be a stack); `overlaps`, whether the environments compute on
    their own between `send` and `receive`.
    """

    restores_exactly = False
    """`restore` begins new episodes: a foreign environment's inner state cannot be saved."""

    rows_per_step = 0

    def __init__(self, make_vector: MakeVector, name: str) -> None:
        self.name, self._make_vector, self._step = name, make_vector, 0
        self._vector = self._call(make_vector, 1)
        self._mode = self._vector.metadata.get("autoreset_mode")
        if not isinstance(self._mode, AutoresetMode):
            got = f"autoreset_mode = {self._mode}"
            raise UserError("a vector environment that declares its autoreset mode", got, where=name, code=Code.BAD_ENV)
        action = self._vector.single_action_space
        if not isinstance(action, spaces.Discrete):
            hint = "wrap it, so that actions are numbered"
            raise UserError("a Discrete action space", str(action), where=name, hint=hint, code=Code.BAD_ENV)
        self._space, self._start = self._vector.single_observation_space, int(action.start)
        self._layout = layout = Layout.of(self._space, name)
        self.n_items = n = int(action.n)
        self.frames = _stacked_frames(self._vector) if layout.pixels else 1
        self.overlaps = hasattr(self._vector, "step_async")
        self.spec = TaskSpec(layout.numbers_shape, np.dtype(np.uint8 if layout.pixels else np.float32), layout.sizes, n)
        limit = None if self._vector.spec is None else self._vector.spec.max_episode_steps
        self.max_steps: int | None = limit if limit is not None else _step_limit(self._vector)
        self.item_ids = [str(self._start + i) for i in range(n)]
        self.type_names: list[str] = []
        self.feature_names: list[str] = []
        self.user_feature_names: list[str] = []
        self.component_names, self.component_weights = ["reward"], np.ones(1, np.float32)
        self.item_features = np.zeros((n + 1, 0), np.float32)
        self.slate_size = 1

    def reset(self, seed: int, n: int) -> Observation[DenseState]:
        """New episodes in n lanes; lane i is seeded with seed + i.

        Raises:
            UserError: the environment fails, or what it gives is not what its spaces say.
        """
        self._step = 0
        if n != self._vector.num_envs:
            self.close()
            self._vector = self._call(self._make_vector, n)
        self.seed, self.n = seed, n
        self._clock = np.zeros(n, np.int64)
        self._candidates = np.broadcast_to(np.arange(1, self.n_items + 1, dtype=np.int64), (n, self.n_items))
        raw, infos = self._call(self._vector.reset, seed=seed)
        return self._observe(self._layout.encode(raw, self._where()), self._legal(raw, infos))

    def step(self, actions: NDArray[np.int64]) -> Feedback:
        """One decision in each lane: positions int64 [B], legal ones.

        Raises:
            UserError: an illegal action; or the environment fails, or gives what is not finite or does not fit its spaces. The
                message names the step, counted from 1 since `reset`.
        """
        self.send(actions)
        return self.receive()

    def send(self, actions: NDArray[np.int64]) -> None:
        """Begins the step that `receive` ends, see `step`."""
        self._check_actions(actions)
        self._step += 1
        self._sent = actions + self._start
        if self.overlaps:
            self._call(self._vector.step_async, self._sent)

    def receive(self) -> Feedback:
        """What the step brought that `send` began, see `step`."""
        result = self._call(self._vector.step_wait) if self.overlaps else self._call(self._vector.step, self._sent)
        raw, reward, terminated, truncated, infos = result
        reward = self._checked_reward(reward)
        terminated = np.asarray(terminated, np.bool_)
        truncated = np.asarray(truncated, np.bool_) & ~terminated
        over = terminated | truncated
        state, mask = self._layout.encode(raw, self._where()), self._legal(raw, infos)
        final, final_mask = None, None
        if over.any() and self._mode == AutoresetMode.SAME_STEP:
            final, final_mask = self._last(state, mask, infos, over)
        elif over.any():
            final, final_mask = state, mask.copy()
            state, mask = self._reset_lanes(state, mask, over)
        if final_mask is not None:
            final_mask[terminated] = 1
            self._require_legal(final_mask)
        self._clock = self._clock + 1
        return Feedback(
            self._observe(state, mask), reward, reward[:, None], terminated, truncated, np.full(self.n, -1), _no_rows(), self._clock,
            np.zeros(self.n, np.float32), final, None if final_mask is None else Actions(self._candidates, final_mask),
            life_lost=infos.get("life_lost"),
        )  # fmt: skip

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Seed, lanes and decisions so far, for `restore`."""
        return {"seed": np.array(self.seed), "n": np.array(self.n), "steps": np.array(self._step)}

    def restore(self, state: dict[str, NDArray[np.generic]]) -> Observation[DenseState]:
        """New episodes after those that `state` saw: not the interrupted ones, but always the same ones. Whoever stores
        transitions must begin anew with the observation returned."""
        entropy = [int(state["seed"]), int(state["steps"])]
        return self.reset(int(np.random.SeedSequence(entropy).generate_state(1)[0] >> 1), int(state["n"]))

    def close(self) -> None:
        """Closes the environments."""
        self._vector.close()

    def _where(self) -> str:
        return f"{self.name}, step {self._step}"

    def _call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Calls the user's code; what it raises is a mistake of that environment, with its own traceback as the cause."""
        try:
            return function(*args, **kwargs)
        except QurateError:
            raise
        except FAILS as error:
            hint = "gymnasium.utils.env_checker.check_env says more"
            fails = "an environment that runs", f"{type(error).__name__}: {error} ({innermost(error)})"
            expected, got = self._misfit() or fails
            raise UserError(expected, got, where=self._where(), hint=hint, code=Code.BAD_ENV) from error

    def _misfit(self) -> tuple[str, str] | None:
        """The first observation that does not fit the space, where the lanes are single environments of ours."""
        lanes = [env for env in getattr(getattr(self, "_vector", None), "envs", []) if isinstance(env, Lane)]
        return next((found for lane in lanes if lane.seen is not UNSEEN and (found := misfit(self._space, lane.seen))), None)

    def _observe(self, state: DenseState, mask: NDArray[np.int8]) -> Observation[DenseState]:
        self._require_legal(mask)
        self._mask = mask
        return Observation(state, Actions(self._candidates, mask))

    def _require_legal(self, mask: NDArray[np.int8]) -> None:
        none = ~mask.any(axis=1)
        if none.any():
            got = f"none in lane {int(none.argmax())}"
            raise UserError("at least one legal action", got, where=self._where(), hint=f"see {MASK}", code=Code.BAD_ENV)

    def _check_actions(self, actions: NDArray[np.int64]) -> None:
        if np.shape(actions) != (self.n,) or np.asarray(actions).dtype.kind != "i":
            got = f"{np.asarray(actions).dtype} {list(np.shape(actions))}"
            raise UserError(f"int64 actions of shape [{self.n}]", got, where="step", code=Code.BAD_ACTION)
        if actions.min() < 0 or actions.max() >= self.n_items:
            got = f"[{int(actions.min())}, {int(actions.max())}]"
            raise UserError(f"actions from 0 to {self.n_items - 1}", got, where="step", code=Code.BAD_ACTION)
        if not self._mask[np.arange(self.n), actions].all():
            raise UserError("actions that the mask allows", "an illegal one", where=self._where(), code=Code.ILLEGAL_ACTION)

    def _checked_reward(self, reward: Any) -> FloatArray:
        values = np.asarray(reward, np.float64)
        wrong = ~(np.abs(values) < MAX_REWARD)
        if values.shape != (self.n,) or wrong.any():
            got = f"shape {list(values.shape)}" if values.shape != (self.n,) else str(values[wrong][0])
            raise UserError(f"a finite reward below {MAX_REWARD:g}", got, where=self._where(), code=Code.BAD_ENV)
        return values.astype(np.float32)

    def _legal(self, raw: Any, infos: dict[str, Any]) -> NDArray[np.int8]:
        """Legal actions of each lane, int8 [B, n]: from the observation, else from the infos, else all."""
        mask, present = np.ones((self.n, self.n_items), np.int8), np.ones(self.n, np.bool_)
        if self._layout.has_mask:
            given = raw[MASK]
        elif MASK in infos:
            given, present = infos[MASK], np.asarray(infos.get(f"_{MASK}", present))
        else:
            return mask
        rows = np.array([np.asarray(row) for row in given[present]]) if given.dtype == object else given[present]
        if rows.shape[1:] != (self.n_items,):
            got = f"shape {list(rows.shape[1:])}"
            raise UserError(f"{MASK} of shape [{self.n_items}]", got, where=self._where(), code=Code.BAD_ENV)
        mask[present] = self._checked_mask(rows)
        return mask

    def _checked_mask(self, rows: NDArray[Any]) -> NDArray[np.bool_]:
        """Which actions are legal. A mask that is added to scores (0 and -inf) has the other meaning, and is refused."""
        wrong = ~((rows == 0) | (rows == 1))
        if wrong.any():
            raise UserError(f"0 or 1 in {MASK}", str(rows[wrong].flat[0]), where=self._where(), hint="1 = legal", code=Code.BAD_ENV)
        legal: NDArray[np.bool_] = rows != 0
        return legal

    def _last(
        self, state: DenseState, mask: NDArray[np.int8], infos: dict[str, Any], over: NDArray[np.bool_]
    ) -> tuple[DenseState, NDArray[np.int8]]:
        """SAME_STEP: states and legal actions before the reset, from the infos of the ended lanes."""
        lanes = np.flatnonzero(over)
        raws = [infos["final_obs"][lane] for lane in lanes.tolist()]
        batched = self._call(concatenate, self._space, raws, create_empty_array(self._space, len(raws)))
        final = DenseState(state.numbers.copy(), state.categories.copy())
        for whole, part in zip(final, self._layout.encode(batched, self._where())):
            whole[lanes] = part
        final_mask = mask.copy()
        if self._layout.has_mask:
            final_mask[lanes] = self._checked_mask(batched[MASK])
        else:
            final_mask[lanes] = self._legal(None, infos.get("final_info", {}))[lanes]
        return final, final_mask

    def _reset_lanes(self, state: DenseState, mask: NDArray[np.int8], over: NDArray[np.bool_]) -> tuple[DenseState, NDArray[np.int8]]:
        """NEXT_STEP and DISABLED: states and legal actions after new episodes began in the lanes that ended."""
        raw, infos = self._call(self._vector.reset, options={"reset_mask": over.copy()})
        fresh = self._layout.encode(raw, self._where())
        if any(not np.array_equal(new[~over], old[~over]) for new, old in zip(fresh, state)):
            raise UserError(
                f"a {self._mode.value} vector environment that can reset single lanes (options reset_mask)",
                "one that began new episodes in all of them",
                where=self._where(),
                hint="use autoreset mode SAME_STEP",
                code=Code.BAD_ENV,
            )
        return fresh, np.where(over[:, None], self._legal(raw, infos), mask).astype(np.int8)


def make_task(name: str, autoreset_mode: AutoresetMode = AutoresetMode.SAME_STEP) -> GymnasiumEngine:
    """The engine of a task that is not one of qurate's worlds.

    Args:
        name: a Gymnasium id, or `package.module:factory`: a callable without arguments that returns a new gymnasium.Env. The
            present directory is searched last for the module.
        autoreset_mode: of the vector environment made from single ones; it changes no transition.

    Raises:
        UserError: an unknown id, module or factory; a factory that fails or returns something else; spaces that are not
            supported.
    """
    if is_atari(name):
        return GymnasiumEngine(atari_vectors(name), name)
    make = task_factory(name)
    spec = None if make is not None else registered(name.rpartition(":")[2])
    if spec is not None and spec.entry_point is None:
        return GymnasiumEngine(lambda n: gymnasium.make_vec(spec, n, vectorization_mode="vector_entry_point"), name)
    return task_engine(make if make is not None else lambda: gymnasium.make(name, disable_env_checker=True), name, autoreset_mode)


def task_engine(make_one: MakeEnv, name: str, autoreset_mode: AutoresetMode = AutoresetMode.SAME_STEP) -> GymnasiumEngine:
    """The engine of the environments that a function makes, one for each lane; arguments and errors as for `make_task`."""

    def vector(n: int) -> VectorEnv[Any, Any, Any]:
        envs = [checked_env(make_one(), name) for _ in range(n)]
        if len({id(env) for env in envs}) < n:
            raise UserError("a new environment from each call", "the same one twice", where=name, code=Code.BAD_ENV)
        return SyncVectorEnv([lambda env=env: Lane(env) for env in envs], autoreset_mode=autoreset_mode)  # type: ignore[misc]

    return GymnasiumEngine(vector, name)


def checked_env(env: Any, name: str) -> gymnasium.Env[Any, Any]:
    """What a factory returned.

    Raises:
        UserError: it is no environment.
    """
    if not isinstance(env, gymnasium.Env):
        raise UserError("a factory that returns a gymnasium.Env", type(env).__name__, where=name, code=Code.BAD_ENV)
    return env


def task_factory(name: str) -> Callable[..., gymnasium.Env[Any, Any]] | None:
    """The callable behind `package.module:factory`; None for an id, also for `module:Id-v0`, which the module registers.

    Raises:
        UserError: an unknown module or callable.
    """
    if ":" not in name:
        return None
    module_name, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except FAILS as error:
        code = Code.UNKNOWN_ENVIRONMENT if isinstance(error, ModuleNotFoundError) else Code.BAD_ENV
        got = f"{type(error).__name__}: {error}"
        raise UserError(f"the module {module_name}", got, where="--env", hint="is it on PYTHONPATH?", code=code) from error
    if attribute in gymnasium.registry and not hasattr(module, attribute):
        return None
    make = getattr(module, attribute, None)
    if not callable(make):
        got = attribute if make is None else f"{attribute}, a {type(make).__name__}"
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        hint = nearest(attribute, known or ["nothing"])
        raise UserError(f"a callable in {module_name}", got, where="--env", hint=hint, code=Code.UNKNOWN_ENVIRONMENT)
    factory: Callable[..., gymnasium.Env[Any, Any]] = make
    return factory


def registered(name: str) -> Any:
    """Gymnasium's entry of an id.

    Raises:
        UserError: there is none.
    """
    try:
        return gymnasium.spec(name)
    except gymnasium.error.Error as error:
        known = nearest(name, [*WORLDS, *gymnasium.registry])
        hint = known if known.startswith("did") else f"known: {', '.join(WORLDS)}, Gymnasium's ids, or package.module:factory"
        raise UserError("a known environment", name, where="--env", hint=hint, code=Code.UNKNOWN_ENVIRONMENT) from error


def _step_limit(vector: VectorEnv[Any, Any, Any]) -> int | None:
    """The step limit that the vector environment or its first single one declares."""
    if hasattr(vector, "max_decisions"):
        return int(vector.max_decisions)
    envs = getattr(vector, "envs", [])
    return step_limit(envs[0]) if envs else None


def _stacked_frames(vector: VectorEnv[Any, Any, Any]) -> int:
    """How many frames an observation stacks: what the vector environment declares, or the outermost wrapper of a single one; else 1."""
    envs = [env.env if isinstance(env, Lane) else env for env in getattr(vector, "envs", [])]
    if envs and isinstance(envs[0], FrameStackObservation) and len(envs[0].observation_space.shape or ()) == 3:
        return int(envs[0].stack_size)
    return int(getattr(vector, "stacked_frames", 1))


def _no_rows() -> EventRows:
    none: IntArray = np.zeros(0, np.int64)
    return EventRows(none, none.astype(np.int32), none.astype(np.uint8), none, none.astype(np.float32))
