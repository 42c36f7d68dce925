"""`train`: from names and settings to a trained model."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from qurate.algorithms.table import (
    ALGORITHMS,
    CATALOGUE_ONLY,
    OF_ACTING,
    OF_BEHAVIOUR,
    OF_LOGS,
    OF_TASKS,
    algorithm_settings,
    find_algorithm,
    setting_names,
)
from qurate.arguments import check_flag, check_kind, checked_seed
from qurate.baselines.registry import FITTED, fitted_settings
from qurate.environments.given import Environment, is_recommender, name_of, task_of, world_of
from qurate.errors import Code, UserError, nearest, whole_number
from qurate.events.frames import Frame
from qurate.events.schema import EventLog
from qurate.learning.device import device_of
from qurate.mdp.dataset import dataset_of, parse_duration
from qurate.mdp.storage import Dataset
from qurate.models.model import Model, load
from qurate.settings import Settings
from qurate.training.clocked import say_turnover
from qurate.training.from_log import fit_on_log, train_on_log, with_histories
from qurate.training.from_model import check_start, kept_settings, kept_weights
from qurate.training.in_environment import ONLINE_STEPS, for_slates, fresh_model, train_in_engine, with_known_choice
from qurate.training.later_from_log import form_for_log
from qurate.training.later_online import form_for_world
from qurate.training.log_defaults import log_defaults
from qurate.training.on_task import TASK_DEFAULTS, is_large, task_defaults, task_device, train_on_task
from qurate.training.resume import dataset_place, resume_training
from qurate.training.reward_weights import reweighted
from qurate.training.run import Limits, StepCallback, refuse_divergence
from qurate.training.unread import note_unread_by_form, refuse_unread
from qurate.training.warm_start import begun_with, check_world, online_settings

log = logging.getLogger("qurate.training")


def train(
    data: Dataset | EventLog | str | Path | Frame | None = None, env: Environment | None = None, algorithm: str | None = None,
    seed: int | None = None, steps: int | None = None, *,
    budget: float | str | None = None, resume: str | Path | None = None, start: Model | str | Path | None = None,
    rewards: str | Mapping[str, Any] | None = None, histories: bool | None = None, keep_diverged: bool = False, device: str = "auto",
    progress: StepCallback | None = None, **settings: Any,
) -> Model:  # fmt: skip
    """Trains on a dataset, in one of our worlds, or on a Gymnasium task.

    Args:
        data: a dataset or its directory; or a log as `read_events` gives it, or a DataFrame that is one, from which a dataset is
            built with the defaults.
        env: instead, the name of one of our worlds, a Gymnasium id, or `package.module:factory`; a Gymnasium environment or an
            engine, of which copies are played; or a function without arguments that returns a new environment.
        algorithm: a row of `algorithms/table.py`, or a baseline (`baselines/registry.py`). None = dqn, or the saved run's
            with `resume`.
        seed: of first weights, batches, exploration and simulated customers. None = 0, or the saved run's with `resume`.
        steps: updates (dataset) or decisions (environment); None = a default by size.
        budget: seconds after which training stops, or a text such as `10m`.
        resume: a model saved with its checkpoint; goes on where it stopped, with its own algorithm, settings and rewards.
        start: a model whose network is where training begins; its algorithm, settings and reward weights are kept unless given. On a
            dataset: a model of an earlier dataset, also of another catalogue (items by their ids, new ones by their features). In
            one of our worlds: a model that knows all of its items.
        rewards: other weights for the reward components of the dataset or environment, `{name: weight}`; the rest get 0.
        histories: keep the events and features of the users of the dataset in the model, to answer for them. None = yes, or as
            in `start`.
        keep_diverged: return the model of a run whose losses were not finite, too.
        device: auto, cpu or cuda. auto is a GPU where there is one and observations are large images.
        progress: called now and then.
        settings: see `qurate.settings`.

    Raises:
        UserError: unknown names, an option or setting that the algorithm does not have, a dataset from which nothing can be
            learnt, a checkpoint that does not fit, a GPU that is not there, a run that diverged.

    >>> qurate.train(log, steps=5, hidden=8)
    Model(dqn, 7 items, trained from a dataset in memory, version unsaved)
    >>> qurate.train(env="toy_chain", algorithm="q_learning", steps=64).environment
    'toy_chain'
    """
    _check_kinds(algorithm, resume, start, histories, keep_diverged)
    limits, place = _check(data, env, resume, seed, steps, budget), device_of(device)
    seed = None if seed is None else int(seed)
    if resume is not None:
        given = {"--rewards": rewards, "--set": settings, "--env": env, "--algorithm": algorithm, "--from": start}
        model = resume_training(
            Path(resume), data, given, seed=seed, limits=limits, histories=histories is not False, device=device, report=progress
        )
    elif env is None:
        model = _on_dataset(
            data, algorithm, settings, start, rewards, histories, seed=seed or 0, limits=limits, device=place, report=progress
        )
    else:
        model = _in_environment(env, algorithm, settings, start, rewards, seed=seed or 0, limits=limits, device=device, report=progress)
    if model.metrics.get("updates", 1) == 0:
        log.warning("note: no update was made: the run ended within its warm_up of %d decisions", model.settings.replay.warm_up)
    if not keep_diverged:
        refuse_divergence(model.metrics, model.settings, model.weights)
    return model


def _in_environment(
    env: Environment,
    algorithm: str | None,
    given: dict[str, Any],
    start: Model | str | Path | None,
    rewards: str | Mapping[str, Any] | None,
    *,
    seed: int,
    limits: Limits,
    device: str,
    report: StepCallback | None,
) -> Model:
    """See `train`."""
    begun = load(start) if isinstance(start, str | Path) else start
    algorithm = ("dqn" if begun is None else begun.algorithm) if algorithm is None else algorithm
    if not is_recommender(env):
        if begun is not None:
            hint = "--resume goes on with the run of a task"
            raise UserError("a dataset or one of our worlds", name_of(env), where="--from", hint=hint, code=Code.BAD_OPTIONS)
        return _in_task(env, algorithm, given, rewards, seed=seed, limits=limits, device=device, report=report)
    _refuse_for_environment(name_of(env), algorithm, rewards, task=False)
    chosen = _settings(algorithm, given if begun is None else online_settings(begun, algorithm, given))
    heads = OF_BEHAVIOUR if begun is None else ()
    refuse_unread(given, chosen, (*OF_LOGS, *heads, "life_ends", "filters"), "a simulated world")
    engine = world_of(env, chosen.window)
    chosen = for_slates(chosen, engine, algorithm, name_of(env))
    if begun is None:
        chosen = form_for_world(chosen, algorithm, given, len(engine.item_ids), bool(engine.candidate_columns))
        note_unread_by_form(given, chosen)
        model = with_known_choice(fresh_model(engine, chosen, algorithm, seed, name_of(env)), engine, name_of(env))
    else:
        check_world(begun, chosen, engine, name_of(env))
        model = begun_with(begun, name_of(env))
    if rewards is not None:
        model = model.with_answering(weights=reweighted(model.components, rewards, name_of(env)))
    place, steps = device_of(device), limits.steps or ONLINE_STEPS
    return train_in_engine(model, engine, seed, steps, settings=chosen, device=place, budget=limits.budget, resumable=True, report=report)


def _in_task(
    env: Environment,
    algorithm: str,
    given: dict[str, Any],
    rewards: str | Mapping[str, Any] | None,
    *,
    seed: int,
    limits: Limits,
    device: str,
    report: StepCallback | None,
) -> Model:
    """See `train`."""
    _refuse_for_environment(name_of(env), algorithm, rewards, task=True)
    _settings(algorithm, given, TASK_DEFAULTS, CATALOGUE_ONLY)  # a mistake in the options is known before an environment is made
    engine = task_of(env)
    try:
        place = task_device(engine, device)
        chosen = _settings(algorithm, given, task_defaults(engine, place), CATALOGUE_ONLY)
        refuse_unread(given, chosen, () if is_large(engine.spec) else ("filters",), "a task without large images")
        return train_on_task(engine, name_of(env), chosen, algorithm, seed=seed, limits=limits, device=place, report=report)
    finally:
        engine.close()


def _on_dataset(
    data: Dataset | EventLog | str | Path | Frame,
    algorithm: str | None,
    given: dict[str, Any],
    start: Model | str | Path | None,
    rewards: str | Mapping[str, Any] | None,
    histories: bool | None,
    *,
    seed: int,
    limits: Limits,
    device: torch.device,
    report: StepCallback | None,
) -> Model:
    """See `train`."""
    begun = load(start) if isinstance(start, str | Path) else start
    algorithm = ("dqn" if begun is None else begun.algorithm) if algorithm is None else algorithm
    asked = _settings(algorithm, given)  # a mistake in the options is known before a large dataset is read
    refuse_unread(given, asked, (*OF_TASKS, *OF_ACTING), "a dataset")
    if algorithm in FITTED:
        _refuse_limits(algorithm, limits)
    elif find_algorithm(algorithm).slates:
        hint = "it learns from the slates of a simulated world: --env interest_evolution,slate_size=2"
        raise UserError("--env", "a dataset", where=f"--algorithm {algorithm}", hint=hint, code=Code.BAD_TRAIN)
    dataset = dataset_of(data)
    where = dataset_place(dataset)
    kept: dict[str, Any] = {}
    if begun is not None:
        names = FITTED[algorithm].settings if algorithm in FITTED else setting_names(algorithm)
        kept = {name: value for name, value in kept_settings(begun, algorithm, names, dataset.kind).items() if name not in given}
    own = {**kept, **given}
    usual = log_defaults(dataset, algorithm, str(own.get("clocks", "auto")))
    if own.get("clocks") == "auto":  # what the log decides stands with its defaults
        del own["clocks"]
    chosen = _settings(algorithm, own, usual)
    if usual.get("clocks") == "on" and "clocks" not in own:
        say_turnover(dataset)
    if algorithm not in FITTED:
        chosen = form_for_log(chosen, algorithm, own, dataset.kind)
        note_unread_by_form(given, chosen)
    if begun is not None:
        check_start(begun, algorithm, chosen, kept, _settings(algorithm, {}, usual))
    if rewards is not None:
        weights = reweighted(dataset.components, rewards, "the dataset")
    else:
        weights = dataset.weights if begun is None else kept_weights(begun, dataset)
    if algorithm in FITTED:
        model = fit_on_log(dataset, chosen, algorithm, where=where, weights=weights, seed=seed)
    else:
        model = train_on_log(
            dataset, chosen, algorithm, where=where, weights=weights, seed=seed, limits=limits, report=report, start=begun, device=device
        )
    if begun is not None:
        place = str(start) if isinstance(start, str | Path) else begun.version
        model = model.with_provenance(metrics=model.metrics | {"started_from": place})
    wanted = begun is None or begun.histories is not None
    return with_histories(model, dataset, wanted if histories is None else histories)


def _check_kinds(algorithm: object, resume: object, start: object, histories: object, keep_diverged: object) -> None:
    check_kind(algorithm, str, "--algorithm", "the name of an algorithm")
    check_kind(resume, str | Path, "--resume", "a model's directory")
    check_kind(start, Model | str | Path, "--from", "a model or its directory")
    check_flag(histories, "histories")
    check_flag(keep_diverged, "keep_diverged")


def _check(
    data: object, env: object, resume: str | Path | None, seed: int | None, steps: int | None, budget: float | str | None
) -> Limits:  # fmt: skip
    if (data is None) == (env is None) and resume is None:
        got = "both" if data is not None else "neither"
        raise UserError("a dataset or --env", got, where="train", hint="give one of them", code=Code.BAD_TRAIN)
    steps = None if steps is None else whole_number(steps, "--steps", 1, Code.BAD_STEPS, high=10**30)
    if seed is not None:
        checked_seed(seed)
    if isinstance(budget, str):
        budget = parse_duration(budget, "--budget") / 1e6
    given: Any = budget.item() if getattr(budget, "shape", None) == () else budget  # type: ignore[union-attr]  # numpy's numbers
    if given is not None and (isinstance(given, bool) or not isinstance(given, int | float) or not given >= 0):
        raise UserError("seconds, or a duration such as 10m", repr(budget), where="--budget", code=Code.BAD_DURATION)
    return Limits(steps=steps, budget=None if given is None else float(given))


def _settings(
    algorithm: str, given: dict[str, Any], defaults: Mapping[str, Any] = MappingProxyType({}), without: Sequence[str] = ()
) -> Settings:
    """The settings of an algorithm or baseline.

    Args:
        defaults: of where it learns. without: leaves that mean nothing there.

    Raises:
        UserError: an unknown algorithm or setting, or a setting that the algorithm does not have.
    """
    if algorithm in FITTED:
        return fitted_settings(algorithm, given)
    if algorithm not in ALGORITHMS:
        hint = nearest(algorithm, [*ALGORITHMS, *FITTED])
        raise UserError("a known algorithm", algorithm, where="--algorithm", hint=hint, code=Code.UNKNOWN_ALGORITHM)
    return algorithm_settings(algorithm, given, defaults, without)


def usual_settings(algorithm: str, dataset: Dataset | None = None, *, task: bool = False) -> Settings:
    """Those of an algorithm where nothing is set: on a dataset, in a Gymnasium task, or else in a simulated world."""
    if dataset is None:
        return _settings(algorithm, {}, TASK_DEFAULTS, CATALOGUE_ONLY) if task else _settings(algorithm, {})
    usual = _settings(algorithm, {}, {} if algorithm in FITTED else log_defaults(dataset, algorithm))
    return usual if algorithm in FITTED else form_for_log(usual, algorithm, {}, dataset.kind)


def _refuse_for_environment(env: str, algorithm: str, rewards: str | Mapping[str, Any] | None, task: bool) -> None:
    """Baselines and what learns from logs only need one, and a Gymnasium task pays its own reward."""
    if algorithm in FITTED or (algorithm in ALGORITHMS and ALGORITHMS[algorithm].from_logs):
        hint = "write a log with `qurate simulate`, and ingest it"
        raise UserError("a dataset", f"--env {env}", where=f"--algorithm {algorithm}", hint=hint, code=Code.BAD_TRAIN)
    if task and rewards is not None:
        hint = "its reward is the environment's own"
        raise UserError("no --rewards with a Gymnasium task", str(rewards), where=env, hint=hint, code=Code.BAD_OPTIONS)


def _refuse_limits(algorithm: str, limits: Limits) -> None:
    """A baseline is fitted in one pass."""
    for option, value in (("--steps", limits.steps), ("--budget", limits.budget)):
        if value is not None:
            hint = "it is fitted in one pass over the log; leave the option out"
            raise UserError(f"no {option}", str(value), where=f"--algorithm {algorithm}", hint=hint, code=Code.BAD_OPTIONS)
