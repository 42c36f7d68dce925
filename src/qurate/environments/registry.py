"""Makes the worlds of qurate (`worlds.py`) by name.

`make_engine` gives the batched engine, `make_env` and `make_vector_env` its Gymnasium forms. Tasks that are not ours (CartPole-v1,
package.module:factory) are in from_gymnasium.py.

Importing this module registers the worlds with Gymnasium, so `gymnasium.make("qurate:qurate/Shop-v0")` always works.
Old Gymnasium versions also find them by the entry point `gymnasium.envs` (1.2 to 1.4 read no entry points) and then import this
module while they are themselves half imported, so nothing here imports Gymnasium at the top.
"""

import re
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from qurate.environments.engine import BatchedEngine
from qurate.environments.fitted_customers import HOW
from qurate.environments.worlds import MOST_ITEMS, SIZES, WORLDS, Option, WorldRecord, environment_name
from qurate.errors import Code, UserError, nearest

if TYPE_CHECKING:
    from qurate.environments.to_gymnasium import RecommenderEnv, RecommenderVectorEnv

NUMBER = re.compile(r"-?\d+(?P<fraction>\.\d+)?")
FROM = "from"
"""The argument of a world that is a path."""


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
