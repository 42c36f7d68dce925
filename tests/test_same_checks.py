"""What fails `ingest` fails `validate` and the plan: faulty logs, the exit code of each command, and the line that says why."""

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qurate.mdp import reading
from test_cli import one_error, run

T0 = 1_700_000_000
LOG = "log.csv"
HEADER = "user_id,item_id,type,timestamp\n"
ROWS = [f"u{i % 20},i{(i * i + i // 20) % 9},{'purchase' if i % 4 == 3 else 'click'},{T0 + i * 3_600}" for i in range(240)]
Row = dict[str, Any]
Files = dict[str, str | bytes]


def table(header: str, line: Callable[[int], str], n: int = 60) -> Files:
    """A log of n rows, with its header."""
    return {LOG: header + "\n" + "".join(line(i) + "\n" for i in range(n))}


def log(rows: list[str], header: str = HEADER) -> Files:
    return {LOG: header + "\n".join(rows) + "\n"}


def some(row: str, every: int = 20) -> Files:
    """A sound log in which each so many-th row is another one."""
    return log([row if i % every == every - 1 else own for i, own in enumerate(ROWS)])


def asked(decision: Callable[[int, Row], Row] = lambda _, row: row, event: Callable[[int, Row], Row] = lambda _, row: row) -> Files:
    """Events, and a decisions table beside them, with one change each."""
    events, decisions = [], []
    for i in range(120):
        at = {"user_id": f"u{i % 10}", "timestamp": T0 + 600 * i, "decision_id": f"d{i}"}
        decisions.append(decision(i, {**at, "shown": ["a", "b", "c"], "propensity": [0.5, 0.25, 0.25]}))
        events.append(event(i, {**at, "timestamp": T0 + 600 * i + 5, "type": "click", "item_id": "abc"[i % 3]}))
    return {name: "".join(json.dumps(row) + "\n" for row in rows) for name, rows in (("log.jsonl", events), ("asked.jsonl", decisions))}


def packed(name: str, text: str, password: bool = False) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, text)
    data = bytearray(buffer.getvalue())
    if password:  # the flag of an encrypted member, in both of its headers
        data[6] |= 1
        data[data.find(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


GOOD = log(ROWS)
TEXT = str(GOOD[LOG])
GOODS = "".join(f"i{i},title {i},{i}.5\n" for i in range(9))
ASKED = "log.jsonl --decisions asked.jsonl"
Fault = tuple[str, Files, str, str]
FAULTS: list[Fault] = [
    # name, files, what is typed after the command, what the line says
    ("a bad time", some("u1,i1,click,soon"), LOG, "12 of 240 (5.0%), most often: unreadable timestamp (first in line 21)"),
    ("no time that can be read", table(HEADER[:-1], lambda i: f"u{i % 5},i{i % 3},click,soon"), LOG, "text like 'soon'"),
    ("a count, no time", table(HEADER[:-1], lambda i: f"u{i % 5},i{i % 3},click,{i % 12}"), LOG, "--order timestamp"),
    ("a time in the future", some(f"u1,i1,click,{2 * T0}"), LOG, "timestamp in the future"),
    ("no time", log([row.rpartition(",")[0] for row in ROWS], "user_id,item_id,type\n"), LOG, "--order"),
    ("no user", log([row.partition(",")[2] for row in ROWS], "item_id,type,timestamp\n"), LOG, "--map user_id=COL"),
    ("no item", table("user_id,type,timestamp", lambda i: f"u{i % 5},click,{T0 + i}"), LOG, "--map item_id=COL"),
    ("missing users", some(f",i1,click,{T0}"), LOG, "missing user_id"),
    ("unknown columns", table("a,b,c", lambda i: f"{i},{i},{i}"), LOG, "--map user_id=COL --map item_id=COL"),
    ("answers of another length",
     table("user_id,timestamp,shown,clicked", lambda i: f"u{i % 5},{T0 + i},a|b|c,1 0"), LOG, "no event: no row"),
    ("some answers of another length",
     table("user_id,timestamp,shown,clicked", lambda i: f"u{i % 5},{T0 + i},a|b|c,1 0{' 0' if i % 9 else ''}"), LOG,
     "7 of 60 (11.7%), most often: as many of clicked as items shown are needed (first in line 2)"),
    ("too few propensities",
     table("user_id,timestamp,shown,propensity", lambda i: f"u{i % 5},{T0 + i},a|b|c,0.5|0.5"), LOG, "as many propensities as items"),
    ("nobody chose", table("user_id,timestamp,shown", lambda i: f"u{i % 5},{T0 + i},a|b"), LOG, "no event"),
    ("a line that is no JSON", {"log.jsonl": "".join(json.dumps({"user_id": f"u{i % 5}", "item_id": f"i{i % 3}",
     "timestamp": T0 + i}) + "\n"
     if i % 10 else '{"user_id": "u\n' for i in range(60))}, "log.jsonl",
     "6 of 60 (10.0%), most often: not a JSON object (first in line 1)"),
    ("no JSON", {"log.jsonl": "dear shop,\nthe log\n"}, "log.jsonl", "JSON objects, one a line"),
    ("a cut JSON array", {"log.json": '[{"user_id": "u", "item_id": "i", "timestamp": 1700000000}, {"us'}, "log.json", "truncated"),
    ("objects as ids", {"log.jsonl": "".join(json.dumps({"user_id": {"id": f"u{i % 5}"}, "item_id": f"i{i % 7}",
     "timestamp": T0 + i}) + "\n"
     for i in range(60))}, "log.jsonl", "--map user_id=user_id.id"),
    ("types in lists", {"log.jsonl": "".join(json.dumps({"user_id": f"u{i % 5}", "item_id": f"i{i % 7}", "type": ["view", "click"],
     "timestamp": T0 + i}) + "\n"
     for i in range(60))}, "log.jsonl", "one name of what happened in each row"),
    ("an open quote in every row", log([f'{row},"x' for row in ROWS], HEADER[:-1] + ",title\n"), LOG, "unbalanced quotes"),
    ("a quote that stays open", some(f'u1,"i1,click,{T0}'), LOG, "unbalanced quotes (first in line 21)"),
    ("more fields than the header", some(f"u1,i1,click,{T0},x,y"), LOG, "more fields than the header"),
    ("a header between the rows", some(HEADER[:-1]), LOG, "unreadable timestamp"),
    ("NaN", table(HEADER[:-1] + ",value", lambda i: f"u{i % 5},i{i % 3},watch,{T0 + i},{'NaN' if i % 3 else 2}"), LOG, "NaN or infinite"),
    ("no number", table(HEADER[:-1] + ",value", lambda i: f"u{i % 5},i{i % 3},watch,{T0 + i},{'long' if i % 3 else 2}"), LOG,
     "value is not a number"),
    ("too large", table(HEADER[:-1] + ",value", lambda i: f"u{i % 5},i{i % 3},watch,{T0 + i},1e39"), LOG, "beyond float32"),
    ("a list that is cut", table("user_id,timestamp,item_id", lambda i: f'u{i % 5},{T0 + i},"[""a"", ""b"'), LOG,
     "no list that can be read"),
    ("lists with scores", table("user_id,timestamp,shown", lambda i: f"u{i % 5},{T0 + i},a:0.5|b:0.25"), LOG, "lists of their own"),
    ("an empty file", {LOG: ""}, "log.csv", "an empty file"),
    ("a header alone", {LOG: HEADER}, "log.csv", "a file with a header only"),
    ("no file", {}, "log.csv", "check the path"),
    ("a folder without logs", {"logs/readme.md": "x"}, "logs", "a directory without any"),
    ("an unknown extension", {"log.xlsx": b"PK"}, "log.xlsx", "save its sheet as CSV"),
    ("another encoding", {LOG: (HEADER + "".join(f"用户{i % 9},商品{i % 5},click,{T0 + i}\n" for i in range(60))).encode("gbk")},
     LOG, "say --encoding gbk"),
    ("a wrong encoding", {LOG: "é" + TEXT}, "log.csv --encoding ascii", "leave --encoding out"),
    ("text of two bytes", {LOG: TEXT.encode("utf-16")}, "log.csv", "say --encoding utf-16"),
    ("carriage returns", {LOG: TEXT.replace("\n", "\r")}, "log.csv", r"got \r alone"),
    ("a gzip file without its end", {"log.csv.gz": gzip.compress(TEXT.encode())[:200]}, "log.csv.gz", "the file is damaged"),
    ("a zip file without its end", {"log.zip": packed("log.csv", TEXT)[:300]}, "log.zip", "the file is damaged"),
    ("a zip file with a password", {"log.zip": packed("log.csv", TEXT, password=True)}, "log.zip", "unpack it with its password"),
    ("broken Parquet", {"log.parquet": b"PAR1" + bytes(99)}, "log.parquet", "damaged or of another format"),
    ("files of two layouts", {LOG: TEXT, "b.csv": f"userId,movieId,rating,timestamp\n1,2,3,{T0}\n"}, "log.csv b.csv", "files of one log"),
    ("a propensity of 0", asked(lambda _, row: {**row, "propensity": [0, 0.5, 0.5]}), ASKED, "120 of 120 (100.0%), most often"),
    ("a propensity of 2", asked(lambda i, row: {**row, "propensity": [2 if i % 9 == 0 else 1, 0.5, 0.5]}), ASKED,
     "14 of 120 (11.7%), most often"),
    ("an item that was not shown", asked(lambda _, row: {**row, "shown": ["x", "y", "z"]}), ASKED, "the item was not in the shown list"),
    ("an unknown decision", asked(event=lambda i, row: {**row, "decision_id": f"q{i}"}), ASKED, "that is not in the log"),
    ("an answer before its list", asked(event=lambda _, row: {**row, "timestamp": row["timestamp"] - 99}), ASKED,
     "earlier than the decision"),
    ("an answer of another user", asked(event=lambda _, row: {**row, "user_id": "z"}), ASKED, "another user's decision"),
    ("a decision twice", asked(lambda i, row: {**row, "decision_id": f"d{i // 2}"}), ASKED, "decision ids that stand twice"),
    ("an item twice in a list", asked(lambda _, row: {**row, "shown": ["a", "b", "c", "c"], "propensity": [0.25] * 4}), ASKED,
     "an item twice"),
    ("an empty list", asked(lambda _, row: {**row, "shown": [], "propensity": []}), ASKED, "decisions: missing shown"),
    ("decisions without ids", asked(lambda _, row: {k: v for k, v in row.items() if k != "decision_id"}), ASKED,
     "asked.jsonl:decision_id="),
    ("an unknown column in --map", GOOD, "log.csv --map user_id=usr", "did you mean user_id?"),
    ("an unknown name in --map", GOOD, "log.csv --map user=user_id", "did you mean user_id?"),
    ("an unknown file in --map", GOOD, "log.csv --map lgo.csv:user_id=user_id", "did you mean log.csv?"),
    ("an unknown file in --type", GOOD, "log.csv --type lgo.csv=view", "did you mean log.csv?"),
    ("an unknown column in --order", GOOD, "log.csv --order seq", "a column of the log, got seq"),
    ("an unknown column in --value", GOOD, "log.csv --value quantity*price", "a column of the log, got quantity"),
    ("text in --value", GOOD, "log.csv --value type*2", "type is not a number"),
    ("a wrong time form", GOOD, "log.csv --time-form D.M.Y", "unreadable timestamp"),
    ("an unknown time form", GOOD, "log.csv --time-form X/Y", "did you mean M/D/Y?"),
    ("a wrong separator", GOOD, "log.csv --sep ;", "got user_id,item_id,type,timestamp"),
    ("too few --columns", GOOD, "log.csv --columns a,b", "4 names, got 2"),
    ("an unknown layout", GOOD, "log.csv --layout movielens1m", "did you mean movielens?"),
    ("a misspelt type in --rewards", GOOD, "log.csv --rewards purchse=10", "did you mean purchase?"),
    ("--rewards without =", GOOD, "log.csv --rewards purchase:10", "click=1,purchase=10"),
    ("--rewards of 0", GOOD, "log.csv --rewards click=0,purchase=0", "a weight other than 0"),
    ("--churn-after without a unit", GOOD, "log.csv --churn-after 30", "30d is days"),
    ("--max-bad above 1", GOOD, "log.csv --max-bad 5", "1% or 0.01"),
    ("no such title", GOOD | {"side/goods.csv": "item_id,title,price\n" + GOODS}, "log.csv --items side/goods.csv --title-column titel",
     "did you mean title?"),
    ("a table without ids", GOOD | {"side/goods.csv": "thing,title,price\n" + GOODS}, "log.csv --items side/goods.csv",
     "goods.csv:item_id="),
    ("an id twice in a table", GOOD | {"side/goods.csv": f"item_id,title,price\n{GOODS}i1,other,2\n"}, "log.csv --items side/goods.csv",
     "one row per"),
    ("no table", GOOD, "log.csv --users people.csv", "check the path"),
]  # fmt: skip


def placed(files: Files, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    monkeypatch.chdir(folder)


@pytest.mark.parametrize("fault", FAULTS, ids=[fault[0] for fault in FAULTS])
def test_validate_ingest_and_the_plan_agree(
    fault: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, files, typed, says = fault
    placed(files, tmp_path, monkeypatch)
    code, out, err = run(capsys, "ingest", *typed.split(), "-o", "d", "--quiet")
    line = one_error(err)
    assert code == 2 and out == "" and says in line and not Path("d").exists(), line
    code, planned, err = run(capsys, "ingest", *typed.split(), "--plan", "--quiet")
    assert code == 2 and one_error(err) == line
    code, out, err = run(capsys, "validate", *typed.split(), "--quiet", "--json")
    assert code == 2
    if not out:  # it cannot be read at all
        assert planned == "" and one_error(json.loads(err.splitlines()[0])["error"]["message"] if err.startswith("{") else err) == line
    else:
        assert planned.startswith("plan: ")
        failed = [check["message"] for check in json.loads(out)["checks"] if not check["ok"]]
        assert any(_said(message) in line or message in line for message in failed), (failed, line)


def _said(message: str) -> str:
    """How many rows a check is about: `ingest` says the same number."""
    return message.partition(" (")[0]


def test_a_duration_without_a_unit_is_refused_before_a_part_of_the_log_is_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a longer log the plan builds no dataset, so that it has to look at the duration by itself."""
    rows = "".join(f"u{i % 50},i{i % 40},click,{1_717_200_000 + i}\n" for i in range(12_000))
    placed({"log.csv": "user_id,item_id,type,timestamp\n" + rows}, tmp_path, monkeypatch)
    for given, says in (("30", "30d is days"), ("long", "a duration such as 30d"), ("-5d", "a duration such as 30d")):
        code, out, err = run(capsys, "ingest", "log.csv", "--plan", "--quiet", f"--churn-after={given}")
        assert code == 2 and out == "" and says in one_error(err), given
    code, out, _ = run(capsys, "ingest", "log.csv", "--plan", "--quiet", "--json", "--churn-after", "30d")
    assert code == 0 and json.loads(out)["plan"]["sampled"] == 10_000 and "--churn-after 30d" in json.loads(out)["plan"]["command"]


def test_a_sound_log_passes_all_three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    placed(GOOD, tmp_path, monkeypatch)
    assert [run(capsys, *words.split())[0] for words in ("ingest log.csv --plan", "validate log.csv", "ingest log.csv -o d")] == [0, 0, 0]


def test_a_few_rows_of_a_longer_log_are_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Too little to learn from is no fault of the reading."""
    placed(log(ROWS[:2]), tmp_path, monkeypatch)
    assert run(capsys, "ingest", LOG, "--plan")[0] == 0
    assert "a customer with at least two events" in one_error(run(capsys, "ingest", LOG, "-o", "d")[2])


def test_a_plan_of_a_part_names_what_is_bad_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reading, "SAMPLE", 100)
    placed(some("u1,i1,click,soon"), tmp_path, monkeypatch)
    code, out, _ = run(capsys, "ingest", LOG, "--plan")
    assert code == 0 and "5 of 100 (5.0%), most often: unreadable timestamp (first in line 21)" in out


def test_a_plan_of_a_broken_file_does_not_read_it_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reading, "SAMPLE", 100)
    placed(log([f'u1,"i1,click,{T0}', *ROWS]), tmp_path, monkeypatch)
    code, out, _ = run(capsys, "ingest", LOG, "--plan", "--json")
    plan = json.loads(out)["plan"]
    assert code == 0 and (plan["sampled"], plan["rows"], plan["bad_rows"]) == (100, 100, 1)
    assert any("line by line" in note for note in plan["notes"])


def test_few_bad_decisions_beside_many_events_are_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = asked(lambda i, row: {**row, "propensity": [0 if i < 40 else 0.5, 0.25, 0.25]})
    more = [{"user_id": f"u{i % 10}", "item_id": "abc"[i % 3], "type": "click", "timestamp": T0 + i} for i in range(5_000)]
    placed(files | {"log.jsonl": str(files["log.jsonl"]) + "".join(json.dumps(row) + "\n" for row in more)}, tmp_path, monkeypatch)
    code, _, err = run(capsys, "ingest", *ASKED.split(), "-o", "d")
    assert code == 2 and "40 of 120 (33.3%)" in one_error(err) and "at asked.jsonl" in one_error(err)
