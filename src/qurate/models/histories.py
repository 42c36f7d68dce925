"""Where histories come from: the users of a training log, kept in the model, and the events of a request."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from io import BytesIO
from typing import Any

import numpy as np
import polars as pl
from safetensors.numpy import load, save

from qurate.decision import HistoryRows
from qurate.errors import Code, UserError, nearest
from qurate.events.features import Spec, feature_matrix
from qurate.events.vocabulary import Vocabulary
from qurate.mdp.storage import Dataset
from qurate.types import EventArrays, FloatArray

EMPTY_HISTORY = HistoryRows(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))


EVENTS, USERS, ITEMS = "histories/events.safetensors", "histories/users.parquet", "histories/items.parquet"
"""Where a model directory keeps them. The tables are those of the dataset."""


@dataclass(frozen=True, eq=False)
class Histories:
    """The history rows and features of the users of a training log, and its table of items.

    Attributes:
        users, items: as in `Dataset`, one row for each user and each item.
        user_features: float32 [U, F], `users` encoded.
    """

    arrays: EventArrays
    users: pl.DataFrame
    items: pl.DataFrame
    user_features: FloatArray

    @classmethod
    def of(cls, dataset: Dataset) -> "Histories":
        """Those of a dataset."""
        return cls(dataset.arrays, dataset.users, dataset.items, dataset.user_features)

    @cached_property
    def index(self) -> dict[str, int]:
        """User id -> number."""
        return {user: i for i, user in enumerate(self.users["user_id"].to_list())}

    @cached_property
    def log_end(self) -> int:
        """Time of the last event, microseconds."""
        return int(self.arrays.time.max(initial=0))

    def saved(self) -> dict[str, bytes]:
        """Files of a model directory: name -> content."""
        a, files = self.arrays, {}
        columns = {"item": a.item, "type": a.type, "time": a.time, "value": a.value, "user_start": a.user_start}
        files[EVENTS] = save({name: np.ascontiguousarray(column) for name, column in columns.items() if name != "value" or a.value.any()})
        for name, table in ((USERS, self.users), (ITEMS, self.items)):
            table.write_parquet(whole := BytesIO(), compression="zstd", statistics=False)
            files[name] = whole.getvalue()
        return files

    @classmethod
    def from_saved(cls, files: Mapping[str, bytes], user_spec: Spec) -> "Histories":
        """What `saved` wrote.

        Raises:
            ValueError: the files are of different models.
        """
        columns = load(files[EVENTS])
        columns.setdefault("value", np.zeros(len(columns["item"]), np.float32))
        users, items = (pl.read_parquet(BytesIO(files[name])) for name in (USERS, ITEMS))
        if len(columns["user_start"]) != users.height + 1 or columns["user_start"][-1] != len(columns["item"]):
            raise ValueError(f"histories of {len(columns['user_start']) - 1} users, a table of {users.height}")
        return cls(EventArrays(**columns), users, items, feature_matrix(users, user_spec)[0])

    def rows(self, user: int, last: int | None = None) -> HistoryRows:
        """The `last` rows of user number `user`, oldest first; None = all."""
        a = self.arrays
        start, stop = a.user_start[user], a.user_start[user + 1]
        start = start if last is None else max(start, stop - last)
        rows = slice(start, stop)
        return HistoryRows(a.item[rows].astype(np.int64), a.type[rows].astype(np.int64), a.time[rows], a.value[rows])

    def features(self, user: int) -> FloatArray:
        """Encoded features, float32 [1, U]."""
        return self.user_features[user : user + 1]


def encode_context(user_spec: Spec, context: dict[str, Any]) -> FloatArray:
    """A customer's features by name, as a model sees them, float32 [1, U]; features that are not given count as missing.

    Raises:
        UserError: a feature the model does not know (the nearest known one is named), or a value that is none.
    """
    known = [column["name"] for column in user_spec.get("columns", [])]
    for name, value in context.items():
        if not isinstance(value, str | bool | int | float | np.number | np.bool_ | date | list | tuple | None):
            hint = "text, a number, true or false, or a list of texts"
            raise UserError("a value of a feature", f"{value!r:.60}", where=f"context, {name}", hint=hint, code=Code.BAD_FEATURES)
        if name not in known:
            hint = nearest(name, known) if known else "it was trained without features of customers"
            raise UserError("a feature the model was trained with", str(name), where="context", hint=hint, code=Code.UNKNOWN_FEATURE)
    return feature_matrix(pl.DataFrame([context], strict=False), user_spec)[0]


def parse_history(vocabulary: Vocabulary, events: Sequence[dict[str, Any]]) -> HistoryRows:
    """Events of a request as rows; unknown items count as no item.

    Raises:
        UserError: an unknown event type (the nearest known one is named), a bad time or value, or times that run backwards.
    """
    if not isinstance(events, Iterable):
        raise UserError("a list of events", f"{events!r:.60}", where="history", code=Code.BAD_HISTORY)
    items, types, times, values = [], [], [], []
    for number, event in enumerate(events):
        where = f"history[{number}]"
        if not isinstance(event, dict):
            raise UserError(
                "an event as a dict", repr(event)[:60], where=where, hint='write {"item_id": ..., "type": ...}', code=Code.BAD_HISTORY
            )
        kind = str(event.get("type", ""))
        if kind not in vocabulary.types:
            hint = nearest(kind, vocabulary.types)
            raise UserError("an event type of the training log", repr(kind), where=where, hint=hint, code=Code.UNKNOWN_TYPE)
        items.append(str(event.get("item_id", "")))
        types.append(kind)
        times.append(_microseconds(event.get("timestamp", number * 1_000_000), where))
        values.append(_value(event.get("value"), where))
    clock = np.asarray(times, np.int64)
    if (np.diff(clock) < 0).any():
        got = "an earlier one after a later one"
        raise UserError("events in the order of their time", got, where="history", hint="sort them", code=Code.BAD_HISTORY)
    item_index = vocabulary.item_index(items).astype(np.int64)
    return HistoryRows(item_index, vocabulary.type_index(types).astype(np.int64), clock, np.asarray(values, np.float32))


def _value(given: Any, where: str) -> float:
    try:
        value = float(given or 0)
    except (TypeError, ValueError):
        value = math.nan
    if not abs(value) < float(np.finfo(np.float32).max):  # NaN too
        raise UserError("a finite number as value", repr(given), where=where, hint="leave it out where there is none", code=Code.BAD_VALUE)
    return value


def _microseconds(stamp: Any, where: str) -> int:
    if isinstance(stamp, int) and abs(stamp) < 2**62:
        return stamp
    try:
        moment = datetime.fromisoformat(str(stamp))
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)  # as in a log: the machine's own zone plays no part
        return round((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1_000_000)
    except (ValueError, OverflowError):
        raise UserError(
            "an ISO 8601 time or microseconds", repr(stamp), where=where, hint="2026-01-31T12:00:00Z", code=Code.BAD_TIME
        ) from None
