"""The best item of a whole catalogue, inside the support of the log's policy: exact, in blocks that stay in the cache.

A full [B, N] product would be written to memory and read back by every mask and maximum; blocks of 2,048 items for a
few rows at a time stay in the cache, and the place of the maximum is looked for in one block only. Comparisons are written
in place as floats 0 and 1: vectorised, where boolean masks take several times as long.
"""

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

MASKED_VALUE = -1e30
"""Stands for minus infinity where sums and differences must stay finite."""
BLOCK = 2_048
ROWS, SCORES = 64, 1 << 18
"""Scores of the whole catalogue are held for so many rows at a time, more where no more than so many scores come of it."""


class FactoredScores(Protocol):
    """Scores of B states for every item: direction . row of the table, plus a bonus for the items of the window."""

    @property
    def direction(self) -> Tensor: ...  # [B, d + H]
    @property
    def history(self) -> Tensor: ...  # [B, L] int64
    @property
    def repeat(self) -> Tensor: ...  # [B, L]
    def rows(self, which: slice) -> "FactoredScores": ...


@torch.no_grad()
def best_item(
    q: FactoredScores, rows: Tensor, begun: Tensor, behaviour: FactoredScores | None = None, threshold: float = 0.0,
    clock: Tensor | None = None, until: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """argmax of q over the open items, int64 [B]; ties go to the lowest index; 0 where nothing is open.

    Args:
        q: of B states.
        rows: [N + 1, d + H], `ItemTable.centred`; row 0 is padding.
        begun: int64 [B]: items 1..begun[b] have begun to be available.
        behaviour: the logits of pi_b. Only items with pi_b(a) / max pi_b >= threshold count, the maximum over
            the open ones (discrete BCQ, Fujimoto et al. 2019, arXiv:1910.01708).
        threshold: in [0, 1]; 0 = no support.
        clock: int64 [B] microseconds, where items end.
        until: int64 [N + 1] when each item stops being available; None = none does.
    """
    most = int(begun.max())
    if most == 0:
        return torch.zeros_like(begun)
    n = max(ROWS, SCORES // most)
    if len(begun) > n:
        cuts = [slice(i, i + n) for i in range(0, len(begun), n)]
        supports = [None if behaviour is None else behaviour.rows(c) for c in cuts]
        clocks = [None if clock is None else clock[c] for c in cuts]
        parts = zip(cuts, supports, clocks)
        return torch.cat([best_item(q.rows(c), rows, begun[c], b, threshold, at, until) for c, b, at in parts])
    open_ = _OpenAt(begun, clock, until)
    ends = [(1 + i * BLOCK, 1 + min((i + 1) * BLOCK, most)) for i in range(-(-most // BLOCK))]
    support: list[Tensor] = []
    if behaviour is not None and threshold > 0:
        support = [_block(behaviour, rows, first, last, open_) for first, last in ends]
        peak = torch.stack([block.amax(1) for block in support]).amax(0)
        limit = peak[:, None] + math.log(threshold)
    scores, peaks = [], []
    for i, (first, last) in enumerate(ends):
        block = _block(q, rows, first, last, open_)
        if support:
            block.add_(support[i].lt_(limit), alpha=MASKED_VALUE)
        scores.append(block)
        peaks.append(block.amax(1))  # many times faster than max(1), which also finds the place
    if len(ends) == 1:
        return torch.where(peaks[0] > MASKED_VALUE, _first_of(scores[0], peaks[0]) + 1, 0)
    highest = torch.stack(peaks)
    where = highest.argmax(0)
    best = torch.ones_like(begun)
    for i in torch.unique(where).tolist():
        at = torch.nonzero(where == i)[:, 0]
        best[at] = _first_of(scores[i][at], highest[i, at]) + i * BLOCK + 1
    return torch.where(highest.amax(0) > MASKED_VALUE, best, 0)


def _first_of(scores: Tensor, highest: Tensor) -> Tensor:
    """The lowest place of the highest score of each row, int64 [B]; overwrites `scores`. Several times faster than `argmax`."""
    width = scores.shape[1]
    backwards = torch.arange(width, 0, -1, dtype=scores.dtype, device=scores.device)
    return width - scores.eq_(highest[:, None]).mul_(backwards).amax(1).long()


class _OpenAt(NamedTuple):
    """When B states choose."""

    begun: Tensor  # [B]
    clock: Tensor | None  # [B]
    until: Tensor | None  # [N + 1]


def _block(scores: FactoredScores, rows: Tensor, first: int, last: int, open_: _OpenAt) -> Tensor:
    """Scores of items first..last - 1, [B, last - first]; those that are not open get MASKED_VALUE."""
    out = scores.direction @ rows[first:last].T
    inside = (scores.history >= first) & (scores.history < last)
    out.scatter_add_(1, torch.where(inside, scores.history - first, 0), torch.where(inside, scores.repeat, 0))
    if last - 1 > int(open_.begun.min()):
        out.masked_fill_(torch.arange(first, last, device=out.device)[None] > open_.begun[:, None], MASKED_VALUE)
    if open_.until is not None and open_.clock is not None:
        out.masked_fill_(open_.until[None, first:last] <= open_.clock[:, None], MASKED_VALUE)
    return out
