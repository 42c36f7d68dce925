"""A plan reads the beginning of a large file, also where it must be rewritten first; what is cut off is never taken for the log."""

import gzip
import json
from pathlib import Path

import pytest

from qurate.cli.app import main
from qurate.errors import UserError
from qurate.events.containers import transcoded
from qurate.events.readers import read_events

N = 500
ROWS = [{"user_id": f"u{i % 7}", "item_id": f"i{i % 9}, [{{", "type": "click", "timestamp": 1_717_200_000 + i} for i in range(N)]
ARRAYS = {
    "one line": json.dumps(ROWS),
    "a record a line": "[\n" + ",\n".join(map(json.dumps, ROWS)) + "\n]\n",
    "a value a line": json.dumps(ROWS, indent=2),
    "the bracket alone": "[\n" + ",".join(map(json.dumps, ROWS)) + "]",
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("form", ARRAYS)
def test_the_first_records_of_a_large_array(form: str, encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.json"
    path.write_bytes(ARRAYS[form].encode(encoding))
    said = None if encoding in ("utf-8", "utf-8-sig") else encoding
    monkeypatch.setattr("qurate.events.containers.HEAD_PACKED", 4_001)  # in the middle of a character of two bytes
    planned = read_events(path, rows=10_000, encoding=said)
    assert not planned.whole and 5 <= planned.rows < 50 and planned.bad_rows == 0
    assert planned.events.select("item_id").collect()["item_id"].to_list()[:2] == ["i0, [{", "i1, [{"]
    log = read_events(path, encoding=said)
    assert log.whole and log.rows == N


@pytest.mark.parametrize("form", ARRAYS)
def test_the_first_records_of_a_packed_array(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.json.gz"
    path.write_bytes(gzip.compress(ARRAYS[form].encode()))
    monkeypatch.setattr("qurate.events.containers.HEAD_PACKED", 4_001)
    planned = read_events(path, rows=10_000)
    assert not planned.whole and 20 <= planned.rows < 50
    log = read_events(path)
    assert log.whole and log.rows == N


def test_no_more_records_than_a_plan_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.json"
    path.write_text(ARRAYS["one line"])
    monkeypatch.setattr("qurate.events.containers.HEAD_PACKED", 30_000)
    monkeypatch.setattr("qurate.events.containers.HEAD_RECORDS", 25)
    assert read_events(path, rows=10_000).rows == 25


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "gbk"])
def test_the_first_lines_of_a_large_table_in_another_encoding(encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"u{i % 7},书{i % 9},click,{1_717_200_000 + i}\n" for i in range(N)]
    path = tmp_path / "log.csv"
    path.write_bytes(("user_id,item_id,type,timestamp\n" + "".join(lines)).encode(encoding))
    for size in (2_000, 2_001, 2_002, 2_003):
        monkeypatch.setattr("qurate.events.containers.HEAD_PACKED", size)
        planned = read_events(path, rows=10_000, encoding=encoding)
        assert not planned.whole and 20 <= planned.rows < 100 and planned.bad_rows == 0
        assert set(planned.events.select("item_id").collect()["item_id"].to_list()) == {f"书{i}" for i in range(9)}
    assert read_events(path, encoding=encoding).rows == N


def test_no_more_than_the_head_is_written_as_utf_8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id\n" + "u1,i1\n" * N, encoding="utf-16")
    monkeypatch.setattr("qurate.events.containers.HEAD_PACKED", 1_000)
    head, cut = transcoded(path, "utf-16", "log.csv", head=True)
    assert cut and head.stat().st_size <= 500
    whole, cut = transcoded(path, "utf-16", "log.csv")
    assert not cut and whole.stat().st_size == 16 + 6 * N


def test_a_large_array_of_no_records_is_refused_as_a_small_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.json"
    path.write_text("[oops, " + "1, " * 4_000 + "]")
    monkeypatch.setattr("qurate.events.containers.HEAD_PACKED", 2_000)
    with pytest.raises(UserError, match="an array of JSON records"):
        read_events(path, rows=10_000)


def test_a_comma_before_the_last_bracket_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_text(ARRAYS["a record a line"].replace("\n]", ",\n]"))
    with pytest.raises(UserError, match=r"trailing comma.* leave out the comma before the last bracket"):
        read_events(path)


def test_a_vector_in_numbered_columns_is_one_line_of_the_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vector = [f"user_affinity_{i}" for i in range(12)]
    few = ["user_part_1", "user_part_2"]
    path = tmp_path / "log.csv"
    rows = [f"u{i % 7},i{i % 9},click,{1_717_200_000 + i}" + ",0.25" * (len(vector) + len(few)) for i in range(60)]
    path.write_text("\n".join([",".join(["user_id", "item_id", "type", "timestamp", *vector, *few]), *rows]) + "\n")
    assert main(["ingest", str(path), "--plan"]) == 0
    lines = [line.split("->") for line in capsys.readouterr().out.splitlines() if "->" in line]
    made = {name.strip(): role.strip() for name, role in lines}
    assert made["user_affinity_0 to user_affinity_11 (12 columns)"] == "not read" and len(made) == 4 + 1 + 2
    assert "could be user_id" in made["user_part_1"]
    assert main(["ingest", str(path), "--plan", "--json"]) == 0
    columns = {one["column"]: one for one in json.loads(capsys.readouterr().out)["plan"]["files"][0]["columns"]}
    assert set(vector) < set(columns) and all(columns[name]["nearest"] is None for name in vector)
