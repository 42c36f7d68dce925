"""Fitted: customers learned from a log. What they do when an item is shown, when they leave, and whether and when they return.

docs/scenarios/fitted.md gives the equations, and how such customers are fitted and checked (`qurate customers DATASET -o DIR`).
A customer begins without a history, with the features of a random user of the log. After every decision

    memory <- MEMORY * memory + (1 - MEMORY) * (what happened, the vector of what was shown)
    P(the visit ends) = sigmoid(w_leave . x),  P(return after it) = sigmoid(w_return . x)

with x = 1, what happened now, the memory, the logarithms of decisions in this visit and in all, and the customer's features.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from qurate.environments.customer_response import Response, Seen, Wide
from qurate.environments.customers import all_stay
from qurate.environments.engine import Outcome
from qurate.environments.fitted_customers import Customers
from qurate.environments.history_rows import Group
from qurate.environments.rng import Keys, StepDraws, purposes, uniforms
from qurate.environments.running_response import ARRAYS, RunningResponse
from qurate.types import Availability, FloatArray, IntArray

MEMORY = 0.9
"""Share of the memory that is left after a decision."""
MOST_EVENTS = 9
"""Rewarded event types that customers can have: so many random numbers are left in a step beside five others."""
SECOND = 1_000_000
_ONE, _NONE, _SECOND_US, _CERTAIN, _NOBODY = (np.array(x) for x in (1, 0, SECOND, 1.0, -1))  # without a dimension, see rng.py


class Happened(NamedTuple):
    """What B customers did."""

    item: IntArray  # [B] what was chosen of the slate
    position: IntArray  # [B] its place; -1 = nothing happened
    events: Wide  # [B, R] 0 or 1
    amounts: Wide  # [B, R] 0 where it did not happen
    who: dict[int, IntArray]  # to whom each event happened, by event in its order; those that happened to nobody are left out


class FittedCustomers:
    """`World` of the engine. State per lane: who of the log it is, the history as the response sees it (`past`), and `summary`, with the
    memory in it.

    Args:
        customers: as `qurate customers` wrote them.
    """

    has_values = True
    with_replacement = False
    state_names: tuple[str, ...] = ("who", "summary", "visit_steps", *ARRAYS)

    def __init__(self, customers: Customers) -> None:
        facts, arrays = customers.facts, customers.arrays
        self.customers, self.facts = customers, facts
        self.response = Response(arrays)
        self.item_ids, self.type_names = facts.item_ids, facts.type_names
        self.component_names, self.component_weights = facts.components, np.array(facts.weights, np.float32)
        self.feature_names, self.user_feature_names = facts.feature_names, facts.user_feature_names
        self.item_features = np.asarray(arrays["item_features"], np.float32)
        self.availability = Availability.always(len(facts.item_ids))
        self.rows_per_step = 1 + len(facts.events)
        self._shown = facts.type_names.index("shown") + 1
        self._types = [facts.type_names.index(name) + 1 for name in facts.events]
        self._of_event = [facts.events.index(name) if name in facts.events else -1 for name in facts.components]
        self._plain = self._of_event == list(range(len(facts.events)))  # the rewards are those of the events, in their order
        self._first = self.response.order[0]  # the event by which an item of a slate is chosen
        self._people, self._visible = np.asarray(arrays["people"], np.float32), np.asarray(arrays["people_visible"], np.float32)
        self._residual, self._limits = np.asarray(arrays["residual"], np.float64), np.asarray(arrays["limits"], np.float64)
        self._log_value = np.asarray(arrays["log_value"], np.float32)
        self._with_values = any(facts.per_value) or bool(self._log_value.any())
        self._leave, self._return = (np.asarray(arrays[name], np.float64) for name in ("leave", "return"))
        self._dwell, self._pause = (np.asarray(arrays[name], np.float64) for name in ("dwell", "pause"))
        self._draws = StepDraws(self._drawn)
        self._step_draws = purposes(0, 5 + self.response.n_events)
        self._remembered = (1 - MEMORY) * self.response.vectors
        self._first_draw = purposes(1 << 32, 1)

    def items_table(self) -> pl.DataFrame:
        """The catalogue of the log."""
        return self.customers.items_table()

    def allocate(self, n: int) -> None:
        self.n, response = n, self.response
        self.who = np.zeros(n, np.int64)
        self.past = RunningResponse(response, self.facts.window, n, self._with_values)
        for name in ARRAYS:
            setattr(self, name, getattr(self.past, name))
        self.visit_steps = np.zeros(n, np.int64)
        events, memory = 1 + response.n_events, 1 + 2 * response.n_events + response.dim
        self.summary = np.zeros((n, memory + 2 + self._people.shape[1]))
        self._now, self.memory = self.summary[:, 1:events], self.summary[:, events:memory]  # views
        self._counts, self._user = self.summary[:, memory : memory + 2], self.summary[:, memory + 2 :]
        self._lane, self._nothing, self._all_stay = np.arange(n), np.zeros(n, np.int64), all_stay(n)

    def enter(self, lanes: IntArray, keys: Keys) -> FloatArray:
        who = (uniforms(keys, self._first_draw)[0] * len(self._people)).astype(np.int64)
        user = self._people[who]
        self.who[lanes], self.visit_steps[lanes] = who, 0
        self.summary[lanes] = 0
        self.summary[lanes, 0], self._user[lanes] = 1, user
        self.past.enter(lanes, user)
        visible: FloatArray = self._visible[who]
        return visible

    def seen(self) -> Seen:
        """The customers as the response sees them."""
        return self.past.seen()

    def event_weights(self) -> Wide:
        """Reward per unit of each event's amount, [R]; that of leaving and of no response is not counted."""
        weights = np.zeros(self.response.n_events)
        for event, weight in zip(self._of_event, self.component_weights):
            weights[event] += weight * (event >= 0)
        return weights

    def respond(self, items: IntArray, stream: Keys, steps: IntArray) -> Outcome:
        slate, alone = items.reshape(self.n, -1), items.ndim == 1
        luck, waits = self._draws(stream)
        happened = self._happen(slate, luck[4:])
        groups = self._record(slate, happened, alone)
        self.visit_steps += _ONE
        self._now[:] = happened.events
        self._counts[:, 0], self._counts[:, 1] = self.visit_steps, steps + _ONE
        np.log1p(self._counts, self._counts)
        self.memory *= MEMORY
        self.memory[:, : self.response.n_events] += (1 - MEMORY) * happened.events
        shown = self._remembered.take(items, 0) if alone else (1 - MEMORY) * self.response.vectors[slate].mean(1)
        self.memory[:, self.response.n_events :] += shown
        wait = np.where(happened.position >= _NONE, waits[1], waits[0])
        pause, gone = self._all_stay
        leavers = (luck[0] < chance(self.summary, self._leave)).nonzero()[0]
        if leavers.size:
            pause, gone = self._leave_now(leavers, luck, wait)
        self.past.wait(wait)
        return Outcome(self._components(happened, gone), happened.position, groups, wait, pause, gone)

    def _drawn(self, keys: Keys) -> tuple[FloatArray, IntArray]:
        """Uniform numbers [5 + R, B], and microseconds [2, B] to the next decision where nothing happens and where something does."""
        luck = uniforms(keys, self._step_draws)
        return luck, (np.array([quantile(dwell, luck[3]) for dwell in self._dwell]) * _SECOND_US).astype(np.int64)

    def _leave_now(self, leavers: IntArray, luck: FloatArray, wait: IntArray) -> tuple[FloatArray, NDArray[np.bool_]]:
        """The visit of `leavers` ends; they return after a pause, which takes the place of their `wait` (microseconds), or never."""
        pause, gone = np.zeros(self.n, np.float32), np.zeros(self.n, np.bool_)
        stays = (luck[1, leavers] < chance(self.summary[leavers], self._return)) & self.facts.returns
        away = np.where(stays, quantile(self._pause, luck[2, leavers]), 0)
        wait[leavers] = np.where(away > 0, (away * _SECOND_US).astype(np.int64), wait[leavers])
        pause[leavers], gone[leavers], self.visit_steps[leavers] = away, ~stays, 0
        return pause, gone

    def _happen(self, slate: IntArray, luck: FloatArray) -> Happened:
        """What happens where customers meet `slate` [B, k]; `luck` [1 + R, B]: the choice, then one number for each event."""
        response, several = self.response, slate.shape[1] > 1
        logits, sizes = self.past.answers(slate)
        if several:
            place, some = self._choose(logits, luck[0])
            logit, size, item = logits[self._lane, place], sizes[self._lane, place], slate[self._lane, place]
        else:
            place = self._nothing
            logit, size, item = logits[:, 0], sizes[:, 0], slate[:, 0]
        scaled = response.scaled(logit)
        apart = None if response.has_pairs else response.chances(scaled)
        events, amounts, anything = np.zeros(scaled.shape), np.zeros(scaled.shape), np.zeros(self.n, np.bool_)
        happens: dict[int, NDArray[np.bool_]] = {}
        who: dict[int, IntArray] = {}
        for event in response.order:
            u = luck[1 + event]
            if several and event == self._first:
                p, happens[event] = np.ones(self.n), some  # it was the choice
            else:
                p = response.chance(event, scaled, events) if apart is None else apart[:, event]
                happens[event] = u < p
                for parent in response.parents_of[event]:
                    happens[event] &= happens[parent]
                if several:
                    happens[event] &= some
            anything |= happens[event]
            some_lanes = happens[event].nonzero()[0]
            if some_lanes.size:
                who[event], events[some_lanes, event] = some_lanes, 1
                amounts[some_lanes, event] = self._amount(event, size[some_lanes], u[some_lanes], p[some_lanes])
        return Happened(item, np.where(anything, place, _NOBODY), events, amounts, who)

    def _choose(self, logits: Wide, luck: FloatArray) -> tuple[IntArray, NDArray[np.bool_]]:
        """Which of k items is chosen, [B], 0 where none is, and whether one is."""
        share = self.response.marginals(logits)[..., self._first]
        share = share / np.maximum(share.sum(1, keepdims=True), 1)
        place = (luck[:, None] >= share.cumsum(1)).sum(1)
        some = place < share.shape[1]
        return np.where(some, place, 0), some

    def _amount(self, event: int, sizes: Wide, luck: FloatArray, p: Wide) -> Wide:
        """Amounts [m] of an event that happened to m customers, because `luck` [m] is below its probability `p` [m]; `sizes` [m, R]."""
        response = self.response
        value = np.full(len(p), response.amount[event])
        if response.spread[event]:
            left = quantile(self._residual[event], np.clip(luck / p, 0, 1))
            value = response.amounts(sizes)[:, event] + response.spread[event] * left
        amount: Wide = np.clip(value, *self._limits[event])
        return amount

    def _record(self, slate: IntArray, happened: Happened, alone: bool) -> list[Group]:
        """The rows of the step, which also go to the end of the histories."""
        groups = []
        if alone:
            groups.append(Group(self._shown, None, slate[:, 0], 0))
            if self._shown <= self.response.n_types:
                self.past.append(None, slate[:, 0], self._shown)
        for event, who in happened.who.items():
            amounts, item = happened.amounts[who, event].astype(np.float32), happened.item[who]
            values = amounts if self.facts.per_value[event] else np.full(len(who), self._log_value[event], np.float32)
            groups.append(Group(self._types[event], who, item, 0, values))
            self.past.append(who, item, self._types[event], values if self._with_values else None)
        return groups

    def _components(self, happened: Happened, gone: NDArray[np.bool_]) -> FloatArray:
        """Rewards by component, float32 [B, C]; those that no event carries come from what happened."""
        if self._plain:
            return happened.amounts.astype(np.float32)
        derived = {"leave": gone, "no_response": happened.position < 0}
        out = np.empty((self.n, len(self.component_names)), np.float32)
        for place, (name, event) in enumerate(zip(self.component_names, self._of_event)):
            out[:, place] = happened.amounts[:, event] if event >= 0 else derived[name]
        return out


def summary(events: Wide, memory: Wide, visit_steps: IntArray, steps: IntArray, user: FloatArray) -> Wide:
    """x of D decisions, [D, X], from which leaving and returning are told.

    Args:
        events: [D, R] what happened. memory: [D, R + d] after it. visit_steps, steps: [D] decisions of the visit, and in all.
        user: [D, U].
    """
    counts = np.log1p(np.stack([visit_steps, steps], axis=1))
    return np.concatenate([np.ones((len(events), 1)), events, memory, counts, user], axis=1)


def chance(x: Wide, weights: Wide) -> Wide:
    """Of a logistic model, [D]."""
    out: Wide = x @ weights
    np.negative(out, out)
    np.exp(out, out)
    out += _CERTAIN
    return np.reciprocal(out, out)


def quantile(table: Wide, luck: FloatArray | Wide) -> Wide:
    """The quantile `luck` [B] of a table of equally spaced quantiles [Q], linear between them."""
    return np.interp(luck, _even(len(table)), table)


@cache
def _even(n: int) -> Wide:
    """n numbers from 0 to 1."""
    return np.linspace(0, 1, n)
