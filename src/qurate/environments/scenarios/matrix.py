"""Matrix: every rating of every user is known, and a user leaves when what was shown lately is too much alike.

The world of KuaiRec's environments (CIRS: Gao et al. 2022, arXiv:2204.01266; DORL: Gao et al. 2023, arXiv:2307.04571) over any rating
matrix; docs/scenarios/matrix.md. What is shown is rated, and the rating is the reward. After an item a

    alike = how many of the last `leave_window` items shown before it are like a (share a category, or have near vectors)
    P(gone) = strength where alike >= leave_similar, else 0

so that the best item now, shown again with its like, ends the visit.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from qurate.environments.catalogue_features import catalogue_features
from qurate.environments.engine import Outcome
from qurate.environments.history_rows import Group
from qurate.environments.rating_matrix import RatingMatrix
from qurate.environments.rng import Keys, purposes, uniforms
from qurate.errors import Code, UserError
from qurate.types import Availability, FloatArray, IntArray

RATING, SHOWN = 1, 2
MINUTE = 60_000_000
_ONE = np.array(1)  # without a dimension, see rng.py


class Matrix:
    """`World` of the engine. State per lane: which user of the matrix it is, and the last items shown, oldest first.

    Args:
        matrix: ratings [V, N], and which items are alike.
        strength: probability that a user leaves when too much was alike, 0 to 1: at 0 nothing that is shown changes anything later.
        leave_window: items shown before that count, at least 1 (2 by name).
        leave_similar: so many of them alike end the visit, 1 to `leave_window`.

    Raises:
        UserError: a number outside its range.
    """

    has_values = True
    with_replacement = False
    rows_per_step = 2  # shown, rating
    state_names: tuple[str, ...] = ("who", "recent")

    def __init__(self, matrix: RatingMatrix, strength: float = 1.0, leave_window: int = 5, leave_similar: int = 2) -> None:
        if leave_similar > leave_window:
            expected = f"leave_similar from 1 to leave_window ({leave_window})"
            raise UserError(expected, str(leave_similar), where="leave_similar", hint="2 if left out", code=Code.BAD_ARGUMENT)
        self.matrix, self.strength, self.leave_window, self.leave_similar = matrix, strength, leave_window, leave_similar
        n = len(matrix.item_ids)
        self.item_ids, self.type_names, self.component_names = matrix.item_ids, ["rating", "shown"], ["rating"]
        self.component_weights = np.ones(1, np.float32)
        self.availability = Availability.always(n)
        self.user_feature_names: list[str] = []
        columns = self._columns()
        self.item_features, self.feature_names = catalogue_features(columns) if columns else (np.zeros((n + 1, 0), np.float32), [])
        self._flat, self._alike, self._n_items = matrix.ratings.reshape(-1), matrix.alike.reshape(-1), np.array(n)
        self._draw, self._first_draw = purposes(0, 1), purposes(1 << 32, 1)

    def items_table(self) -> pl.DataFrame:
        """item_id, and the category where it is known."""
        return pl.DataFrame({"item_id": self.item_ids} | self._columns())

    def _columns(self) -> dict[str, NDArray[np.str_]]:
        """The first category of each item: simulated catalogues have one."""
        categories = self.matrix.categories
        return {} if categories is None else {"category": np.array([text.split("|")[0] for text in categories])}

    def allocate(self, n: int) -> None:
        self.n = n
        self.who = np.zeros(n, np.int64)
        self.recent = np.zeros((n, self.leave_window), np.int64)
        self._dwell, self._chosen = np.full(n, MINUTE), np.zeros(n, np.int64)
        self._no_pause, self._nobody = np.zeros(n, np.float32), np.zeros(n, np.bool_)
        for constant in (self._dwell, self._chosen, self._no_pause, self._nobody):
            constant.flags.writeable = False

    def enter(self, lanes: IntArray, keys: Keys) -> FloatArray:
        self.who[lanes] = (uniforms(keys, self._first_draw)[0] * len(self.matrix.ratings)).astype(np.int64)
        self.recent[lanes] = 0
        return np.zeros((len(lanes), 0), np.float32)

    def respond(self, items: IntArray, stream: Keys, steps: IntArray) -> Outcome:
        rating = self._flat.take(self.who * self._n_items + items - _ONE)
        too_much = self.alike(items) >= self.leave_similar
        gone = too_much & (uniforms(stream, self._draw)[0] < self.strength) if np.count_nonzero(too_much) else self._nobody
        self.recent[:, :-1] = self.recent[:, 1:]
        self.recent[:, -1] = items
        groups = [Group(SHOWN, None, items, 0), Group(RATING, None, items, 0, rating)]
        return Outcome(rating[:, None], self._chosen, groups, self._dwell, self._no_pause, gone)

    def alike(self, items: IntArray) -> IntArray:
        """How many of the last items of each customer are like `items` [B]: int64 [B]."""
        pairs = (items * (self._n_items + _ONE))[:, None] + self.recent
        total: IntArray = np.add.reduce(self._alike.take(pairs), 1, np.int64)
        return total
