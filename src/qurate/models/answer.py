"""From customers' histories to decisions, many at once: state, scores, masks, choice with exact propensities, fallback, reasons."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from qurate.choosing.epsilon_greedy import Slate, epsilon_greedy_slates
from qurate.decision import Decision, DecisionItem, Degraded, HistoryRows, Source, Worth, new_ids
from qurate.mdp.clocks import COLUMNS
from qurate.mdp.states import gather_state
from qurate.models.parts import ModelParts
from qurate.types import Actions, EventArrays, FloatArray, IntArray, Observation, take_rows

GOLDEN_CASES = 3
NONE = np.zeros(0, np.int64)
BY_VALUE = ("q", "q_in_support", "behaviour_times_q", "policy")
"""The ranking scores in which a Q-value takes part, or that a Q-value taught (iql)."""

LONG_LIST = 500
"""Explicit lists are padded to one length and their item vectors gathered; a longer one is decided by itself, from the scores
of the catalogue."""


class AnswerRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What one decision is made from, in the model's own indices.

    Attributes:
        history: the customer's rows, oldest first; may be empty.
        clock_us: when the decision is made, microseconds.
        k: items wanted, at least 1; fewer come where fewer may be shown.
        known: False, or neither a history nor features: the reason is `unknown_user`. The model answers all the same where
            training has met customers without a history (`Answering.supports_cold_start`), else popularity does.
        candidates: item ids to choose from; None = all that are available. Unknown ids cannot be shown.
        features: by name, what is known of each of `candidates` at this moment, in their order (None or NaN: not known). What the
            model does not use is not read.
        exclude: item ids that must not be shown.
        seen: item ids that are not shown again (`choosing/seen.py`). Where nothing else is left, they are: popularity answers.
        user: float32 [1, U] encoded features of the customer.
        explain: also what each item is worth now and later.
    """

    history: HistoryRows
    clock_us: int
    k: int
    user_id: str | None = None
    known: bool = True
    candidates: Sequence[str] | None = None
    features: Mapping[str, Sequence[float | None]] | None = None
    exclude: Sequence[str] = ()
    seen: Sequence[str] = ()
    user: FloatArray | None = None
    explain: bool = False


def observe(
    model: ModelParts, histories: Sequence[HistoryRows], clock: IntArray, candidates: NDArray[np.int64], user: FloatArray | None = None
) -> Observation:
    """The observation of B customers from their histories, with states as in training (`mdp/states.py`).

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
    mask = (candidates > 0).view(np.int8)
    if candidates.ndim == 1:
        candidates, mask = np.broadcast_to(candidates, (n, len(candidates))), np.broadcast_to(mask, (n, len(mask)))
    items, types = state.history_items.astype(np.int64, copy=False), state.history_types.astype(np.int64, copy=False)
    return Observation(state._replace(history_items=items, history_types=types), Actions(candidates, mask))


def decide(model: ModelParts, request: AnswerRequest, epsilon: float = 0.0, rng: np.random.Generator | None = None) -> Decision:
    """One answer; see `decide_all`."""
    return decide_all(model, [request], epsilon, rng or np.random.default_rng(0))[0]


def decide_all(model: ModelParts, requests: Sequence[AnswerRequest], epsilon: float, rng: np.random.Generator) -> list[Decision]:
    """Answers, each as if it were alone: what may be chosen from the same items goes through network and choice together.

    Args:
        epsilon: share of the places filled uniformly from all that may be shown, in [0, 1]. It decides the propensities too,
            of the fallback as well: what is never explored is never learnt.
        rng: of the exploration, and of ties.

    Returns:
        The decisions in the order of the requests; `degraded` names what stood in the way, and the items may be none.
    """
    catalogues = _catalogues(model, {request.clock_us for request in requests})
    lists = _shortlists_of(model, requests)
    cases = [_case(model, request, lists.get(i, catalogues[request.clock_us])) for i, request in enumerate(requests)]
    groups: dict[tuple[bool, str, int], list[int]] = {}
    for i, case in enumerate(cases):
        if case.items is not None:
            groups.setdefault((case.fallback, *_company(i, requests[i], case.items, model.lists is not None)), []).append(i)
    answers: dict[int, list[DecisionItem]] = {}
    for group in groups.values():
        answers |= zip(group, _decide_group(model, [requests[i] for i in group], [cases[i] for i in group], epsilon, rng))
    rule, algorithm = rule_name(epsilon), {True: "popularity", False: model.algorithm}
    return [
        Decision(ident, request.user_id, answers.get(i, []), f"{algorithm[case.fallback]}/{rule}", model.version, case.degraded)
        for i, (ident, request, case) in enumerate(zip(new_ids(len(requests)), requests, cases))
    ]


def _catalogues(model: ModelParts, clocks: Collection[int]) -> dict[int, IntArray]:
    """The items that may be shown at each time; one array for all times at which they are the same."""
    found: dict[int, IntArray] = {}
    distinct: list[IntArray] = []
    for clock in clocks:
        items = model.availability.open_items(clock)
        same = next((other for other in distinct if np.array_equal(other, items)), None)
        if same is None:
            distinct.append(items)
        found[clock] = items if same is None else same
    return found


def _windows(histories: Sequence[HistoryRows], length: int) -> IntArray:
    """The newest items of B histories, int64 [B, L], padding on the left."""
    out = np.zeros((len(histories), length), np.int64)
    for row, history in zip(out, histories):
        items = history.items[-length:]
        row[length - len(items) :] = items
    return out


def _company(i: int, request: AnswerRequest, items: IntArray, shortlists: bool) -> tuple[str, int]:
    """Equal for requests that are decided together."""
    if request.candidates is None and not shortlists:
        return "catalogue", id(items)
    return ("long list", i) if len(items) > LONG_LIST else ("lists", 0)


def rule_name(epsilon: float) -> str:
    """How the rule is called in a decision's `policy`."""
    return "epsilon_greedy" if 0 < epsilon < 1 else "uniform" if epsilon else "greedy"


class _Case(NamedTuple):
    """What a request may be answered with: `items` int64 [K] that could be shown, None where nothing can."""

    items: IntArray | None
    closed: IntArray  # positions in `items` that were excluded
    degraded: Degraded | None
    fallback: bool  # popularity answers


def _case(model: ModelParts, request: AnswerRequest, catalogue: IntArray) -> _Case:
    """`catalogue`: the items that may be shown at the request's time, ascending; of a model with clocks, this request's shortlist."""
    items, degraded = _open_items(model, request, catalogue)
    if degraded is not None:
        return _Case(None, NONE, degraded, True)
    closed = _positions(model, items, request.exclude, request.candidates is None)
    if len(closed) == len(items):
        return _Case(None, closed, "all_masked", True)
    if request.seen:
        closed_too = _positions(model, items, [*request.exclude, *request.seen], request.candidates is None)
        if len(closed_too) == len(items):
            return _Case(items, closed, "all_masked", True)
        closed = closed_too
    no_history = not request.known or (len(request.history.items) == 0 and request.user is None)
    return _Case(items, closed, "unknown_user" if no_history else None, no_history and not model.supports_cold_start)


def _positions(model: ModelParts, items: IntArray, excluded: Sequence[str], ascending: bool) -> IntArray:
    """Positions in `items` [K] of the excluded ids."""
    if not excluded:
        return NONE
    index = np.unique(model.vocabulary.item_index(list(excluded))).astype(np.int64)
    if not ascending:
        return np.flatnonzero(np.isin(items, index)).astype(np.int64)
    at = np.minimum(np.searchsorted(items, index), len(items) - 1)
    closed: IntArray = at[items[at] == index].astype(np.int64)
    return closed


def _open_items(model: ModelParts, request: AnswerRequest, catalogue: IntArray) -> tuple[IntArray, Degraded | None]:
    """Indices [K] among which this request chooses, `exclude` aside, and the reason where there are none."""
    if request.candidates is None and model.lists is not None:
        return catalogue, None if len(catalogue) else "no_candidates"
    if len(catalogue) == 0:
        return catalogue, "empty_catalogue"
    if request.candidates is None:
        return catalogue, None
    index = model.vocabulary.item_index(list(dict.fromkeys(request.candidates))).astype(np.int64)
    items = index[model.availability.is_open(index, np.asarray(request.clock_us, np.int64))]
    return items, None if len(items) else "no_candidates"


def _shortlists_of(model: ModelParts, requests: Sequence[AnswerRequest]) -> dict[int, IntArray]:
    """The shortlists of the requests that bring no candidates, by their place; none where the model chooses among the catalogue."""
    without = [i for i, request in enumerate(requests) if request.candidates is None] if model.lists is not None else []
    histories, clock = [requests[i].history for i in without], np.array([requests[i].clock_us for i in without], np.int64)
    return dict(zip(without, shortlists(model, histories, clock))) if without else {}


def shortlists(model: ModelParts, histories: Sequence[HistoryRows], clock: IntArray) -> list[IntArray]:
    """The items int64 [K], ascending, that a model with clocks chooses among for each of B customers at `clock` [B], microseconds."""
    assert model.lists is not None
    items = model.lists.candidates(_windows(histories, model.window), clock)
    open_ = model.availability.is_open(items, clock[:, None])
    return [row[there] for row, there in zip(items, open_)]


def _decide_group(
    model: ModelParts, requests: Sequence[AnswerRequest], cases: Sequence[_Case], epsilon: float, rng: np.random.Generator
) -> list[list[DecisionItem]]:
    """The items of answers that all choose from the same catalogue, or each from a list of its own; by one kind of score."""
    listed = requests[0].candidates is not None or model.lists is not None
    items, closed = _candidates(cases, listed)
    observation = None if cases[0].fallback else _observation(model, requests, items, closed)
    if observation is None:
        popularity = model.popularity[items]
        worth = scores = popularity if listed else np.broadcast_to(popularity, (len(cases), len(popularity)))
    else:
        worth, scores = model.values(observation, listed)
    k = [request.k for request in requests]
    width = scores.shape[1]
    uniforms = rng.random((len(cases), 2 * min(max(k), width)))
    slates = epsilon_greedy_slates(scores, closed, [min(one, width) for one in k], epsilon, uniforms)
    rows = np.repeat(np.arange(len(slates)), [len(slate.positions) for slate in slates])
    at = np.fromiter(chain.from_iterable(slate.positions for slate in slates), np.int64, len(rows))
    shown = items[rows, at] if listed else items[at]
    answers = _items(model, shown, worth[rows, at], slates, observation is None)
    out = [list(islice(answers, len(slate.positions))) for slate in slates]
    if observation is not None:
        for i, request in enumerate(requests):
            if request.explain and out[i]:
                heads = explanations(model, _row(observation, i), shown[rows == i])
                out[i] = [msgspec.structs.replace(item, **more) for item, more in zip(out[i], heads)]
    return out


def _candidates(cases: Sequence[_Case], listed: bool) -> tuple[IntArray, list[IntArray]]:
    """Item indices [K], or [B, K] padded with 0 where requests bring their own, and the positions of each row that are closed."""
    catalogue = cases[0].items
    assert catalogue is not None
    if not listed:
        return catalogue, [case.closed for case in cases]
    lists = [case.items for case in cases if case.items is not None]
    items = np.zeros((len(lists), max(map(len, lists))), np.int64)
    for row, own in zip(items, lists):
        row[: len(own)] = own
    return items, [np.append(case.closed, np.arange(len(own), items.shape[1])) for case, own in zip(cases, lists)]


def _observation(model: ModelParts, requests: Sequence[AnswerRequest], items: IntArray, closed: Sequence[IntArray]) -> Observation:
    """The observation of these customers, with what each may not be shown masked."""
    users = np.zeros((len(requests), model.user_dim), np.float32)
    for row, request in zip(users, requests):
        if request.user is not None:
            row[:] = request.user[0]
    clock = np.array([request.clock_us for request in requests], np.int64)
    observation = observe(model, [request.history for request in requests], clock, items, users)
    if model.lists is not None:
        values = model.lists.values(observation.actions.candidates, observation.state.history_items, clock)
        observation = observation._replace(actions=observation.actions._replace(values=values, columns=COLUMNS))
    elif model.candidate_columns and any(request.features for request in requests):
        values, columns = _given_features(model, requests, observation.actions.candidates)
        observation = observation._replace(actions=observation.actions._replace(values=values, columns=columns))
    if not any(map(len, closed)):
        return observation
    mask = np.array(observation.actions.mask)
    for row, positions in zip(mask, closed):
        row[positions] = 0
    return observation._replace(actions=observation.actions._replace(mask=mask))


def _given_features(model: ModelParts, requests: Sequence[AnswerRequest], items: NDArray[np.integer]) -> tuple[FloatArray, tuple[str, ...]]:
    """What requests say of their candidates, float32 [B, K, G], NaN where they say nothing, and the G names that the model uses."""
    names = model.candidate_columns
    out = np.full((*items.shape, len(names)), np.nan, np.float32)
    for row, own, request in zip(out, items, requests):
        if not request.features or request.candidates is None:
            continue
        index = model.vocabulary.item_index(list(request.candidates))
        first = dict(zip(reversed(index.tolist()), range(len(index) - 1, -1, -1)))
        place = np.array([first.get(item, -1) if item else -1 for item in own.tolist()], np.int64)
        for g, name in enumerate(names):
            if name in request.features:
                given = np.array([np.nan if value is None else value for value in request.features[name]], np.float32)
                row[place >= 0, g] = given[place[place >= 0]]
    return out, names


def _items(model: ModelParts, shown: IntArray, worth: FloatArray, slates: Sequence[Slate], fallback: bool) -> Iterator[DecisionItem]:
    """The items of one answer after the other. `source` says what the draw was: an item of high value that was drawn at random is
    `explore`.

    Args:
        shown: [T] item indices of all answers. worth: [T] what they are worth.
    """
    best: Source = "fallback" if fallback else "q" if model.by in BY_VALUE else "rule"
    drawn: Source = "fallback" if fallback else "explore"
    names = map(model.vocabulary.items.__getitem__, (shown - 1).tolist())
    propensities = chain.from_iterable(slate.propensities for slate in slates)
    sources = map((best, drawn).__getitem__, chain.from_iterable(slate.explored for slate in slates))
    return map(DecisionItem, names, worth.tolist(), propensities, sources)


def _row(observation: Observation, i: int) -> Observation:
    """One customer of a batch."""
    one, actions = slice(i, i + 1), observation.actions
    values = None if actions.values is None else actions.values[one]
    return Observation(take_rows(observation.state, one), Actions(actions.candidates[one], actions.mask[one], values, actions.columns))


def explanations(model: ModelParts, observation: Observation, items: NDArray[np.int64]) -> list[dict[str, Any]]:
    """`now`, `later` and `components` of items [K] chosen among the candidates of one observation; see `decision.Worth`."""
    by_head = model.explain(observation, items[None])
    if by_head is None:
        return [{} for _ in items]
    return [
        {
            "now": _null_if_nan(now.sum()),
            "later": float(later.sum()),
            "components": {name: Worth(_null_if_nan(now[i]), float(later[i])) for i, name in enumerate(model.components)},
        }
        for now, later in by_head[0].astype(float)  # [K, 2, R]
    ]


def _null_if_nan(value: float) -> float | None:
    """A number, or None where the network does not tell now from later."""
    return None if np.isnan(value) else float(value)


def golden_answers(model: ModelParts) -> list[dict[str, Any]]:
    """A few requests and their answers, recorded when a model is saved and checked when it is loaded."""
    out = []
    for case in range(min(GOLDEN_CASES, model.availability.n_ever)):
        shown = np.arange(case, min(case + 5, model.availability.n_ever)) + 1
        types = np.full(len(shown), 1 + case % max(model.vocabulary.n_types, 1))
        rows = HistoryRows(shown, types, np.arange(len(shown)) * 60_000_000, np.zeros(len(shown), np.float32))
        answer = decide(model, AnswerRequest(history=rows, clock_us=int(rows.times[-1]), k=5))
        request = {"history": [model.vocabulary.items[i - 1] for i in shown], "type": int(types[0]), "seconds_between": 60, "k": 5}
        out.append({"request": request, "item_ids": [item.item_id for item in answer.items]})
    return out
