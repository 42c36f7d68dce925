"""Shared fixtures: real logs, found by QURATE_DATA, and the line that says how many tests ran on them."""

import os
import signal
from collections.abc import Callable, Generator, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path

import hypothesis
import pytest

# a busy machine is no fault of the code; what must be fast has a benchmark
hypothesis.settings.register_profile("qurate", deadline=None)
hypothesis.settings.load_profile("qurate")

# Before torch and numpy load: small-tensor work with two threads and a busy neighbour is many times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parent.parent
DATA = (ROOT / os.environ.get("QURATE_DATA", "../shared/data")).resolve()
MARK = "real_log"


@pytest.fixture(scope="session", autouse=True)
def ctrl_c() -> Iterator[None]:
    """Ctrl-C as Python has it, and the end of a terminal, however the tests were started: a shell's background job inherits that the
    first is ignored, and what `nohup` started the second."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler), signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in zip((signal.SIGINT, signal.SIGHUP), before):
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def real_log() -> Callable[[str], Path]:
    """`real_log("trivago_100k/sessions.parquet")`: the path of a real log; skips with a reason where there is none."""

    def find(name: str) -> Path:
        if not (DATA / name).exists():
            pytest.skip(f"real log {name} is not in {DATA} (set QURATE_DATA)")
        return DATA / name

    return find


@pytest.fixture
def few_customers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Policies that commands compare or evaluate in a world meet 50 customers of each seed instead of 2,000."""
    for name in ("compare", "evaluate"):
        module = import_module(f"qurate.experiments.{name}")
        monkeypatch.setattr(module, name, partial(getattr(module, name), customers=50))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, None, None]:
    """Marks the reports of tests on real logs; where the logs exist, a skip of such a test is a failure."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if MARK not in getattr(item, "fixturenames", ()) or hasattr(report, "wasxfail"):
        return
    if report.when == "call" or report.skipped:
        report.user_properties.append((MARK, "skipped" if report.skipped else "run"))
    if report.skipped and DATA.exists():
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: skipped although QURATE_DATA exists: {report.longrepr[-1]}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints `real logs: N run, M skipped` (the reports of all workers arrive here)."""
    seen: dict[str, str] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            seen.update((report.nodeid, value) for name, value in getattr(report, "user_properties", ()) if name == MARK)
    skipped = sum(value == "skipped" for value in seen.values())
    terminalreporter.write_line(f"real logs: {len(seen) - skipped} run, {skipped} skipped")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seeds", type=int, default=1, help="trainings of tests marked `seeds`, seeds 0 to N - 1")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.definition.get_closest_marker("seeds") is not None:
        metafunc.parametrize("seed", range(metafunc.config.getoption("--seeds")))
