"""Features of a simulated catalogue, in numpy alone.

An environment may be made in a forked process (Gymnasium's AsyncVectorEnv). The threads of polars do not exist there, and a
call that waits for them waits for ever; so a simulated world must not use polars before it is asked for a table.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from qurate.events.features import MAX_VALUES, MIN_COVERAGE, fit_numbers, scale_numbers
from qurate.types import FloatArray


def catalogue_features(columns: Mapping[str, NDArray[np.str_] | NDArray[np.float64]]) -> tuple[FloatArray, list[str]]:
    """The features that a dataset gets from the same columns (`events.features.feature_matrix`), bit for bit.

    Args:
        columns: by name, [N] texts without "|", or [N] finite numbers.

    Returns:
        float32 [N + 1, F], row 0 zeros, and the F names.
    """
    n = len(next(iter(columns.values())))
    blocks, names = [np.zeros((n, 0), np.float32)], list[str]()
    for name, values in columns.items():
        if values.dtype.kind == "U":
            kept = _frequent(values.astype(np.str_))
            blocks.append((values[:, None] == kept).astype(np.float32))
            names += [f"{name}={value}" for value in kept]
        elif (column := fit_numbers(values.astype(np.float64), name)) is not None:
            blocks.append(scale_numbers(values.astype(np.float64), column))
            names.append(name)
    features = np.concatenate(blocks, axis=1)
    return np.vstack([np.zeros((1, features.shape[1]), np.float32), features]), names


def _frequent(values: NDArray[np.str_]) -> NDArray[np.str_]:
    """The texts that several rows share but not all, most frequent first, equally frequent ones by name."""
    distinct, counts = np.unique(values, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    shared = order[(counts[order] >= 2) & (counts[order] < len(values)) & (distinct[order] != "")][:MAX_VALUES]
    return distinct[shared] if counts[shared].sum() >= MIN_COVERAGE * len(values) else distinct[:0]
