"""Each fault is found by its check, counted, and located; a sound log passes all of them."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from qurate.events.readers import read_events
from qurate.events.validate import validate

T0 = 1_700_000_000
NOW = datetime(2024, 1, 1, tzinfo=UTC)
HEADER = "user_id,item_id,type,timestamp,value\n"


def sound(count: int = 300) -> list[str]:
    return [f"u{i % 5},i{i % 3},click,{T0 + i},1" for i in range(count)]


def checked(folder: Path, rows: list[str], **files: str) -> dict[str, dict[str, Any]]:
    (folder / "log.csv").write_text(HEADER + "\n".join(rows) + "\n")
    result = validate(read_events(folder / "log.csv", max_bad=1.0), now=NOW)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["ok"] == all(check["ok"] for check in result["checks"])
    assert all(set(check) == {"name", "ok", "count", "rows", "message"} for check in result["checks"])
    return {check["name"]: check for check in result["checks"]}


def test_a_sound_log_passes(tmp_path: Path) -> None:
    checks = checked(tmp_path, sound())
    assert all(check["ok"] and check["count"] == 0 for check in checks.values())
    assert {"missing ids", "time order", "event types", "duplicates", "impossible values", "timestamps", "numbers"} <= set(checks)


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        (",i1,click,1700000000,1", "missing ids"),
        ("u1,i1,,1700000000,1", "missing ids"),
        ("u1,i1,click,,1", "timestamps"),
        ("u1,i1,click,17,1", "timestamps"),
        ("u1,i1,click,1700000000000,1", "timestamps"),
        ("u1,i1,click,noon,1", "timestamps"),
        ("u1,i1,click,1700000000,x", "numbers"),
        ("u1,i1,click,1700000000,inf", "numbers"),
        ("u1,i1,click,1700000000,1,2,3", "readable rows"),
        ("u1,i1,watch,1700000000,-3", "impossible values"),
        ("u1,i1,watch,1700000000,100000", "impossible values"),
        ("u1,i1,click,1900000000,1", "no future"),
    ],
)
def test_each_fault_is_found_counted_and_located(tmp_path: Path, fault: str, check: str) -> None:
    rows = sound()
    rows[7] = fault
    few = checked(tmp_path, rows)
    assert (few[check]["count"], few[check]["rows"], few[check]["ok"]) == (1, [9], True)
    assert [name for name, found in few.items() if found["count"] and name != "time order"] == [check]
    for place in range(20, 60, 10):
        rows[place] = fault.replace("u1", f"u{place}")
    many = checked(tmp_path, rows)
    assert not many[check]["ok"]
    assert many[check]["rows"] == [9, 22, 32, 42, 52]
    assert "of 300" in many[check]["message"]


def test_order_and_new_types_are_notes(tmp_path: Path) -> None:
    rows = sound()
    rows[10], rows[200] = rows[200], rows[10]
    rows[50] = f"u0,i1,wishlist,{T0 + 50},1"
    checks = checked(tmp_path, rows)
    assert checks["time order"]["ok"] and checks["time order"]["count"] > 0
    assert checks["event types"]["ok"] and checks["event types"]["count"] == 1
    assert "not standard: wishlist" in checks["event types"]["message"]
    rows[50], rows[51] = f"u0,i1,clik,{T0 + 50},1", f"u0,i1,addtowishlist,{T0 + 51},1"
    assert checked(tmp_path, rows)["event types"]["message"].endswith("not standard: addtowishlist, clik (did you mean click?)")


def test_duplicates_are_counted_and_pass(tmp_path: Path) -> None:
    rows = sound()
    one = checked(tmp_path, [*rows, rows[3]])
    assert one["duplicates"]["ok"] and one["duplicates"]["rows"] == [302]
    many = checked(tmp_path, [*rows, *rows[:10]])["duplicates"]  # dropped without loss, so ingest takes them too
    assert many["ok"] and many["count"] == 10 and "--keep-duplicates" in many["message"]


def test_decisions_and_their_answers(tmp_path: Path) -> None:
    head = "user_id,item_id,type,timestamp,decision_id\n"
    events = [
        f"u,a,click,{T0 + 1},d1",  # fine
        f"u,z,click,{T0 + 1},d2",  # not shown
        f"u,a,click,{T0 - 9},d3",  # before its decision
        f"u,a,click,{T0 + 1},d9",  # no such decision
    ]
    (tmp_path / "log.csv").write_text(head + "\n".join(events) + "\n")
    decisions = [
        {"decision_id": f"d{i}", "user_id": "u", "timestamp": T0, "shown": ["a", "b"], "propensity": [0.5, 0.5]} for i in (1, 2, 3)
    ]
    decisions.append({"decision_id": "d3", "user_id": "u", "timestamp": T0 + 1, "shown": ["a", "a"], "propensity": [0.5, 1.5]})
    decisions.append({"decision_id": "d3", "user_id": "u", "timestamp": T0 + 1, "shown": ["a", "a"], "propensity": [0.5, 0.5]})
    (tmp_path / "decisions.jsonl").write_text("\n".join(json.dumps(row) for row in decisions))
    result = validate(read_events(tmp_path / "log.csv", max_bad=1.0), now=NOW)
    found = {
        check["name"]: (check["ok"], check["count"], check["rows"])
        for check in result["checks"]
        if check["count"] and check["name"] != "time order"
    }
    assert found == {
        "propensities": (False, 1, [4]),
        "decisions": (False, 1, [4]),
        "decision ids": (False, 1, [5]),
        "known decisions": (False, 1, [5]),
        "clicked was shown": (False, 1, [3]),
        "answers follow": (False, 1, [4]),
        "shown once": (False, 1, [5]),
    }
    assert not result["ok"]


def test_items_shown_after_their_end(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(f"user_id,item_id,type,timestamp,decision_id\nu,a,click,{T0 + 1},d1\n")
    decisions = [
        {"decision_id": f"d{i}", "user_id": "u", "timestamp": T0 + i, "shown": ["a", "b"], "propensity": [0.5, 0.5]} for i in (1, 2, 3)
    ]
    (tmp_path / "decisions.jsonl").write_text("\n".join(json.dumps(row) for row in decisions))
    (tmp_path / "items.csv").write_text(f"item_id,price,available_until\na,1,{T0 + 3}\nb,2,\n")
    result = validate(read_events(tmp_path / "log.csv", max_bad=1.0), now=NOW)
    check = next(check for check in result["checks"] if check["name"] == "shown while available")
    assert (check["ok"], check["count"], check["rows"]) == (False, 1, [3])
    assert check["message"] == "1 of 6 (16.67%): items shown after their available_until"
    (tmp_path / "items.csv").write_text("item_id,price\na,1\nb,2\n")
    assert "shown while available" not in [c["name"] for c in validate(read_events(tmp_path / "log.csv", max_bad=1.0), now=NOW)["checks"]]


def test_real_logs_pass_with_the_faults_the_readme_names(real_log: Any) -> None:
    trivago = validate(read_events(real_log("trivago_100k/sessions.parquet"), max_bad=1.0))
    assert trivago["ok"]
    assert next(c["count"] for c in trivago["checks"] if c["name"] == "clicked was shown") == 1
    kuairand = validate(read_events(real_log("kuairand/like_hate_27k_core15.parquet"), max_bad=1.0))
    assert kuairand["ok"]
    assert next(c["count"] for c in kuairand["checks"] if c["name"] == "duplicates") == 124


def test_a_log_without_a_single_good_row_fails_without_a_traceback(tmp_path: Path) -> None:
    checks = checked(tmp_path, [f",i1,click,{T0 + i},1" for i in range(5)])
    assert not checks["missing ids"]["ok"] and checks["missing ids"]["count"] == 5
    assert not checks["event types"]["ok"]
