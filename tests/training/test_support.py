"""The support of a distribution is checked at first, when the run begins, and again as returns grow."""

import itertools
import logging
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from qurate.algorithms.table import algorithm_settings
from qurate.errors import UserError
from qurate.learning.learner import Update
from qurate.learning.loops import Progress
from qurate.training.support import Steps, with_checked_support

SETTINGS = algorithm_settings("c51", {"v_min": 0.0, "v_max": 10.0})


def loop(lanes: int = 8) -> Iterator[Progress]:
    for step in itertools.count(1):
        yield Progress(step * lanes, Update(0.0, torch.zeros(1), {}) if step > 4 else None, 0.0)


class Growing:
    """Returns of 0 and of so much more at every look."""

    def __init__(self, first: float, growth: float) -> None:
        self.high, self.growth, self.looks = first, growth, 0

    def __call__(self) -> Steps:
        self.looks += 1
        self.high += self.growth
        return np.array([0.0, self.high]), np.zeros(2), np.full(2, -1)


def test_returns_that_grow_beyond_it_are_said_once_with_their_range(caplog: pytest.LogCaptureFixture) -> None:
    returns = Growing(1.0, 3.0)
    with caplog.at_level(logging.WARNING):
        seen = list(itertools.islice(with_checked_support(loop(), returns, SETTINGS), 500))
    assert [p.steps for p in seen] == [8 * (i + 1) for i in range(500)], "nothing is lost"
    assert len(caplog.records) == 1
    assert "returns of 0 to 13 were seen" in caplog.text and "beyond the support of 0 to 10" in caplog.text
    assert returns.looks == 4, "nothing is looked for after the warning"


def test_checks_are_few(caplog: pytest.LogCaptureFixture) -> None:
    returns = Growing(1.0, 0.0)
    list(itertools.islice(with_checked_support(loop(), returns, SETTINGS), 5_000))
    assert 20 < returns.looks < 60 and not caplog.records


def test_at_first_it_is_an_error_unless_the_run_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UserError, match=r"the returns seen, 0 to 20, got 0 to 10"):
        list(itertools.islice(with_checked_support(loop(), Growing(20.0, 0.0), SETTINGS), 10))
    list(itertools.islice(with_checked_support(loop(), Growing(20.0, 0.0), SETTINGS, resumed=True), 10))
    assert "returns of 0 to 20" in caplog.text
    list(itertools.islice(with_checked_support(loop(), Growing(20.0, 0.0), algorithm_settings("dqn", {})), 10))
