"""How large a value can be, by the rewards seen: what lies beyond is divergence."""

import math
from dataclasses import dataclass

import numpy as np

from qurate.settings import MunchausenSettings, Settings
from qurate.types import FloatArray


@dataclass(slots=True)
class ValueBound:
    """|Q| <= (largest |reward| + bonus) / (1 - discount), the sum of the geometric series; n-step returns are parts of it.

    Attributes:
        discount: the largest of one step, 0..1.
        bonus: what an objective adds to a reward at most, in absolute value.
        reward: the largest |weighted reward| of a decision seen so far.
    """

    discount: float = 1.0
    bonus: float = 0.0
    reward: float = 0.0

    def see(self, rewards: FloatArray) -> None:
        """Takes note of the weighted rewards [B] of decisions."""
        self.reward = max(self.reward, float(np.abs(rewards).max(initial=0.0)))

    def value(self) -> float:
        """Infinite where the discount reaches 1, and while no reward was seen."""
        return (self.reward + self.bonus) / (1 - self.discount) if self.reward > 0 and self.discount < 1 else math.inf


def largest_bonus(settings: Settings, n_actions: int) -> float:
    """What the objective adds to a reward at most: with Munchausen the entropy, at most tau log n, or the clipped log-policy."""
    kind = settings.algorithm
    if not isinstance(kind, MunchausenSettings):
        return 0.0
    return max(kind.munchausen_tau * math.log(max(n_actions, 1)), kind.munchausen_alpha * -kind.munchausen_clip)
