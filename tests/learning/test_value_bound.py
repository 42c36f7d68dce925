"""The alarm's bound follows the rewards, whatever their size."""

import math
from typing import Any

import gymnasium
import numpy as np
import pytest

import toy_tasks
from qurate.algorithms.table import algorithm_settings
from qurate.learning.value_bound import ValueBound, largest_bonus
from qurate.training.train import train


def test_it_is_the_geometric_series_of_the_largest_reward() -> None:
    bound = ValueBound(0.9)
    assert bound.value() == math.inf, "without a reward nothing is known"
    bound.see(np.array([0.5, -3.0]))
    bound.see(np.array([1.0, 2.0]))
    assert bound.value() == pytest.approx(30)
    assert ValueBound(1.0, reward=3).value() == math.inf
    assert ValueBound(0.9, bonus=2, reward=3).value() == pytest.approx(50)


@pytest.mark.parametrize(
    ("given", "n", "bonus"), [({}, 10, 0.9), ({"munchausen_clip": -0.01}, 10, 0.03 * math.log(10)), ({"munchausen_alpha": 0.0}, 1, 0.0)]
)
def test_munchausen_adds_the_entropy_or_the_log_policy(given: dict[str, Any], n: int, bonus: float) -> None:
    assert largest_bonus(algorithm_settings("munchausen", given), n) == pytest.approx(bonus)
    assert largest_bonus(algorithm_settings("dqn", {}), n) == 0


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e12])
def test_values_as_large_as_the_rewards_allow_raise_no_alarm_and_diverging_ones_do(size: float) -> None:
    """A table learns rewards of any size alike; with steps of more than twice the error it diverges."""

    def scaled() -> gymnasium.Env[int, int]:
        return gymnasium.wrappers.TransformReward(toy_tasks.chain(), lambda reward: size * float(reward))

    for lr, alarms in ((0.2, False), (3.0, True)):
        model = train(env=scaled, algorithm="q_learning", steps=320, lr=lr, warm_up=64, keep_diverged=True)
        assert (model.metrics["alarms"] > 0) == alarms, (size, lr)
