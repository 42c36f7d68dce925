"""Features of candidates in a simulated world: which of them a network uses, and their scale, which no log has told before."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from qurate.environments.engine import BatchedEngine
from qurate.learning.learner import Learner
from qurate.learning.loops import Progress
from qurate.networks.candidate_layers import CandidateLayers
from qurate.replay.writers import OnlineWriter
from qurate.settings import Settings
from qurate.types import FloatArray

LEAST_SPREAD = 0.1
"""Standard deviation that a feature has at least: what random decisions never brought about, a trained policy may."""
LISTS = 4_000
"""At most so many decisions say how features are spread."""


def online_columns(engine: BatchedEngine, settings: Settings) -> tuple[str, ...] | None:
    """What a network uses of each candidate, beside what the history says; None where the world shows nothing, or it cannot use it."""
    used = settings.uses_candidate_features and settings.offline.candidate_features
    return engine.candidate_columns if used and engine.candidate_columns else None


def standardised(loop: Iterator[Progress], learner: Learner, writer: OnlineWriter, warm_up: int, done: int) -> Iterator[Progress]:
    """The loop; mean and scale of the features come from the decisions of the warm-up, before the first update.

    A network that has them, from a log or from the run that goes on, keeps them; one without such features is left alone.

    Args:
        warm_up: decisions before the first update. done: decisions before the loop began.
    """
    waiting = writer.store.columns is not None and not layers_of(learner.module).standardised
    for step in loop:
        if waiting and done + step.steps >= warm_up // writer.lanes * writer.lanes:
            _standardise(learner, torch.from_numpy(seen_features(writer)))
            waiting = False
        yield step


def layers_of(module: nn.Module) -> CandidateLayers:
    """The layers of a network that read features of candidates."""
    return next(part for part in module.modules() if isinstance(part, CandidateLayers))


def _standardise(learner: Learner, features: torch.Tensor) -> None:
    learner.change_buffers(lambda module: layers_of(module).standardise(features, LEAST_SPREAD))


def seen_features(writer: OnlineWriter) -> FloatArray:
    """Features of the candidates of decisions in the replay, float32 [M, F]."""
    store, every = writer.store, np.arange(len(writer.tables.next_state))
    some = every[writer.complete(every)]
    some = some[:: -(-len(some) // LISTS)]
    candidates = store.listed(some)
    assert candidates is not None
    found: FloatArray = store.candidate_features(some, store.states(some), candidates)[candidates > 0]
    return found
