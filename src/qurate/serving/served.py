"""A trained model as the service sees it: with the rule it is served by, and what training knew of each customer."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from qurate.choosing.selection import Rule
from qurate.decision import Decision, HistoryRows
from qurate.errors import UserError
from qurate.events.features import feature_matrix
from qurate.events.vocabulary import Vocabulary
from qurate.models.answer import decide
from qurate.models.histories import EMPTY_HISTORY, Histories
from qurate.models.model import Model
from qurate.models.recommend import histories_of, nobody_known
from qurate.types import FloatArray

log = logging.getLogger("qurate.serving")


class ServedModel:
    """A `Decider` from a model directory's content.

    Args:
        model: as loaded.
        rule: how scores become an answer (`GREEDY`, `epsilon_greedy_rule(0.1)`); it decides the propensities.
    """

    def __init__(self, model: Model, rule: Rule) -> None:
        self.model, self.rule = model, rule
        self._past = _past(model)

    @property
    def vocabulary(self) -> Vocabulary:
        """Of the model."""
        return self.model.vocabulary

    @property
    def version(self) -> str:
        """Of the model."""
        return self.model.version

    @property
    def window(self) -> int:
        """Rows of history a state holds."""
        return self.model.window

    @property
    def shown_in_history(self) -> bool:
        """Whether decisions of one item stand in the history."""
        return self.model.shown_in_history

    def warm_up(self) -> None:
        """Answers one request, so that the first customer does not wait for tables and buffers."""
        one = HistoryRows(np.ones(1, np.int64), np.ones(1, np.int64), np.ones(1, np.int64), np.zeros(1, np.float32))
        for history in (EMPTY_HISTORY, one):
            self.decide("", history, 2, 1, None, (), None, False, np.random.default_rng(0))

    def user_history(self, user_id: str) -> HistoryRows | None:
        """The customer's last rows in the training data."""
        user = None if self._past is None else self._past.index.get(user_id)
        return None if user is None or self._past is None else self._past.rows(user, self.window)

    def decide(
        self,
        user_id: str,
        history: HistoryRows,
        clock_us: int,
        k: int,
        candidates: list[str] | None,
        exclude: tuple[str, ...],
        context: dict[str, Any] | None,
        explain: bool,
        rng: np.random.Generator,
    ) -> Decision:
        """The answer for a customer with this history."""
        user = self._user_features(user_id, context)
        return decide(
            self.model,
            history,
            clock_us,
            k,
            user_id=user_id,
            candidates=candidates,
            exclude=exclude,
            user=user,
            explain=explain,
            rule=self.rule,
            rng=rng,
        )

    def _user_features(self, user_id: str, context: dict[str, Any] | None) -> FloatArray | None:
        """float32 [1, U]: what the request's context names, the rest as training knew it; None where neither says anything."""
        if not self.model.user_dim:
            return None
        user = None if self._past is None else self._past.index.get(user_id)
        if context is not None and any(column["name"] in context for column in self.model.user_spec["columns"]):
            known = {} if user is None or self._past is None else self._past.users.row(user, named=True)
            features, _ = feature_matrix(pl.DataFrame([known | context], strict=False), self.model.user_spec)
            return features
        return None if user is None or self._past is None else self._past.features(user)

    def write_catalogue(self, directory: Path) -> None:
        """Puts the items with their features beside the store, so that `ingest DIR` knows more of them than their ids.

        What was never shown to anybody is in no log; without this file the next model could not show it either. Where it
        cannot be written the service starts all the same, and says so.
        """
        ids = pl.DataFrame({"item_id": self.vocabulary.items}, schema={"item_id": pl.String})
        items = ids if self._past is None else self._past.items
        target, beside = directory / "items.parquet", directory / ".items.parquet.tmp"
        try:
            items.write_parquet(beside)
            beside.replace(target)
        except (OSError, pl.exceptions.ComputeError) as error:  # polars tells a full disk as the latter
            log.warning("note: %s was not written (%s): give `ingest` the items with --items", target, error)
        finally:
            beside.unlink(missing_ok=True)


def _past(model: Model) -> Histories | None:
    """What the training data holds of its customers; a service also starts without."""
    try:
        past = histories_of(model)
        if past is None and model.kind != "environment":
            log.warning(nobody_known(model))
        return past
    except UserError as error:
        log.warning("note: customers' histories from before the service are not used: %s", error)
        return None
