"""`simulate`: the event log of simulated customers, under a policy by name or a model directory."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from qurate.baselines.registry import random_policy
from qurate.environments.engine import BatchedEngine
from qurate.environments.log_writer import simulate
from qurate.environments.registry import make_engine, named_arguments
from qurate.errors import Code, UserError, nearest
from qurate.experiments.policies import LOG_CUSTOMERS, as_policy, excluding, present_recommender
from qurate.models.model import load
from qurate.types import Policy


def simulate_log(
    scenario: str,
    policy: str,
    users: int,
    steps: int,
    seed: int,
    out: str | Path,
    *,
    slate: int = 1,
    trace: int = 0,
    force: bool = False,
    exclude: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """`qurate simulate`: the log of a named policy (random or popularity) or of a model directory.

    Args:
        slate: items shown per decision.
        trace: also write what this many first customers met, decision by decision (`log_writer.simulate`).
        force: replace files that qurate did not write.
        exclude: what a customer saw or bought and the policy is not offered again, as `seen` or `purchased:30d`.

    Raises:
        UserError: an unknown policy, or two sizes of slates.
    """
    engine, chooser = _world_and_policy(scenario, policy, seed, slate)
    chooser = excluding(chooser, exclude, engine)
    return simulate(engine, chooser, users, steps, seed, out, progress, trace, force=force)


def _world_and_policy(scenario: str, policy: str, seed: int, slate: int) -> tuple[BatchedEngine, Policy]:
    try:
        named = named_arguments(scenario)[1].get("slate_size", slate)
        if slate not in (1, named):
            got, hint = f"--slate {slate} and slate_size={named}", "give one of them"
            raise UserError("one size of slates", got, where="--slate", hint=hint, code=Code.BAD_OPTIONS)
        engine = make_engine(scenario, slate_size=slate)
    except UserError as error:
        if error.where != "--env":
            raise
        raise UserError(error.expected, error.got, where="the scenario", hint=error.hint, code=error.code) from None
    if policy == "random":
        return engine, random_policy(engine.slate_size)
    if policy == "popularity":
        return engine, present_recommender(engine, seed, LOG_CUSTOMERS)
    if not Path(policy).is_dir():
        hint = nearest(policy, ("random", "popularity"))
        raise UserError("random, popularity or a model directory", policy, where="--policy", hint=hint, code=Code.UNKNOWN_POLICY)
    model = load(policy)
    engine = make_engine(scenario, slate_size=slate, window=model.window)
    return engine, as_policy(model, engine, model.algorithm, where=policy)
