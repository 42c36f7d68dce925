"""Intervals: Student t over seeds, and a bootstrap over users crossed with seeds; both are made for paired differences.

Fewer than two seeds give no interval over seeds: the limits are then NaN here and null in JSON, never zero.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_CHUNK_BYTES = 32 << 20
"""Resampling weights held at a time."""


class Interval(NamedTuple):
    """A mean and the limits of its interval; the limits are NaN where the data allow none."""

    mean: float
    lo: float
    hi: float

    def ci(self) -> list[float | None]:
        """`[lo, hi]` for JSON, where NaN and infinity become null."""
        return [number(self.lo), number(self.hi)]

    def to_dict(self) -> dict[str, float | list[float | None] | None]:
        """`{"mean", "ci": [lo, hi]}` of the contract."""
        return {"mean": number(self.mean), "ci": self.ci()}

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`: null becomes NaN."""
        return cls(*(math.nan if value is None else float(value) for value in (entry["mean"], *entry["ci"])))


def number(value: float) -> float | None:
    """A float for JSON: None where it is not finite."""
    return float(value) if math.isfinite(value) else None


def _central_probability(t: float, df: int) -> float:
    """P(-t < T < t) of Student's t for a whole number of degrees of freedom, t >= 0.

    Finite trigonometric sums: Abramowitz & Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
    """
    theta = math.atan2(t, math.sqrt(df))
    cos2 = math.cos(theta) ** 2
    odd = df % 2 == 1
    # ratios of successive terms: odd df 2/3, 4/5, ...; even df 1/2, 3/4, ...; each times cos^2
    first = np.arange(2.0 if odd else 1.0, df - 2.0, 2.0)
    terms = np.cumprod(first / (first + 1.0) * cos2)
    series = 1.0 + float(terms.sum())
    if not odd:
        return math.sin(theta) * series
    inner = math.sin(theta) * math.cos(theta) * series if df > 1 else 0.0
    return 2.0 / math.pi * (theta + inner)


def t_quantile(p: float, df: int) -> float:
    """Quantile of Student's t distribution, to about 1e-9.

    Args:
        p: probability in (0, 1).
        df: degrees of freedom, a whole number >= 1. Above 2,000 the Cornish-Fisher series is used (A&S 26.7.5).
    """
    if not (0.0 < p < 1.0 and df >= 1):
        raise ValueError(f"expected 0 < p < 1 and df >= 1, got p={p}, df={df}")
    if p < 0.5:
        return -t_quantile(1.0 - p, df)
    if p == 0.5:
        return 0.0
    if df > 2_000:
        z = NormalDist().inv_cdf(p)
        return z + (z**3 + z) / (4 * df) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * df**2)
    central, lo, hi = 2.0 * p - 1.0, 0.0, 1.0
    while _central_probability(hi, df) < central:
        hi *= 2.0
    for _ in range(80):
        middle = 0.5 * (lo + hi)
        lo, hi = (middle, hi) if _central_probability(middle, df) < central else (lo, middle)
    return 0.5 * (lo + hi)


def student_t(values: ArrayLike, level: float = 0.95) -> Interval:
    """Mean of independent values (one per seed) and its Student t interval at `level`."""
    x = np.asarray(values, np.float64)
    if x.size == 0:
        return Interval(math.nan, math.nan, math.nan)
    mean = float(x.mean())
    if x.size == 1:
        return Interval(mean, math.nan, math.nan)
    half = t_quantile(0.5 + level / 2, x.size - 1) * float(x.std(ddof=1)) / math.sqrt(x.size)
    return Interval(mean, mean - half, mean + half)


def paired_t(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> Interval:
    """Mean of a - b and its interval, where a[i] and b[i] come from the same seed."""
    if len(a) != len(b):
        raise ValueError(f"expected as many seeds on both sides, got {len(a)} and {len(b)}")
    return student_t(np.asarray(a, np.float64) - np.asarray(b, np.float64), level)


def sum_by_user(users: NDArray[np.int64], n_users: int, values: Floats) -> Floats:
    """Sums of `values` [M, T] over the targets of each user: [M, U]; `users` [T] are 0..U-1."""
    return np.stack([np.bincount(users, row, n_users) for row in np.atleast_2d(values)])


def user_bootstrap(sums: Floats, counts: Floats, draws: int = 1_000, seed: int = 0) -> Floats:
    """Bootstrap draws of ratio metrics (sum over users / count over users), averaged over seeds.

    A draw resamples users once for all seeds, because every seed's model answers the same users, and then
    resamples the seeds' deviations from their mean. Few seeds would understate their own spread: the deviations are
    scaled by sqrt(S / (S - 1)), and by the ratio of Student's 97.5 % quantile to the normal one, which makes percentile
    intervals of 95 % as wide as `student_t`'s where the seeds' spread is all there is. The same `seed` and number of
    users give the same resampled users: the difference of two calls' draws is therefore the draw of the paired difference.

    Args:
        sums: float64 [M, S, U], a metric's total for each user under each seed.
        counts: float64 [M, U], targets of each user; a metric with targets of fewer than two users has NaN draws: drawing one user
            again and again says nothing of others.
        draws: number of bootstrap draws B.
        seed: of the resampling.

    Returns:
        float64 [B, M].
    """
    m, s, u = sums.shape
    wider = math.sqrt(s / (s - 1)) * t_quantile(0.975, s - 1) / NormalDist().inv_cdf(0.975) if s > 1 else 0.0
    flat, out = sums.reshape(m * s, u).T.copy(), np.empty((draws, m))
    totals = np.where((counts > 0).sum(axis=1) > 1, counts.T, 0)
    users_rng, seeds_rng = (np.random.default_rng([seed, part]) for part in (0, 1))
    rows = max(1, min(draws, _CHUNK_BYTES // (8 * max(u, 1))))
    for start in range(0, draws, rows):
        b = min(rows, draws - start)
        picks = users_rng.integers(0, u, (b, u)) + np.arange(b)[:, None] * u
        weights = np.bincount(picks.ravel(), minlength=b * u).reshape(b, u).astype(np.float64)
        count = weights @ totals
        ratio = (weights @ flat).reshape(b, m, s) / np.where(count > 0, count, np.nan)[:, :, None]
        centre = ratio.mean(axis=2)
        if s > 1:
            drawn = seeds_rng.integers(0, s, (b, 1, s)).repeat(m, axis=1)
            centre += (np.take_along_axis(ratio, drawn, axis=2).mean(axis=2) - centre) * wider
        out[start : start + b] = centre
    return out


def percentile(mean: float, draws: Floats, level: float = 0.95) -> Interval:
    """Percentile interval of bootstrap draws [B] around the estimate `mean`."""
    kept = draws[np.isfinite(draws)]
    if kept.size == 0 or not math.isfinite(mean):
        return Interval(mean, math.nan, math.nan)
    lo, hi = np.quantile(kept, [0.5 - level / 2, 0.5 + level / 2])
    return Interval(mean, float(lo), float(hi))
