"""From one customer's history to a decision: state, scores, masks, choice with exact propensities, fallback, reasons."""

import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qurate.choosing.selection import GREEDY, SelectionRule, choose
from qurate.decision import Decision, DecisionItem, Degraded, HistoryRows, Source, Worth
from qurate.mdp.states import gather_state
from qurate.models.parts import ModelParts
from qurate.types import Actions, EventArrays, FloatArray, IntArray, Observation

GOLDEN_CASES = 3


def observe(
    model: ModelParts, histories: Sequence[HistoryRows], clock: IntArray, candidates: NDArray[np.int64], user: FloatArray | None = None
) -> Observation:
    """The observation of B customers from their histories, through the same state function as training.

    Args:
        clock: int64 [B] microseconds: when the decisions are made.
        candidates: int64 [B, K] or [K] item indices.
        user: float32 [B, U] encoded user features, zeros by default.
    """
    n = len(histories)
    w = model.window
    start = np.concatenate([[0], np.cumsum([min(len(rows.items), w) for rows in histories])]).astype(np.int64)
    arrays = EventArrays(
        np.concatenate([rows.items[-w:] for rows in histories]).astype(np.int32),
        np.concatenate([rows.types[-w:] for rows in histories]).astype(np.uint8),
        np.concatenate([rows.times[-w:] for rows in histories]),
        np.concatenate([rows.values[-w:] for rows in histories]),
        start,
    )
    features = np.zeros((n, model.user_dim), np.float32) if user is None else user
    state = gather_state(arrays, start[:-1], start[1:], clock, model.window, features)
    if candidates.ndim == 1:
        candidates = np.broadcast_to(candidates, (n, len(candidates)))
    items, types = state.history_items.astype(np.int64, copy=False), state.history_types.astype(np.int64, copy=False)
    state = state._replace(history_items=items, history_types=types)
    return Observation(state, Actions(candidates, (candidates > 0).astype(np.int8)))


def decide(
    model: ModelParts,
    history: HistoryRows,
    clock_us: int,
    k: int,
    *,
    user_id: str | None = None,
    known: bool = True,
    candidates: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    user: FloatArray | None = None,
    explain: bool = False,
    rule: SelectionRule = GREEDY,
    rng: np.random.Generator | None = None,
) -> Decision:
    """One answer.

    Args:
        history: the customer's rows, oldest first; may be empty.
        clock_us: when the decision is made, microseconds.
        k: items wanted; fewer come where fewer may be shown.
        known: False, or neither a history nor features: the reason is `unknown_user`. The model answers all the same where
            training has met customers without a history (`Answering.supports_cold_start`), else popularity does.
        candidates: item ids to choose from; None = all that are available. Unknown ids cannot be shown.
        exclude: item ids that must not be shown.
        user: float32 [1, U] encoded features of the customer.
        rule: how scores become items; decides the propensities too, of the fallback as well: what is never explored is
            never learnt.
        rng: of the exploration, and of ties; by default the same one for every call, so that an answer repeats.

    Returns:
        The decision; `degraded` names what stood in the way, and the items may be none.
    """
    rng = rng or np.random.default_rng(0)
    items, degraded = _allowed_items(model, clock_us, candidates, exclude)
    stranger = not known or (len(history.items) == 0 and user is None)
    fallback = degraded is not None or (stranger and not model.supports_cold_start)
    if degraded is None and stranger:
        degraded = "unknown_user"
    observation = observe(model, [history], np.array([clock_us]), items, user)
    worth, scores = (model.popularity[None, items],) * 2 if fallback else model.values(observation, candidates is not None)
    slate, propensity = choose(rule, scores, observation.actions.mask, rng, max(min(k, len(items)), 1))
    chosen = slate[0][slate[0] >= 0]
    least = np.partition(-scores[0], len(chosen) - 1)[len(chosen) - 1] if len(chosen) else 0.0  # what greedy would still show
    sources: list[Source] = ["fallback" if fallback else ("q" if -score <= least else "explore") for score in scores[0, chosen]]
    heads = _worths(model, observation, items[chosen]) if explain and not fallback and len(chosen) else None
    out = []
    for j, position in enumerate(chosen):
        extra: dict[str, Any] = {} if heads is None else heads[j]
        item_id = model.vocabulary.items[items[position] - 1]
        out.append(DecisionItem(item_id, float(worth[0, position]), float(propensity[0, j]), sources[j], **extra))
    policy = f"{'popularity' if fallback else model.algorithm}/{rule.name}"
    return Decision(uuid.uuid4().hex, user_id, out, policy, model.version, degraded)


def _allowed_items(
    model: ModelParts, clock_us: int, candidates: Sequence[str] | None, exclude: Sequence[str]
) -> tuple[NDArray[np.int64], Degraded | None]:
    """Indices [K] that may be shown at this time, and the reason where there are none."""
    items = model.availability.open_items(clock_us)
    if len(items) == 0:
        return items, "empty_catalogue"
    if candidates is not None:
        index = model.vocabulary.item_index(list(dict.fromkeys(candidates))).astype(np.int64)
        items = index[model.availability.is_open(index, np.asarray(clock_us, np.int64))]
        if not len(items):
            return items, "no_candidates"
    if len(exclude):
        items = items[~np.isin(items, model.vocabulary.item_index(list(exclude)))]
        if not len(items):
            return items, "all_masked"
    return items, None


def _worths(model: ModelParts, observation: Observation, items: NDArray[np.int64]) -> list[dict[str, Any]]:
    """`now`, `later` and `components` of chosen items (contract, Decision)."""
    by_head = model.explain(observation, items[None])
    if by_head is None:
        return [{} for _ in items]
    return [
        {
            "now": _told(now.sum()),
            "later": float(later.sum()),
            "components": {name: Worth(_told(now[i]), float(later[i])) for i, name in enumerate(model.components)},
        }
        for now, later in by_head[0].astype(float)  # [K, 2, R]
    ]


def _told(now: float) -> float | None:
    """A number, or None where the network does not tell now from later."""
    return None if np.isnan(now) else float(now)


def golden_answers(model: ModelParts) -> list[dict[str, Any]]:
    """A few requests and their answers, recorded when a model is saved and checked when it is loaded."""
    out = []
    for case in range(min(GOLDEN_CASES, model.availability.n_ever)):
        shown = np.arange(case, min(case + 5, model.availability.n_ever)) + 1
        types = np.full(len(shown), 1 + case % max(model.vocabulary.n_types, 1))
        rows = HistoryRows(shown, types, np.arange(len(shown)) * 60_000_000, np.zeros(len(shown), np.float32))
        answer = decide(model, rows, int(rows.times[-1]), 5, rng=np.random.default_rng(0))
        request = {"history": [model.vocabulary.items[i - 1] for i in shown], "type": int(types[0]), "seconds_between": 60, "k": 5}
        out.append({"request": request, "item_ids": [item.item_id for item in answer.items]})
    return out
