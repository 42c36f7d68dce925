"""Interest evolution: viewers of a video site whose interests follow what they watch, and whose time is spent well or badly.

The world of SlateQ (Ie et al. 2019, arXiv:1905.12767, section 5) with the constants of RecSim 0.2.4 (Ie et al. 2019,
arXiv:1909.04847, `interest_evolution` with the utility model), so that figures compare. docs/scenarios/interest_evolution.md gives
equations and sources. An item is a topic: a document shows its topic and nothing else, its quality stays hidden, and the documents
of every decision are new ones, of which several may have the same topic.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from qurate.environments.catalogue_features import catalogue_features
from qurate.environments.choice_form import ChoiceForm
from qurate.environments.customers import as_arrays
from qurate.environments.engine import Outcome
from qurate.environments.history_rows import Group
from qurate.environments.rng import Keys, StepDraws, normals, purposes, uniforms
from qurate.errors import Code, UserError
from qurate.types import Availability, FloatArray, IntArray

SHOWN, WATCH = 1, 2
N_TOPICS, N_TRASHY = 20, 14
MINUTE = 60_000_000
_CERTAIN, _HALF, _TWO, _MINUTE_US = (np.array(x, np.float32) for x in (1, 0.5, 2, MINUTE))  # without a dimension, see rng.py


@dataclass(frozen=True, slots=True)
class InterestParameters:
    """All constants of the scenario, those of RecSim 0.2.4."""

    budget: float = 200.0  # minutes that a viewer has at first
    length: float = 4.0  # minutes of every document
    lowest_quality: float = -3.0  # mean quality of topic 1; it rises evenly to 0 over the 14 trashy topics
    highest_quality: float = 3.0  # of topic 20; it rises evenly from 0 over the 6 nutritious topics
    quality_spread: float = 0.1  # standard deviation of quality within a topic
    quality_minutes: float = 0.9 / 3.4  # budget given back per minute watched and unit of quality
    no_click_minutes: float = 0.5  # budget spent on a slate of which nothing is watched
    no_click_mass: float = 1.0  # score of watching nothing
    least_score: float = -1.0  # subtracted from all scores, so that they are at least 0
    evolution: float = 0.3  # largest step of an interest, towards 1 or away from it; it falls to 0 at interests of -1 and 1


def topic_quality(p: InterestParameters) -> FloatArray:
    """Mean quality of each topic, float32 [20]."""
    low, high = np.linspace(p.lowest_quality, 0, N_TRASHY), np.linspace(0, p.highest_quality, N_TOPICS - N_TRASHY)
    return np.concatenate([low, high]).astype(np.float32)


class InterestEvolution:
    """`World` of the engine. State per lane: interests [B, 20] in [-1, 1], which the recommender sees, and the budget, which it does not.

    Args:
        strength: of everything that what is watched changes later, 0 to 1: the effect of quality on the budget, and the evolution of
            interests. Above 1 good documents would give back more time than they take, and some visits would never end.
        parameters: see InterestParameters.
    """

    has_values = True
    with_replacement = True
    rows_per_step = 2  # shown (single documents only), watch
    state_names: tuple[str, ...] = ("interest", "budget")

    def __init__(self, strength: float = 1.0, parameters: InterestParameters | None = None) -> None:
        if not 0 <= strength <= 1:
            raise UserError("strength from 0 to 1", str(strength), where="interest_evolution", code=Code.BAD_ARGUMENT)
        p = self.p = parameters or InterestParameters()
        self.strength = strength
        self.item_ids = [f"topic_{i:02d}" for i in range(1, N_TOPICS + 1)]
        self.type_names = ["shown", "watch"]
        self.component_names = ["watch"]
        self.component_weights = np.ones(1, np.float32)
        self.availability = Availability.always(N_TOPICS)
        self.item_features, self.feature_names = catalogue_features(self._columns())
        self.user_feature_names = [f"interest_{i:02d}" for i in range(1, N_TOPICS + 1)]
        self.quality = topic_quality(p)
        self._evolution = np.array(p.evolution * strength, np.float32)
        self._gain = np.array(p.quality_minutes * strength, np.float32)
        self._nothing = np.array(p.no_click_mass - p.least_score, np.float32)
        self._p = as_arrays(p)
        self._quality_of = np.concatenate([[0], self.quality]).astype(np.float32)  # of items 0..N
        luck, noise = purposes(0, 2), purposes(2, 1)
        spread = self._p.quality_spread
        self._luck = StepDraws(lambda keys: (uniforms(keys, luck), spread * normals(keys, noise)[0]))
        self._first_draws = purposes(1 << 32, N_TOPICS)

    def items_table(self) -> pl.DataFrame:
        """item_id, and one column for each topic: 1 for its own documents."""
        return pl.DataFrame({"item_id": self.item_ids} | self._columns())

    def _columns(self) -> dict[str, NDArray[np.float64]]:
        return dict(zip(self.item_ids, np.eye(N_TOPICS)))

    def choice_form(self) -> ChoiceForm:
        """See `TellsChoice`: interests are seen, so the masses are known."""
        return ChoiceForm(np.eye(N_TOPICS + 1, N_TOPICS, -1, np.float32), -self.p.least_score, float(self._nothing))

    def allocate(self, n: int) -> None:
        self.n = n
        self.interest = np.zeros((n, N_TOPICS), np.float32)
        self.budget = np.zeros(n, np.float32)
        self._before = np.arange(n, dtype=np.int64) * N_TOPICS - 1  # flat position of (lane, item 0)
        self._lane = np.arange(n, dtype=np.int64)
        self._no_pause = np.zeros(n, np.float32)
        self._no_pause.flags.writeable = False

    def enter(self, lanes: IntArray, keys: Keys) -> FloatArray:
        self.interest[lanes] = interest = uniforms(keys, self._first_draws).T * np.float32(2) - np.float32(1)
        self.budget[lanes] = self.p.budget
        return interest

    def respond(self, items: IntArray, stream: Keys, steps: IntArray) -> Outcome:
        p, alone = self._p, items.ndim == 1
        slate = items[None] if alone else items.T  # [k, B]
        (luck, flip), noise = self._luck(stream)
        upper = self.interest.take(slate + self._before)
        upper -= p.least_score
        np.add.accumulate(upper, 0, out=upper)  # proportional choice: watching nothing comes last
        goal = luck * (upper[-1] + self._nothing)
        position = np.add.reduce(goal >= upper, 0)
        last = np.array(len(slate) - 1)
        watched = position <= last
        idle = ~watched
        item = items if alone else items.take(np.minimum(position, last) + self._lane * len(slate))
        position[idle] = -1
        minutes = np.minimum(self.budget, p.length) * watched
        idle = p.no_click_minutes * idle
        quality = self._quality_of.take(item) + noise
        self.budget -= minutes * (_CERTAIN - self._gain * quality) + idle
        self._evolve(item + self._before, flip, watched)
        viewers = watched.nonzero()[0]
        groups = [Group(SHOWN, None, items, 0)] if alone else []
        if viewers.size:
            groups.append(Group(WATCH, viewers, item[viewers], 0, minutes[viewers]))
        dwell = ((minutes + idle) * _MINUTE_US).astype(np.int64)
        return Outcome(minutes[:, None], position, groups, dwell, self._no_pause, self.budget <= 0, self.interest.copy())

    def _evolve(self, at: IntArray, flip: FloatArray, watched: NDArray[np.bool_]) -> None:
        """The interest x in the watched topic takes a step of 0.3 (1 - |x|)(1 - x): up with probability (1 + x) / 2, else down."""
        flat = self.interest.reshape(-1)
        x = flat.take(at)
        step = self._evolution * (_CERTAIN - np.abs(x)) * (_CERTAIN - x) * watched
        down = flip >= (_CERTAIN + x) * _HALF
        step *= _CERTAIN - _TWO * down
        flat[at] = np.minimum(np.maximum(x + step, -_CERTAIN), _CERTAIN)
