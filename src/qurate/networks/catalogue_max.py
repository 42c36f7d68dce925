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
    if not int(begun.max()):
        return torch.zeros_like(begun)
    cuts = _cuts(begun)
    if len(cuts) > 1:
        return torch.cat([best_item(*_part(cut, q, rows, begun, behaviour), threshold, _rows(clock, cut), until) for cut in cuts])
    scores, peaks = _open_scores(q, rows, begun, behaviour, threshold, _OpenAt(begun, clock, until))
    if len(scores) == 1:
        return torch.where(peaks[0] > MASKED_VALUE, _first_of(scores[0], peaks[0]) + 1, 0)
    highest = torch.stack(peaks)
    where = highest.argmax(0)
    best = torch.ones_like(begun)
    for i in torch.unique(where).tolist():
        at = torch.nonzero(where == i)[:, 0]
        best[at] = _first_of(scores[i][at], highest[i, at]) + i * BLOCK + 1
    return torch.where(highest.amax(0) > MASKED_VALUE, best, 0)


@torch.no_grad()
def soft_maximum(
    q: FactoredScores, rows: Tensor, begun: Tensor, temperature: float, behaviour: FactoredScores | None = None, threshold: float = 0.0,
    clock: Tensor | None = None, until: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """temperature * log sum exp(q / temperature) over the items among which `best_item` looks, float32 [B].

    MASKED_VALUE where nothing is open.

    Args:
        temperature: above 0, in the units of q. The rest as in `best_item`.
    """
    if not int(begun.max()):
        return torch.full(begun.shape, MASKED_VALUE, device=begun.device)
    cuts = _cuts(begun)
    if len(cuts) > 1:
        parts = [(_part(cut, q, rows, begun, behaviour), _rows(clock, cut)) for cut in cuts]
        return torch.cat([soft_maximum(*part[:3], temperature, part[3], threshold, at, until) for part, at in parts])
    scores, peaks = _open_scores(q, rows, begun, behaviour, threshold, _OpenAt(begun, clock, until))
    peak = torch.stack(peaks).amax(0)
    total = torch.stack([block.sub_(peak[:, None]).div_(temperature).exp_().sum(1) for block in scores]).sum(0)
    return torch.where(peak > MASKED_VALUE, peak + temperature * total.log(), MASKED_VALUE)


def _cuts(begun: Tensor) -> list[slice]:
    """The states whose scores are held at a time."""
    n = max(ROWS, SCORES // int(begun.max()))
    return [slice(i, i + n) for i in range(0, len(begun), n)]


def _rows(part: Tensor | None, cut: slice) -> Tensor | None:
    return None if part is None else part[cut]


def _part(
    cut: slice, q: FactoredScores, rows: Tensor, begun: Tensor, behaviour: FactoredScores | None
) -> tuple[FactoredScores, Tensor, Tensor, FactoredScores | None]:
    return q.rows(cut), rows, begun[cut], None if behaviour is None else behaviour.rows(cut)


def _open_scores(
    q: FactoredScores, rows: Tensor, begun: Tensor, behaviour: FactoredScores | None, threshold: float, open_: "_OpenAt"
) -> tuple[list[Tensor], list[Tensor]]:
    """Scores of all items, a block [B, <= BLOCK] each, and the largest of each block, [B].

    What is not open, or outside the support, has about MASKED_VALUE.
    """
    most = int(begun.max())
    ends = [(1 + i * BLOCK, 1 + min((i + 1) * BLOCK, most)) for i in range(-(-most // BLOCK))]
    support: list[Tensor] = []
    if behaviour is not None and threshold > 0:
        support = [_block(behaviour, rows, first, last, open_) for first, last in ends]
        limit = torch.stack([block.amax(1) for block in support]).amax(0)[:, None] + math.log(threshold)
    scores, peaks = [], []
    for i, (first, last) in enumerate(ends):
        block = _block(q, rows, first, last, open_)
        if support:
            block.add_(support[i].lt_(limit), alpha=MASKED_VALUE)
        scores.append(block)
        peaks.append(block.amax(1))  # many times faster than max(1), which also finds the place
    return scores, peaks


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
