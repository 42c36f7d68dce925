"""Reference policies that see the shop's latent state: the bounds between which a learner's result is read.

`true_myopic` shows the item with the largest expected reward of this decision. `far_sighted` adds what the decision does
to trust and satiation, priced by two coefficients that were tuned once on other customers (docs/scenarios/shop.md). Both rank
by the same formula, so with strength 0, where nothing changes later, they are the same policy. The distance between
them is the scenario's headroom. Neither is an optimum.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qurate.environments.engine import BatchedEngine
from qurate.environments.scenarios.shop import N_CATEGORIES, Shop
from qurate.errors import Code, UserError
from qurate.types import FloatArray, Observation, Propensities

TRUST_PRICE = 7.0
"""Reward a far-sighted shop gives for one unit of trust, at least HORIZON decisions before the step limit."""

SATIATION_PRICE = 0.3
"""Share of the category's present reward lost per unit of satiation added."""

HORIZON = 12
"""Decisions before the step limit from which on trust and satiation lose their worth, linearly."""


@dataclass(slots=True)
class Latent:
    """A policy over the latent state of `engine`'s shop; `act` ignores the observation but for the candidates, and must be
    given all lanes of the engine."""

    engine: BatchedEngine
    name: str
    trust_price: float
    satiation_price: float
    horizon: int = HORIZON

    def act(self, observation: Observation, rng: np.random.Generator) -> tuple[NDArray[np.int64], Propensities]:
        """Positions [B] (or [B, k]: the k best) and propensities of 1."""
        if len(observation.state.user) != self.engine.n:
            raise UserError(
                f"all {self.engine.n} customers of the engine", str(len(observation.state.user)), where=self.name, code=Code.BAD_ARGUMENT
            )
        scores = self.scores(observation)
        k = self.engine.slate_size
        if k == 1:
            best = scores.argmax(axis=1)
            return best, np.ones(best.shape)
        top = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return top, np.ones(top.shape)

    def scores(self, observation: Observation) -> FloatArray:
        """Expected reward now plus the price of what it changes, float32 [B, K]."""
        shop = shop_of(self.engine)
        now, trust_change, satiation_change = consequences(shop)
        left = np.clip((self.engine.max_steps - 1 - self.engine.steps) / self.horizon, 0, 1).astype(np.float32)[:, None]
        value = now
        if shop.strength > 0 and (self.trust_price or self.satiation_price):
            value = now + left * (self.trust_price * trust_change - self.satiation_price * satiation_change * now)
        if self.engine.n_candidates is None:
            return value
        return np.take_along_axis(value, observation.actions.candidates - 1, axis=1)


def true_myopic(engine: BatchedEngine) -> Latent:
    """Largest expected reward of this decision; a postponed payment counts for the decision that led to it."""
    return Latent(engine, "true_myopic", 0.0, 0.0)


def far_sighted(engine: BatchedEngine) -> Latent:
    """Reward now plus priced changes of trust and satiation."""
    return Latent(engine, "far_sighted", TRUST_PRICE, SATIATION_PRICE)


def shop_of(engine: BatchedEngine) -> Shop:
    """The engine's world, which must be a shop."""
    if not isinstance(engine.world, Shop):
        raise UserError(
            "a shop", type(engine.world).__name__, where="reference policy", hint="only the shop has references", code=Code.BAD_ARGUMENT
        )
    return engine.world


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
