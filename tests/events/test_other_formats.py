"""Files that are no text tables, JSON Lines or Parquet: each is named as what it is, with what helps; and JSON written in other ways."""

import ast
import gzip
import json
import re
import shlex
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import polars as pl
import pytest
from event_files import T0, refused, write

from qurate.events.readers import read_events

N = 12
NAMES = ("user_id", "item_id", "type", "timestamp")
ROWS = [(f"u{n % 3}", f"i{n % 4}", "view", T0 + n) for n in range(N)]
OBJECTS = [dict(zip(NAMES, row)) for row in ROWS]
CSV = ",".join(NAMES) + "\n" + "".join(",".join(map(str, row)) + "\n" for row in ROWS)

STARTS = [
    (b"PAR1\x15\x04", "Parquet data", "rename it"),
    (b"ARROW1\x00\x00", "Arrow data", "read_ipc"),
    (b"SQLite format 3\x00", "a database", "sqlite3 -header -csv"),
    (b"%PDF-1.4\n%\xe2\n1 0 obj\n", "a PDF", "as CSV"),
    (b"\x80\x04\x95\x10\x00\x00", "Python's pickle", "to_parquet"),
    (b"<!DOCTYPE html>\n<html><body>Not found, sorry</body></html>\n", "XML or HTML", "a CSV file"),
    (b"INSERT INTO log (a, b) VALUES ('u', 1);\n", "statements of SQL", "export the table as CSV"),
    (gzip.compress(gzip.compress(CSV.encode())), "gzip data within gzip", "unpack it once"),
]


@pytest.mark.parametrize(("start", "what", "helps"), STARTS, ids=[what for _, what, _ in STARTS])
def test_a_file_of_another_format_is_named(start: bytes, what: str, helps: str, tmp_path: Path) -> None:
    error = refused(write(tmp_path / ("log.csv.gz" if start[:2] == b"\x1f\x8b" else "log.csv"), start))
    assert error.got == what and helps in str(error.hint)


@pytest.mark.parametrize("suffix", [".xlsx", ".pkl", ".feather", ".db", ".h5", ".xml", ".sql"])
def test_an_ending_of_another_format_is_named(suffix: str, tmp_path: Path) -> None:
    error = refused(write(tmp_path / f"log{suffix}", b"x"))
    assert error.got.startswith(f"{suffix}, ") and "convert or rename" not in str(error.hint)


def test_archives_that_are_no_log(tmp_path: Path) -> None:
    write(tmp_path / "log.csv", CSV)
    with tarfile.open(tmp_path / "log.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "log.csv", arcname="log.csv")
    assert refused(tmp_path / "log.tar.gz").got == "a tar archive"
    with zipfile.ZipFile(tmp_path / "book.csv", "w") as book:
        book.writestr("xl/workbook.xml", "<workbook/>")
    assert refused(tmp_path / "book.csv").got == "a workbook"


@pytest.mark.parametrize(("inside", "what"), [("_delta_log/0.json", "Delta Lake"), ("metadata/v1.metadata.json", "Apache Iceberg")])
def test_a_table_whose_log_says_which_files_count_is_no_folder_of_files(inside: str, what: str, tmp_path: Path) -> None:
    pl.DataFrame(OBJECTS).write_parquet(tmp_path / "part-0.parquet")
    assert read_events(tmp_path).rows == N
    (tmp_path / inside).parent.mkdir()
    write(tmp_path / inside, '{"add": {}}\n')
    assert what in refused(tmp_path).got
    quoted = tmp_path / 'it\'s "a" table'
    (quoted / Path(inside).parent).mkdir(parents=True)
    write(quoted / inside, '{"add": {}}\n')
    write(quoted / "part-0.csv", CSV)
    words = shlex.split(refused(quoted).hint.partition(": ")[2])  # a command that a shell reads as three words
    assert words[:2] == ["python", "-c"] and len(words) == 3
    (table,) = (node.value for node in ast.walk(ast.parse(words[2])) if isinstance(node, ast.Constant) and "it's" in str(node.value))
    assert table == str(quoted)


def test_files_of_a_header_only_are_said_and_left_out(tmp_path: Path) -> None:
    head = ",".join(NAMES) + "\n"
    write(tmp_path / "part-0.csv", CSV)
    write(tmp_path / "part-1.csv", head)
    log = read_events(tmp_path)
    assert log.rows == N and "part-1.csv has a header and no rows" in log.notes
    write(tmp_path / "part-0.csv", head)
    assert "a header only" in refused(tmp_path).got


def test_files_without_an_ending_are_named(tmp_path: Path) -> None:
    write(tmp_path / "part-00000", CSV)
    assert "part-00000.csv" in str(refused(tmp_path).hint)


DOCUMENTS = {
    "pretty": ("\n".join(json.dumps(one, indent=1) for one in OBJECTS), "a line each", "jq -c ."),
    "in one line": ("".join(json.dumps(one) for one in OBJECTS), "a line each", "jq -c ."),
    "commas": ("\n".join(json.dumps(one) + "," for one in OBJECTS), "commas behind them", "sed 's/,$//'"),
    "a sequence": ("".join(f"\x1e{json.dumps(one)}\n" for one in OBJECTS), "a sign before each object", "tr -d"),
    "a program": (f"window.data = {json.dumps(OBJECTS)}", "a statement of a program (window.data", "before the first bracket"),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_json_of_another_form_says_how_to_write_one_object_a_line(name: str, tmp_path: Path) -> None:
    text, what, helps = DOCUMENTS[name]
    error = refused(write(tmp_path / "log.json", text))
    assert what in error.got and helps in str(error.hint)


@pytest.mark.parametrize("lines", [True, False])
@pytest.mark.parametrize("named", [True, False])
def test_arrays_of_values_become_a_table_by_the_command_in_the_error(lines: bool, named: bool, tmp_path: Path) -> None:
    rows = [list(NAMES), *map(list, ROWS)] if named else [*map(list, ROWS)]
    text = "\n".join(map(json.dumps, rows)) if lines else json.dumps(rows)
    hint = str(refused(write(tmp_path / "log.json", text)).hint)
    code = re.search("(python -c .*); where no row", hint)
    assert code is not None
    subprocess.run([sys.executable, *shlex.split(code[1])[1:]], check=True)
    assert read_events(tmp_path / "log.csv", columns=None if named else list(NAMES)).rows == N


def test_records_two_keys_deep_are_written_by_the_command_in_the_error(tmp_path: Path) -> None:
    """The answer of a search in Elasticsearch."""
    error = refused(
        write(tmp_path / "log.json", json.dumps({"took": 1, "hits": {"total": N, "hits": [{"_source": one} for one in OBJECTS]}}))
    )
    assert error.got == "one object that holds them in hits.hits"
    subprocess.run([sys.executable, *shlex.split(str(error.hint).partition(": ")[2])[1:]], check=True)
    given = {"user_id": "_source.user_id", "item_id": "_source.item_id", "timestamp": "_source.timestamp"}
    log = read_events(tmp_path / "log.records.jsonl", map=given)
    assert log.events.collect()["item_id"].to_list() == [row[1] for row in ROWS]


def test_rows_by_their_index_are_written_by_the_command_in_the_error(tmp_path: Path) -> None:
    error = refused(write(tmp_path / "log.json", json.dumps({str(n): one for n, one in enumerate(OBJECTS)})))
    assert 'orient="index"' in error.got
    subprocess.run([sys.executable, *shlex.split(str(error.hint).partition(": ")[2])[1:]], check=True)
    assert read_events(tmp_path / "log.records.jsonl").events.collect()["item_id"].to_list() == [row[1] for row in ROWS]


@pytest.mark.parametrize("place", [0, 7])
def test_a_key_that_stands_twice_in_an_object_is_refused(place: int, tmp_path: Path) -> None:
    texts = [json.dumps(one) for one in OBJECTS]
    texts[place] = texts[place][:-1] + ', "item_id": "other"}'
    error = refused(write(tmp_path / "log.jsonl", "\n".join(texts)))
    assert error.got.startswith("item_id twice with different values")
    texts[place] = json.dumps(OBJECTS[place])[:-1] + f', "item_id": "{OBJECTS[place]["item_id"]}"}}'  # the same value: nothing is lost
    assert read_events(write(tmp_path / "log.jsonl", "\n".join(texts))).rows == N


def test_nan_in_json_is_a_missing_value(tmp_path: Path) -> None:
    rows = [{**one, "value": float("nan") if n % 3 else float(n)} for n, one in enumerate(OBJECTS)]
    log = read_events(write(tmp_path / "log.jsonl", "\n".join(map(json.dumps, rows))))
    assert log.events.collect().sort("row")["value"].to_list() == [None if n % 3 else float(n) for n in range(N)] and log.bad_rows == 0
    rows[1] |= {"price": float("inf")}
    assert read_events(write(tmp_path / "log.jsonl", "\n".join(map(json.dumps, rows))), max_bad=0.1).rejects["line"].to_list() == [2]
