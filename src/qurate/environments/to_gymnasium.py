"""The Gymnasium faces of the batched engine: `Env` for one customer, `VectorEnv` for many."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from qurate.environments.engine import BatchedEngine
from qurate.environments.rng import Keys
from qurate.errors import Code, UserError
from qurate.mdp.states import CONTEXT_NAMES
from qurate.types import Feedback, IntArray, Observation

Arrays = dict[str, Any]
VALUES = "candidate_features"
"""Key of what is seen of each candidate, float32 [K, G], where the catalogue turns over; the engine's `candidate_columns` names them."""
CELL = 16
"""Pixels of a side of an event's cell in `render`."""
ITEM_COLOURS = np.array([37, 101, 67])


def observation_space(engine: BatchedEngine) -> spaces.Dict:
    """The contract's Dict space for one customer."""
    length, n = engine.window, engine.n_items
    k = engine.n_candidates or n

    def numbers(size: int, low: float) -> spaces.Box:
        return spaces.Box(low, np.inf, (size,), np.float32)

    parts: dict[str, spaces.Space[Any]] = {
        "history_items": spaces.Box(0, n, (length,), np.int64),
        "history_types": spaces.Box(0, len(engine.type_names), (length,), np.int64),
        "history_gaps": numbers(length, 0.0),
        "history_values": numbers(length, -np.inf),
        "user": numbers(len(engine.user_feature_names), -np.inf),
        "context": numbers(len(CONTEXT_NAMES), 0.0),
        "candidates": spaces.Box(0, n, (k,), np.int64),
        "action_mask": spaces.Box(0, 1, (k,), np.int8),
    }
    if engine.candidate_columns:
        parts[VALUES] = spaces.Box(-np.inf, np.inf, (k, len(engine.candidate_columns)), np.float32)
    return spaces.Dict(parts)


class OpenPositions(spaces.Discrete):
    """Discrete(K) whose `sample` draws among the positions that may be chosen now (`now`, int8 [K]; None = all of them), as long as
    it is given no mask of its own. An environment's `action_space.sample()` so is an action that it takes."""

    def __init__(self, n: int) -> None:
        super().__init__(n)
        self.now: NDArray[np.int8] | None = None

    def sample(self, mask: Any = None, probability: Any = None) -> np.int64:
        """A position; `mask` and `probability` as in Gymnasium's Discrete."""
        if probability is not None:
            return super().sample(mask, probability)
        return super().sample(self.now if mask is None else mask)


def action_space(engine: BatchedEngine) -> spaces.Space[Any]:
    """Discrete(K), or MultiDiscrete([K] * k) whose positions must be distinct."""
    k = engine.n_candidates or engine.n_items
    if engine.slate_size == 1:
        return OpenPositions(k)
    return spaces.MultiDiscrete([k] * engine.slate_size)


class RecommenderEnv(gymnasium.Env[Arrays, Any]):
    """Customers of an engine, one after the other. `reset()` without a seed brings the next customer.

    `info = {"components": {name: float}, "item_ids": [...], "time": seconds, "available": int}`, where `time` is seconds
    since 1970 at the next decision and `item_ids` what the last action showed.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012 - Gymnasium's own declaration

    def __init__(self, engine: BatchedEngine, render_mode: str | None = None) -> None:
        self.engine, self.render_mode = engine, render_mode
        engine.keep_final = True
        self.observation_space = observation_space(engine)
        self.action_space = action_space(engine)
        self._seed = 0
        self._current: Observation | None = None
        self._between = False  # the engine already holds the next customer

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Arrays, dict[str, Any]]:
        """A new customer: the first one of `seed`, or the next one."""
        super().reset(seed=seed)
        if seed is not None or self._current is None:
            self._seed = int(self.np_random.integers(2**31)) if seed is None else seed
            self._current = self.engine.reset(self._seed, 1)
        elif self._between:
            self._current = self.engine.observation
        else:
            self._current = self.engine.reset(self._seed, 1, int(self.engine.customer[0]) + 1)
        self._between = False
        self._offer()
        zeros = np.zeros(len(self.engine.component_names), np.float32)
        return _row(self._current), self._info(self._current, zeros, [], int(self.engine.clock[0]))

    def step(self, action: Any) -> tuple[Arrays, float, bool, bool, dict[str, Any]]:
        """Shows one item (position in the candidates), or a slate of distinct positions."""
        if self._current is None or self._between:
            raise gymnasium.error.ResetNeeded("call reset() before step(): no customer is here")
        actions = whole_numbers(action)
        if actions.size != self.engine.slate_size:
            expected, got = f"an action of {self.engine.slate_size} whole numbers", f"shape {list(actions.shape)}"
            raise UserError(expected, got, where="step", code=Code.BAD_ACTION)
        actions = actions.reshape((1,) if self.engine.slate_size == 1 else (1, -1))
        shown = self._current.actions.candidates[0]
        feedback = self.engine.step(actions)
        items = shown[actions[0]].reshape(-1).tolist()
        over = bool(feedback.terminated[0] or feedback.truncated[0])
        self._between = over
        final = self.engine.final if over else None
        self._current = feedback.obs if final is None else final
        self._offer()
        item_ids = [self.engine.item_ids[i - 1] for i in items]
        info = self._info(self._current, feedback.components[0], item_ids, int(feedback.clock[0]))
        return _row(self._current), float(feedback.reward[0]), bool(feedback.terminated[0]), bool(feedback.truncated[0]), info

    def render(self) -> NDArray[np.uint8] | None:
        """The customer's history, uint8 [2 cells, window cells, 3], newest event last; None without a render mode.

        The upper cell of an event has the colour of its item, the lower one the grey of its type; black is padding.
        """
        if self.render_mode is None or self._current is None:
            return None
        items, types = (np.asarray(part[0], np.int64) for part in self._current.state[:2])
        colours = 80 + (items[:, None] * ITEM_COLOURS) % 176  # neighbouring numbers differ in all three channels
        greys = (255 * types / max(len(self.engine.type_names), 1))[:, None].repeat(3, axis=1)
        cells = (np.stack([colours, greys]) * (items > 0)[:, None]).astype(np.uint8)
        return cells.repeat(CELL, axis=0).repeat(CELL, axis=1)

    def _offer(self) -> None:
        """Tells the action space which positions may be chosen."""
        if isinstance(self.action_space, OpenPositions) and self._current is not None:
            self.action_space.now = self._current.actions.mask[0]

    def _info(self, seen: Observation, components: NDArray[np.float32], item_ids: list[str], clock: int) -> dict[str, Any]:
        named = dict(zip(self.engine.component_names, components.tolist()))
        return {"components": named, "item_ids": item_ids, "time": clock / 1e6, "available": int(seen.actions.mask.sum())}


class RecommenderVectorEnv(VectorEnv[Arrays, NDArray[Any], NDArray[Any]]):
    """B customers of an engine at once, autoreset mode SAME_STEP: the last observation of an ended episode is in
    `infos["final_obs"]` (object array of dicts) with the mask `infos["_final_obs"]`, as Gymnasium's own vector environments do.
    """

    def __init__(self, engine: BatchedEngine, num_envs: int) -> None:
        self.engine, self.num_envs = engine, num_envs
        engine.keep_final = True
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}
        self.single_observation_space = observation_space(engine)
        self.single_action_space = action_space(engine)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._seeds: Keys | None = None

    def reset(self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None) -> tuple[Arrays, dict[str, Any]]:
        """New customers in all lanes. Lane i serves the customers of seed + i, or of the i-th of a list of seeds (None: a
        random one): the same that `RecommenderEnv.reset(seed=...)` brings. Without a seed: the next customers."""
        if isinstance(seed, list) and len(seed) != self.num_envs:
            raise UserError(f"{self.num_envs} seeds", str(len(seed)), where="reset", code=Code.BAD_SEED)
        super().reset(seed=next((s for s in seed if s is not None), None) if isinstance(seed, list) else seed)
        customers: IntArray | int = 0
        if seed is None and self._seeds is not None:
            customers = self.engine.customer + 1
        else:
            self._seeds = self._lane_seeds(seed)
        observation = self.engine.reset_lanes(self._seeds, customers)
        zeros = np.zeros((self.num_envs, len(self.engine.component_names)), np.float32)
        return _all(observation), self._infos(observation, zeros, self.engine.clock)

    def _lane_seeds(self, seed: int | list[int | None] | None) -> Keys:
        drawn = [int(s) for s in self.np_random.integers(2**31, size=self.num_envs)] if not isinstance(seed, int) else []
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seed or drawn
        return np.array([(drawn[i] if s is None else s) % 2**64 for i, s in enumerate(seeds)], np.uint64)

    def step(self, actions: NDArray[Any]) -> tuple[Arrays, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """One decision for each customer."""
        feedback: Feedback = self.engine.step(whole_numbers(actions))
        infos = self._infos(feedback.obs, feedback.components, feedback.clock)
        over = feedback.terminated | feedback.truncated
        if over.any() and self.engine.final is not None:
            last = np.full(self.num_envs, None, dtype=object)
            for lane in np.flatnonzero(over).tolist():
                last[lane] = _row(self.engine.final, lane)
            infos |= {"final_obs": last, "_final_obs": over}
        return _all(feedback.obs), feedback.reward.astype(np.float64), feedback.terminated, feedback.truncated, infos

    def _infos(self, seen: Observation, components: NDArray[np.float32], clock: NDArray[np.int64]) -> dict[str, Any]:
        everywhere = np.ones(self.num_envs, np.bool_)
        named: dict[str, Any] = {name: components[:, i] for i, name in enumerate(self.engine.component_names)}
        named |= {f"_{name}": everywhere for name in self.engine.component_names}
        available = seen.actions.mask.sum(axis=1, dtype=np.int64)
        infos = {"components": named, "time": clock / 1e6, "available": available}
        return infos | {f"_{name}": everywhere for name in infos}


def whole_numbers(action: Any) -> IntArray:
    """An action as int64; numbers of another kind are refused rather than cut off."""
    numbers = np.asarray(action)
    if numbers.dtype.kind not in "iu":
        raise UserError("a whole number as action", f"{action} ({numbers.dtype})", where="step", code=Code.BAD_ACTION)
    if numbers.dtype.kind == "u" and numbers.size and numbers.max() > np.iinfo(np.int64).max:
        raise UserError("an action within int64", str(numbers.max()), where="step", code=Code.BAD_ACTION)
    return numbers.astype(np.int64)


def _row(observation: Observation, lane: int = 0) -> Arrays:
    """One customer's observation as the contract's dict; arrays of its own."""
    return {name: np.array(value[lane]) for name, value in _named(observation).items()}


def _all(observation: Observation) -> Arrays:
    return {name: np.array(value) for name, value in _named(observation).items()}


def _named(observation: Observation) -> Arrays:
    """The contract's names of the arrays of an observation."""
    state, actions = observation
    named = state._asdict() | {"candidates": actions.candidates, "action_mask": actions.mask}
    return named if actions.values is None else named | {VALUES: actions.values}
