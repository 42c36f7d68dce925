"""The step size over a run: by hand, and in the optimiser."""

import math

import pytest

from qurate.learning.schedule import LAST_RATE, cosine_rate


def test_it_warms_up_falls_by_half_a_cosine_and_stays_low() -> None:
    assert [cosine_rate(n, 100) for n in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert cosine_rate(5, 100) == 1.0
    assert cosine_rate(5 + 19, 100) == pytest.approx(LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * 19 / 95)))
    assert cosine_rate(100, 100) == cosine_rate(10**6, 100) == LAST_RATE
    assert cosine_rate(100, 100_000) == pytest.approx(101 / 200), "no more than 200 updates of warm-up"
    assert cosine_rate(0, 1) == 1.0
