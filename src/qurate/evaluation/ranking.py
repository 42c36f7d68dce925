"""How high the item that was chosen later stands in a policy's order: HR, NDCG, MRR and coverage over the full catalogue.

Ties are broken at random, in expectation: a target that shares its score with e - 1 others behind g better ones stands
at each of the ranks g + 1 .. g + e with probability 1 / e, and every metric is the mean over them. A scorer that gives
all items the same score therefore earns what chance earns. A target that is not among the open candidates is a miss,
and its share is reported. With one relevant item per target, NDCG@k = 1 / log2(rank + 1) up to k.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from qurate.choosing.merchandising import available, listed
from qurate.choosing.slate_sampling import is_shared
from qurate.errors import Code, MachineError, UserError
from qurate.evaluation.rollouts import positions_of
from qurate.mdp.shortlists import Shortlists
from qurate.mdp.states import gather_state
from qurate.types import TEST, Actions, Availability, EventArrays, FloatArray, IntArray, Observation, Scorer, Transitions

BATCH_BYTES = 64 << 20
"""Scores and their comparisons held at a time; a scorer's own working memory is its own affair."""

_BYTES_PER_SCORE = 20


class RankingData(Protocol):
    """What ranking reads of a dataset."""

    @property
    def arrays(self) -> EventArrays: ...
    @property
    def transitions(self) -> Transitions: ...
    @property
    def availability(self) -> Availability: ...
    @property
    def user_features(self) -> FloatArray: ...  # [U, D], row = user index
    @property
    def item_features(self) -> FloatArray: ...  # [N + 1, F]
    @property
    def components(self) -> Sequence[str]: ...  # R names
    @property
    def weights(self) -> FloatArray: ...  # [R]
    @property
    def state_visit(self) -> NDArray[np.int32]: ...  # [D] visit of each decision
    @property
    def manifest(self) -> Mapping[str, Any]: ...  # "kind": organic | exposure | logged
    @property
    def lists(self) -> Shortlists | None: ...  # in place of the catalogue


class Ranks(NamedTuple):
    """Where each target stands: better candidates and candidates of the same score (itself included); 0 ties = a miss."""

    better: IntArray  # [T]
    ties: IntArray  # [T]


@dataclass(frozen=True, slots=True)
class Ranked:
    """What one scorer did with T targets."""

    ranks: Ranks
    first: IntArray  # [T] item at the top, 0 where no candidate was open
    covered: NDArray[np.bool_]  # [N + 1] items that stood among the first k of any target
    lists: IntArray  # [T, k] the first k items, 0 where fewer were open


def rank_targets(scores: FloatArray, mask: NDArray[np.int8], position: IntArray) -> Ranks:
    """Ranks of the candidates at `position` by `scores`.

    Args:
        scores: float32 [B, K], no NaN; -inf is allowed and ties with -inf.
        mask: [B, K], 1 = open; closed candidates count neither as better nor as tied.
        position: [B] of the target; -1 = not among the candidates.
    """
    rows = np.arange(len(position))
    found = (position >= 0) & (mask[rows, np.maximum(position, 0)] != 0)
    target = scores[rows, np.maximum(position, 0)][:, None]
    better, same = scores > target, scores == target
    if not (is_shared(mask) and mask[0].all()):
        better &= mask != 0
        same &= mask != 0
    return Ranks(np.where(found, np.count_nonzero(better, axis=1), 0), np.where(found, np.count_nonzero(same, axis=1), 0))


def gains(ranks: Ranks, k: int) -> dict[str, NDArray[np.float64]]:
    """Expected HR@k, NDCG@k, MRR@k and MRR (no cut) of each target, float64 [T]; 0 for a miss."""
    better, ties = np.asarray(ranks.better, np.int64), np.asarray(ranks.ties, np.int64)
    last, share = better + ties, np.where(ties > 0, 1.0 / np.maximum(ties, 1), 0.0)
    place = np.arange(1.0, int(last.max(initial=0)) + 1)
    discounted = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(place + 1.0))])
    reciprocal = np.concatenate([[0.0], np.cumsum(1.0 / place)])
    lo, hi = np.minimum(better, k), np.minimum(last, k)
    return {
        f"HR@{k}": (hi - lo) * share,
        f"NDCG@{k}": (discounted[hi] - discounted[lo]) * share,
        f"MRR@{k}": (reciprocal[hi] - reciprocal[lo]) * share,
        "MRR": (reciprocal[last] - reciprocal[better]) * share,
    }


def ranking_targets(data: RankingData, split: int = TEST) -> IntArray:
    """Transitions of a split whose item earned something: int64 indices, in the order of the transitions.

    In organic logs that is what the customer chose; in exposure and logged ones what was shown and answered.
    """
    t = data.transitions
    earned = t.reward @ np.asarray(data.weights, np.float32) > 0
    return np.flatnonzero((t.split[t.state] == split) & earned).astype(np.int64)


def draw_visits(data: RankingData, rows: IntArray, n: int, seed: int) -> IntArray:
    """Those of `rows` (transitions) that belong to `n` visits, drawn without replacement from the visits `rows` touch."""
    visit = data.state_visit[data.transitions.state[rows]]
    visits = np.unique(visit)
    if visits.size <= n:
        return rows
    return rows[np.isin(visit, np.random.default_rng(seed).choice(visits, n, replace=False))]


def observations(data: RankingData, rows: IntArray, window: int) -> Iterator[tuple[IntArray, Observation]]:
    """Batches (indices into `rows`, observation) of the states in which `rows` (transitions) were decided.

    Where the dataset has shortlists they are the candidates, with what is known of them. Where a decision names its candidates they
    are given in their order; all others share the items that have begun by
    the last clock of the batch, with those masked that are not available at the row's own clock. No batch exceeds about
    64 MB of scores.
    """
    t, availability = data.transitions, data.availability
    states = t.state[rows].astype(np.int64)
    if data.lists is not None:
        yield from _shortlisted(data, data.lists, states, window)
        return
    listed = np.diff(t.candidates_start)[states] if t.candidates_start.size else np.zeros(states.size, np.int64)
    explicit = np.flatnonzero(listed > 0)
    for part in _batches(explicit[np.argsort(listed[explicit], kind="stable")], listed, BATCH_BYTES):
        width = int(listed[part].max())
        place = np.minimum(t.candidates_start[states[part]][:, None] + np.arange(width), t.candidates.size - 1)
        candidates = np.where(np.arange(width) < listed[part][:, None], t.candidates[place], 0).astype(np.int64)
        observation = _observe(data, states[part], window, candidates, (candidates > 0).astype(np.int8))
        if t.candidate_values.size:
            values = np.where((candidates > 0)[:, :, None], t.candidate_values[place], np.float32("nan"))
            observation = observation._replace(
                actions=observation.actions._replace(values=values, columns=tuple(data.manifest["candidate_columns"]))
            )
        yield part, observation
    clock = t.clock[states]
    begun, n_open = availability.n_begun(clock), availability.n_open(clock)
    whole = np.flatnonzero(listed == 0)
    for part in _batches(whole[np.argsort(begun[whole], kind="stable")], begun, BATCH_BYTES):
        width = max(int(begun[part].max()), 1)
        candidates = np.broadcast_to(np.arange(1, width + 1, dtype=np.int64), (part.size, width))
        if (n_open[part] == width).all():
            mask = np.broadcast_to(np.ones(width, np.int8), (part.size, width))
        else:
            mask = available(candidates, availability, clock[part]).astype(np.int8)
        yield part, _observe(data, states[part], window, candidates, mask)


LISTS = 1_024
"""Decisions with shortlists at a time."""


def _shortlisted(data: RankingData, lists: Shortlists, states: IntArray, window: int) -> Iterator[tuple[IntArray, Observation]]:
    """The observations of decisions [S] that choose from shortlists, in parts."""
    for first in range(0, states.size, LISTS):
        part = np.arange(first, min(first + LISTS, states.size))
        clock, nothing = data.transitions.clock[states[part]], np.zeros((part.size, 1), np.int64)
        state = _observe(data, states[part], window, nothing, nothing.astype(np.int8)).state
        actions = lists.actions(state, lists.asked[states[part]])
        open_ = actions.mask * (clock[:, None] < data.availability.until[actions.candidates])
        yield part, Observation(state, actions._replace(mask=open_.astype(np.int8)))


def _batches(order: IntArray, width: IntArray, limit: int) -> Iterator[IntArray]:
    """Consecutive parts of `order` (by growing width) whose widest row times their number stays under the limit."""
    start = 0
    while start < order.size:
        stop = min(order.size, start + 4_096)
        while stop - start > 1 and (stop - start) * int(width[order[stop - 1]]) * _BYTES_PER_SCORE > limit:
            stop = start + max(1, (stop - start) // 2)
        yield order[start:stop]
        start = stop


def _observe(data: RankingData, states: IntArray, window: int, candidates: IntArray, mask: NDArray[np.int8]) -> Observation:
    t, arrays = data.transitions, data.arrays
    users = t.user[states].astype(np.int64)
    state = gather_state(arrays, arrays.user_start[users], t.history_end[states], t.clock[states], window, data.user_features[users])
    return Observation(state, Actions(candidates, mask))


def checked_scores(scorer: Scorer, observation: Observation) -> FloatArray:
    """The scorer's scores, float32 [B, K].

    Raises:
        MachineError: wrong shape or NaN: a broken scorer must not look like a bad ranking.
    """
    scores = np.asarray(scorer.scores(observation), np.float32)
    if scores.shape != observation.actions.candidates.shape:
        raise MachineError(
            f"scores of shape {observation.actions.candidates.shape}",
            str(scores.shape),
            where=f"scorer {scorer.name}",
            code=Code.BAD_SCORES,
        )
    if scores.size and np.isnan(scores.min()):
        raise MachineError("scores without NaN", "NaN", where=f"scorer {scorer.name}", hint="retrain the model", code=Code.BAD_SCORES)
    return scores


def rank_all(
    data: RankingData,
    rows: IntArray,
    scorers: Mapping[str, Scorer],
    k: int,
    window: int,
    within: FloatArray | None = None,
    common: NDArray[np.bool_] | None = None,
) -> tuple[dict[str, Ranked], NDArray[np.bool_]]:
    """Ranks of the items of `rows` (transitions) among their candidates, by each scorer; states are gathered once for all.

    Args:
        within: float32 [M + 1], seconds for which an event of each type keeps its item from being shown again to that
            customer (`SeenRule.seconds`); a target that is not shown again is a miss. None = everything may be shown.
        common: bool [N + 1], the items that are candidates at all; None = every one.

    Returns:
        what each scorer did, and bool [N + 1]: the items that were open to at least one target.

    Raises:
        UserError: no row to rank.
        MachineError: a scorer gave NaN or the wrong shape.
    """
    if rows.size == 0:
        raise UserError(
            "test decisions with a rewarded item", "none", where="the dataset's test split", hint="see qurate inspect", code=Code.NO_TARGETS
        )
    n_items = len(data.availability.since) - 1
    out = {
        name: Ranked(
            Ranks(np.zeros(rows.size, np.int64), np.zeros(rows.size, np.int64)),
            np.zeros(rows.size, np.int64),
            np.zeros(n_items + 1, bool),
            np.zeros((rows.size, k), np.int64),
        )
        for name in scorers
    }
    action, opened = data.transitions.action[rows].astype(np.int64), np.zeros(n_items + 1, bool)
    drawing = np.random.default_rng(0)
    for part, observation in observations(data, rows, window):
        candidates, mask = observation.actions.candidates, observation.actions.mask
        if common is not None and not common[1:].all():
            mask = mask * common[candidates]
            observation = observation._replace(actions=observation.actions._replace(mask=mask))
        if within is not None:
            mask = mask * ~_not_again(data, data.transitions.state[rows[part]].astype(np.int64), candidates, within)
            observation = observation._replace(actions=observation.actions._replace(mask=mask))
        opened[candidates[0][mask.any(axis=0)] if is_shared(candidates) else candidates[mask != 0]] = True
        position = positions_of(candidates, action[part])
        for name, scorer in scorers.items():
            scores = checked_scores(scorer, observation)
            ranks = rank_targets(scores, mask, position)
            out[name].ranks.better[part], out[name].ranks.ties[part] = ranks
            top = top_items(scores, observation, k, drawing)
            out[name].first[part] = top[:, 0]
            out[name].covered[top] = True
            out[name].lists[part, : top.shape[1]] = top
    for reached in (opened, *(ranked.covered for ranked in out.values())):
        reached[0] = False
    return out, opened


HISTORY_ROWS = 2_000_000
"""Rows of full histories held at a time."""


def earlier(data: RankingData, states: IntArray) -> Iterator[tuple[IntArray, IntArray]]:
    """The whole histories of decisions [S], in parts: (number of the decision, row of the log) of each event before it."""
    t, starts = data.transitions, data.arrays.user_start[data.transitions.user[states]]
    length = (t.history_end[states] - starts).astype(np.int64)
    for part in np.array_split(np.arange(len(states)), 1 + int(length.sum()) // HISTORY_ROWS):
        owner = np.repeat(part, length[part])
        before = np.cumsum(length[part]) - length[part]
        yield owner, np.arange(len(owner)) - np.repeat(before, length[part]) + starts[owner]


def had_before(data: RankingData, rows: IntArray) -> NDArray[np.bool_]:
    """bool [T]: the customer had an event with the target's item before the decision: a repeat, not a first choice."""
    out, action = np.zeros(len(rows), np.bool_), data.transitions.action[rows]
    for owner, row in earlier(data, data.transitions.state[rows].astype(np.int64)):
        out[owner[data.arrays.item[row] == action[owner]]] = True
    return out


def _not_again(data: RankingData, states: IntArray, candidates: IntArray, within: FloatArray) -> NDArray[np.bool_]:
    out, clock = np.zeros(candidates.shape, np.bool_), data.transitions.clock[states]
    for owner, row in earlier(data, states):
        keep = (clock[owner] - data.arrays.time[row]) / 1e6 <= within[data.arrays.type[row]]
        out |= listed(candidates, owner[keep], data.arrays.item[row[keep]].astype(np.int64))
    return out


def top_items(scores: FloatArray, observation: Observation, k: int, rng: np.random.Generator | None = None) -> IntArray:
    """The items of the k highest open scores, int64 [B, min(k, K)], 0 where fewer are open.

    Args:
        rng: draws which of the items with the very score of the last place are on the list; None: which is left open.
    """
    mask, candidates = observation.actions.mask, observation.actions.candidates
    is_open = is_shared(mask) and mask[0].all()
    kept = torch.from_numpy(np.require(scores if is_open else np.where(mask != 0, scores, -np.inf), requirements=["C", "W"]))
    k = min(k, scores.shape[1])
    highest = torch.topk(kept, min(k + 1, scores.shape[1]), dim=1)
    places = highest.indices[:, :k].numpy()
    if rng is not None and k < scores.shape[1]:
        tied = torch.nonzero(highest.values[:, k - 1] == highest.values[:, k])[:, 0]
        if len(tied):
            last, some = highest.values[tied, k - 1 : k], kept[tied]
            drawn = torch.from_numpy(rng.random(some.shape, np.float32))  # below 1: what is above the last place stays on the list
            kept_on = torch.topk(torch.where(some > last, 1.0, torch.where(some == last, drawn, -1.0)), k, dim=1).indices
            by_score = some.gather(1, kept_on).argsort(dim=1, descending=True, stable=True)
            places[tied.numpy()] = kept_on.gather(1, by_score).numpy()
    items = candidates[0][places] if is_shared(candidates) else np.take_along_axis(candidates, places, axis=1)
    allowed = 1 if is_open else np.take_along_axis(mask, places, axis=1) != 0
    return (items * allowed).astype(np.int64)
