"""The best static list, the same for every customer: found by coordinate ascent on customers other than those measured.

Where one item is shown at a time, the list is a cycle shown to every customer in turn; where a slate is shown, it is
the slate. Choosing and measuring on different customers keeps the bound honest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qurate.errors import Code, UserError
from qurate.evaluation.rollouts import first_allowed, positions_of, rollout
from qurate.types import Engine, IntArray, Observation, Policy, Propensities


class StaticCycle:
    """Shows the items of a list one after the other and begins again; item and order are the same for everybody.

    The place in the list is read from the history: the item after the list's item shown last. An item that may not be
    shown is passed over; if none of the list may, the first allowed candidate is shown.

    Args:
        items: item indices, all different.
        shown_type: type index of the history rows that say "shown"; 0 = any row that holds an item.
    """

    def __init__(self, items: Sequence[int], shown_type: int = 0, name: str = "static") -> None:
        self.items = np.asarray(items, np.int64)
        if self.items.size == 0 or len(set(self.items.tolist())) < self.items.size:
            raise UserError(
                "a list of different items", str(list(items)), where="static list", hint="name each item once", code=Code.BAD_LIST
            )
        self.shown_type, self.name = shown_type, name
        self._place = np.full(int(self.items.max()) + 1, -1, np.int64)
        self._place[self.items] = np.arange(self.items.size)

    def act(self, observation: Observation, rng: np.random.Generator) -> tuple[IntArray, Propensities]:
        """The next item of the list for each customer, with propensity 1."""
        first, mask = self._next(observation), observation.actions.mask
        positions = np.full(first.size, -1, np.int64)
        rows = np.arange(first.size)
        for step in range(self.items.size):
            there = positions_of(observation.actions.candidates, self.items[(first + step) % self.items.size])
            allowed = (there >= 0) & (mask[rows, np.maximum(there, 0)] != 0)
            positions = np.where((positions < 0) & allowed, there, positions)
            if (positions >= 0).all():
                break
        else:
            positions = np.where(positions < 0, first_allowed(mask, 1)[:, 0], positions)
        return positions, np.ones(first.size)

    def _next(self, observation: Observation) -> IntArray:
        """Place in the list of the item to show, [B]."""
        history = observation.state.history_items
        place = np.where(history < self._place.size, self._place[np.minimum(history, self._place.size - 1)], -1)
        if self.shown_type:
            place = np.where(observation.state.history_types == self.shown_type, place, -1)
        newest = place.shape[1] - 1 - (place[:, ::-1] >= 0).argmax(axis=1)
        last: IntArray = place[np.arange(place.shape[0]), newest]
        return (last + 1) % self.items.size  # -1 where none was shown: the list's beginning


class StaticSlate:
    """Shows one slate to everybody; items that may not be shown are replaced by the first allowed ones."""

    def __init__(self, items: Sequence[int], name: str = "static") -> None:
        self.items, self.name = np.asarray(items, np.int64), name

    def act(self, observation: Observation, rng: np.random.Generator) -> tuple[IntArray, Propensities]:
        """The slate's positions [B, k], with propensity 1 each."""
        b, k = observation.actions.candidates.shape[0], self.items.size
        wanted = np.zeros(observation.actions.mask.shape, np.int8)
        rows = np.arange(b)
        columns = [positions_of(observation.actions.candidates, np.full(b, item)) for item in self.items.tolist()]
        for rank, there in enumerate(columns):
            ok = (there >= 0) & (observation.actions.mask[rows, np.maximum(there, 0)] != 0)
            wanted[rows[ok], there[ok]] = k - rank + 1
        order = np.argsort(-(wanted + observation.actions.mask), axis=1, kind="stable")[:, :k].astype(np.int64)
        return order, np.ones((b, k))


@dataclass(frozen=True, slots=True)
class StaticSearch:
    """How much the search for the best static list may cost: up to (1 + sweeps) * length * pool rollouts of `customers`.

    `explorers` customers are shown items by another policy first; the `pool` items that earned most are tried.
    """

    customers: int = 256
    length: int = 6
    pool: int = 24
    sweeps: int = 1
    slate_size: int = 1
    explorers: int = 8_192


def best_static(engine: Engine, explore: Policy, seed: int, search: StaticSearch | None = None, name: str = "static") -> Policy:
    """The best static list found on the customers of `seed`, by mean undiscounted return.

    A pool of items is taken by mean reward while `explore` (say, random) shows them. The list then grows by whichever
    item of the pool helps most until none does, and each place is tried again with every item of the pool.

    Args:
        engine: the world.
        explore: a policy that shows every item now and then.
        seed: of customers that the result is *not* measured on: `customers_seed(seed, "bounds")`.
        search: budget; `StaticSearch()` takes up to about 300 rollouts of 256 customers.
    """
    s = search or StaticSearch()
    pool = _pool(engine, explore, seed, s)
    shown = list(engine.type_names).index("shown") + 1 if "shown" in engine.type_names else 0

    def policy(items: Sequence[int]) -> Policy:
        return StaticSlate(items, name) if s.slate_size > 1 else StaticCycle(items, shown, name)

    def value(items: Sequence[int]) -> float:
        return float(rollout(engine, policy(items), seed, s.customers).returns.mean())

    items: list[int] = pool[: s.slate_size] if s.slate_size > 1 else []
    best = value(items) if items else -np.inf
    while s.slate_size == 1 and len(items) < s.length:
        options = [(value([*items, item]), item) for item in pool if item not in items]
        top, item = max(options, default=(-np.inf, 0))
        if top <= best:
            break
        items, best = [*items, item], top
    for _ in range(s.sweeps):
        before = best
        for place in range(len(items)):
            for item in pool:
                changed = [*items[:place], item, *items[place + 1 :]]
                if item not in items and (new := value(changed)) > best:
                    items, best = changed, new
        if best <= before:
            break
    return policy(items)


def _pool(engine: Engine, explore: Policy, seed: int, s: StaticSearch) -> list[int]:
    """The items with the highest mean reward while `explore` showed them, best first."""
    seen = rollout(engine, explore, seed, s.explorers)
    mean: NDArray[np.float64] = np.where(seen.shown > 0, seen.earned / np.maximum(seen.shown, 1), -np.inf)
    mean[0] = -np.inf
    order = np.argsort(-mean, kind="stable")
    return [int(i) for i in order[: max(s.pool, s.slate_size)] if np.isfinite(mean[i])]
