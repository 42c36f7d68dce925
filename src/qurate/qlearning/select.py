"""The best item of a whole catalogue, inside the support of the log's policy: exact, in blocks that stay in the cache.

A full [B, N] product would be written to memory and read back by every mask and maximum; blocks of 2,048 items are
several times faster and need no memory that grows with the catalogue.
"""

import torch
from torch import Tensor

from qurate.qlearning.td import NEVER

BLOCK = 2_048


@torch.no_grad()
def best_item(q: Tensor, vectors: Tensor, available: Tensor, behaviour: Tensor | None = None, threshold: float = 0.0) -> Tensor:
    """argmax of q . vectors[a] over items 1..available[b], int64 [B]; ties go to the lowest index.

    Args:
        q: directions [B, d]; scores are linear in the item vectors, biases are columns of them.
        vectors: [N + 1, d], row 0 padding.
        available: int64 [B], at least 1.
        behaviour: directions [B, d] of the logits of pi_b. Only items with pi_b(a) / max pi_b >= threshold count, the maximum over the available
            ones (discrete BCQ, Fujimoto et al. 2019, arXiv:1910.01708).
        threshold: in [0, 1]; 0 = no support.
    """
    bounds = [(i, min(i + BLOCK, int(available.max()) + 1)) for i in range(1, int(available.max()) + 1, BLOCK)]
    shortest = int(available.min())
    limit = None
    if behaviour is not None and threshold > 0:
        peaks = [_hide((behaviour @ vectors[a:b].T), a, b, available, shortest).amax(1) for a, b in bounds]
        limit = torch.stack(peaks).amax(0)[:, None] + float(torch.log(torch.tensor(threshold)))
    best_q, best = torch.full((len(available),), 2 * NEVER), torch.ones(len(available), dtype=torch.int64)
    for a, b in bounds:
        scores = _hide(q @ vectors[a:b].T, a, b, available, shortest)
        if behaviour is not None and limit is not None:
            scores.masked_fill_((behaviour @ vectors[a:b].T) < limit, NEVER)
        top, where = scores.max(1)
        better = top > best_q
        best_q, best = torch.where(better, top, best_q), torch.where(better, where + a, best)
    return best


def _hide(scores: Tensor, first: int, last: int, available: Tensor, shortest: int) -> Tensor:
    """Items beyond `available` get NEVER, in place."""
    if last - 1 > shortest:
        scores.masked_fill_(torch.arange(first, last)[None] > available[:, None], NEVER)
    return scores
