"""The shop's references: `true_myopic` and `far_sighted`.

`true_myopic` shows the item with the largest expected reward of this decision. `far_sighted` adds what the decision does
to trust and satiation, priced by two coefficients that were tuned once on other customers (docs/scenarios/shop.md). Both rank
by the same formula, so with strength 0, where nothing changes later, they are the same policy. The distance between
them is the scenario's headroom. Neither is an optimum.
"""

from functools import partial

import numpy as np

from qurate.environments.engine import BatchedEngine
from qurate.environments.references import LatentPolicy, still_worth, world_of
from qurate.environments.scenarios.shop import N_CATEGORIES, Shop
from qurate.types import FloatArray

TRUST_PRICE = 7.0
"""Reward a far-sighted shop gives for one unit of trust, at least HORIZON decisions before the step limit."""

SATIATION_PRICE = 0.3
"""Share of the category's present reward lost per unit of satiation added."""

HORIZON = 12
"""Decisions before the step limit from which on trust and satiation lose their worth, linearly."""


def true_myopic(engine: BatchedEngine) -> LatentPolicy:
    """Largest expected reward of this decision; a postponed payment counts for the decision that led to it."""
    return LatentPolicy(engine, "true_myopic", partial(_values, shop_of(engine), 0.0, 0.0))


def far_sighted(engine: BatchedEngine) -> LatentPolicy:
    """Reward now plus priced changes of trust and satiation."""
    return LatentPolicy(engine, "far_sighted", partial(_values, shop_of(engine), TRUST_PRICE, SATIATION_PRICE))


def _values(shop: Shop, trust_price: float, satiation_price: float, engine: BatchedEngine) -> FloatArray:
    """Expected reward now plus the price of what it changes, float32 [B, N]."""
    now, trust_change, satiation_change = consequences(shop)
    if shop.strength == 0 or not (trust_price or satiation_price):
        return now
    return now + still_worth(engine, HORIZON) * (trust_price * trust_change - satiation_price * satiation_change * now)


def shop_of(engine: BatchedEngine) -> Shop:
    """The engine's world, which must be a shop."""
    return world_of(engine, Shop, "a shop")


def consequences(shop: Shop) -> tuple[FloatArray, FloatArray, FloatArray]:
    """For each lane and item, float32 [B, N]: expected reward of the decision, expected change of
    trust, expected satiation added to the item's category."""
    p, strength = shop.p, shop.strength
    everything = np.arange(1, len(shop.item_ids) + 1)
    row = np.arange(shop.n)[:, None] * N_CATEGORIES
    trust = shop.trust[:, None]
    _, table, (click, cart, _) = shop.meet(everything, row, shop.sensitivity[:, None], trust)
    weights = shop.component_weights
    bought = cart * p.paid
    now = click * (weights[0] + cart * weights[1] + bought * weights[2])
    learn = p.learn_shown + click * (p.learn_click + cart * (p.paid * p.learn_purchase))
    trust_change = strength * learn * (table[4] - trust)
    satiation_change = strength * (p.tire_shown + p.tire_click * click)
    return now, trust_change, satiation_change
