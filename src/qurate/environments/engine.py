"""The batched engine: B customers at once, no Python loop over them.

A world (shop.py) says how customers answer; the engine keeps what every world needs: who stands in which lane, clocks,
history rings, observations, the step limit and the change of customers. Lane b serves customers b, b + n, b + 2n, ...:
where an episode ends, the next customer takes the lane in the same step (autoreset mode SAME_STEP).
"""

from typing import NamedTuple, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from qurate.environments import histories
from qurate.environments.arrivals import ARRIVALS_S, first_visits
from qurate.environments.candidate_values import CandidateValues
from qurate.environments.histories import Histories
from qurate.environments.history_rows import Group, event_rows
from qurate.environments.open_lists import open_lists
from qurate.environments.rng import GOLDEN, STEP_STRIDE, Keys, StepDraws, customer_keys, mix, uniform_items
from qurate.errors import Code, UserError
from qurate.mdp.rewards import weighted_sum
from qurate.types import ALWAYS, NEVER, Actions, Availability, EventRows, Feedback, FloatArray, IntArray, Observation

WHOLE = (int, np.integer)

_CANDIDATES = np.array((int(GOLDEN) * 14) % 2**64, np.uint64)  # purpose 14 of every step
_ONE = np.array(1)  # without a dimension, see rng.py

STATE = ("seed", "n", "customer", "steps", "clock", "_stream", "_user")
"""Names of the engine's changing attributes, beside histories and the world's."""


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
        self._most_steps = np.array(max_steps)
        self._draws = StepDraws(lambda keys: (uniform_items(mix(keys + _CANDIDATES)[:, None], largest, self.n_items).T,))
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
        self._everyone = np.broadcast_to(np.arange(1, self.n_items + 1, dtype=np.int64), (n, self.n_items))
        self._all_open = np.broadcast_to(np.ones(1, np.int8), (n, self.n_candidates or self.n_items))
        options = {"has_values": self.world.has_values, "padded": self.slate_size > 1}  # a single item leaves a row each time
        self.histories = Histories(n, self.window, self.rows_per_step, len(self.type_names), **options)
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
        own |= {f"_{name}": np.array(getattr(self.histories, name)) for name in histories.ARRAYS}
        return own | {f"world.{name}": np.array(getattr(self.world, name)) for name in self.world.state_names}

    def restore(self, state: dict[str, NDArray[np.generic]]) -> Observation:
        """Continues from what `state` returned; returns the observation that stood then."""
        if state["seed"].ndim:
            self.reset_lanes(state["seed"].astype(np.uint64))
        else:
            self.reset(int(state["seed"]), int(state["n"]))
        for name in set(STATE) - {"seed", "n"}:
            getattr(self, name)[...] = state[name]
        self.histories.restore({name: state[f"_{name}"] for name in histories.ARRAYS})
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
            _require(not np.count_nonzero(ordered[:, 1:] == ordered[:, :-1]), "distinct positions within a slate", "a repeated one", "step")
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
        self.histories.enter(lanes)

    def _append(self, groups: list[Group], clock: IntArray) -> EventRows:
        """Writes the step's rows into the rings and returns them, per lane in order of time; `clock`: the next decision."""
        times = [self._time(group) for group in groups]
        if self.observe:
            self.histories.append(groups, times, clock)
        return event_rows(groups, times, self.lanes, self.world.has_values)

    def _time(self, group: Group) -> IntArray:
        clock = self.clock if group.lanes is None else self.clock.take(group.lanes)
        return clock if isinstance(group.after, int) and group.after == 0 else clock + group.after

    def _observe(self, waiting: NDArray[np.bool_] | None = None) -> Observation:
        return Observation(self.histories.state(self._user), self._open_actions(waiting))

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
        if self.world.with_replacement:
            return self._draws(self._stream)[0].T
        own = mix(self._stream + _CANDIDATES)[:, None]
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


def _require(ok: bool, expected: str, got: object, where: str) -> None:
    if not ok:
        raise UserError(expected, str(got), where=where, code=Code.BAD_ACTION if where == "step" else Code.BAD_ARGUMENT)
