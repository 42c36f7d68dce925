"""A store as `qurate serve` writes it, with a few decisions and one event."""

import json
from pathlib import Path

import apsw

T0 = 1_700_000_000_000_000
SCHEMA = """
CREATE TABLE events(seq INTEGER PRIMARY KEY, event_id TEXT UNIQUE, user_id TEXT, item_id TEXT, type TEXT, timestamp_us INTEGER,
  received_us INTEGER, value REAL, session_id TEXT, decision_id TEXT, props TEXT);
CREATE TABLE decisions(seq INTEGER PRIMARY KEY, decision_id TEXT, user_id TEXT, session_id TEXT, timestamp_us INTEGER, as_of INTEGER,
  shown TEXT, propensity TEXT, candidates TEXT, policy TEXT, model_version TEXT, excluded TEXT, context TEXT);
"""


def make_store(folder: Path, decisions: int = 2) -> apsw.Connection:
    store = apsw.Connection(str(folder / "events.sqlite"))
    store.execute("PRAGMA journal_mode=WAL")
    store.execute(SCHEMA)
    for i in range(decisions):
        row = (
            f"d{i}",
            f"u{i}",
            None,
            T0 + i,
            i,
            json.dumps(["a", "b"]),
            json.dumps([0.5, 1e-6]),
            None if i else json.dumps(["a", "b", "c"]),
            "q",
        )
        names = "decision_id, user_id, session_id, timestamp_us, as_of, shown, propensity, candidates, policy"
        store.execute(f"INSERT INTO decisions({names}) VALUES(?,?,?,?,?,?,?,?,?)", row)
    names = "event_id, user_id, item_id, type, timestamp_us, decision_id, props"
    store.execute(f"INSERT INTO events({names}) VALUES('e1', 'u0', 'b', 'click', ?, 'd0', ?)", (T0 + 9, '{"a":1}'))
    return store
