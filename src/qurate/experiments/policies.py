"""Policies in a simulated world: baselines by name, trained models, and references that see what no policy can see."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from qurate.baselines.registry import FITTED, ItemScorer, fit_scorer, popularity, random_policy
from qurate.choosing.policy import MixturePolicy, ScoredPolicy
from qurate.choosing.seen import ExcludingPolicy, parse_exclude
from qurate.choosing.selection import GREEDY, epsilon_greedy_rule, softmax_rule
from qurate.environments import worlds
from qurate.environments.atari import EVALUATION_EPSILON, is_atari
from qurate.environments.engine import BatchedEngine
from qurate.environments.given import Environment, name_of
from qurate.environments.log_writer import simulate
from qurate.errors import Code, UserError, nearest
from qurate.evaluation.compare import Contender
from qurate.evaluation.rollouts import customers_seed, rollout
from qurate.evaluation.static_list import StaticSearch, best_static
from qurate.events.readers import read_events
from qurate.mdp.dataset import build_dataset
from qurate.mdp.storage import Dataset
from qurate.models.model import Model
from qurate.models.recommend import note_slate_size
from qurate.models.translate import TranslatedScorer, Translation
from qurate.training.run import refuse_interrupted
from qurate.training.train import train
from qurate.types import Engine, Policy

LOG_CUSTOMERS = 1_000
"""Customers of the log that baselines of a simulated world are fitted on."""

SEQUENCE_MODELS = ("gru4rec", "sasrec")
"""Baselines that are networks: the next choice from those before it."""

RandomLog = Callable[[int], Dataset]
"""The log of a seed's customers to whom items were shown at random."""


def baseline_in(name: str, engine: BatchedEngine, seed: int, log: RandomLog) -> Policy:
    """A baseline for one seed, fitted on customers that it is not measured on.

    `static` is the best list that a search among such customers finds, not the list of a log.
    """
    if name == "random":
        return random_policy(engine.slate_size)
    if name == "popularity":
        return ScoredPolicy(popularity_in(engine, seed, LOG_CUSTOMERS), slate_size=engine.slate_size)
    if name == "static":
        k = engine.slate_size
        return best_static(engine, random_policy(k), customers_seed(seed, "bounds"), StaticSearch(slate_size=k))
    return fitted_policy(name, log(seed), engine)


def fitted_policy(name: str, dataset: Dataset, engine: BatchedEngine) -> ScoredPolicy:
    """A baseline fitted on a dataset, in an engine that numbers items its own way."""
    translation = Translation(engine, dataset.vocabulary, dataset.user_spec)
    return ScoredPolicy(TranslatedScorer(fit_scorer(name, dataset), translation), slate_size=engine.slate_size, name=name)


def random_logs(engine: BatchedEngine) -> RandomLog:
    """Writes and reads each seed's log once."""
    logs: dict[int, Dataset] = {}

    def log(seed: int) -> Dataset:
        if seed not in logs:
            logs[seed] = random_log(engine, seed)
        return logs[seed]

    return log


def random_log(engine: BatchedEngine, seed: int, *, choices: bool = False) -> Dataset:
    """What customers did to whom items were shown at random; with `choices` an organic log: without what was shown to them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.parquet"
        policy = random_policy(engine.slate_size)
        simulate(engine, policy, LOG_CUSTOMERS, engine.max_steps, customers_seed(seed, "bounds"), path)
        log = read_events(path)
        if choices:
            log = replace(log, decisions=None, kind="organic")
        return build_dataset(log, rewards=rewards_of(engine), episode="user")


def sequence_model_in(name: str, engine: BatchedEngine, seed: int) -> ScoredPolicy:
    """A sequence model with its default settings, trained on what the customers of the seed's random log chose.

    What was shown is left out: in a log of random lists "the next item" would be the lists' chance, not the customers' choice.

    Args:
        name: of `SEQUENCE_MODELS`.
    """
    model = train(random_log(engine, seed, choices=True), algorithm=name, seed=seed)
    refuse_interrupted(model.metrics)
    return as_policy(model, engine, name)


def popularity_in(engine: BatchedEngine, seed: int, customers: int) -> ItemScorer:
    """Reward earned by each item while it was shown to other customers at random: `popularity`, as on a log."""
    seen = rollout(engine, random_policy(engine.slate_size), customers_seed(seed, "popularity"), customers)
    items = np.arange(len(seen.earned))
    return ItemScorer(popularity(items, np.maximum(seen.earned, 0), np.zeros(len(items), np.int64), len(items) - 1), "popularity")


def present_recommender(engine: BatchedEngine, seed: int, customers: int, uniform: float = 0.1) -> MixturePolicy:
    """What a shop might run today: items in proportion to the square of their popularity, and a share drawn uniformly.

    The softmax at temperature 1/2 over the logarithm of popularity is that proportion.

    Args:
        uniform: the share, 0 to 1.
    """
    earned = popularity_in(engine, seed, customers).table
    logarithm = np.log(np.maximum(earned, earned.max() * 1e-3 + np.finfo(np.float32).tiny))
    shares = ScoredPolicy(ItemScorer(logarithm.astype(np.float32), "popularity"), softmax_rule(0.5))
    return MixturePolicy([(1 - uniform, shares), (uniform, random_policy())], engine.slate_size, name="popularity+uniform")


def rewards_of(engine: BatchedEngine) -> dict[str, float]:
    """The engine's reward weights by event type."""
    return {name: float(weight) for name, weight in zip(engine.component_names, engine.component_weights)}


def references(env: object, world: BatchedEngine) -> list[Contender]:
    """Policies that read the latent state of `world`, the very engine that is played; none where a world has none, or has no name."""
    if not isinstance(env, str):
        return []
    return [Contender(name, lambda seed, make=make: make(world), "reference") for name, make in worlds.references(env).items()]  # type: ignore[misc]


def as_policy(model: Model, engine: BatchedEngine, name: str, where: str | None = None) -> ScoredPolicy:
    """The model, greedy, in an engine that numbers items its own way.

    Args:
        name: of the policy, in reports and logs. where: what the user gave, for the error; None = the name.

    Raises:
        UserError: the model was made for another world.
    """
    translation = Translation(engine, model.vocabulary, model.user_spec, model.window)
    fits = model.algorithm in FITTED or len(translation.user_columns) == model.user_dim
    if not fits or not translation.items.any():
        expected, got = "a model for this environment's items and customers", f"one for {model.environment or 'other items'}"
        raise UserError(expected, got, where=where or name, hint="train one with --env", code=Code.OTHER_ENVIRONMENT)
    note_slate_size(model, engine.slate_size)
    return ScoredPolicy(TranslatedScorer(model, translation), slate_size=engine.slate_size, name=name)


def excluding(policy: Policy, exclude: Sequence[str], engine: Engine) -> Policy:
    """The policy, not offered what `exclude` says of a customer's history window; the policy itself where it says nothing.

    Raises:
        UserError: a word that is neither seen, purchased, none nor an event type of the world.
    """
    unknown, rule = parse_exclude(exclude, engine.type_names)
    if unknown:
        hint = nearest(unknown[0], ["seen", "purchased", "none", *engine.type_names])
        raise UserError("seen, purchased, none or event types", unknown[0], where="--exclude", hint=hint, code=Code.BAD_OPTIONS)
    return policy if rule is None or not rule.within else ExcludingPolicy(policy, rule, engine.type_names)


def all_excluding(rows: Sequence[Contender], exclude: Sequence[str], engine: Engine) -> list[Contender]:
    """The same for every contender, references too: they meet customers on equal terms."""

    def make(row: Contender, seed: int) -> Policy:
        return excluding(row.policy(seed), exclude, engine)

    return [replace(row, policy=partial(make, row)) for row in rows] if exclude else list(rows)


def task_policy(model: Model, env: Environment, name: str | None = None) -> Policy:
    """How a task's model acts when it is measured or shown: greedily, in Atari games with a random action now and then."""
    rule = epsilon_greedy_rule(EVALUATION_EPSILON) if is_atari(name_of(env)) else GREEDY
    return ScoredPolicy(model, rule, name=name)
