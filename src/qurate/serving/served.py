"""A trained model as the service sees it: with the rule it is served by, and what training knew of each customer."""

import json
import logging
import threading
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from qurate.choosing.seen import SeenRule
from qurate.decision import Decision, HistoryRows
from qurate.errors import UserError
from qurate.events.features import feature_matrix
from qurate.events.schema import OTHER
from qurate.events.service_log import REWARDS
from qurate.events.vocabulary import Vocabulary
from qurate.files import replacing_file
from qurate.models.answer import AnswerRequest, decide_all, shortlists
from qurate.models.histories import EMPTY_HISTORY, Histories
from qurate.models.model import Model
from qurate.models.recommend import exclusion, histories_of, nobody_known, note_slate_size
from qurate.serving.deployments import DecisionRequest
from qurate.serving.stores.base import EventRow
from qurate.serving.windows import UserWindow
from qurate.types import SESSION_GAP_US, FloatArray

log = logging.getLogger("qurate.serving")

MAX_ENCODED = 10_000
"""Customers whose encoded window is kept (1.4 KB each for 50 rows)."""
NEVER_ENCODED: tuple[UserWindow | None, HistoryRows] = (None, EMPTY_HISTORY)


class ServedModel:
    """A `Deployment` of a model directory's content.

    Args:
        model: as loaded.
        epsilon: share of the answers drawn uniformly, in [0, 1]; it decides the propensities.
        exclude: which of a customer's own items are not shown again, None = the model's default.
    """

    def __init__(self, model: Model, epsilon: float, exclude: SeenRule | None = None) -> None:
        self.model, self.epsilon = model, epsilon
        self.exclude = exclusion(model)[1] if exclude is None else exclude
        self._past = _past(model)
        self._encoded: dict[str, tuple[UserWindow | None, HistoryRows]] = {}
        types = model.vocabulary.types
        self.event_types = None if OTHER in types else types  # what has no name of its own is OTHER
        self._counting = threading.Lock()  # events arrive in the thread of the store
        self._newest_of: dict[str, tuple[int, int]] = {}  # user -> item and time
        self._counted_from = 0 if model.lists is None else model.lists.newest
        self.shown_in_history = model.shown_in_history and int(model.vocabulary.type_index(["shown"])[0]) > 0

    @property
    def version(self) -> str:
        """Of the model."""
        return self.model.version

    @property
    def window(self) -> int:
        """Rows of history a state holds."""
        return self.model.window

    @property
    def item_ids(self) -> Sequence[str]:
        """The catalogue."""
        return self.model.vocabulary.items

    def known(self, item_ids: Sequence[str]) -> list[str]:
        """Those of the ids that are in the catalogue, in their order."""
        return [item for item, index in zip(item_ids, self.model.vocabulary.item_index(item_ids)) if index > 0]

    def warm_up(self) -> None:
        """Answers requests for nobody, so that the first customer does not wait for tables and buffers."""
        types = self.model.vocabulary.types[:1]
        one = UserWindow((None,) * len(types), types, (1,) * len(types), (0.0,) * len(types))
        k = self.model.slate_size or 1
        self.decide([DecisionRequest("", window, 2, k) for window in (UserWindow(), one)], np.random.default_rng(0))

    def user_history(self, user_id: str) -> UserWindow | None:
        """See `Deployment.user_history`."""
        user = None if self._past is None else self._past.index.get(user_id)
        if user is None or self._past is None:
            return None
        rows, names = self._past.rows(user), self.model.vocabulary
        items = tuple(names.items[i - 1] if i else None for i in rows.items.tolist())
        types = tuple(names.types[i - 1] for i in rows.types.tolist())
        return UserWindow(items, types, tuple(rows.times.tolist()), tuple(rows.values.tolist()))

    def decide(self, requests: Sequence[DecisionRequest], rng: np.random.Generator) -> list[Decision]:
        """The answers, through network and choice together."""
        histories = self._histories(requests)
        for k in {request.k for request in requests}:
            note_slate_size(self.model, k)
        asked = [
            AnswerRequest(
                history=history,
                clock_us=request.clock_us,
                k=request.k,
                user_id=request.user_id,
                candidates=request.candidates,
                features=request.features,
                exclude=request.exclude,
                seen=request.seen,
                user=self._user_features(request.user_id, request.context),
                explain=request.explain,
            )
            for request, history in zip(requests, histories)
        ]
        with self._counting:
            return decide_all(self.model, asked, self.epsilon, rng)

    @property
    def counts_events(self) -> bool:
        """See `Deployment`."""
        return self.model.lists is not None

    def count(self, events: Sequence[EventRow]) -> None:
        """See `Deployment`. What is not newer than the training log is in the model's counters already, and left out."""
        lists = self.model.lists
        types = self.event_types
        rows = [row for row in events if row.item_id and row.timestamp_us > self._counted_from and (types is None or row.type in types)]
        items = self.model.vocabulary.item_index([row.item_id or "" for row in rows]).tolist()
        with self._counting:
            for row, item in zip(rows, items):
                if item and lists is not None:
                    known = self._newest_of.pop(row.user_id) if row.user_id in self._newest_of else self._newest_in_training(row.user_id)
                    last, at = known
                    lists.add(item, row.timestamp_us, last if 0 <= row.timestamp_us - at < SESSION_GAP_US else 0)
                    self._newest_of[row.user_id] = known if row.timestamp_us < at else (item, row.timestamp_us)
            while len(self._newest_of) > MAX_ENCODED:
                del self._newest_of[next(iter(self._newest_of))]

    def shortlists(self, requests: Sequence[DecisionRequest]) -> list[tuple[str, ...]]:
        """See `Deployment`."""
        clock = np.array([request.clock_us for request in requests], np.int64)
        histories = self._histories(requests)
        with self._counting:
            lists = shortlists(self.model, histories, clock)
        names = self.model.vocabulary.items
        return [tuple(names[item - 1] for item in items.tolist()) for items in lists]

    def _newest_in_training(self, user_id: str) -> tuple[int, int]:
        """The last item of a customer in the training log and its time, 0 and 0 where there is none."""
        user = None if self._past is None else self._past.index.get(user_id)
        if user is None or self._past is None:
            return 0, 0
        rows = self._past.rows(user)
        named = np.flatnonzero(rows.items)
        return (int(rows.items[named[-1]]), int(rows.times[named[-1]])) if len(named) else (0, 0)

    def _histories(self, requests: Sequence[DecisionRequest]) -> list[HistoryRows]:
        """The encoded windows; those of customers who have done nothing since their last request are not encoded again."""
        known = [self._encoded.get(request.user_id, NEVER_ENCODED) for request in requests]
        new = [i for i, (request, (window, _)) in enumerate(zip(requests, known)) if window is not request.window]
        for i, rows in zip(new, encode_windows(self.model.vocabulary, [requests[i].window for i in new])):
            known[i] = self._encoded[requests[i].user_id] = requests[i].window, rows
        while len(self._encoded) > MAX_ENCODED:
            del self._encoded[next(iter(self._encoded))]
        return [rows for _, rows in known]

    def _user_features(self, user_id: str, context: dict[str, Any] | None) -> FloatArray | None:
        """float32 [1, U]: what the request's context names, the rest as training knew it; None where neither says anything."""
        if not self.model.user_dim:
            return None
        user = None if self._past is None else self._past.index.get(user_id)
        columns = self.model.user_spec.get("columns", [])  # a model of a simulated world has no names for them
        if context is not None and any(column["name"] in context for column in columns):
            known = {} if user is None or self._past is None else self._past.users.row(user, named=True)
            features, _ = feature_matrix(pl.DataFrame([known | context], strict=False), self.model.user_spec)
            return features
        return None if user is None or self._past is None else self._past.features(user)

    def write_catalogue(self, directory: Path) -> None:
        """Puts the items with their features beside the store, so that `ingest DIR` knows more of them than their ids.

        What was never shown to anybody is in no log; without this file the next model could not show it either. Where it
        cannot be written the service starts all the same, and says so.
        """
        ids = pl.DataFrame({"item_id": self.model.vocabulary.items}, schema={"item_id": pl.String})
        items = ids if self._past is None else self._past.items
        target, beside = directory / "items.parquet", directory / ".items.parquet.tmp"
        try:
            items.write_parquet(beside)
            beside.replace(target)
        except (OSError, pl.exceptions.ComputeError) as error:  # polars reports a full disk as the latter
            log.warning("note: %s was not written (%s): give `ingest` the items with --items", target, error)
        else:
            self._write_rewards(directory / REWARDS)
        finally:
            beside.unlink(missing_ok=True)

    def _write_rewards(self, target: Path) -> None:
        """What an event is worth to this model, so that `ingest DIR` weighs the answers as it does."""
        a = self.model.answering
        worth = {name: {**a.rewards.get(name, {}), "weight": float(weight)} for name, weight in zip(a.components, a.weights)}
        try:
            with replacing_file(target) as beside:
                beside.write_bytes(json.dumps(worth, ensure_ascii=False).encode())
        except OSError as error:
            log.warning("note: %s was not written (%s): give `ingest` the weights with --rewards", target, error.strerror)


def encode_windows(vocabulary: Vocabulary, windows: Sequence[UserWindow]) -> list[HistoryRows]:
    """The windows in a model's indices, all of them in one pass. Unknown items are 0; rows of unknown types are left out."""
    items = vocabulary.item_index(list(chain.from_iterable(window.items for window in windows))).astype(np.int64)
    types = vocabulary.type_index(list(chain.from_iterable(window.types for window in windows))).astype(np.int64)
    times = np.array(list(chain.from_iterable(window.times for window in windows)), np.int64)
    values = np.array(list(chain.from_iterable(window.values for window in windows)), np.float32)
    known, out, start = types > 0, [], 0
    for window in windows:
        rows: Any = slice(start, start + len(window.types))
        start = rows.stop
        if not known[rows].all():
            rows = np.flatnonzero(known[rows]) + rows.start
        out.append(HistoryRows(items[rows], types[rows], times[rows], values[rows]))
    return out


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
