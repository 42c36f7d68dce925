"""Jobs run side by side, answer in order, report what they do, and end together when one fails."""

import multiprocessing
import time
from pathlib import Path

import pytest

from forked import CONTEXT
from qurate.experiments.jobs import Job, report_progress, run_jobs


def double(number: int) -> int:
    report_progress(f"doubled {number}")
    return 2 * number


def wait_or_fail(fails: bool) -> None:
    if fails:
        raise ValueError("no such shop")
    time.sleep(60)


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker finds this module's functions by its name, and starts with torch imported."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setattr("multiprocessing.get_context", lambda method: {"spawn": CONTEXT}[method])


def test_answers_come_in_the_order_of_the_jobs() -> None:
    from test_jobs import double as found

    said: list[tuple[str, float, float]] = []
    jobs = [Job(found, (number,), stages=1) for number in (3, 1, 2)]
    assert run_jobs(jobs, lambda what, done, total: said.append((what, done, total))) == [6, 2, 4]
    assert said and {total for _, _, total in said} == {3}
    assert [done for _, done, _ in said] == sorted(done for _, done, _ in said)


def test_a_job_that_fails_ends_all() -> None:
    from test_jobs import wait_or_fail as found

    began, others = time.monotonic(), set(multiprocessing.active_children())
    with pytest.raises(ValueError, match="no such shop"):
        run_jobs([Job(found, (False,), stages=1), Job(found, (True,), stages=1)], lambda *_: None)
    assert time.monotonic() - began < 50 and set(multiprocessing.active_children()) <= others
