"""Content-based ranking: items whose features are like those of the customer's last items."""

import numpy as np
from numpy.typing import NDArray

from qurate.baselines.training_rows import recent_items
from qurate.choosing.policy import over_candidates
from qurate.errors import Code, UserError
from qurate.types import FloatArray, Observation


class ContentScorer:
    """Cosine between an item's features and the weighted mean of the customer's last items, mapped to (0, 1].

    Args:
        item_features: [N + 1, F], row 0 padding.
        counts: bool [M + 1], which types of history rows count.
        last: history rows used.
        decay: weight of a row relative to the next newer one.

    Raises:
        UserError: no item has a feature.
    """

    name = "content"

    def __init__(self, item_features: FloatArray, counts: NDArray[np.bool_], last: int = 10, decay: float = 0.8) -> None:
        if not item_features.size or not item_features[1:].any():
            raise UserError(
                "item features", "none", where="items", hint="give an items file with columns besides item_id", code=Code.NO_ITEM_FEATURES
            )
        length = np.linalg.norm(item_features, axis=1, keepdims=True)
        self.unit = np.divide(item_features, length, out=np.zeros_like(item_features), where=length > 0)
        self.counts, self.last, self.decay = counts, last, decay

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
