"""Losses that sum over a whole catalogue: what the log's policy chose, and the items that nobody chose."""

import math

import torch
from torch import Tensor

from qurate.networks.catalogue_max import MASKED_VALUE
from qurate.networks.catalogue_values import CatalogueValues, repeat_bonus

FULL_SOFTMAX_ITEMS = 5_000
"""Above this catalogue size the behaviour head's softmax is sampled, with log-q correction."""
SOFTMAX_SAMPLES = 1_024


def behaviour_cross_entropy(values: CatalogueValues, action: Tensor, rng: torch.Generator) -> Tensor:
    """-log pi_b(action) per state, float32 [B], for the items int64 [B] that were shown or chosen.

    Over large catalogues the softmax runs over a uniform sample, whose scores get log(N / samples) added (log-q
    correction, Bengio and Senecal 2008, doi:10.1109/TNN.2007.912312).
    """
    table, items, scores = values.table, values.n_items, values.behaviour_scores()
    assert scores is not None
    if items <= FULL_SOFTMAX_ITEMS:
        # without column 0 from the start: cutting it off [B, N + 1] would copy the logits and their gradient
        logits, place = scores.direction @ table.centred[1:].T, scores.history - 1
        logits = logits.scatter_add(1, place.clamp(min=0), scores.repeat * (place >= 0))
        return torch.nn.functional.cross_entropy(logits, action - 1, reduction="none")
    sample = 1 + torch.randperm(items, generator=rng, device=action.device)[:SOFTMAX_SAMPLES]
    action = action[:, None]
    # one look-up for both: each would cost a gradient over the whole catalogue
    rows = table.centred.index_select(0, torch.cat([sample, action[:, 0]]))
    negative = scores.direction @ rows[: len(sample)].T
    numbers = torch.arange(len(sample), device=action.device)
    place = torch.full((items + 1,), -1, device=action.device).scatter_(0, sample, numbers)[scores.history]
    negative = negative.scatter_add(1, place.clamp(min=0), scores.repeat * (place >= 0)) + math.log(items / SOFTMAX_SAMPLES)
    negative = negative.masked_fill(sample[None] == action, MASKED_VALUE)
    bonus = repeat_bonus(scores.repeat[:, None], scores.history, action)[:, :, 0]
    positive = (scores.direction * rows[len(sample) :]).sum(1, keepdim=True) + bonus
    return torch.logsumexp(torch.cat([positive, negative], 1), 1) - positive[:, 0]


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
