"""Monte-Carlo rollouts: a policy on simulated customers, one episode per customer.

All policies of one seed meet the same customers (common random numbers): the engine is reset with the same seed and
number, and its random numbers are keyed by customer and step. Where an episode ends the engine hands its lane to
the next customer at once; those further customers are served but never measured.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from qurate.choosing.slate_sampling import is_shared
from qurate.errors import Code, UserError
from qurate.events.titles import CATEGORIES, PRICES, first_of, text_of
from qurate.replay.writers import step_discount
from qurate.types import DEFAULT_TAU_S, Actions, Engine, Feedback, Observation, Policy, take_rows

ScalarT = TypeVar("ScalarT", bound=np.generic)

PURPOSES = ("train", "evaluate", "bounds", "popularity", "online")
"""What customers are simulated for: training from the start; measuring; searching bounds and writing logs for baselines;
counting what is popular; learning online after training on a log."""


def customers_seed(seed: int, purpose: str) -> int:
    """Seed of the customers met for a purpose (`PURPOSES`): no two pairs of seed and purpose share customers.

    A whole number below 2**31, drawn by a hash of both (`SeedSequence`); "train" is the seed itself.
    """
    part = PURPOSES.index(purpose)
    return seed if part == 0 else int(np.random.SeedSequence([seed, part]).generate_state(1)[0] >> 1)


class TracedStep(NamedTuple):
    """One decision in the life of one traced customer."""

    customer: int
    decision: int
    visit: int
    items: tuple[str, ...]
    events: tuple[str, ...]  # "type" of everything that followed, besides being shown
    reward: float
    left: bool
    about: tuple[str, ...] = ()  # category and price of each item, "" where the world's table has neither


@dataclass(frozen=True, slots=True)
class Rollout:
    """What n customers brought, each over one episode; T is the longest episode, R the number of components."""

    returns: NDArray[np.float64]  # [n] undiscounted sum of the weighted reward
    discounted: NDArray[np.float64]  # [n] gamma per decision within a visit, exp(-pause / tau) across a pause
    length: NDArray[np.int64]  # [n] decisions
    visits: NDArray[np.int64]  # [n] 1 + returns after a pause
    components: NDArray[np.float64]  # [n, R] undiscounted, before weighting
    terminated: NDArray[np.bool_]  # [n] gone for good; else stopped by a step limit
    present: NDArray[np.int64]  # [T] customers still there at their t-th decision
    step_reward: NDArray[np.float64]  # [T] total reward of those decisions
    shown: NDArray[np.int64]  # [N + 1] how often each item was shown
    earned: NDArray[np.float64]  # [N + 1] reward of the decisions that showed it (a slate's reward counts for each)
    component_names: list[str]
    trace: list[TracedStep]

    def summary(self) -> dict[str, float]:
        """Means over the customers: return, discounted, decisions, visits, visit_length, came_back, gone, coverage."""
        return {
            "return": float(self.returns.mean()),
            "discounted": float(self.discounted.mean()),
            "decisions": float(self.length.mean()),
            "visits": float(self.visits.mean()),
            "visit_length": float(self.length.sum() / self.visits.sum()),
            "came_back": float((self.visits > 1).mean()),
            "gone": float(self.terminated.mean()),
            "coverage": float((self.shown[1:] > 0).mean()) if self.shown.size > 1 else 0.0,
        }


def take_customers(observation: Observation, rows: NDArray[np.int64]) -> Observation:
    """The observation of some of its customers; candidates and masks shared by all rows stay shared."""

    def pick(array: NDArray[ScalarT]) -> NDArray[ScalarT]:
        return np.broadcast_to(array[0], (rows.size, array.shape[1])) if is_shared(array) else array[rows]

    actions = observation.actions
    return Observation(
        take_rows(observation.state, rows),
        Actions(pick(actions.candidates), pick(actions.mask), None if actions.values is None else actions.values[rows], actions.columns),
    )


def first_allowed(mask: NDArray[np.int8], k: int) -> NDArray[np.int64]:
    """Positions of the first `k` allowed candidates of each row, int64 [B, k]."""
    closed = mask[:1] == 0 if is_shared(mask) else mask == 0
    order = np.argmin(closed, axis=1, keepdims=True) if k == 1 else np.argsort(closed, axis=1, kind="stable")[:, :k]
    positions: NDArray[np.int64] = np.broadcast_to(order, (mask.shape[0], order.shape[1])).astype(np.int64)
    return positions


@dataclass(slots=True)
class _Tally:
    """Running sums of one rollout over n customers."""

    returns: NDArray[np.float64]
    discounted: NDArray[np.float64]
    length: NDArray[np.int64]
    visits: NDArray[np.int64]
    components: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    shown: NDArray[np.int64]
    earned: NDArray[np.float64]
    factor: NDArray[np.float64]  # discount of the reward of the next decision

    def add(self, rows: NDArray[np.int64], items: NDArray[np.int64], fb: Feedback, gamma: float, tau: float) -> None:
        reward = fb.reward[rows].astype(np.float64)
        self.returns[rows] += reward
        self.discounted[rows] += self.factor[rows] * reward
        self.components[rows] += fb.components[rows]
        self.length[rows] += 1
        self.terminated[rows] = fb.terminated[rows]
        pause = fb.pause[rows]
        self.factor[rows] *= step_discount(pause, gamma, tau)
        self.visits[rows] += (pause > 0) & ~fb.terminated[rows] & ~fb.truncated[rows]
        self.shown += np.bincount(items.ravel(), minlength=self.shown.size)
        each = np.repeat(reward, items.size // rows.size)
        self.earned += np.bincount(items.ravel(), each, minlength=self.shown.size)

    def result(self, present: list[int], step_reward: list[float], names: list[str], traced: list[TracedStep]) -> Rollout:
        return Rollout(
            self.returns,
            self.discounted,
            self.length,
            self.visits,
            self.components,
            self.terminated,
            np.asarray(present),
            np.asarray(step_reward),
            self.shown,
            self.earned,
            names,
            traced,
        )


def rollout(
    engine: Engine,
    policy: Policy,
    seed: int,
    customers: int = 2_000,
    *,
    gamma: float = 0.9,
    tau: float = DEFAULT_TAU_S,
    max_decisions: int = 1_000,
    trace: int = 0,
    every_lane: bool = False,
) -> Rollout:
    """Measures `policy` on `customers` customers of `engine`, one episode each.

    Args:
        engine: batched environment; it is reset with `customers_seed(seed, ...)` chosen by the caller as `seed`.
        policy: asked only about customers whose episode still runs.
        seed: of the customers, and of the policy's own random choices; use the same for every policy compared.
        customers: n >= 1.
        gamma: discount per decision within a visit, 0..1.
        tau: seconds, > 0: the discount across a pause of p seconds is exp(-p / tau).
        max_decisions: measurement stops here even if the engine has no step limit of its own.
        trace: number of first customers whose decisions are kept one by one.
        every_lane: ask the policy about every lane at every step: needed by references, which read the engine's own
            state lane by lane; slower by the customers who have left.

    Raises:
        UserError: a policy's action that is no allowed candidate, or a customer who has none.
    """
    if customers < 1:
        raise UserError("at least one customer", str(customers), where="--customers", hint="ask for 1 or more", code=Code.BAD_CUSTOMERS)
    observation = engine.reset(seed, customers)
    tally, rng = _new_tally(engine, customers), np.random.default_rng([seed, 11])
    active = np.arange(customers)
    present: list[int] = []
    step_reward: list[float] = []
    traced: list[TracedStep] = []
    while active.size and len(present) < max_decisions:
        asked = observation if every_lane or active.size == customers else take_customers(observation, active)
        chosen = np.asarray(policy.act(asked, rng)[0], np.int64)
        check_actions(policy.name, asked, chosen, len(present))
        items = items_at(asked.actions.candidates, chosen)
        if every_lane:
            items = items[active]
        elif active.size < customers:
            chosen = _fill(observation, active, chosen)
        fb = engine.step(chosen)
        if trace:
            traced += _traced_steps(engine, active[active < trace], active, items, fb, tally)
        tally.add(active, items, fb, gamma, tau)
        present.append(active.size)
        step_reward.append(float(fb.reward[active].sum(dtype=np.float64)))
        active = active[~(fb.terminated[active] | fb.truncated[active])]
        observation = fb.obs
    said = _about_items(engine) if traced else {}
    traced = [step._replace(about=tuple(said.get(item, "") for item in step.items)) for step in traced]
    return tally.result(present, step_reward, list(engine.component_names), traced)


def _about_items(engine: Engine) -> dict[str, str]:
    """Category and price of the items, by id, where the world has a table of them; nothing elsewhere."""
    make = getattr(getattr(engine, "world", None), "items_table", None)
    if make is None:
        return {}
    table = make()
    columns = [column for column in (first_of(table.columns, names) for names in (CATEGORIES, PRICES)) if column is not None]
    return {row["item_id"]: ", ".join(text_of(row[column]) for column in columns) for row in table.iter_rows(named=True)} if columns else {}


def _new_tally(engine: Engine, n: int) -> _Tally:
    parts = len(engine.component_names)
    return _Tally(
        np.zeros(n),
        np.zeros(n),
        np.zeros(n, np.int64),
        np.ones(n, np.int64),
        np.zeros((n, parts)),
        np.zeros(n, bool),
        np.zeros(len(engine.item_ids) + 1, np.int64),
        np.zeros(len(engine.item_ids) + 1),
        np.ones(n),
    )


def items_at(candidates: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Item indices at `positions` ([B] or [B, k]) of the candidates [B, K]."""
    if is_shared(candidates):
        shared: NDArray[np.int64] = candidates[0][positions]
        return shared
    wide = positions.reshape(positions.shape[0], -1)
    items: NDArray[np.int64] = np.take_along_axis(candidates, wide, axis=1).reshape(positions.shape)
    return items


def positions_of(candidates: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.int64]:
    """Position of items[b] in candidates[b], int64 [B]; -1 where it is not among them (item 0 never is)."""
    if is_shared(candidates):
        lookup = np.full(int(max(candidates[0].max(initial=0), items.max(initial=0))) + 1, -1, np.int64)
        lookup[candidates[0]] = np.arange(candidates.shape[1])
        lookup[0] = -1
        places: NDArray[np.int64] = lookup[items]
        return places
    same = (candidates == items[:, None]) & (items[:, None] > 0)
    return np.where(same.any(axis=1), same.argmax(axis=1), -1).astype(np.int64)


def check_actions(name: str, observation: Observation, actions: NDArray[np.int64], decision: int) -> None:
    """Raises UserError unless every action is the position of an allowed candidate."""
    mask = observation.actions.mask
    if actions.ndim not in (1, 2) or len(actions) != len(mask):
        raise UserError(
            f"one action for each of {len(mask)} customers", f"shape {list(actions.shape)}", where=f"policy {name}", code=Code.BAD_ACTIONS
        )
    wide = actions.reshape(len(actions), -1)
    inside = (wide >= 0) & (wide < mask.shape[1])
    safe = np.where(inside, wide, 0)
    legal = inside & ((mask[0][safe] if is_shared(mask) else np.take_along_axis(mask, safe, axis=1)) != 0)
    if not legal.all():
        row, column = np.argwhere(~legal)[0]
        got = f"position {wide[row, column]}" if mask[row].any() else "no allowed candidate at all"
        raise UserError(
            "an allowed candidate", got, where=f"policy {name}, decision {decision}", hint="see the action mask", code=Code.ILLEGAL_ACTION
        )


def _fill(observation: Observation, active: NDArray[np.int64], actions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Actions for every lane: the policy's for the measured customers, the first allowed for the others."""
    k = 1 if actions.ndim == 1 else actions.shape[1]
    full = first_allowed(observation.actions.mask, k).reshape(-1, k).copy()
    full[active] = actions.reshape(-1, k)
    filled: NDArray[np.int64] = full[:, 0] if actions.ndim == 1 else full
    return filled


def _traced_steps(
    engine: Engine, lanes: NDArray[np.int64], active: NDArray[np.int64], items: NDArray[np.int64], fb: Feedback, tally: _Tally
) -> list[TracedStep]:
    """The decision just made for each traced lane that is still measured (few lanes: a plain loop)."""
    out = []
    for lane in lanes.tolist():
        shown = np.atleast_1d(items[int(np.searchsorted(active, lane))]).tolist()
        types = [engine.type_names[t - 1] for t in fb.rows.type[fb.rows.lane == lane].tolist()]
        out.append(
            TracedStep(
                lane,
                int(tally.length[lane]),
                int(tally.visits[lane]),
                tuple(engine.item_ids[i - 1] for i in shown),
                tuple(name for name in types if name != "shown"),
                float(fb.reward[lane]),
                bool(fb.pause[lane] > 0 or fb.terminated[lane]),
            )
        )
    return out


def mean_over_seeds(rollouts: Sequence[Rollout], field: str) -> float:
    """Mean over seeds of one entry of `Rollout.summary()`."""
    return math.fsum(r.summary()[field] for r in rollouts) / len(rollouts)
