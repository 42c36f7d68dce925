"""The linear form online: `now` learns from every batch, `later` is fitted again now and then to all that the replay holds.

A growing-batch method (Lange, Gabel and Riedmiller 2012, "Batch reinforcement learning"): between two fits the policy is fixed
but for `now`, and each fit sees what the last policies met. Few weights, found by least squares over the whole replay, follow a
new policy faster than gradient steps can, and where they began in a log they keep what it taught until there is more.
"""

import copy
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qurate.errors import Code, UserError
from qurate.learning.learner import Learner
from qurate.learning.loops import Progress
from qurate.learning.returns import Returns
from qurate.networks.event_network import EventNetwork
from qurate.networks.linear_later import FEW_ITEMS, LinearLaterNetwork
from qurate.replay.writers import OnlineWriter
from qurate.settings import Settings, replace
from qurate.training.later_from_log import LINEAR, N_STEP, fit_later, set_shape
from qurate.types import IntArray

LEAST_DECISIONS, MOST_DECISIONS = 5_000, 20_000
"""Decisions in the replay before the first fit: of a model whose `later` has no effects of items yet the first number; of one fitted to a
log half as many as the log had, between the two."""
GROWTH = 1.5
"""Factor by which the decisions made grow from one fit to the next."""
HELD_OUT_EVERY = 8
"""The transitions of every eighth simulated customer are held out: they choose the penalty."""
LEAST_CUSTOMERS = 100
"""Customers whose mean return says what a fit earns; fewer say nothing."""


OF_TURNOVER = {"update_every": 16, "id_embedding": False}
"""Where the catalogue turns over an item is met a few times and then gone. With more updates for each decision, and with free numbers of
each item, the event models overfit and predict worse than the mean (docs/scenarios/news.md)."""


def form_for_world(settings: Settings, algorithm: str, given: Mapping[str, Any], n_items: int, turns_over: bool = False) -> Settings:
    """The settings with the form that measures best in simulated worlds (docs/from_logs.md), where none was asked for.

    Small catalogues keep the network: the worlds that have one are to be solved exactly, which a linear form cannot.

    Args:
        given: what was set explicitly. n_items: of the world. turns_over: its items come and go.

    Raises:
        UserError: the linear form of another algorithm.
    """
    if settings.network.form == "linear_later" and algorithm not in LINEAR:
        hint = "form=now_later, or another --algorithm"
        raise UserError(" or ".join(LINEAR), algorithm, where="--set form=linear_later", hint=hint, code=Code.BAD_SETTING)
    if algorithm not in LINEAR or "form" in given or n_items <= FEW_ITEMS:
        return settings
    usual = {"form": "linear_later", "n_step": N_STEP} | (OF_TURNOVER if turns_over else {})
    return replace(settings, **{name: value for name, value in usual.items() if name not in given})


class Tried(NamedTuple):
    """A fit that has acted, and what the customers it met brought."""

    theta: Tensor
    share: Tensor
    mean: float  # return per customer, exploration included
    error: float  # its standard error

    def worse_than(self, other: "Tried") -> bool:
        """By two standard errors of the difference."""
        return self.mean + 2 * math.hypot(self.error, other.error) < other.mean


class OnlineLater:
    """The network that acts while the event models learn, and the fits of its `later`.

    Args:
        network: as training begins; it stays as it is.
        learner: of a copy of its event models.
        writer: the replay that is filled.
        settings: with gamma 0 there is no `later` to fit.
        seed: of the transitions that a fit samples, where the replay holds more than it uses.
        logged: transitions to which its `later` was fitted before; None = not known.
    """

    def __init__(
        self, network: LinearLaterNetwork, learner: Learner, writer: OnlineWriter, settings: Settings, seed: int, logged: int | None = None
    ) -> None:
        self.learner, self.writer, self.settings, self.seed = learner, writer, settings, seed
        self.acting = copy.deepcopy(network)
        self.acting.now = cast(EventNetwork, learner.ema)  # the average: `later` is fitted to its values, which change least
        begun = bool(network.get_buffer("theta")[network.n_state :].any())
        after_log = MOST_DECISIONS if logged is None else min(max(logged // 2, LEAST_DECISIONS), MOST_DECISIONS)
        self.next_fit = after_log if begun else max(settings.replay.warm_up, 1)
        self.least_decisions = after_log if begun else LEAST_DECISIONS
        self.counted, self.met, self.count_from = Returns(writer.lanes), list[float](), self.next_fit // 2
        self.best: Tried | None = None
        self.store = copy.copy(writer.store)  # of the same arrays
        writer.store.successors = 0  # the event models look at none; the fits do

    def watch(self, loop: Iterator[Progress], done: int) -> Iterator[Progress]:
        """The loop, with a fit whenever the decisions have grown by `GROWTH`; `done` decisions were made before it.

        It is made when the loop goes on, so that the last one has been met. What a fit earns is the mean return of customers who leave in
        the second half of its time: earlier ones met the fit before it, too.
        """
        self._fit_if_due(done)
        for step in loop:
            made = done + step.steps
            if made >= self.count_from:
                self.met.extend(step.returns)
            yield step
            self._fit_if_due(made)

    def _fit_if_due(self, made: int) -> None:
        """A fit where so many decisions have been made."""
        if made >= self.next_fit:
            self._try()
            self.count_from, self.next_fit = int(made * (1 + GROWTH) / 2), int(made * GROWTH)
            self.fit()

    def _try(self) -> Tried | None:
        """What the fit that acts has earned, None where too few customers met it; remembers the one that has earned most."""
        met, self.met = np.array(self.met), []
        if len(met) < LEAST_CUSTOMERS:
            return None
        theta, share = (self.acting.get_buffer(name).clone() for name in ("theta", "share"))
        tried = Tried(theta, share, float(met.mean()), float(met.std() / len(met) ** 0.5))
        if self.best is None or tried.mean > self.best.mean:
            self.best = tried
        return tried

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
        figures = fit_later(work, self.store, index[~held], index[held], n_step=n_step, seed=self.seed, judge=False)
        self.acting.get_buffer("theta").copy_(work.get_buffer("theta"))
        self.acting.get_buffer("share").copy_(work.get_buffer("share"))
        return figures

    def _complete(self) -> IntArray:
        """Indices of the replay's transitions whose reward and successor are stored."""
        every = np.arange(len(self.writer.tables.next_state))
        return every[self.writer.complete(every)]

    def trained(self) -> tuple[LinearLaterNetwork, dict[str, Any]]:
        """The trained network, and figures of what its `later` has earned: the fit that acts, or the best one before it.

        A fit that got worse is taken back: what a policy meets is what it shows, so that a fit can be far worse than the one before.
        A new fit at the end would be one that nobody has met; it is made only where none has acted long enough to be judged.
        """
        tried = self._try()
        if self.best is None:
            figures = self.fit()
            return copy.deepcopy(self.acting).cpu(), {"later": figures} if figures else {}
        if tried is not None and tried.worse_than(self.best):
            self.acting.get_buffer("theta").copy_(self.best.theta)
            self.acting.get_buffer("share").copy_(self.best.share)
        figures = {"return": None if tried is None else tried.mean, "best_return": self.best.mean}
        return copy.deepcopy(self.acting).cpu(), {"later": figures}

    def state(self) -> dict[str, NDArray[Any]]:
        """For a checkpoint, besides what the learner keeps."""
        kept = {name: self.acting.get_buffer(name).numpy().copy() for name in ("theta", "share")}
        numbers = [self.next_fit, self.least_decisions, self.count_from]
        best = {} if self.best is None else {f"best.{name}": np.asarray(value) for name, value in self.best._asdict().items()}
        return kept | {"numbers": np.array(numbers), "met": np.array(self.met, np.float64)} | best

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Goes on from what `state` returned."""
        for name in ("theta", "share"):
            self.acting.get_buffer(name).copy_(torch.from_numpy(np.array(state[name])))
        self.next_fit, self.least_decisions, self.count_from = (int(number) for number in state["numbers"])
        self.met = [float(one) for one in state["met"]]
        if "best.mean" in state:
            theta, share = (torch.from_numpy(np.array(state[f"best.{name}"])) for name in ("theta", "share"))
            self.best = Tried(theta, share, float(state["best.mean"]), float(state["best.error"]))
