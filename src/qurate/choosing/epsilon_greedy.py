"""Epsilon-greedy lists for many customers at once over a large catalogue: only the top of each row is ever sorted.

At each place of a list, with probability epsilon an item drawn uniformly from all that are left, else the best that is
left (equally good ones with equal probability). The propensity of an item at its place, given the items above it, is
epsilon / left + (1 - epsilon) / ties where it is one of the best, and epsilon / left elsewhere: it needs the number of
open positions and the ties of the best, so the k largest scores of a row (all ties of the k-th included) are enough.
`selection.epsilon_greedy_rule` is the same distribution for any mixture of rules; there every place costs passes over the row.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from qurate.types import FloatArray, IntArray

BLOCKS = 16
"""Blocks of a row for each of the k places. The k blocks with the largest maxima hold k scores that bound the k-th largest of the
row, so two passes and a sort of little more than k scores replace a sort of the row."""


class Slate(NamedTuple):
    """One list, best place first."""

    positions: list[int]
    propensities: list[float]  # of each position at its place, given those above it
    explored: list[bool]  # whether the place was filled by the uniform draw


def epsilon_greedy_slates(
    scores: FloatArray, closed: Sequence[IntArray], k: Sequence[int], epsilon: float, uniforms: NDArray[np.float64]
) -> list[Slate]:
    """A list for each row, decided independently of the other rows.

    Args:
        scores: [B, K], higher is better. A score that is not finite is never shown and never counted.
        closed: for each row the distinct positions that may not be shown.
        k: places of each row's list; a row with fewer open positions gives all of them.
        epsilon: in [0, 1].
        uniforms: float64 [B, 2 max(k)] uniform in [0, 1): for each place one number that decides between exploring and the best,
            and one that picks the position.
    """
    n, width = scores.shape
    shut = [np.unique(positions) if len(positions) else positions for positions in closed]
    for row in np.flatnonzero(~np.isfinite(scores @ np.ones(width, np.float32))).tolist():
        shut[row] = np.union1d(shut[row], np.flatnonzero(~np.isfinite(scores[row]))).astype(np.int64)
    if any(map(len, shut)):
        scores = scores.copy()
        for row, of_row in enumerate(shut):
            scores[row, of_row] = -np.inf
    left = [width - len(positions) for positions in shut]
    rows, positions, values = _best(scores, min(max(k, default=0), width))
    best, order, start = positions.tolist(), values.tolist(), np.searchsorted(rows, np.arange(n + 1)).tolist()
    tied = set(rows[1:][(values[1:] == values[:-1]) & (rows[1:] == rows[:-1])].tolist())
    explored, picks = (uniforms[:, ::2] < epsilon).tolist(), uniforms[:, 1::2].tolist()
    out = []
    for row in range(n):
        own, places = slice(start[row], start[row + 1]), min(k[row], left[row])
        luck = explored[row][:places], picks[row]
        if row in tied:
            out.append(_slate(_groups(best[own], order[own]), left[row], shut[row].tolist(), epsilon, *luck))
        else:
            out.append(_slate_without_ties(best[own], left[row], shut[row], epsilon, *luck))
    return out


def _slate(groups: list[list[int]], left: int, closed: list[int], epsilon: float, explored: list[bool], picks: list[float]) -> Slate:
    """One list.

    Args:
        groups: at least as many positions as places by falling score, those of equal score together, the last group complete.
        left: how many positions are open.
        closed: those that are not.
        explored: for each place whether it is filled by the uniform draw. picks: a uniform number for each.
    """
    positions: list[int] = []
    propensities: list[float] = []
    at = 0  # the first group of which something is left
    for explores, pick in zip(explored, picks):
        while not groups[at]:
            at += 1
        top = groups[at]
        ties = len(top)
        position = nth_open(int(pick * left), closed + positions) if explores else top[int(pick * ties)]
        propensity = epsilon * (1 / left)
        if not explores or position in top:
            propensity += (1 - epsilon) * (1 / ties)
        for group in groups[at:] if explores else (top,):
            if position in group:
                group.remove(position)
        positions.append(position)
        propensities.append(propensity)
        left -= 1
    return Slate(positions, propensities, explored)


def _slate_without_ties(best: list[int], left: int, closed: IntArray, epsilon: float, explored: list[bool], picks: list[float]) -> Slate:
    """The same where all scores of `best` differ, and in the same order of draws."""
    k = len(explored)
    by_chance, of_best = _propensities(left, k, epsilon)
    propensities = list(of_best)
    if True not in explored:
        return Slate(best[:k], propensities, explored)
    at = explored.index(True)
    positions, shut = best[:at], closed.tolist()
    for place in range(at, k):
        while best[at] in positions:
            at += 1
        position = top = best[at]
        if explored[place]:
            position = nth_open(int(picks[place] * (left - place)), shut + positions)
        if position != top:
            propensities[place] = by_chance[place]
        positions.append(position)
    return Slate(positions, propensities, explored)


@lru_cache(64)
def _propensities(left: int, k: int, epsilon: float) -> tuple[Sequence[float], Sequence[float]]:
    """Of an item that is not the best at each of k places, and of the best without ties; `left` positions are open at the first."""
    by_chance = [epsilon * (1 / (left - place)) for place in range(k)]
    return by_chance, [share + (1 - epsilon) for share in by_chance]


def _groups(positions: list[int], scores: list[float]) -> list[list[int]]:
    """Positions by falling score, those of equal score in one list, whose order depends on nothing else."""
    groups: list[list[int]] = []
    last = None
    for position, score in zip(positions, scores):
        if score == last:
            groups[-1].append(position)
        else:
            groups.append([position])
        last = score
    for group in groups:
        if len(group) > 1:
            group.sort()
    return groups


def nth_open(n: int, closed: list[int]) -> int:
    """The n-th (from 0) position that is not in `closed`."""
    for position in sorted(closed):
        if position > n:
            break
        n += 1
    return n


def best_positions(scores: FloatArray, k: int) -> list[IntArray]:
    """For each row the positions of the k largest scores by falling score, and all others equal to the k-th.

    Args:
        scores: [B, K] without NaN.
        k: in 0..K.
    """
    rows, positions, _ = _best(scores, k)
    start = np.searchsorted(rows, np.arange(len(scores) + 1)).tolist()
    return [positions[begin:end] for begin, end in pairwise(start)]


def _best(scores: FloatArray, k: int) -> tuple[IntArray, IntArray, FloatArray]:
    """Rows, positions and scores of `best_positions`, one row after the other.

    The k-th largest maximum of a block is no more than the k-th largest score of the row: what is below need not be sorted.
    """
    n, width = scores.shape
    if k == 0 or n == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), scores[:0, 0]
    size = width // (BLOCKS * k)
    peaks = scores
    if size > 1:  # block b: positions b, b + width // size, b + 2 (width // size), ...; what is left over raises no bound
        peaks = np.maximum.reduce(scores[:, : width // size * size].reshape(n, size, width // size), axis=1)
    bound = torch.from_numpy(np.require(peaks, requirements="W")).topk(k, dim=1).values.numpy()[:, -1:]  # torch wants to be able to write
    rows, positions = np.divmod(np.flatnonzero(scores >= bound), width)
    values = scores[rows, positions]
    order = np.lexsort((-values, rows))
    positions, values = positions[order], values[order]
    least = values[np.searchsorted(rows, np.arange(n)) + k - 1]
    keep = values >= least[rows]
    return rows[keep], positions[keep], values[keep]
