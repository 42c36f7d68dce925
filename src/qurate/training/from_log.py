"""Training on a dataset: a Q-network by an algorithm of the table, or a baseline."""

import copy
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, cast

import msgspec
import numpy as np
import torch

from qurate.algorithms.event_models import event_models
from qurate.algorithms.table import find_algorithm, learns_values, make_objective
from qurate.baselines.registry import fit_popularity, fit_scorer
from qurate.choosing.seen import default_rule
from qurate.errors import Code, UserError
from qurate.learning import checkpoint
from qurate.learning.learner import Learner
from qurate.learning.loops import train_from_log
from qurate.learning.schedule import cosine_rate
from qurate.learning.value_bound import ValueBound, largest_bonus
from qurate.mdp.candidate_features import PLACE, feature_count
from qurate.mdp.episodes import constant_solution
from qurate.mdp.live_lists import LiveLists
from qurate.mdp.storage import Dataset
from qurate.models.baseline_ranker import BaselineRanker
from qurate.models.histories import Histories
from qurate.models.model import Model
from qurate.models.network_ranker import NetworkRanker
from qurate.models.parts import Answering, Provenance
from qurate.models.ranker import Ranker, RankingScore
from qurate.networks.build import build_network
from qurate.networks.catalogue_network import CatalogueNetwork
from qurate.networks.linear_later import LinearLaterNetwork
from qurate.networks.values import ValueNetwork
from qurate.replay.event_replay import EventReplay
from qurate.replay.samplers import LogSampler
from qurate.replay.writers import store_from_log
from qurate.settings import Settings
from qurate.training.calibrate import FEWEST, calibrate, held_out, without_users
from qurate.training.clocked import all_seen, forget_unseen, of_clocks, successors, with_clocks
from qurate.training.drawing import log_sampler, optimiser_of
from qurate.training.from_model import carry_weights
from qurate.training.later_from_log import Checks, set_shape, with_later
from qurate.training.log_defaults import updates_of
from qurate.training.q_power import q_power
from qurate.training.run import Limits, Run, StepCallback, consume
from qurate.training.support import check_support, steps_of_events
from qurate.training.told_apart import say_equal_scores
from qurate.types import ALWAYS, NEVER, TRAIN, VALID, Availability, FloatArray, IntArray

SAMPLED_LISTS = 5_000
"""Training decisions from which the scale of candidate features is taken."""


log = logging.getLogger("qurate.training")


def train_on_log(
    dataset: Dataset, settings: Settings, algorithm: str, *, where: str | None, weights: FloatArray, seed: int, limits: Limits,
    saved: Mapping[str, bytes] | None = None, report: StepCallback | None = None, start: Model | None = None,
    device: torch.device | str = "cpu",
) -> Model:  # fmt: skip
    """A Q-network trained on the train split, with a checkpoint.

    Args:
        where: directory of the dataset, None where it was never written.
        weights: float32 [R] of the reward components.
        saved: the checkpoint of an earlier run, which goes on. start: a model whose weights the network begins with.
        device: where the network learns; what is fitted by least squares, and what follows the training, is on the CPU.

    Raises:
        UserError: a dataset from which nothing can be learnt.
    """
    dataset = with_clocks(dataset, settings)
    t = dataset.transitions
    if find_algorithm(algorithm).needs_next_action and len(t.state) != len(t.user):
        got, hint = "one of lists", "try q_learning: it takes the best item of the next decision instead"
        raise UserError(f"a log of single items for {algorithm}", got, where=where or "dataset", hint=hint, code=Code.BAD_TRAIN)
    held = held_out(dataset, weights, seed) if calibrated(dataset, settings) else None
    trained_on = without_users(t, held.users) if held is not None else of_clocks(dataset) if dataset.lists is not None else t
    sampler = _sampler(replace(dataset, transitions=trained_on), weights, where, learns_values(algorithm))
    store = _store(dataset, settings, weights)
    check_support(steps_of_events(store.tables), settings)
    horizon = updates_of(settings, len(sampler.index), dataset.kind == "organic")
    network = _network(dataset, store, settings, sampler.index, seed, start)
    learner = _learner(dataset, store, settings, algorithm, network, seed=seed, horizon=horizon, device=device)
    rng, run, drawn = np.random.default_rng(seed), Run(), log_sampler(sampler, settings)
    wanted, loop = limits.steps or horizon, train_from_log(learner, store, drawn, rng, settings)
    parts: dict[str, Any] = {"sampler": drawn}
    if isinstance(network, LinearLaterNetwork):
        checks = Checks(learner, store, LogSampler(t, VALID).index, len(sampler.index) // settings.learning.batch_size, seed)
        loop, parts = checks.watch(loop), parts | {"checks": checks}
    if saved is not None:
        run = msgspec.convert(checkpoint.from_files(learner, rng, saved)["run"], Run)
        if checkpoint.REPLAY in saved:
            checkpoint.restore_parts(parts, checkpoint.read_arrays(saved))
    metrics = consume(loop, run, wanted, limits.budget, report)
    trained, figures = cast(ValueNetwork, learner.ema.cpu()), dict[str, Any]()
    if isinstance(network, LinearLaterNetwork):
        trained, figures = with_later(network, checks, store, sampler.index, settings, seed)
    metrics |= figures | {"decisions": len(np.unique(t.state[sampler.index]))}
    ranker = _ranker(dataset, trained, settings, algorithm, store, _mean_reward(t.reward[sampler.index] @ weights))
    if held is not None:
        ranker, metrics["calibration"] = calibrate(dataset, ranker, held, settings.window, weights, seed)
        if ranker.by == "behaviour_times_q" and len(held.rows) >= FEWEST:
            power = q_power(dataset, ranker, held.rows, settings.window, weights, settings.learning.gamma)
            ranker = replace(ranker, q_power=power)
            metrics["calibration"]["q_power"] = power
    say_equal_scores(ranker, dataset, sampler.index, settings.window)
    model = assemble(dataset, ranker, algorithm, settings, where=where, weights=weights, cold_start=_knows_empty_histories(dataset))
    state = {"run": msgspec.to_builtins(run), "seed": seed, "wanted": wanted, "weights": [float(w) for w in weights]}
    return replace(
        model.with_provenance(metrics=metrics),
        checkpoint=checkpoint.to_files(learner, rng, state, checkpoint.arrays_of(parts) or None),
    )


def _ranker(
    dataset: Dataset, network: ValueNetwork, settings: Settings, algorithm: str, store: EventReplay, mean_reward: float
) -> NetworkRanker:
    row = find_algorithm(algorithm)
    if dataset.lists is not None:
        network = copy.deepcopy(network)  # the run goes on with its own
        forget_unseen(cast(torch.nn.Module, network), dataset)
    return NetworkRanker(
        network,
        dataset.item_features,
        cast(RankingScore, row.ranks_by) if row.ranks_by is not None else _ranks_by(dataset, settings),
        settings.offline.support_threshold,
        len(dataset.transitions.candidates) > 0,
        columns=None if store.columns is None else tuple(store.columns),
        n_types=dataset.vocabulary.n_types,
        mean_reward=mean_reward,
        rankings=cast(tuple[RankingScore, ...], row.rankings) or None,
    )


def _store(dataset: Dataset, settings: Settings, weights: FloatArray) -> EventReplay:
    return store_from_log(
        dataset.arrays, dataset.transitions, weights, dataset.user_features, settings.learning.gamma,
        float(dataset.manifest["episode"]["tau_s"]), settings.window, dataset.availability,
        columns=candidate_columns(dataset, settings), n_types=dataset.vocabulary.n_types, lists=dataset.lists,
        with_actions=settings.needs_actions,
        successors=successors(settings) if dataset.lists is not None else None,
    )  # fmt: skip


def fit_on_log(dataset: Dataset, settings: Settings, algorithm: str, *, where: str | None, weights: FloatArray, seed: int) -> Model:
    """A baseline fitted on the train split. All of them know what to show a customer without a history.

    Raises:
        UserError: it needs what the dataset does not have, such as item features.
    """
    t = dataset.transitions
    decisions = int((t.split == TRAIN).sum())
    if not decisions:
        raise _no_train_split(where)
    began = time.monotonic()
    ranker = BaselineRanker(fit_scorer(algorithm, replace(dataset, weights=weights), settings, seed))
    seconds = round(time.monotonic() - began, 3)
    model = assemble(dataset, ranker, algorithm, settings, where=where, weights=weights, cold_start=True)
    return model.with_provenance(metrics={"steps": 0, "stopped": "steps", "seconds": seconds, "decisions": decisions, "curve": []})


def assemble(
    dataset: Dataset, ranker: Ranker, algorithm: str, settings: Settings, *, where: str | None, weights: FloatArray, cold_start: bool
) -> Model:
    """The model of a ranker that was trained on a dataset."""
    manifest, (exclude, reason) = dataset.manifest, default_rule(dataset.arrays, dataset.vocabulary.types, dataset.kind == "organic")
    return Model(
        ranker=ranker,
        availability=from_log_end(dataset.availability, dataset.log_end) if dataset.lists is None else all_seen(dataset),
        lists=None if dataset.lists is None else LiveLists.at_end(dataset.lists),
        provenance=Provenance(
            algorithm=algorithm,
            settings=settings,
            kind=dataset.kind,
            dataset=where,
            dataset_sha256=dataset.sha256 or None,
            tau_s=float(manifest["episode"]["tau_s"]),
        ),
        answering=Answering(
            vocabulary=dataset.vocabulary,
            components=dataset.components,
            weights=weights,
            popularity=fit_popularity(replace(dataset, weights=weights)).table,
            user_dim=dataset.user_features.shape[1],
            rewards=dict(manifest["rewards"]),
            item_spec=dataset.item_spec,
            user_spec=dataset.user_spec,
            shown_in_history=manifest["history"] == "events+shown",
            supports_cold_start=cold_start,
            exclude=exclude,
            exclude_reason=reason,
        ),
    )


def with_histories(model: Model, dataset: Dataset, wanted: bool) -> Model:
    """The model with the histories of the users it was trained on, so that it answers for them wherever it goes."""
    return replace(model, histories=Histories.of(dataset) if wanted else None)


def from_log_end(availability: Availability, log_end: int) -> Availability:
    """For answers after a log: what had begun before it ended is there from the beginning, whatever clock a request brings."""
    since = np.where(availability.since <= log_end, ALWAYS, availability.since)
    since[0] = NEVER
    return Availability(since, availability.until)


def _no_train_split(where: str | None) -> UserError:
    got, hint = "none in the train split", "the log is too short"
    return UserError("training decisions", got, where=where or "dataset", hint=hint, code=Code.NO_TRAIN_SPLIT)


def _sampler(dataset: Dataset, weights: FloatArray, where: str | None, values: bool = True) -> LogSampler:
    """Of the train split.

    Args:
        values: whether rewards are learnt from.

    Raises:
        UserError: nothing can be learnt from it.
    """
    t = dataset.transitions
    constant = constant_solution(t, weights) if values else None
    if constant is not None:
        hint = "weigh events by --rewards; or ingest --episode session, where a visit's end counts; or --algorithm bc learns what is chosen"
        raise UserError(
            "rewards from which something can be learnt", constant, where=where or "dataset", hint=hint, code=Code.CONSTANT_SOLUTION
        )
    sampler = LogSampler(t, TRAIN)
    if not len(sampler.index):
        raise _no_train_split(where)
    if not dataset.availability.n_open(t.clock[t.state[sampler.index]]).any() and not len(t.candidates):
        hint = "see available_from and available_until in the items table: nothing is available at the time of any decision"
        raise UserError("an item that could be shown in training", "none", where=where or "dataset", hint=hint, code=Code.EMPTY_CATALOGUE)
    return sampler


def _network(dataset: Dataset, store: EventReplay, settings: Settings, index: IntArray, seed: int, start: Model | None) -> ValueNetwork:
    """An untrained network, or one with the weights of `start`; statistics of its inputs and events come from transitions `index`."""
    reward = store.tables.reward[index]
    network = build_network(
        dataset.item_features, settings, n_types=dataset.vocabulary.n_types, user_dim=dataset.user_features.shape[1],
        n_components=reward.shape[1], behaviour=settings.offline.aux_weight > 0, seed=seed,
        candidate_features=feature_count(store.columns, dataset.vocabulary.n_types),
    )  # fmt: skip
    if isinstance(network, CatalogueNetwork) and network.candidate is not None:
        network.candidate.standardise(_some_features(store, dataset, index))
    if isinstance(network, LinearLaterNetwork):
        set_shape(network.now, reward)
    if start is not None:
        carry_weights(network, start, dataset, store.columns)
    return network


def _learner(
    dataset: Dataset,
    store: EventReplay,
    settings: Settings,
    algorithm: str,
    network: ValueNetwork,
    *,
    seed: int,
    horizon: int,
    device: torch.device | str,
) -> Learner:
    """Of the network, or of the event models inside it."""
    objective = make_objective(algorithm, settings, dataset.kind == "organic")
    if isinstance(network, LinearLaterNetwork):
        network, objective, device = network.now, event_models, "cpu"
    bound = ValueBound(float(store.tables.discount.max(initial=0.0)), largest_bonus(settings, len(dataset.vocabulary.items)))
    bound.see(store.tables.reward.sum(1))
    rate = partial(cosine_rate, horizon=horizon) if settings.learning.lr_schedule == "cosine" else None
    return Learner(
        network, objective, settings.learning, bound=bound, seed=seed, optimiser=optimiser_of(settings), device=device, rate=rate
    )


def candidate_columns(dataset: Dataset, settings: Settings) -> tuple[str, ...] | None:
    """What the network uses of each candidate at its decision; None where the log has no lists, or the algorithm cannot use it."""
    if dataset.lists is not None:
        return dataset.lists.columns
    listed = len(dataset.transitions.candidates) > 0 and settings.uses_candidate_features and settings.offline.candidate_features
    if listed and settings.network.form == "linear_later":
        if named := ", ".join(name for name in dataset.candidate_columns if name != PLACE):
            log.warning("note: form=linear_later does not use what the log says of each candidate (%s); --set form=now_later does", named)
        return None
    return dataset.candidate_columns if listed else None


def _some_features(store: EventReplay, dataset: Dataset, index: IntArray) -> torch.Tensor:
    """Features of the candidates of up to so many of the decisions with lists that train, those of transitions `index`: [M, F]."""
    t = dataset.transitions
    if store.lists is not None:
        some = np.unique(t.state[index]).astype(np.int64)
        some = some[:: max(1, len(some) // SAMPLED_LISTS)]
        offered, seen = store.offered(some, store.states(some))
        return torch.from_numpy(seen[offered > 0])
    listed = np.flatnonzero((t.split == TRAIN) & (np.diff(t.candidates_start) > 0))[:: max(1, len(t.user) // SAMPLED_LISTS)]
    candidates = store.listed(listed)
    if candidates is None:
        return torch.zeros((1, feature_count(store.columns or (), dataset.vocabulary.n_types)))
    features = store.candidate_features(listed, store.states(listed), candidates)
    return torch.from_numpy(features[candidates > 0])


def calibrated(dataset: Dataset, settings: Settings) -> bool:
    """Whether the behaviour head is calibrated on held-out decisions: there is one, and customers chose from the catalogue."""
    offline = settings.offline
    return (
        offline.calibrate
        and dataset.lists is None
        and offline.aux_weight > 0
        and settings.uses_candidate_features
        and not len(dataset.transitions.candidates)
    )


def _mean_reward(reward: FloatArray) -> float:
    """Of the decisions that earned something; 1 where none did."""
    earned = reward[reward > 0]
    return float(earned.mean()) if len(earned) else 1.0


def _ranks_by(dataset: Dataset, settings: Settings) -> RankingScore:
    """By which score a model of this dataset decides what to show.

    Within the support, as its targets are, where the log never tried anything unusual on purpose: Q of what was not shown
    is a guess. Where customers chose from the catalogue and Q was fitted to what they chose alone, by log pi_b + log Q: what they
    would choose, and of that what is worth more. A log with probabilities has explored, and its models may leave what was usual;
    else a service that shows one item nearly always could never learn to show another.
    """
    supported = settings.offline.aux_weight > 0 and settings.offline.support_threshold > 0
    fitted_where_chosen = dataset.lists is not None or (dataset.kind == "organic" and not settings.offline.negatives)
    if fitted_where_chosen and settings.offline.aux_weight > 0:
        return "behaviour_times_q"
    return "q_in_support" if supported and dataset.kind != "logged" else "q"


def _knows_empty_histories(dataset: Dataset) -> bool:
    """Whether training has states without any history row, or the network ranks by what is popular now."""
    t = dataset.transitions
    return dataset.lists is not None or bool(np.any((t.history_end == dataset.arrays.user_start[t.user]) & (t.split == TRAIN)))
