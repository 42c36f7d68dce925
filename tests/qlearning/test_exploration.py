"""How much each simulated customer explores."""

import pytest

from qurate.qlearning.loops import epsilon_at, lane_epsilons


def test_epsilon_falls_linearly_and_stays() -> None:
    assert [epsilon_at(step, 1.0, 0.2, 100) for step in (0, 50, 100, 500)] == pytest.approx([1.0, 0.6, 0.2, 0.2])


def test_customers_explore_alike_or_from_epsilon_to_one_in_equal_ratios() -> None:
    assert lane_epsilons(0.01, 3, spread=False) == pytest.approx([0.01, 0.01, 0.01])
    assert lane_epsilons(0.01, 3, spread=True) == pytest.approx([0.01, 0.1, 1.0])
