"""The store: each event once, order, refusals, a full disk."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from qurate.errors import Code, MachineError, UserError
from qurate.serving.stores import sqlite as sqlite_module
from qurate.serving.stores import sqlite_file
from qurate.serving.stores.base import Commit, DecisionRow, EventRow, Write
from qurate.serving.stores.sqlite import SqliteStore
from qurate.serving.stores.sqlite_file import connect
from qurate.serving.windows import place_of_decision, place_of_event


def event(
    event_id: str, user: str = "u", time: int = 1_000, decision: str | None = None, item: str = "i1", kind: str = "click"
) -> EventRow:
    return EventRow(event_id, user, item, kind, time, 5_000, None, None, decision, None)


def decision(decision_id: str, time: int, as_of: int = 0, shown: str = '["i1"]') -> DecisionRow:
    return DecisionRow(decision_id, "u", None, time, as_of, shown, "[1.0]", None, "p", "m", None, None, None)


class Opened:
    """A store whose commits can be waited for."""

    def __init__(self, directory: Path) -> None:
        self.groups: list[int] = []
        self.store = SqliteStore(directory, self._committed)

    def _committed(self, commit: Commit) -> None:
        self.groups.append(len(commit.writes))
        for write in commit.writes:
            assert isinstance(write.waiter, threading.Event)
            write.waiter.set()

    def submit(self, *events: EventRow, decision: DecisionRow | None = None) -> tuple[Write, threading.Event]:
        done = threading.Event()
        write = Write(events, decision, waiter=done)
        self.store.submit(write)
        return write, done

    def write(self, *events: EventRow, decision: DecisionRow | None = None) -> Write:
        write, done = self.submit(*events, decision=decision)
        assert done.wait(10)
        return write


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    one = Opened(tmp_path)
    yield one
    one.store.close()


def test_an_event_is_stored_once_whoever_sends_it_again(opened: Opened) -> None:
    first = opened.write(event("a"), event("b"), event("a"))
    again = opened.write(event("b"), event("c"))
    assert [row.event_id for _, row in first.stored] == ["a", "b"]
    assert [row.event_id for _, row in again.stored] == ["c"]
    rows = connect(opened.store.path).execute("SELECT event_id FROM events ORDER BY seq").fetchall()
    assert rows == [("a",), ("b",), ("c",)]


def test_a_store_with_too_many_writes_waiting_refuses_the_next(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    held, going = threading.Event(), threading.Event()
    commit = opened.store._commit

    def slow(group: list[Write]) -> None:
        held.set()
        assert going.wait(10)
        commit(group)

    monkeypatch.setattr(opened.store, "_commit", slow)
    monkeypatch.setattr(sqlite_module, "QUEUE_LIMIT", 2)
    done = [opened.submit(event("a"))[1]]
    assert held.wait(10)
    done += [opened.submit(event(name))[1] for name in ("b", "c")]
    with pytest.raises(MachineError, match="fewer than 2 writes waiting") as refused:
        opened.submit(event("d"))
    assert refused.value.code is Code.OVERLOADED
    going.set()
    assert all(one.wait(10) for one in done)
    opened.write(event("d"))
    rows = connect(opened.store.path).execute("SELECT event_id FROM events ORDER BY seq").fetchall()
    assert rows == [("a",), ("b",), ("c",), ("d",)]


def test_sequence_numbers_run_over_both_tables_and_over_restarts(tmp_path: Path) -> None:
    one = Opened(tmp_path)
    seqs = [one.write(event("a")).stored[0][0], one.write(decision=decision("d", 5)).decision_seq]
    one.store.close()
    two = Opened(tmp_path)
    seqs += [two.write(event("b")).stored[0][0]]
    two.store.close()
    assert seqs == [1, 2, 3]


def test_what_waits_shares_a_commit(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, reached = threading.Event(), threading.Event()
    commit = opened.store._commit

    def held(group: list[Write]) -> None:
        reached.set()
        gate.wait(10)
        commit(group)

    monkeypatch.setattr(opened.store, "_commit", held)
    writes = [opened.submit(event("e0"))]
    reached.wait(10)
    writes += [opened.submit(event(f"e{i}")) for i in range(1, 20)]
    gate.set()
    assert all(done.wait(10) for _, done in writes)
    assert opened.groups == [1, 19]
    assert [write.stored[0][0] for write, _ in writes] == list(range(1, 21))


def test_an_answer_is_never_older_than_its_question(opened: Opened) -> None:
    opened.write(decision=decision("d", 2_000))
    slow_clock = opened.write(event("a", time=500, decision="d")).stored[0][1]
    good_clock = opened.write(event("b", time=3_000, decision="d")).stored[0][1]
    unknown = opened.write(event("c", time=500, decision="elsewhere")).stored[0][1]
    assert (slow_clock.timestamp_us, good_clock.timestamp_us, unknown.timestamp_us) == (2_001, 3_000, 500)
    assert connect(opened.store.path).execute("SELECT sent_us FROM events ORDER BY seq").fetchall() == [(500,), (None,), (None,)]


def test_a_history_is_ordered_by_arrival_and_cut_to_the_window(opened: Opened) -> None:
    opened.write(event("a", time=30), event("b", time=10), event("c", time=30, item="i2"), event("x", user="other"))
    opened.write(event("z", time=40, kind="unknown"), decision=decision("d1", 20, as_of=2))
    opened.write(decision=decision("d2", 25, shown='["i1", "i2"]'))
    rows, first, last = opened.store.history("u", 10, ["click"], True)
    expected = [(30, "click", "i1"), (10, "click", "i1"), (20, "shown", "i1"), (30, "click", "i2")]  # it knew two events
    assert [(row.timestamp_us, row.type, row.item_id) for row in rows] == expected
    assert [row.place[0] for row in rows] == [place_of_event(1), place_of_event(2), place_of_decision(2), place_of_event(3)]
    assert (first, last) == (10, 7)
    rows, first, _ = opened.store.history("u", 2, ["click"], False)
    assert [row.item_id for row in rows] == ["i1", "i2"] and first is None  # not needed
    assert opened.store.history("nobody", 10, ["click"], True)[:2] == ([], None)


def test_a_row_that_cannot_be_stored_fails_alone(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    broken, fine = Write([event("bad")._replace(timestamp_us=2**70)]), Write([event("good")])
    opened.store._write([broken, fine])
    assert broken.error is not None and fine.error is None and len(fine.stored) == 1
    assert opened.store.fault is None  # not the disk's fault
    assert opened.write(event("next")).error is None


def test_a_directory_in_use_is_refused_with_path_and_process(opened: Opened, tmp_path: Path) -> None:
    import os

    with pytest.raises(MachineError, match=f"in use by process {os.getpid()}, at {tmp_path}"):
        Opened(tmp_path)


@pytest.mark.parametrize("name", ["items.parquet", "model-rewards.json", "lock", "dataset.json", "manifest.json"])
def test_a_directory_with_files_of_others_is_refused_untouched(name: str, tmp_path: Path) -> None:
    """`--data` of a dataset or a model by mistake: the service would write over items.parquet, or into a folder that is replaced whole."""
    (tmp_path / name).write_text("mine")
    with pytest.raises(
        UserError, match=f"a new directory, or one of qurate serve, got one that holds {name} and no events.sqlite"
    ) as error:
        SqliteStore(tmp_path, lambda commit: None)
    assert error.value.code == "would_overwrite"
    assert [one.name for one in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == "mine"


def test_a_directory_with_other_files_or_of_a_service_that_ended_early_is_taken(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("an old log")
    (tmp_path / "lock").write_text("4711")
    SqliteStore(tmp_path, lambda commit: None).close()
    (tmp_path / "items.parquet").write_text("of the service")
    SqliteStore(tmp_path, lambda commit: None).close()
    assert (tmp_path / "events.csv").read_text() == "an old log"


def test_what_is_not_a_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "events.sqlite").write_bytes(b"not a database, but long enough to be taken for one" * 50)
    with pytest.raises(UserError, match=r"events\.sqlite written by qurate"):
        Opened(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="expected a directory, got a file"):
        Opened(tmp_path / "file")


FOREIGN = {
    "tables of its own": "CREATE TABLE cookies(host TEXT); PRAGMA user_version = 1",
    "tables of our names": "CREATE TABLE events(id INTEGER, payload TEXT); CREATE TABLE decisions(id INTEGER)",
    "a log of its own": "PRAGMA journal_mode = WAL; CREATE TABLE places(url TEXT)",
}


@pytest.mark.parametrize("how", FOREIGN)
def test_a_database_of_another_program_is_refused_untouched(how: str, tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    connection = apsw.Connection(str(path))
    connection.execute(FOREIGN[how]).fetchall()
    connection.close()
    before = path.read_bytes(), path.stat().st_mtime_ns
    with pytest.raises(UserError, match=r"an events\.sqlite written by qurate serve, got a database of another program \(tables "):
        Opened(tmp_path)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert [one.name for one in tmp_path.iterdir()] == ["events.sqlite"], "nothing of ours is left beside it"


def test_a_store_that_was_killed_before_its_first_checkpoint_is_ours(tmp_path: Path) -> None:
    """All that is in the database file itself is then its header; the tables stand in the log beside it."""
    one = Opened(tmp_path)
    one.write(event("a"))
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("events.sqlite", "events.sqlite-wal"):
        (copy / name).write_bytes((tmp_path / name).read_bytes())
    one.store.close()
    two = Opened(copy)
    assert two.write(event("a"), event("b")).stored[0][1].event_id == "b"
    two.store.close()


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    Opened(tmp_path).store.close()
    connect(tmp_path / "events.sqlite").execute("PRAGMA user_version = 99").fetchall()
    with pytest.raises(UserError, match="99"):
        Opened(tmp_path)


class Disk:
    """Whether writing finds room; see `full_disk`."""

    full = False


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """A file system below SQLite that says "no space left" when told to."""
    disk = Disk()

    class File(apsw.VFSFile):
        def __init__(self, name: object, flags: list[int]) -> None:
            super().__init__("", name, flags)

        def xWrite(self, data: bytes, offset: int) -> None:
            if disk.full:
                raise apsw.FullError("no space left on device")
            super().xWrite(data, offset)

    class System(apsw.VFS):
        def __init__(self) -> None:
            super().__init__("full-disk", "")

        def xOpen(self, name: object, flags: list[int]) -> File:
            return File(name, flags)

    system = System()

    def connect_there(path: Path) -> apsw.Connection:
        return apsw.Connection(str(path), vfs="full-disk")

    monkeypatch.setattr(sqlite_file, "connect", connect_there)
    monkeypatch.setattr(sqlite_module, "PROBE_SECONDS", 0.05)
    yield disk
    system.unregister()


def wait_for(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(200):
        if condition():
            return
        pause.wait(0.05)
    raise AssertionError("did not happen in 10 s")


def test_a_full_disk_loses_nothing_acknowledged_and_recovers_alone(disk: Disk, tmp_path: Path) -> None:
    one = Opened(tmp_path)
    try:
        assert one.write(event("before")).error is None
        disk.full = True
        failed = one.write(event("during"), decision=decision("d", 5))
        assert failed.error is not None and failed.error.code == "storage_full" and failed.stored == []
        assert one.store.fault is failed.error
        disk.full = False
        wait_for(lambda: one.store.fault is None)  # no write is needed for that
        assert one.write(event("during"), event("after")).error is None
    finally:
        one.store.close()
    rows = apsw.Connection(str(tmp_path / "events.sqlite")).execute("SELECT event_id FROM events ORDER BY seq").fetchall()
    assert rows == [("before",), ("during",), ("after",)]


def test_a_store_damaged_inside_is_named(tmp_path: Path) -> None:
    one = Opened(tmp_path)
    one.write(*[event(f"e{n}") for n in range(500)])
    one.store.close()
    file = tmp_path / "events.sqlite"
    whole = file.read_bytes()
    file.write_bytes(whole[:4096] + b"\x7f" * (len(whole) - 4096))
    with pytest.raises(MachineError, match=r"an intact store, got .*malformed.*events.sqlite"):
        Opened(tmp_path)
    file.write_bytes(whole)
    two = Opened(tmp_path)  # the lock was released
    with file.open("r+b") as pages:
        pages.seek(4096)
        pages.write(b"\x7f" * (len(whole) - 4096))
    two.store._reader.execute("PRAGMA cache_size = 0; PRAGMA shrink_memory").fetchall()
    with pytest.raises(MachineError) as caught:
        two.store.history("u", 5, None, True)
    assert caught.value.code == "not_ready"
    two.store.close()
