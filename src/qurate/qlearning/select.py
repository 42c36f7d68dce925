"""The best item of a whole catalogue, inside the support of the log's policy: exact, in blocks that stay in the cache.

A full [B, N] product would be written to memory and read back by every mask and maximum; blocks of 2,048 items for a
few rows at a time stay near, and the place of the maximum is looked for in one block only.
"""

import math

import torch
from torch import Tensor

from qurate.qlearning.td import NEVER

BLOCK = 2_048
ROWS = 64
"""Rows whose scores of the whole catalogue are held at a time."""


@torch.no_grad()
def best_item(q: Tensor, vectors: Tensor, available: Tensor, behaviour: Tensor | None = None, threshold: float = 0.0) -> Tensor:
    """argmax of q . vectors[a] over items 1..available[b], int64 [B]; ties go to the lowest index.

    Args:
        q: directions [B, d]; scores are linear in the item vectors, biases are columns of them.
        vectors: [N + 1, d], row 0 padding.
        available: int64 [B], at least 1.
        behaviour: directions [B, d] of the logits of pi_b. Only items with pi_b(a) / max pi_b >= threshold count, the maximum over
            the available ones (discrete BCQ, Fujimoto et al. 2019, arXiv:1910.01708).
        threshold: in [0, 1]; 0 = no support.
    """
    if len(q) > ROWS:
        cuts = [slice(i, i + ROWS) for i in range(0, len(q), ROWS)]
        return torch.cat([best_item(q[c], vectors, available[c], None if behaviour is None else behaviour[c], threshold) for c in cuts])
    blocks = -(-int(available.max()) // BLOCK)
    parts = [vectors[1 + i * BLOCK : 1 + min((i + 1) * BLOCK, int(available.max()))].T for i in range(blocks)]
    support: list[Tensor] = []
    if behaviour is not None and threshold > 0:
        support = [_hide(behaviour @ part, i, available) for i, part in enumerate(parts)]
        peak = torch.stack([block.amax(1) for block in support]).amax(0)
        limit = peak[:, None] + math.log(threshold)
    scores, peaks = [], []
    for i, part in enumerate(parts):
        block = _hide(q @ part, i, available)
        if support:
            block.masked_fill_(support[i] < limit, NEVER)
        scores.append(block)
        peaks.append(block.amax(1))  # many times faster than max(1), which also finds the place
    where = torch.stack(peaks).argmax(0)
    best = torch.ones(len(available), dtype=torch.int64)
    for i in torch.unique(where).tolist():
        rows = torch.nonzero(where == i)[:, 0]
        best[rows] = scores[i][rows].argmax(1) + i * BLOCK + 1
    return best


def _hide(scores: Tensor, block: int, available: Tensor) -> Tensor:
    """Items beyond `available` get NEVER, in place."""
    first, last = 1 + block * BLOCK, block * BLOCK + scores.shape[1]
    if last > int(available.min()):
        scores.masked_fill_(torch.arange(first, last + 1)[None] > available[:, None], NEVER)
    return scores
