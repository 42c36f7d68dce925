"""The only file that turns names and settings into objects: what `train`, `evaluate` and `compare` put together."""

import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qurate.config import Settings, parse_settings
from qurate.errors import UserError, nearest
from qurate.events.vocabulary import Vocabulary
from qurate.mdp.rewards import parse_rewards
from qurate.mdp.storage import Dataset
from qurate.mdp.transitions import constant_solution
from qurate.mdp.types import TRAIN, Engine, FloatArray
from qurate.policies.choose import epsilon_greedy
from qurate.policies.model import Model, build_network
from qurate.policies.storage import load, read_checked, read_manifest
from qurate.policies.translate import TranslatedEngine, Translation
from qurate.qlearning import checkpoint
from qurate.qlearning.learner import Learner
from qurate.qlearning.loops import Progress, train_from_log, train_online
from qurate.qlearning.variants import variant_settings
from qurate.replay.samplers import LogSampler
from qurate.replay.writers import OnlineWriter, step_discount, store_from_log
from qurate.simulators.gym import make_engine

Report = Callable[[int, int, dict[str, float]], None]
"""Called now and then with (steps done, steps wanted, figures)."""

DEFAULT_TAU_S = 30 * 86_400.0
ONLINE_LANES = 64
ONLINE_STEPS = 60_000
CURVE_POINTS = 100
LOG_UPDATES = (1_000, 6_000)
"""Without `steps`: three passes over the training transitions, but at least and at most so many updates."""


def train(
    data: Dataset | str | Path | None = None,
    env: str | None = None,
    algorithm: str = "dqn",
    seed: int = 0,
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
        algorithm: a row of `qlearning/variants.py`.
        seed: of first weights, batches, exploration and simulated customers.
        steps: updates (dataset) or decisions (environment); None = a default by size.
        budget: seconds after which training stops.
        resume: a model saved with its checkpoint; goes on where it stopped, with its own algorithm and settings.
        rewards: other weights for the dataset's reward components, `{name: weight}`.
        progress: called now and then.
        settings: see `config.Settings`.

    Raises:
        UserError: unknown names, a dataset from which nothing can be learnt, a checkpoint that does not fit.
    """
    if (data is None) == (env is None) and resume is None:
        raise UserError("a dataset or --env", "both" if data is not None else "neither", "train", "give one of them", "bad_train")
    if resume is not None:
        return _resume(Path(resume), data, steps, budget, progress)
    chosen = parse_settings({**variant_settings(algorithm), **settings})
    if env is not None:
        engine = make_engine(env, window=chosen.window)
        model = fresh_model(engine, chosen, algorithm, seed, env)
        return train_in_engine(model, engine, seed, steps or ONLINE_STEPS, progress=progress, budget=budget)
    dataset = data if isinstance(data, Dataset) else Dataset.read(str(data))
    return _train_on_log(dataset, _where(data), chosen, algorithm, seed, steps, budget, None, rewards, progress)


def _where(data: Dataset | str | Path | None) -> str | None:
    return str(Path(data).absolute()) if isinstance(data, str | Path) else None


def _train_on_log(
    dataset: Dataset, where: str | None, settings: Settings, algorithm: str, seed: int, steps: int | None, budget: float | None,
    saved: dict[str, bytes] | None, rewards: str | Mapping[str, Any] | None, progress: Report | None,
) -> Model:  # fmt: skip
    weights = _weights(dataset, rewards)
    t = dataset.transitions
    constant = constant_solution(t, weights)
    if constant is not None:
        raise UserError("rewards from which something can be learnt", constant, where or "dataset", "", "constant_solution")
    tau_s = float(dataset.manifest["episode"]["tau_s"])
    store = store_from_log(dataset.arrays, t, weights, dataset.user_features, settings.gamma, tau_s, settings.window)
    organic = dataset.kind == "organic"
    network = build_network(
        dataset.item_features, settings, n_types=dataset.vocabulary.n_types, user_dim=dataset.user_features.shape[1],
        n_components=len(weights), behaviour=settings.aux_weight > 0, seed=seed,
    )  # fmt: skip
    bound = _q_bound(t.reward * weights, store.tables.discount)
    learner = Learner(network, settings, q_bound=bound, organic=organic, seed=seed)
    rng = np.random.default_rng(seed)
    sampler = LogSampler(t, TRAIN)
    if not len(sampler.index):
        raise UserError("training decisions", "none in the train split", where or "dataset", "the log is too short", "no_train_split")
    wanted = steps or int(np.clip(3 * len(sampler.index) // settings.batch_size, *LOG_UPDATES))
    done, curve = 0, []
    if saved is not None:
        state = checkpoint.from_files(learner, rng, saved[checkpoint.TENSORS], saved[checkpoint.STATE])
        done, curve = int(state["steps"]), list(state["curve"])
    run = _consume(train_from_log(learner, store, sampler, rng), done, wanted, budget, progress, curve)
    model = Model(
        learner.ema, settings, algorithm, dataset.vocabulary, dataset.components, weights, _popularity(dataset, weights),
        dataset.n_ever_available, dataset.user_features.shape[1], dataset.kind, dataset.manifest["history"] == "events+shown",
        dict(dataset.manifest["rewards"]), dataset.item_spec, dataset.user_spec, where, dataset.sha256 or None, None, run,
    )  # fmt: skip
    state = {"steps": run["steps"], "curve": run["curve"], "seed": seed, "wanted": wanted, "weights": [float(w) for w in weights]}
    model.checkpoint.update(checkpoint.to_files(learner, rng, state))
    return model


def _resume(path: Path, data: Dataset | str | Path | None, steps: int | None, budget: float | None, progress: Report | None) -> Model:
    model, manifest = load(path), read_manifest(path)
    if model.environment is not None or checkpoint.STATE not in manifest["files"]:
        got = "one trained in an environment" if model.environment else "one without"
        raise UserError("a model with a checkpoint from a dataset", got, f"--resume {path}", "train it again", "no_checkpoint")
    saved = {name: read_checked(path, name, manifest) for name in (checkpoint.TENSORS, checkpoint.STATE)}
    dataset = data if isinstance(data, Dataset) else Dataset.read(str(data or model.dataset))
    if model.dataset_sha256 is not None and dataset.sha256 != model.dataset_sha256:
        raise UserError("the dataset the model was trained from", "another one", str(data), f"--resume {path}", "other_dataset")
    state = checkpoint.read_progress(saved[checkpoint.STATE])
    weights = dict(zip(model.components, state["weights"]))
    where = _where(data) or model.dataset
    wanted = steps or int(state["wanted"])
    return _train_on_log(dataset, where, model.settings, model.algorithm, int(state["seed"]), wanted, budget, saved, weights, progress)


def _consume(
    loop: Iterator[Progress], done: int, wanted: int, budget: float | None, progress: Report | None, curve: list[dict[str, float]]
) -> dict[str, Any]:
    """Runs a loop until `wanted` steps, the budget or Ctrl-C; the figures of the run."""
    began, stopped, every, start = time.monotonic(), "steps", max(1, wanted // CURVE_POINTS), done
    alarms, recent, next_point = 0.0, [], (done // every + 1) * every
    try:
        for step in loop if done < wanted else islice(loop, 0):
            done = start + step.steps
            if step.update is not None:
                recent.append((step.update.loss, step.update.stats["q"], step.reward))
                alarms += step.update.stats["alarm"]
            if done >= next_point and recent:
                loss, q, reward = (float(x) for x in np.mean(recent, axis=0))
                curve.append({"step": done, "loss": loss, "q": q} | ({} if np.isnan(reward) else {"reward": reward}))
                recent, next_point = [], (done // every + 1) * every
                if progress is not None:
                    progress(done, wanted, curve[-1])
            if done >= wanted:
                break
            if budget is not None and time.monotonic() - began > budget:
                stopped = "budget"
                break
    except KeyboardInterrupt:
        stopped = "interrupted"
    return {"steps": done, "stopped": stopped, "seconds": round(time.monotonic() - began, 2), "alarms": alarms, "curve": curve}


def _weights(dataset: Dataset, rewards: str | Mapping[str, Any] | None) -> FloatArray:
    """The dataset's component weights, or others for the same components."""
    if rewards is None:
        return dataset.weights
    weights = dict.fromkeys(dataset.components, 0.0)
    for name, reward in parse_rewards(rewards).items():
        if name not in weights:
            hint = f"{nearest(name, weights)} (others: `qurate ingest --rewards`)"
            raise UserError("a reward component of the dataset", name, "--rewards", hint, "unknown_component")
        weights[name] = float(reward.weight)
    return np.array(list(weights.values()), np.float32)


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
    )  # fmt: skip


def train_in_engine(
    model: Model, engine: Engine, seed: int, steps: int, progress: Report | None = None, budget: float | None = None,
    settings: Settings | None = None, lanes: int = ONLINE_LANES,
) -> Model:  # fmt: skip
    """The model after `steps` more decisions with exploration in a simulated world; the given one stays as it was.

    Args:
        engine: speaks its own indices; they are translated to the model's.
        settings: of learning and exploration; the network's shape stays the model's. Default: the model's own.
        lanes: customers simulated at once.
    """
    s = settings or model.settings
    world = TranslatedEngine(engine, Translation(engine, model.vocabulary, model.user_spec))
    tau_s = DEFAULT_TAU_S
    network = build_network(
        model.network.tower.get_buffer("features").numpy(), model.settings, n_types=model.vocabulary.n_types, user_dim=model.user_dim,
        n_components=model.network.n_components, behaviour=model.network.behaviour is not None, seed=seed,
    )  # fmt: skip
    network.load_state_dict(model.network.state_dict())
    order = [list(engine.component_names).index(name) if name in engine.component_names else -1 for name in model.components]
    if -1 in order:
        raise UserError(
            "an environment that pays the model's reward components", ", ".join(engine.component_names), "--env", code="bad_env"
        )
    writer = OnlineWriter(lanes, s.replay_capacity, s.window, model.weights, len(model.vocabulary.items), model.user_dim, s.gamma, tau_s)
    largest = float(step_discount(np.ones(1, np.float32), s.gamma, tau_s)[0])
    learner = Learner(network, s, q_bound=float(model.weights.sum()) / max(1 - largest, 1e-3), seed=seed)
    loop = train_online(learner, world, writer, epsilon_greedy, np.random.default_rng([seed, 7]), seed, components=order)
    run = _consume(loop, 0, steps, budget, progress, [])
    return Model(
        learner.ema, s, model.algorithm, model.vocabulary, model.components, model.weights, model.popularity, model.n_available,
        model.user_dim, model.kind, model.shown_in_history, model.rewards, model.item_spec, model.user_spec, model.dataset,
        model.dataset_sha256, model.environment, run,
    )  # fmt: skip


def intra_op_threads(threads: int) -> None:
    """One thread by default: small products lose to the barrier when a neighbour is busy."""
    if threads < 1:
        raise UserError("at least one thread", str(threads), "--threads", code="bad_threads")
    torch.set_num_threads(threads)
