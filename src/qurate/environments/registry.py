"""Environments by name: `make_engine` (batched), `make_env` (Gymnasium), and their registration with Gymnasium.

Importing this module registers the environments, so `gymnasium.make("qurate.environments.registry:qurate/Shop-v0")` always works.
Old Gymnasium versions also find them by the entry point `gymnasium.envs` (1.2 to 1.4 load no plugins) and then import this module
while they are themselves half imported, so nothing here imports Gymnasium at the top.
"""

from typing import TYPE_CHECKING

from qurate.environments.engine import BatchedEngine, World
from qurate.environments.scenarios.shop import Shop
from qurate.environments.scenarios.toys import TOYS, ToyWorld
from qurate.errors import Code, UserError, nearest

if TYPE_CHECKING:
    from qurate.environments.to_gymnasium import RecommenderEnv, RecommenderVectorEnv

GYM_IDS = {
    "shop": "qurate/Shop-v0",
    "toy_chain": "qurate/ToyChain-v0",
    "toy_clickbait": "qurate/ToyClickbait-v0",
    "toy_satiation": "qurate/ToySatiation-v0",
}
"""Names of the environments and their Gymnasium ids; either is understood."""


def environment_name(name: str) -> str:
    """The short name of an environment given by name or Gymnasium id.

    Raises:
        UserError: unknown; the nearest name is named.
    """
    by_id = {gym_id: short for short, gym_id in GYM_IDS.items()}
    short = by_id.get(name, name)
    if short not in GYM_IDS:
        raise UserError(
            "a known environment", name, where="--env", hint=nearest(name, [*GYM_IDS, *GYM_IDS.values()]), code=Code.UNKNOWN_ENVIRONMENT
        )
    return short


def make_engine(
    name: str,
    *,
    n_items: int | None = None,
    slate_size: int = 1,
    n_candidates: int | None = None,
    max_steps: int | None = None,
    window: int = 20,
    strength: float = 1.0,
    world_seed: int = 0,
    observe: bool = True,
) -> BatchedEngine:
    """The batched engine of a scenario.

    Args:
        name: shop, toy_chain, toy_clickbait, toy_satiation, or a Gymnasium id of them.
        n_items: catalogue size (shop: default 300; a toy's is fixed).
        slate_size: items shown at once (toys: 1).
        n_candidates: items offered per decision; None = the whole catalogue.
        max_steps: decisions until truncation (default: shop 60, toys 200).
        window: rows of history in an observation.
        strength: of the shop's long-term effects, 0 to 2 (toys have 1 only).
        world_seed: which catalogue the shop has. The customers come from `reset(seed, n)`.
        observe: False leaves observations out, for policies that do not look.

    Raises:
        UserError: unknown name, or an argument out of range.
    """
    short = environment_name(name)
    world: World
    if short == "shop":
        world = Shop(300 if n_items is None else n_items, strength, world_seed)
        limit = 60
    else:
        mdp = TOYS[short]()
        _fixed(short, "n_items", n_items, len(mdp.items), n_items in (None, len(mdp.items)))
        _fixed(short, "slate_size", slate_size, 1, slate_size == 1)
        _fixed(short, "strength", strength, 1, strength == 1)
        world, limit = ToyWorld(mdp), 200
    return BatchedEngine(world, window, limit if max_steps is None else max_steps, slate_size, n_candidates, observe)


def _fixed(name: str, argument: str, got: object, only: object, ok: bool) -> None:
    if not ok:
        raise UserError(f"{argument}={only} for {name}", str(got), where=argument, hint="leave it out", code=Code.BAD_ARGUMENT)


def make_env(
    name: str,
    *,
    n_items: int | None = None,
    slate_size: int = 1,
    n_candidates: int | None = None,
    max_steps: int | None = None,
    window: int = 20,
    strength: float = 1.0,
    world_seed: int = 0,
) -> "RecommenderEnv":
    """One customer after the other as a `gymnasium.Env`; arguments as in `make_engine`."""
    from qurate.environments.to_gymnasium import RecommenderEnv

    return RecommenderEnv(
        make_engine(
            name,
            n_items=n_items,
            slate_size=slate_size,
            n_candidates=n_candidates,
            max_steps=max_steps,
            window=window,
            strength=strength,
            world_seed=world_seed,
        )
    )


def make_vector_env(
    name: str,
    num_envs: int = 1,
    *,
    n_items: int | None = None,
    slate_size: int = 1,
    n_candidates: int | None = None,
    max_steps: int | None = None,
    window: int = 20,
    strength: float = 1.0,
    world_seed: int = 0,
) -> "RecommenderVectorEnv":
    """`num_envs` customers at once as a `gymnasium.vector.VectorEnv`, autoreset mode SAME_STEP."""
    from qurate.environments.to_gymnasium import RecommenderVectorEnv

    return RecommenderVectorEnv(
        make_engine(
            name,
            n_items=n_items,
            slate_size=slate_size,
            n_candidates=n_candidates,
            max_steps=max_steps,
            window=window,
            strength=strength,
            world_seed=world_seed,
        ),
        num_envs,
    )


def register() -> None:
    """Registers the environments with Gymnasium; harmless when called again."""
    from gymnasium.envs.registration import register as add
    from gymnasium.envs.registration import registry

    for name, gym_id in GYM_IDS.items():
        if gym_id not in registry:
            here = "qurate.environments.registry"
            add(id=gym_id, entry_point=f"{here}:make_env", vector_entry_point=f"{here}:make_vector_env", kwargs={"name": name})


register()
