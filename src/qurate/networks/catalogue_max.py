"""The best item of a whole catalogue, inside the support of the log's policy: exact, in blocks that stay in the cache.

A full [B, N] product would be written to memory and read back by every mask and maximum; blocks of 2,048 items for a
few rows at a time stay near, and the place of the maximum is looked for in one block only.
"""

import math

import torch
from torch import Tensor

from qurate.networks.qnetwork import Scores

MASKED_VALUE = -1e30
"""Stands for minus infinity where sums and differences must stay finite."""
BLOCK = 2_048
ROWS = 64
"""Rows whose scores of the whole catalogue are held at a time."""


@torch.no_grad()
def best_item(q: Scores, rows: Tensor, available: Tensor, behaviour: Scores | None = None, threshold: float = 0.0) -> Tensor:
    """argmax of q over items 1..available[b], int64 [B]; ties go to the lowest index.

    Args:
        q: of B states.
        rows: [N + 1, d + H], `ItemTable.centred`; row 0 is padding.
        available: int64 [B], at least 1.
        behaviour: the logits of pi_b. Only items with pi_b(a) / max pi_b >= threshold count, the maximum over
            the available ones (discrete BCQ, Fujimoto et al. 2019, arXiv:1910.01708).
        threshold: in [0, 1]; 0 = no support.
    """
    if len(available) > ROWS:
        cuts = [slice(i, i + ROWS) for i in range(0, len(available), ROWS)]
        supports = [None if behaviour is None else behaviour.rows(c) for c in cuts]
        return torch.cat([best_item(q.rows(c), rows, available[c], b, threshold) for c, b in zip(cuts, supports)])
    blocks = -(-int(available.max()) // BLOCK)
    ends = [(1 + i * BLOCK, 1 + min((i + 1) * BLOCK, int(available.max()))) for i in range(blocks)]
    support: list[Tensor] = []
    if behaviour is not None and threshold > 0:
        support = [_block(behaviour, rows, first, last, available) for first, last in ends]
        peak = torch.stack([block.amax(1) for block in support]).amax(0)
        limit = peak[:, None] + math.log(threshold)
    scores, peaks = [], []
    for i, (first, last) in enumerate(ends):
        block = _block(q, rows, first, last, available)
        if support:
            block.masked_fill_(support[i] < limit, MASKED_VALUE)
        scores.append(block)
        peaks.append(block.amax(1))  # many times faster than max(1), which also finds the place
    where = torch.stack(peaks).argmax(0)
    best = torch.ones(len(available), dtype=torch.int64)
    for i in torch.unique(where).tolist():
        at = torch.nonzero(where == i)[:, 0]
        best[at] = scores[i][at].argmax(1) + i * BLOCK + 1
    return best


def _block(scores: Scores, rows: Tensor, first: int, last: int, available: Tensor) -> Tensor:
    """Scores of items first..last - 1, [B, last - first]; items beyond `available` get MASKED_VALUE."""
    out = scores.direction @ rows[first:last].T
    inside = (scores.history >= first) & (scores.history < last)
    out.scatter_add_(1, torch.where(inside, scores.history - first, 0), torch.where(inside, scores.repeat, 0))
    if last - 1 > int(available.min()):
        out.masked_fill_(torch.arange(first, last)[None] > available[:, None], MASKED_VALUE)
    return out
