"""Live streaming: rooms open and close while customers watch, like, comment and send gifts, tire, grow loyal, leave and return tomorrow.

docs/scenarios/live.md explains every parameter, the published rates and the headroom. What one shows now changes what comes later
in three ways, each scaled by `strength` (0: nothing shown changes anything later but the time of day; 1: as documented; 2: twice that):

* satisfaction: a running memory of the quality of the rooms met. It makes customers enter rooms, watch longer, stay and come back.
* loyalty to a streamer: grows with the time watched, towards a level that the streamer's quality sets. It makes the streamer's later
  rooms interesting and gifts likely, and customers with loyalties come back tomorrow.
* fatigue of the streamer and of the category: each tires the more it was shown and watched; rest and pauses heal.
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
from qurate.environments.scenarios.live_rooms import N_CATEGORIES, N_STREAMERS, RoomParameters, Rooms
from qurate.environments.timetable import SECOND, times
from qurate.errors import Code, UserError
from qurate.types import FloatArray, IntArray

CLICK, COMMENT, GIFT, LIKE, SHOWN, WATCH = 1, 2, 3, 4, 5, 6  # alphabetical, like the types of a dataset read from a log
N_SEGMENTS = 6
SPENDING_BANDS = ("low", "middle", "high")
N_PLACES = N_CATEGORIES + N_STREAMERS
"""What a customer thinks of, in the columns of an array: categories, then streamers."""
_NONE, _ONE, _THREE, _SECOND_US = (np.array(number) for number in (0, 1, 3, SECOND))  # arrays without a dimension, see `as_arrays`
_EIGHT, _MICROSECONDS = (np.array(number, np.float32) for number in (8, SECOND))


@dataclass(frozen=True, slots=True)
class LiveParameters(RoomParameters):
    """All constants of the scenario. Logits unless a unit is given; sources in docs/scenarios/live.md."""

    # customers
    liked_categories: int = 3  # per segment
    like: float = 1.2  # taste for a liked category; the others are at dislike
    dislike: float = -0.6
    taste_noise: float = 0.5  # standard deviation of a customer's own taste per category
    segment_seen: float = 0.85  # probability that the visible segment is the true one
    satisfaction_start: float = 0.1  # mean satisfaction of a new customer, in [-1, 1]
    satisfaction_spread: float = 0.2  # its standard deviation
    # what happens at a room; interest = taste + loyalty_interest * loyalty - fatigue of the category - fatigue of the streamer
    loyalty_interest: float = 1.5
    click_base: float = -1.9
    click_heat: float = 0.6  # per unit of heat
    click_satisfaction: float = 1.0  # per unit of satisfaction
    watch_base: float = 3.6  # mean log of the seconds watched
    watch_interest: float = 0.35
    watch_satisfaction: float = 1.0
    watch_noise: float = 1.2  # standard deviation of the log of the seconds watched
    longest_s: float = 7200.0  # seconds; nobody watches longer at a stretch
    comment_base: float = -3.53
    comment_interest: float = 0.4
    comment_heat: float = 0.6
    like_base: float = -3.53
    like_interest: float = 0.5
    gift_base: float = -6.98
    gift_interest: float = 0.4
    gift_loyalty: float = 1.5
    gift_battle: float = 2.0  # of a streamer who battles for gifts
    gift_spending: float = 2.0  # per unit of the customer's readiness to spend, 0 to 1
    # dynamics, per unit of strength; engaged = seconds / (seconds + half_s)
    half_s: float = 120.0  # seconds watched that count one half
    learn_shown: float = 0.05  # share of the way from satisfaction to the room's quality, each time
    learn_watch: float = 0.5  # the same per unit of engagement
    loyal_watch: float = 0.8  # share of the way from loyalty to (1 + quality) / 2, per unit of engagement
    forget_hours: float = 240.0  # e-folding time of loyalty during a pause, hours
    tire_shown: float = 0.15  # fatigue added to the streamer and to the category
    tire_watch: float = 0.6  # the same per unit of engagement
    kept: float = 0.9  # fatigue kept from step to step
    rest_hours: float = 16.0  # e-folding time of fatigue during a pause, hours
    # visits
    leave_base: float = -2.2
    leave_satisfaction: float = 1.5  # leave logit per unit of lost satisfaction
    return_base: float = 0.3
    return_satisfaction: float = 2.0
    return_loyalty: float = 1.5  # per unit of the sum of loyalties
    pause_least_h: float = 12.0
    pause_mean_h: float = 12.0  # mean of the exponential part, hours


class Meeting(NamedTuple):
    """Where customers meet rooms, any shape [...]."""

    items: IntArray
    lanes: IntArray
    at: IntArray  # [2, ...] flat positions of (customer, category) and (customer, streamer)
    loyalty: FloatArray
    interest: FloatArray
    heat: FloatArray
    satisfaction: FloatArray


class Inside(NamedTuple):
    """What may happen in the room, any shape [...]."""

    chances: FloatArray  # [3, ...] of a like, a comment and a gift
    log_seconds: FloatArray  # mean log of the seconds watched, before the room closes
    left_s: FloatArray  # seconds until the room closes, at most `longest_s`


class Live:
    """`World` of the engine. Latent state per lane: taste and fatigue per category [B, 12], loyalty and fatigue per streamer [B, 60],
    satisfaction and readiness to spend [B], and the clock.

    Args:
        n_items: rooms in the schedule, 60 or more; about 15 are open at once, so their number says how many days it covers.
        strength: of everything that what is shown changes later, 0 to 2.
        world_seed: which streamers, rooms and segments.
        parameters: see LiveParameters.
    """

    has_values = True
    with_replacement = False
    rows_per_step = 6  # shown, click, comment, like, gift, watch
    shown_columns: tuple[str, ...] = ("heat",)
    arrivals_s = 86_400
    state_names: tuple[str, ...] = ("clock", "taste", "tired_category", "tired_streamer", "loyalty", "satisfaction", "spending")

    def __init__(self, n_items: int = 600, strength: float = 1.0, world_seed: int = 0, parameters: LiveParameters | None = None) -> None:
        if not 0 <= strength <= 2:
            raise UserError("strength from 0 to 2", str(strength), where="live", code=Code.BAD_ARGUMENT)
        p = self.p = parameters or LiveParameters()
        self._p = as_arrays(p)
        self.strength = strength
        self.rooms = rooms = Rooms(n_items, world_seed, p)
        width = len(str(n_items))
        self.item_ids = [f"room_{i:0{width}d}" for i in range(1, n_items + 1)]
        self.type_names = ["click", "comment", "gift", "like", "shown", "watch"]
        self.component_names = ["watch", "like", "gift"]
        self.component_weights = np.array([0.01, 1, 20], np.float32)
        self.availability = rooms.availability
        self.item_features, self.feature_names = rooms.features()
        self.user_feature_names = [f"segment={'abcdef'[i]}" for i in range(N_SEGMENTS)] + [f"spending={x}" for x in SPENDING_BANDS]
        rng = np.random.default_rng([world_seed, 7])
        self.segment_taste = segment_tastes(rng, (N_SEGMENTS, N_CATEGORIES), p.liked_categories, p.like, p.dislike)
        changes = (p.learn_shown * strength, p.learn_watch * strength, p.tire_shown * strength, p.tire_watch * strength)
        self._learn_shown, self._learn_watch, self._tire_shown, self._tire_watch = (np.array(x, np.float32) for x in changes)
        self._loyal_watch = np.array(p.loyal_watch * strength, np.float32)
        self._minus_click = -p.click_base - rooms.appeal
        self._places = np.stack([rooms.category, N_CATEGORIES + rooms.streamer])
        of_interest = ((-p.like_base, p.like_interest), (-p.comment_base, p.comment_interest), (-p.gift_base, p.gift_interest))
        self._minus_inside, self._inside_interest = np.array(of_interest, np.float32).T
        luck, visit_luck, inside_luck, watch_noise = purposes(0, 3), purposes(3, 2), purposes(5, 5), self._p.watch_noise
        self._draws = StepDraws(lambda keys: _drawn(uniforms(keys, luck)))
        self._inside_draws = StepDraws(lambda keys: _drawn_inside(uniforms(keys, inside_luck), watch_noise))
        self._visit_draws = StepDraws(lambda keys: (uniforms(keys, visit_luck),))
        self._latent_draws = purposes(1 << 32, N_CATEGORIES + 1)
        self._trait_draws = purposes((1 << 32) + 64, 5)

    def items_table(self) -> pl.DataFrame:
        """item_id, the visible columns of the room's streamer, and from when until when the room is open (null: beyond the schedule)."""
        return pl.DataFrame({"item_id": self.item_ids} | self.rooms.columns()).with_columns(**times(self.availability))

    def allocate(self, n: int) -> None:
        self.n = n
        self.clock = np.zeros(n, np.int64)
        self._liked, self._tired = np.zeros((n, N_PLACES), np.float32), np.zeros((n, N_PLACES), np.float32)
        self.taste, self.loyalty = self._liked[:, :N_CATEGORIES], self._liked[:, N_CATEGORIES:]  # views
        self.tired_category, self.tired_streamer = self._tired[:, :N_CATEGORIES], self._tired[:, N_CATEGORIES:]
        self.satisfaction = np.zeros(n, np.float32)
        self.spending = np.zeros(n, np.float32)
        self.lanes = np.arange(n, dtype=np.int64)
        self._first_place = self.lanes * N_PLACES
        self._all_stay = all_stay(n)

    def enter(self, lanes: IntArray, keys: Keys) -> FloatArray:
        p, m = self.p, len(lanes)
        u = uniforms(keys, self._trait_draws)
        z = normals(keys, self._latent_draws)
        segment, seen = segments(u[[0, 2, 3]], N_SEGMENTS, p.segment_seen)
        self.clock[lanes] = first_visits(keys, self.arrivals_s)
        self.taste[lanes] = self.segment_taste[segment] + p.taste_noise * z[:N_CATEGORIES].T
        self.tired_category[lanes] = self.tired_streamer[lanes] = self.loyalty[lanes] = 0
        self.satisfaction[lanes] = np.clip(p.satisfaction_start + p.satisfaction_spread * z[N_CATEGORIES], -1, 1)
        self.spending[lanes] = u[1]
        band = np.clip((u[1] + 0.3 * (u[4] - 0.5)) * 3, 0, 2).astype(np.int64)
        user = np.zeros((m, len(self.user_feature_names)), np.float32)
        user[np.arange(m), seen] = 1
        user[np.arange(m), N_SEGMENTS + band] = 1
        return user

    def shown_of(self, items: IntArray, age: IntArray) -> FloatArray:
        """How many others watch, as an app shows beside each room: float32 [B, K, 1]."""
        return self.rooms.heat_by_age(items, age)[:, :, None]

    def respond(self, items: IntArray, stream: Keys, steps: IntArray) -> Outcome:
        luck, seconds = self._draws(stream)
        met = self.meet(items, self.lanes)
        happens = luck < self.chances(met)
        clicked = happens[0]
        leavers = happens[1].nonzero()[0]
        components = np.zeros((self.n, 3), np.float32)
        learn: FloatArray | float = self._learn_shown
        tired: FloatArray | float = self._tire_shown
        dwell = seconds.copy()
        groups = [Group(SHOWN, None, items, 0)]
        viewers = clicked.nonzero()[0]
        if viewers.size:
            inside, keys = (met, stream) if viewers.size == self.n else (Meeting(*(x.take(viewers, -1) for x in met)), stream.take(viewers))
            groups += self._watch(viewers, inside, keys, components)
            seconds = components[:, 0]
            dwell += (seconds * _MICROSECONDS).astype(np.int64)
            engaged: FloatArray = np.divide(seconds, seconds + self._p.half_s)
            learn, tired = learn + self._learn_watch * engaged, tired + self._tire_watch * engaged
            bond = pull(met.loyalty, self.rooms.bond.take(items), self._loyal_watch * engaged)
            self._liked.reshape(-1)[met.at[1]] = met.loyalty + bond
        self.satisfaction = self.satisfaction + pull(self.satisfaction, self.rooms.quality.take(items), learn)
        tire(self._tired, met.at, tired, self._p.kept)
        pause, gone = self._leave(leavers, stream[leavers], dwell) if leavers.size else self._all_stay
        self.clock = self.clock + dwell
        return Outcome(components, clicked - _ONE, groups, dwell, pause, gone)

    def meet(self, items: IntArray, lanes: IntArray) -> Meeting:
        """Customers are shown `items` at their clocks. Shapes: items [B] with lanes [B], or [B, K] with [B, 1]."""
        own = lanes is self.lanes  # each customer meets one item, so nothing has to be taken from the state
        at = self._places.take(items, 1) + (self._first_place if own else lanes * N_PLACES)
        taste, loyalty = self._liked.take(at)
        interest = taste + self._p.loyalty_interest * loyalty
        tired_category, tired_streamer = self._tired.take(at)
        interest -= tired_category
        interest -= tired_streamer
        clock, satisfaction = (self.clock, self.satisfaction) if own else (self.clock.take(lanes), self.satisfaction.take(lanes))
        return Meeting(items, lanes, at, loyalty, interest, self.rooms.heat_at(items, clock), satisfaction)

    def chances(self, met: Meeting) -> FloatArray:
        """Probabilities [2, ...] of a click, and of leaving after the decision."""
        p, satisfaction = self._p, met.satisfaction
        minus = np.empty((2, *met.interest.shape), np.float32)
        click = np.subtract(self._minus_click.take(met.items), met.interest, minus[0])
        click -= p.click_heat * met.heat
        click -= p.click_satisfaction * satisfaction
        minus[1] = p.leave_satisfaction * satisfaction - p.leave_base
        return probabilities(minus)

    def inside(self, met: Meeting) -> Inside:
        """What may happen after a click; shapes as in `met`."""
        p, lanes = self._p, met.lanes
        by_event = (3,) + (1,) * met.interest.ndim
        minus = self._minus_inside.reshape(by_event) - self._inside_interest.reshape(by_event) * met.interest
        minus[1] -= p.comment_heat * met.heat
        minus[2] -= p.gift_loyalty * met.loyalty
        minus[2] -= p.gift_spending * self.spending.take(lanes) + p.gift_battle * self.rooms.battles.take(met.items)
        log_seconds = p.watch_base + p.watch_interest * met.interest + p.watch_satisfaction * met.satisfaction
        left = self.rooms.seconds_left(met.items, self.clock.take(lanes)) - _ONE  # it takes a second to enter
        return Inside(probabilities(minus), log_seconds, np.minimum(np.maximum(left, _NONE), p.longest_s).astype(np.float32))

    def _watch(self, viewers: IntArray, met: Meeting, stream: Keys, components: FloatArray) -> list[Group]:
        """What those who clicked do in the room: fills their `components` and returns the history rows, in order of time."""
        luck, log_noise = self._inside_draws(stream)
        inside = self.inside(met)
        seconds = np.minimum(np.exp(inside.log_seconds + log_noise), inside.left_s)
        likes, comments, gives = luck < inside.chances
        components[viewers, 0], components[viewers, 1], components[viewers, 2] = seconds, likes, gives
        watched = (seconds * _MICROSECONDS).astype(np.int64)
        after = watched + _SECOND_US
        groups = [Group(CLICK, viewers, met.items, _SECOND_US)]
        for kind, does, quarters in ((COMMENT, comments, 1), (LIKE, likes, 2), (GIFT, gives, 3)):
            who = does.nonzero()[0]
            if who.size:
                groups.append(Group(kind, viewers[who], met.items[who], SECOND + watched[who] * quarters // 4))
        return [*groups, Group(WATCH, viewers, met.items, after, seconds)]

    def _leave(self, leavers: IntArray, stream: Keys, dwell: IntArray) -> tuple[FloatArray, NDArray[np.bool_]]:
        """The visit of `leavers` ends; they return after a pause or never."""
        p = self._p
        loyalty = self.loyalty[leavers].sum(axis=1)
        stays_away = -p.return_base - p.return_satisfaction * self.satisfaction[leavers] - p.return_loyalty * loyalty
        returns, hours, away = comes_back(self._visit_draws(stream)[0], stays_away, p.pause_least_h, p.pause_mean_h)
        rest(self._tired, leavers, hours, p.rest_hours)
        rest(self.loyalty, leavers, hours, p.forget_hours)
        return visit_ends(self.n, leavers, returns, away, dwell)


def _drawn(luck: FloatArray) -> tuple[FloatArray, IntArray]:
    """Of uniform numbers [3, B]: those of a click and of leaving [2, B], and the microseconds [B] that a decision takes."""
    seconds = (luck[2] * _EIGHT).astype(np.int64) + _THREE
    return luck[:2], seconds * _SECOND_US


def _drawn_inside(luck: FloatArray, watch_noise: float) -> tuple[FloatArray, FloatArray]:
    """Of uniform numbers [5, B]: those of a like, a comment and a gift [3, B], and the noise [B] of the log of the seconds watched."""
    return luck[:3], watch_noise * gaussian(luck[3:])
