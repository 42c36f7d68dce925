"""The embedded store: events and decisions in one SQLite file, durable before they are acknowledged.

One writer thread owns the only writing connection (WAL, synchronous=FULL) and puts everything that waits into one
commit, so that many requests share one fsync. Sequence numbers run over both tables in the order of commit; a decision
keeps the number up to which its state had seen the log (`as_of`). An event that names a decision cannot be older than
it: where the client's clock says so, `timestamp_us` is moved to just after the decision and `sent_us` keeps what was sent.
"""

import contextlib
import json
import queue
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw

from qurate.errors import Code, MachineError, UserError
from qurate.serving.stores import sqlite_file
from qurate.serving.stores.base import Commit, EventRow, History, OnCommit, StoredRow, Write
from qurate.serving.stores.sqlite_file import DECISION_COLUMNS, EVENT_COLUMNS, Presence, is_disk, machine_error, one

ROWS_PER_COMMIT = 2_000
QUEUE_LIMIT = 10_000
PROBE_SECONDS = 1.0


class SqliteStore:
    """Opens or creates DIR and starts the writer; an `EventStore`.

    Args:
        directory: where the files live; made if missing.
        on_commit: called in the writer's thread after each commit or its failure.

    Raises:
        MachineError: not writable, full, or in use by another process (which is named).
        UserError: the directory holds an events.sqlite that is not ours, or of a newer version.
    """

    def __init__(self, directory: Path, on_commit: OnCommit) -> None:
        self.path = directory / "events.sqlite"
        self._on_commit = on_commit
        new_lock = not (directory / "lock").exists()
        self._lock_file = sqlite_file.lock(directory)
        try:
            self._connection = sqlite_file.open_database(self.path)
            self._reader = sqlite_file.connect(self.path)
            self.as_of = max(self._count("events"), self._count("decisions"))
            self._presence = Presence(self.path)
        except BaseException as error:
            if new_lock and isinstance(error, UserError):
                (directory / "lock").unlink()  # what lies there is not ours: nothing of ours stays
            self._lock_file.close()
            if isinstance(error, apsw.Error):
                raise machine_error(error, self.path) from None
            raise
        self.fault: MachineError | None = None
        self._queue: queue.SimpleQueue[Write | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="qurate-store", daemon=True)
        self._thread.start()

    def submit(self, write: Write) -> None:
        """Hands rows to the writer; `finished` is called when they are durable.

        Raises:
            MachineError: code overloaded, where too many writes wait already.
        """
        if self._queue.qsize() >= QUEUE_LIMIT:
            raise MachineError(
                f"fewer than {QUEUE_LIMIT} writes waiting", "more", where=str(self.path), hint="try again", code=Code.OVERLOADED
            )
        self._queue.put(write)

    def close(self) -> None:
        """Writes what waits, then releases the files. A second call does nothing."""
        if not self._lock_file.closed:
            self._queue.put(None)
            self._thread.join()
            self._reader.close()
            self._connection.close()
            self._lock_file.close()

    def history(self, user_id: str, window: int, types: Sequence[str] | None, shown: bool) -> History:
        """See `EventStore.history`."""

        def run(sql: str, *bindings: Any) -> list[Any]:
            return list(self._reader.execute(sql, bindings))

        first = None
        try:
            with self._reader:
                rows = run(
                    "SELECT 2 * seq, seq, item_id, type, timestamp_us, value FROM events WHERE user_id = ?1"
                    " AND (?2 IS NULL OR type IN (SELECT value FROM json_each(?2))) ORDER BY seq DESC LIMIT ?3",
                    user_id,
                    types_json(types),
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
            raise machine_error(error, self.path) from None
        stored = sorted((StoredRow((key, seq), *rest) for key, seq, *rest in rows), key=lambda row: row.place)
        return History(stored[-window:], first, last)

    def items_of(self, user_id: str, types: Sequence[str] | None, shown: bool, limit: int) -> list[StoredRow]:
        """See `EventStore.items_of`."""
        sql = """SELECT 2 * max(seq) AS place, max(seq) AS seq, item_id, type, max(timestamp_us) FROM events
            WHERE user_id = ?1 AND item_id IS NOT NULL
            AND (?2 IS NULL OR type IN (SELECT value FROM json_each(?2))) GROUP BY item_id, type"""
        if shown:
            sql += """ UNION ALL SELECT max(2 * as_of + 1), max(seq), json_extract(shown, '$[0]') AS item, 'shown', max(timestamp_us)
                FROM decisions WHERE user_id = ?1 AND json_array_length(shown) = 1 GROUP BY item"""
        try:
            found = list(self._reader.execute(f"{sql} ORDER BY place DESC, seq DESC LIMIT ?3", (user_id, types_json(types), limit)))
        except apsw.Error as error:
            raise machine_error(error, self.path) from None
        return [StoredRow((place, seq), item, kind, time_us, None) for place, seq, item, kind, time_us in reversed(found)]

    def events_after(self, seq: int, limit: int) -> list[tuple[int, EventRow]]:
        """See `EventStore.events_after`."""
        columns = ", ".join(EventRow._fields)
        try:
            found = list(self._reader.execute(f"SELECT seq, {columns} FROM events WHERE seq > ? ORDER BY seq LIMIT ?", (seq, limit)))
        except apsw.Error as error:
            raise machine_error(error, self.path) from None
        return [(number, EventRow(*row)) for number, *row in found]

    def _count(self, table: str) -> int:
        return int(one(self._reader, f"SELECT coalesce(max(seq), 0) FROM {table}"))

    def _run(self) -> None:
        open_ = True
        while open_:
            group, open_ = self._next_group()
            if group:
                start = time.perf_counter()
                self._write(group)
                self._on_commit(Commit(group, self.as_of, time.perf_counter() - start))
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
        try:
            self._commit(group)
            self._presence.check()
        except Exception as error:  # whatever a row brings, the writer goes on and the request gets the error
            if len(group) > 1 and not is_disk(error):
                for write in group:  # one bad request must not fail the others
                    self._write([write])
                return
            self._fail(group, error)
        else:
            self.fault = None

    def _fail(self, group: list[Write], error: Exception) -> None:
        fault = machine_error(error, self.path)
        for write in group:
            write.error, write.stored, write.decision_seq = fault, [], 0
        if is_disk(error):
            self.fault = fault

    def _commit(self, group: list[Write]) -> None:
        """One transaction for all; sequence numbers in the order of the group."""
        run = self._connection.execute
        run("BEGIN IMMEDIATE")
        try:
            seq = self.as_of
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
        self.as_of = seq

    def _decision_times(self, group: list[Write]) -> dict[str | None, int]:
        """When the decisions that the events name were made."""
        names = {row.decision_id for write in group for row in write.events if row.decision_id}
        if not names:
            return {}
        sql = "SELECT json_group_object(decision_id, timestamp_us) FROM decisions WHERE decision_id IN (SELECT value FROM json_each(?))"
        times: dict[str | None, int] = json.loads(one(self._connection, sql, json.dumps(sorted(names))))
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
        inserted = set(json.loads(one(self._connection, sql, self.as_of)))
        for write in group:
            write.stored = [(seq, row) for seq, row in write.stored if seq in inserted]

    def _probe(self) -> None:
        """Tries whether writing works again, so that readiness returns without traffic."""
        try:
            self._connection.execute("DELETE FROM probe").fetchall()
            self._connection.execute("INSERT INTO probe VALUES (zeroblob(8192))").fetchall()
            self._presence.check()
        except (apsw.Error, MachineError) as error:
            self.fault = machine_error(error, self.path)
        else:
            self.fault = None


def types_json(types: Sequence[str] | None) -> str | None:
    """Event types as a parameter of SQL, NULL for all."""
    return None if types is None else json.dumps(list(types))
