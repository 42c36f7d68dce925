"""Learners from a log that stand beside those of the table of algorithms, for `equal_tuning.py` alone.

Each ends in a model that ranks items:

    dqn later       dqn, of whose settings those of `later` alone are drawn: what the next two are compared with
    dqn ensemble    `later` is fitted K times, to customers drawn with replacement (the bootstrap of Efron 1979, by customer); an item
                    is worth now + mean of later - kappa times the standard deviation of what the K fits say of the item
    dqn traces      targets of several steps, weighted by how much likelier the learned policy shows what the log showed (`traced`)
    customers       customers are fitted to the log (`qurate customers`), and dqn learns online among them

The first three use the event models (`now`) of dqn's default model of the same log, and the penalty and share that it found, so that
only `later` differs. They need a log of single items, all of which could be shown at every decision.
"""

import copy
import hashlib
import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from from_logs import STUDIES, digest, the_log
from torch import Tensor, nn

from qurate.algorithms.table import OF_LOGS, setting_names
from qurate.environments.fitted_customers import write_customers
from qurate.environments.registry import make_engine
from qurate.evaluation.rollouts import customers_seed
from qurate.experiments import demo
from qurate.experiments.policies import as_policy
from qurate.learning.fitted_q import Fit, Greedy, Regression, fitted_q
from qurate.mdp.storage import Dataset
from qurate.models.model import Model, load
from qurate.models.network_ranker import NetworkRanker
from qurate.networks.linear_later import LinearLaterNetwork, LinearLaterValues
from qurate.networks.values import StateTensors, to_tensors
from qurate.replay.event_replay import EventReplay
from qurate.replay.samplers import LogSampler
from qurate.replay.writers import store_from_log
from qurate.training.fit_customers import fit_customers
from qurate.training.later_from_log import CHUNK, N_STEP, LogPart, greedy, log_part
from qurate.training.train import train
from qurate.types import TRAIN

log = logging.getLogger(__name__)

MEMBERS = 5
"""K fits of an ensemble."""


def rival_digest() -> str:
    """Of the code that the figures of these learners come from."""
    return f"{digest()}+{hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:6]}"


def one_rival(study: str, customers: int, seed: int, row: str, given: dict[str, str], logs: Path) -> dict[str, Any]:
    """What a learner of `LEARNERS` earns from fresh customers, as `from_logs.one_other` says of the others."""
    engine, dataset = make_engine(STUDIES[study], window=demo.WINDOW), the_log(study, customers, seed, logs)
    folder = logs / f"{study}-{customers}-{seed}"
    began = time.monotonic()
    model = LEARNERS[row](dataset, seed, given, folder)
    seconds = round(time.monotonic() - began)
    met = demo.measure(engine, {row: as_policy(model, engine, row)}, {row: "baseline"}, seed, demo.PROOF.customers)[row]
    line = {"study": study, "customers": customers, "seed": seed, "algorithm": row, "set": given, "mean": float(met.returns.mean())}
    return line | {"train_seconds": seconds}


@torch.enable_grad()
def default_model(dataset: Dataset, seed: int, folder: Path) -> Model:
    """dqn's model of the log with its default settings, kept in the folder."""
    if not (folder / "model").is_dir():
        train(dataset, seed=seed, **_known(demo.SETTINGS)).save(folder / "model")
    return load(folder / "model")


def _known(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name in setting_names("dqn")}


def store_of(dataset: Dataset, model: Model, gamma: float) -> EventReplay:
    """The log with another discount."""
    tau_s = float(dataset.manifest["episode"]["tau_s"])
    return store_from_log(
        dataset.arrays, dataset.transitions, np.array(model.weights, np.float32), dataset.user_features, gamma, tau_s, model.window,
        dataset.availability,
    )  # fmt: skip


def network_of(model: Model) -> LinearLaterNetwork:
    """A copy of its network."""
    return copy.deepcopy(cast(LinearLaterNetwork, cast(NetworkRanker, model.ranker).network))


def _usable(fit: Fit) -> Tensor:
    if fit.diverged:
        raise ValueError("fitted Q iteration diverged")
    return fit.theta


@torch.no_grad()
def later_alone(dataset: Dataset, seed: int, given: dict[str, str], folder: Path) -> Model:
    """dqn. Settings: gamma, n_step; without any its default model."""
    model = default_model(dataset, seed, folder)
    if not given:
        return model
    network, figures, part = fitting(dataset, model, given)
    theta = _usable(fitted_q(part.data, lambda theta: greedy(network, part, theta), figures["ridge"]))
    theta[network.n_state :] *= figures["share"]
    network.get_buffer("theta").copy_(theta)
    return with_network(model, network)


def fitting(dataset: Dataset, model: Model, given: dict[str, str]) -> tuple[LinearLaterNetwork, dict[str, Any], LogPart]:
    """A copy of the model's network, the figures of its `later`, and the training decisions with the gamma and n_step that are given."""
    network, gamma = network_of(model), float(given.get("gamma", demo.SETTINGS["gamma"]))
    index, n_step = LogSampler(dataset.transitions, TRAIN).index, int(given.get("n_step", N_STEP))
    return network, model.metrics["later"], log_part(network, store_of(dataset, model, gamma), index, n_step)


def with_network(model: Model, network: Any) -> Model:
    """The model, ranking by another network."""
    return replace(model, ranker=NetworkRanker(network, cast(NetworkRanker, model.ranker).item_features))


# ----------------------------------------------------------------- an ensemble with pessimism


class CautiousNetwork(nn.Module):
    """Q = now + mean_k later_k - kappa std_k (w_k . phi_item), over K fits of `later`.

    Args:
        inner: whose `now` and features are used.
        thetas: [K, D], summed over the reward components.
        kappa: 0 = the mean alone.
    """

    form = "now_later"

    def __init__(self, inner: LinearLaterNetwork, thetas: Tensor, kappa: float) -> None:
        super().__init__()
        self.inner, self.kappa, self.n_components = inner, kappa, inner.n_components
        inner.get_buffer("theta").zero_()
        inner.get_buffer("theta")[:, 0] = thetas.mean(0)
        self.thetas = thetas.clone()
        self.thetas[:, : inner.n_state] = 0  # what all items share decides nothing

    def bind(self, rng: torch.Generator | None = None) -> Any:
        """See `ValueNetwork.bind`."""
        bound = self.inner.bind(rng)
        return lambda state: CautiousValues(bound(state), self)


class CautiousValues:
    """`ActionValues` of B states."""

    def __init__(self, mean: LinearLaterValues, network: CautiousNetwork) -> None:
        self.mean, self.network = mean, network

    def all(self) -> Tensor:
        """Scores of the catalogue, float32 [B, N + 1]."""
        inner, items = self.network.inner, torch.arange(self.mean.now_all.shape[1])
        said = [inner.later(self.mean.summary, self.mean.now_all, theta, items) for theta in self.network.thetas]
        return self.mean.all() - self.network.kappa * torch.stack(said).std(0)

    def of(self, actions: Tensor, features: Tensor | None = None) -> Tensor:
        """Scores of items [B, K]."""
        return self.all().gather(1, actions)


@torch.no_grad()
def ensemble(dataset: Dataset, seed: int, given: dict[str, str], folder: Path) -> Model:
    """K fits on customers drawn with replacement. Settings: gamma, n_step, kappa (standard deviations subtracted)."""
    model = default_model(dataset, seed, folder)
    network, figures, part = fitting(dataset, model, given)
    who = torch.unique(part.customer, return_inverse=True)[1]
    n, rng, thetas = int(who.max()) + 1, np.random.default_rng([seed, 17]), []
    for _ in range(MEMBERS):
        times = torch.from_numpy(np.bincount(rng.integers(0, n, n), minlength=n)).double()
        data = part.data._replace(counted=part.data.counted * times[who])
        thetas.append(_usable(fitted_q(data, lambda theta: greedy(network, part, theta), figures["ridge"])).sum(1))
    fits = torch.stack(thetas).float()
    fits[:, network.n_state :] *= figures["share"]
    return with_network(model, CautiousNetwork(network, fits, float(given["kappa"])))


# ----------------------------------------------------------------- weighted returns of several steps


class Decisions(NamedTuple):
    """All S decisions of a log in order, as a regression and as what followed."""

    features: Tensor  # float64 [S, D] phi of what was shown
    now: Tensor  # float64 [S] of what was shown
    reward: Tensor  # float64 [S]
    discount: Tensor  # float64 [S] of the successor; 0 = terminated
    following: Tensor  # int64 [S] the successor; -1 = none
    propensity: Tensor  # float64 [S] mu of what was shown
    action: Tensor  # int64 [S]
    values: list[LinearLaterValues]  # in the same order


class Step(NamedTuple):
    """What the learned policy says of the S decisions; values are `now` plus features times theta, kept apart."""

    expected: Greedy  # of the policy: features [S, D], now [S, 1]
    chance: Tensor  # [S] with which it shows what was shown


def decisions_of(network: LinearLaterNetwork, store: EventReplay, propensity: Tensor) -> Decisions:
    """Every decision of the log; single items."""
    bound, t = network.bind(), store.tables
    features, now, values = [], [], []
    for first in range(0, len(t.action), CHUNK):
        batch = to_tensors(store.batch(np.arange(first, min(first + CHUNK, len(t.action)))))
        here = bound(cast(StateTensors, batch.state))
        features.append(here.features(batch.action).double())
        now.append(here.now.of(batch.action[:, None])[:, 0].double())
        values.append(here)
    following = np.where(t.censored | (t.next_state < 0), -1, t.next_state).astype(np.int64)
    return Decisions(
        torch.cat(features), torch.cat(now), torch.from_numpy(t.reward.sum(1)).double(), torch.from_numpy(t.discount).double(),
        torch.from_numpy(following), propensity.double(), torch.from_numpy(t.action.astype(np.int64)), values,
    )  # fmt: skip


def softened(network: LinearLaterNetwork, of: Decisions, theta: Tensor, temperature: float) -> Step:
    """The policy in proportion to exp(Q / temperature)."""
    network.get_buffer("theta").zero_()
    network.get_buffer("theta")[:, 0] = theta[:, 0]
    features, now, chance, first = [], [], [], 0
    for values in of.values:
        action = of.action[first : first + len(values.now_all)]
        first += len(action)
        share = nn.functional.pad(torch.softmax(values.all()[:, 1:] / temperature, dim=1), (1, 0))
        features.append(torch.cat([values.summary.state, expected_item(network, values, share)], dim=1).double())
        now.append((share * values.now_all).sum(1, keepdim=True).double())
        chance.append(share.gather(1, action[:, None])[:, 0].double())
    return Step(Greedy(torch.cat(features), torch.cat(now)), torch.cat(chance))


def expected_item(network: LinearLaterNetwork, values: LinearLaterValues, share: Tensor) -> Tensor:
    """The mean of `LinearLaterNetwork.item_features` over items drawn with chances `share` [B, N + 1], float32 [B, D - G]."""
    numbers, categories, counts = network.get_buffer("numbers"), network.get_buffer("categories"), values.summary.categories
    sized = share * values.now_all
    kinds, sized_kinds = ((counts @ (of @ categories)[:, :, None])[:, :, 0] for of in (share, sized))
    return torch.cat([share @ numbers, sized.sum(1, keepdim=True), sized @ numbers, kinds, sized_kinds], dim=1)


def traced(of: Decisions, step: Step, n_step: int, most: float) -> Greedy:
    """What a decision reached is worth, by at most `n_step` - 1 further rewards of the log: features [S, D] and the rest [S, 1].

    With V(s) the value under the learned policy pi, mu the log's chances and c = min(most, pi(a | s) / mu(a | s)),

        G_0(s) = V(s),    G_k(s) = V(s) + c(s) (r(s) + discount(s) G_{k-1}(s') - Q(s, a))

    and `later` of the decision before is regressed on discount * G_{n-1}. With most = 1 this is Retrace (Munos et al. 2016, NeurIPS;
    lambda 1), with more per-decision ratios cut at `most` (Precup, Sutton and Singh 2000). The decision that is regressed has no ratio: its
    own reward belongs to `now`, and what follows it is asked for given what was shown. G is linear in theta, and the two parts are kept
    apart. A decision whose successor was never seen counts as V.
    """
    known = of.following >= 0
    ended = of.discount == 0
    ratio = (step.chance / of.propensity).clamp(max=most) * (known | ended)
    discount, there = torch.where(known, of.discount, 0)[:, None], of.following.clamp(min=0)
    fixed, moved = step.expected.now, step.expected.features
    own, weight = (of.reward - of.now)[:, None], ratio[:, None]
    for _ in range(n_step - 1):
        fixed = step.expected.now + weight * (own + discount * fixed[there])
        moved = step.expected.features + weight * (discount * moved[there] - of.features)
    return Greedy(moved, fixed)


@torch.no_grad()
def traces(dataset: Dataset, seed: int, given: dict[str, str], folder: Path) -> Model:
    """`later` by weighted returns. Settings: gamma, n_step, temperature of the policy that is valued, most (the largest ratio)."""
    model = default_model(dataset, seed, folder)
    network, figures = network_of(model), model.metrics["later"]
    store = store_of(dataset, model, float(given.get("gamma", demo.SETTINGS["gamma"])))
    of = decisions_of(network, store, torch.tensor(dataset.transitions.propensity))
    index = torch.from_numpy(LogSampler(dataset.transitions, TRAIN).index.astype(np.int64))
    n_step, temperature, most = int(given.get("n_step", N_STEP)), float(given["temperature"]), float(given["most"])
    following, counted = of.following[index], ((of.following >= 0) | (of.discount == 0))[index].double()
    there = (following >= 0).double()[:, None]
    data = Regression(of.features[index], of.reward.new_zeros(len(index), 1), of.discount[index], counted)

    def reached(theta: Tensor) -> Greedy:
        worth = traced(of, softened(network, of, theta, temperature), n_step, most)
        return Greedy(*(part[following.clamp(min=0)] * there for part in worth))

    theta = _usable(fitted_q(data, reached, figures["ridge"]))
    theta[network.n_state :] *= figures["share"]
    network.get_buffer("theta").zero_()
    network.get_buffer("theta")[:, 0] = theta[:, 0]
    return with_network(model, network)


# ----------------------------------------------------------------- customers learned from the log


def among_customers(dataset: Dataset, seed: int, given: dict[str, str], folder: Path) -> Model:
    """dqn among customers that were fitted to the log. Settings: decisions, start (log: dqn's model of the log; nothing), dqn's own."""
    if not (folder / "customers").is_dir():
        write_customers(fit_customers(dataset, seed=seed).customers, folder / "customers")
    known = _known(demo.SETTINGS | demo.ONLINE | {"update_every": demo.PROOF.update_every, "lanes": demo.LANES} | given)
    settings = {name: value for name, value in known.items() if name not in OF_LOGS}
    start = default_model(dataset, seed, folder) if given["start"] == "log" else None
    if start is not None:
        settings = {name: value for name, value in settings.items() if name not in demo.SETTINGS or name in given}
    env, customers = f"fitted,from={folder / 'customers'}", customers_seed(seed, "online")
    return train(env=env, seed=customers, steps=int(float(given["decisions"])), start=start, **settings)


LEARNERS = {"dqn later": later_alone, "dqn ensemble": ensemble, "dqn traces": traces, "customers": among_customers}
