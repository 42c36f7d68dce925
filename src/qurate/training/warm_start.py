"""`train --env WORLD --from MODEL`: a trained network goes on learning in a simulated world."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from qurate.algorithms.table import OF_LOGS, setting_names
from qurate.environments.engine import BatchedEngine
from qurate.errors import Code, UserError
from qurate.models.model import Model
from qurate.models.network_ranker import NetworkRanker
from qurate.settings import NetworkSettings, Settings, flat

log = logging.getLogger("qurate.training")

EXPLORES = {"epsilon_start": 0.1, "epsilon_end": 0.05}
"""A trained model explores less than a new one: with the usual epsilon at the start it would earn less than before for a while."""
OF_THE_LOG = {"support_threshold": 0.0, "aux_weight": 0.0}
"""Off online: actions of its own that are bad are corrected by their rewards, and its own policy is not one to imitate."""
SHAPE = tuple(name for name in NetworkSettings.__struct_fields__ if name not in ("id_dropout",))
"""Settings that decide which weights a network has."""


def online_settings(model: Model, algorithm: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """What a run of the model in a world begins with: the model's own settings, what differs online, and what was given.

    Raises:
        UserError: another algorithm, a model without a network, or a network of another shape.
    """
    if not isinstance(model.ranker, NetworkRanker):
        got, hint = model.algorithm, "it learns from a dataset only"
        raise UserError("a model with a network", got, where="--from", hint=hint, code=Code.BAD_TRAIN)
    if algorithm != model.algorithm or model.kind == "task":
        got = algorithm if algorithm != model.algorithm else f"a model of {model.environment}"
        hint = "leave --algorithm out" if algorithm != model.algorithm else "--resume goes on with the run of a task"
        expected = f"the algorithm of the model, {model.algorithm}" if algorithm != model.algorithm else "a model of a catalogue"
        raise UserError(expected, got, where="--from", hint=hint, code=Code.BAD_OPTIONS)
    own, leaves = flat(model.settings), set(setting_names(algorithm))
    kept = {name: value for name, value in own.items() if name in leaves and name not in OF_LOGS}
    of_log = model.environment is None
    return kept | (EXPLORES | {name: value for name, value in OF_THE_LOG.items() if name in leaves} if of_log else {}) | dict(given)


def check_world(model: Model, settings: Settings, engine: BatchedEngine, env: str) -> None:
    """Checks that the model fits the world, and logs a note of what is kept of it.

    Raises:
        UserError: a network of another shape is asked for, or the world has items that the model does not know.
    """
    for name in SHAPE:
        asked, own = getattr(settings.network, name), getattr(model.settings.network, name)
        if asked != own:
            hint = "leave it out, or train without --from"
            raise UserError(f"the network of the model, {name}={own}", f"{name}={asked}", where="--from", hint=hint, code=Code.BAD_SETTING)
    unknown = int((model.vocabulary.item_index(engine.item_ids) == 0).sum())
    if unknown:
        got, hint = f"{unknown:,} of {len(engine.item_ids):,} items unknown to the model", "train it on a log of this world"
        raise UserError("a world whose items the model knows", got, where=f"--env {env}", hint=hint, code=Code.OTHER_ENVIRONMENT)
    e = settings.exploration
    log.warning(
        "note: algorithm, network, settings and rewards as in the model; it explores with epsilon %g, falling to %g over %s decisions",
        *(e.epsilon_start, e.epsilon_end, f"{e.epsilon_steps:,}"),
    )


def begun_with(model: Model, env: str) -> Model:
    """The model before a run in a world: its provenance names the world, and figures of earlier training are dropped.

    But for those of `later`, which say how much it has learned from (`OnlineLater`).
    """
    weights, metrics = np.array(model.weights, np.float32), {name: of for name, of in model.metrics.items() if name == "later"}
    return model.with_provenance(kind="environment", environment=env, dataset=None, dataset_sha256=None, metrics=metrics).with_answering(
        weights=weights
    )
