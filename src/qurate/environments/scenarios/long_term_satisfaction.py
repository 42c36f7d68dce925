"""Long-term satisfaction ("choc and kale"): people for whom clickbait is engaging now and makes everything less engaging later.

The world of RecSim 0.2.4 (Ie et al. 2019, arXiv:1909.04847, `long_term_satisfaction`) with its constants, so that figures compare;
the form is that of Mladenov et al. 2019 (arXiv:1905.13559). docs/scenarios/long_term_satisfaction.md gives equations and sources.
An item is a level of clickbait: a document shows its level and nothing else, and the documents of every decision are new ones.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from qurate.environments.catalogue_features import catalogue_features
from qurate.environments.customers import as_arrays
from qurate.environments.engine import Outcome
from qurate.environments.history_rows import Group
from qurate.environments.rng import Keys, StepDraws, box_muller, purposes, uniforms
from qurate.errors import Code, UserError
from qurate.types import Availability, FloatArray, IntArray

SHOWN, WATCH = 1, 2
MINUTE = 60_000_000
_ONE, _CERTAIN = np.array(1), np.array(1, np.float32)  # arrays without a dimension, see `as_arrays`


@dataclass(frozen=True, slots=True)
class SatisfactionParameters:
    """The constants of the scenario beside `sensitivity`, those of RecSim 0.2.4."""

    memory_discount: float = 0.7  # share of the exposure that is left after a decision
    push: float = 2.0  # exposure lost per unit of clickbait above `neutral`, gained below
    neutral: float = 0.5  # clickbait that leaves the exposure as it is
    innovation_stddev: float = 0.05  # of the exposure, at every decision
    choc_mean: float = 5.0  # mean of the logarithm of engagement where clickbait and satisfaction are 1
    choc_stddev: float = 1.0  # its standard deviation
    kale_mean: float = 4.0  # the same where clickbait is 0
    kale_stddev: float = 1.0
    time_budget: int = 60  # decisions until a customer is gone


class LongTermSatisfaction:
    """`World` of the engine. State per lane: net positive exposure [B], which no recommender sees.

    Args:
        n_items: levels of clickbait, the midpoints of as many equal parts of [0, 1]; RecSim draws from the whole interval.
        strength: of what the document shown does to the exposure, 0 to 2: at 0 nothing that is shown changes anything later.
        sensitivity: of satisfaction to the exposure, 0 to 1; RecSim has 0.01.
        parameters: see SatisfactionParameters.
    """

    has_values = True
    with_replacement = True
    rows_per_step = 2  # shown (single documents only), watch
    state_names: tuple[str, ...] = ("exposure",)

    def __init__(
        self, n_items: int = 100, strength: float = 1.0, sensitivity: float = 0.01, parameters: SatisfactionParameters | None = None
    ) -> None:
        for name, value, most in (("strength", strength, 2), ("sensitivity", sensitivity, 1)):
            if not 0 <= value <= most:
                raise UserError(f"{name} from 0 to {most}", str(value), where="long_term_satisfaction", code=Code.BAD_ARGUMENT)
        p = self.p = parameters or SatisfactionParameters()
        self.strength, self.sensitivity = strength, sensitivity
        self._p, self._budget = as_arrays(p), np.array(p.time_budget)
        self._minus_sensitivity, self._push = np.array(-sensitivity, np.float32), np.array(p.push * strength, np.float32)
        self._more_choc, self._more_spread = (np.array(x, np.float32) for x in (p.choc_mean - p.kale_mean, p.choc_stddev - p.kale_stddev))
        self.item_ids = [f"doc_{i:04d}" for i in range(1, n_items + 1)]
        self.type_names = ["shown", "watch"]
        self.component_names = ["watch"]  # like the event whose value it is, so that a log pays the same
        self.component_weights = np.ones(1, np.float32)
        self.availability = Availability.always(n_items)
        self._levels = (np.arange(n_items) + 0.5) / n_items
        self.clickbait = self._levels.astype(np.float32)  # [N], of items 1..N
        self.item_features, self.feature_names = catalogue_features({"clickbait": self._levels})
        self.user_feature_names: list[str] = []
        luck, innovation = purposes(0, 2), self._p.innovation_stddev
        self._noise = StepDraws(lambda keys: _noise(box_muller(uniforms(keys, luck)), innovation))
        self._first_draw = purposes(1 << 32, 1)

    def items_table(self) -> pl.DataFrame:
        """item_id and clickbait, 0 to 1."""
        return pl.DataFrame({"item_id": self.item_ids, "clickbait": self._levels})

    def allocate(self, n: int) -> None:
        self.n = n
        self.exposure = np.zeros(n, np.float32)
        self._first = np.zeros(n, np.int64)
        self._dwell = np.full(n, MINUTE)
        self._no_pause = np.zeros(n, np.float32)
        for constant in (self._first, self._dwell, self._no_pause):
            constant.flags.writeable = False

    def enter(self, lanes: IntArray, keys: Keys) -> FloatArray:
        start = (uniforms(keys, self._first_draw)[0] - np.float32(0.5)) / np.float32(1 - self.p.memory_discount)
        self.exposure[lanes] = start
        return np.zeros((len(start), 0), np.float32)

    def respond(self, items: IntArray, stream: Keys, steps: IntArray) -> Outcome:
        alone = items.ndim == 1
        item = items if alone else items[:, 0]  # a customer always takes the first document of a slate
        clickbait = self.clickbait.take(item - _ONE)
        noise, innovation = self._noise(stream)
        mean, deviation = self.log_engagement(self.exposure, clickbait)
        engagement = np.exp(mean + deviation * noise)
        self.exposure = self.next_exposure(self.exposure, clickbait) + innovation
        shown = [Group(SHOWN, None, item, 0)] if alone else []
        groups = [*shown, Group(WATCH, None, item, 0, engagement)]
        gone = steps + _ONE >= self._budget
        return Outcome(engagement[:, None], self._first, groups, self._dwell, self._no_pause, gone)

    def log_engagement(self, exposure: FloatArray, clickbait: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation of the logarithm of engagement; the shapes of `exposure` and `clickbait` broadcast."""
        p = self._p
        satisfaction = np.reciprocal(np.exp(self._minus_sensitivity * exposure) + _CERTAIN)
        mean = (p.kale_mean + self._more_choc * clickbait) * satisfaction
        return mean, p.kale_stddev + self._more_spread * clickbait

    def next_exposure(self, exposure: FloatArray, clickbait: FloatArray) -> FloatArray:
        """Net positive exposure after a document, without the noise; shapes broadcast."""
        after: FloatArray = self._p.memory_discount * exposure - self._push * (clickbait - self._p.neutral)
        return after


def _noise(normal: FloatArray, innovation: float) -> tuple[FloatArray, FloatArray]:
    """Of engagement, in standard deviations, and of the exposure, of two standard normal numbers [2, B]."""
    return normal[0], innovation * normal[1]
