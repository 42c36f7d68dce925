"""The warning of a model that gives every item the same score."""

from typing import Any

import numpy as np
import pytest

from qurate.training import told_apart
from qurate.training.told_apart import say_equal_scores
from qurate.types import Actions, Observation


class Scores:
    """A ranker with these scores."""

    def __init__(self, scores: list[float]) -> None:
        self.given = np.array([scores], np.float32)

    def scores(self, observation: Any) -> Any:
        return self.given


@pytest.mark.parametrize(
    ("scores", "open_", "said"),
    [
        ([1, 1, 1], [1, 1, 1], True),
        ([1, 2, 1], [1, 1, 1], False),
        ([1, 9, 1], [1, 0, 1], True),  # what is closed does not count
        ([1, -9, 1], [1, 0, 1], True),
        ([1, 1, 1], [0, 1, 0], False),  # one item has nobody to differ from
    ],
)
def test_only_scores_of_several_items_that_could_be_shown_count(
    scores: list[float], open_: list[int], said: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    observed = Observation(None, Actions(np.array([[1, 2, 3]]), np.array([open_], np.int8)))
    monkeypatch.setattr(told_apart, "observations", lambda *_: iter([(np.arange(1), observed)]))
    say_equal_scores(Scores(scores), None, np.arange(1), 3)  # type: ignore[arg-type]
    assert ("the same score" in caplog.text) == said
