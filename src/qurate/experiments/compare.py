"""`evaluate` and `compare`: policies by name or model directory, on a dataset or in a simulated world."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qurate.algorithms.table import find_algorithm
from qurate.baselines.registry import ItemScorer, fit_baseline, mean_reward, random_policy
from qurate.choosing.policy import MixturePolicy, ScoredPolicy
from qurate.choosing.selection import softmax_rule
from qurate.environments.engine import BatchedEngine
from qurate.environments.log_writer import simulate
from qurate.environments.registry import make_engine, references
from qurate.errors import Code, UserError, nearest
from qurate.evaluation.compare import Contender, Runs, collect, play, summarise
from qurate.evaluation.evaluate import evaluate_ranking, evaluate_world
from qurate.evaluation.report import Report
from qurate.evaluation.rollouts import Rollout, customers_seed, rollout
from qurate.evaluation.static_list import best_static
from qurate.events.readers import read_events
from qurate.mdp.dataset import build_dataset
from qurate.mdp.storage import Dataset
from qurate.models.directory import load
from qurate.models.model import By, Model
from qurate.models.translate import TranslatedScorer, Translation
from qurate.settings import flat
from qurate.training.train import ONLINE_STEPS, train
from qurate.types import Policy, Scorer

Progress = Callable[[str, float, float], None]

BASELINES = ("random", "popularity", "static", "item_knn", "content", "myopic")
"""Policies known by name; anything else is a model directory."""
FITTED_FROM_A_LOG = ("item_knn", "content")
LOG_CUSTOMERS = 1_000
"""Customers of the log that baselines of a simulated world are fitted on."""


def evaluate(
    model: Model | str | Path, data: Dataset | str | Path | None = None, env: str | None = None, seeds: int = 5,
    visits: int | None = 20_000, customers: int = 2_000, progress: Progress | None = None,
) -> Report:  # fmt: skip
    """A model beside the baselines: ranking of held-out later choices (data), or customers served (env).

    Args:
        model: a model or its directory.
        data: a dataset or its directory. env: a simulated world instead.
        seeds: of the world's customers.
        visits: held-out visits ranked, drawn with seed 0 where there are more; None = all.
        customers: per seed in a world.

    Raises:
        UserError: both or neither of data and env, or names that are not known.
    """
    if (data is None) == (env is None):
        raise UserError(
            "a dataset or --env",
            "both" if data is not None else "neither",
            where="evaluate",
            hint="give one of them",
            code=Code.BAD_EVALUATE,
        )
    loaded = model if isinstance(model, Model) else load(model)
    name = loaded.algorithm if isinstance(model, Model) else str(model)
    if env is not None:
        others = [n for n in BASELINES if n not in (*FITTED_FROM_A_LOG, "myopic")]
        contenders = _contenders(others, env, "baseline")
        model_row = Contender("model", lambda seed: as_policy(loaded, make_engine(env, window=loaded.window), "model"), "candidate")
        runs = _play([model_row, *contenders], env, seeds, customers, loaded.window, progress)
        return Report(evaluate_world(env, runs, "model") | {"model": name}, f"{name} in {env}", runs=runs)
    dataset = data if isinstance(data, Dataset) else Dataset.read(str(data))
    if loaded.vocabulary.items != dataset.vocabulary.items:
        raise UserError(
            "the catalogue the model was trained on",
            "another one",
            where=str(data),
            hint="evaluate on its own dataset",
            code=Code.OTHER_DATASET,
        )
    on = "dataset" if isinstance(data, Dataset) else str(data)
    result = evaluate_ranking(
        name, on, dataset, {by: [loaded.ranked_by(by)] for by in scores_of(loaded)}, ranking_baselines(dataset), loaded.by,
        window=loaded.window, visits=visits,
    )  # fmt: skip
    return Report(result, f"{name} on {on}")


def scores_of(model: Model) -> list[By]:
    """Which scores the model can rank by."""
    return ["q"] if model.network.behaviour is None else ["q", "q_in_support", "behaviour"]


def ranking_baselines(dataset: Dataset) -> dict[str, Scorer]:
    """Baselines of the ranking table, fitted on the train split: content only where items have features."""
    names = ["popularity", "item_knn", "recent"] + (["content"] if dataset.item_features.shape[1] else [])
    return {name: fit_baseline(name, dataset).scorer for name in names}


def compare(
    policies: Sequence[str | Path], env: str, seeds: int = 5, customers: int = 2_000, seed: int = 0, progress: Progress | None = None
) -> dict[str, Any]:
    """The contract's compare JSON: all policies of a seed meet the same customers.

    Args:
        policies: names of `BASELINES` or model directories; the first model directory is the one judged.
        env: a simulated world. seeds: seed, seed + 1, ...; baselines that learn are trained anew for each.

    Raises:
        UserError: a name that is neither, or no policy.
    """
    if not policies:
        raise UserError(
            "at least one policy",
            "none",
            where="compare",
            hint=f"known: {', '.join(BASELINES)}, or a model directory",
            code=Code.BAD_COMPARE,
        )
    named = list(dict.fromkeys(str(p) for p in policies))
    for name in named:
        if name not in BASELINES and not Path(name).is_dir():
            raise UserError(
                "a policy's name or a model directory", name, where="compare", hint=nearest(name, BASELINES), code=Code.UNKNOWN_POLICY
            )
    known = [name for name in named if name in BASELINES]
    models = [_model_row(name, env) for name in named if name not in BASELINES]
    window = max([m.window for _, m in models], default=20)
    judged = next((model for _, model in models if model.environment is not None), None)
    rows = [contender for contender, _ in models] + _contenders(known, env, "baseline", judged)
    runs = _play(rows, env, seeds, customers, window, progress, seed)
    return summarise(env, [seed + i for i in range(seeds)], runs)


def _play(
    rows: Sequence[Contender], env: str, seeds: int, customers: int, window: int, progress: Progress | None, first: int = 0
) -> list[Runs]:
    """The rollouts of `rows` and of the world's references, which read the latent state of the engine that is played."""
    world = make_engine(env, window=window)
    seeing = {name: make(world) for name, make in references(env).items()}
    contenders = [*rows, *(Contender(name, lambda seed, name=name: seeing[name], "reference") for name in seeing)]  # type: ignore[misc]

    def reported() -> Iterator[tuple[int, str, Rollout]]:
        for done, played in enumerate(play(contenders, lambda seed: world, [first + i for i in range(seeds)], customers)):
            if progress is not None:
                progress(f"seed {played[0]}: {played[1]}", done + 1, len(contenders) * seeds)
            yield played

    return collect(contenders, reported())


def _model_row(path: str, env: str) -> tuple[Contender, Model]:
    model = load(path)
    steps = int(model.metrics.get("decisions", model.metrics.get("steps", 0)))
    return Contender(path, lambda seed: as_policy(model, make_engine(env, window=model.window), path), "candidate", steps), model


def _contenders(names: Sequence[str], env: str, role: Any, judged: Model | None = None) -> list[Contender]:
    """Baselines by name; `judged`: a model trained in an environment, whose settings and steps the myopic learner gets too."""
    settings = {} if judged is None else flat(judged.settings) | find_algorithm("myopic").settings
    steps = ONLINE_STEPS if judged is None else int(judged.metrics["steps"])
    logs: dict[int, Dataset] = {}

    def log(seed: int) -> Dataset:
        if seed not in logs:
            logs[seed] = _random_log(env, seed)
        return logs[seed]

    def row(name: str) -> Contender:
        if name != "myopic":
            return Contender(name, lambda seed: named_policy(name, env, seed, log), role)
        return Contender(name, lambda seed: _myopic(env, seed, steps, settings), role, steps)

    return [row(name) for name in names]


def _myopic(env: str, seed: int, steps: int, settings: dict[str, Any]) -> Policy:
    model = train(env=env, algorithm="myopic", seed=seed, steps=steps, **{"window": 20} | settings)
    return as_policy(model, make_engine(env, window=model.window), "myopic")


def named_policy(name: str, env: str, seed: int, log: Callable[[int], Dataset]) -> Policy:
    """A baseline for one seed, fitted on customers that it is not measured on."""
    engine = make_engine(env)
    if name == "random":
        return random_policy()
    if name == "popularity":
        return ScoredPolicy(popularity_in(engine, seed, LOG_CUSTOMERS))
    if name == "static":
        return best_static(engine, random_policy(), customers_seed(seed, "bounds"))
    dataset = log(seed)
    scorer = fit_baseline(name, dataset).scorer
    return ScoredPolicy(TranslatedScorer(scorer, Translation(engine, dataset.vocabulary, dataset.user_spec)), name=name)


def _random_log(env: str, seed: int) -> Dataset:
    engine = make_engine(env)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "events.parquet"
        simulate(engine, random_policy(), LOG_CUSTOMERS, engine.max_steps, customers_seed(seed, "bounds"), log)
        return build_dataset(read_events(log), rewards=rewards_of(engine), episode="user")


def popularity_in(engine: BatchedEngine, seed: int, customers: int) -> ItemScorer:
    """Items by the logarithm of their mean reward while `customers` other customers were shown items at random."""
    seen = rollout(engine, random_policy(engine.slate_size), customers_seed(seed, "bounds") + 1, customers)
    items = np.arange(len(seen.shown))
    each = seen.earned / np.maximum(seen.shown, 1)
    worth = mean_reward(np.repeat(items, seen.shown), np.repeat(each, seen.shown), len(items) - 1)
    return ItemScorer(np.log(np.maximum(worth, 1e-3)).astype(np.float32), "popularity")


def present_recommender(engine: BatchedEngine, seed: int, customers: int) -> MixturePolicy:
    """What a shop might run today: items in proportion to the square of their popularity, and 10 % uniform.

    The softmax at temperature 1/2 over the logarithm of popularity (`popularity_in`) is that proportion.
    """
    shares = ScoredPolicy(popularity_in(engine, seed, customers), softmax_rule(0.5))
    return MixturePolicy([(0.9, shares), (0.1, random_policy())], engine.slate_size, name="popularity+uniform")


def rewards_of(engine: BatchedEngine) -> dict[str, float]:
    """The engine's reward weights by event type."""
    return {name: float(weight) for name, weight in zip(engine.component_names, engine.component_weights)}


def as_policy(model: Model, engine: BatchedEngine, name: str) -> ScoredPolicy:
    """The model, greedy, in an engine that numbers items its own way.

    Raises:
        UserError: the model was made for another world.
    """
    translation = Translation(engine, model.vocabulary, model.user_spec)
    if len(translation.user_columns) != model.user_dim or not translation.items.any():
        got = f"one for {model.environment or 'other items'}"
        raise UserError(
            "a model for this environment's items and customers", got, where=name, hint="train one with --env", code=Code.OTHER_ENVIRONMENT
        )
    return ScoredPolicy(TranslatedScorer(model, translation), slate_size=engine.slate_size, name=name)


def simulate_log(
    scenario: str, policy: str, users: int, steps: int, seed: int, out: str | Path, slate: int = 1,
    progress: Callable[[int, int], None] | None = None, trace: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """`qurate simulate`: the log of a named policy (random or popularity) or of a model directory.

    Args:
        trace: also write what this many first customers met, decision by decision (`write_log.simulate`).

    Raises:
        UserError: an unknown policy.
    """
    engine = make_engine(scenario, slate_size=slate)
    chooser: Policy
    if policy == "random":
        chooser = random_policy(slate)
    elif policy == "popularity":
        chooser = present_recommender(engine, seed, LOG_CUSTOMERS)
    elif Path(policy).is_dir():
        model = load(policy)
        engine = make_engine(scenario, slate_size=slate, window=model.window)
        chooser = as_policy(model, engine, model.algorithm)
    else:
        hint = nearest(policy, ("random", "popularity"))
        raise UserError("random, popularity or a model directory", policy, where="--policy", hint=hint, code=Code.UNKNOWN_POLICY)
    return simulate(engine, chooser, users, steps, seed, out, progress, trace)
