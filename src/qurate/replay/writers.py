"""Writers fill a store: from a dataset at once, or from the feedback of a batched environment step by step."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qurate.mdp.candidate_features import values_of
from qurate.mdp.shortlists import Shortlists
from qurate.mdp.states import gap_seconds
from qurate.replay.event_replay import NO_ACTION, EventReplay, Tables
from qurate.types import (
    CENSORED,
    TERMINATED,
    Actions,
    Availability,
    EventArrays,
    EventRows,
    Feedback,
    FloatArray,
    IntArray,
    Observation,
    Transitions,
)


def _bits(values: FloatArray) -> NDArray[np.int32]:
    return np.ascontiguousarray(values, np.float32).view(np.int32)


def step_discount(pause: FloatArray, gamma: float, tau_s: float) -> FloatArray:
    """gamma inside a visit; exp(-pause / tau) across the pause to the next one; float32, same shape.

    A myopic learner (gamma = 0) looks at nothing beyond the present step, so its pauses are discounted to 0 as well.
    """
    across = np.exp(-pause / tau_s) if gamma > 0 else np.zeros_like(pause)
    return np.where(pause > 0, across, gamma).astype(np.float32)


def store_from_log(
    events: EventArrays,
    transitions: Transitions,
    weights: FloatArray,
    user_features: FloatArray,
    gamma: float,
    tau_s: float,
    window: int,
    availability: Availability,
    *,
    columns: Sequence[str] | None = None,
    n_types: int = 0,
    lists: Shortlists | None = None,
    successors: int | None = None,
    with_actions: bool = False,
) -> EventReplay:
    """A store over a dataset's arrays.

    Args:
        weights: float32 [R], weight of each reward component.
        user_features: float32 [V, U], row = user index.
        gamma: discount per decision, in [0, 1].
        tau_s: seconds over which the value of a later visit falls to 1/e.
        availability: of items 1..N.
        columns, n_types, lists, successors, with_actions: see `EventReplay`.
    """
    t = transitions
    rows = np.zeros((window + len(events.item), 4), np.int32)
    rows[window:, 0], rows[window:, 1], rows[window:, 3] = events.item, events.type, _bits(events.value)
    if len(events.time):  # the gap at a user's last row is overwritten by `last_gap` at sampling
        rows[window:-1, 2] = _bits(gap_seconds(np.diff(events.time)))
    start = events.user_start[t.user]
    depth = np.minimum(t.history_end - start, window).astype(np.uint16)
    newest = events.time[np.maximum(t.history_end - 1, 0)] if len(events.time) else np.zeros(len(t.history_end), np.int64)
    last_gap = np.where(depth > 0, gap_seconds(t.clock - newest), np.float32(0))
    reward = t.reward * weights
    states = len(t.history_end)
    single = len(t.state) == states
    discount, following, censored = np.zeros(states, np.float32), np.full(states, -1, np.int32), np.zeros(states, np.bool_)
    discount[t.state] = np.where(t.end == TERMINATED, 0, step_discount(t.pause, gamma, tau_s))
    following[t.state] = t.next_state
    censored[t.state] = t.end == CENSORED
    state_reward = reward
    if not single:
        state_reward = np.zeros((states, reward.shape[1]), np.float32)
        np.add.at(state_reward, t.state, reward)
    tables = Tables(
        rows, t.history_end, depth, last_gap, t.user, t.clock, discount, following, censored,
        np.broadcast_to(np.False_, states), state_reward,
        t.state, t.action, reward, user_features, t.candidates, t.candidates_start, t.candidate_values,
        t.excluded, t.excluded_start,
    )  # fmt: skip
    return EventReplay(
        tables, window, availability, columns=columns, n_types=n_types, lists=lists, successors=successors, with_actions=with_actions
    )


def _successor_actions(feedback: Feedback) -> Actions:
    """What was open to each lane's customer in the successor, before any reset."""
    now, final = feedback.obs.actions, feedback.final_actions
    if final is None:
        return now
    cut = feedback.truncated[:, None]
    values = None if final.values is None or now.values is None else np.where(cut[:, :, None], final.values, now.values)
    return Actions(np.where(cut, final.candidates, now.candidates), np.where(cut, final.mask, now.mask), values, now.columns)


class OnlineWriter:
    """Rings of history rows and states, one pair per simulated customer ("lane").

    A slot is a state; it becomes a transition when its action and reward arrive. Where an episode is truncated, one
    more slot holds the last observation, so that its value can be bootstrapped; nothing is gathered across the place
    where a ring is being overwritten.

    Args:
        lanes: customers simulated at once.
        capacity: transitions kept in all.
        window: L.
        weights: float32 [R], weight of each reward component.
        availability: of items 1..N.
        user_dim: U.
        rows_per_step: most history rows that one customer gets in one step.
        n_candidates: K, where each decision has a list of its own to choose from; None = the catalogue.
        with_actions: see `EventReplay`.
        slate_size: k, items shown at once, of which the customer chooses one or none; 0 = decisions are single items.
        columns: what is kept of what observations say of the candidates of such a list, for batches that carry features of them
            (mdp/candidate_features.py); None: they carry none.
        n_types: M, for those features.
    """

    def __init__(
        self,
        lanes: int,
        capacity: int,
        window: int,
        weights: FloatArray,
        availability: Availability,
        user_dim: int,
        gamma: float,
        tau_s: float,
        *,
        rows_per_step: int = 5,
        n_candidates: int | None = None,
        with_actions: bool = False,
        slate_size: int = 0,
        columns: Sequence[str] | None = None,
        n_types: int = 0,
    ) -> None:
        self.lanes, self.gamma, self.tau_s, self.weights, self.slate_size = lanes, gamma, tau_s, weights, slate_size
        self.lane_states = max(8, -(-capacity // lanes))
        self.lane_rows = 1 << int(np.ceil(np.log2(max(rows_per_step, 1) * self.lane_states + 2 * window)))
        listed = n_candidates or 0
        slots, n_components = lanes * self.lane_states, len(weights)
        reward = np.zeros((slots, n_components), np.float32)
        self.tables = Tables(
            rows=np.zeros((lanes * (self.lane_rows + window), 4), np.int32),
            history_end=np.zeros(slots, np.int64), depth=np.zeros(slots, np.uint16), last_gap=np.zeros(slots, np.float32),
            user=np.arange(slots, dtype=np.int32), clock=np.zeros(slots, np.int64), discount=np.zeros(slots, np.float32),
            next_state=np.full(slots, NO_ACTION, np.int32), censored=np.zeros(slots, np.bool_), explored=np.zeros(slots, np.bool_),
            state_reward=reward,
            state=np.arange(slots, dtype=np.int32), action=np.zeros(slots, np.int32), reward=reward,
            user_features=np.zeros((slots, user_dim), np.float32), candidates=np.zeros(slots * listed, np.int32),
            candidates_start=np.arange(slots + 1, dtype=np.int64) * listed if listed else np.zeros(0, np.int64),
            candidate_values=np.zeros((slots * listed if columns else 0, len(columns or ())), np.float32),
            shown=np.zeros((slots if slate_size else 0, slate_size), np.int32),
        )  # fmt: skip
        self.store = EventReplay(
            self.tables, window, availability, self.lane_rows, self.lane_states, columns=columns, n_types=n_types, with_actions=with_actions
        )
        self.written = np.zeros(lanes, np.int64)  # states ever written per lane; the newest is the open one
        self.head = np.zeros(lanes, np.int64)  # rows ever written per lane
        self.episode_head = np.zeros(lanes, np.int64)  # `head` when the present customer came
        self.newest_time = np.zeros(lanes, np.int64)
        self._lane = np.arange(lanes)

    def _slot(self, count: NDArray[np.int64], lanes: NDArray[np.int64]) -> NDArray[np.int64]:
        return lanes * self.lane_states + count % self.lane_states

    def begin(self, observation: Observation, clock: NDArray[np.int64]) -> None:
        """The first states of all lanes, after `reset`."""
        self.episode_head[:] = self.head
        self._open(self._lane, clock, observation.actions, observation.state.user)

    def _open(self, lanes: NDArray[np.int64], clock: NDArray[np.int64], actions: Actions, user: FloatArray) -> None:
        """A new state slot in each of `lanes`, decided at `clock` [len(lanes)] among `actions` of all lanes by `user` [len(lanes), U]."""
        t, slot = self.tables, self._slot(self.written[lanes], lanes)
        depth = self.head[lanes] - self.episode_head[lanes]
        t.history_end[slot] = self.head[lanes]
        t.clock[slot] = clock
        t.depth[slot] = np.minimum(depth, self.store.window)
        t.last_gap[slot] = np.where(depth > 0, gap_seconds(clock - self.newest_time[lanes]), 0)
        t.user_features[slot] = user  # of each state: some worlds' customers change
        t.next_state[slot] = NO_ACTION
        if len(t.candidates):
            candidates = np.where(actions.mask[lanes] != 0, actions.candidates[lanes], 0)
            t.candidates.reshape(len(t.history_end), -1)[slot] = candidates
        if len(t.candidate_values):
            values, columns = values_of(actions, self.store.columns or ()), t.candidate_values.shape[1]
            t.candidate_values.reshape(len(t.history_end), -1, columns)[slot] = values[lanes]
        self.written[lanes] += 1

    def add(self, action: NDArray[np.int64], feedback: Feedback, explored: NDArray[np.bool_] | None = None) -> IntArray:
        """Closes the open slots with `action` [lanes] (item indices) and `feedback`, opens the next ones, returns the closed ones.

        Slates [lanes, k] are kept, and the action is the item that was chosen, 0 = none.
        `explored` [lanes]: the policy itself would have shown something else; None = nowhere.
        """
        t, slot = self.tables, self._slot(self.written - 1, self._lane)
        if self.slate_size:
            action = action.reshape(self.lanes, -1)
            t.shown[slot] = action
            action = np.where(feedback.clicked >= 0, action[self._lane, feedback.clicked], 0)
        t.action[slot] = action
        t.explored[slot] = False if explored is None else explored
        t.reward[slot] = feedback.components * self.weights
        t.discount[slot] = np.where(feedback.terminated, 0, step_discount(feedback.pause, self.gamma, self.tau_s))
        self._append_rows(feedback.rows)
        going_on = self._lane[~feedback.terminated]
        t.next_state[slot] = -1
        t.next_state[slot[going_on]] = self._slot(self.written[going_on], going_on)
        user = (t.user_features[slot] if feedback.user is None else feedback.user)[going_on]
        self._open(going_on, feedback.clock[going_on], _successor_actions(feedback), user)  # of a truncated lane: keeps NO_ACTION for ever
        ended = np.flatnonzero(feedback.terminated | feedback.truncated)
        if len(ended):
            self.episode_head[ended] = self.head[ended]
            self._open(ended, feedback.clock[ended], feedback.obs.actions, feedback.obs.state.user[ended])
        return slot

    def _append_rows(self, rows: EventRows) -> None:
        """Appends history rows and fills in the gap of the row before each."""
        if len(rows.lane) == 0:
            return
        order = np.argsort(rows.lane, kind="stable")
        lane, time = rows.lane[order], rows.time[order]
        first = np.r_[True, lane[1:] != lane[:-1]]
        starts = np.flatnonzero(first)
        rank = np.arange(len(lane)) - np.repeat(starts, np.diff(np.r_[starts, len(lane)]))
        virtual = self.head[lane] + rank
        previous = np.where(first, self.newest_time[lane], np.r_[0, time[:-1]])
        mask = self.lane_rows - 1
        values = np.stack([rows.item[order], rows.type[order].astype(np.int32), np.zeros_like(virtual), _bits(rows.value[order])], 1)
        self._put(lane, virtual & mask, slice(None), values.astype(np.int32))
        self._put(lane, (virtual - 1) & mask, 2, _bits(gap_seconds(time - previous)))
        last = np.r_[lane[1:] != lane[:-1], True]
        self.newest_time[lane[last]] = time[last]
        self.head[lane[last]] = virtual[last] + 1

    def _put(self, lane: NDArray[np.int64], offset: NDArray[np.int64], column: int | slice, values: NDArray[np.int32]) -> None:
        """Writes into the rings, and into the mirror that lets a window run over a ring's end."""
        position = lane * (self.lane_rows + self.store.window) + offset
        self.tables.rows[position, column] = values
        mirrored = offset < self.store.window
        self.tables.rows[position[mirrored] + self.lane_rows, column] = values[mirrored]

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything that changes, by name; not copied."""
        changing = (
            "rows",
            "history_end",
            "clock",
            "depth",
            "last_gap",
            "discount",
            "next_state",
            "censored",
            "explored",
            "reward",
            "action",
            "user_features",
            "candidates",
            "candidate_values",
            "shown",
        )
        own = {name: getattr(self, name) for name in ("written", "head", "episode_head", "newest_time")}
        return own | {f"tables.{name}": getattr(self.tables, name) for name in changing}

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Goes on from what `state` returned, on a writer of the same arguments."""
        for name, array in self.state().items():
            array[...] = state[name]

    def filled(self) -> NDArray[np.int64]:
        """States held per lane, [lanes]."""
        return np.minimum(self.written, self.lane_states)

    def oldest(self) -> NDArray[np.int64]:
        """Count of the oldest state held per lane, [lanes]."""
        return np.maximum(self.written - self.lane_states, 0)

    def complete(self, index: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which slots hold a transition whose history rows have not been overwritten, bool [len(index)]."""
        t, lane = self.tables, index // self.lane_states
        safe: NDArray[np.bool_] = t.history_end[index] - t.depth[index] >= self.head[lane] - self.lane_rows
        safe &= t.next_state[index] != NO_ACTION
        return safe
