"""An environment as a caller gives it: a name, an object, or a function that makes one. Of objects copies are played."""

import copy
from collections.abc import Callable
from typing import Any

import gymnasium
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker

from qurate.environments.engine import BatchedEngine
from qurate.environments.from_gymnasium import GymnasiumEngine, make_task, task_engine
from qurate.environments.registry import make_engine
from qurate.environments.to_gymnasium import RecommenderEnv
from qurate.environments.worlds import is_world
from qurate.errors import Code, UserError

Environment = str | BatchedEngine | gymnasium.Env[Any, Any] | Callable[[], gymnasium.Env[Any, Any]]
"""A world's name, a Gymnasium id or `package.module:factory`; an engine; a Gymnasium environment; a function without arguments that
returns a new one."""
OBJECT = " object"
"""Ends the names of environments that were given as objects: nobody can make them again by their name."""


def name_of(env: Environment) -> str:
    """The name under which a model and a report keep the environment: an object's class or a function's name, and `OBJECT`."""
    if isinstance(env, str):
        return env
    shown = env.world if isinstance(env, BatchedEngine) else getattr(env, "unwrapped", env)
    return f"{getattr(shown, '__name__', type(shown).__name__)}{OBJECT}"


def is_recommender(env: Environment) -> bool:
    """Whether it is one of our worlds, whose actions are items; else it is a Gymnasium task."""
    return is_world(env) if isinstance(env, str) else _engine_in(env) is not None


def world_of(env: Environment, window: int) -> BatchedEngine:
    """The engine of a world by name, or a new one like that of an object, with observations of `window` rows of history.

    Raises:
        UserError: an unknown name, or no world.
    """
    if isinstance(env, str):
        if not is_recommender(env) and env.partition(",")[0] in gymnasium.registry:
            hint = "`evaluate MODEL --env ID` measures a model of a task"
            raise UserError("a simulated world", f"{env}, a task", where="--env", hint=hint, code=Code.BAD_ENV)
        return make_engine(env, window=window)
    engine = _engine_in(env)
    if engine is None:
        hint = "qurate.make_engine(name) makes one"
        raise UserError("a simulated world", name_of(env), where="--env", hint=hint, code=Code.BAD_ENV)
    return BatchedEngine(copy.deepcopy(engine.world), window, engine.max_steps, engine.slate_size, engine.n_candidates)


def task_of(env: Environment) -> GymnasiumEngine:
    """The engine of a Gymnasium task by name, of copies of an environment, or of the environments that a function makes.

    Raises:
        UserError: an unknown name; an object that is no environment or cannot be copied; spaces that are not supported.
    """
    if isinstance(env, str):
        return make_task(env)
    name = name_of(env)
    if isinstance(env, gymnasium.Env):
        return task_engine(lambda: _copied(env, name), name)
    if isinstance(env, type) or not callable(env):
        expected = "a name, a gymnasium.Env, an engine, or a function that returns a new gymnasium.Env"
        raise UserError(expected, f"{env!r:.100}", where="--env", hint="see qurate.train", code=Code.BAD_ENV)
    return task_engine(env, name)


def _copied(env: gymnasium.Env[Any, Any], name: str) -> gymnasium.Env[Any, Any]:
    try:
        return copy.deepcopy(env)
    except Exception as error:
        got = f"{type(error).__name__}: {error}"
        hint = "give a function that returns a new one: train(env=lambda: MyEnv())"
        raise UserError("an environment that can be copied", got, where=name, hint=hint, code=Code.BAD_ENV) from error


def _engine_in(env: Any) -> BatchedEngine | None:
    """The engine of one of our worlds; None for a task, and where wrappers change what a world shows."""
    while isinstance(env, OrderEnforcing | PassiveEnvChecker):  # those of gymnasium.make
        env = env.env
    engine = env.engine if isinstance(env, RecommenderEnv) else env
    return engine if isinstance(engine, BatchedEngine) else None
