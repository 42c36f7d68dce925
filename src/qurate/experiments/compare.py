"""`compare`: policies by name or model directory meet the same customers of a simulated world."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from qurate.algorithms.table import find_algorithm
from qurate.baselines.registry import FITTED
from qurate.environments.engine import BatchedEngine
from qurate.environments.given import Environment, name_of, world_of
from qurate.errors import Code, UserError, nearest, whole_number
from qurate.evaluation.compare import Contender, Runs, collect, play, summarise
from qurate.evaluation.rollouts import Rollout
from qurate.experiments.bandits import BANDITS, bandit_in
from qurate.experiments.jobs import Progress
from qurate.experiments.policies import SEQUENCE_MODELS, all_excluding, as_policy, baseline_in, random_logs, references, sequence_model_in
from qurate.models.model import Model, load
from qurate.models.network_ranker import NetworkRanker
from qurate.settings import LearningSettings, SlateSettings, flat
from qurate.training.in_environment import ONLINE_STEPS
from qurate.training.run import refuse_interrupted
from qurate.training.train import train
from qurate.types import Engine, Policy

NAMED = (*FITTED, *SEQUENCE_MODELS, "myopic")
"""Policies known by name; anything else is a model directory."""


def compare(
    policies: Sequence[str | Path | Model | Policy],
    env: Environment,
    seeds: int = 5,
    *,
    customers: int = 2_000,
    seed: int = 0,
    exclude: Sequence[str] = (),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The contract's compare JSON: all policies of a seed meet the same customers.

    Args:
        policies: names (`NAMED`), model directories, models, or objects with a `name` and `act` (`qurate.types.Policy`); the first
            that is no name is the one judged.
        env: a simulated world, by name or as an object, as for `train`.
        exclude: what a customer saw or bought and no policy is offered again, as `seen` or `purchased:30d`.
        seeds: how many, from `seed` on; baselines are fitted or trained anew for each.

    Raises:
        UserError: what is none of these, a name twice, or no policy.

    >>> result = qurate.compare(["random", "popularity"], "toy_chain", seeds=2, customers=20)
    >>> [row["name"] for row in result["policies"]]
    ['random', 'popularity', 'true_myopic', 'optimal']
    """
    count, first = whole_number(seeds, "--seeds", 1, Code.BAD_COMPARE), whole_number(seed, "--seed", 0, Code.BAD_SEED, 2**62)
    customers = whole_number(customers, "--customers", 1, Code.BAD_CUSTOMERS)
    given = _by_name(policies)
    models = {name: policy for name, policy in given.items() if isinstance(policy, Model)}
    world = world_of(env, max((model.window for model in models.values()), default=20))
    rows = [_row(name, policy, world) for name, policy in given.items() if policy is not None]
    rows += _baseline_rows([name for name, policy in given.items() if policy is None], env, world, list(models.values()))
    rows += references(env, world)
    rows = all_excluding(rows, exclude, world)
    every = range(first, first + count)
    gamma = discount_of(list(models.values()))
    result = summarise(name_of(env), list(every), play_all(rows, world, every, customers, progress, gamma=gamma))
    return result | {"gamma": gamma}


def _by_name(policies: Sequence[str | Path | Model | Policy]) -> dict[str, Model | Policy | None]:
    """Each policy by the name of its row: None for those known by name, models for directories.

    Raises:
        UserError: see `compare`.
    """
    if isinstance(policies, str | Path | Model) or not isinstance(policies, Iterable) or not policies:
        hint = f"known: {', '.join(NAMED)}, or a model directory"
        raise UserError("a list of at least one policy", repr(policies), where="compare", hint=hint, code=Code.BAD_COMPARE)
    out: dict[str, Model | Policy | None] = {}
    for policy in policies:
        if isinstance(policy, str | Path):
            name = str(policy)
            if name not in NAMED and not Path(name).is_dir():
                hint = nearest(name, NAMED)
                raise UserError("a policy's name or a model directory", name, where="compare", hint=hint, code=Code.UNKNOWN_POLICY)
            if name in out:
                raise UserError("each policy once", f"{name} twice", where="compare", hint="leave one of them out", code=Code.BAD_COMPARE)
            out[name] = None if name in NAMED else load(name)
            continue
        if not (isinstance(policy, Model) or _acts(policy)):
            got, hint = f"{policy!r:.100}", "qurate.testing.check_policy(it) says what is missing"
            raise UserError("a name, a model, or a policy with name and act", got, where="compare", hint=hint, code=Code.UNKNOWN_POLICY)
        name = policy.algorithm if isinstance(policy, Model) else str(policy.name)
        if name in out or name in NAMED:
            name = next(f"{name} {i}" for i in range(2, len(policies) + 3) if f"{name} {i}" not in out)
        out[name] = policy
    return out


def discount_of(models: Sequence[Model]) -> float:
    """By which returns are discounted per decision: the most far-sighted model's discount; without models the default one."""
    return max((model.settings.learning.gamma for model in models), default=LearningSettings().gamma)


def play_all(
    rows: Sequence[Contender], world: Engine, seeds: Sequence[int], customers: int, progress: Progress | None, *,
    max_decisions: int = 1_000, gamma: float = 0.9,
) -> list[Runs]:  # fmt: skip
    """Every contender meets the same customers of each seed; `gamma` is that of the discounted return."""

    def reported() -> Iterator[tuple[int, str, Rollout]]:
        for done, played in enumerate(play(rows, lambda seed: world, seeds, customers, gamma, max_decisions=max_decisions)):
            if progress is not None:
                progress(f"seed {played[0]}: {played[1]}", done + 1, len(rows) * len(seeds))
            yield played

    return collect(rows, reported())


def _acts(policy: object) -> bool:
    return callable(getattr(policy, "act", None)) and bool(getattr(policy, "name", ""))


def _row(name: str, policy: Model | Policy, world: BatchedEngine) -> Contender:
    if not isinstance(policy, Model):
        return Contender(name, lambda seed: policy, "candidate")
    steps = int(policy.metrics.get("decisions", policy.metrics.get("steps", 0)))
    return Contender(name, lambda seed: as_policy(policy, world, name), "candidate", steps)


def _is_deep(model: Model) -> bool:
    """Whether it has a Q-network without a part of its own (no table, no distribution): the myopic learner can have its settings."""
    return isinstance(model.ranker, NetworkRanker) and model.settings.algorithm is None


def _settings_of_slates(trained: Sequence[Model]) -> dict[str, Any]:
    """Those of the first model that learned from slates, without gamma; none: the defaults."""
    own = next((flat(model.settings) for model in trained if isinstance(model.settings.algorithm, SlateSettings)), {})
    unused = {*find_algorithm("slateq").unused, "gamma"}
    return {name: value for name, value in own.items() if name not in unused}


def _baseline_rows(names: Sequence[str], env: Environment, world: BatchedEngine, models: Sequence[Model]) -> list[Contender]:
    """Baselines by name. The myopic learner and the bandits make as many decisions as the first model that was trained in an
    environment; the myopic learner has the settings of the first one of its kind.
    """
    trained = [model for model in models if model.environment is not None]
    judged = next((model for model in trained if _is_deep(model)), None)
    settings = {"window": 20} if judged is None else flat(judged.settings) | find_algorithm("myopic").settings
    steps = int(trained[0].metrics["steps"]) if trained else ONLINE_STEPS
    log = random_logs(world)

    def fitted(name: str, seed: int) -> Policy:
        return baseline_in(name, world, seed, log)

    def myopic(seed: int) -> Policy:
        if world.slate_size > 1:  # the learner of slates that looks no further than its own reward
            model = train(env=env, algorithm="slateq", seed=seed, steps=steps, **_settings_of_slates(trained), gamma=0.0)
        else:
            model = train(env=env, algorithm="myopic", seed=seed, steps=steps, **settings)
        refuse_interrupted(model.metrics)
        return as_policy(model, world, "myopic")

    def learning(name: str, seed: int) -> Policy:
        return bandit_in(name, world, seed, steps)

    def sequence(name: str, seed: int) -> Policy:
        return sequence_model_in(name, world, seed)

    online = {"myopic": myopic} | {name: partial(learning, name) for name in BANDITS}

    def row(name: str) -> Contender:
        if name in online:
            return Contender(name, online[name], "baseline", steps)
        return Contender(name, partial(sequence if name in SEQUENCE_MODELS else fitted, name))

    return [row(name) for name in names]
