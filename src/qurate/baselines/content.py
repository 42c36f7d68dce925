"""Content-based ranking: items whose features are like those of the customer's last items."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qurate.baselines.training_rows import recent_items
from qurate.choosing.policy import over_candidates
from qurate.errors import Code, UserError
from qurate.types import FloatArray, Observation


@dataclass(eq=False)
class ContentScorer:
    """Cosine between an item's features and the weighted mean of the customer's last items, mapped to (0, 1].

    Args:
        unit: float32 [N + 1, F], item features of length 1 (`fit_content_scorer`).
        counts: bool [M + 1], which types of history rows count.
        last: history rows used.
        decay: weight of a row relative to the next newer one.
    """

    unit: FloatArray
    counts: NDArray[np.bool_]
    last: int = 10
    decay: float = 0.8

    name = "content"

    def scores(self, observation: Observation) -> FloatArray:
        """float32 [B, K]; 0 for customers without a history, so that another scorer can rank for them."""
        row, item, weight = recent_items(observation, self.counts, self.last, self.decay)
        profile = np.zeros((len(observation.state.history_items), self.unit.shape[1]), np.float32)
        np.add.at(profile, row, weight[:, None] * self.unit[item])
        length = np.linalg.norm(profile, axis=1, keepdims=True)
        np.divide(profile, length, out=profile, where=length > 0)
        table = profile @ self.unit.T
        table += np.float32(1 + 1e-6)
        table *= np.float32(0.5) * (length > 0)
        return over_candidates(table, observation.actions.candidates)


def fit_content_scorer(item_features: FloatArray, counts: NDArray[np.bool_]) -> ContentScorer:
    """The scorer of items with features [N + 1, F], row 0 padding.

    Raises:
        UserError: no item has a feature.
    """
    if not item_features.size or not item_features[1:].any():
        raise UserError(
            "item features", "none", where="items", hint="give an items file with columns besides item_id", code=Code.NO_ITEM_FEATURES
        )
    length = np.linalg.norm(item_features, axis=1, keepdims=True)
    return ContentScorer(np.divide(item_features, length, out=np.zeros_like(item_features), where=length > 0), counts)
