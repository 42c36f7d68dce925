"""The articles of the scenario `news`: when they are on the front page, what is seen of them, and how much attention they get.

Attention is a function of the article and the time: the readers of the engine are few among those who read, so they do not change it,
and every reader meets the same news at the same moment.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qurate.environments.catalogue_features import catalogue_features
from qurate.environments.timetable import HOUR, SECOND, AgeTable, first_open, timetable, with_zero
from qurate.types import FloatArray, IntArray

TOPICS = (
    "business", "crime", "culture", "health", "local", "politics", "science", "sport", "technology", "travel", "weather", "world",
)  # fmt: skip
N_TOPICS, N_PUBLISHERS = len(TOPICS), 20
BIN_S = 600
"""Seconds of an article's age for which its attention stays the same."""


@dataclass(frozen=True, slots=True)
class ArticleParameters:
    """Constants of articles and events; sources in docs/scenarios/news.md."""

    articles_per_day: float = 72.0  # without those of events
    shortest_h: float = 4.0  # hours on the front page, uniform
    longest_h: float = 12.0
    event_every_h: float = 16.0  # one breaking event, at a random moment of so many hours
    event_articles: int = 10  # further articles on the event's topic
    event_spread_h: float = 6.0  # hours within which they appear
    fresh: float = 1.2  # attention to a new article, click logit
    half_life_min: float = 69.0  # minutes after which half of that is left
    hot: float = 1.0  # attention to the topic when the event happens, click logit
    hot_h: float = 4.0  # e-folding time of that, hours
    tabloid_share: float = 0.3  # of the publishers
    tabloid_bait: float = 0.7  # share of clickbait among their articles
    other_bait: float = 0.13  # the same of the other publishers
    bait_quality: float = -0.6  # mean quality of clickbait, in [-1, 1]
    other_quality: float = 0.4  # mean quality of other articles
    quality_spread: float = 0.25  # standard deviation within each kind
    bait_appeal: float = 1.2  # click logit
    appeal_spread: float = 0.3  # standard deviation of an article's own click logit
    headline_bait: float = 0.5  # by how much the score of a clickbait headline is higher than that of another one
    headline_noise: float = 0.2  # standard deviation of the score
    early_quality: float = 0.6  # log seconds that the first readers stay longer per unit of quality
    early_noise: float = 0.3  # standard deviation of the log of these seconds


class Articles:
    """The schedule. Arrays [N + 1] over articles, entry 0 unused: topic, quality, appeal (click logit), bait (0 or 1).

    Args:
        n_articles: N; the schedule ends when the last of them appears, and articles that are on the front page then stay there.
        seed: which publishers, events and articles.
        p: constants.
    """

    def __init__(self, n_articles: int, seed: int, p: ArticleParameters) -> None:
        rng = np.random.default_rng([seed, 20_261_127])
        tabloid = rng.permutation(N_PUBLISHERS) < round(p.tabloid_share * N_PUBLISHERS)
        since, length, topic, event, events = _schedule(n_articles, rng, p)
        self.availability = timetable(since, length)
        self.publisher = rng.integers(N_PUBLISHERS, size=n_articles)
        bait = rng.random(n_articles) < np.where(tabloid[self.publisher], p.tabloid_bait, p.other_bait)
        quality = np.where(bait, p.bait_quality, p.other_quality) + p.quality_spread * rng.normal(size=n_articles)
        quality = np.clip(quality, -1, 1)
        self.event = event >= 0
        self.topic, self.quality, self.bait = np.concatenate([[0], topic]), with_zero(quality), with_zero(bait.astype(np.float64))
        self.appeal = with_zero(p.bait_appeal * bait + p.appeal_spread * rng.normal(size=n_articles))
        self._score = np.round(np.clip(0.25 + p.headline_bait * bait + p.headline_noise * rng.normal(size=n_articles), 0, 1), 2)
        self._early = np.round(np.exp(3.5 + p.early_quality * quality + p.early_noise * rng.normal(size=n_articles)), 1)
        self._attention = AgeTable(_attention(since, topic, events, p), self.availability.since, BIN_S)

    def attention_at(self, items: IntArray, clock: IntArray) -> FloatArray:
        """Click logit of freshness and of what is happening; the shape of `items` and `clock` (microseconds) broadcast."""
        return self._attention.at(items, clock)

    def columns(self) -> dict[str, NDArray[np.str_] | NDArray[np.float64]]:
        """What the site knows of an article when it appears: topic, publisher, breaking (0 or 1: it belongs to an event),
        clickbait_score (a classifier's, of the headline, 0 to 1), early_seconds (how long a few first readers stayed)."""
        names = {"topic": np.array(TOPICS)[self.topic[1:]], "publisher": np.array([f"p{x + 1:02d}" for x in self.publisher])}
        return names | {"breaking": self.event.astype(np.float64), "clickbait_score": self._score, "early_seconds": self._early}

    def features(self) -> tuple[FloatArray, list[str]]:
        """float32 [N + 1, F], row 0 zeros, and their names."""
        return catalogue_features(self.columns())


def _schedule(
    n_articles: int, rng: np.random.Generator, p: ArticleParameters
) -> tuple[IntArray, IntArray, IntArray, IntArray, tuple[IntArray, IntArray]]:
    """Of the first `n_articles` on the front page at or after EPOCH_US: beginning and length (microseconds, from EPOCH_US), topic,
    and event (-1 = none); and of all events their beginning and topic."""
    gap_h = 24 / p.articles_per_day
    before = p.longest_h + p.event_spread_h  # hours: what began earlier is gone at EPOCH_US
    hours = (n_articles + 1) * gap_h
    regular = np.arange(-np.ceil(before / gap_h), n_articles + 1)
    begin = (regular + rng.random(len(regular))) * gap_h
    turns = np.arange(-np.ceil(before / p.event_every_h) - 1, np.ceil(hours / p.event_every_h))
    start = (turns + rng.random(len(turns))) * p.event_every_h
    about = rng.integers(N_TOPICS, size=len(turns))
    further = start[:, None] + p.event_spread_h * rng.random((len(turns), p.event_articles)) ** 2
    begin = np.concatenate([begin, further.reshape(-1)])
    event = np.concatenate([np.full(len(regular), -1), np.arange(len(turns)).repeat(p.event_articles)])
    topic = np.where(event < 0, rng.integers(N_TOPICS, size=len(begin)), about[event])
    length = rng.uniform(p.shortest_h, p.longest_h, len(begin))
    since, lasting, happened = (np.round(x * 3600).astype(np.int64) * SECOND for x in (begin, length, start))
    order = first_open(since, lasting, n_articles)
    return since[order], lasting[order], topic[order], event[order], (happened, about)


def _attention(since: IntArray, topic: IntArray, events: tuple[IntArray, IntArray], p: ArticleParameters) -> FloatArray:
    """Of each article in each ten minutes of its longest time on the front page, float32 [N + 1, bins]."""
    bins = int(np.ceil(p.longest_h * 3600 / BIN_S))
    age_h = (np.arange(bins) + 0.5) * BIN_S / 3600
    attention = np.tile(p.fresh * 2 ** (-age_h * 60 / p.half_life_min), (len(since), 1))
    for start, about in zip(*(x.tolist() for x in events)):
        lasts = int((p.longest_h + 10 * p.hot_h) * HOUR)  # beyond 10 e-folding times nothing is left
        first, last = np.searchsorted(since, [start - int(p.longest_h * HOUR), start + lasts])
        rows = first + np.flatnonzero(topic[first:last] == about)
        after_h = (since[rows, None] - start) / HOUR + age_h
        attention[rows] += np.where(after_h >= 0, p.hot * np.exp(-np.maximum(after_h, 0) / p.hot_h), 0)
    return np.vstack([np.zeros(bins), attention]).astype(np.float32)
