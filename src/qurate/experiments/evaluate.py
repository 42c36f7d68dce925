"""`evaluate`: a model beside the baselines, on a dataset or in a simulated world."""

import logging
from collections.abc import Sequence
from pathlib import Path

from qurate.baselines.clock_rules import CLOCK_RULES, ColumnScorer
from qurate.baselines.registry import fit_scorer, random_policy
from qurate.choosing.seen import parse_exclude
from qurate.environments.given import Environment, is_recommender, name_of, task_of, world_of
from qurate.errors import Code, UserError, nearest, whole_number
from qurate.evaluation.compare import Contender, Runs
from qurate.evaluation.evaluate import evaluate_ranking, evaluate_world
from qurate.evaluation.report import Report
from qurate.events.frames import Frame
from qurate.events.schema import EventLog
from qurate.experiments.compare import discount_of, play_all
from qurate.experiments.five_users import five_users
from qurate.experiments.jobs import Progress
from qurate.experiments.policies import all_excluding, as_policy, baseline_in, random_logs, references, task_policy
from qurate.mdp.dataset import dataset_of
from qurate.mdp.storage import Dataset
from qurate.models.model import Model, load
from qurate.models.network_ranker import NetworkRanker
from qurate.models.ranker import RankingScore
from qurate.models.task_ranker import TaskRanker
from qurate.training.clocked import with_clocks
from qurate.types import FloatArray, Observation, Scorer

log = logging.getLogger("qurate.experiments")

TASK_EPISODES = 50
"""Most episodes per seed in a Gymnasium task, whose copies run one by one."""
TASK_DECISIONS = 1_000
"""Most decisions of an episode where the task declares no limit."""
WORLD_BASELINES = ("random", "popularity", "static")
"""Baselines beside a model that is evaluated in a simulated world."""


def evaluate(
    model: Model | str | Path,
    data: Dataset | EventLog | str | Path | Frame | None = None,
    env: Environment | None = None,
    seeds: int = 5,
    *,
    visits: int | None = 20_000,
    customers: int = 2_000,
    exclude: Sequence[str] = (),
    progress: Progress | None = None,
) -> Report:
    """A model beside the baselines: ranking of held-out later choices (data), or customers served (env).

    Args:
        model: a model or its directory.
        data: a dataset or its directory, a log, or a DataFrame that is one. env: a simulated world or a Gymnasium task instead, by
            name or as an object, as for `train`.
        seeds: of the world's customers.
        visits: held-out visits ranked, drawn with seed 0 where there are more; None = all.
        customers: per seed in a world.
        exclude: what a customer saw or bought and is not shown again (`seen`, `purchased:30d`, `none`, event types); by
            default as the model recommends on a dataset, and everything is shown in a world.

    Raises:
        UserError: both or neither of data and env, or names that are not known.

    >>> report = qurate.evaluate(qurate.train(log, algorithm="popularity"), log)
    >>> sorted(report.to_dict()["metrics"])
    ['HR@20', 'MRR', 'MRR@20', 'NDCG@20', 'coverage@20', 'return@20', 'value@20']
    """
    if (data is None) == (env is None):
        got = "both" if data is not None else "neither"
        raise UserError("a dataset or --env", got, where="evaluate", hint="give one of them", code=Code.BAD_EVALUATE)
    seeds, customers = whole_number(seeds, "--seeds", 1, Code.BAD_EVALUATE), whole_number(customers, "--customers", 1, Code.BAD_CUSTOMERS)
    visits = None if visits is None else whole_number(visits, "--visits", 1, Code.BAD_EVALUATE)
    loaded = model if isinstance(model, Model) else load(model)
    name = loaded.algorithm if isinstance(model, Model) else str(model)
    if env is not None:
        return _in_world(loaded, name, env, seeds, customers, exclude=exclude, progress=progress)
    dataset = dataset_of(data)
    on = str(data) if isinstance(data, str | Path) else "dataset"
    if loaded.vocabulary.items != dataset.vocabulary.items:
        expected, hint = (
            "the catalogue the model was trained on",
            "evaluate it on its own dataset, or beside another policy: evaluate MODEL popularity DATASET keeps to the common items",
        )
        raise UserError(expected, "another one", where=on, hint=hint, code=Code.OTHER_DATASET)
    dataset = with_clocks(dataset, loaded.settings)
    together = EveryScore(loaded)
    scores: dict[str, list[Scorer]] = {by: [OneScore(together, by)] for by in loaded.ranker.ranking_scores}
    masked = exclusion_on(loaded, exclude, dataset)
    result = evaluate_ranking(
        name, on, dataset, scores, ranking_baselines(dataset), loaded.by, window=loaded.window, visits=visits, exclude=masked,
        discount=log_discount([loaded], dataset),
    )  # fmt: skip
    return Report(result, f"{name} on {on}", sections=lambda: five_users(loaded, exclude))


class EveryScore:
    """The scores of a model by all it may rank by, computed once for an observation and not once for each."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.observation: Observation | None = None

    def of(self, observation: Observation) -> dict[RankingScore, FloatArray]:
        """float32 [B, K] by score; kept until another observation comes."""
        if observation is not self.observation:
            ranker = self.model.ranker
            self.scores = ranker.scores_by(observation) if isinstance(ranker, NetworkRanker) else {ranker.by: ranker.scores(observation)}
            self.observation = observation
        return self.scores


class OneScore:
    """A scorer: one of the scores of a model."""

    def __init__(self, scores: EveryScore, by: RankingScore) -> None:
        self.every, self.by = scores, by
        self.name: str = by

    def scores(self, observation: Observation) -> FloatArray:
        """float32 [B, K]."""
        return self.every.of(observation)[self.by]


def log_discount(models: Sequence[Model], dataset: Dataset) -> tuple[float, float]:
    """By which returns of a log are measured: the most far-sighted model's discount per decision (without models the default one), and
    the dataset's time constant of pauses in seconds."""
    return discount_of(models), float(dataset.manifest["episode"]["tau_s"])


def exclusion_on(model: Model | None, exclude: Sequence[str], dataset: Dataset) -> tuple[str, FloatArray] | None:
    """The rule as typed, else the model's default: its text and `SeenRule.seconds` in the dataset's types; None = no rule.

    Raises:
        UserError: a word that is neither seen, purchased, none nor an event type of the dataset.
    """
    types = dataset.vocabulary.types
    default = "none" if model is None else model.answering.exclude
    unknown, rule = parse_exclude(exclude or [default], types)
    if unknown:
        hint = nearest(unknown[0], ["seen", "purchased", "none", *types])
        raise UserError("seen, purchased, none or event types", unknown[0], where="--exclude", hint=hint, code=Code.BAD_OPTIONS)
    return (rule.text, rule.seconds(types)) if rule is not None and rule.within else None


def _in_world(
    model: Model, name: str, env: Environment, seeds: int, customers: int, *, exclude: Sequence[str], progress: Progress | None
) -> Report:
    where = name_of(env)
    if model.kind == "task" or not is_recommender(env):
        if exclude:
            hint = "its actions are no items; leave --exclude out"
            raise UserError("no --exclude in a Gymnasium task", ",".join(exclude), where=where, hint=hint, code=Code.BAD_OPTIONS)
        return _in_task(model, name, env, seeds, customers, progress)
    world = world_of(env, model.window)
    log = random_logs(world)
    rows = [Contender("model", lambda seed: as_policy(model, world, "model", where=name), "candidate")]
    rows += [Contender(n, lambda seed, n=n: baseline_in(n, world, seed, log), "baseline") for n in WORLD_BASELINES]  # type: ignore[misc]
    rows = all_excluding([*rows, *references(env, world)], exclude, world)
    gamma = discount_of([model])
    runs = play_all(rows, world, range(seeds), customers, progress, gamma=gamma)
    return Report(evaluate_world(where, runs, "model", gamma) | {"model": name}, f"{name} in {where}", runs=runs)


def _in_task(model: Model, name: str, env: Environment, seeds: int, episodes: int, progress: Progress | None) -> Report:
    """Whole episodes of a Gymnasium task, beside uniformly random actions."""
    where = name_of(env)
    engine = None if is_recommender(env) else task_of(env)
    if engine is None or not isinstance(model.ranker, TaskRanker) or model.ranker.spec != engine.spec:
        expected, got = f"a model for {where}", f"one for {model.environment or 'a catalogue'}"
        raise UserError(expected, got, where=name, hint=f"train one with --env {where}", code=Code.OTHER_ENVIRONMENT)
    rows = [
        Contender("model", lambda seed: task_policy(model, env, "model"), "candidate"),
        Contender("random", lambda seed: random_policy(), "baseline"),
    ]
    limit = engine.max_steps or TASK_DECISIONS
    gamma = discount_of([model])
    runs = play_all(rows, engine, range(seeds), min(episodes, TASK_EPISODES), progress, max_decisions=limit, gamma=gamma)
    _note_left(where, runs, limit if engine.max_steps is None else None)
    return Report(evaluate_world(where, runs, "model", gamma) | {"model": name}, f"{name} in {where}", runs=runs)


def _note_left(where: str, runs: Sequence[Runs], limit: int | None) -> None:
    """Says that episodes were cut where the task itself would have gone on."""
    lengths = [rollout.length for run in runs for rollout in run.rollouts]
    cut = sum(int((length == limit).sum()) for length in lengths)
    if limit is not None and cut:
        played = f"{cut:,} of {sum(map(len, lengths)):,} episodes"
        log.warning(f"note: {played} of {where} lasted {limit:,} decisions, the most that are played where a task declares no limit")


def ranking_baselines(dataset: Dataset) -> dict[str, Scorer]:
    """Baselines of the ranking table, fitted on the train split: content only where items have features, clocks where there are some."""
    names = ["popularity", "item_knn", "recent"] + (["content"] if dataset.item_features.shape[1] else [])
    scorers = {name: fit_scorer(name, dataset) for name in names}
    return scorers if dataset.lists is None else scorers | {name: ColumnScorer(name) for name in CLOCK_RULES}
