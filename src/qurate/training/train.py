"""The only file that turns names and settings into objects: what `train`, `evaluate` and `compare` put together."""

import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any, cast

import msgspec
import numpy as np
import torch

from qurate.algorithms.table import algorithm_settings, make_objective
from qurate.environments.engine import BatchedEngine
from qurate.environments.registry import make_engine
from qurate.errors import Code, UserError, nearest
from qurate.events.vocabulary import Vocabulary
from qurate.learning import checkpoint
from qurate.learning.learner import Learner
from qurate.learning.loops import Progress, train_from_log, train_online
from qurate.mdp.episodes import constant_solution
from qurate.mdp.rewards import parse_rewards
from qurate.mdp.storage import Dataset
from qurate.models.directory import load, read_checked, read_manifest
from qurate.models.histories import Histories
from qurate.models.model import By, Model
from qurate.models.translate import TranslatedEngine, Translation
from qurate.networks.build import build_network
from qurate.networks.catalogue_network import CatalogueNetwork
from qurate.replay.samplers import LogSampler, OnlineSampler
from qurate.replay.writers import OnlineWriter, step_discount, store_from_log
from qurate.settings import Settings
from qurate.types import TRAIN, Availability, Engine, FloatArray

Report = Callable[[int, int, dict[str, float]], None]
"""Called now and then with (steps done, steps wanted, figures)."""

DEFAULT_TAU_S = 30 * 86_400.0
ONLINE_LANES = 64
ONLINE_STEPS = 60_000
CURVE_POINTS = 100
SEEDS = 2**63
"""Above all seeds: torch takes no larger ones."""
LOG_UPDATES = (1_000, 6_000)
"""Without `steps`: three passes over the training transitions, but at least and at most so many updates."""


def train(
    data: Dataset | str | Path | None = None,
    env: str | None = None,
    algorithm: str = "dqn",
    seed: int | None = None,
    steps: int | None = None,
    budget: float | None = None,
    resume: str | Path | None = None,
    rewards: str | Mapping[str, Any] | None = None,
    progress: Report | None = None,
    **settings: Any,
) -> Model:
    """Trains on a dataset or in one of our environments.

    Args:
        data: a dataset or its directory. env: the name of an environment instead.
        algorithm: a row of `algorithms/table.py`.
        seed: of first weights, batches, exploration and simulated customers. None = 0, or the saved run's with `resume`.
        steps: updates (dataset) or decisions (environment); None = a default by size.
        budget: seconds after which training stops.
        resume: a model saved with its checkpoint; goes on where it stopped, with its own algorithm, settings and rewards.
        rewards: other weights for the reward components of the dataset or environment, `{name: weight}`; the rest get 0.
        progress: called now and then.
        settings: see `config.Settings`.

    Raises:
        UserError: unknown names, a dataset from which nothing can be learnt, a checkpoint that does not fit.
    """
    if (data is None) == (env is None) and resume is None:
        raise UserError(
            "a dataset or --env", "both" if data is not None else "neither", where="train", hint="give one of them", code=Code.BAD_TRAIN
        )
    if steps is not None and steps < 1:
        raise UserError("at least one step", str(steps), where="--steps", code=Code.BAD_STEPS)
    if seed is not None and not 0 <= seed < SEEDS:
        raise UserError("a seed of 0 or more, below 2**63", str(seed), where="--seed", code=Code.BAD_SEED)
    if resume is not None:
        ours = {"--rewards": rewards, "--set": settings, "--env": env, "--algorithm": algorithm if algorithm != "dqn" else None}
        return _resume(Path(resume), data, ours, seed, steps, budget, progress)
    seed = seed or 0
    chosen = algorithm_settings(algorithm, settings)
    if env is not None:
        engine = make_engine(env, window=chosen.window)
        model = fresh_model(engine, chosen, algorithm, seed, env)
        if rewards is not None:
            model = replace(model, weights=_reweighted(model.components, rewards, env))
        return train_in_engine(model, engine, seed, steps or ONLINE_STEPS, progress, budget, resumable=True)
    dataset = data if isinstance(data, Dataset) else Dataset.read(str(data))
    return _with_histories(_train_on_log(dataset, _where(data), chosen, algorithm, seed, steps, budget, None, rewards, progress), data)


def _where(data: Dataset | str | Path | None) -> str | None:
    path = data.path if isinstance(data, Dataset) else data
    return None if path is None else str(Path(path).absolute())


def _with_histories(model: Model, data: Dataset | str | Path | None) -> Model:
    """A model trained from a dataset in memory knows its users from there: it may stand in no directory."""
    return replace(model, histories=Histories(data)) if isinstance(data, Dataset) else model


def _train_on_log(
    dataset: Dataset, where: str | None, settings: Settings, algorithm: str, seed: int, steps: int | None, budget: float | None,
    saved: dict[str, bytes] | None, rewards: str | Mapping[str, Any] | None, progress: Report | None,
) -> Model:  # fmt: skip
    weights = _weights(dataset, rewards)
    t = dataset.transitions
    constant = constant_solution(t, weights)
    if constant is not None:
        raise UserError("rewards from which something can be learnt", constant, where=where or "dataset", code=Code.CONSTANT_SOLUTION)
    tau_s = float(dataset.manifest["episode"]["tau_s"])
    store = store_from_log(
        dataset.arrays, t, weights, dataset.user_features, settings.learning.gamma, tau_s, settings.window, dataset.availability
    )
    organic = dataset.kind == "organic"
    network = build_network(
        dataset.item_features, settings, n_types=dataset.vocabulary.n_types, user_dim=dataset.user_features.shape[1],
        n_components=len(weights), behaviour=settings.offline.aux_weight > 0, seed=seed,
    )  # fmt: skip
    bound = _q_bound(t.reward * weights, store.tables.discount)
    learner = Learner(network, make_objective(algorithm, settings, organic), settings.learning, q_bound=bound, seed=seed)
    rng = np.random.default_rng(seed)
    sampler = LogSampler(t, TRAIN)
    if not len(sampler.index):
        raise UserError(
            "training decisions", "none in the train split", where=where or "dataset", hint="the log is too short", code=Code.NO_TRAIN_SPLIT
        )
    if not t.n_available[t.state[sampler.index]].any() and not len(t.candidates):
        hint = "see available_from in the items table: a later time than every decision's leaves nothing to choose from"
        raise UserError("an item that could be shown in training", "none", where=where or "dataset", hint=hint, code=Code.EMPTY_CATALOGUE)
    wanted = steps or int(np.clip(3 * len(sampler.index) // settings.learning.batch_size, *LOG_UPDATES))
    run = Run()
    if saved is not None:
        run = msgspec.convert(checkpoint.from_files(learner, rng, saved)["run"], Run)
    loop = train_from_log(learner, store, sampler, rng, settings)
    metrics = _consume(loop, run, wanted, budget, progress)
    metrics["decisions"] = len(np.unique(t.state[sampler.index]))
    kept = cast(CatalogueNetwork, learner.ema)
    model = Model(
        kept, settings, algorithm, dataset.vocabulary, dataset.components, weights, _popularity(dataset, weights),
        dataset.n_ever_available, dataset.user_features.shape[1], dataset.kind, dataset.manifest["history"] == "events+shown",
        dict(dataset.manifest["rewards"]), dataset.item_spec, dataset.user_spec, where, dataset.sha256 or None, None, metrics,
        answers_newcomers=_meets_newcomers(dataset), upcoming=dataset.upcoming,
        by=_ranks_by(dataset, settings),
        lists_inside=len(t.candidates) > 0,
    )  # fmt: skip
    state = {"run": msgspec.to_builtins(run), "seed": seed, "wanted": wanted, "weights": [float(w) for w in weights]}
    model.checkpoint.update(checkpoint.to_files(learner, rng, state))
    return model


def _ranks_by(dataset: Dataset, settings: Settings) -> By:
    """By which score a model of this dataset decides what to show.

    Within the support, as its targets are, where the log never tried anything unusual on purpose: Q of what was not shown
    is a guess. A log with probabilities has explored, and its models may leave what was usual; else a service that shows
    one item nearly always could never learn to show another.
    """
    supported = settings.offline.aux_weight > 0 and settings.offline.support_threshold > 0
    return "q_in_support" if supported and dataset.kind != "logged" else "q"


def _resume(
    path: Path, data: Dataset | str | Path | None, ours: Mapping[str, Any], seed: int | None, steps: int | None, budget: float | None,
    progress: Report | None,
) -> Model:  # fmt: skip
    """Goes on from a checkpoint; `ours` are options that belong to the saved run and must not be given again."""
    model, manifest = load(path), read_manifest(path)
    same = {"--algorithm": model.algorithm, "--env": model.environment}
    for option, value in ours.items():
        if value and value != same.get(option):
            raise UserError(
                "--resume with --steps and --budget only",
                option,
                where=f"--resume {path}",
                hint="the rest is the model's",
                code=Code.BAD_RESUME,
            )
    names = [checkpoint.TENSORS, checkpoint.STATE, *([checkpoint.REPLAY] if model.environment else [])]
    if any(name not in manifest["files"] for name in names):
        raise UserError(
            "a model with a checkpoint", "one without", where=f"--resume {path}", hint="train it again", code=Code.NO_CHECKPOINT
        )
    saved = {name: read_checked(path, name, manifest) for name in names}
    state = checkpoint.read_progress(saved)
    wanted, began = steps or int(state["wanted"]), int(state["seed"])
    if seed not in (None, began):
        raise UserError(
            f"the saved run's seed, {began}", str(seed), where=f"--resume {path}", hint="leave --seed out", code=Code.BAD_RESUME
        )
    if model.environment is not None:
        if data is not None:
            raise UserError(
                "no dataset", str(data), where=f"--resume {path}", hint=f"it was trained in {model.environment}", code=Code.BAD_RESUME
            )
        engine = make_engine(model.environment, window=model.window)
        return train_in_engine(model, engine, began, wanted, progress, budget, resumable=True, saved=saved)
    if data is None and model.dataset is None:
        raise UserError(
            "the dataset the model was trained from", "none", where=f"--resume {path}", hint="give its directory", code=Code.NO_DATASET
        )
    dataset = data if isinstance(data, Dataset) else Dataset.read(str(data or model.dataset))
    changed = model.dataset_sha256 is not None and dataset.sha256 != model.dataset_sha256
    if changed or (dataset.vocabulary, dataset.components) != (model.vocabulary, model.components):
        place = _where(data) or str(model.dataset)
        raise UserError(
            "the dataset the model was trained from", "another one", where=place, hint=f"--resume {path}", code=Code.OTHER_DATASET
        )
    weights = dict(zip(model.components, state["weights"]))
    where = _where(data) or model.dataset
    trained = _train_on_log(dataset, where, model.settings, model.algorithm, began, wanted, budget, saved, weights, progress)
    return _with_histories(trained, data)


class Run(msgspec.Struct):
    """Counters and figures of a run; with the learner and the replay they are its checkpoint."""

    steps: int = 0
    curve: list[dict[str, float]] = []
    recent: list[tuple[float, float, float | None]] = []  # loss, Q and reward of the updates since the curve's last point
    alarms: float = 0
    skipped: int = 0  # updates without a step, because loss or gradient were not finite


def _consume(loop: Iterator[Progress], run: Run, wanted: int, budget: float | None, progress: Report | None) -> dict[str, Any]:
    """Runs a loop until `wanted` steps, the budget or Ctrl-C, always between two of its steps; the figures of the run."""
    began, stopped, every, start = time.monotonic(), "steps", max(1, wanted // CURVE_POINTS), run.steps
    next_point = (start // every + 1) * every
    with noticed_ctrl_c() as pressed:
        for step in loop if start < wanted else islice(loop, 0):
            run.steps = start + step.steps
            if step.update is not None:
                _note(run, step.update.loss, step.update.stats, step.reward)
            if run.steps >= next_point and run.recent:
                run.curve.append({"step": run.steps} | _means(run.recent))
                run.recent, next_point = [], (run.steps // every + 1) * every
                if progress is not None:
                    progress(run.steps, wanted, run.curve[-1])
            if run.steps >= wanted:
                break
            if pressed():
                stopped = "interrupted"
                break
            if budget is not None and time.monotonic() - began > budget:
                stopped = "budget"
                break
    figures = {"steps": run.steps, "stopped": stopped, "seconds": round(time.monotonic() - began, 2)}
    return figures | {"alarms": run.alarms, "skipped": run.skipped, "curve": run.curve}


def _note(run: Run, loss: float, stats: Mapping[str, float], reward: float) -> None:
    run.alarms += stats["alarm"]
    if stats["stepped"]:
        run.recent.append((loss, stats["q"], None if np.isnan(reward) else reward))
    else:
        run.skipped += 1


def _means(recent: Sequence[tuple[float, float, float | None]]) -> dict[str, float]:
    """Mean loss and q, and reward where there is one."""
    columns = {"loss": [r[0] for r in recent], "q": [r[1] for r in recent], "reward": [r[2] for r in recent if r[2] is not None]}
    return {name: float(np.mean(values)) for name, values in columns.items() if values}


@contextmanager
def noticed_ctrl_c() -> Generator[Callable[[], bool], None, None]:
    """Inside, Ctrl-C only makes the yielded function true, so that no update is cut in half; a second one stops at once.

    Signals reach the main thread only, and a handler that somebody else has set is left alone.
    """
    noticed: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is not signal.default_int_handler:
        yield lambda: False
        return

    def notice(number: int, _frame: FrameType | None) -> None:
        noticed.append(number)
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, notice)
    try:
        yield lambda: bool(noticed)
    finally:
        signal.signal(signal.SIGINT, before)


def _weights(dataset: Dataset, rewards: str | Mapping[str, Any] | None) -> FloatArray:
    """The dataset's component weights, or others for the same components."""
    return dataset.weights if rewards is None else _reweighted(dataset.components, rewards, "the dataset")


def _reweighted(components: Sequence[str], rewards: str | Mapping[str, Any], of: str) -> FloatArray:
    """Weights float32 [R] by component; those that are not named get 0.

    Raises:
        UserError: an unknown component, more than a weight, or all of them zero.
    """
    weights = dict.fromkeys(components, 0.0)
    for name, reward in parse_rewards(rewards).items():
        if name not in weights:
            hint = f"{nearest(name, weights)} (others: `qurate ingest --rewards`)"
            raise UserError(f"a reward component of {of}", name, where="--rewards", hint=hint, code=Code.UNKNOWN_COMPONENT)
        if reward.per_value or reward.cap is not None:
            hint = "how an event counts is decided by `qurate ingest --rewards`"
            raise UserError(f"a weight for {name}", "per or cap", where="--rewards", hint=hint, code=Code.BAD_REWARD)
        weights[name] = float(reward.weight)
    if not any(weights.values()):
        raise UserError(
            "a weight other than 0", "all rewards zero", where="--rewards", hint="give what you want a weight", code=Code.NO_REWARD
        )
    return np.array(list(weights.values()), np.float32)


def _meets_newcomers(dataset: Dataset) -> bool:
    """Whether training has states without any history row."""
    t = dataset.transitions
    return bool(np.any((t.hi == dataset.arrays.user_start[t.user]) & (t.split == TRAIN)))


def _q_bound(reward: FloatArray, discount: FloatArray) -> float:
    """The largest |Q| that rewards of this size and discounts allow; infinite where the discount reaches 1."""
    largest, gamma = float(np.abs(reward.sum(1)).max(initial=0.0)), float(discount.max(initial=0.0))
    return largest / (1 - gamma) if gamma < 1 else float("inf")


def _popularity(dataset: Dataset, weights: FloatArray) -> FloatArray:
    """Credited reward per item in training, float32 [N + 1]: the fallback's order."""
    t = dataset.transitions
    train_rows = t.split[t.state] == TRAIN
    earned = (t.reward[train_rows] * weights).sum(1)
    return np.bincount(t.action[train_rows], weights=earned, minlength=dataset.vocabulary.n_items + 1).astype(np.float32)


def fresh_model(engine: Engine, settings: Settings, algorithm: str, seed: int, env: str) -> Model:
    """An untrained model that speaks the engine's indices."""
    user_dim = len(engine.user_feature_names)
    network = build_network(
        engine.item_features, settings, n_types=len(engine.type_names), user_dim=user_dim, n_components=len(engine.component_names),
        behaviour=False, seed=seed,
    )  # fmt: skip
    vocabulary = Vocabulary(tuple(engine.item_ids), tuple(engine.type_names))
    return Model(
        network, settings, algorithm, vocabulary, list(engine.component_names), engine.component_weights,
        np.zeros(len(engine.item_ids) + 1, np.float32), len(engine.item_ids), user_dim, environment=env,
        answers_newcomers=True,
    )  # fmt: skip


def train_in_engine(
    model: Model, engine: BatchedEngine, seed: int, steps: int, progress: Report | None = None, budget: float | None = None,
    settings: Settings | None = None, lanes: int = ONLINE_LANES, resumable: bool = False, saved: Mapping[str, bytes] | None = None,
) -> Model:  # fmt: skip
    """The model after `steps` more decisions with exploration in a simulated world; the given one stays as it was.

    Args:
        engine: speaks its own indices; they are translated to the model's.
        settings: of learning and exploration; the network's shape stays the model's. Default: the model's own.
        lanes: customers simulated at once.
        resumable: put a checkpoint into the model, with the replay.
        saved: the checkpoint of an earlier run, which goes on until it has had `steps` decisions in all.
    """
    s = settings or model.settings
    translation = Translation(engine, model.vocabulary, model.user_spec)
    world = TranslatedEngine(engine, translation)
    network = build_network(
        model.network.tower.get_buffer("features").numpy(), model.settings, n_types=model.vocabulary.n_types, user_dim=model.user_dim,
        n_components=model.network.n_components, behaviour=model.network.behaviour is not None, seed=seed,
    )  # fmt: skip
    network.load_state_dict(model.network.state_dict())
    order = [list(engine.component_names).index(name) if name in engine.component_names else -1 for name in model.components]
    if -1 in order:
        raise UserError(
            "an environment that pays the model's reward components", ", ".join(engine.component_names), where="--env", code=Code.BAD_ENV
        )
    items = len(model.vocabulary.items)
    writer = OnlineWriter(
        lanes,
        s.replay.replay_capacity,
        s.window,
        model.weights,
        Availability.always(items),
        model.user_dim,
        s.learning.gamma,
        DEFAULT_TAU_S,
    )
    largest = float(step_discount(np.ones(1, np.float32), s.learning.gamma, DEFAULT_TAU_S)[0])
    bound = float(np.abs(model.weights).sum()) / max(1 - largest, 1e-3)
    learner = Learner(network, make_objective(model.algorithm, s), s.learning, q_bound=bound, seed=seed)
    rng, run, observation = np.random.default_rng([seed, 7]), Run(), None
    if saved is not None:
        run = msgspec.convert(checkpoint.from_files(learner, rng, saved)["run"], Run)
        arrays = checkpoint.read_arrays(saved)
        writer.restore({name[7:]: a for name, a in arrays.items() if name.startswith("writer.")})
        observation = translation.observation(engine.restore({name[7:]: a for name, a in arrays.items() if name.startswith("engine.")}))
    loop = train_online(
        learner, world, writer, OnlineSampler(writer), rng, s, seed=seed, components=order, steps=run.steps, observation=observation
    )
    metrics = _consume(loop, run, steps, budget, progress)
    trained = replace(
        model, network=cast(CatalogueNetwork, learner.ema), settings=s, metrics=metrics,
        answers_newcomers=True, by="q", version="unsaved", checkpoint={},
        _tables=[],
    )  # fmt: skip
    if resumable:
        arrays = {f"writer.{name}": a for name, a in writer.state().items()} | {f"engine.{name}": a for name, a in engine.state().items()}
        state = {"run": msgspec.to_builtins(run), "seed": seed, "wanted": steps}
        trained.checkpoint.update(checkpoint.to_files(learner, rng, state, arrays))
    return trained


def intra_op_threads(threads: int) -> None:
    """One thread by default: small products lose to the barrier when a neighbour is busy."""
    if threads < 1:
        raise UserError("at least one thread", str(threads), where="--threads", code=Code.BAD_THREADS)
    torch.set_num_threads(threads)
