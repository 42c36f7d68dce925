"""What a run says while it lasts."""

from collections.abc import Iterator

import pytest

from qurate.learning.learner import Update
from qurate.learning.loops import Progress
from qurate.training import run as running
from qurate.training.run import Run, consume

UPDATE = Update(0.5, None, {"q": 1.0, "stepped": 1.0, "alarm": 0.0})  # type: ignore[arg-type]


def steps(n: int) -> Iterator[Progress]:
    return (Progress(i + 1, UPDATE, 2.0, (UPDATE,)) for i in range(n))


def test_a_point_of_the_curve_is_said_and_between_two_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[int, int, dict[str, float]]] = []
    consume(steps(200), Run(), 200, None, lambda *one: said.append(one))
    assert [done for done, _, _ in said] == list(range(2, 201, 2)) and all(figures["step"] == done for done, _, figures in said)
    said.clear()
    monkeypatch.setattr(running, "REPORT_SECONDS", -1.0)  # more than that has always passed
    consume(steps(200), Run(), 200, None, lambda *one: said.append(one))
    assert [done for done, _, _ in said] == list(range(1, 201)) and said[0] == (1, 200, {})
    assert [figures["step"] for _, _, figures in said[1:5]] == [2, 2, 4, 4]
