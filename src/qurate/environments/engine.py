"""The batched engine: B customers at once, no Python loop over them.

A world (shop.py) says how customers answer; the engine keeps what every world needs: who stands in which lane, clocks,
history rings, observations, the step limit and the change of customers. Lane b serves customers b, b + n, b + 2n, ...:
where an episode ends, the next customer takes the lane in the same step (autoreset mode SAME_STEP).
"""

from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import polars as pl
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from qurate.environments.arrivals import ARRIVALS_S, first_visits
from qurate.environments.candidate_values import CandidateValues
from qurate.environments.history_rows import Group, event_rows
from qurate.environments.open_lists import open_lists
from qurate.environments.rng import GOLDEN, STEP_STRIDE, Keys, customer_keys, mix, uniform_items
from qurate.errors import Code, UserError
from qurate.mdp.rewards import weighted_sum
from qurate.mdp.states import derive_context, gap_seconds
from qurate.types import ALWAYS, NEVER, Actions, Availability, EventRows, Feedback, FloatArray, IntArray, Observation, State

ScalarT = TypeVar("ScalarT", bound=np.generic)

COMPACT_EVERY = 12
"""Steps between two moves of the histories to the front of their rings."""
WHOLE = (int, np.integer)

_CANDIDATES = np.array((int(GOLDEN) * 14) % 2**64, np.uint64)  # purpose 14 of every step
_ONE, _BITS, _TYPE = (np.array(number) for number in (1, 8, 255))  # arrays without a dimension, see rng.py

STATE = ("seed", "n", "customer", "steps", "clock", "_stream", "_user", "_codes", "_gaps", "_values", "_end", "_last", "_until_compact")
"""Names of the engine's changing attributes."""


class Outcome(NamedTuple):
    """A world's answer to one batch of decisions."""

    components: FloatArray  # [B, R]
    clicked: IntArray  # [B] position in the slate, -1 = none
    groups: list[Group]  # in order of time for each customer
    dwell: IntArray  # [B] microseconds from the decision to the next one (pause included)
    pause: FloatArray  # [B] seconds between visits if this step ended one and the customer returns, else 0
    gone: NDArray[np.bool_]  # [B] never comes back
    user: FloatArray | None = None  # [B, U] visible features after the step, an array of its own; None = they never change


class World(Protocol):
    """What the engine asks of a scenario. All arrays are per lane; latent state stays inside."""

    item_ids: list[str]
    type_names: list[str]
    component_names: list[str]
    component_weights: FloatArray
    feature_names: list[str]
    user_feature_names: list[str]
    availability: Availability  # when each item may be shown
    rows_per_step: int  # most history rows that one customer gets in one step
    has_values: bool  # whether history rows carry values
    with_replacement: bool  # whether several of a decision's `n_candidates` may be of the same item
    state_names: tuple[str, ...]  # attributes, arrays per lane, that hold the latent state

    @property
    def item_features(self) -> FloatArray:
        """[N + 1, F], row 0 zeros."""
        ...

    def allocate(self, n: int) -> None:
        """Makes room for n lanes."""
        ...

    def enter(self, lanes: IntArray, keys: Keys) -> FloatArray:
        """New customers with `keys` take `lanes`; returns their visible features, float32 [m, U]."""
        ...

    def respond(self, items: IntArray, stream: Keys, steps: IntArray) -> Outcome:
        """Customers answer to `items` [B] or [B, k]; luck comes from `stream` [B], another one each step; `steps` [B]:
        decisions each customer met before."""
        ...

    def items_table(self) -> pl.DataFrame:
        """The catalogue as a shop would export it: item_id and columns from which `item_features` are made."""
        ...


class BatchedEngine:
    """`Engine` of mdp/types.py over a world.

    Args:
        world: the scenario.
        window: L, history rows in an observation.
        max_steps: decisions after which an episode is truncated.
        slate_size: items shown at once, k; with k = 1 actions are [B].
        n_candidates: K items drawn for each decision from those that are available then (where fewer are, the rest is 0 and
            masked); None = the whole catalogue, closed items masked. A world whose items are always open may draw the same item
            several times.
        observe: False leaves histories and observations out (for policies that do not look); `step` then returns the
            last observation built.

    Attributes worth knowing: `world` (latent state), `customer` [B] (who is in each lane), `steps` [B] (decisions so far),
    `clock` [B], `candidate_columns` (names of what is seen of each candidate, candidate_values.py), `groups` (the last step's rows
    by kind, in the order of `Feedback.rows`), `final` (where `keep_final` is set and episodes ended in the last step: the observation
    before the change of customers).
    """

    restores_exactly = True
    """`restore` continues bit for bit."""

    def __init__(
        self,
        world: World,
        window: int = 20,
        max_steps: int = 60,
        slate_size: int = 1,
        n_candidates: int | None = None,
        observe: bool = True,
    ) -> None:
        self.keep_final, self.n = False, 0
        self.final: Observation | None = None
        self.world, self.window, self.max_steps, self.slate_size, self.observe = world, window, max_steps, slate_size, observe
        self.item_ids, self.type_names = world.item_ids, world.type_names
        self.component_names, self.component_weights = world.component_names, world.component_weights
        self.feature_names, self.user_feature_names = world.feature_names, world.user_feature_names
        self.availability, self.rows_per_step = world.availability, world.rows_per_step
        self.n_items = len(world.item_ids)
        since, until = world.availability.since[1:], world.availability.until[1:]
        self._always_open = bool((since == ALWAYS).all() and (until == NEVER).all())
        some = n_candidates is not None and (world.with_replacement or n_candidates < self.n_items)
        self.n_candidates = n_candidates if some else None
        _require(window >= 1, "a window of at least 1 row", window, "window")
        _require(max_steps >= 1, "max_steps of at least 1", max_steps, "max_steps")
        at_least = f"n_candidates >= slate_size ({slate_size})"
        _require(n_candidates is None or n_candidates >= slate_size, at_least, n_candidates, "n_candidates")
        largest = self.n_candidates or self.n_items
        _require(1 <= slate_size <= largest, f"slate_size from 1 to {largest}", slate_size, "slate_size")
        self._limit = np.array(largest, np.uint64)
        self._window, self._most_steps = np.array(window), np.array(max_steps)
        self._of_type = [np.array(kind) for kind in range(len(self.type_names) + 1)]
        self._arrivals = int(getattr(world, "arrivals_s", ARRIVALS_S))
        drawn = self._always_open or self.n_candidates is None
        self._open_lists = None if drawn else open_lists(self.availability, largest)
        self.candidate_values = None if drawn else CandidateValues(world, self.availability)
        self.candidate_columns = () if self.candidate_values is None else self.candidate_values.columns

    @property
    def item_features(self) -> FloatArray:
        """Of the world, [N + 1, F], row 0 zeros."""
        return self.world.item_features

    def reset(self, seed: int, n: int, first_customer: int = 0) -> Observation:
        """Customers first_customer ... first_customer + n - 1 of `seed` take the n lanes."""
        _require(isinstance(seed, WHOLE) and isinstance(n, WHOLE), "whole numbers as seed and n", f"{seed!r} and {n!r}", "reset")
        _require(n >= 1, "at least one customer", n, "n")
        seed, n = int(seed), int(n)
        return self._begin(seed, np.arange(first_customer, first_customer + n, dtype=np.int64), n)

    def reset_lanes(self, seeds: Keys, first_customer: IntArray | int = 0) -> Observation:
        """Each lane has a seed of its own, uint64 [n], and serves that seed's customers one after the other, from
        `first_customer` on: lane b meets exactly what `reset(seeds[b], 1)` meets."""
        _require(len(seeds) >= 1, "at least one customer", 0, "n")
        return self._begin(seeds.copy(), np.zeros(len(seeds), np.int64) + first_customer, 1)

    def _begin(self, seed: int | Keys, customers: IntArray, stride: int) -> Observation:
        """`customers` [n] take the lanes; whoever follows customer c in a lane is customer c + stride."""
        n = len(customers)
        self.seed, self.n, self._stride = seed, n, stride
        self.lanes = np.arange(n, dtype=np.int64)
        self._first_candidate = self.lanes * int(self._limit)  # flat positions
        if self.slate_size > 1:
            self._first_candidate = self._first_candidate[:, None]
        self.customer = customers
        self.steps = np.zeros(n, np.int64)
        self.clock = np.zeros(n, np.int64)
        self._stream = np.zeros(n, np.uint64)
        self._user = np.zeros((n, len(self.user_feature_names)), np.float32)
        self._no_value = np.zeros((n, self.window), np.float32)
        self._no_value.flags.writeable = False
        self._everyone = np.broadcast_to(np.arange(1, self.n_items + 1, dtype=np.int64), (n, self.n_items))
        self._all_open = np.broadcast_to(np.ones(1, np.int8), (n, self.n_candidates or self.n_items))
        self._capacity = self.window + self.rows_per_step * COMPACT_EVERY
        self._codes = np.zeros(n * self._capacity, np.int64)  # item << 8 | type: one gather serves both
        self._gaps = np.zeros(n * self._capacity, np.float32)
        self._values = np.zeros(len(self._gaps) if self.world.has_values else 0, np.float32)
        self._code_runs, self._gap_runs = _runs(self._codes, self.window), _runs(self._gaps, self.window)
        self._value_runs = _runs(self._values, self.window) if self.world.has_values else None
        self._base = self.lanes * self._capacity + self.window
        self._end = self._base.copy()  # flat position after each lane's newest row
        self._last = np.zeros(n, np.int64)  # time of each lane's newest row
        self._until_compact = COMPACT_EVERY
        self.world.allocate(n)
        self._enter(self.lanes)
        self.observation = self._observe()
        return self.observation

    def step(self, actions: NDArray[np.int64]) -> Feedback:
        """Shows each customer the candidate at `actions` (int64 [B], or [B, k] distinct positions)."""
        items = self._items(actions)
        outcome = self.world.respond(items, self._stream, self.steps)
        clock = self.clock + outcome.dwell
        self.groups = outcome.groups
        rows = self._append(outcome.groups, clock)
        self.steps += _ONE
        truncated = self.steps >= self._most_steps
        over = outcome.gone | truncated
        self.clock = clock
        self._stream += STEP_STRIDE
        if outcome.user is not None:
            self._user = outcome.user
        final_actions = None
        lanes = over.nonzero()[0]
        if len(lanes):
            truncated &= ~outcome.gone
            if self.keep_final:
                self.final = self._observe(~outcome.gone)
            if self.n_candidates is not None and truncated.any():
                final_actions = self._open_actions(~outcome.gone)
            self.clock = clock.copy()
            self._user = self._user.copy()  # observations handed out keep theirs
            self.customer[lanes] += self._stride
            self._enter(lanes)
        if self.observe:
            self.observation = self._observe()
        reward = weighted_sum(outcome.components, self.component_weights)
        return Feedback(
            self.observation, reward, outcome.components, outcome.gone, truncated, outcome.clicked, rows, clock, outcome.pause,
            final_actions=final_actions, user=outcome.user,
        )  # fmt: skip

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Everything that changes, as named arrays; `restore` on an engine of the same arguments continues bit for bit."""
        own = {name: np.array(getattr(self, name)) for name in STATE}
        return own | {f"world.{name}": np.array(getattr(self.world, name)) for name in self.world.state_names}

    def restore(self, state: dict[str, NDArray[np.generic]]) -> Observation:
        """Continues from what `state` returned; returns the observation that stood then."""
        if state["seed"].ndim:
            self.reset_lanes(state["seed"].astype(np.uint64))
        else:
            self.reset(int(state["seed"]), int(state["n"]))
        self._until_compact = int(state["_until_compact"])
        for name in set(STATE) - {"seed", "n", "_until_compact"}:
            getattr(self, name)[...] = state[name]
        for name in self.world.state_names:
            getattr(self.world, name)[...] = state[f"world.{name}"]
        self.observation = self._observe()
        return self.observation

    def _items(self, actions: NDArray[np.int64]) -> IntArray:
        expected, actions = (self.n,) if self.slate_size == 1 else (self.n, self.slate_size), np.asarray(actions)
        if actions.shape != expected or actions.dtype.kind != "i":
            _require(self.n > 0, "reset before step", "none", "step")
            _require(False, f"int64 actions of shape {list(expected)}", f"{actions.dtype} {list(actions.shape)}", "step")
        if np.count_nonzero(actions.astype(np.uint64) >= self._limit):  # negative actions are huge as uint64
            _require(False, f"actions from 0 to {int(self._limit) - 1}", [int(actions.min()), int(actions.max())], "step")
        if self.slate_size > 1:
            ordered = np.sort(actions, axis=1) if self.slate_size > 2 else actions
            _require(bool((ordered[:, 1:] != ordered[:, :-1]).all()), "distinct positions within a slate", "a repeated one", "step")
        candidates, mask = self.observation.actions[:2]
        if self._always_open and self.n_candidates is None:
            return np.asarray(actions + _ONE)
        at = self._first_candidate + actions
        if not self._always_open:
            _require(np.count_nonzero(mask.take(at)) == at.size, "actions that the mask allows", "a closed item", "step")
        shown: IntArray = candidates.take(at)
        return shown

    def _enter(self, lanes: IntArray) -> None:
        """The customers in `self.customer[lanes]` begin: fresh latent state, clock and an empty history."""
        keys = customer_keys(self.seed if isinstance(self.seed, int) else self.seed[lanes], self.customer[lanes])
        self._stream[lanes] = keys
        self.steps[lanes] = 0
        self.clock[lanes] = first_visits(keys, self._arrivals)
        self._user[lanes] = self.world.enter(lanes, keys)
        self._codes.reshape(self.n, -1)[lanes, : self.window] = 0
        self._gaps.reshape(self.n, -1)[lanes, : self.window] = 0
        if self.world.has_values:
            self._values.reshape(self.n, -1)[lanes, : self.window] = 0
        self._end[lanes] = self._base[lanes]

    def _append(self, groups: list[Group], clock: IntArray) -> EventRows:
        """Writes the step's rows into the rings and returns them, per lane in order of time; `clock`: the next decision."""
        times = [self._time(group) for group in groups]
        if self.observe:
            if self._until_compact == 0:
                self._compact()
            self._until_compact -= 1
            for place, (group, time) in enumerate(zip(groups, times)):
                self._append_group(group, time, first=place == 0)
            self._set_gaps(self._end - _ONE, clock - self._last)
        return event_rows(groups, times, self.lanes, self.world.has_values)

    def _time(self, group: Group) -> IntArray:
        clock = self.clock if group.lanes is None else self.clock[group.lanes]
        return clock if isinstance(group.after, int) and group.after == 0 else clock + group.after

    def _append_group(self, group: Group, time: IntArray, *, first: bool) -> None:
        code = (group.items << _BITS) + self._of_type[group.type]
        if group.lanes is None:
            end, last = self._end, self._last
            self._last, self._end = time.copy(), end + _ONE  # copies: later groups write into them
        else:
            end, last = self._end[group.lanes], self._last[group.lanes]
            self._last[group.lanes], self._end[group.lanes] = time, end + _ONE
        if not (first and isinstance(group.after, int) and group.after == 0):  # at the clock, the last observation's gap is right
            self._set_gaps(end - _ONE, time - last)
        self._codes[end] = code
        if self.world.has_values:
            self._values[end] = 0 if group.value is None else group.value

    def _set_gaps(self, at: IntArray, gap: IntArray) -> None:
        """Gap (microseconds) from the rows at flat positions `at` to what follows; padding keeps 0."""
        seconds = gap_seconds(gap)
        if self.slate_size > 1:  # a single item leaves a row each time, so there is no padding at the end
            seconds *= self._codes[at] != 0
        self._gaps[at] = seconds

    def _compact(self) -> None:
        """Moves every lane's window to the front of its ring."""
        start = self._end - self.window
        codes, gaps = self._code_runs[start], self._gap_runs[start]
        self._codes.reshape(self.n, -1)[:, : self.window] = codes
        self._gaps.reshape(self.n, -1)[:, : self.window] = gaps
        if self._value_runs is not None:
            self._values.reshape(self.n, -1)[:, : self.window] = self._value_runs[start]
        self._end = self._base.copy()
        self._until_compact = COMPACT_EVERY

    def _observe(self, waiting: NDArray[np.bool_] | None = None) -> Observation:
        start = self._end - self._window
        codes, gaps = self._code_runs[start], self._gap_runs[start]
        items, types = codes >> _BITS, codes & _TYPE
        values = self._no_value if self._value_runs is None else self._value_runs[start]
        state = State(items, types, gaps, values, self._user, derive_context(types, gaps))
        return Observation(state, self._open_actions(waiting))

    def _open_actions(self, waiting: NDArray[np.bool_] | None) -> Actions:
        """What each customer may be shown at their clock; `waiting` [B]: who must have something to choose from, None = all."""
        if self._open_lists is not None:
            candidates, mask = self._open_lists.at(self.clock)
            if self._open_lists.never_empty and self.candidate_values is not None:
                return self.candidate_values.actions(candidates, mask, self.clock)
        else:
            candidates = self._everyone if self.n_candidates is None else self._draw_candidates(self.n_candidates)
            if self._always_open:
                return Actions(candidates, self._all_open)
            mask = self.availability.is_open(candidates, self.clock[:, None]).astype(np.int8)
        without = ~mask.any(axis=1) if waiting is None else waiting & ~mask.any(axis=1)
        if np.count_nonzero(without):
            lane = int(without.argmax())
            got = f"none at {self.clock[lane] / 1e6:.0f} s since 1970"
            raise UserError("an available item at each decision", got, where=f"decision {self.steps[lane]}", code=Code.BAD_ENV)
        return Actions(candidates, mask) if self.candidate_values is None else self.candidate_values.actions(candidates, mask, self.clock)

    def _draw_candidates(self, k: int) -> IntArray:
        """K distinct available items per customer, int64 [B, K] ascending: those with the smallest hash; then 0.

        With replacement: each of the K is uniform over the catalogue, in no order.
        """
        own = mix(self._stream + _CANDIDATES)[:, None]
        if self.world.with_replacement:
            return uniform_items(own, k, self.n_items)
        own = own + np.arange(self.n_items, dtype=np.uint64) * GOLDEN
        order = mix(own)
        clock = self.clock[:, None]
        if not self._always_open:
            order[~self.availability.is_open(self._everyone, clock)] = np.iinfo(np.uint64).max
        chosen = np.sort(np.argpartition(order, k - 1, axis=1)[:, :k], axis=1).astype(np.int64) + 1
        if self._always_open:
            return chosen
        chosen[~self.availability.is_open(chosen, clock)] = self.n_items + 1
        chosen.sort(axis=1)
        return np.where(chosen > self.n_items, 0, chosen)


def _runs(flat: NDArray[ScalarT], window: int) -> NDArray[ScalarT]:
    """View [len - window + 1, window] of all runs of `window` neighbours; indexing rows copies whole runs."""
    return as_strided(flat, (len(flat) - window + 1, window), (flat.itemsize, flat.itemsize), writeable=False)


def _require(ok: bool, expected: str, got: object, where: str) -> None:
    if not ok:
        raise UserError(expected, str(got), where=where, code=Code.BAD_ACTION if where == "step" else Code.BAD_ARGUMENT)
