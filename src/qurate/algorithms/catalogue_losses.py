"""Losses that sum over a whole catalogue: what the log's policy chose, and the items that nobody chose."""

import math

import torch
from torch import Tensor

from qurate.algorithms.objective import TensorBatch
from qurate.networks.catalogue_max import MASKED_VALUE
from qurate.networks.catalogue_values import CatalogueValues, Scores, repeat_bonus
from qurate.networks.item_tower import ItemTable, TouchedTable
from qurate.types import OpenActions

FULL_SOFTMAX_ITEMS = 5_000
"""Above this catalogue size the behaviour head's softmax is sampled, with log-q correction."""
SOFTMAX_SAMPLES = 1_024
FULL_LOG_SUM_ITEMS = 10_000
"""The same for the log-sum-exp of Q (CQL)."""


def behaviour_terms(values: object, batch: TensorBatch, rng: torch.Generator, weight: float) -> list[Tensor]:
    """The behaviour head's loss, one float32 [B] of `weight` times -log pi_b of what was chosen; none without such a head."""
    if weight == 0 or not isinstance(values, CatalogueValues) or values.heads.behaviour is None:
        return []
    return [weight * chosen_cross_entropy(values, batch, rng)]


def chosen_cross_entropy(values: CatalogueValues, batch: TensorBatch, rng: torch.Generator) -> Tensor:
    """-log pi_b of what was chosen, float32 [B]: over the shortlist where the decision has one, else over the catalogue."""
    if batch.offered is None:
        return behaviour_cross_entropy(values, batch.action, rng)
    return listed_cross_entropy(values, batch.action, batch.offered, batch.offered_features)


def behaviour_cross_entropy(values: CatalogueValues, action: Tensor, rng: torch.Generator) -> Tensor:
    """-log pi_b(action) per state, float32 [B], for the items int64 [B] that were shown or chosen; sampled over large catalogues."""
    scores = values.behaviour_scores()
    assert scores is not None
    if values.n_items <= FULL_SOFTMAX_ITEMS and isinstance(values.table, ItemTable):
        return torch.nn.functional.cross_entropy(_logits(values.table, scores), action - 1, reduction="none")
    return _sampled_cross_entropy(values.table, scores, action, rng)


def log_sum_exp_gap(values: CatalogueValues, batch: TensorBatch, rng: torch.Generator) -> Tensor:
    """log sum_a exp Q(s, a) - Q(s, a taken), float32 [B] >= 0: the penalty CQL(H) (Kumar et al. 2020, arXiv:2006.04779, eq. 4).

    The sum runs over what could be shown at the decision: its list, else what the catalogue had then, less what was excluded;
    what was shown always counts. It is the cross-entropy of a softmax of Q, so that large catalogues are sampled like the
    behaviour head's. Rows whose action is not on their list have no penalty.
    """
    if batch.offered is not None:
        return _listed_gap(values, batch.action, batch.offered, batch.offered_features)
    now = batch.actions
    listed = None if now is None or now.candidates is None else now.candidates
    if listed is None:
        return _catalogue_gap(values, batch.action, now, rng)
    assert now is not None
    of_list, with_list = _listed_gap(values, batch.action, listed, now.features), (listed > 0).any(1)
    if bool(with_list.all()):
        return of_list
    return torch.where(with_list, of_list, _catalogue_gap(values, batch.action, now, rng))


def _listed_gap(values: CatalogueValues, action: Tensor, listed: Tensor, features: Tensor | None) -> Tensor:
    """Over lists [B, K] (0 = padding); 0 where the action is not on its list."""
    q, taken = values.of(listed, features).masked_fill(listed == 0, MASKED_VALUE), listed == action[:, None]
    gap = torch.logsumexp(q, 1) - q.gather(1, taken.to(torch.uint8).argmax(1, keepdim=True))[:, 0]
    return torch.where(taken.any(1), gap, 0)


def _catalogue_gap(values: CatalogueValues, action: Tensor, now: OpenActions[Tensor] | None, rng: torch.Generator) -> Tensor:
    """Over what of the catalogue is open, None = all of it."""
    if values.n_items > FULL_LOG_SUM_ITEMS or isinstance(values.table, TouchedTable):
        return _sampled_cross_entropy(values.table, values.scores(), action, rng, now)
    logits = _logits(values.table, values.scores())
    if now is not None:
        counted = values.open_mask(now._replace(candidates=None)).scatter(1, action[:, None], True)
        logits = logits.masked_fill(~counted[:, 1:], MASKED_VALUE)
    return torch.nn.functional.cross_entropy(logits, action - 1, reduction="none")


def _logits(table: ItemTable, scores: Scores) -> Tensor:
    """Of items 1..N, [B, N]; without column 0 from the start: cutting it off [B, N + 1] would copy the logits and their gradient."""
    logits, place = scores.direction @ table.centred[1:].T, scores.history - 1
    return logits.scatter_add(1, place.clamp(min=0), scores.repeat * (place >= 0))


def _sampled_cross_entropy(
    table: ItemTable | TouchedTable, scores: Scores, action: Tensor, rng: torch.Generator, now: OpenActions[Tensor] | None = None
) -> Tensor:
    """-log softmax(scores)(action), float32 [B].

    The softmax runs over the chosen item, the items of the window, and a uniform sample of the others, whose scores get
    log(N / samples) added (log-q correction, Bengio and Senecal 2008, doi:10.1109/TNN.2007.912312).

    Args:
        now: what of the catalogue counts beside the chosen item; None = all of it.
    """
    items = table.shape[0] - 1
    sample = 1 + torch.randperm(items, generator=rng, device=action.device)[:SOFTMAX_SAMPLES]
    action, history = action[:, None], scores.history
    # one look-up for all: each would cost a gradient over the whole catalogue
    rows = table.rows(torch.cat([sample, action[:, 0], history.flatten()]))
    drawn, chosen, seen = rows.split_with_sizes([len(sample), len(action), history.numel()])
    bonus = repeat_bonus(scores.repeat[:, None], history, torch.cat([action, history], 1))[:, :, 0]
    # the items of the window are always there, each once: the newest place at which it stands
    later_again = (history[:, :, None] == history[:, None]).triu(1).any(2)
    left_out = later_again | (history == 0) | (history == action)
    again = torch.bmm(seen.view(*history.shape, -1), scores.direction[:, :, None])[:, :, 0] + bonus[:, 1:]
    others = scores.direction @ drawn.T + math.log(items / len(sample))
    numbers = torch.arange(len(sample), device=action.device)
    number = torch.full((items + 1,), len(sample), device=action.device).scatter_(0, sample, numbers)
    present = others.new_zeros(len(action), len(sample) + 1, dtype=torch.bool)  # one more column for what was not drawn
    present = present.scatter_(1, number[torch.cat([action, history], 1)], True)[:, :-1]
    negative = torch.cat([again.masked_fill(left_out, MASKED_VALUE), others.masked_fill(present, MASKED_VALUE)], 1)
    if now is not None:
        negative = negative.masked_fill(_closed(now, torch.cat([history, sample.expand(len(history), -1)], 1)), MASKED_VALUE)
    positive = (scores.direction * chosen).sum(1, keepdim=True) + bonus[:, :1]
    return torch.logsumexp(torch.cat([positive, negative], 1), 1) - positive[:, 0]


def _closed(now: OpenActions[Tensor], items: Tensor) -> Tensor:
    """bool [B, K]: which of items [B, K] could not be shown."""
    out = torch.zeros_like(items, dtype=torch.bool)
    if now.clock is not None and now.since is not None:
        clock = now.clock[:, None]
        out = now.since[items] > clock
        if now.until is not None:
            out = out | (now.until[items] <= clock)
    return out if now.excluded is None else out | (items[:, :, None] == now.excluded[:, None]).any(2)


def listed_cross_entropy(values: CatalogueValues, action: Tensor, offered: Tensor, features: Tensor | None) -> Tensor:
    """-log pi_b(action) over the shortlists [B, K] (0 = padding) with features [B, K, F], float32 [B]; 0 where it is on none."""
    chosen = offered == action[:, None]
    logits = values.behaviour_logits(offered, features).masked_fill(offered == 0, MASKED_VALUE)
    listed = chosen.any(1)
    loss = torch.nn.functional.cross_entropy(logits, chosen.to(torch.uint8).argmax(1), reduction="none")
    return loss * listed


def unchosen_squared(values: CatalogueValues, q_chosen: Tensor, target: Tensor) -> Tensor:
    """Mean over the catalogue, the chosen item left out, of half the squared error to `target`, per head: [B, H].

    For items that nobody chose (SNQN, Xin et al. 2022, arXiv:2111.03474): r = 0, s' = s.

    Args:
        q_chosen: [B, H] of the chosen item.
        target: [B, H], the same for all unchosen items.
    """
    offset = values.heads.value - target
    everything = 0.5 * offset.square() + 0.5 * values.mean_square_gap(offset)
    return everything - 0.5 * (q_chosen - target).square() / values.n_items
