"""`check_env`: what a batched engine or a Gymnasium environment promises."""

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from qurate.errors import QurateError
from qurate.mdp.states import CONTEXT_NAMES, derive_context
from qurate.testing.rules import equal, require, require_array
from qurate.types import Engine, Feedback, IntArray, Observation

CUSTOMERS, STEPS = 24, 8
"""How many customers, for how many decisions, `check_env` watches."""


def check_env(env: Engine | gymnasium.Env[Any, Any]) -> None:
    """A batched engine, or one of our Gymnasium environments.

    Rules: catalogue, observation, feedback, history, same seed same customers, another seed other customers, batch size changes
    nothing, illegal actions are refused; for Gymnasium: observation space, info, reward, and the seed's.
    """
    if isinstance(env, gymnasium.Env):
        return _check_gym(env)
    _check_catalogue(env)
    first = _watch(env, 5, CUSTOMERS, check=True)
    require(equal(first, _watch(env, 5, CUSTOMERS)), "same seed, same customers", "seed 5 was played twice with the same actions")
    require(not equal(first, _watch(env, 6, CUSTOMERS)), "another seed, other customers", "seeds 5 and 6 gave the same feedback")
    for n in (1, 7):
        few = _watch(env, 5, n)
        same = all(equal([a[:n][alive] for a in all_], [a[alive] for a in some]) for alive, all_, some in _first_episodes(first, few, n))
        require(same, "batch size changes nothing", f"the first {n} of {CUSTOMERS} customers answer otherwise when they are alone")
    observation = env.reset(5, 2)
    shape = (2,) if np.ndim(legal_actions(env, observation, 0)) == 1 else (2, legal_actions(env, observation, 0).shape[1])
    for bad in (-1, observation.actions.candidates.shape[1]):
        refused = False
        try:
            env.step(np.full(shape, bad, np.int64))
        except QurateError:
            refused = True
        require(refused, "illegal actions are refused", f"position {bad} of {observation.actions.candidates.shape[1]} candidates was taken")


def _check_catalogue(env: Engine) -> None:
    rule, n, parts = "catalogue", len(env.item_ids), len(env.component_names)
    for name in ("item_ids", "type_names", "component_names", "user_feature_names"):
        values = list(getattr(env, name))
        require(len(set(values)) == len(values) and all(isinstance(v, str) for v in values), rule, f"{name} are not distinct texts")
    require_array(env.component_weights, (parts,), np.float32, rule, "component_weights")
    require_array(env.item_features, (n + 1, len(env.feature_names)), np.float32, rule, "item_features")
    require(not env.item_features[0].any(), rule, "item_features[0] is padding and must be zeros")


def _check_observation(env: Engine, o: Observation, n: int) -> None:
    rule, (length, k) = "observation", (o.state.history_items.shape[1], o.actions.candidates.shape[1])
    parts = {**o.state._asdict(), "candidates": o.actions.candidates, "action_mask": o.actions.mask}
    for name, width, dtype in (
        ("history_items", length, np.int64), ("history_types", length, np.int64), ("history_gaps", length, np.float32),
        ("history_values", length, np.float32), ("user", len(env.user_feature_names), np.float32),
        ("context", len(CONTEXT_NAMES), np.float32), ("candidates", k, np.int64), ("action_mask", k, np.int8),
    ):  # fmt: skip
        value = parts[name]
        require_array(value, (n, width), dtype, rule, name)
        require(np.isfinite(value).all(), rule, f"{name} is not finite")
    require(((o.state.history_items >= 0) & (o.state.history_items <= len(env.item_ids))).all(), rule, "history_items outside 0..N")
    require(((o.state.history_types >= 0) & (o.state.history_types <= len(env.type_names))).all(), rule, "history_types outside 0..M")
    real = o.state.history_types > 0
    require((real[:, 1:] >= real[:, :-1]).all(), rule, "padding is not on the left")
    require(not (o.state.history_items[~real].any() or o.state.history_gaps[~real].any()), rule, "padding is not 0")
    require((o.state.history_gaps >= 0).all(), rule, "a gap below 0 s")
    require(
        np.array_equal(o.state.context, derive_context(o.state.history_types, o.state.history_gaps)),
        rule,
        "context is not derive_context(window)",
    )
    require(((o.actions.candidates >= 0) & (o.actions.candidates <= len(env.item_ids))).all(), rule, "candidates outside 0..N")
    require(np.isin(o.actions.mask, (0, 1)).all(), rule, "action_mask is not 0 or 1")
    require(not o.actions.mask[o.actions.candidates == 0].any(), rule, "padding among the candidates is open")
    require(o.actions.mask.any(axis=1).all(), rule, "a customer without any allowed candidate")


def _check_feedback(env: Engine, before: Observation, f: Feedback, n: int) -> None:
    rule, r = "feedback", f.rows
    for name, shape, dtype in (
        ("reward", (n,), np.float32), ("components", (n, len(env.component_names)), np.float32), ("terminated", (n,), np.bool_),
        ("truncated", (n,), np.bool_), ("clicked", (n,), np.int64), ("clock", (n,), np.int64), ("pause", (n,), np.float32),
    ):  # fmt: skip
        require_array(getattr(f, name), shape, dtype, rule, name)
    require(np.allclose(f.reward, f.components @ env.component_weights, rtol=1e-5), rule, "reward is not the weighted sum of components")
    require(not (f.terminated & f.truncated).any(), rule, "terminated and truncated at once")
    require((f.pause >= 0).all() and not f.pause[f.terminated].any(), rule, "a pause below 0 s, or of a customer who is gone")
    require(((r.lane >= 0) & (r.lane < n)).all(), rule, "a row of no lane")
    require(((r.item >= 0) & (r.item <= len(env.item_ids))).all(), rule, "a row with an item outside 0..N")
    require(((r.type >= 1) & (r.type <= len(env.type_names))).all(), rule, "a row with a type outside 1..M")
    require((r.time <= f.clock[r.lane]).all(), rule, "a row later than the next decision")
    order = np.argsort(r.lane, kind="stable")
    same_lane = np.diff(r.lane[order]) == 0
    require((np.diff(r.time[order])[same_lane] >= 0).all(), rule, "rows of a customer are not in order of time")
    length = before.state.history_items.shape[1]
    for lane in np.flatnonzero(~(f.terminated | f.truncated))[:8].tolist():
        own = order[r.lane[order] == lane]
        for name, new in (("history_items", r.item[own]), ("history_types", r.type[own]), ("history_values", r.value[own])):
            expected = np.concatenate([getattr(before.state, name)[lane], new])[-length:]
            require(np.array_equal(getattr(f.obs.state, name)[lane], expected), "history", f"{name} is not the old window and the new rows")


def legal_actions(env: Engine, o: Observation, step: int) -> IntArray:
    """Legal actions that depend on lane and step only."""
    open_ = np.argsort(o.actions.mask == 0, axis=1, kind="stable")
    count, k = o.actions.mask.sum(axis=1, dtype=np.int64), int(getattr(env, "slate_size", 1))
    lane = np.arange(len(count))
    first = (lane * 7 + step * 13) % np.maximum(count - k + 1, 1)
    picked: IntArray = np.take_along_axis(open_, first[:, None] + np.arange(k), axis=1).astype(np.int64)
    return picked[:, 0] if k == 1 else picked


def _watch(env: Engine, seed: int, n: int, check: bool = False) -> list[NDArray[Any]]:
    """Everything n customers of a seed were seen to do: arrays [n, ...], eleven for each step."""
    observation = env.reset(seed, n)
    if check:
        _check_observation(env, observation, n)
    seen: list[NDArray[Any]] = []
    for step in range(STEPS):
        seen += [np.array(x) for x in (*observation.state, observation.actions.candidates)]
        f = env.step(legal_actions(env, observation, step))
        if check:
            _check_observation(env, f.obs, n)
            _check_feedback(env, observation, f, n)
        seen += [np.array(x) for x in (f.components, f.terminated | f.truncated, f.clicked, f.clock)]
        observation = f.obs
    return seen


def _first_episodes(many: list[NDArray[Any]], few: list[NDArray[Any]], n: int) -> Any:
    """(lanes still with their first customer, arrays of a step at one size, at the other)."""
    alive = np.ones(n, np.bool_)
    for at in range(0, len(many), 11):
        yield alive.copy(), many[at : at + 11], few[at : at + 11]
        alive &= ~many[at + 8][:n]


def _check_gym(env: gymnasium.Env[Any, Any]) -> None:
    def play(seed: int) -> list[Any]:
        observation, info = env.reset(seed=seed)
        seen: list[Any] = []
        for step in range(3 * STEPS):
            require(env.observation_space.contains(observation), "observation space", f"step {step} is outside of it")
            require({"components", "item_ids", "time", "available"} <= set(info), "info", f"step {step} has {sorted(info)}")
            legal = np.flatnonzero(observation["action_mask"])
            slate = isinstance(env.action_space, gymnasium.spaces.MultiDiscrete)
            action = legal[: len(env.action_space.nvec)] if slate else legal[step * 7 % len(legal)]  # type: ignore[attr-defined]
            observation, reward, terminated, truncated, info = env.step(action)
            require(isinstance(reward, float) and np.isfinite(reward), "reward", f"{reward!r} is no finite float")
            require(not (terminated and truncated), "ends", "terminated and truncated at once")
            seen += [reward, terminated, truncated, *(np.array(x) for x in observation.values())]
            if terminated or truncated:
                observation, info = env.reset()
        return [np.asarray(x) for x in seen]

    first = play(3)
    require(equal(first, play(3)), "same seed, same customers", "seed 3 was played twice with the same actions")
    require(not equal(first, play(4)), "another seed, other customers", "seeds 3 and 4 gave the same feedback")
