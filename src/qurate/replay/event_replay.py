"""The replay store: history rows are kept once, a state is an index into them, windows are gathered at sampling.

A stored state costs 26 bytes and a transition 12 + 4 R beside the rows (R reward components), where a buffer of
ready-made windows of 50 events would need over 1,000. Every number that a window needs and that depends only on
neighbouring rows (the gap to the next row) is stored with the row, so that a sample is a single gather.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qurate.mdp.candidate_features import candidate_features
from qurate.mdp.shortlists import Shortlists
from qurate.mdp.states import derive_context
from qurate.types import Availability, Batch, FloatArray, OpenActions, State, take_rows

ITEM, TYPE, GAP, VALUE = range(4)
"""Columns of a stored history row; GAP and VALUE are float32 bits in an int32 matrix."""


class Tables(NamedTuple):
    """The arrays of a store; S state slots, T transitions, E history rows, V users."""

    rows: NDArray[np.int32]  # [E, 4] item, type, gap to the next row (float bits, seconds), value (float bits)
    history_end: NDArray[np.int64]  # [S] virtual index of the first row not in the state
    depth: NDArray[np.uint16]  # [S] rows of the state, at most the window
    last_gap: FloatArray  # [S] seconds from the newest row to the decision
    user: NDArray[np.int32]  # [S] row of user_features
    clock: NDArray[np.int64]  # [S] microseconds: when the decision was made; says what could be shown
    discount: FloatArray  # [S] of the successor; 0 = terminated
    next_state: NDArray[np.int32]  # [S] -1 = none
    censored: NDArray[np.bool_]  # [S] the successor was never observed
    explored: NDArray[np.bool_]  # [S] the action was not the policy's own: n-step returns stop before it
    state_reward: FloatArray  # [S, R] reward of the whole decision (the same array as `reward` for single items)
    state: NDArray[np.int32]  # [T] which state
    action: NDArray[np.int32]  # [T] item shown
    reward: FloatArray  # [T, R] weighted reward of that item
    user_features: FloatArray  # [V, U]
    candidates: NDArray[np.int32]  # ragged, [sum K]; empty where every state offers what is available
    candidates_start: NDArray[np.int64]  # [S + 1] or [0]
    candidate_values: FloatArray  # [sum K, G] what the log says of each candidate at its decision; [0, 0] without
    excluded: NDArray[np.int32] = np.zeros(0, np.int32)  # ragged, [sum X]: what of the available could not be shown
    excluded_start: NDArray[np.int64] = np.zeros(0, np.int64)  # [S + 1] or [0]
    shown: NDArray[np.int32] = np.zeros((0, 0), np.int32)  # [S, k] slates, of which `action` was chosen (0 = nothing); [0, 0]: single items


class EventReplay:
    """Reads states and transitions from `Tables`, which `writers.py` fills.

    Rows before a customer's first one, and the mirror behind a ring, are padding that lets every window be read as one
    run of memory: `rows` starts with `window` empty rows (a log), or each ring ends with a copy of its first `window`.

    Args:
        tables: the arrays.
        window: L, rows of history in a state.
        availability: of items 1..N.
        lane_rows: rows per ring (a power of two) where rows are rings, one per simulated customer; None for a log.
        lane_states: state slots per ring.
        columns: names of `candidate_values`, where batches carry features of the candidates; None: they do not.
        n_types: M, for those features.
        lists: what is offered at each decision, of a log where it is not the catalogue.
        successors: so many transitions of a batch, the first ones, get the shortlist of their successor; None = all of them. 0: nor are
            the features of its list computed, for losses that look at no successor.
        with_actions: whether batches say what could be shown at the decision itself.
    """

    def __init__(
        self, tables: Tables, window: int, availability: Availability, lane_rows: int | None = None, lane_states: int = 0, *,
        columns: Sequence[str] | None = None, n_types: int = 0, lists: Shortlists | None = None, successors: int | None = None,
        with_actions: bool = False,
    ) -> None:  # fmt: skip
        self.tables, self.window, self.availability = tables, window, availability
        self.lists, self.successors, self.with_actions = lists, successors, with_actions
        self.columns, self.n_types = columns, n_types
        self._until = availability.until if availability.ends else None
        self.lane_rows, self.lane_states = lane_rows, lane_states
        distance = np.arange(window, 0, -1)  # of each window column from `history_end`
        self._masks = -(distance <= np.arange(window + 1)[:, None]).astype(np.int32)  # [depth, column] all bits where real, else none
        rows, row_bytes = tables.rows, 16
        self._runs: NDArray[np.void] = np.ndarray(
            (max(len(rows) - window + 1, 0),), f"V{row_bytes * window}", rows, strides=(row_bytes,)
        )  # run i = rows i .. i + window: a window is copied whole, not row by row

    def states(self, index: NDArray[np.int64]) -> State:
        """The states in slots `index` [B]; newest event last, padding on the left."""
        t = self.tables
        start = t.history_end[index]  # a log's rows are shifted by `window`, so this is where the window begins
        if self.lane_rows is not None:
            start = (start - self.window) & (self.lane_rows - 1)
            start += index // self.lane_states * (self.lane_rows + self.window)
        depth = t.depth[index]
        rows = self._runs[start].view(np.int32).reshape(len(index), self.window, 4)
        # one pass removes what is not the customer's (zero bits are zero in either type) and makes each column contiguous
        columns = np.bitwise_and(rows.transpose(2, 0, 1), self._masks[depth], order="C")
        types, gaps, values = columns[TYPE], columns[GAP].view(np.float32), columns[VALUE].view(np.float32)
        gaps[:, -1] = np.where(depth > 0, t.last_gap[index], 0.0)
        return State(columns[ITEM], types, gaps, values, t.user_features[t.user[index]], derive_context(types, gaps))

    def batch(self, index: NDArray[np.int64], n_step: int = 1) -> Batch:
        """Transitions `index` [B] with n-step returns that stop where an episode does and before an exploratory action.

        Rewards after such an action are those of exploring, not those of the policy (Watkins 1989, Q(lambda)).
        The discount of step t is `discount[t]`; rewards of steps 2..n are kept apart from the first one because the
        now-and-later form fits them with different heads.
        """
        t = self.tables
        state = t.state[index].astype(np.int64)
        later, following, discount, censored = self.following(state, n_step)
        bootstrap = (~censored).astype(np.float32)
        reached = np.where(following >= 0, following, state)
        candidates = self.listed(reached) if len(t.candidates) else None
        both, n = self.states(np.concatenate([state, reached])), len(index)  # one gather for both ends
        first, last = (State._make(part[ends] for part in both) for ends in (slice(n), slice(n, None)))
        open_actions: OpenActions[Any] = OpenActions(candidates, t.clock[reached], self.availability.since, self._until)
        action, of_action = t.action[index].astype(np.int64), None
        if self.lists is not None:
            if self.successors != 0:
                some = slice(self.successors)
                open_actions = self._offered_next(open_actions, State._make(part[some] for part in last), reached[some])
            offered = self.offered(state, first)
            return Batch(
                first, action, t.reward[index], later, discount, bootstrap, last, open_actions, self._next_action(reached), index,
                _features_of(action, *offered), *offered,
            )  # fmt: skip
        if self.columns is not None:
            of_action = self._of_action(state, first, action)
            if candidates is not None and self.successors != 0:
                open_actions = open_actions._replace(features=self.candidate_features(reached, last, candidates))
        open_actions = open_actions._replace(excluded=padded(t.excluded, t.excluded_start, reached))
        shown, next_shown = (self._slates(state), self._slates(reached)) if len(t.shown) else (None, None)
        return Batch(
            first, action, t.reward[index], later, discount, bootstrap, last, open_actions, self._next_action(reached), index, of_action,
            actions=self._open_actions(state, first) if self.with_actions else None, shown=shown, next_shown=next_shown,
        )  # fmt: skip

    def following(self, state: NDArray[np.int64], n_step: int) -> tuple[FloatArray, NDArray[np.int64], FloatArray, NDArray[np.bool_]]:
        """What came after the rewards of decisions `state` [B], as in `batch`.

        Returns:
            The discounted rewards of steps 2..n [B, R], the state after them (-1: none), its discount, and whether it was never seen.
        """
        t = self.tables
        following, discount = t.next_state[state].astype(np.int64), t.discount[state].copy()
        censored = t.censored[state].copy()
        later = np.zeros((len(state), t.reward.shape[1]), np.float32)
        for _ in range(n_step - 1):
            go = (discount > 0) & ~censored & (following >= 0)
            go &= (t.next_state[following] != NO_ACTION) & ~t.explored[following]
            later += np.where(go[:, None], discount[:, None] * t.state_reward[following], 0)
            censored |= go & t.censored[following]
            discount = np.where(go, discount * t.discount[following], discount)
            following = np.where(go, t.next_state[following], following)
        return later, following, discount, censored

    def customers(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Whose transitions `index` [B] are; of rings the lane, in which one customer follows another."""
        t = self.tables
        return t.user[t.state[index]].astype(np.int64) if self.lane_rows is None else index // self.lane_states

    def _open_actions(self, state: NDArray[np.int64], seen: State) -> OpenActions[Any]:
        """What could be shown at decisions [B], whose states are `seen`."""
        t = self.tables
        candidates = self.listed(state) if len(t.candidates) else None
        features = None if candidates is None or self.columns is None else self.candidate_features(state, seen, candidates)
        excluded = padded(t.excluded, t.excluded_start, state)
        return OpenActions(candidates, t.clock[state], self.availability.since, self._until, features=features, excluded=excluded)

    def offered(self, state: NDArray[np.int64], seen: State) -> tuple[NDArray[np.int64], FloatArray]:
        """The shortlists [B, K] of decisions [B], whose states are `seen`, and their features, float32 [B, K, F]."""
        assert self.lists is not None
        actions = self.lists.actions(seen, self.lists.asked[state])
        assert actions.values is not None
        return actions.candidates, candidate_features(seen, actions.candidates, actions.values, actions.columns, self.n_types)

    def _offered_next(self, open_actions: OpenActions[Any], seen: State, reached: NDArray[np.int64]) -> OpenActions[Any]:
        """With the shortlists of the first states; the others are not asked for, and offer what was available."""
        candidates, features = self.offered(reached, seen)
        assert open_actions.clock is not None
        more = ((0, len(open_actions.clock) - len(reached)), (0, 0))
        return open_actions._replace(candidates=np.pad(candidates, more), features=np.pad(features, (*more, (0, 0))))

    def candidate_features(self, state: NDArray[np.int64], seen: State, candidates: NDArray[np.int64]) -> FloatArray:
        """Features of the listed candidates [B, K] of decisions [B], whose states are `seen`: float32 [B, K, F]."""
        t, columns = self.tables, self.columns or ()
        values = np.full((*candidates.shape, len(columns)), np.nan, np.float32)
        inside = candidates > 0
        if len(columns) and len(t.candidate_values):
            first = t.candidates_start[state][:, None] + np.arange(candidates.shape[1])
            values[inside] = t.candidate_values[first[inside]]
        return candidate_features(seen, candidates, values, columns, self.n_types)

    def _of_action(self, state: NDArray[np.int64], seen: State, action: NDArray[np.int64]) -> FloatArray:
        """Features of what was shown, float32 [B, F]: where a list was, as one of it."""
        candidates = self.listed(state) if len(self.tables.candidates) else None
        alone = action[:, None]
        if candidates is None:
            return self._unlisted(seen, alone)
        same = candidates == alone
        out: FloatArray = self.candidate_features(state, seen, candidates)[np.arange(len(action)), same.argmax(1)]
        missing = ~same.any(1)
        if missing.any():
            out[missing] = self._unlisted(take_rows(seen, missing), alone[missing])
        return out

    def _unlisted(self, seen: State, action: NDArray[np.int64]) -> FloatArray:
        nothing = np.full((*action.shape, len(self.columns or ())), np.nan, np.float32)
        out: FloatArray = candidate_features(seen, action, nothing, self.columns or (), self.n_types)[:, 0]
        return out

    def _next_action(self, state: NDArray[np.int64]) -> NDArray[np.int64]:
        """What was shown in these states, int64 [B]; 0 where a list was shown, or nothing yet."""
        t = self.tables
        if len(t.action) != len(t.history_end):
            return np.zeros(len(state), np.int64)
        return np.where(t.next_state[state] != NO_ACTION, t.action[state], 0).astype(np.int64)

    def _slates(self, state: NDArray[np.int64]) -> NDArray[np.int64]:
        """The slates shown in these states, int64 [B, k]; 0 where nothing has been shown yet."""
        t = self.tables
        return np.where(t.next_state[state, None] != NO_ACTION, t.shown[state], 0).astype(np.int64)

    def listed(self, state: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Explicit candidates of states, [B, K] padded with 0; None when no state of the batch has a list."""
        return padded(self.tables.candidates, self.tables.candidates_start, state)

    def bytes_per_transition(self) -> float:
        """Bytes beside the history rows, user features and candidate lists, per transition."""
        t = self.tables
        per_state: list[NDArray[Any]] = [t.history_end, t.depth, t.last_gap, t.user, t.clock, t.discount, t.next_state, t.censored]
        per_state += [t.explored] if t.explored.strides[0] else []
        per_state += [] if t.state_reward is t.reward else [t.state_reward]
        return sum(a.nbytes for a in [*per_state, t.state, t.action, t.reward]) / max(len(t.action), 1)


def _features_of(action: NDArray[np.int64], candidates: NDArray[np.int64], features: FloatArray) -> FloatArray:
    """Features float32 [B, F] of the actions [B] where they stand on their lists [B, K]; NaN where they do not."""
    same = candidates == action[:, None]
    found: FloatArray = features[np.arange(len(action)), same.argmax(1)]
    found[~same.any(1)] = np.nan
    return found


NO_ACTION = -2
"""`next_state` of a slot that holds only the last observation of a truncated episode."""


def padded(flat: NDArray[np.int32], start: NDArray[np.int64], state: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """The ragged lists of states [B] as rows [B, K] padded with 0; None when no state of the batch has one."""
    if not len(flat):
        return None
    first, count = start[state], np.diff(start)[state]
    width = int(count.max())
    if width == 0:
        return None
    column = np.arange(width)
    inside = column < count[:, None]
    return np.where(inside, flat[np.where(inside, first[:, None] + column, 0)], 0).astype(np.int64)
