"""What the checks share: how a broken rule is said, and how arrays are compared."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qurate.types import Observation

SIGMAS = 4.5
"""Standard errors that a frequency may be off."""


def require(ok: object, rule: str, detail: str = "") -> None:
    """The one place where a rule breaks.

    Raises:
        AssertionError: `ok` is false; its message begins with the rule.
    """
    if not ok:
        raise AssertionError(f"{rule}: {detail}" if detail else rule)


def require_array(value: Any, shape: tuple[int, ...], dtype: Any, rule: str, name: str) -> None:
    """An array of exactly this shape and dtype."""
    got = f"{name} is {getattr(value, 'dtype', type(value).__name__)} {list(np.shape(value))}, expected {np.dtype(dtype)} {list(shape)}"
    require(isinstance(value, np.ndarray) and value.shape == shape and value.dtype == dtype, rule, got)


def equal(one: Sequence[NDArray[Any]], other: Sequence[NDArray[Any]]) -> bool:
    """Whether two sequences of arrays have the same values."""
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other))


def arrays_of(observation: Observation) -> list[NDArray[Any]]:
    """The arrays of an observation: those of the state, candidates, mask."""
    return [*observation.state, observation.actions.candidates, observation.actions.mask]


def with_mask(observation: Observation, mask: NDArray[np.int8]) -> Observation:
    """The same observation with another mask."""
    return observation._replace(actions=observation.actions._replace(mask=mask))
