"""The references of `news`: `true_myopic` and `far_sighted`.

`true_myopic` shows the article with the largest expected reward of this decision. `far_sighted` adds what the decision does to loyalty
and to the fatigue of the topic, priced by two coefficients that were tuned once on other readers (docs/scenarios/news.md). Both rank
by the same formula, so with strength 0 they are the same policy. The distance between them is the scenario's headroom. Neither is an
optimum.
"""

from functools import partial
from typing import NamedTuple

import numpy as np

from qurate.environments.engine import BatchedEngine
from qurate.environments.references import NORMAL, LatentPolicy, of_all_items, still_worth, world_of
from qurate.environments.scenarios.news import News
from qurate.types import FloatArray, IntArray

LOYALTY_PRICE = 2.0
"""Reward for one unit of loyalty, at least HORIZON decisions before the step limit."""

FATIGUE_PRICE = 0.3
"""Share of the present reward of the topic lost per unit of fatigue added."""

HORIZON = 12
"""Decisions before the step limit from which on loyalty and rest lose their worth, linearly."""


class Consequences(NamedTuple):
    """What is expected of showing each article, float32 [B, K]."""

    now: FloatArray  # reward of the decision
    loyalty: FloatArray  # its change
    fatigue: FloatArray  # added to the topic


def true_myopic(engine: BatchedEngine) -> LatentPolicy:
    """Largest expected reward of this decision."""
    return LatentPolicy(engine, "true_myopic", partial(_values, news_of(engine), 0.0, 0.0))


def far_sighted(engine: BatchedEngine) -> LatentPolicy:
    """Reward now plus priced changes of loyalty and fatigue."""
    return LatentPolicy(engine, "far_sighted", partial(_values, news_of(engine), LOYALTY_PRICE, FATIGUE_PRICE))


def _values(news: News, loyalty_price: float, fatigue_price: float, engine: BatchedEngine) -> FloatArray:
    """Expected reward now plus the price of what it changes, float32 [B, N]; 0 for articles that are not offered."""
    items = engine.observation.actions.candidates
    expected = consequences(news, items)
    later = loyalty_price * expected.loyalty - fatigue_price * expected.fatigue * expected.now
    return of_all_items(engine, items, expected.now + still_worth(engine, HORIZON) * later)


def news_of(engine: BatchedEngine) -> News:
    """The engine's world, which must be `news`."""
    return world_of(engine, News, "news")


def consequences(news: News, items: IntArray) -> Consequences:
    """What each reader's decision for each of `items` [B, K] is expected to bring and to change."""
    p, strength, weights = news.p, news.strength, news.component_weights
    met = news.meet(items, news.lanes[:, None])
    click, log_seconds = news.chances(met)[0], news.log_seconds(met)
    seconds = np.zeros(click.shape, np.float32)
    for node, weight in NORMAL:
        seconds = seconds + weight * np.minimum(np.exp(log_seconds + p.read_noise * node), p.longest_s)
    to_quality = news.articles.quality.take(items) - met.loyalty
    return Consequences(
        click * (weights[0] + weights[1] * seconds),
        strength * (p.learn_shown + p.learn_click * click) * to_quality,
        strength * (p.tire_shown + p.tire_click * click),
    )
