"""The worlds of qurate by name: one record each, with its options and their limits, its references, and what it needs."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, NamedTuple

from qurate.environments.engine import BatchedEngine, World
from qurate.environments.fitted_customers import read_customers
from qurate.environments.rating_matrix import completed_matrix, drawn_matrix
from qurate.environments.scenarios import (
    fitted_references,
    interest_evolution_references,
    live_references,
    long_term_satisfaction_references,
    matrix_references,
    news_references,
    shop_references,
    toy_references,
)
from qurate.environments.scenarios.fitted import FittedCustomers
from qurate.environments.scenarios.interest_evolution import N_TOPICS, InterestEvolution
from qurate.environments.scenarios.live import Live
from qurate.environments.scenarios.live_rooms import N_STREAMERS
from qurate.environments.scenarios.long_term_satisfaction import LongTermSatisfaction
from qurate.environments.scenarios.matrix import Matrix
from qurate.environments.scenarios.news import News
from qurate.environments.scenarios.shop import Shop
from qurate.environments.scenarios.toys import TOYS, ToyWorld
from qurate.errors import Code, UserError, nearest
from qurate.types import Policy

MakeReference = Callable[[BatchedEngine], Policy]
MOST_ITEMS = 10_000_000


class Option(NamedTuple):
    """A number that a world is made with, and its limits, both included. A default that is an int takes whole numbers only."""

    default: float
    low: float
    high: float = math.inf

    def check(self, value: Any, name: str, world: str) -> float:
        """`value` as a number of Python's own; raises UserError unless it is one within the limits."""
        whole = isinstance(self.default, int)
        numeric = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
        if not (numeric and self.low <= value <= self.high):
            low, high, usual = (f"{one:,}" if isinstance(one, int) else f"{one:g}" for one in (self.low, self.high, self.default))
            expected = name + (f"={low}" if low == high else f" of at least {low}" if high == "inf" else f" from {low} to {high}")
            hint = "leave it out" if self.low == self.high else f"{'a whole number' if whole else 'a number'}; {usual} if left out"
            raise UserError(f"{expected} for {world}", str(value), where=name, hint=hint, code=Code.BAD_ARGUMENT)
        return int(value) if isinstance(value, Integral) else float(value)


SIZES = {"window": Option(20, 1, 10_000), "n_candidates": Option(10, 0, MOST_ITEMS)}


@dataclass(frozen=True, slots=True)
class WorldRecord:
    """What the project knows about a world.

    Args:
        gymnasium_id: its name at Gymnasium.
        make: makes the world; takes `options` by keyword.
        max_steps: decisions until an episode is truncated, if nothing else is asked for.
        options: of `make`.
        largest_slate: how many items may be shown at once.
        references: policies that see its latent state, the least far-sighted first.
        needs: packages beyond qurate's own that must be installed.
        n_candidates: items offered per decision, if nothing else is asked for; None = the whole catalogue.
        source: what `make` reads from the path that is given as `from`; "" = it reads nothing.
        needs_source: whether it cannot be made without.
    """

    gymnasium_id: str
    make: Callable[..., World]
    max_steps: int
    options: Mapping[str, Option]
    largest_slate: float = math.inf
    references: Mapping[str, MakeReference] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    n_candidates: int | None = None
    source: str = ""
    needs_source: bool = False


def _fitted(source: str) -> World:
    return FittedCustomers(read_customers(source))


def _matrix(
    n_items: int, strength: float, world_seed: int, leave_window: int, leave_similar: int, source: str | None = None
) -> World:  # fmt: skip
    matrix = drawn_matrix(n_items, world_seed) if source is None else completed_matrix(source, n_items)
    return Matrix(matrix, strength, leave_window, leave_similar)


def _interest_evolution(n_items: int, strength: float, world_seed: int) -> World:
    return InterestEvolution(strength)


def _live(n_items: int, strength: float, world_seed: int) -> World:
    return Live(n_items, strength, world_seed)


def _long_term_satisfaction(n_items: int, strength: float, world_seed: int, sensitivity: float) -> World:
    return LongTermSatisfaction(n_items, strength, sensitivity)


def _news(n_items: int, strength: float, world_seed: int) -> World:
    return News(n_items, strength, world_seed)


def _shop(n_items: int, strength: float, world_seed: int, drift_day: float, drift: float) -> World:
    return Shop(n_items, strength, world_seed, drift_day=drift_day, drift=drift)


def _toy(name: str, gymnasium_id: str) -> WorldRecord:
    mdp, only = TOYS[name](), {"strength": Option(1.0, 1, 1), "world_seed": Option(0, 0, 0)}
    n = len(mdp.items)
    return WorldRecord(
        gymnasium_id,
        lambda n_items, strength, world_seed: ToyWorld(mdp),
        max_steps=200,
        options={"n_items": Option(n, n, n)} | only,
        largest_slate=1,
        references={"true_myopic": toy_references.true_myopic, "optimal": toy_references.optimal},
    )


WORLDS: dict[str, WorldRecord] = {
    "shop": WorldRecord(
        "qurate/Shop-v0",
        _shop,
        max_steps=60,
        options={
            "n_items": Option(300, 2, MOST_ITEMS),
            "strength": Option(1.0, 0, 2),
            "world_seed": Option(0, 0),
            "drift_day": Option(0.0, 0, 10_000),
            "drift": Option(1.0, 0, 1),
        },
        references={"true_myopic": shop_references.true_myopic, "far_sighted": shop_references.far_sighted},
    ),
    "live": WorldRecord(
        "qurate/Live-v0",
        _live,
        max_steps=60,
        options={"n_items": Option(600, N_STREAMERS, MOST_ITEMS), "strength": Option(1.0, 0, 2), "world_seed": Option(0, 0)},
        largest_slate=1,
        references={"true_myopic": live_references.true_myopic, "far_sighted": live_references.far_sighted},
        n_candidates=24,
    ),
    "news": WorldRecord(
        "qurate/News-v0",
        _news,
        max_steps=60,
        options={"n_items": Option(1200, 100, MOST_ITEMS), "strength": Option(1.0, 0, 2), "world_seed": Option(0, 0)},
        largest_slate=1,
        references={"true_myopic": news_references.true_myopic, "far_sighted": news_references.far_sighted},
        n_candidates=56,
    ),
    "interest_evolution": WorldRecord(
        "qurate/InterestEvolution-v0",
        _interest_evolution,
        max_steps=500,  # no visit takes more: a decision costs at least 0.45 of the 200 minutes
        options={"n_items": Option(N_TOPICS, N_TOPICS, N_TOPICS), "strength": Option(1.0, 0, 1), "world_seed": Option(0, 0, 0)},
        references={"true_myopic": interest_evolution_references.true_myopic, "far_sighted": interest_evolution_references.far_sighted},
        n_candidates=10,
    ),
    "long_term_satisfaction": WorldRecord(
        "qurate/LongTermSatisfaction-v0",
        _long_term_satisfaction,
        max_steps=60,  # the customer is gone by then
        options={
            "n_items": Option(100, 2, 1_000),
            "strength": Option(1.0, 0, 2),
            "world_seed": Option(0, 0, 0),
            "sensitivity": Option(0.01, 0, 1),
        },
        references={
            "true_myopic": long_term_satisfaction_references.true_myopic,
            "far_sighted": long_term_satisfaction_references.far_sighted,
        },
        n_candidates=50,
    ),
    "fitted": WorldRecord(
        "qurate/Fitted-v0",
        _fitted,
        max_steps=60,
        options={},
        references={"true_myopic": fitted_references.true_myopic},
        source="customers",
        needs_source=True,
    ),
    "matrix": WorldRecord(
        "qurate/Matrix-v0",
        _matrix,
        max_steps=30,
        options={
            "n_items": Option(200, 2, 5_000),
            "strength": Option(1.0, 0, 1),
            "world_seed": Option(0, 0),
            "leave_window": Option(5, 2, 20),
            "leave_similar": Option(2, 1, 20),
        },
        largest_slate=1,
        references={
            "true_myopic": matrix_references.true_myopic,
            "far_sighted": matrix_references.far_sighted,
            "planner": matrix_references.planner,
        },
        source="ratings",
    ),
    "toy_chain": _toy("toy_chain", "qurate/ToyChain-v0"),
    "toy_clickbait": _toy("toy_clickbait", "qurate/ToyClickbait-v0"),
    "toy_satiation": _toy("toy_satiation", "qurate/ToySatiation-v0"),
    "toy_delayed": _toy("toy_delayed", "qurate/ToyDelayed-v0"),
}


def is_world(name: str) -> bool:
    """Whether `name` is a world of qurate, by name or Gymnasium id, with arguments or without; other names may be Gymnasium tasks
    (from_gymnasium.py)."""
    name = name.split(",")[0]
    return name in WORLDS or any(name == record.gymnasium_id for record in WORLDS.values())


def environment_name(name: str) -> str:
    """The short name of a world given by name or Gymnasium id, without the arguments that may follow it.

    Raises:
        UserError: unknown; the nearest name is named.
    """
    name = name.split(",")[0]
    by_id = {record.gymnasium_id: short for short, record in WORLDS.items()}
    short = by_id.get(name, name)
    if short not in WORLDS:
        raise UserError("a known environment", name, where="--env", hint=nearest(name, [*WORLDS, *by_id]), code=Code.UNKNOWN_ENVIRONMENT)
    return short


def references(name: str) -> Mapping[str, MakeReference]:
    """The reference policies of a world, by name: each is made for the engine that is played. Empty where it has none."""
    return WORLDS[environment_name(name)].references
