"""The linear form from a log: `now` stops where held-out events are predicted best, then `later` by fitted Q iteration."""

import copy
import logging
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from qurate.algorithms.event_models import event_losses, event_shape
from qurate.algorithms.objective import of_action
from qurate.errors import Code, UserError
from qurate.learning.fitted_q import (
    FIRST_RIDGE,
    RIDGES,
    Effect,
    Fit,
    Greedy,
    Regression,
    effect_of_items,
    fitted_q,
    held_out_errors,
    strongest_as_good,
)
from qurate.learning.learner import Learner
from qurate.learning.loops import Progress
from qurate.networks.event_network import EventNetwork
from qurate.networks.linear_later import LinearLaterNetwork, LinearLaterValues
from qurate.networks.values import ValueNetwork, to_tensors
from qurate.replay.event_replay import EventReplay
from qurate.settings import Settings, replace
from qurate.types import FloatArray, IntArray, OpenActions

log = logging.getLogger(__name__)

LEAST_HELD_OUT = 200
"""Held-out decisions below which nothing is chosen by them."""
MOST_HELD_OUT, MOST_ROWS = 20_000, 150_000
"""At most so many held-out decisions are scored at each check of `now`, and so many transitions fit `later`; drawn without replacement."""
CELLS, LEAST_ROWS = 50_000_000, 5_000
"""`now` of the catalogue is kept for the successors: rows times items, but at least so many rows."""
CHECKS_PER_PASS, CHECK_EVERY = 2, (20, 500)
"""Checks of the held-out loss per pass over the training transitions; the updates between two of them stay within these bounds."""
CHUNK, FOLLOWED = 4_096, 50
"""States in one pass through the network; decisions after a transition whose rewards count as what followed it (`effect_of_items`)."""
LINEAR, N_STEP, PASSES, GAMMA = ("dqn", "myopic"), 4, 5.0, 0.97
"""Algorithms that have the linear form; the decisions whose rewards its targets sum, the passes of `now`, and the discount of dqn, where
nothing else is asked for. Passes may be many: what is kept is chosen by held-out events. With a discount of .9 dqn finds less of what
comes later (docs/from_logs.md)."""


def form_for_log(settings: Settings, algorithm: str, given: Mapping[str, Any], kind: str) -> Settings:
    """The settings with the form that measures best for this kind of log, where none was asked for (docs/from_logs.md).

    Args:
        given: what was set explicitly. kind: of the log.

    Raises:
        UserError: the linear form of another algorithm, or from a log that does not say what was shown.
    """
    if settings.network.form == "linear_later" and (algorithm not in LINEAR or kind == "organic"):
        got = f"{algorithm} on an {kind} log" if kind == "organic" else algorithm
        hint = "form=now_later; event models need decisions that show what was not chosen"
        expected = f"{' or '.join(LINEAR)} on a log of what was shown"
        raise UserError(expected, got, where="--set form=linear_later", hint=hint, code=Code.BAD_SETTING)
    if algorithm not in LINEAR or "form" in given or kind != "logged":
        return settings
    usual = {"n_step": N_STEP, "passes": PASSES} | ({"gamma": GAMMA} if algorithm == "dqn" else {})
    return replace(settings, form="linear_later", **{name: value for name, value in usual.items() if name not in given})


class Checks:
    """Early stopping of `now`: keeps the averaged network of the check at which held-out events were predicted best.

    Args:
        learner: of an `EventNetwork`.
        store: of the log.
        index: held-out transitions; too few: the last network is kept.
        per_pass: updates in one pass over the training transitions.
        seed: draws the held-out transitions where there are very many.
    """

    def __init__(self, learner: Learner, store: EventReplay, index: IntArray, per_pass: int, seed: int) -> None:
        self.learner, self.store, self.index = learner, store, _some(index, MOST_HELD_OUT, np.random.default_rng([seed, 13]))
        self.every = int(np.clip(per_pass // CHECKS_PER_PASS, *CHECK_EVERY))
        self.best, self.loss, self.updates = copy.deepcopy(learner.ema), np.inf, 0

    @property
    def used(self) -> bool:
        """Whether enough is held out to choose by."""
        return len(self.index) >= LEAST_HELD_OUT

    def watch(self, loop: Iterator[Progress]) -> Iterator[Progress]:
        """The loop, with a check of the held-out loss every so many updates."""
        for step in loop:
            if self.used and self.learner.updates % self.every == 0:
                self.look()
            yield step

    def look(self) -> None:
        """Keeps the averaged network if it predicts the held-out events best so far."""
        loss = held_out_loss(cast(EventNetwork, self.learner.ema), self.store, self.index)
        if loss < self.loss:
            self.best, self.loss, self.updates = copy.deepcopy(self.learner.ema), loss, self.learner.updates

    def network(self) -> EventNetwork:
        """The best one; the last one where nothing was held out, or no check was made."""
        return cast(EventNetwork, self.best if np.isfinite(self.loss) else self.learner.ema)

    def state(self) -> dict[str, NDArray[Any]]:
        """For a checkpoint."""
        arrays: dict[str, NDArray[Any]] = {name: value.numpy() for name, value in self.best.state_dict().items()}
        return arrays | {"loss": np.array(self.loss), "updates": np.array(self.updates)}

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Goes on from what `state` returned."""
        weights = {name: torch.from_numpy(np.array(value)) for name, value in state.items() if name not in ("loss", "updates")}
        self.best.load_state_dict(weights)
        self.loss, self.updates = float(state["loss"]), int(state["updates"])


@torch.no_grad()
def held_out_loss(network: EventNetwork, store: EventReplay, index: IntArray) -> float:
    """Mean loss of the event models on transitions `index`."""
    network.eval()
    bound, total = network.bind(), 0.0
    for part in _chunks(index):
        batch = to_tensors(store.batch(part))
        heads = bound(batch.state).heads(batch.action[:, None], of_action(batch))[:, 0]
        total += float(event_losses(heads, batch.reward, network).sum())
    return total / len(index)


def set_shape(network: EventNetwork, reward: FloatArray) -> None:
    """Sets the buffers of the event models: which event follows which, and amounts, from the weighted rewards [T, R] of training."""
    for name, value in event_shape(reward)._asdict().items():
        network.get_buffer(name).copy_(torch.from_numpy(value))


def with_later(
    network: LinearLaterNetwork, checks: Checks, store: EventReplay, train: IntArray, settings: Settings, seed: int
) -> tuple[ValueNetwork, dict[str, Any]]:
    """The network with the `now` that predicts held-out events best, and `later` fitted to it; figures of both."""
    network = copy.deepcopy(network)  # the learner goes on with its own
    network.now.load_state_dict(checks.network().state_dict())
    if not checks.used:
        log.warning("note: %d held-out decisions are too few to choose by: now is that of the last update, the penalty of later %g",
                    len(checks.index), FIRST_RIDGE)  # fmt: skip
    figures: dict[str, Any] = {"held_out": {"loss": checks.loss, "updates": checks.updates}} if np.isfinite(checks.loss) else {}
    if settings.learning.gamma > 0:
        figures["later"] = fit_later(network, store, train, checks.index, n_step=settings.learning.n_step, seed=seed)
    return network, figures


class LogPart(NamedTuple):
    """Some transitions of a log as a regression, with the values of their successors."""

    data: Regression
    values: list[LinearLaterValues]
    open_actions: list[OpenActions[Any]]
    now: list[torch.Tensor | None]  # [t, K, R] of the candidates of their lists; None where candidates have no features
    followed: torch.Tensor  # float64 [T] discounted rewards of the decisions that followed, summed over the components
    customer: torch.Tensor  # int64 [T]


@torch.no_grad()
def fit_later(
    network: LinearLaterNetwork, store: EventReplay, train: IntArray, held: IntArray, *, n_step: int, seed: int, judge: bool = True
) -> dict[str, Any]:
    """Fits `theta` of the network in place; figures of the fit.

    Args:
        network: whose `now` is trained.
        train: transitions it is fitted to. held: those by which the penalty is chosen.
        n_step: decisions whose rewards a target sums before it bootstraps.
        seed: of the sample, where there are more than can be used.
        judge: shrink the items' part of `later` where the rewards that followed do not confirm it (`fitted_q.effect_of_items`).
    """
    cast(nn.Module, network).eval()
    rng = np.random.default_rng([seed, 11])
    network.set_share(torch.from_numpy(store.tables.action[train].astype(np.int64)))
    rows = min(MOST_ROWS, max(CELLS // network.get_buffer("numbers").shape[0], LEAST_ROWS))
    part = log_part(network, store, _some(train, rows, rng), n_step)
    ridge, first = _fit(network, part, FIRST_RIDGE)
    if len(held) >= LEAST_HELD_OUT:
        check = log_part(network, store, _some(held, rows // 8, rng), n_step)
        best, best_held = greedy(network, part, first.theta), greedy(network, check, first.theta)
        errors = held_out_errors(part.data, check.data, best, best_held, first.theta, RIDGES)
        wanted = RIDGES[strongest_as_good(errors)]
        ridge, first = (ridge, first) if wanted <= ridge else _fit(network, part, wanted)
    figures: dict[str, Any] = {"ridge": ridge, "rows": len(part.data.discount), "improvements": first.improvements, "change": first.change}
    if judge:
        effect = _effect(network, part, ridge)
        first.theta[network.n_state :] *= effect.share
        judged = math.isfinite(effect.standard_error)
        slope, error = (effect.slope, effect.standard_error) if judged else (None, None)
        figures |= {"slope": slope, "standard_error": error, "share": effect.share}
    network.get_buffer("theta").copy_(first.theta)
    return figures


def _effect(network: LinearLaterNetwork, part: LogPart, ridge: float) -> Effect:
    """How far the rewards that followed confirm the items' part of `later`."""

    def fit_to(rows: torch.Tensor) -> torch.Tensor:
        fit = fitted_q(part.data._replace(counted=part.data.counted * rows), lambda theta: greedy(network, part, theta), ridge)
        return fit.theta.sum(1) * (not fit.diverged)

    return effect_of_items(part.data, fit_to, part.followed, part.customer, network.n_state)


def _fit(network: LinearLaterNetwork, part: LogPart, ridge: float) -> tuple[float, Fit]:
    """The fit with this penalty, or with the next stronger one where the iteration diverges: that penalty, and the fit.

    Raises:
        UserError: it diverges with the strongest one too.
    """
    for stronger in [one for one in RIDGES if one >= ridge]:
        fit = fitted_q(part.data, lambda theta: greedy(network, part, theta), stronger)
        if not fit.diverged:
            return stronger, fit
        log.warning("note: fitted Q iteration diverged with the penalty %g", stronger)
    got, hint = f"weights that grow without end, also with the penalty {RIDGES[-1]:g}", "use a smaller gamma, or form=now_later"
    raise UserError("a fitted Q iteration that converges", got, where="--set form=linear_later", hint=hint, code=Code.DIVERGED)


def log_part(network: LinearLaterNetwork, store: EventReplay, index: IntArray, n_step: int) -> LogPart:
    """Transitions `index` with n-step returns, as a regression on the features of the network."""
    bound = network.bind()
    features, reward, discount, counted, values, open_actions, listed, followed = [], [], [], [], [], [], [], []
    for chunk in _chunks(index):
        batch = to_tensors(store.batch(chunk, n_step))
        here, there, then = bound(batch.state), bound(batch.next_state), batch.next_actions
        now = None if batch.action_features is None else here.now.of(batch.action[:, None], of_action(batch))[:, 0]
        features.append(here.features(batch.action, now).double())
        reward.append(batch.later_reward.double())
        discount.append(batch.discount.double())
        counted.append(batch.bootstrap.double())
        values.append(there)
        listed.append(None if then.features is None else there.now.by_head(then.candidates, then.features))
        open_actions.append(then._replace(features=None))  # they are many, and have said what they have to say
        followed.append(store.following(store.tables.state[chunk].astype(np.int64), FOLLOWED)[0].sum(1))
    data = Regression(torch.cat(features), torch.cat(reward), torch.cat(discount), torch.cat(counted))
    customer = torch.from_numpy(store.customers(index).astype(np.int64))
    return LogPart(data, values, open_actions, listed, torch.from_numpy(np.concatenate(followed)).double(), customer)


def greedy(network: LinearLaterNetwork, part: LogPart, theta: torch.Tensor) -> Greedy:
    """The best open item of each successor under theta."""
    network.get_buffer("theta").copy_(theta)
    features, now = [], []
    for values, open_actions, listed in zip(part.values, part.open_actions, part.now):
        if listed is None:
            best = values.best(open_actions)
            of_best, size = values.now.by_head(best[:, None])[:, 0], None
        else:
            best, of_best = values.best_listed(open_actions, listed)
            size = of_best.sum(1)
        there = (best > 0)[:, None]
        features.append((values.features(best, size) * there).double())
        now.append((of_best * there).double())
    return Greedy(torch.cat(features), torch.cat(now))


def _some(index: IntArray, n: int, rng: np.random.Generator) -> IntArray:
    return index if len(index) <= n else np.sort(rng.choice(index, n, replace=False))


def _chunks(index: IntArray) -> list[IntArray]:
    return [index[i : i + CHUNK] for i in range(0, len(index), CHUNK)]
