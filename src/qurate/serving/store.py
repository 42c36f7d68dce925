"""The embedded store: events and decisions in one SQLite file, durable before anybody is told.

One writer thread owns the only writing connection (WAL, synchronous=FULL) and puts everything that waits into one
commit, so that many requests share one fsync. Sequence numbers run over both tables in the order of commit; a decision
keeps the number up to which its state had seen the log (`as_of`). An event that names a decision cannot be older than
it: where the client's clock says so, `timestamp_us` is moved to just after the decision and `sent_us` keeps what was sent.

Files: DIR/events.sqlite (+ -wal, -shm), DIR/lock (held while the service runs, with its process id).
"""

import contextlib
import fcntl
import json
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from qurate.errors import Code, MachineError, QurateError, UserError
from qurate.serving.metrics import Metrics

SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE events(
  seq INTEGER PRIMARY KEY, event_id TEXT NOT NULL UNIQUE, user_id TEXT NOT NULL, item_id TEXT, type TEXT NOT NULL,
  timestamp_us INTEGER NOT NULL, received_us INTEGER NOT NULL, value REAL, session_id TEXT, decision_id TEXT, props TEXT,
  sent_us INTEGER);
CREATE INDEX events_of_user ON events(user_id);
CREATE TABLE decisions(
  seq INTEGER PRIMARY KEY, decision_id TEXT NOT NULL UNIQUE, user_id TEXT NOT NULL, session_id TEXT,
  timestamp_us INTEGER NOT NULL, as_of INTEGER NOT NULL, shown TEXT NOT NULL, propensity TEXT NOT NULL, candidates TEXT,
  policy TEXT NOT NULL, model_version TEXT NOT NULL, excluded TEXT, context TEXT, degraded TEXT);
CREATE INDEX decisions_of_user ON decisions(user_id);
CREATE TABLE probe(content BLOB);
"""
EVENT_COLUMNS = "seq, event_id, user_id, item_id, type, timestamp_us, received_us, value, session_id, decision_id, props, sent_us"
DECISION_COLUMNS = (
    "seq, decision_id, user_id, session_id, timestamp_us, as_of, shown, propensity, candidates, policy, model_version,"
    " excluded, context, degraded"
)
ROWS_PER_COMMIT = 2_000
QUEUE_LIMIT = 10_000
PROBE_SECONDS = 1.0


class EventRow(NamedTuple):
    """An event as the store takes it; times in microseconds UTC."""

    event_id: str
    user_id: str
    item_id: str | None
    type: str
    timestamp_us: int
    received_us: int
    value: float | None
    session_id: str | None
    decision_id: str | None
    props: str | None


class DecisionRow(NamedTuple):
    """A decision as the store takes it; lists as JSON text, propensities as exact float64."""

    decision_id: str
    user_id: str
    session_id: str | None
    timestamp_us: int
    as_of: int
    shown: str
    propensity: str
    candidates: str | None
    policy: str
    model_version: str
    excluded: str | None
    context: str | None
    degraded: str | None


class StoredRow(NamedTuple):
    """What a customer's history needs of an event or of a decision that showed one item.

    `place` orders rows by arrival: an event at its sequence number, a decision right after the last one it knew.
    """

    place: tuple[int, int]
    item_id: str | None
    type: str
    timestamp_us: int
    value: float | None


@dataclass(slots=True, eq=False)
class Write:
    """One request's rows on their way to disk. After the commit: `stored` or `error`, then `finished` is told."""

    events: Sequence[EventRow] = ()
    decision: DecisionRow | None = None
    stored: list[tuple[int, EventRow]] = field(default_factory=list)
    decision_seq: int = 0
    error: QurateError | None = None
    waiter: Any = None

    @property
    def rows(self) -> int:
        """How many rows this asks for."""
        return len(self.events) + (self.decision is not None)


def connect(path: Path) -> apsw.Connection:
    """A connection to the store; reading beside the writer is safe."""
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(1_000)
    return connection


class Store:
    """Opens or creates DIR and starts the writer.

    Args:
        directory: where the files live; made if missing.
        finished: called in the writer's thread after each commit (or its failure) with the writes of it, in their order,
            and the newest sequence number that is durable.
        metrics: counters to keep.

    Raises:
        MachineError: not writable, full, or in use by another process (which is named).
        UserError: the directory holds an events.sqlite that is not ours, or of a newer version.
    """

    def __init__(self, directory: Path, finished: Callable[[list[Write], int], None], metrics: Metrics) -> None:
        self.path = directory / "events.sqlite"
        self._finished, self._metrics = finished, metrics
        self._lock_file = _lock(directory)
        try:
            self._connection = _open(self.path)
            self._reader = connect(self.path)
            self.last_seq = max(self._count("events"), self._count("decisions"))
        except BaseException as error:
            self._lock_file.close()
            if isinstance(error, apsw.Error):
                raise _machine_error(error, self.path) from None
            raise
        self.fault: MachineError | None = None
        self._queue: queue.Queue[Write | None] = queue.Queue(QUEUE_LIMIT)
        self._thread = threading.Thread(target=self._run, name="qurate-store", daemon=True)
        self._thread.start()

    def submit(self, write: Write) -> None:
        """Hands rows to the writer; `finished` tells when they are durable.

        Raises:
            MachineError: code overloaded, where too many writes wait already.
        """
        try:
            self._queue.put_nowait(write)
        except queue.Full:
            raise MachineError(
                f"fewer than {QUEUE_LIMIT} writes waiting", "more", where=str(self.path), hint="try again", code=Code.OVERLOADED
            ) from None

    def close(self) -> None:
        """Writes what waits, then releases the files. A second call does nothing."""
        if not self._lock_file.closed:
            self._queue.put(None)
            self._thread.join()
            self._reader.close()
            self._connection.close()
            self._lock_file.close()

    def history(self, user_id: str, window: int, types: Sequence[str] | None, shown: bool) -> tuple[list[StoredRow], int | None, int]:
        """A customer's newest rows, from one snapshot.

        Args:
            user_id: whose.
            window: how many rows at most.
            types: event types that count; None: all.
            shown: whether a decision that showed one item is a row of type `shown`.

        Returns:
            The rows by arrival, the earliest time of the customer's rows or None (looked up only where there are fewer
            rows than `window`), and the sequence number up to which the snapshot is complete.

        Raises:
            MachineError: the file cannot be read.
        """

        def run(sql: str, *bindings: Any) -> list[Any]:
            return list(self._reader.execute(sql, bindings))

        first = None
        try:
            with self._reader:
                rows = run(
                    "SELECT 2 * seq, seq, item_id, type, timestamp_us, value FROM events WHERE user_id = ?1"
                    " AND (?2 IS NULL OR type IN (SELECT value FROM json_each(?2))) ORDER BY seq DESC LIMIT ?3",
                    user_id,
                    None if types is None else json.dumps(list(types)),
                    window,
                )
                if shown:
                    rows += run(
                        "SELECT 2 * as_of + 1, seq, json_extract(shown, '$[0]'), 'shown', timestamp_us, NULL FROM decisions"
                        " WHERE user_id = ? AND json_array_length(shown) = 1 ORDER BY seq DESC LIMIT ?",
                        user_id,
                        window,
                    )
                if len(rows) < window:
                    tables = ("events", "decisions") if shown else ("events",)
                    firsts = [run(f"SELECT min(timestamp_us) FROM {table} WHERE user_id = ?", user_id)[0][0] for table in tables]
                    first = min((time_us for time_us in firsts if time_us is not None), default=None)
                last = max(self._count("events"), self._count("decisions"))
        except apsw.Error as error:
            raise _machine_error(error, self.path) from None
        stored = sorted((StoredRow((key, seq), *rest) for key, seq, *rest in rows), key=lambda row: row.place)
        return stored[-window:], first, last

    def _count(self, table: str) -> int:
        return int(_one(self._reader, f"SELECT coalesce(max(seq), 0) FROM {table}"))

    def _run(self) -> None:
        open_ = True
        while open_:
            group, open_ = self._next_group()
            if group:
                self._write(group)
                self._finished(group, self.last_seq)
            elif open_:
                self._probe()

    def _next_group(self) -> tuple[list[Write], bool]:
        """What waits now, waiting for the first; empty after a second of nothing while the disk is at fault."""
        group: list[Write] = []
        rows = 0
        with contextlib.suppress(queue.Empty):
            write = self._queue.get(timeout=PROBE_SECONDS if self.fault else None)
            while write is not None:
                group.append(write)
                rows += write.rows
                if rows >= ROWS_PER_COMMIT:
                    break
                write = self._queue.get_nowait()
            return group, write is not None
        return group, True

    def _write(self, group: list[Write]) -> None:
        start = time.perf_counter()
        try:
            self._commit(group)
        except Exception as error:  # whatever a row brings, the writer lives on and the request is told
            if len(group) > 1 and not _is_disk(error):
                for write in group:  # one bad request must not fail the others
                    self._write([write])
                return
            self._fail(group, error)
        else:
            self.fault = None
            self._metrics.store_writable.set(1)
            self._metrics.commit_seconds.observe(time.perf_counter() - start)

    def _fail(self, group: list[Write], error: Exception) -> None:
        fault = _machine_error(error, self.path)
        for write in group:
            write.error, write.stored, write.decision_seq = fault, [], 0
        if _is_disk(error):
            self.fault = fault
            self._metrics.store_writable.set(0)

    def _commit(self, group: list[Write]) -> None:
        """One transaction for all; sequence numbers in the order of the group."""
        run = self._connection.execute
        run("BEGIN IMMEDIATE")
        try:
            seq = self.last_seq
            asked = self._decision_times(group)
            decisions: list[tuple[Any, ...]] = []
            events: list[tuple[Any, ...]] = []
            for write in group:
                write.stored = []
                if write.decision is not None:
                    seq += 1
                    write.decision_seq = seq
                    decisions.append((seq, *write.decision))
                for row in write.events:
                    seq += 1
                    after = asked.get(row.decision_id, row.timestamp_us - 1) + 1 if row.decision_id else row.timestamp_us
                    stored = row._replace(timestamp_us=max(row.timestamp_us, after))
                    write.stored.append((seq, stored))
                    events.append((seq, *stored, row.timestamp_us if stored.timestamp_us > row.timestamp_us else None))
            self._insert("decisions", DECISION_COLUMNS, decisions, "")
            before = self._connection.total_changes()
            self._insert("events", EVENT_COLUMNS, events, "ON CONFLICT(event_id) DO NOTHING")
            if self._connection.total_changes() - before < len(events):
                self._drop_duplicates(group)
            run("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                run("ROLLBACK")
            raise
        self.last_seq = seq

    def _decision_times(self, group: list[Write]) -> dict[str | None, int]:
        """When the decisions that the events name were made."""
        names = {row.decision_id for write in group for row in write.events if row.decision_id}
        if not names:
            return {}
        sql = "SELECT json_group_object(decision_id, timestamp_us) FROM decisions WHERE decision_id IN (SELECT value FROM json_each(?))"
        times: dict[str | None, int] = json.loads(_one(self._connection, sql, json.dumps(sorted(names))))
        return times

    def _insert(self, table: str, columns: str, rows: list[tuple[Any, ...]], conflict: str) -> None:
        """In statements of 64, 8 and 1 rows: each statement lets other threads run once, each row by itself would."""
        width = columns.count(",") + 1
        marks = f"({', '.join('?' * width)})"
        done = 0
        for size in (64, 8, 1):
            sql = f"INSERT INTO {table}({columns}) VALUES {', '.join([marks] * size)} {conflict}"
            while len(rows) - done >= size:
                self._connection.execute(sql, [value for row in rows[done : done + size] for value in row])
                done += size

    def _drop_duplicates(self, group: list[Write]) -> None:
        sql = "SELECT json_group_array(seq) FROM events WHERE seq > ?"
        inserted = set(json.loads(_one(self._connection, sql, self.last_seq)))
        for write in group:
            write.stored = [(seq, row) for seq, row in write.stored if seq in inserted]

    def _probe(self) -> None:
        """Tries whether writing works again, so that readiness returns without traffic."""
        try:
            self._connection.execute("DELETE FROM probe").fetchall()
            self._connection.execute("INSERT INTO probe VALUES (zeroblob(8192))").fetchall()
        except apsw.Error as error:
            self.fault = _machine_error(error, self.path)
        else:
            self.fault = None
            self._metrics.store_writable.set(1)


def _lock(directory: Path) -> Any:
    """The open lock file; the kernel releases it with the process, however that ends."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = open(directory / "lock", "a+")  # noqa: SIM115 - held as long as the store
    except OSError as error:
        hint = "give the right to write there, or choose another --data"
        raise MachineError(
            "a directory that can be written", error.strerror or "an error", where=str(directory), hint=hint, code=Code.DATA_DIR
        ) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        owner = file.read().strip() or "unknown"
        file.close()
        hint = "stop that process or choose another --data"
        raise MachineError(
            "a data directory of its own", f"one in use by process {owner}", where=str(directory), hint=hint, code=Code.DATA_DIR
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def _open(path: Path) -> apsw.Connection:
    """The writing connection, its schema made or checked."""
    try:
        connection = connect(path)
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "wal_autocheckpoint = 4000"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        version = int(_one(connection, "PRAGMA user_version"))
        if version == 0:
            with connection:
                for statement in SCHEMA.split(";"):
                    connection.execute(statement).fetchall()
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}").fetchall()
    except apsw.NotADBError:
        raise UserError(
            "an events.sqlite written by qurate serve", "another file", where=str(path), hint="choose another --data", code=Code.BAD_STORE
        ) from None
    except apsw.Error as error:
        raise _machine_error(error, path) from None
    if version > SCHEMA_VERSION:
        raise UserError(
            f"schema version {SCHEMA_VERSION} or older",
            str(version),
            where=str(path),
            hint="use the newer qurate",
            code=Code.SCHEMA_VERSION,
        )
    return connection


def _one(connection: apsw.Connection, sql: str, *bindings: Any) -> Any:
    """The one value of a query with one row of one column."""
    return connection.execute(sql, bindings).fetchall()[0][0]


def _is_disk(error: Exception) -> bool:
    return isinstance(error, apsw.FullError | apsw.IOError | apsw.CantOpenError | apsw.ReadOnlyError | apsw.BusyError | apsw.CorruptError)


def _machine_error(error: Exception, path: Path) -> MachineError:
    if isinstance(error, apsw.FullError):
        return MachineError(
            "room on the disk", "none", where=str(path), hint="free some; writing goes on by itself", code=Code.STORAGE_FULL
        )
    if isinstance(error, apsw.CorruptError):
        return MachineError(
            "an intact store",
            str(error)[:200],
            where=str(path),
            hint="put a copy in its place or choose another --data",
            code=Code.NOT_READY,
        )
    return MachineError(
        "a store that can be used",
        str(error)[:200],
        where=str(path),
        hint="see to the disk; writing goes on by itself",
        code=Code.NOT_READY,
    )
