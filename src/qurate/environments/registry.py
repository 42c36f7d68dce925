"""The worlds of qurate by name: one record each, from which engines, Gymnasium environments, errors and references come.

`make_engine` gives the batched engine, `make_env` and `make_vector_env` its Gymnasium forms, `references` the policies that see
the latent state. Tasks that are not ours (CartPole-v1, package.module:factory) are in from_gymnasium.py.

Importing this module registers the worlds with Gymnasium, so `gymnasium.make("qurate:qurate/Shop-v0")` always works.
Old Gymnasium versions also find them by the entry point `gymnasium.envs` (1.2 to 1.4 read no entry points) and then import this
module while they are themselves half imported, so nothing here imports Gymnasium at the top.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NamedTuple

from qurate.environments.engine import BatchedEngine, World
from qurate.environments.fitted_customers import HOW, read_customers
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

if TYPE_CHECKING:
    from qurate.environments.to_gymnasium import RecommenderEnv, RecommenderVectorEnv

NUMBER = re.compile(r"-?\d+(?P<fraction>\.\d+)?")
FROM = "from"
"""The argument of a world that is a path."""
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


def make_engine(
    name: str,
    *,
    n_items: int | None = None,
    slate_size: int = 1,
    n_candidates: int | None = None,
    max_steps: int | None = None,
    window: int = 20,
    observe: bool = True,
    **options: Any,
) -> BatchedEngine:
    """The batched engine of a world.

    Args:
        name: one of `WORLDS`, or its Gymnasium id; arguments may follow it, "shop,slate_size=4,strength=0.5", and stand above those
            that are given by keyword.
        n_items: catalogue size (shop: default 300, live: 600, news: 1,200, long_term_satisfaction: 100; elsewhere it is fixed).
        slate_size: items shown at once (live, news, toys: 1).
        n_candidates: items offered per decision; None = the whole catalogue (live: 24 and news: 56, which is all that is open,
            interest_evolution: 10, long_term_satisfaction: 50).
        max_steps: decisions until truncation (default: shop, live and news 60, toys 200, interest_evolution 500: no visit is as long;
            long_term_satisfaction 60, when customers are gone).
        window: rows of history in an observation.
        observe: False leaves observations out, for policies that do not look.
        options: the world's own. Shop, live and news: strength of its long-term effects (0 to 2, default 1) and world_seed (0, 1, ...:
            which catalogue it has); shop: drift_day and drift (a switch of tastes). interest_evolution: strength (0 to 1).
            long_term_satisfaction: strength (0 to 2) and sensitivity (0 to 1, default 0.01). fitted: from, a directory that `qurate
            customers` wrote. matrix: strength (0 to 1), leave_window, leave_similar, world_seed, and perhaps from, a table of ratings.
            The customers come from `reset(seed, n)`.

    Raises:
        UserError: unknown name or option, an argument out of range, or a package that is not installed.

    >>> engine = qurate.make_engine("shop", n_items=50)
    >>> engine.reset(seed=0, n=4).actions.candidates.shape
    (4, 50)
    """
    if "," in (name := str(name)):
        name, own = named_arguments(name)
        asked = {"n_items": n_items, "slate_size": slate_size, "n_candidates": n_candidates, "max_steps": max_steps}
        return make_engine(name, **{**asked, "window": window, "observe": observe, **options, **own})
    short = environment_name(name)
    record = WORLDS[short]
    offered, source = record.n_candidates if n_candidates is None else n_candidates, options.pop(FROM, None)
    if (source is None and record.needs_source) or (source is not None and not record.source):
        raise _wrong_source(short, record, source)
    given = {"n_items": n_items} | options if n_items is not None else dict(options)
    made_of = {option: limits.default for option, limits in record.options.items()}
    for option, value in given.items():
        if option not in record.options:
            known = [*record.options, "slate_size", "n_candidates", "max_steps", "window", "observe"]
            raise UserError(f"an option of {short}", option, where=name, hint=nearest(option, known), code=Code.UNKNOWN_OPTION)
        made_of[option] = record.options[option].check(value, option, short)
    steps = record.max_steps if max_steps is None else max_steps
    sizes = _sizes(record, short, slate_size=slate_size, window=window, n_candidates=offered, max_steps=steps)
    absent = [package for package in record.needs if find_spec(package) is None]
    if absent:
        raise UserError(f"{' and '.join(absent)} for {short}", "nothing installed", where=name, hint="install it", code=Code.BAD_ENV)
    world = record.make(**made_of, **({} if source is None else {"source": source}))
    return BatchedEngine(world, observe=observe, **sizes)


def _sizes(record: WorldRecord, world: str, **asked: Any) -> dict[str, int]:
    """What every engine is made with, as whole numbers within their limits; what is None is left out."""
    limits = SIZES | {"slate_size": Option(1, 1, record.largest_slate), "max_steps": Option(record.max_steps, 1)}
    return {name: int(limits[name].check(value, name, world)) for name, value in asked.items() if value is not None}


def _wrong_source(short: str, record: WorldRecord, source: Any) -> UserError:
    """A path that a world needs and has not, or has and does not need."""
    if source is None:
        hint = f"for example {short},{FROM}=CUSTOMERS; {HOW}"
        return UserError(f"{FROM}=PATH, the {record.source} of {short}", "none", where=short, hint=hint, code=Code.MISSING_OPTION)
    return UserError(f"an option of {short}", FROM, where=short, hint="leave it out", code=Code.UNKNOWN_OPTION)


def named_arguments(name: str) -> tuple[str, dict[str, Any]]:
    """A world's name and the arguments of `make_engine` that follow it: "shop,slate_size=4" -> ("shop", {"slate_size": 4}).

    The argument `from` is a path, without commas.

    Raises:
        UserError: what follows is no NAME=NUMBER, or an argument comes twice.
    """
    short, *parts = name.split(",")
    own: dict[str, Any] = {}
    for part in parts:
        key, _, text = part.partition("=")
        if key == FROM and text and key not in own:
            own[key] = text
            continue
        number = NUMBER.fullmatch(text)
        if number is None or not key.isidentifier() or key in own:
            hint = f"for example {short},slate_size=2"
            raise UserError("each NAME=NUMBER once after a comma", repr(part), where=f"--env {name}", hint=hint, code=Code.BAD_OPTIONS)
        own[key] = float(text) if number["fraction"] else int(text)
    return short, own


def make_env(name: str, render_mode: str | None = None, **options: Any) -> "RecommenderEnv":
    """One customer after the other as a `gymnasium.Env`; options as in `make_engine`. `render_mode` "rgb_array" draws histories.

    >>> observation, info = qurate.make_env("toy_chain").reset(seed=0)
    >>> sorted(info)
    ['available', 'components', 'item_ids', 'time']
    """
    from qurate.environments.to_gymnasium import RecommenderEnv

    return RecommenderEnv(make_engine(name, **options), render_mode)


def make_vector_env(name: str, num_envs: int = 1, **options: Any) -> "RecommenderVectorEnv":
    """`num_envs` customers at once as a `gymnasium.vector.VectorEnv`, autoreset mode SAME_STEP; options as in `make_engine`."""
    from qurate.environments.to_gymnasium import RecommenderVectorEnv

    return RecommenderVectorEnv(make_engine(name, **options), int(Option(1, 1, MOST_ITEMS).check(num_envs, "num_envs", name)))


def register() -> None:
    """Registers the worlds with Gymnasium; harmless when called again."""
    from gymnasium.envs.registration import register as add
    from gymnasium.envs.registration import registry

    here = "qurate.environments.registry"
    for name, record in WORLDS.items():
        if record.gymnasium_id not in registry:
            add(
                id=record.gymnasium_id,
                entry_point=f"{here}:make_env",
                vector_entry_point=f"{here}:make_vector_env",
                kwargs={"name": name},
            )


register()
