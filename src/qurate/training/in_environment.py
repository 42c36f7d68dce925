"""Training online, with exploration, in a simulated world."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import msgspec
import numpy as np
import torch

from qurate.algorithms.event_models import event_models
from qurate.algorithms.table import make_objective
from qurate.environments.choice_form import TellsChoice
from qurate.environments.engine import BatchedEngine
from qurate.errors import Code, UserError
from qurate.events.vocabulary import Vocabulary
from qurate.learning import checkpoint
from qurate.learning.learner import Learner
from qurate.learning.loops import train_online
from qurate.learning.value_bound import ValueBound, largest_bonus
from qurate.mdp.candidate_features import feature_count
from qurate.models.model import Model
from qurate.models.network_ranker import NetworkRanker
from qurate.models.parts import Answering, Provenance
from qurate.models.ranker import Sizes
from qurate.models.translate import TranslatedEngine, Translation
from qurate.networks.build import build_network
from qurate.networks.linear_later import LinearLaterNetwork
from qurate.networks.slate_network import SlateNetwork
from qurate.networks.values import ValueNetwork
from qurate.replay.writers import OnlineWriter, step_discount
from qurate.settings import Settings, SlateSettings
from qurate.training.drawing import online_sampler, optimiser_of
from qurate.training.later_online import OnlineLater
from qurate.training.online_features import online_columns, standardised
from qurate.training.run import Run, StepCallback, consume
from qurate.training.support import steps_of_events, with_checked_support
from qurate.types import Availability, Engine

ONLINE_STEPS = 60_000


def fresh_model(engine: BatchedEngine, settings: Settings, algorithm: str, seed: int, env: str) -> Model:
    """An untrained model in the engine's indices."""
    user_dim, items, columns = len(engine.user_feature_names), len(engine.item_ids), online_columns(engine, settings)
    network = build_network(
        engine.item_features, settings, n_types=len(engine.type_names), user_dim=user_dim, n_components=len(engine.component_names),
        behaviour=False, seed=seed, candidate_features=feature_count(columns, len(engine.type_names)),
    )  # fmt: skip
    if isinstance(network, LinearLaterNetwork):
        network.now.get_buffer("amount").zero_()  # nothing is known to have happened yet
    return Model(
        ranker=NetworkRanker(network, engine.item_features, columns=columns, n_types=len(engine.type_names)),
        availability=Availability.always(items),
        provenance=Provenance(algorithm=algorithm, settings=settings, environment=env),
        answering=Answering(
            vocabulary=Vocabulary(tuple(engine.item_ids), tuple(engine.type_names)),
            components=list(engine.component_names),
            weights=engine.component_weights,
            popularity=np.zeros(items + 1, np.float32),
            user_dim=user_dim,
            supports_cold_start=True,
        ),
    )


def train_in_engine(
    model: Model,
    engine: BatchedEngine,
    seed: int,
    steps: int,
    *,
    settings: Settings | None = None,
    lanes: int | None = None,
    device: torch.device | str = "cpu",
    budget: float | None = None,
    resumable: bool = False,
    saved: Mapping[str, bytes] | None = None,
    report: StepCallback | None = None,
) -> Model:
    """The model after `steps` more decisions with exploration in a simulated world; the given one stays as it was.

    Args:
        engine: uses its own indices; they are translated to the model's.
        seed: of the customers, batches and exploration.
        settings: of learning and exploration; the network's shape stays the model's. Default: the model's own.
        lanes: customers simulated at once; None = the settings' own.
        device: where it learns; the model comes back to the CPU.
        budget: seconds after which it stops.
        resumable: put a checkpoint into the model, with the replay.
        saved: the checkpoint of an earlier run, which goes on until it has had `steps` decisions in all.

    Raises:
        UserError: the model has no network, or other reward components than the engine.
    """
    own = model.settings
    settings = msgspec.structs.replace(settings or own, network=own.network, algorithm=own.algorithm)
    lanes = lanes or settings.replay.lanes
    translation = Translation(engine, model.vocabulary, model.user_spec)
    order = _component_order(model, engine)
    writer, learner = _writer(model, engine, settings, lanes), _learner(model, settings, seed, device)
    sampler, later = online_sampler(writer, settings), _later(model, learner, writer, settings, seed)
    acting, returns = (None, None) if later is None else (later.acting, later.counted)
    parts: dict[str, Any] = {"writer": writer, "sampler": sampler, "engine": engine}
    parts |= {} if later is None else {"later": later, "returns": returns}
    rng, run, observation = np.random.default_rng([seed, 7]), Run(), None
    if saved is not None:
        run = msgspec.convert(checkpoint.from_files(learner, rng, saved)["run"], Run)
        observation = translation.observation(checkpoint.restore_parts(parts, checkpoint.read_arrays(saved))["engine"])
    loop = train_online(
        learner, TranslatedEngine(engine, translation), writer, sampler, rng, settings, seed=seed, components=order,
        steps=run.steps, observation=observation, slate_size=engine.slate_size, acting=acting, returns=returns,
        columns=writer.store.columns, n_types=model.vocabulary.n_types,
    )  # fmt: skip
    loop = standardised(loop, learner, writer, settings.replay.warm_up, run.steps)
    if later is not None:
        loop = later.watch(loop, run.steps)
    checked = with_checked_support(loop, lambda: steps_of_events(writer.tables), settings, resumed=saved is not None)
    metrics = consume(checked, run, steps, budget, report)
    files: dict[str, bytes] = {}
    if resumable:
        progress = {"run": msgspec.to_builtins(run), "seed": seed, "wanted": steps}
        files = checkpoint.to_files(learner, rng, progress, checkpoint.arrays_of(parts))
    trained_network, figures = (cast(ValueNetwork, learner.ema.cpu()), {}) if later is None else later.trained()
    trained, metrics = replace(model, ranker=_with_network(_ranker(model), trained_network), checkpoint=files), metrics | figures
    return trained.with_provenance(settings=settings, metrics=metrics, version="unsaved").with_answering(supports_cold_start=True)


def _with_network(ranker: NetworkRanker, network: ValueNetwork) -> NetworkRanker:
    return NetworkRanker(network, ranker.item_features, columns=ranker.columns, n_types=ranker.n_types)


def for_slates(settings: Settings, engine: BatchedEngine, algorithm: str, env: str) -> Settings:
    """The settings with the environment's slate size, where the algorithm asks for it.

    Raises:
        UserError: an algorithm of single items where several are shown at once.
    """
    if isinstance(settings.algorithm, SlateSettings):
        return msgspec.structs.replace(settings, algorithm=msgspec.structs.replace(settings.algorithm, slate_size=engine.slate_size))
    if engine.slate_size > 1:
        expected, got = "an algorithm that learns from slates", f"{algorithm} where {engine.slate_size} items are shown at once"
        raise UserError(expected, got, where=env, hint="--algorithm slateq, or slate_size=1", code=Code.BAD_TRAIN)
    return settings


def with_known_choice(model: Model, engine: BatchedEngine, env: str) -> Model:
    """The model with the world's own choice model in its network, where its settings (`choice_model=known`) ask for that.

    Raises:
        UserError: the world does not tell it.
    """
    if isinstance(model.settings.algorithm, SlateSettings) and model.settings.algorithm.choice_model == "known":
        if not isinstance(engine.world, TellsChoice):
            hint = "choice_model=learned"
            raise UserError("a world that tells its choice model", env, where="--set choice_model", hint=hint, code=Code.BAD_SETTING)
        form = engine.world.choice_form()
        cast(SlateNetwork, model.network).know(torch.from_numpy(form.affinity), form.least, form.nothing)
    return model


def _component_order(model: Model, engine: Engine) -> list[int]:
    """Which of the engine's reward components the model's are."""
    names = list(engine.component_names)
    if not set(model.components) <= set(names):
        expected, got = f"an environment that pays what the model learned from, {', '.join(model.components)}", ", ".join(names)
        weights = ",".join(f"{name}={weight:g}" for name, weight in zip(names, engine.component_weights))
        hint = f"ingest the log with --rewards {weights}, as this world pays, and train on that"
        raise UserError(expected, got, where="--env", hint=hint, code=Code.BAD_ENV)
    return [names.index(name) for name in model.components]


def _writer(model: Model, engine: BatchedEngine, settings: Settings, lanes: int) -> OnlineWriter:
    """Replay rings for so many customers at once, with the model's own time constant across pauses."""
    everything = Availability.always(len(model.vocabulary.items))
    gamma, tau_s = settings.learning.gamma, model.provenance.tau_s
    return OnlineWriter(
        lanes, settings.replay.replay_capacity, settings.window, model.weights, everything, model.user_dim, gamma, tau_s,
        rows_per_step=engine.rows_per_step, n_candidates=engine.n_candidates, with_actions=settings.needs_actions,
        slate_size=engine.slate_size if isinstance(settings.algorithm, SlateSettings) else 0,
        columns=_ranker(model).columns if engine.n_candidates is not None else None, n_types=model.vocabulary.n_types,
    )  # fmt: skip


def _learner(model: Model, settings: Settings, seed: int, device: torch.device | str) -> Learner:
    """A learner that begins with the weights of the model; of the form linear_later, only the event models learn by gradient."""
    network = _ranker(model).trainable_copy(settings, Sizes(model.vocabulary.n_types, model.user_dim, len(model.components)), seed)
    largest = float(step_discount(np.ones(1, np.float32), settings.learning.gamma, model.provenance.tau_s)[0])
    bound = ValueBound(largest, largest_bonus(settings, len(model.vocabulary.items)))
    objective = make_objective(model.algorithm, settings)
    if isinstance(network, LinearLaterNetwork):
        network, objective, device = network.now, event_models, "cpu"
    return Learner(network, objective, settings.learning, bound=bound, seed=seed, optimiser=optimiser_of(settings), device=device)


def _later(model: Model, learner: Learner, writer: OnlineWriter, settings: Settings, seed: int) -> OnlineLater | None:
    """The fits of `later` for the form linear_later; None for other networks."""
    network, logged = _ranker(model).module, model.metrics.get("later", {}).get("rows")
    return OnlineLater(network, learner, writer, settings, seed, logged) if isinstance(network, LinearLaterNetwork) else None


def _ranker(model: Model) -> NetworkRanker:
    if not isinstance(model.ranker, NetworkRanker):
        raise UserError("a model with a network", model.algorithm, where="train", hint="choose another --algorithm", code=Code.BAD_TRAIN)
    return model.ranker
