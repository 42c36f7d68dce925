"""The linear form online: `now` learns from every batch, `later` is fitted again now and then to all that the replay holds.

A growing-batch method (Lange, Gabel and Riedmiller 2012, "Batch reinforcement learning"): between two fits the policy is fixed
but for `now`, and each fit sees what the last policies met. Few weights, found by least squares over the whole replay, follow a
new policy faster than gradient steps can, and where they began in a log they keep what it taught until there is more.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from qurate.errors import Code, UserError
from qurate.learning.learner import Learner
from qurate.learning.loops import Progress
from qurate.networks.event_network import EventNetwork
from qurate.networks.linear_later import FEW_ITEMS, LinearLaterNetwork
from qurate.replay.writers import OnlineWriter
from qurate.settings import Settings, replace
from qurate.training.later_from_log import LINEAR, N_STEP, fit_later, set_shape
from qurate.types import IntArray

LEAST_DECISIONS, AFTER_A_LOG = 5_000, 20_000
"""Decisions in the replay before the first fit: of a model whose `later` has no effects of items yet, and of one fitted to a log."""
GROWTH = 1.5
"""Factor by which the decisions made grow from one fit to the next."""
HELD_OUT_EVERY = 8
"""The transitions of every eighth simulated customer are held out: they choose the penalty."""


def form_for_world(settings: Settings, algorithm: str, given: Mapping[str, Any], n_items: int) -> Settings:
    """The settings with the form that measures best in simulated worlds (docs/from_logs.md), where none was asked for.

    Small catalogues keep the network: the worlds that have one are to be solved exactly, which a linear form cannot.

    Args:
        given: what was set explicitly. n_items: of the world.

    Raises:
        UserError: the linear form of another algorithm.
    """
    if settings.network.form == "linear_later" and algorithm not in LINEAR:
        hint = "form=now_later, or another --algorithm"
        raise UserError(" or ".join(LINEAR), algorithm, where="--set form=linear_later", hint=hint, code=Code.BAD_SETTING)
    if algorithm not in LINEAR or "form" in given or n_items <= FEW_ITEMS:
        return settings
    own = replace(settings, form="linear_later")
    return own if "n_step" in given else replace(own, n_step=N_STEP)


class OnlineLater:
    """The network that acts while the event models learn, and the fits of its `later`.

    Args:
        network: as training begins; it stays as it is.
        learner: of a copy of its event models.
        writer: the replay that is filled.
        settings: with gamma 0 there is no `later` to fit.
        seed: of the transitions that a fit samples, where the replay holds more than it uses.
    """

    def __init__(self, network: LinearLaterNetwork, learner: Learner, writer: OnlineWriter, settings: Settings, seed: int) -> None:
        self.learner, self.writer, self.settings, self.seed = learner, writer, settings, seed
        self.acting = copy.deepcopy(network)
        self.acting.now = cast(EventNetwork, learner.ema)  # the average: `later` is fitted to its values, which change least
        begun = bool(network.get_buffer("theta")[network.n_state :].any())
        self.next_fit = AFTER_A_LOG if begun else max(settings.replay.warm_up, 1)
        self.least_decisions = AFTER_A_LOG if begun else LEAST_DECISIONS

    def watch(self, loop: Iterator[Progress], done: int) -> Iterator[Progress]:
        """The loop, with a fit whenever the decisions have grown by `GROWTH`; `done` decisions were made before it."""
        for step in loop:
            if done + step.steps >= self.next_fit:
                self.next_fit = int((done + step.steps) * GROWTH)
                self.fit()
            yield step

    def fit(self) -> dict[str, Any]:
        """Sets the buffers of the event models until each event has occurred; fits `later`: its figures, empty with too little data."""
        index = self._complete()
        for network in (self.learner.network, self.learner.target, self.learner.ema):
            if len(index) and not bool(cast(nn.Module, network).get_buffer("amount").all()):
                set_shape(cast(EventNetwork, network), self.writer.tables.reward[index])
        if self.settings.learning.gamma == 0 or len(index) < self.least_decisions:
            return {}
        held = index // self.writer.lane_states % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
        work = copy.deepcopy(self.acting)
        # no `judge`: a personalised policy shows better customers better items, so that the rewards that follow cannot confirm an effect
        n_step = self.settings.learning.n_step
        figures = fit_later(work, self.writer.store, index[~held], index[held], n_step=n_step, seed=self.seed, judge=False)
        self.acting.get_buffer("theta").copy_(work.get_buffer("theta"))
        self.acting.get_buffer("share").copy_(work.get_buffer("share"))
        return figures

    def _complete(self) -> IntArray:
        """Indices of the replay's transitions whose reward and successor are stored."""
        every = np.arange(len(self.writer.tables.next_state))
        return every[self.writer.complete(every)]

    def trained(self) -> tuple[LinearLaterNetwork, dict[str, Any]]:
        """The trained network, with `later` fitted once more to the final event models, and the figures of that fit."""
        figures = self.fit()
        network = copy.deepcopy(self.acting).cpu()
        return network, {"later": figures} if figures else {}

    def state(self) -> dict[str, NDArray[Any]]:
        """For a checkpoint, besides what the learner keeps."""
        theta, share = (self.acting.get_buffer(name).numpy().copy() for name in ("theta", "share"))
        return {"theta": theta, "share": share, "next": np.array(self.next_fit), "least": np.array(self.least_decisions)}

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Goes on from what `state` returned."""
        for name in ("theta", "share"):
            self.acting.get_buffer(name).copy_(torch.from_numpy(np.array(state[name])))
        self.next_fit, self.least_decisions = int(state["next"]), int(state["least"])
