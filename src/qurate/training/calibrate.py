"""Calibrates the behaviour head on decisions that training never saw (`models/calibration.py` has the form).

The numbers maximise the likelihood of what was chosen there, drawn to "changes nothing" by a normal prior. A fifth of the decisions
is kept apart: where they are not more likely after calibration than before, the head stays as it was trained.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qurate.baselines.neighbours import SessionKnnScorer
from qurate.baselines.registry import fit_session_knn
from qurate.evaluation.ranking import observations
from qurate.mdp.storage import Dataset
from qurate.models.calibration import ChoiceCalibration, repeats
from qurate.models.network_ranker import NetworkRanker
from qurate.types import HISTORY, TRAIN, VALID, FloatArray, IntArray, Observation, Transitions

FEWEST, MOST = 200, 6_000
"""Held-out decisions: with fewer there is no calibration; of more, so many are drawn."""
SHARE, FEWEST_USERS = 0.03, 1_000
"""Without a validation split this share of the training users is held out, where there are so many of them."""
LIKELIEST, DRAWN = 100, 400
"""Items of each decision that count one by one: the likeliest by head and by visits; the others are drawn uniformly, with weights."""
LARGEST_LOGIT = 1e6
"""Of a model that has not diverged; with larger ones the line search of the fit overflows."""
CHECKED = 5
"""Every fifth decision is kept apart."""
BINS = 15
SMOOTHNESS = 10.0
"""Precision of the normal prior of the step between two neighbouring classes, beside 1 of each number."""


class Held(NamedTuple):
    """What is held out of training."""

    rows: IntArray  # transitions whose items are what was chosen
    users: IntArray  # training users whose decisions do not train; none where the dataset has a validation split


def held_out(dataset: Dataset, weights: FloatArray, seed: int) -> Held:
    """Decisions of the validation split, or, where it is too small, those of some users of the training split.

    Args:
        weights: float32 [R] of the reward components.
        seed: draws the users, and the decisions where there are many.
    """
    t, rng = dataset.transitions, np.random.default_rng(seed)
    split, nobody = t.split[t.state], np.zeros(0, np.int64)
    wanted = t.reward @ weights > 0
    rows, users = np.flatnonzero((split == VALID) & wanted), nobody
    if len(rows) < FEWEST:
        everybody = np.unique(t.user[t.split == TRAIN])
        if len(everybody) >= FEWEST_USERS:
            some = np.sort(rng.choice(everybody, int(SHARE * len(everybody)), replace=False)).astype(np.int64)
            theirs = np.flatnonzero((split == TRAIN) & wanted & np.isin(t.user[t.state], some))
            if len(theirs) >= FEWEST:  # else nobody is kept out of training in vain
                rows, users = theirs, some
    if len(rows) > MOST:
        rows = np.sort(rng.choice(rows, MOST, replace=False))
    return Held(rows, users)


def without_users(transitions: Transitions, users: IntArray) -> Transitions:
    """The same transitions, of which those of some users do not train."""
    split = transitions.split.copy()
    split[(split == TRAIN) & np.isin(transitions.user, users)] = HISTORY
    return replace(transitions, split=split)


def calibrate(
    dataset: Dataset, ranker: NetworkRanker, held: Held, window: int, weights: FloatArray, seed: int
) -> tuple[NetworkRanker, dict[str, Any]]:
    """The ranker with its calibration, and `metrics["calibration"]`: decisions, mean negative log-likelihood, expected
    calibration error and reliability (`quality`) before and after on the decisions kept apart, or a note on why there is none.

    Args:
        held: `held_out` of the same dataset.
        window: L. weights: float32 [R]. seed: draws the items of the sampled likelihood.
    """
    if len(held.rows) < FEWEST:
        note = f"no calibration: {len(held.rows)} held-out decisions, at least {FEWEST} are needed"
        return ranker, {"decisions": len(held.rows), "note": note}
    weighted = replace(dataset, weights=weights)
    apart = replace(weighted, transitions=without_users(dataset.transitions, held.users))
    visits = fit_session_knn(apart).first
    assert isinstance(visits, SessionKnnScorer)
    choices = _choices(dataset, ranker, held.rows, window, visits, np.random.default_rng(seed))
    if len(choices.length) < FEWEST:
        note = f"no calibration: {len(choices.length)} held-out decisions with an item known from training, at least {FEWEST} are needed"
        return ranker, {"decisions": len(choices.length), "note": note}
    if not float(choices.logit.abs().max()) < LARGEST_LOGIT:
        return ranker, {"decisions": len(choices.length), "note": "no calibration: the logits of the model are too large, or not finite"}
    kept_apart = torch.arange(len(choices.length)) % CHECKED == 0
    check, before = choices.rows(kept_apart), ChoiceCalibration.none()
    tried = fit(choices.rows(~kept_apart))
    figures: dict[str, Any] = {"decisions": len(choices.length)}
    for name, numbers in (("before", before), ("after", tried)):
        likelihood, error, bins = quality(check, numbers)
        figures |= {f"nll_{name}": likelihood, f"ece_{name}": error, f"reliability_{name}": bins}
    if not figures["nll_after"] < figures["nll_before"]:
        return ranker, figures | {"note": "no calibration: it does not make held-out decisions likelier"}
    if len(held.users):  # those held out are as good visits to compare with as the others
        visits = fit_session_knn(weighted).first
        assert isinstance(visits, SessionKnnScorer)
    return replace(ranker, calibration=fit(choices).with_neighbours(visits)), figures


class Choices(NamedTuple):
    """M held-out decisions with S items each: the first is the one that was chosen."""

    logit: Tensor  # [M, S] of the head
    log_weight: Tensor  # [M, S] of each item in the sum over the catalogue; -inf = not there
    log_near: Tensor  # [M, S] log of the session-kNN score, 0 where it is 0
    is_near: Tensor  # [M, S]
    again: Tensor  # [M, S] stands in the window
    rank: Tensor  # [M, S] classes, see `Repeats`
    times: Tensor  # [M, S]
    length: Tensor  # [M]

    def rows(self, keep: Tensor) -> "Choices":
        """Some of the decisions."""
        return Choices(*(part[keep] for part in self))


def _choices(
    dataset: Dataset, ranker: NetworkRanker, rows: IntArray, window: int, visits: SessionKnnScorer, rng: np.random.Generator
) -> Choices:
    raw, chosen = replace(ranker, by="behaviour", calibration=None), dataset.transitions.action[rows].astype(np.int64)
    parts = [
        _sampled(observation, raw.scores(observation), visits.scores(observation), chosen[part], rng)
        for part, observation in observations(dataset, rows, window)
    ]
    return Choices(*(torch.as_tensor(np.concatenate(column)) for column in zip(*parts)))


def _sampled(
    observation: Observation, logits: FloatArray, near: FloatArray, chosen: IntArray, rng: np.random.Generator
) -> tuple[NDArray[Any], ...]:
    """The fields of `Choices` of one batch, whose rows share the candidates 1..K."""
    mask = observation.actions.mask != 0
    open_ = chosen <= mask.shape[1]
    open_[open_] = mask[open_, chosen[open_] - 1]
    found, items = repeats(observation.state), np.asarray(observation.state.history_items, np.int64)
    logits, near, mask, chosen = logits[open_], near[open_], mask[open_], chosen[open_]
    at, items = found.at[open_], items[open_]
    most = min(LIKELIEST, mask.shape[1])
    likely = np.argpartition(np.where(mask, -logits, np.inf), most - 1, axis=1)[:, :most]
    similar = np.argpartition(-near, most - 1, axis=1)[:, :most]
    row = np.arange(len(chosen))[:, None]
    seen = np.where(at & (items <= mask.shape[1]), items - 1, -1)
    listed = np.concatenate([chosen[:, None] - 1, np.where(seen >= 0, seen, chosen[:, None] - 1), likely, similar], axis=1)
    once = np.zeros(listed.shape, bool)
    order = np.argsort(listed, axis=1, kind="stable")
    ordered = np.take_along_axis(listed, order, 1)
    np.put_along_axis(once, order, np.concatenate([np.ones((len(listed), 1), bool), ordered[:, 1:] != ordered[:, :-1]], axis=1), 1)
    is_listed = np.zeros(mask.shape, bool)
    is_listed[row, listed] = True
    drawn = rng.integers(0, mask.shape[1], (len(chosen), DRAWN))
    kept = mask[row, drawn] & ~is_listed[row, drawn]
    others, hits = (mask & ~is_listed).sum(axis=1), kept.sum(axis=1)
    weight = np.log(np.maximum(others, 1) / np.maximum(hits, 1))[:, None]
    every = np.concatenate([listed, drawn], axis=1)
    log_weight = np.concatenate([np.where(once & mask[row, listed], 0.0, -np.inf), np.where(kept, weight, -np.inf)], axis=1)
    rank, count = (np.full(mask.shape, -1, np.int8) for _ in range(2))
    for table, value in ((rank, found.rank[open_]), (count, found.times[open_])):
        owner, place = np.nonzero(seen >= 0)
        table[owner, seen[owner, place]] = value[owner, place]
    score = near[row, every]
    log_near = np.where(score > 0, np.log(np.maximum(score, np.finfo(np.float32).tiny)), 0)
    again = rank[row, every]
    return (
        logits[row, every], log_weight.astype(np.float32), log_near.astype(np.float32), score > 0, again >= 0,
        np.maximum(again, 0).astype(np.int64), np.maximum(count[row, every], 0).astype(np.int64), found.length[open_].astype(np.int64),
    )  # fmt: skip


def _scores(choices: Choices, numbers: Mapping[str, Tensor]) -> Tensor:
    """Calibrated logits with the weights of the sample, [M, S]."""
    length = choices.length
    cooler = numbers["log_temperature"][length][:, None] + numbers["log_temperature_again"][length][:, None] * choices.again
    out = choices.logit * torch.exp(-cooler)
    repeat = numbers["by_rank"][choices.rank] + numbers["by_count"][choices.times] + numbers["by_length"][length][:, None]
    near = numbers["near"][length][:, None] + numbers["nearness"][length][:, None] * choices.log_near
    near = near + (numbers["near_again"] + numbers["nearness_again"] * choices.log_near) * choices.again
    return out + repeat * choices.again + near * choices.is_near + choices.log_weight


NUMBERS = (
    "log_temperature", "by_length", "by_rank", "by_count", "near", "nearness", "log_temperature_again", "near_again", "nearness_again",
)  # fmt: skip


def fit(choices: Choices) -> ChoiceCalibration:
    """Maximum a posteriori under a normal prior of every number and of the steps between neighbouring classes, by L-BFGS."""
    start = ChoiceCalibration.none()
    numbers = {name: torch.tensor(getattr(start, name), dtype=torch.float32, requires_grad=True) for name in NUMBERS}
    optimiser = torch.optim.LBFGS(list(numbers.values()), max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> float:
        optimiser.zero_grad()
        scores = _scores(choices, numbers)
        likelihood = (torch.logsumexp(scores, 1) - scores[:, 0]).sum()
        prior = [value.square().sum() + SMOOTHNESS * value.diff().square().sum() for value in numbers.values()]
        total = (likelihood + 0.5 * torch.stack(prior).sum()) / len(scores)
        torch.autograd.backward(total)
        return float(total.detach())

    step: Callable[[Callable[[], float]], Any] = optimiser.step
    step(loss)
    found: dict[str, Any] = {name: value.detach().numpy() for name, value in numbers.items()}
    return replace(start, **found)


@torch.no_grad()
def quality(choices: Choices, calibration: ChoiceCalibration) -> tuple[float, float, list[list[float]]]:
    """Mean negative log-likelihood in nats; the expected calibration error of the likeliest item in [0, 1], which is the mean over 15
    equal bins of confidence of how far the share that was chosen is from the confidence (Guo et al. 2017, arXiv:1706.04599); and of
    each bin that has decisions its mean confidence, that share, and their number."""
    scores = _scores(choices, {name: torch.as_tensor(getattr(calibration, name)) for name in NUMBERS})
    total = torch.logsumexp(scores, 1, keepdim=True)
    log_p = scores - total - torch.where(torch.isfinite(choices.log_weight), choices.log_weight, 0.0)
    confidence, place = log_p.exp().max(1)
    right = (place == 0).double()
    which = torch.clamp((confidence * BINS).long(), max=BINS - 1)
    size, sure, chosen = (torch.bincount(which, weights, BINS).double() for weights in (None, confidence.double(), right))
    bins = torch.stack([sure / size, chosen / size, size], dim=1)[size > 0].tolist()
    return float((total - scores[:, :1]).mean()), float((sure - chosen).abs().sum() / size.sum()), bins
