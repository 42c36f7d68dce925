"""News: articles appear, grow old and leave the front page while readers click, read, tire of topics, trust the site or leave it.

docs/scenarios/news.md explains every parameter, the measured rates and the headroom. What one shows now changes what comes later in
three ways, each scaled by `strength` (0: nothing shown changes anything later but the time of day; 1: as documented; 2: twice that):

* loyalty: a running memory of the quality of what was met, above all of what was clicked. It makes readers click, read longer, stay and
  come back. Clickbait is clicked, disappoints and costs loyalty.
* fatigue of the topic: more of the same is less interesting; rest and pauses heal.
* what is known: an article shown before is clicked less, and hardly ever where it was read.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from qurate.environments.arrivals import first_visits
from qurate.environments.customers import (
    all_stay,
    as_arrays,
    comes_back,
    probabilities,
    pull,
    rest,
    segment_tastes,
    segments,
    tire,
    visit_ends,
)
from qurate.environments.engine import Outcome
from qurate.environments.history_rows import Group
from qurate.environments.rng import Keys, StepDraws, gaussian, normals, purposes, uniforms
from qurate.environments.scenarios.news_articles import N_TOPICS, ArticleParameters, Articles
from qurate.environments.timetable import SECOND, times
from qurate.errors import Code, UserError
from qurate.types import FloatArray, IntArray

CLICK, READ, SHOWN = 1, 2, 3  # alphabetical, like the types of a dataset read from a log
N_SEGMENTS = 6
SLOTS = 128
"""Articles that a reader remembers: more than appear while any one of them is on the front page. A power of 2."""

MOST_KNOWN = np.array(30, np.float32)
"""Click logit that an article can lose at most: nobody clicks it then, and the exponential stays finite."""
_ONE, _THREE, _SECOND_US = (np.array(number) for number in (1, 3, SECOND))  # arrays without a dimension, see `as_arrays`
_EIGHT, _MICROSECONDS = (np.array(number, np.float32) for number in (8, SECOND))


@dataclass(frozen=True, slots=True)
class NewsParameters(ArticleParameters):
    """All constants of the scenario. Logits unless a unit is given; sources in docs/scenarios/news.md."""

    # readers
    liked_topics: int = 3  # per segment
    like: float = 1.0  # taste for a liked topic; the others are at dislike
    dislike: float = -0.5
    taste_noise: float = 0.5  # standard deviation of a reader's own taste per topic
    segment_seen: float = 0.85  # probability that the visible segment is the true one
    loyalty_start: float = 0.1  # mean loyalty of a new reader, in [-1, 1]
    loyalty_spread: float = 0.2  # its standard deviation
    # what happens with an article; interest = taste for its topic - fatigue of its topic
    click_base: float = -3.03
    click_loyalty: float = 1.0  # per unit of loyalty
    read_base: float = 2.95  # mean log of the seconds read
    read_interest: float = 0.2
    read_quality: float = 0.6
    read_loyalty: float = 0.3
    read_noise: float = 1.2  # standard deviation of the log of the seconds read
    longest_s: float = 600.0  # seconds; nobody reads an article longer
    # dynamics, per unit of strength
    learn_shown: float = 0.03  # share of the way from loyalty to the article's quality, each time
    learn_click: float = 0.3  # more of it where the article is clicked
    tire_shown: float = 0.1  # fatigue added to the topic
    tire_click: float = 0.4
    kept: float = 0.9  # fatigue kept from step to step
    rest_hours: float = 16.0  # e-folding time of fatigue during a pause, hours
    known_shown: float = 0.5  # click logit that the article loses
    known_click: float = 2.5
    # visits
    leave_base: float = -2.4
    leave_loyalty: float = 1.5  # leave logit per unit of lost loyalty
    return_base: float = 0.8
    return_loyalty: float = 2.0
    pause_least_h: float = 2.0
    pause_mean_h: float = 35.0  # mean of the exponential part, hours


class Meeting(NamedTuple):
    """Where readers meet articles, any shape [...]."""

    items: IntArray
    at_topic: IntArray  # flat position of (reader, topic)
    at_slot: IntArray  # flat position of (reader, what they know of the article)
    known: FloatArray  # click logit lost
    interest: FloatArray
    attention: FloatArray
    loyalty: FloatArray


class News:
    """`World` of the engine. Latent state per lane: taste and fatigue per topic [B, 12], loyalty [B], which articles are known and how
    well [B, 128], and the clock.

    Args:
        n_items: articles in the schedule, 100 or more; about 87 a day appear, so their number says how many days it covers.
        strength: of everything that what is shown changes later, 0 to 2.
        world_seed: which publishers, events, articles and segments.
        parameters: see NewsParameters.
    """

    has_values = True
    with_replacement = False
    rows_per_step = 3  # shown, click, read
    arrivals_s = 86_400
    state_names: tuple[str, ...] = ("clock", "taste", "tired", "loyalty", "known", "known_item")

    def __init__(self, n_items: int = 1200, strength: float = 1.0, world_seed: int = 0, parameters: NewsParameters | None = None) -> None:
        if not 0 <= strength <= 2:
            raise UserError("strength from 0 to 2", str(strength), where="news", code=Code.BAD_ARGUMENT)
        p = self.p = parameters or NewsParameters()
        self._p = as_arrays(p)
        self.strength = strength
        self.articles = articles = Articles(n_items, world_seed, p)
        width = len(str(n_items))
        self.item_ids = [f"article_{i:0{width}d}" for i in range(1, n_items + 1)]
        self.type_names = ["click", "read", "shown"]
        self.component_names = ["click", "read"]
        self.component_weights = np.array([0.5, 0.01], np.float32)
        self.availability = articles.availability
        self.item_features, self.feature_names = articles.features()
        self.user_feature_names = [f"segment={'abcdef'[i]}" for i in range(N_SEGMENTS)]
        rng = np.random.default_rng([world_seed, 8])
        self.segment_taste = segment_tastes(rng, (N_SEGMENTS, N_TOPICS), p.liked_topics, p.like, p.dislike)
        shown, click = (p.learn_shown, p.tire_shown, p.known_shown), (p.learn_click, p.tire_click, p.known_click)
        self._changes_shown, self._changes_click = (strength * np.array([x], np.float32).T for x in (shown, click))
        self._minus_click = -p.click_base - articles.appeal
        self._log_seconds = p.read_base + p.read_quality * articles.quality
        self._places = np.stack([articles.topic, np.arange(n_items + 1) & (SLOTS - 1)])
        luck, read_noise = purposes(0, 7), self._p.read_noise
        self._draws = StepDraws(lambda keys: _drawn(uniforms(keys, luck), read_noise))
        self._latent_draws = purposes(1 << 32, N_TOPICS + 1)
        self._trait_draws = purposes((1 << 32) + 64, 3)

    def items_table(self) -> pl.DataFrame:
        """item_id, what the site knows of the article, and from when until when it is on the front page (null: beyond the schedule)."""
        return pl.DataFrame({"item_id": self.item_ids} | self.articles.columns()).with_columns(**times(self.availability))

    def allocate(self, n: int) -> None:
        self.n = n
        self.clock = np.zeros(n, np.int64)
        self.taste = np.zeros((n, N_TOPICS), np.float32)
        self.tired = np.zeros((n, N_TOPICS), np.float32)
        self.loyalty = np.zeros(n, np.float32)
        self.known = np.zeros((n, SLOTS), np.float32)
        self.known_item = np.zeros((n, SLOTS), np.int32)
        self.lanes = np.arange(n, dtype=np.int64)
        self._first_place = np.stack([self.lanes * N_TOPICS, self.lanes * SLOTS])
        self._all_stay = all_stay(n)

    def enter(self, lanes: IntArray, keys: Keys) -> FloatArray:
        p, m = self.p, len(lanes)
        segment, seen = segments(uniforms(keys, self._trait_draws), N_SEGMENTS, p.segment_seen)
        z = normals(keys, self._latent_draws)
        self.clock[lanes] = first_visits(keys, self.arrivals_s)
        self.taste[lanes] = self.segment_taste[segment] + p.taste_noise * z[:N_TOPICS].T
        self.tired[lanes] = self.known[lanes] = self.known_item[lanes] = 0
        self.loyalty[lanes] = np.clip(p.loyalty_start + p.loyalty_spread * z[N_TOPICS], -1, 1)
        user = np.zeros((m, N_SEGMENTS), np.float32)
        user[np.arange(m), seen] = 1
        return user

    def respond(self, items: IntArray, stream: Keys, steps: IntArray) -> Outcome:
        luck, seconds, log_noise = self._draws(stream)
        met = self.meet(items, self.lanes)
        happens = luck[:2] < self.chances(met)
        clicked = happens[0]
        leavers = happens[1].nonzero()[0]
        components = np.zeros((self.n, 2), np.float32)
        components[:, 0] = clicked
        learn, tired, known = self._changes_click * clicked + self._changes_shown
        dwell = seconds.copy()
        groups = [Group(SHOWN, None, items, 0)]
        readers = clicked.nonzero()[0]
        if readers.size:
            groups += self._read(readers, met, log_noise[readers], components[:, 1], dwell)
        self.loyalty = met.loyalty + pull(met.loyalty, self.articles.quality.take(items), learn)
        tire(self.tired, met.at_topic, tired, self._p.kept)
        self.known.reshape(-1)[met.at_slot] = np.minimum(met.known + known, MOST_KNOWN)
        self.known_item.reshape(-1)[met.at_slot] = items
        pause, gone = self._leave(leavers, luck[2:, leavers], dwell) if leavers.size else self._all_stay
        self.clock = self.clock + dwell
        return Outcome(components, clicked - _ONE, groups, dwell, pause, gone)

    def meet(self, items: IntArray, lanes: IntArray) -> Meeting:
        """Readers are shown `items` at their clocks. Shapes: items [B] with lanes [B], or [B, K] with [B, 1]."""
        own = lanes is self.lanes  # each reader meets one article, so nothing has to be taken from the state
        first = self._first_place if own else (lanes * N_TOPICS, lanes * SLOTS)
        topic, slot = self._places.take(items, 1)
        at_topic, at_slot = topic + first[0], slot + first[1]
        known = self.known.take(at_slot) * (self.known_item.take(at_slot) == items)
        interest = self.taste.take(at_topic) - self.tired.take(at_topic)
        clock, loyalty = (self.clock, self.loyalty) if own else (self.clock.take(lanes), self.loyalty.take(lanes))
        return Meeting(items, at_topic, at_slot, known, interest, self.articles.attention_at(items, clock), loyalty)

    def chances(self, met: Meeting) -> FloatArray:
        """Probabilities of a click and of leaving after this step, [2, ...]."""
        p = self._p
        minus = np.empty((2, *met.interest.shape), np.float32)
        click = np.subtract(self._minus_click.take(met.items), met.interest, minus[0])
        click -= met.attention
        click += met.known
        click -= p.click_loyalty * met.loyalty
        minus[1] = p.leave_loyalty * met.loyalty - p.leave_base
        return probabilities(minus)

    def log_seconds(self, met: Meeting) -> FloatArray:
        """Mean log of the seconds read after a click; the shape of `met`."""
        p = self._p
        seconds: FloatArray = self._log_seconds.take(met.items) + p.read_interest * met.interest + p.read_loyalty * met.loyalty
        return seconds

    def _read(self, readers: IntArray, met: Meeting, log_noise: FloatArray, read: FloatArray, dwell: IntArray) -> list[Group]:
        """How long those who clicked read: fills `read` (seconds) and adds to `dwell`; returns the history rows, in order of time.

        Args:
            log_noise: [m] of the logarithm of the seconds.
        """
        log_seconds = self.log_seconds(met)[readers] + log_noise
        seconds = np.minimum(np.exp(log_seconds), self._p.longest_s)
        read[readers] = seconds
        after = (seconds * _MICROSECONDS).astype(np.int64)
        dwell[readers] += after
        items = met.items[readers]
        return [Group(CLICK, readers, items, SECOND), Group(READ, readers, items, SECOND + after, seconds)]

    def _leave(self, leavers: IntArray, luck: FloatArray, dwell: IntArray) -> tuple[FloatArray, NDArray[np.bool_]]:
        """The visit of `leavers` ends; they return after a pause or never."""
        p = self._p
        stays_away = -p.return_base - p.return_loyalty * self.loyalty[leavers]
        returns, hours, away = comes_back(luck, stays_away, p.pause_least_h, p.pause_mean_h)
        rest(self.tired, leavers, hours, p.rest_hours)
        return visit_ends(self.n, leavers, returns, away, dwell)


def _drawn(luck: FloatArray, read_noise: float) -> tuple[FloatArray, IntArray, FloatArray]:
    """Of uniform numbers [7, B]: those of a click, of leaving and two of returning [4, B], the microseconds [B] that a decision takes, and
    the noise [B] of the logarithm of the seconds read."""
    seconds = (luck[2] * _EIGHT).astype(np.int64) + _THREE
    return luck[[0, 1, 3, 4]], seconds * _SECOND_US, read_noise * gaussian(luck[5:])
