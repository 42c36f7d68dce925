"""Rules by a single clock (mdp/clocks.py): what is popular now, and what others chose next."""

from dataclasses import dataclass

import numpy as np

from qurate.types import FloatArray, Observation

CLOCK_RULES = ("count_15m", "count_1h", "co_clicks_1h")
"""Columns that are baselines where candidates come with clocks."""


@dataclass(frozen=True, eq=False)
class ColumnScorer:
    """By one column of what is known of the candidates at their decision; what is not known counts as 0.

    Args:
        name: of the column.
    """

    name: str

    def scores(self, observation: Observation) -> FloatArray:
        """float32 [B, K].

        Raises:
            ValueError: the candidates have no such column.
        """
        values, columns = observation.actions.values, observation.actions.columns
        if values is None or self.name not in columns:
            raise ValueError(f"candidates without {self.name}")
        return np.nan_to_num(values[:, :, columns.index(self.name)])
