"""What is known of each candidate at one decision: its place in the list, what the log says of it there, and how the customer met
it before.

Training, evaluation and the service call the same function on the same arrays. Everything comes from the state's window and from
the list itself, so nothing that happened after the decision can enter. NaN says "not known"; a network reads it as the mean.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qurate.types import SESSION_GAP_US, Actions, FloatArray, IntArray, Observation, State

PLACE = "place"
"""The column of a candidate's position in the list that was shown, from 0."""
OF_PLACE = ("place", "place_inverse", "place_share")
OF_LAST = ("last_known", "steps_below_last", "just_below_last", "just_above_last", "nearness_below_last", "nearness_above_last")
OF_HISTORY = ("touched", "touched_in_visit", "recency", "recency_rank", "is_last", "log_hours_since", "log_count", "log_count_in_visit")
OF_STATE = ("log_seconds_since_last", "log_touched_in_list", "log_list", "log_rows_of_visit")
"""The same for all candidates of a decision: how much the others count depends on them."""
SESSION_GAP_S = np.float32(SESSION_GAP_US / 1e6)
ELEMENTS = 8_000_000
"""Comparisons of candidates with history rows made at a time."""


def feature_names(columns: Sequence[str], types: Sequence[str]) -> list[str]:
    """Names of the F features.

    Args:
        columns: of the log's candidates, `PLACE` among them where it is known.
        types: names of event types 1..M.
    """
    own = [name for column in columns if column != PLACE for name in (f"{column}_log", f"{column}_in_list")]
    of_place = [*OF_PLACE, *OF_LAST] if PLACE in columns else []
    by_type = [f"{what}_{name}" for what in ("log_count", "last_is") for name in types]
    return [*OF_HISTORY, *OF_STATE, *by_type, *of_place, *own]


def feature_count(columns: Sequence[str] | None, n_types: int) -> int:
    """F; 0 where `columns` is None: no features of candidates are used."""
    return 0 if columns is None else len(feature_names(columns, [""] * n_types))


def values_of(actions: Actions, columns: Sequence[str]) -> FloatArray:
    """What is said of the candidates by the names `columns`, float32 [B, K, G]; NaN where nothing is."""
    values = np.full((*actions.candidates.shape, len(columns)), np.nan, np.float32)
    for g, name in enumerate(columns):
        if actions.values is not None and name in actions.columns:
            values[:, :, g] = actions.values[:, :, actions.columns.index(name)]
    return values


def observed_features(observation: Observation, columns: Sequence[str], n_types: int) -> FloatArray:
    """Features of an observation's candidates, float32 [B, K, F]; a column that it does not have is not known."""
    values = values_of(observation.actions, columns)
    return candidate_features(observation.state, observation.actions.candidates, values, columns, n_types)


def candidate_features(
    state: State, candidates: NDArray[np.integer], values: FloatArray, columns: Sequence[str], n_types: int
) -> FloatArray:
    """Features of the candidates of B decisions, float32 [B, K, F]; rows of padding are arbitrary but finite or NaN.

    Args:
        candidates: [B, K] item indices, 0 = padding.
        values: float32 [B, K, G], what the log says of each candidate, NaN = not known.
        columns: [G] their names.
        n_types: M.
    """
    rows = max(1, ELEMENTS // max(candidates.shape[1] * state.history_items.shape[1], 1))
    if len(candidates) <= rows:
        return _features(state, candidates, values, columns, n_types)
    parts = [slice(i, i + rows) for i in range(0, len(candidates), rows)]
    cut = [_features(State(*(array[part] for array in state)), candidates[part], values[part], columns, n_types) for part in parts]
    return np.concatenate(cut)


def _features(state: State, candidates: NDArray[np.integer], values: FloatArray, columns: Sequence[str], n_types: int) -> FloatArray:
    out: list[FloatArray] = []
    newest = _of_history(state, candidates, n_types, out)
    listed = candidates > 0
    if PLACE in columns:
        _of_place(values[:, :, columns.index(PLACE)], newest, listed, out)
    own = [g for g, name in enumerate(columns) if name != PLACE]
    if own:
        _of_columns(np.moveaxis(values[:, :, own], 2, 0), listed, out)
    return np.concatenate([part if part.ndim == 3 else part[:, :, None] for part in out], axis=2, dtype=np.float32)


def _of_history(state: State, candidates: NDArray[np.integer], n_types: int, out: list[FloatArray]) -> IntArray:
    """Appends how the customer met the candidates; returns the place of each one's newest row in the window [B, K], -1 = none."""
    items, types, gaps = state.history_items, state.history_types, state.history_gaps
    length = items.shape[1]
    newest_first = items[:, ::-1]
    same = (candidates[:, :, None] == newest_first[:, None]) & (newest_first > 0)[:, None]  # [B, K, L]
    after = same.argmax(2)  # rows after the newest one of the candidate
    touched = np.take_along_axis(same, after[:, :, None], axis=2)[:, :, 0]
    newest = np.where(touched, length - 1 - after, -1)
    place = np.arange(1, length + 1)
    in_visit = place > np.where(gaps >= SESSION_GAP_S, place, 0).max(1, keepdims=True, initial=0)
    kinds = np.concatenate([types[:, :, None] == np.arange(1, n_types + 1), in_visit[:, :, None], (types > 0)[:, :, None]], axis=2)
    counts = np.matmul(same.astype(np.float32), kinds[:, ::-1].astype(np.float32))  # [B, K, M + 2]
    since = np.cumsum(gaps[:, ::-1], axis=1)[:, ::-1]  # seconds from each row to the decision
    hours = np.take_along_axis(since, np.maximum(newest, 0), axis=1) / np.float32(3600)
    order = _touched_later(newest, length)
    with_item = np.where(items > 0, np.arange(length), -1).max(1, keepdims=True, initial=-1)
    flags = touched.astype(np.float32)
    visit, whole = counts[:, :, n_types], counts[:, :, n_types + 1]
    out += [
        flags,
        (visit > 0).astype(np.float32),
        flags / (length - newest).astype(np.float32),
        flags / (order.astype(np.float32) + 1),
        (touched & (newest == with_item)).astype(np.float32),
        np.where(touched, np.log1p(hours), np.float32(0)),
        np.log1p(whole),
        np.log1p(visit),
    ]
    listed = (candidates > 0).astype(np.float32)
    rows_of_visit = (in_visit & (types > 0)).sum(1, keepdims=True).astype(np.float32)
    of_state = (gaps[:, -1:], (flags * listed).sum(1, keepdims=True), listed.sum(1, keepdims=True), rows_of_visit)
    out += [np.broadcast_to(np.log1p(one), flags.shape) for one in of_state]
    last_is = (types[:, -1:] == np.arange(1, n_types + 1)).astype(np.float32)
    out += [np.log1p(counts[:, :, :n_types]), np.broadcast_to(last_is[:, None], (*flags.shape, n_types))]
    return newest


def _touched_later(newest: IntArray, length: int) -> IntArray:
    """How many candidates of the row were touched later than each, [B, K], from the places of their newest rows, -1 to length - 1."""
    rows = np.arange(len(newest))[:, None]
    at_place = np.bincount((rows * (length + 1) + newest + 1).ravel(), minlength=len(newest) * (length + 1))
    until = np.cumsum(at_place.reshape(-1, length + 1), axis=1)
    out: IntArray = newest.shape[1] - until[rows, newest + 1]
    return out


def _of_place(place: FloatArray, newest: IntArray, listed: NDArray[np.bool_], out: list[FloatArray]) -> None:
    """Appends what the place in the list says, and the distance to the candidate that was touched last."""
    size = listed.sum(1, keepdims=True).astype(np.float32)
    out += [np.log1p(place), np.float32(1) / (1 + place), place / np.maximum(size, np.float32(1))]
    last = newest.argmax(1)[:, None]
    known = np.take_along_axis(newest, last, axis=1) >= 0
    steps = np.where(known, place - np.take_along_axis(place, last, axis=1), np.float32("nan"))
    below, above = steps > 0, steps < 0
    zeros, ones = np.zeros_like(steps), np.maximum(np.abs(steps), 1)
    out += [
        np.broadcast_to(known, place.shape).astype(np.float32),
        np.clip(np.where(known, steps, 0), -25, 25).astype(np.float32) / np.float32(10),
        (steps == 1).astype(np.float32),
        (steps == -1).astype(np.float32),
        np.where(below, 1 / ones, zeros),
        np.where(above, 1 / ones, zeros),
    ]


def _of_columns(values: FloatArray, listed: NDArray[np.bool_], out: list[FloatArray]) -> None:
    """Appends numbers of the log, [G, B, K]: each by itself, and beside the others of the list."""
    usable = listed & np.isfinite(values)
    size = np.maximum(usable.sum(2, keepdims=True), 1)
    filled = np.where(usable, values, np.float32(0))
    filled = np.copysign(np.log1p(np.abs(filled)), filled)
    off = filled - filled.sum(2, keepdims=True) / size
    spread = np.sqrt(np.where(usable, off**2, 0).sum(2, keepdims=True) / size)
    in_list = off / np.maximum(spread, 1e-3)
    both = np.stack([filled, in_list], axis=1, dtype=np.float32, casting="same_kind")  # [G, 2, B, K]
    out += list(np.where(usable[:, None], both, np.float32("nan")).reshape(-1, *values.shape[1:]))
