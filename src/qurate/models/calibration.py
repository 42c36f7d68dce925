"""Calibration of the behaviour head on held-out decisions: its confidence, repeated items, and similar visits.

A network has seen its own training visits many times, so that its probabilities are too extreme, above all for repeats. About
sixty numbers, fitted on decisions it never learnt from (`training/calibrate.py`), correct that:

    log pi_b(a | s) = f(s, a) / T  +  c_rank + c_count + c_length, where a stands in the window
                                   +  b + w log k(s, a), where a visit like this one holds a           + constant

f is the head's logit, T a temperature (Guo et al. 2017, arXiv:1706.04599), k the session-kNN score (`baselines/neighbours.py`).
T, c_length, b and w depend on how many different items the window holds, and T, b and w besides on whether a stands there.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, Self, cast

import numpy as np
from numpy.typing import NDArray

from qurate.baselines.neighbours import SessionKnnScorer
from qurate.baselines.saved import scorer_from_saved, scorer_to_saved
from qurate.choosing.policy import over_candidates
from qurate.types import FloatArray, IntArray, Observation, State

LENGTHS = np.array([1, 2, 3, 4, 6, 9, 14, 25])
"""Different items in the window from which each class of lengths begins; none counts as one."""
RANKS, COUNTS = 12, 4
"""Items newer than this one, and times it stands in the window; more count as the last class."""

LEAST_VALUE = 0.01
"""log Q is taken of no less than this share of the mean reward of the log, so that what seems to be worth nothing still has an order."""


def chosen_and_worth(logits: FloatArray, worth: FloatArray, mean_reward: float, power: float) -> FloatArray:
    """log pi_b + power log Q, float32 [B, K]: what is chosen, and of that what is worth more.

    Args:
        logits: log pi_b, up to a constant a row. worth: Q, in weighted reward units. Both [B, K].
        mean_reward: of the training decisions that earned something: the scale of `LEAST_VALUE`.
        power: in [0, 1], less where Q is mostly noise (`training/q_power.py`); 0 = by the logits alone.
    """
    return cast(FloatArray, logits + np.float32(power) * np.log(np.maximum(worth, np.float32(LEAST_VALUE * mean_reward))))


class Repeats(NamedTuple):
    """The items of B windows, each at the newest place where it stands."""

    length: IntArray  # [B] class of the number of different items
    at: NDArray[np.bool_]  # [B, L] the newest place of an item
    rank: IntArray  # [B, L] class of the number of different items newer than it
    times: IntArray  # [B, L] class of how often it stands there


def repeats(state: State) -> Repeats:
    """See `Repeats`."""
    items = np.asarray(state.history_items, np.int64)
    same = (items[:, :, None] == items[:, None]) & (items > 0)[:, :, None]
    at = (items > 0) & ~np.triu(same, 1).any(axis=2)
    newer = np.cumsum(at[:, ::-1], axis=1)[:, ::-1] - at
    different = at.sum(axis=1)
    length = np.maximum(np.searchsorted(LENGTHS, different, "right") - 1, 0)
    return Repeats(length, at, np.minimum(newer, RANKS - 1), np.clip(same.sum(axis=2), 1, COUNTS) - 1)


@dataclass(frozen=True, eq=False)
class ChoiceCalibration:
    """Corrections of a behaviour head; zeros change nothing. Logits, so in nats; `log_temperature` is divided out as T = exp(.).

    Attributes:
        by_rank: [RANKS]. by_count: [COUNTS]. near_again, nearness_again: [1]. All others: [len(LENGTHS)].
        neighbours: None = no term of similar visits.
    """

    log_temperature: FloatArray
    by_length: FloatArray
    by_rank: FloatArray
    by_count: FloatArray
    near: FloatArray  # b, of what any similar visit holds
    nearness: FloatArray  # w, of the log of the session-kNN score
    log_temperature_again: FloatArray  # added for the items of the window, as are the next two
    near_again: FloatArray
    nearness_again: FloatArray
    neighbours: SessionKnnScorer | None = None

    @classmethod
    def none(cls) -> Self:
        """Zeros."""
        size = len(LENGTHS)
        zeros = [np.zeros(n, np.float32) for n in (size, size, RANKS, COUNTS, size, size, size, 1, 1)]
        return cls(*zeros)  # type: ignore[arg-type]  # nine arrays; the last field has a default

    def with_neighbours(self, neighbours: SessionKnnScorer) -> Self:
        """The same numbers with visits to compare with."""
        return replace(self, neighbours=neighbours)

    def logits(self, raw: FloatArray, observation: Observation) -> FloatArray:
        """Calibrated logits float32 [B, K] of the observation's candidates, from the head's own."""
        found, items = repeats(observation.state), observation.state.history_items
        row, place = np.nonzero(found.at)
        bonus = self.by_rank[found.rank] + self.by_count[found.times] + self.by_length[found.length][:, None]
        candidates = observation.actions.candidates
        table = np.zeros((len(items), 1 + max(int(candidates.max(initial=0)), int(items.max(initial=0)))), np.float32)
        table[row, items[row, place]] = bonus[row, place]
        stands = np.zeros(table.shape, np.float32)
        stands[row, items[row, place]] = 1
        again = over_candidates(stands, candidates)
        cooler, cooler_again = (np.exp(-t)[found.length][:, None] for t in (self.log_temperature, self.log_temperature_again))
        out = raw * cooler * np.where(again > 0, cooler_again, np.float32(1)) + over_candidates(table, candidates)
        if self.neighbours is not None:
            score = self.neighbours.scores(observation)
            like = np.log(np.maximum(score, np.finfo(np.float32).tiny))
            term = self.near[found.length][:, None] + self.nearness[found.length][:, None] * like
            term += again * (self.near_again + self.nearness_again * like)
            out += np.where(score > 0, term, np.float32(0))
        return out

    def saved(self) -> tuple[dict[str, Any] | None, dict[str, NDArray[Any]]]:
        """The scorer's fields, None without one, and all arrays by name."""
        numbers = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "neighbours"}
        if self.neighbours is None:
            return None, numbers
        config, arrays = scorer_to_saved(self.neighbours)
        return config, numbers | {f"neighbours.{name}": value for name, value in arrays.items()}

    @classmethod
    def from_saved(cls, config: dict[str, Any] | None, arrays: dict[str, NDArray[Any]]) -> Self:
        """The inverse of `saved`.

        Raises:
            KeyError, TypeError, ValueError: something else was saved.
        """
        numbers = {name: value for name, value in arrays.items() if not name.startswith("neighbours.")}
        if any(value.shape != getattr(cls.none(), name).shape for name, value in numbers.items()):
            raise ValueError("a calibration of other sizes")
        out = cls(**numbers)  # type: ignore[arg-type]
        if config is None:
            return out
        scorer = scorer_from_saved(config, {n.removeprefix("neighbours."): v for n, v in arrays.items() if n.startswith("neighbours.")})
        if not isinstance(scorer, SessionKnnScorer):
            raise ValueError("neighbours of another kind")
        return out.with_neighbours(scorer)
