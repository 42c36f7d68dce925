"""The service's store keeps its promises; stores that break one are told which."""

from pathlib import Path
from typing import Any

import pytest

from qurate.serving.metrics import Metrics
from qurate.serving.store import Store, connect
from qurate.testing import OpenStore, check_store


def opener(directory: Path) -> OpenStore:
    return lambda finished: Store(directory, finished, Metrics())


def test_the_embedded_store(tmp_path: Path) -> None:
    check_store(opener(tmp_path))


class Broken:
    """A store with one fault."""

    def __init__(self, how: str, store: Store) -> None:
        self.how, self.store = how, store

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def submit(self, write: Any) -> None:
        if self.how == "counts twice":
            write.events = [row._replace(event_id=f"{row.event_id}{id(write)}") for row in write.events]
        if self.how == "believes clocks":
            write.events = [row._replace(decision_id=None) for row in write.events]
        if self.how == "loses" and write.events:
            write.events = write.events[:-1]
        self.store.submit(write)

    def history(self, user_id: str, window: int, types: Any, shown: bool) -> Any:
        if self.how == "no window":
            window = 100
        if self.how == "all types":
            types = ["click", "purchase", "unheard of"]
        if self.how == "no shown":
            shown = False
        rows, first, last = self.store.history("u" if self.how == "mixes" else user_id, window, types, shown)
        if self.how == "by time":
            rows = sorted(rows, key=lambda row: row.timestamp_us)
        return rows, first, last

    def close(self) -> None:
        path = self.store.path
        self.store.close()
        if self.how == "forgets":
            connection = connect(path)
            connection.execute("DELETE FROM events WHERE event_id = 'e'")
            connection.close()


@pytest.mark.parametrize(
    ("how", "rule"),
    [
        ("counts twice", "event ids count once"),
        ("believes clocks", "answers follow questions"),
        ("loses", "event ids count once|acknowledged"),
        ("no window", "window"),
        ("all types", "types"),
        ("no shown", "shown rows"),
        ("mixes", "other customers"),
        ("by time", "arrival order"),
        ("forgets", "durable"),
    ],
)
def test_broken_stores_are_told_which_rule(how: str, rule: str, tmp_path: Path) -> None:
    make = opener(tmp_path)
    with pytest.raises(AssertionError, match=f"^({rule})"):
        check_store(lambda finished: Broken(how, make(finished)))  # type: ignore[arg-type]
