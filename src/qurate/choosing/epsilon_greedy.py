"""Epsilon-greedy lists for many customers at once over a large catalogue: only the top of each row is ever sorted.

At each place of a list, with probability epsilon an item drawn uniformly from all that are left, else the best that is
left (equally good ones with equal probability). The propensity of an item at its place, given the items above it, is
epsilon / left + (1 - epsilon) / ties where it is one of the best, and epsilon / left elsewhere: it needs the number of
open positions and the ties of the best, so the k largest scores of a row (all ties of the k-th included) are enough.
`selection.epsilon_greedy_rule` is the same distribution for any mixture of rules; there every place costs passes over the row.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from qurate.types import FloatArray, IntArray

BLOCK = 16
"""Scores in a block. The k largest scores of a row lie in the k blocks with the largest maxima, so one pass for the maxima
and a sort of k blocks replace a sort of the row."""


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
        for row, positions in enumerate(shut):
            scores[row, positions] = -np.inf
    left = [width - len(positions) for positions in shut]
    best = best_positions(scores, min(max(k, default=0), width))
    draws = uniforms.tolist()
    return [_slate(best[row], scores[row], shut[row], min(k[row], left[row]), epsilon, draws[row]) for row in range(n)]


def _slate(best: IntArray, scores: FloatArray, closed: IntArray, k: int, epsilon: float, uniforms: list[float]) -> Slate:
    """One list. `best`: at least k positions by falling score, complete up to ties of its last one."""
    order = scores[best]
    if (order[1:] < order[:-1]).all():
        return _slate_without_ties(best.tolist(), len(scores), closed, k, epsilon, uniforms)
    groups = _groups(best.tolist(), scores[best].tolist())
    slate = Slate([], [], [])
    positions, propensities, exploring = slate
    left, at = len(scores) - len(closed), 0  # `at`: the first group of which something is left
    for coin, pick in zip(uniforms[: 2 * k : 2], uniforms[1 : 2 * k : 2]):
        while not groups[at]:
            at += 1
        top = groups[at]
        ties, explored = len(top), coin < epsilon
        position = nth_open(int(pick * left), closed.tolist() + positions) if explored else top[int(pick * ties)]
        propensity = epsilon * (1 / left)
        if not explored or position in top:
            propensity += (1 - epsilon) * (1 / ties)
        for group in groups[at:] if explored else (top,):
            if position in group:
                group.remove(position)
        positions.append(position)
        propensities.append(propensity)
        exploring.append(explored)
        left -= 1
    return slate


def _slate_without_ties(best: list[int], width: int, closed: IntArray, k: int, epsilon: float, uniforms: list[float]) -> Slate:
    """The same where all scores of `best` differ, and in the same order of draws."""
    positions: list[int] = []
    propensities: list[float] = []
    coins = uniforms[: 2 * k : 2]
    exploring = [coin < epsilon for coin in coins]
    left, at = width - len(closed), 0
    shut = sorted(closed.tolist()) if any(exploring) else []
    for place, explored in enumerate(exploring):
        while best[at] in positions:
            at += 1
        top = best[at]
        position = nth_open(int(uniforms[2 * place + 1] * left), shut + positions) if explored else top
        propensity = epsilon * (1 / left)
        propensities.append(propensity + (1 - epsilon) if position == top else propensity)
        positions.append(position)
        left -= 1
    return Slate(positions, propensities, exploring)


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
    n, width = scores.shape
    if k == 0:
        return [np.zeros(0, np.int64)] * n
    blocks = width // BLOCK
    everything = torch.from_numpy(np.require(scores, requirements="W"))  # torch wants memory that it could write
    if k >= blocks:
        values, positions = everything.topk(k, dim=1)
        tied = scores >= values.numpy()[:, -1:]
        crowded = np.count_nonzero(tied, axis=1) > k
    else:
        body = everything[:, : blocks * BLOCK].reshape(n, BLOCK, blocks)  # block b: positions b, b + blocks, b + 2 blocks, ...
        peaks = np.maximum.reduce(body.numpy(), axis=1)
        _, top = torch.from_numpy(peaks).topk(k, dim=1)
        tail = torch.arange(blocks * BLOCK, width).expand(n, -1)
        inside = torch.cat([(top[:, None, :] + blocks * torch.arange(BLOCK)[:, None]).flatten(1), tail], dim=1)
        some = everything.gather(1, inside)
        values, at = some.topk(k, dim=1)
        positions = inside.gather(1, at)
        least = values.numpy()[:, -1:]
        crowded = (np.count_nonzero(some.numpy() >= least, axis=1) > k) | (np.count_nonzero(peaks >= least, axis=1) > k)
    out: list[IntArray] = list(positions.numpy())
    for row in np.flatnonzero(crowded).tolist():
        tied_positions = np.flatnonzero(scores[row] >= float(values[row, -1]))
        out[row] = tied_positions[np.argsort(-scores[row, tied_positions], kind="stable")]
    return out
