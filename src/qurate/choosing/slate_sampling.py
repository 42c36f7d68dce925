"""Drawing positions from scores, and the exact probability of what was drawn: pure functions on arrays.

All functions take *legal scores* `x` [B, K]: -inf marks a candidate that may not be shown, every other entry is
finite. A slate [B, k] holds distinct positions, -1 where nothing was left. The propensity of slate[b, j] is its
probability at position j given slate[b, :j]; it is 0 where the position is -1.
Rows that are one broadcast row (stride 0) are handled once.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from qurate.types import IntArray, Propensities

Legal = NDArray[np.floating]
"""[B, K] float32 or float64, -inf = may not be shown."""

REJECTION_ROUNDS = 8
"""Random draws before the exact search: a draw costs one number a row, the search a pass over all candidates."""
LOWEST_LOGIT = -1e10
"""Below it a float64 could not hold logit + Gumbel noise; the probability is 0 long before."""


def is_shared(array: NDArray[np.generic]) -> bool:
    """True where all rows are the same memory, or there is only one."""
    return array.shape[0] == 1 or array.strides[0] == 0


def rows_of(x: Legal, rows: IntArray) -> Legal:
    """`x[rows]`, without a copy where all rows are the same."""
    return np.broadcast_to(x[:1], (len(rows), x.shape[1])) if is_shared(x) else x[rows]


def legal_count(x: Legal) -> IntArray:
    """[B] how many candidates may be shown."""
    if is_shared(x):
        return np.full(len(x), np.count_nonzero(x[0] > -np.inf), np.int64)
    count: IntArray = np.count_nonzero(x > -np.inf, axis=1).astype(np.int64)
    return count


def take(x: Legal, slate: IntArray) -> Legal:
    """[B, k] scores at the positions of a slate, -inf where the position is -1."""
    own: Legal = x[np.arange(len(slate))[:, None], slate]
    return np.where(slate >= 0, own, -np.inf)


def without(x: Legal, slate: IntArray) -> Legal:
    """A copy of `x` in which the positions of a slate may not be shown."""
    left = np.array(x)
    rows, at = np.nonzero(slate >= 0)
    left[rows, slate[rows, at]] = -np.inf
    return left


def nth_true(flags: NDArray[np.bool_], n: IntArray) -> IntArray:
    """[B] position of the n-th (from 0) true entry of each row."""
    at: IntArray = np.argmax(np.cumsum(flags, axis=1, dtype=np.int32) > n[:, None], axis=1)
    return at


# --- uniform ---------------------------------------------------------------------------------------------------------


def draw_uniform(x: Legal, k: int, rng: np.random.Generator) -> IntArray:
    """[B, k] legal positions, each uniform over those still left."""
    n, width = x.shape
    slate = np.full((n, k), -1, np.int64)
    late = np.arange(n)
    if 1 < k < width:  # whole slates at once, where no position is illegal or comes twice: every slate is as likely
        at = rng.integers(width, size=(n, k))
        ordered = np.sort(at, axis=1)
        good = (take(x, at) > -np.inf).all(axis=1) & (ordered[:, 1:] != ordered[:, :-1]).all(axis=1)
        slate[good] = at[good]
        late = np.flatnonzero(~good)
    if len(late):
        slate[late] = _draw_uniform_in_turn(rows_of(x, late), k, rng)
    return slate


def _draw_uniform_in_turn(x: Legal, k: int, rng: np.random.Generator) -> IntArray:
    """`draw_uniform`, position by position."""
    n, width = x.shape
    slate = np.full((n, k), -1, np.int64)
    for j in range(k):
        todo = np.arange(n)
        for _ in range(REJECTION_ROUNDS):
            at = rng.integers(width, size=len(todo))
            good = (x[todo, at] > -np.inf) & (slate[todo, :j] != at[:, None]).all(axis=1)
            slate[todo[good], j] = at[good]
            todo = todo[~good]
            if not len(todo):
                break
        if len(todo):
            left = without(rows_of(x, todo), slate[todo, :j]) > -np.inf
            count = left.sum(axis=1)
            nth = (rng.random(len(todo)) * count).astype(np.int64)
            slate[todo, j] = np.where(count > 0, nth_true(left, nth), -1)
    return slate


def propensity_uniform(x: Legal, slate: IntArray) -> Propensities:
    """float64 [B, k]: 1 / number of legal positions left."""
    left = legal_count(x)[:, None] - np.arange(slate.shape[1])
    return np.where((slate >= 0) & (take(x, slate) > -np.inf), 1.0 / np.maximum(left, 1), 0.0)


def probabilities_uniform(x: Legal) -> Propensities:
    """float64 [B, K], rows sum to 1, or to 0 where nothing is legal."""
    return (x > -np.inf) / np.maximum(legal_count(x), 1)[:, None].astype(np.float64)


# --- greedy ----------------------------------------------------------------------------------------------------------


def draw_greedy(x: Legal, k: int, rng: np.random.Generator) -> IntArray:
    """[B, k] positions by falling score; equal scores in uniformly random order."""
    return _best_one(x, rng)[:, None] if k == 1 else _best_many(x, k, rng)


def _best_one(x: Legal, rng: np.random.Generator) -> IntArray:
    u = rng.random(len(x))
    if is_shared(x):
        ties = np.flatnonzero((x[0] == x[0].max()) & (x[0] > -np.inf))
        return ties[(u * len(ties)).astype(np.int64)] if len(ties) else np.full(len(x), -1, np.int64)
    best: IntArray = x.argmax(axis=1)
    top = x[np.arange(len(x)), best]
    tied = x == top[:, None]
    count = np.count_nonzero(tied, axis=1)
    some = np.flatnonzero((count > 1) & (top > -np.inf))
    if len(some):
        best[some] = nth_true(tied[some], (u[some] * count[some]).astype(np.int64))
    best[top == -np.inf] = -1
    return best


def _best_many(x: Legal, k: int, rng: np.random.Generator) -> IntArray:
    n, width = x.shape
    top = min(k, width)
    threshold = np.partition(x, width - top, axis=1)[:, width - top]
    keep = x > threshold[:, None]
    tied = x == np.where(threshold > -np.inf, threshold, np.nan)[:, None]  # nan: a short row has no tie for its last place
    wanted = top - np.count_nonzero(keep, axis=1)
    crowded = np.count_nonzero(tied, axis=1) > wanted
    keep |= tied & ~crowded[:, None]
    some = np.flatnonzero(crowded)
    if len(some):  # more ties than places: those with the largest of equally distributed numbers get them
        key = np.where(tied[some], rng.random((len(some), width)), -1.0)
        at = np.argpartition(key, width - top, axis=1)[:, width - top :]
        at = np.take_along_axis(at, np.argsort(-np.take_along_axis(key, at, 1), axis=1), 1)
        row, place = np.nonzero(np.arange(top) < wanted[some, None])
        keep[some[row], at[row, place]] = True
    rows, columns = np.divmod(np.flatnonzero(keep), width)
    start = np.searchsorted(rows, np.arange(n))
    slate = np.full((n, k), -1, np.int64)
    slate[rows, np.arange(len(rows)) - start[rows]] = columns
    order = np.lexsort((rng.random((n, k)), -take(x, slate)), axis=-1)
    return np.take_along_axis(slate, order, 1)


def propensity_greedy(x: Legal, slate: IntArray) -> Propensities:
    """float64 [B, k]: 1 / number of equally good positions left where the best was taken, else 0."""
    own = take(x, slate)
    k = slate.shape[1]
    rest = x if k == 1 else without(x, slate)
    best, ties = _top(rest)
    if k == 1:
        return np.where((own > -np.inf) & (own == best[:, None]), 1.0 / ties[:, None], 0.0)
    out = np.zeros(slate.shape)
    for j in range(k - 1, -1, -1):  # from the end, so that what is left at j is known
        better, same = own[:, j] > best, (own[:, j] == best) & (own[:, j] > -np.inf)
        ties = np.where(better, 1, ties + same)
        best = np.where(better, own[:, j], best)
        out[:, j] = np.where(better | same, 1.0 / ties, 0.0)
    return out


def _top(x: Legal) -> tuple[Legal, IntArray]:
    """[B] the largest score and how many hold it."""
    if is_shared(x):
        best = x[0].max()
        return np.full(len(x), best), np.full(len(x), np.count_nonzero(x[0] == best), np.int64)
    top = x.max(axis=1)
    return top, np.count_nonzero(x == top[:, None], axis=1).astype(np.int64)


def probabilities_greedy(x: Legal) -> Propensities:
    """float64 [B, K]: uniform over the best."""
    best = (x == x.max(axis=1, keepdims=True)) & (x > -np.inf)
    p: Propensities = best / np.maximum(best.sum(axis=1, keepdims=True), 1).astype(np.float64)
    return p


# --- softmax ---------------------------------------------------------------------------------------------------------


def _logits(x: Legal, temperature: float) -> NDArray[np.float64]:
    """(score - best) / temperature as float64, -inf where illegal."""
    top = x.max(axis=1, keepdims=True).astype(np.float64)
    top[top == -np.inf] = 0.0
    z: NDArray[np.float64] = x.astype(np.float64)
    with np.errstate(over="ignore"):
        z -= top
        z /= temperature
    return np.maximum(z, LOWEST_LOGIT, out=z, where=x > -np.inf)


def draw_softmax(x: Legal, k: int, rng: np.random.Generator, temperature: float) -> IntArray:
    """[B, k] positions drawn one after the other with probability exp(score / temperature) / sum over those left.

    One position by the inverse distribution function; more by the Gumbel top-k trick (Kool et al. 2019), which has
    the distribution of drawing without replacement.
    """
    if k > 1:
        z = _logits(x, temperature)
        z -= np.log(np.maximum(rng.standard_exponential(z.shape), np.finfo(np.float64).tiny))
        return _best_many(z, k, rng)
    u = rng.random(len(x))
    if is_shared(x):
        total = np.cumsum(np.exp(_logits(x[:1], temperature))[0])
        at = np.searchsorted(total, u * total[-1], side="right")
        return np.where(total[-1] > 0, at, -1)[:, None]
    totals = np.cumsum(np.exp(_logits(x, temperature)), axis=1)
    at = np.argmax(totals > (u * totals[:, -1])[:, None], axis=1)
    return np.where(totals[:, -1] > 0, at, -1)[:, None]


def propensity_softmax(x: Legal, slate: IntArray, temperature: float) -> Propensities:
    """float64 [B, k]; the sums over what is left are built from the end, so that nothing cancels."""
    if is_shared(x) and slate.shape[1] == 1:
        p = probabilities_softmax(x[:1], temperature)[0]
        return np.where(slate >= 0, p[slate], 0.0)
    z = _logits(x, temperature)
    own = take(z, slate)
    rest = without(z, slate)
    top = np.maximum(rest.max(axis=1), LOWEST_LOGIT)
    mass = np.exp(rest - top[:, None]).sum(axis=1)  # of what is left, in units of exp(top)
    out = np.zeros(slate.shape)
    for j in range(slate.shape[1] - 1, -1, -1):
        higher = np.maximum(top, own[:, j])
        share = np.exp(own[:, j] - higher)
        mass = mass * np.exp(top - higher) + share
        top = higher
        out[:, j] = np.divide(share, mass, out=np.zeros_like(share), where=share > 0)
    return out


def probabilities_softmax(x: Legal, temperature: float) -> Propensities:
    """float64 [B, K], rows sum to 1, or to 0 where nothing is legal."""
    p: Propensities = np.exp(_logits(x, temperature))
    total = p.sum(axis=1, keepdims=True)
    np.divide(p, total, out=p, where=total > 0)
    return p


# --- mixtures --------------------------------------------------------------------------------------------------------

Draw = Callable[[Legal, int, np.random.Generator], IntArray]
Propensity = Callable[[Legal, IntArray], Propensities]


def _one_list(xs: Sequence[Legal]) -> bool:
    """Whether all parts choose from the same legal scores, so that all of them run out of items at the same place."""
    return all(x is xs[0] for x in xs)


def living_weights(xs: Sequence[Legal], weights: NDArray[np.float64], slate: IntArray) -> Propensities:
    """float64 [B, parts]: weights of the parts that still have something to show below `slate`, summing to 1."""
    if _one_list(xs):
        return np.broadcast_to(weights, (len(slate), len(xs)))
    left = [legal_count(x) - np.count_nonzero(take(x, slate) > -np.inf, axis=1) for x in xs]
    living: Propensities = np.where(np.stack(left, axis=1) > 0, weights, 0.0)
    total = living.sum(axis=1, keepdims=True)
    np.divide(living, total, out=living, where=total > 0)
    return living


def draw_mixture(xs: Sequence[Legal], draws: Sequence[Draw], weights: NDArray[np.float64], k: int, rng: np.random.Generator) -> IntArray:
    """[B, k]: at each position a part is drawn by its weight and shows its next item that is not above already.

    Each part makes one order of k positions; skipping what other parts took leaves the rest of the order distributed
    as the part's own draw from what is left (uniform, greedy with random ties and softmax all have this property).
    """
    n = len(xs[0])
    slate, rows = np.full((n, k), -1, np.int64), np.arange(n)
    if k == 1:
        part = _draw_parts(living_weights(xs, weights, slate[:, :0]), rng.random(n))
        for p in range(len(xs)):
            mine = np.flatnonzero(part == p)
            if len(mine):
                slate[mine, 0] = draws[p](rows_of(xs[p], mine), 1, rng)[:, 0]
        return slate
    orders = np.stack([draw(x, k, rng) for x, draw in zip(xs, draws)], axis=1)  # [B, parts, k]
    gone = orders < 0
    luck = rng.random((k, n))
    same = _draw_parts(np.broadcast_to(weights, (k * n, len(xs))), luck.reshape(-1)).reshape(k, n) if _one_list(xs) else None
    for j in range(k):
        part = _draw_parts(living_weights(xs, weights, slate[:, :j]), luck[j]) if same is None else same[j]
        own = gone[rows, part]
        first = own.argmin(axis=1)
        slate[:, j] = np.where(own[rows, first], -1, orders[rows, part, first])
        gone |= orders == slate[:, j, None, None]
    return slate


def _draw_parts(living: Propensities, u: Propensities) -> IntArray:
    """[B] a part by its weight [B, parts], from uniform numbers [B]."""
    cumulative = living.cumsum(axis=1)
    part: IntArray = (cumulative > u[:, None] * cumulative[:, -1:]).argmax(axis=1)
    return part


def propensity_mixture(
    xs: Sequence[Legal], propensities: Sequence[Propensity], weights: NDArray[np.float64], slate: IntArray
) -> Propensities:
    """float64 [B, k]: sum over parts of weight x the part's propensity."""
    parts = np.stack([propensity(x, slate) for x, propensity in zip(xs, propensities)], axis=2)
    if _one_list(xs):
        return (parts * weights).sum(axis=2)  # type: ignore[no-any-return]
    living = np.stack([living_weights(xs, weights, slate[:, :j]) for j in range(slate.shape[1])], axis=1)
    total: Propensities = (parts * living).sum(axis=2)
    return total
