"""The service's store keeps its promises; stores that break one are told which."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from qurate.errors import Code, MachineError
from qurate.serving.stores.base import History
from qurate.serving.stores.sqlite import SqliteStore
from qurate.serving.stores.sqlite_file import connect
from qurate.testing import OpenStore, check_store


def opener(directory: Path) -> OpenStore:
    return partial(SqliteStore, directory)


def test_the_embedded_store(tmp_path: Path) -> None:
    check_store(opener(tmp_path))


class Broken:
    """A store with one fault."""

    def __init__(self, how: str, store: SqliteStore) -> None:
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
        rows, first, as_of = self.store.history("u" if self.how == "mixes" else user_id, window, types, shown)
        if self.how == "by time":
            rows = sorted(rows, key=lambda row: row.timestamp_us)
        if self.how == "first of the window":
            first = rows[-1].timestamp_us if rows else None
        return History(rows, first, as_of - (self.how == "old snapshots"))

    def items_of(self, user_id: str, types: Any, shown: bool, limit: int) -> Any:
        if self.how == "items of all types":
            types = None
        if self.how == "items without what was shown":
            shown = False
        if self.how == "items of others":
            user_id = "u"
        rows = self.store.items_of(user_id, types, shown, 100 if self.how == "all items" else limit)
        if self.how == "first times":
            rows = [row._replace(timestamp_us=10) for row in rows]
        return rows

    @property
    def as_of(self) -> int:
        return 1 if self.how == "never moves" else self.store.as_of

    @property
    def fault(self) -> Any:
        return MachineError("a disk", "none", code=Code.NOT_READY) if self.how == "always at fault" else self.store.fault

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
        ("items of all types", "items"),
        ("items without what was shown", "items"),
        ("items of others", "items"),
        ("all items", "items"),
        ("first times", "items"),
        ("first of the window", "first time"),
        ("never moves", "as_of"),
        ("old snapshots", "as_of"),
        ("always at fault", "fault"),
    ],
)
def test_broken_stores_are_told_which_rule(how: str, rule: str, tmp_path: Path) -> None:
    make = opener(tmp_path)
    with pytest.raises(AssertionError, match=f"^({rule})"):
        check_store(lambda on_commit: Broken(how, make(on_commit)))
