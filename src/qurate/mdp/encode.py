"""From text to numbers: an `EventLog` as flat arrays, not yet sorted by user.

Ids become codes through polars categoricals, the only pass over the text; everything after this file works on numpy.
"""

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any
from uuid import uuid4

import numpy as np
import polars as pl
from numpy.typing import NDArray

from qurate.errors import Code, UserError
from qurate.events.schema import CANDIDATE, OTHER, STANDARD_TYPES, EventLog
from qurate.types import HISTORY, TEST, TRAIN, VALID, FloatArray, IntArray

NO_SPLIT, UNKNOWN_SPLIT = 255, 254
"""The row names no split, or one of another name."""

MAX_TYPES = 254
"""Types are numbered from 1 in one byte, and `shown` may come to those of the log."""

WITHOUT_CANDIDATES = "nothing is known of what else was available; a column candidates says what there was"
SPLIT_NAMES = {TRAIN: "train", VALID: "valid", TEST: "test", HISTORY: "history"}
_SPLIT_CODE = pl.col("split").cast(pl.Enum([SPLIT_NAMES[code] for code in range(4)]), strict=False).to_physical()
SPLIT = pl.when(pl.col("split").is_null()).then(pl.lit(NO_SPLIT, pl.UInt8)).otherwise(_SPLIT_CODE.fill_null(UNKNOWN_SPLIT))


@dataclass(frozen=True, slots=True)
class EventColumns:
    """E events."""

    user: NDArray[np.int32]
    item: NDArray[np.int32]  # 0 = the event names no item
    type: NDArray[np.uint8]  # 1..M
    time: IntArray  # microseconds
    value: FloatArray  # 0 where absent
    session: NDArray[np.int32]  # code of the session id, -1 where absent
    decision: NDArray[np.int32]  # decision that the event names, -1 where none or unknown
    split: NDArray[np.uint8]  # NO_SPLIT where the log has none
    order: IntArray  # row of the source, which breaks ties of time

    def take(self, index: NDArray[Any]) -> "EventColumns":
        """The events at `index` (positions or a bool mask), in that order."""
        return EventColumns(*(getattr(self, field.name)[index] for field in fields(self)))


@dataclass(frozen=True, slots=True)
class DecisionColumns:
    """D decisions, their shown items and explicit candidates as ragged lists."""

    user: NDArray[np.int32]
    time: IntArray
    session: NDArray[np.int32]
    split: NDArray[np.uint8]
    order: IntArray  # row of the source, -1 where unknown
    as_of: IntArray  # last event row (arrival order) that the policy knew, -1 where not recorded
    shown: NDArray[np.int32]  # [sum k]
    shown_start: IntArray  # [D + 1]
    propensity: FloatArray  # [sum k], NaN where not logged
    candidates: NDArray[np.int32]  # [sum K]
    candidates_start: IntArray  # [D + 1]
    columns: list[str]  # [G] what the log says of each candidate at its decision
    shown_values: FloatArray  # [sum k, G], NaN = not known
    candidate_values: FloatArray  # [sum K, G]
    excluded: NDArray[np.int32]  # [sum X] what could not be shown of all that was available
    excluded_start: IntArray  # [D + 1]

    @property
    def size(self) -> int:
        """D."""
        return len(self.user)

    def take(self, index: NDArray[Any]) -> "DecisionColumns":
        """The decisions at `index` (positions), in that order."""
        flat, start = ragged_take(self.shown_start, index)
        pool, pool_start = ragged_take(self.candidates_start, index)
        shut, shut_start = ragged_take(self.excluded_start, index)
        return DecisionColumns(
            user=self.user[index],
            time=self.time[index],
            session=self.session[index],
            split=self.split[index],
            order=self.order[index],
            as_of=self.as_of[index],
            shown=self.shown[flat],
            shown_start=start,
            propensity=self.propensity[flat],
            candidates=self.candidates[pool],
            candidates_start=pool_start,
            columns=self.columns,
            shown_values=self.shown_values[flat],
            candidate_values=self.candidate_values[pool],
            excluded=self.excluded[shut],
            excluded_start=shut_start,
        )


@dataclass(frozen=True, slots=True)
class Encoded:
    """A log as arrays. Items are 1..N in text order, users 0..U-1 in text order."""

    events: EventColumns
    decisions: DecisionColumns | None
    users: list[str]
    items: list[str]
    types: list[str]
    notes: list[str]  # what was left out


def ragged_take(start: IntArray, index: NDArray[Any]) -> tuple[IntArray, IntArray]:
    """Flat positions of the lists at `index` and the new starts, for lists given by `start` [n + 1]."""
    sizes = np.diff(start)[index]
    new_start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    flat = np.arange(new_start[-1]) + np.repeat(start[:-1][index] - new_start[:-1], sizes)
    return flat, new_start


def encode(log: EventLog, items: pl.DataFrame | None, users: pl.DataFrame | None, rewarded: Collection[str] = ()) -> Encoded:
    """Read the lazy tables once and give every id a number.

    Args:
        log: the event log; events without user and session, or without time, are left out (readers reject them).
        items: declared items (`item_id`), known even where no event names them.
        users: declared users (`user_id`).
        rewarded: event types that keep their names however rare they are, beside the standard ones.

    Raises:
        UserError: the log is empty.
    """
    user_ids, item_ids, session_ids, decision_ids, type_ids = everything = [pl.Categories.random() for _ in range(5)]
    # polars forgets categories as soon as no series has them; these empty ones keep them until the codes are resolved.
    alive = [pl.Series([], dtype=pl.Categorical(categories)) for categories in everything]
    for table, column, categories in ((items, "item_id", item_ids), (users, "user_id", user_ids)):
        if table is not None:
            table[column].cast(pl.Categorical(categories))  # enters the ids
    decisions, lost = None, 0
    if log.decisions is not None:
        decisions, lost = _collect_decisions(log.decisions, user_ids, item_ids, session_ids, decision_ids)
    frame, notes = _collect_events(log.events, user_ids, item_ids, session_ids, decision_ids, type_ids, decisions is not None)
    notes += [f"{lost} decisions that repeat an id, show nothing or have no user left out"] if lost else []
    if frame.height == 0 and (decisions is None or decisions.height == 0):
        raise UserError(
            "at least one event", "an empty log", where=", ".join(log.source) or "the log", hint="check the path", code=Code.NO_EVENTS
        )
    user_names, user_rank = _ranks(user_ids)
    item_names, item_rank = _ranks(item_ids)
    type_names, type_code, folded = _coded_types(frame["type"].to_numpy(), type_ids, {*rewarded, *STANDARD_TYPES})
    notes += [f"{folded} rare event types stand as one, {OTHER}: at most {MAX_TYPES} are told apart"] if folded else []
    row_of_decision = np.full(_size(decision_ids), -1, np.int32)
    alive.clear()
    coded = None
    if decisions is not None:
        row_of_decision[_numbers(decisions["decision"])] = np.arange(decisions.height, dtype=np.int32)
        coded, unread = _decision_columns(decisions, user_rank, item_rank, lists=log.kind == "exposure")
        notes += unread
    named = frame["decision"].fill_null(-1).cast(pl.Int64).to_numpy() if decisions is not None else None
    events = EventColumns(
        user=user_rank[_numbers(frame["user"])],
        item=_lookup(frame["item"], item_rank + 1, 0),
        type=type_code,
        time=frame["time"].to_numpy(),
        value=frame["value"].to_numpy(),
        session=frame["session"].cast(pl.Int32).fill_null(-1).to_numpy(),
        decision=np.full(frame.height, -1, np.int32) if named is None else _named(named, row_of_decision),
        split=frame["split"].to_numpy(),
        order=frame["row"].to_numpy(),
    )
    if np.any(np.diff(events.order) < 0):
        events = events.take(np.argsort(events.order, kind="stable"))
    return Encoded(events, coded, user_names, item_names, type_names, notes)


def _coded_types(codes: NDArray[np.uint32], categories: pl.Categories, kept: Collection[str]) -> tuple[list[str], NDArray[np.uint8], int]:
    """The names in text order, the number 1..M of each event's type, and how many of the rarest became OTHER.

    A service stores whatever types its clients send, so their number must never make its log unreadable: at most
    MAX_TYPES are told apart, those of `kept` first.
    """
    known, rank = _ranks(categories)
    n = np.zeros(len(known), np.int64)
    np.add.at(n, rank, np.bincount(codes, minlength=len(rank)))
    present = [place for place in range(len(known)) if n[place]]
    rare: list[int] = []
    if len(present) > MAX_TYPES:
        present.sort(key=lambda place: (known[place] not in kept, -int(n[place]), known[place]))
        present, rare = present[: MAX_TYPES - 1], present[MAX_TYPES - 1 :]
    names = sorted({*(known[place] for place in present), *([OTHER] if rare else [])})
    number = np.zeros(len(known), np.uint8)
    for place in present:
        number[place] = names.index(known[place]) + 1
    if rare:
        number[rare] = names.index(OTHER) + 1
    return names, number[rank][codes], len(rare)


def _collect_events(
    lazy: pl.LazyFrame,
    user_ids: pl.Categories,
    item_ids: pl.Categories,
    session_ids: pl.Categories,
    decision_ids: pl.Categories,
    type_ids: pl.Categories,
    with_decisions: bool,
) -> tuple[pl.DataFrame, list[str]]:
    """The events with codes for ids, and what was left out."""
    columns = {
        "user": _code(pl.coalesce("user_id", "session_id"), user_ids),
        "item": _code(pl.col("item_id"), item_ids),
        "session": _code(pl.col("session_id"), session_ids),
        "decision": _code(pl.col("decision_id"), decision_ids) if with_decisions else pl.lit(None, pl.UInt32),
        "type": _code(pl.col("type"), type_ids),
        "time": pl.col("timestamp").cast(pl.Int64),
        "value": pl.col("value").cast(pl.Float32).fill_nan(0).fill_null(0),
        "split": SPLIT,
        "row": pl.col("row").cast(pl.Int64),
        "event": pl.when(pl.col("event_id").is_not_null()).then(pl.col("event_id").hash()),
    }
    frame = lazy.select(**columns).collect(engine="streaming")
    notes = []
    if any(frame[name].null_count() for name in ("user", "time", "type")):
        whole = frame.drop_nulls(["user", "time", "type"])
        notes.append(f"{frame.height - whole.height} events without user and session, time or type left out")
        frame = whole
    if frame["event"].null_count() < frame.height and frame["event"].n_unique() < frame.height:
        # A repeated delivery has the same id, user, type and item; comparing all four makes a collision of hashes harmless.
        again = pl.struct("event", "user", "type", "item").is_first_distinct() | pl.col("event").is_null()
        kept = frame.sort("row", maintain_order=True).filter(again)
        if kept.height < frame.height:  # elsewhere only ids that are missing were alike
            notes.append(f"{frame.height - kept.height} repeated event ids dropped")
        frame = kept
    return frame.drop("event"), notes


def _collect_decisions(
    lazy: pl.LazyFrame, user_ids: pl.Categories, item_ids: pl.Categories, session_ids: pl.Categories, decision_ids: pl.Categories
) -> tuple[pl.DataFrame, int]:
    """The decisions with codes for ids; the first of each decision_id, without those that showed nothing; how many went."""
    present = lazy.collect_schema().names()

    def items(column: str) -> pl.Expr:
        if column not in present:
            return pl.lit(None, pl.List(pl.UInt32))
        return pl.col(column).cast(pl.List(pl.Categorical(item_ids))).list.eval(pl.element().to_physical())

    columns = {
        "decision": _code(pl.col("decision_id"), decision_ids),
        "user": _code(pl.coalesce("user_id", "session_id"), user_ids),
        "time": pl.col("timestamp").cast(pl.Int64),
        "session": _code(pl.col("session_id"), session_ids),
        "shown": items("shown"),
        "propensity": pl.col("propensity").cast(pl.List(pl.Float32)),
        "candidates": items("candidates"),
        "excluded": items("excluded"),
        "split": SPLIT if "split" in present else pl.lit(NO_SPLIT, pl.UInt8),
        "row": pl.col("row").cast(pl.Int64).fill_null(-1) if "row" in present else pl.lit(-1, pl.Int64),
        "as_of": pl.col("as_of").cast(pl.Int64).fill_null(-1) if "as_of" in present else pl.lit(-1, pl.Int64),
    }
    own = [name for name in present if name.startswith(CANDIDATE)]
    frame = lazy.select(**columns, **{name: pl.col(name).cast(pl.List(pl.Float32)) for name in own}).collect()
    usable = pl.col("user").is_not_null() & pl.col("time").is_not_null() & (pl.col("shown").list.len() > 0)
    kept = frame.filter(usable).unique("decision", keep="first", maintain_order=True)
    return kept, frame.height - kept.height


def _decision_columns(
    frame: pl.DataFrame, user_rank: NDArray[np.int32], item_rank: NDArray[np.int32], *, lists: bool
) -> tuple[DecisionColumns, list[str]]:
    """The decisions as numbers, and what is not read of them; `lists`: where no candidates are named, a list stands for them."""
    shown, shown_start = _flat(frame["shown"])
    pool, pool_start = _flat(frame["candidates"])
    shut, shut_start = _flat(frame["excluded"])
    sizes = np.diff(shown_start)
    logged = frame["propensity"].list.len().fill_null(0).to_numpy() == sizes
    propensity = np.full(len(shown), np.nan, np.float32)
    if logged.any():
        values, _ = _flat(frame["propensity"].filter(pl.Series(logged)))
        propensity[np.repeat(logged, sizes)] = values.cast(pl.Float32).fill_null(float("nan")).to_numpy()
    columns, shown_values, candidate_values, unread = _candidate_values(frame, sizes, np.diff(pool_start))
    of_pool = (sizes > 1) & lists | (np.diff(pool_start) > 0)
    alone = np.repeat(~of_pool, sizes)
    for name, known in zip(columns, np.isfinite(shown_values[alone]).T):
        if known.any():
            n = len(np.unique(np.repeat(np.arange(len(sizes)), sizes)[alone][known]))
            where = f"in {n:,} decisions that do not name their candidates"
            unread.append(f"{CANDIDATE}{name} is not learned from {where}: {WITHOUT_CANDIDATES}")
    coded = DecisionColumns(
        user=user_rank[_numbers(frame["user"])],
        time=frame["time"].to_numpy(),
        session=frame["session"].cast(pl.Int32).fill_null(-1).to_numpy(),
        split=frame["split"].to_numpy(),
        order=frame["row"].to_numpy(),
        as_of=frame["as_of"].to_numpy(),
        shown=_lookup(shown, item_rank + 1, 0),
        shown_start=shown_start,
        propensity=propensity,
        candidates=_lookup(pool, item_rank + 1, 0),
        candidates_start=pool_start,
        columns=columns,
        shown_values=shown_values,
        candidate_values=candidate_values,
        excluded=_lookup(shut, item_rank + 1, 0),
        excluded_start=shut_start,
    )
    return coded, unread


def _candidate_values(frame: pl.DataFrame, shown: IntArray, pool: IntArray) -> tuple[list[str], FloatArray, FloatArray, list[str]]:
    """What the log says of each candidate: names, values of the shown items and of the candidates, and what is not read.

    Args:
        shown, pool: [D] lengths of the lists.
    """
    names = sorted(name for name in frame.columns if name.startswith(CANDIDATE))
    out = [np.full((int(sizes.sum()), len(names)), np.nan, np.float32) for sizes in (shown, pool)]
    unread = []
    for g, name in enumerate(names):
        sizes = frame[name].list.len().fill_null(0).to_numpy().astype(np.int64)
        wrong = (sizes > 0) & (sizes != np.where(pool > 0, pool, shown))
        if wrong.any():
            unread.append(
                f"{name[len(CANDIDATE) :]} has another length than the list in {np.count_nonzero(wrong):,} decisions, where it is not read"
            )
        for own, values, fits in ((shown, out[0], (sizes == shown) & (pool == 0)), (pool, out[1], sizes == pool)):
            fits = fits & (sizes > 0)
            if fits.any():
                numbers, _ = _flat(frame[name].filter(pl.Series(fits)))
                values[np.repeat(fits, own), g] = numbers.cast(pl.Float32).fill_null(float("nan")).to_numpy()
    for values in out:
        values[~np.isfinite(values)] = np.nan
    return [name[len(CANDIDATE) :] for name in names], out[0], out[1], unread


def _code(text: pl.Expr, categories: pl.Categories) -> pl.Expr:
    return text.cast(pl.Categorical(categories)).to_physical()


def _ranks(categories: pl.Categories) -> tuple[list[str], NDArray[np.int32]]:
    """The ids in text order, and the place of each code in that order."""
    codes = pl.int_range(_size(categories), dtype=pl.UInt32)  # Categories.to_series walks in Python, 20 times slower
    texts = pl.select(codes.cat.to(pl.Categorical(categories)).cast(pl.String)).to_series()
    order = texts.arg_sort(nulls_last=True).to_numpy()[: len(texts) - texts.null_count()]
    rank = np.zeros(len(texts), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    return texts.gather(order).to_list(), rank


def _size(categories: pl.Categories) -> int:
    """How many codes are taken: the code that a text gets which is no id."""
    return int(pl.Series([f"\0{uuid4()}"]).cast(pl.Categorical(categories)).to_physical()[0])


def _numbers(codes: pl.Series) -> IntArray:
    return codes.cast(pl.Int64).to_numpy()


def _lookup(codes: pl.Series, table: NDArray[np.int32], missing: int) -> NDArray[np.int32]:
    """`table[code]`, `missing` where the code is null."""
    null = codes.is_null().to_numpy()
    if not len(table):
        return np.full(len(codes), missing, np.int32)
    return np.where(null, np.int32(missing), table[codes.fill_null(0).to_numpy()]).astype(np.int32)


def _named(codes: IntArray, row_of_decision: NDArray[np.int32]) -> NDArray[np.int32]:
    found = np.full(len(codes), -1, np.int32)
    found[codes >= 0] = row_of_decision[codes[codes >= 0]]
    return found


def _flat(lists: pl.Series) -> tuple[pl.Series, IntArray]:
    """All elements of a list column and the starts [n + 1]; null lists are empty."""
    sizes = lists.list.len().fill_null(0).to_numpy().astype(np.int64)
    start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return lists.filter(pl.Series(sizes > 0, dtype=pl.Boolean)).explode(), start
