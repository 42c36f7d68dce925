"""The references of `live`: `true_myopic` and `far_sighted`.

`true_myopic` shows the room with the largest expected reward of this decision. `far_sighted` adds what the decision does to
satisfaction, loyalty and fatigue, priced by three coefficients that were tuned once on other customers (docs/scenarios/live.md). Both
rank by the same formula, so with strength 0 they are the same policy. The distance between them is the scenario's headroom. Neither
is an optimum.
"""

from functools import partial
from typing import NamedTuple

import numpy as np

from qurate.environments.engine import BatchedEngine
from qurate.environments.references import NORMAL, LatentPolicy, of_all_items, still_worth, world_of
from qurate.environments.scenarios.live import Live
from qurate.types import FloatArray, IntArray

SATISFACTION_PRICE, LOYALTY_PRICE = 8.0, 15.0
"""Reward for one unit of satisfaction and of loyalty, at least HORIZON decisions before the step limit."""

FATIGUE_PRICE = 0.3
"""Share of the present reward of the streamer's category lost per unit of fatigue added."""

HORIZON = 12
"""Decisions before the step limit from which on satisfaction, loyalty and rest lose their worth, linearly."""


class Consequences(NamedTuple):
    """What is expected of showing each room, float32 [B, K]."""

    now: FloatArray  # reward of the decision
    satisfaction: FloatArray  # its change
    loyalty: FloatArray  # change of the loyalty to the streamer
    fatigue: FloatArray  # added to the streamer and to the category


def true_myopic(engine: BatchedEngine) -> LatentPolicy:
    """Largest expected reward of this decision."""
    return LatentPolicy(engine, "true_myopic", partial(_values, live_of(engine), (0.0, 0.0, 0.0)))


def far_sighted(engine: BatchedEngine) -> LatentPolicy:
    """Reward now plus priced changes of satisfaction, loyalty and fatigue."""
    return LatentPolicy(engine, "far_sighted", partial(_values, live_of(engine), (SATISFACTION_PRICE, LOYALTY_PRICE, FATIGUE_PRICE)))


def _values(live: Live, prices: tuple[float, float, float], engine: BatchedEngine) -> FloatArray:
    """Expected reward now plus the price of what it changes, float32 [B, N]; 0 for rooms that are not offered."""
    items = engine.observation.actions.candidates
    expected = consequences(live, items)
    worth = expected.now
    if any(prices):
        satisfaction, loyalty, fatigue = prices
        later = satisfaction * expected.satisfaction + loyalty * expected.loyalty - fatigue * expected.fatigue * worth
        worth = worth + still_worth(engine, HORIZON) * later
    return of_all_items(engine, items, worth)


def live_of(engine: BatchedEngine) -> Live:
    """The engine's world, which must be `live`."""
    return world_of(engine, Live, "live")


def consequences(live: Live, items: IntArray) -> Consequences:
    """What each customer's decision for each of `items` [B, K] is expected to bring and to change."""
    p = live.p
    met = live.meet(items, live.lanes[:, None])
    click, inside = live.chances(met)[0], live.inside(met)
    like, _, gift = inside.chances
    seconds = engaged = np.zeros(click.shape, np.float32)
    for node, weight in NORMAL:
        watched = np.minimum(np.exp(inside.log_seconds + p.watch_noise * node), inside.left_s)
        seconds = seconds + weight * watched
        engaged = engaged + weight * np.divide(watched, watched + p.half_s)
    engaged = engaged * click
    weights = live.component_weights
    now = click * (seconds * weights[0] + like * weights[1] + gift * weights[2])
    strength = live.strength
    to_quality = live.rooms.quality.take(items) - live.satisfaction[:, None]
    satisfaction = strength * (p.learn_shown + p.learn_watch * engaged) * to_quality
    loyalty = strength * p.loyal_watch * engaged * (live.rooms.bond.take(items) - met.loyalty)
    return Consequences(now, satisfaction, loyalty, strength * (p.tire_shown + p.tire_watch * engaged))
