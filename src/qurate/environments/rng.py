"""Counter-based random numbers: every number is a pure function of (seed, customer, step, purpose).

Nothing is drawn from a running stream, so a customer meets the same luck whoever is simulated beside them, and all
policies of one seed meet the same customers with the same luck (common random numbers).

The hash is the output function of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators,
OOPSLA 2014, with Stafford's constants), applied to key + counter * golden ratio. All arithmetic is uint64 modulo 2^64.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qurate.types import FloatArray, IntArray

Keys = NDArray[np.uint64]

# Constants are arrays without a dimension: NumPy converts a number at every call, which takes as long as a sum for one customer.
GOLDEN = np.array(0x9E3779B97F4A7C15, np.uint64)
_M1, _M2 = np.array(0xBF58476D1CE4E5B9, np.uint64), np.array(0x94D049BB133111EB, np.uint64)
_S30, _S27, _S31, _S40 = (np.array(shift, np.uint64) for shift in (30, 27, 31, 40))
_CUSTOMER = np.array(0xD1342543DE82EF95, np.uint64)
_UNIT24 = np.array(2.0**-24, np.float32)
_ONE, _MINUS_TWO, _TURN = (np.array(number, np.float32) for number in (1, -2, 2 * np.pi))

PURPOSES_PER_STEP = 16
"""Numbers one customer may draw in one step; the counter of a step starts at step * 16."""

STEP_STRIDE = np.array((int(GOLDEN) * PURPOSES_PER_STEP) % 2**64, np.uint64)
"""What one step adds to a key."""


_AHEAD = np.arange(16, dtype=np.uint64) * STEP_STRIDE


def mix(z: Keys) -> Keys:
    """SplitMix64's finaliser, in place: 64 bits in, 64 well-mixed bits out (a bijection)."""
    scratch = z >> _S30
    z ^= scratch
    z *= _M1
    np.right_shift(z, _S27, scratch)
    z ^= scratch
    z *= _M2
    np.right_shift(z, _S31, scratch)
    z ^= scratch
    return z


def customer_keys(seed: int | Keys, customers: IntArray) -> Keys:
    """One key per customer, uint64 of the shape of `customers` (numbers >= 0); `seed`: one for all, or one for each."""
    own = np.array([seed % 2**64], np.uint64) if isinstance(seed, int) else seed
    start = mix(own + GOLDEN)
    return mix(start + customers.astype(np.uint64) * _CUSTOMER)


def purposes(first: int, count: int) -> Keys:
    """Offsets of `count` purposes, [count, 1], to be added to keys [B]."""
    return (np.arange(first, first + count, dtype=np.uint64) * GOLDEN)[:, None]


def uniforms(keys: Keys, offsets: Keys) -> FloatArray:
    """float32 in [0, 1) with 24 random bits; the shape of `keys + offsets` broadcast, e.g. [purposes, B]."""
    z = mix(keys + offsets)
    unit: FloatArray = (z >> _S40).astype(np.float32) * _UNIT24
    return unit


class StepDraws:
    """What follows from the luck of a step alone, called once a step with the keys of that step.

    One customer alone gets the draws of the next steps at once: so few numbers take as long as one. They are the same numbers.

    Args:
        draw: keys [m] -> arrays [..., m].
    """

    def __init__(self, draw: Callable[[Keys], tuple[NDArray[Any], ...]]) -> None:
        self._draw = draw
        self._ahead: dict[int, tuple[NDArray[Any], ...]] = {}

    def __call__(self, keys: Keys) -> tuple[NDArray[Any], ...]:
        if len(keys) > 1:
            return self._draw(keys)
        known = self._ahead.get(keys.item())
        if known is None:
            ahead = keys + _AHEAD
            several = self._draw(ahead)
            self._ahead = {key: tuple(x[..., i : i + 1] for x in several) for i, key in enumerate(ahead.tolist())}
            known = self._ahead[keys.item()]
        return known


def normals(keys: Keys, offsets: Keys) -> FloatArray:
    """Nearly standard normal float32: the sum of four 16-bit uniforms, so bounded by 3.47; shape as in `uniforms`.

    Integer sums keep the value independent of how many are drawn at once.
    """
    z = mix(keys + offsets)
    total = z.view(np.uint16).reshape(*z.shape, 4).sum(axis=-1, dtype=np.int32)
    normal: FloatArray = (total - np.int32(131070)).astype(np.float32) * np.float32(3.0**0.5 / 65535.0)
    return normal


def uniform_items(keys: Keys, k: int, n_items: int) -> IntArray:
    """k items 1..n_items for each of `keys` [B, 1], each drawn uniformly from all of them, int64 [B, k].

    A hash gives four draws of 16 bits each, so a probability is off by at most 1 / 65,536 of 1.
    """
    z = mix(keys + np.arange(-(-k // 4), dtype=np.uint64) * GOLDEN)
    drawn = z.view(np.uint16)[:, :k].astype(np.int64)
    drawn *= n_items
    drawn >>= 16
    drawn += 1
    return drawn


def gaussian_pairs(keys: Keys, offsets: Keys) -> FloatArray:
    """Two independent standard normal float32 for each of `keys` [B], [2, B]; `offsets` are two purposes, [2, 1].

    By the method of Box and Muller (1958), with the tails that `normals` lacks, for what is exponentiated: absolute values reach 5.7.
    """
    return box_muller(uniforms(keys, offsets))


def box_muller(unit: FloatArray) -> FloatArray:
    """Two independent standard normal float32 [2, B] of two uniform numbers [2, B] in [0, 1)."""
    radius, angle = _polar(unit)
    return np.array([radius * np.cos(angle), radius * np.sin(angle)])


def gaussian(unit: FloatArray) -> FloatArray:
    """The first of the two, [B], without the work for the second."""
    radius, angle = _polar(unit)
    one: FloatArray = radius * np.cos(angle)
    return one


def _polar(unit: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Length and angle of two independent standard normal numbers as a vector, [B] each."""
    return np.sqrt(np.log(_ONE - unit[0]) * _MINUS_TWO), unit[1] * _TURN
