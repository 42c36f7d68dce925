"""The rooms of the scenario `live`: who streams when, what is seen of a room, and how many others watch it.

Streamers keep regular hours: each opens a room every 19.6 hours or so, the others at other times. A room is open once, from its
beginning until its end. The crowd of a room ("heat") is a function of the room and the time: the customers of the engine are few among
those who watch, so they do not change it, and every customer meets the same crowd at the same moment.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qurate.environments.catalogue_features import catalogue_features
from qurate.environments.timetable import SECOND, AgeTable, first_open, timetable, with_zero
from qurate.types import FloatArray, IntArray

N_STREAMERS, N_CATEGORIES = 60, 12
BIN_S = 600
"""Seconds for which a crowd stays the same."""

_SECOND_US = np.array(SECOND)  # without a dimension, see rng.py


@dataclass(frozen=True, slots=True)
class RoomParameters:
    """Constants of streamers and rooms; sources in docs/scenarios/live.md."""

    rooms_per_day: float = 1.2218  # of one streamer: 11,613,708 rooms / 452,621 streamers / 21 days
    shortest_h: float = 2.0  # hours that a room is open, uniform
    longest_h: float = 8.0
    jitter_h: float = 1.0  # a room begins at most so much earlier or later than the streamer's rhythm says
    battle_share: float = 0.3  # share of streamers who battle for gifts
    battle_quality: float = -0.5  # their mean quality, in [-1, 1]
    other_quality: float = 0.4  # mean quality of the others
    quality_spread: float = 0.25  # standard deviation within each kind
    follow_noise: float = 0.15  # of the visible rate of follows, in units of quality
    battle_appeal: float = 1.5  # click logit
    appeal_spread: float = 0.3  # standard deviation of a room's own click logit
    fame_heat: float = 0.4  # heat per standard deviation of the streamer's fame
    rise: float = 1.0  # heat in the middle of a room above that at its beginning and end
    crowd_noise: float = 0.2  # standard deviation of heat from one ten minutes to the next


class Rooms:
    """The schedule. Arrays [N + 1] over rooms, entry 0 unused: streamer, category, quality, battles (0 or 1), bond (the loyalty that
    much watching leads to), appeal (click logit).

    Args:
        n_rooms: N; the schedule ends when the last of them begins, and rooms that are open then stay open.
        seed: which streamers and rooms.
        p: constants.
    """

    def __init__(self, n_rooms: int, seed: int, p: RoomParameters) -> None:
        rng = np.random.default_rng([seed, 20_261_126])
        battles = rng.permutation(N_STREAMERS) < round(p.battle_share * N_STREAMERS)
        spread = p.quality_spread * rng.normal(size=N_STREAMERS)
        quality = np.clip(np.where(battles, p.battle_quality, p.other_quality) + spread, -1, 1)
        fame, category = rng.normal(size=N_STREAMERS), rng.permutation(N_STREAMERS) % N_CATEGORIES
        self._follow_rate = np.round(np.clip(6 + 4 * (quality + p.follow_noise * rng.normal(size=N_STREAMERS)), 0.1, None), 1)
        self._followers = np.round(np.exp(9 + 1.5 * fame))
        self._battle_time = np.round(np.where(battles, rng.uniform(0.4, 0.7, N_STREAMERS), rng.uniform(0, 0.1, N_STREAMERS)), 2)
        who, since, length = _schedule(n_rooms, rng, p)
        self.availability = timetable(since, length)
        self.streamer, self.category = np.concatenate([[0], who]), np.concatenate([[0], category[who]])
        self.quality, self.battles, self.bond = (
            with_zero(quality[who]),
            with_zero(battles[who].astype(np.float64)),
            with_zero((1 + quality[who]) / 2),
        )
        self.appeal = with_zero(p.battle_appeal * battles[who] + p.appeal_spread * rng.normal(size=n_rooms))
        middle = np.sin(np.pi * np.minimum((np.arange(self.bins(p)) + 0.5) * BIN_S * SECOND / length[:, None], 1)) - 2 / np.pi
        crowd = p.fame_heat * fame[who][:, None] + p.rise * middle + p.crowd_noise * rng.normal(size=middle.shape)
        self.heat = np.vstack([np.zeros(crowd.shape[1]), crowd]).astype(np.float32)  # [N + 1, bins]
        self._heat = AgeTable(self.heat, self.availability.since, BIN_S)

    @staticmethod
    def bins(p: RoomParameters) -> int:
        """Ten minutes in the longest room."""
        return int(np.ceil(p.longest_h * 3600 / BIN_S))

    def heat_at(self, items: IntArray, clock: IntArray) -> FloatArray:
        """How many others watch, in standard units around 0; the shape of `items` and `clock` (microseconds) broadcast."""
        return self._heat.at(items, clock)

    def heat_by_age(self, items: IntArray, age: IntArray) -> FloatArray:
        """The same of rooms that have been open for `age` (microseconds)."""
        return self._heat.by_age(items, age)

    def seconds_left(self, items: IntArray, clock: IntArray) -> IntArray:
        """Whole seconds until the room closes; shapes broadcast."""
        left: IntArray = (self.availability.until.take(items) - clock) // _SECOND_US
        return left

    def columns(self) -> dict[str, NDArray[np.str_] | NDArray[np.float64]]:
        """What an app shows of a room: streamer, category, followers, follow_rate (per 100 viewers), battles (share of the time)."""
        who = self.streamer[1:]
        names = {"streamer": np.array([f"s{s + 1:02d}" for s in who]), "category": np.array([f"c{c:02d}" for c in self.category[1:]])}
        return names | {"followers": self._followers[who], "follow_rate": self._follow_rate[who], "battles": self._battle_time[who]}

    def features(self) -> tuple[FloatArray, list[str]]:
        """float32 [N + 1, F], row 0 zeros, and their names."""
        return catalogue_features(self.columns())


def _schedule(n_rooms: int, rng: np.random.Generator, p: RoomParameters) -> tuple[IntArray, IntArray, IntArray]:
    """Streamer, beginning and length (microseconds, from EPOCH_US) of the first `n_rooms` rooms open at or after EPOCH_US, by beginning."""
    turns = n_rooms // N_STREAMERS + 3
    period = 24 / p.rooms_per_day
    phase = rng.permutation(N_STREAMERS) / N_STREAMERS
    begin = (phase[:, None] + np.arange(-1, turns - 1)) * period + p.jitter_h * rng.uniform(-1, 1, (N_STREAMERS, turns))
    hours = rng.uniform(p.shortest_h, p.longest_h, begin.shape)
    since, length = (np.round(x.reshape(-1) * 3600).astype(np.int64) * SECOND for x in (begin, hours))
    order = first_open(since, length, n_rooms)
    return order // turns, since[order], length[order]
