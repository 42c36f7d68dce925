"""The files of the embedded store: the lock, the schema, and whether they are ours and still there.

DIR/events.sqlite (+ -wal, -shm), DIR/lock (held while the service runs, with its process id).
"""

import contextlib
import os
from pathlib import Path
from typing import Any, TextIO

import apsw

from qurate.errors import Code, MachineError, UserError
from qurate.locks import owner_of, try_lock
from qurate.outputs import CUSTOMERS, DATASET, MODEL

SCHEMA_VERSION = 2
SCHEMA = """
CREATE TABLE events(
  seq INTEGER PRIMARY KEY, event_id TEXT NOT NULL UNIQUE, user_id TEXT NOT NULL, item_id TEXT, type TEXT NOT NULL,
  timestamp_us INTEGER NOT NULL, received_us INTEGER NOT NULL, value REAL, session_id TEXT, decision_id TEXT, props TEXT,
  sent_us INTEGER);
CREATE INDEX events_of_user ON events(user_id);
CREATE TABLE decisions(
  seq INTEGER PRIMARY KEY, decision_id TEXT NOT NULL UNIQUE, user_id TEXT NOT NULL, session_id TEXT,
  timestamp_us INTEGER NOT NULL, as_of INTEGER NOT NULL, shown TEXT NOT NULL, propensity TEXT NOT NULL, candidates TEXT,
  policy TEXT NOT NULL, model_version TEXT NOT NULL, excluded TEXT, context TEXT, degraded TEXT,
  candidate_features TEXT);
CREATE INDEX decisions_of_user ON decisions(user_id);
CREATE TABLE probe(content BLOB);
"""
EVENT_COLUMNS = "seq, event_id, user_id, item_id, type, timestamp_us, received_us, value, session_id, decision_id, props, sent_us"
DECISION_COLUMNS = (
    "seq, decision_id, user_id, session_id, timestamp_us, as_of, shown, propensity, candidates, policy, model_version,"
    " excluded, context, degraded, candidate_features"
)
SINCE_VERSION_1 = {"decisions": ", candidate_features"}
"""Columns that stores of version 1 (qurate 0.1) do not have, by table; they are added when the service opens one."""

WRITTEN_BESIDE = ("items.parquet", "model-rewards.json")
"""What a service writes beside its store (served.py)."""

DISK_ERRORS = apsw.FullError | apsw.IOError | apsw.CantOpenError | apsw.ReadOnlyError | apsw.BusyError | apsw.CorruptError
OUR_COLUMNS = {"events": EVENT_COLUMNS, "decisions": DECISION_COLUMNS}


def connect(path: Path) -> apsw.Connection:
    """A connection to the store; reading beside the writer is safe."""
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(1_000)
    return connection


def lock(directory: Path) -> TextIO:
    """The open lock file; the kernel releases it with the process, however that ends.

    Raises:
        UserError: a file is there, or a directory with files of others in the places of ours.
        MachineError: the directory cannot be written, or is in use by another process (which is named).
    """
    if directory.exists() and not directory.is_dir():
        raise UserError("a directory", "a file", where=str(directory), hint="choose another --data", code=Code.BAD_PATH)
    _check_free(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = open(directory / "lock", "a+")  # noqa: SIM115 - held as long as the store
    except OSError as error:
        hint = "give the right to write there, or choose another --data"
        raise MachineError(
            "a directory that can be written", error.strerror or "an error", where=str(directory), hint=hint, code=Code.DATA_DIR
        ) from None
    try:
        free = try_lock(file.fileno())
    except BaseException:
        file.close()
        raise
    if not free:
        file.close()
        got = f"one in use by process {owner_of(directory / 'lock')}"
        hint = "stop that process or choose another --data"
        raise MachineError("a data directory of its own", got, where=str(directory), hint=hint, code=Code.DATA_DIR)
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def _check_free(directory: Path) -> None:
    """A directory without a store is not taken where it has files that a service would write over, or is a dataset or a model.

    Raises:
        UserError: it has one; nothing was changed.
    """
    if (directory / "events.sqlite").exists():  # whose it is, is seen when it is opened
        return
    found = [name for name in (*WRITTEN_BESIDE, DATASET, MODEL, CUSTOMERS) if (directory / name).exists()]
    with contextlib.suppress(OSError):
        if (directory / "lock").read_bytes()[:20].strip(b"0123456789"):  # a service's own lock has a process id in it, or nothing
            found.append("lock")
    if found:
        got, hint = f"one that holds {found[0]} and no events.sqlite", "choose another --data; nothing was changed"
        raise UserError("a new directory, or one of qurate serve", got, where=str(directory), hint=hint, code=Code.WOULD_OVERWRITE)


def open_database(path: Path) -> apsw.Connection:
    """The writing connection, its schema made or checked. A database of another program is not changed.

    Raises:
        UserError: codes bad_store (not ours), schema_version (newer than this program).
        MachineError: it cannot be opened or written.
    """
    try:
        if path.exists():
            _check_ours(apsw.Connection(f"file:{_escaped(path)}?immutable=1", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI), path)
        connection = connect(path)
        version = _check_ours(connection, path)
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "wal_autocheckpoint = 4000"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        if version == 0:
            with connection:
                for statement in SCHEMA.split(";"):
                    connection.execute(statement).fetchall()
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}").fetchall()
        elif version == 1:
            with connection:
                connection.execute("ALTER TABLE decisions ADD COLUMN candidate_features TEXT").fetchall()
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}").fetchall()
    except apsw.NotADBError:
        raise _not_ours(path, "another file") from None
    except apsw.Error as error:
        raise machine_error(error, path) from None
    return connection


def _escaped(path: Path) -> str:
    """A path inside a file: URI."""
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _check_ours(connection: apsw.Connection, path: Path) -> int:
    """The schema version of a database of ours, 0 of an empty one; only reads.

    Raises:
        UserError: another program's tables, or a newer version.
    """
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    version = int(one(connection, "PRAGMA user_version"))
    if not tables:
        return 0
    if version > SCHEMA_VERSION:
        raise UserError(
            f"schema version {SCHEMA_VERSION} or older",
            str(version),
            where=str(path),
            hint="use the newer qurate",
            code=Code.SCHEMA_VERSION,
        )
    for table, ours in OUR_COLUMNS.items():
        columns = [name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))]
        since = SINCE_VERSION_1.get(table, "") if version == 1 else ""
        if version < 1 or columns != ours.removesuffix(since).split(", "):
            raise _not_ours(path, f"a database of another program (tables {', '.join(sorted(tables))[:100]})")
    return version


def _not_ours(path: Path, got: str) -> UserError:
    return UserError("an events.sqlite written by qurate serve", got, where=str(path), hint="choose another --data", code=Code.BAD_STORE)


class Presence:
    """Whether the files that were opened are still the ones at their paths.

    SQLite goes on writing into a file that was removed or replaced; what it commits there is lost with the process.
    """

    def __init__(self, path: Path) -> None:
        self._paths = [path, path.with_name(f"{path.name}-wal"), path.with_name("lock")]
        self._opened = [_identity(one) for one in self._paths]

    def check(self) -> None:
        """Nothing while they are.

        Raises:
            MachineError: code not_ready; names the file.
        """
        for path, opened in zip(self._paths, self._opened):
            found = _identity(path)
            if found != opened:
                got = "none" if found is None else "another file in its place"
                hint = "put it back, or restart the service on what is there"
                raise MachineError("the file that was opened", got, where=str(path), hint=hint, code=Code.NOT_READY)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def one(connection: apsw.Connection, sql: str, *bindings: Any) -> Any:
    """The one value of a query with one row of one column."""
    return connection.execute(sql, bindings).fetchall()[0][0]


def is_disk(error: Exception) -> bool:
    """Whether the error is of the whole store, not of the rows."""
    return isinstance(
        error, MachineError | apsw.FullError | apsw.IOError | apsw.CantOpenError | apsw.ReadOnlyError | apsw.BusyError | apsw.CorruptError
    )


def machine_error(error: Exception, path: Path) -> MachineError:
    """The error as one of ours."""
    if isinstance(error, MachineError):
        return error
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
