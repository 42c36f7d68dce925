"""Plugins of pytest for mutants.py: what each test costs alone, and the tests in the order of these costs.

A fault is most often noticed by a test of milliseconds. Where such tests run first, the long ones of the same file start only
for the faults that nothing else notices.
"""

import json
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import pytest


class Recorder:
    """Writes {node id: seconds} to a file at the end: of the test's call, and of setting up all fixtures that it uses."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.fixtures: dict[str, float] = {}  # of those with the same name, what the longest took
        self.tests: dict[str, tuple[float, list[str]]] = {}  # seconds of the call, names of fixtures

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Generator[None, Any, Any]:
        since = time.perf_counter()
        try:
            return (yield)
        finally:
            seconds = time.perf_counter() - since
            self.fixtures[fixturedef.argname] = max(seconds, self.fixtures.get(fixturedef.argname, 0.0))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: Any) -> Generator[None, Any, Any]:
        since = time.perf_counter()
        try:
            return (yield)
        finally:
            self.tests[item.nodeid] = (time.perf_counter() - since, list(item.fixturenames))

    def pytest_sessionfinish(self) -> None:
        costs = {node: call + sum(self.fixtures.get(name, 0.0) for name in names) for node, (call, names) in self.tests.items()}
        self.out.write_text(json.dumps(costs), "utf-8")


class Order:
    """Runs tests by their costs, the cheapest first; those of unknown cost last, in the order of the files."""

    def __init__(self, costs: Mapping[str, float]) -> None:
        self.costs = costs

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: self.costs.get(item.nodeid, float("inf")))
