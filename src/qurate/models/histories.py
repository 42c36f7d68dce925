"""Histories of the training log's users, and answers for them one by one or all at once."""

import logging
import math
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from qurate.decision import Decision, HistoryRows
from qurate.errors import Code, UserError, nearest
from qurate.events.features import feature_matrix
from qurate.mdp.storage import Dataset
from qurate.models.answer import EMPTY_HISTORY, AnswerRequest, decide, observe
from qurate.models.model import Model
from qurate.types import FloatArray

log = logging.getLogger("qurate.models")

BATCH = 256


class Histories:
    """The history rows and features of a dataset's users."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.index = {user: i for i, user in enumerate(dataset.user_ids)}
        self.log_end = int(dataset.arrays.time.max(initial=0))

    def rows(self, user: int, last: int | None = None) -> HistoryRows:
        """The `last` rows of user number `user`, oldest first; None = all."""
        a = self.dataset.arrays
        start, stop = a.user_start[user], a.user_start[user + 1]
        start = start if last is None else max(start, stop - last)
        rows = slice(start, stop)
        return HistoryRows(a.item[rows].astype(np.int64), a.type[rows].astype(np.int64), a.time[rows], a.value[rows])

    def features(self, user: int) -> FloatArray:
        """Encoded features, float32 [1, U]."""
        return self.dataset.user_features[user : user + 1]


@lru_cache(maxsize=2)
def _histories(path: str, digest: str | None) -> Histories:
    return Histories(Dataset.read(path))


def histories_of(model: Model) -> Histories | None:
    """Of the dataset the model was trained from; None where it is no longer there.

    Raises:
        UserError: another dataset stands in its place.
    """
    if model.histories is not None:
        return model.histories
    if model.dataset is None or not Path(model.dataset).is_dir():
        return None
    found = _histories(model.dataset, model.dataset_sha256)
    if found.dataset.sha256 != model.dataset_sha256:
        raise UserError(
            "the dataset the model was trained from",
            "another one",
            where=str(model.dataset),
            hint="ingest it again",
            code=Code.OTHER_DATASET,
        )
    return found


@lru_cache  # once for a model, not once for a user
def _note_once(text: str) -> None:
    log.warning(text)


def _missing(model: Model) -> str:
    """What stands where the training dataset should."""
    if model.dataset is not None:
        return "no such directory"
    return "a model that was not trained from one" if model.kind == "environment" else "one that was never written to a directory"


def nobody_known(model: Model) -> str:
    """The note for a model whose training dataset is not there."""
    where = model.dataset or "model"
    return f"note: no user of the training log is known: expected the training dataset, got {_missing(model)}, at {where}"


def clock_for(model: Model, rows: HistoryRows, log_end: int) -> int:
    """When a decision for this history is made, in microseconds.

    An organic log has no request times: its decisions are made at the customer's last event. In the other kinds the
    customer is taken to come back at the end of the log.
    """
    newest = int(rows.times[-1]) if len(rows.times) else log_end
    return newest if model.kind == "organic" else max(newest, log_end)


def recommend(
    model: Model,
    user: str | None,
    k: int,
    candidates: Sequence[str] | None,
    exclude: Sequence[str],
    context: dict[str, Any] | None,
    history: Sequence[dict[str, Any]] | None,
    explain: bool,
    seed: int,
) -> Decision:
    """See `Model.recommend`."""
    _check_k(k)
    if seed < 0:
        raise UserError("a seed of 0 or more", str(seed), where="seed", code=Code.BAD_SEED)
    exclude = exclude or ()
    for name, given in (("candidates", candidates), ("exclude", exclude)):
        if isinstance(given, str):  # its letters would be the ids
            raise UserError("a list of item ids", repr(given), where=name, hint=f"write {name}=[{given!r}]", code=Code.BAD_IDS)
    known, rows, features, log_end = False, EMPTY_HISTORY, None, time.time_ns() // 1000
    past = None
    if user is not None and history is None:
        past = histories_of(model)
        if past is None and model.kind != "environment":
            _note_once(nobody_known(model))
    if past is not None and user in past.index:
        number = past.index[user]
        known, rows, features, log_end = True, past.rows(number), past.features(number), past.log_end
    if history is not None:
        known, rows = True, parse_history(model, history)
        log_end = int(rows.times[-1]) if len(rows.times) else log_end
    if context:
        features, known = encode_context(model, context), True
    clock = clock_for(model, rows, log_end)
    request = AnswerRequest(
        history=rows, clock_us=clock, k=k, user_id=user, known=known, candidates=candidates, exclude=exclude, user=features,
        explain=explain,
    )  # fmt: skip
    return decide(model, request, rng=np.random.default_rng(seed))


def _check_k(k: int) -> None:
    if not isinstance(k, int | np.integer) or k < 1:  # text is the caller's mistake, not a fault of ours
        raise UserError("k of at least 1", repr(k), where="-k", hint="ask for one item or more", code=Code.BAD_K)


def encode_context(model: Model, context: dict[str, Any]) -> FloatArray:
    """A customer's features by name, as the model sees them, float32 [1, U]; features that are not given count as missing.

    Raises:
        UserError: a feature the model does not know (the nearest known one is named).
    """
    known = [column["name"] for column in model.user_spec.get("columns", [])]
    for name in context:
        if name not in known:
            hint = nearest(name, known) if known else "it was trained without features of customers"
            raise UserError("a feature the model was trained with", name, where="context", hint=hint, code=Code.UNKNOWN_FEATURE)
    return feature_matrix(pl.DataFrame([context], strict=False), model.user_spec)[0]


def parse_history(model: Model, events: Sequence[dict[str, Any]]) -> HistoryRows:
    """Events of a request as rows; unknown items count as no item.

    Raises:
        UserError: an unknown event type (the nearest known one is named), a bad time or value, or times that run backwards.
    """
    items, types, times, values = [], [], [], []
    for number, event in enumerate(events):
        where = f"history[{number}]"
        if not isinstance(event, dict):
            raise UserError(
                "an event as a dict", repr(event)[:60], where=where, hint='write {"item_id": ..., "type": ...}', code=Code.BAD_HISTORY
            )
        kind = str(event.get("type", ""))
        if kind not in model.vocabulary.types:
            raise UserError(
                "an event type of the training log",
                repr(kind),
                where=where,
                hint=nearest(kind, model.vocabulary.types),
                code=Code.UNKNOWN_TYPE,
            )
        items.append(str(event.get("item_id", "")))
        types.append(kind)
        times.append(_microseconds(event.get("timestamp", number * 1_000_000), where))
        values.append(_value(event.get("value"), where))
    clock = np.asarray(times, np.int64)
    if (np.diff(clock) < 0).any():
        raise UserError(
            "events in the order of their time",
            "an earlier one after a later one",
            where="history",
            hint="sort them",
            code=Code.BAD_HISTORY,
        )
    item_index = model.vocabulary.item_index(items).astype(np.int64)
    return HistoryRows(item_index, model.vocabulary.type_index(types).astype(np.int64), clock, np.asarray(values, np.float32))


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


def recommend_all(model: Model, k: int) -> Iterator[pl.DataFrame]:
    """The k best items of every user of the training log, in tables of 256 users: user_id, rank, item_id, score.

    Raises:
        UserError: the dataset is gone, or k below 1.
    """
    past = histories_of(model)
    _check_k(k)
    if past is None:
        where = str(model.dataset or "model")
        raise UserError("the training dataset", _missing(model), where=where, hint="--all-users needs its histories", code=Code.NO_DATASET)
    available = model.available_at(past.log_end)
    if available == 0:
        raise UserError(
            "an item that may be shown",
            "an empty catalogue",
            where=str(model.dataset),
            hint="see qurate inspect",
            code=Code.EMPTY_CATALOGUE,
        )
    k = min(k, available)
    catalogue = np.arange(1, available + 1, dtype=np.int64)
    names = np.array(["", *model.vocabulary.items], dtype=object)
    users = past.dataset.user_ids
    for first in range(0, len(users), BATCH):
        chunk = range(first, min(first + BATCH, len(users)))
        rows = [past.rows(u, model.window) for u in chunk]
        clock = np.array([clock_for(model, r, past.log_end) for r in rows], np.int64)
        worth, scores = model.values(observe(model, rows, clock, catalogue, past.dataset.user_features[chunk.start : chunk.stop]))
        best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        best = np.take_along_axis(best, np.argsort(-np.take_along_axis(scores, best, 1), axis=1, kind="stable"), 1)
        yield pl.DataFrame(
            {
                "user_id": np.repeat(users[chunk.start : chunk.stop], k),
                "rank": np.tile(np.arange(1, k + 1), len(chunk)),
                "item_id": names[catalogue[best].reshape(-1)].tolist(),
                "score": np.take_along_axis(worth, best, 1).reshape(-1),
            }
        )
