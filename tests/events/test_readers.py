"""Reading: the same log from every format, bad rows with line and reason, and one readable error per user's mistake."""

import gzip
import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from event_files import GOOD, HEADER, T0, lines, refused, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qurate.errors import UserError
from qurate.events.readers import read_events
from qurate.events.reasons import Reason
from qurate.events.schema import EVENT_COLUMNS
from qurate.events.side_tables import read_features


def test_every_format_gives_the_same_log(tmp_path: Path) -> None:
    table = pl.DataFrame(GOOD)
    table.write_csv(tmp_path / "a.csv")
    table.write_csv(tmp_path / "b.tsv", separator="\t")
    table.write_ndjson(tmp_path / "c.jsonl")
    table.write_ndjson(tmp_path / "d.ndjson")
    table.write_parquet(tmp_path / "e.parquet")
    read = [read_events(tmp_path / name).events.drop("row").collect() for name in ("a.csv", "b.tsv", "c.jsonl", "d.ndjson", "e.parquet")]
    assert dict(read[0].schema) == {name: dtype for name, dtype in EVENT_COLUMNS.items() if name != "row"}
    assert read[0].height == 400
    assert read[0]["timestamp"][3] == datetime.fromtimestamp(T0 + 3, UTC)
    for other in read[1:]:
        assert other.equals(read[0])


def test_rows_are_lines_of_the_file(tmp_path: Path) -> None:
    csv = read_events(write(tmp_path / "a.csv", lines(GOOD[:3]))).events.collect()
    assert csv["row"].to_list() == [2, 3, 4]
    text = "".join(json.dumps(row) + "\n" for row in GOOD[:3])
    assert read_events(write(tmp_path / "a.jsonl", text)).events.collect()["row"].to_list() == [1, 2, 3]


def test_bad_rows_are_set_aside_with_line_reason_and_text(tmp_path: Path) -> None:
    bad = {
        10: (",i1,click,1700000000,1", "missing user_id"),
        20: ("u1,i1,click,yesterday,1", "unreadable timestamp"),
        30: ("u1,i1,click,17,1", "timestamp in 1970"),
        40: ("u1,i1,click,1700000000000,1", "timestamp after 2199"),
        50: ("u1,i1,click,1700000000,much", "value is not a number"),
        60: ("u1,i1,click,1700000000,NaN", "value is NaN or infinite"),
        70: ("u1,i1,click,1700000000,-inf", "value is NaN or infinite"),
        75: ("u1,i1,click,1700000000,-1e39", "value is beyond float32"),
        80: ("u1,i1,click,1700000000,1,surplus", "more fields than the header"),
        90: ("u1,i1", "missing type"),
        95: ("u1,i1,click", "missing timestamp"),
    }
    text = lines(GOOD).splitlines()
    for line, (raw, _) in bad.items():
        text[line - 1] = raw
    log = read_events(write(tmp_path / "log.csv", "\n".join(text)), max_bad=0.05)
    assert log.rejects["line"].to_list() == list(bad)
    assert log.rejects["raw"].to_list() == [raw for raw, _ in bad.values()]
    for got, (_, expected) in zip(log.rejects["reason"], bad.values()):
        assert got.startswith(expected)
    kept = log.events.collect()
    assert kept.height == 400 - len(bad)
    assert not set(kept["row"]) & set(bad)
    assert log.bad_rows == len(bad)
    assert log.rows == 400


def test_one_per_cent_is_the_limit(tmp_path: Path) -> None:
    rows = lines(GOOD).splitlines()
    for line in (100, 200, 300, 400):
        rows[line] = ",i,click,1700000000,1"
    assert read_events(write(tmp_path / "just.csv", "\n".join(rows))).bad_rows == 4
    rows[350] = ",i,click,1700000000,1"
    error = refused(write(tmp_path / "over.csv", "\n".join(rows)))
    assert error.code == "too_many_bad_rows"
    assert "5 of 400" in str(error)
    assert "missing user_id" in str(error)
    assert "line 101" in str(error)
    assert "--max-bad" in error.typed


def test_bom_blank_lines_crlf_and_spaces_in_the_header(tmp_path: Path) -> None:
    text = b"\xef\xbb\xbfuser_id, item_id ,type,timestamp\r\nu1,i1,click,1700000000\r\n\r\nu2,i2,click,1700000001\r\n"
    log = read_events(write(tmp_path / "log.csv", text), max_bad=1.0)
    kept = log.events.collect()
    assert kept["user_id"].to_list() == ["u1", "u2"]
    assert kept["item_id"].to_list() == ["i1", "i2"]
    assert log.rejects.height == 0
    assert log.notes == ["log.csv begins with a byte order mark, which is not read"]


def test_quotes_and_separators_inside_fields(tmp_path: Path) -> None:
    text = 'user_id,item_id,type,timestamp\nu1,"a,b",click,1700000000\nu2,"say ""hi""",click,1700000001\n'
    kept = read_events(write(tmp_path / "log.csv", text)).events.collect()
    assert kept["item_id"].to_list() == ["a,b", 'say "hi"']


def test_an_unclosed_quote_costs_one_row(tmp_path: Path) -> None:
    rows = lines(GOOD).splitlines()
    rows[200] = 'u1,"i1,click,1700000000,1'
    log = read_events(write(tmp_path / "log.csv", "\n".join(rows)))
    assert log.rejects.drop("code").rows() == [(201, "unbalanced quotes", 'u1,"i1,click,1700000000,1')]
    assert log.events.collect().height == 399
    assert any("line by line" in note for note in log.notes)


def test_broken_json_lines_are_bad_rows(tmp_path: Path) -> None:
    rows = [json.dumps(row) for row in GOOD]
    rows[10], rows[20], rows[30] = "{not json", "[1, 2]", rows[30].replace("30.0", "Infinity")
    rows[40] = rows[40].replace('"u5"', "5")  # a number where others have text is an id like any other
    log = read_events(write(tmp_path / "log.jsonl", "\n".join(rows)))
    assert log.rejects["line"].to_list() == [11, 21, 31]
    assert set(log.rejects["reason"]) == {"not a JSON object"}
    assert log.events.filter(pl.col("row") == 41).collect()["user_id"].to_list() == ["5"]


def test_json_null_and_absent_are_the_same(tmp_path: Path) -> None:
    text = '{"user_id":"a","item_id":null,"type":"search","timestamp":1700000000}\n{"user_id":"b","type":"search","timestamp":1700000000}\n'
    kept = read_events(write(tmp_path / "log.jsonl", text)).events.collect()
    assert kept["item_id"].to_list() == [None, None]


def test_duplicates_are_dropped_once_and_reported(tmp_path: Path) -> None:
    rows = [*GOOD[:50], GOOD[10], GOOD[10], GOOD[20]]
    log = read_events(write(tmp_path / "log.csv", lines(rows)))
    assert log.events.collect().height == 50
    assert log.rejects["line"].to_list() == [52, 53, 54]
    assert set(log.rejects["reason"]) == {Reason.DUPLICATE.text}
    assert log.bad_rows == 0
    assert "3 duplicate rows dropped" in log.notes


def test_event_id_counts_once(tmp_path: Path) -> None:
    text = "event_id,user_id,item_id,type,timestamp\n"
    text += "e1,u,i,click,1700000000\ne1,u,i,click,1700000009\n,u,i,click,1700000001\n,u,i,click,1700000002\n"
    kept = read_events(write(tmp_path / "log.csv", text)).events.collect()
    assert kept["row"].to_list() == [2, 4, 5]


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        ([T0, T0 + 1], "s"),
        ([T0 * 1000, T0 * 1000 + 1000], "ms"),
        ([T0 * 10**6, (T0 + 1) * 10**6], "us"),
        ([T0 * 10**9, (T0 + 1) * 10**9], "ns"),
        ([float(T0), float(T0 + 1)], "s"),
        (["2023-11-14T22:13:20Z", "2023-11-14T23:13:21+01:00"], "text"),
        (["2023-11-14 22:13:20", "2023-11-14 22:13:21.000 UTC"], "text"),
        (["11/14/2023 10:13:20 PM", "11/14/2023 10:13:21 PM"], "text"),
        ([datetime(2023, 11, 14, 22, 13, 20), datetime(2023, 11, 14, 22, 13, 21)], "datetime"),
    ],
)
def test_units_of_time_are_detected(tmp_path: Path, values: list[object], unit: str) -> None:
    table = pl.DataFrame({"user_id": ["a", "b"], "item_id": ["x", "y"], "timestamp": values})
    table.write_parquet(tmp_path / "log.parquet")
    expected = [datetime.fromtimestamp(T0 + i, UTC) for i in range(2)]
    log = read_events(tmp_path / "log.parquet")
    assert log.time_unit == unit
    assert log.events.collect()["timestamp"].to_list() == expected
    if unit != "datetime":
        table.write_csv(tmp_path / "log.csv")
        assert read_events(tmp_path / "log.csv").events.collect()["timestamp"].to_list() == expected


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(10**15 // 5, 175 * 10**13))
def test_microseconds_survive_exactly(tmp_path: Path, micros: int) -> None:
    pl.DataFrame({"user_id": ["a"], "item_id": ["x"], "timestamp": [micros]}).write_csv(tmp_path / "log.csv")
    assert read_events(tmp_path / "log.csv").events.select(pl.col("timestamp").cast(pl.Int64)).collect().item() == micros


def test_times_that_are_none(tmp_path: Path) -> None:
    zero = refused(write(tmp_path / "a.csv", HEADER + "u,i,click,0,\nu,i,click,17,\n"))
    assert zero.code == "bad_time"
    assert "1970" in str(zero)
    words = refused(write(tmp_path / "b.csv", HEADER + "u,i,click,monday,\n"))
    assert words.code == "bad_time"
    assert "monday" in str(words)
    assert refused(write(tmp_path / "c.csv", HEADER + "u,i,click,,\n")).code == "bad_time"


def test_map_names_the_columns_of_any_log(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", "who,what,when,how,item_id\nu1,i1,1700000000,view,ignored\n")
    log = read_events(path, map={"user_id": "who", "item_id": "what", "timestamp": "when", "type": "how"})
    assert log.layout == "qurate"
    assert log.events.select("user_id", "item_id", "type").collect().rows() == [("u1", "i1", "view")]


def test_map_mistakes_name_the_nearest(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", "who,what,when\nu1,i1,1700000000\n")
    unknown_target = refused(path, map={"user": "who"})
    assert "did you mean user_id?" in str(unknown_target)
    unknown_source = refused(path, map={"user_id": "hwo"})
    assert "did you mean who?" in str(unknown_source)
    assert refused(path, layout="trivgo").code == "unknown_layout"
    assert "did you mean trivago?" in str(refused(path, layout="trivgo"))
    lacking = refused(path)
    assert lacking.code == "unknown_columns"
    assert "who, what, when" in str(lacking)
    assert "--map" in lacking.typed
    assert "nearest is" not in str(refused(write(tmp_path / "time.csv", "who,what,time\nu1,i1,1700000000\n")))
    assert "nearest is movielens, which lacks rating, timestamp" in str(
        refused(write(tmp_path / "ml.csv", "userId,movieId,moment\n1,2,3\n"))
    )
    twice = refused(path, map={"user_id": "who", "item_id": "who", "timestamp": "when"})
    assert "got who twice" in str(twice) and "--map" in twice.typed


def test_paths_that_are_no_log(tmp_path: Path) -> None:
    assert refused(tmp_path / "absent.csv").code == "not_found"
    assert refused(write(tmp_path / "empty.csv", "")).code == "empty_file"
    for header in (HEADER, HEADER.strip(), "userID,artistID,weight\n", HEADER + "\n\n"):
        empty = refused(write(tmp_path / "header.csv", header))
        assert empty.code == "empty_file" and "a file with a header only" in str(empty) and "--map" not in empty.typed
    assert refused(write(tmp_path / "log.xlsx", "PK")).code == "bad_extension"
    (tmp_path / "folder").mkdir()
    assert refused(tmp_path / "folder").code == "empty_directory"
    assert refused(write(tmp_path / "fake.parquet", "not parquet")).code == "unreadable_file"
    assert refused(write(tmp_path / "fake.jsonl", "user,item\n1,2\n")).code == "unreadable_file"
    assert refused(write(tmp_path / "binary.csv", bytes(range(256)) * 20)).code in ("unknown_columns", "unreadable_file")
    assert refused([]).code == "not_found"
    assert refused(None).code == "bad_path"
    assert refused(write(tmp_path / "ok.csv", lines(GOOD)), max_bad=2.0).code == "bad_option"


def test_truncated_parquet(tmp_path: Path) -> None:
    pl.DataFrame(GOOD).write_parquet(tmp_path / "log.parquet")
    whole = (tmp_path / "log.parquet").read_bytes()
    assert refused(write(tmp_path / "cut.parquet", whole[: len(whole) // 2])).code == "unreadable_file"
    broken = bytearray(whole)
    broken[40:60] = b"\xff" * 20
    assert refused(write(tmp_path / "flipped.parquet", bytes(broken))).code == "unreadable_file"


def test_a_directory_of_parts_is_one_log(tmp_path: Path) -> None:
    part = tmp_path / "parts"
    part.mkdir()
    write(part / "p1.csv", lines(GOOD[:100]))
    write(part / "p2.csv", lines([*GOOD[100:200], GOOD[0]]).replace("u6,i1,click", ",i1,click", 1))
    pl.DataFrame(GOOD[200:]).write_parquet(part / "p3.parquet")
    write(part / "readme.txt", "no log")
    log = read_events(part)
    events = log.events.collect()
    assert events.height == 399
    assert events["row"].n_unique() == 399
    assert sorted(log.rejects["reason"]) == ["p2.csv: " + Reason.DUPLICATE.text, "p2.csv: missing user_id"]
    assert log.rejects.filter(pl.col("reason").str.contains("missing"))["raw"][0].startswith(",i1,click")
    several = read_events([part / "p1.csv", part / "p3.parquet"])
    assert several.events.collect().height == 300
    assert len(several.source) == 2


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet=st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=200))
def test_any_text_is_read_or_refused(tmp_path: Path, text: str) -> None:
    for name in ("log.csv", "log.tsv", "log.jsonl"):
        path = write(tmp_path / name, HEADER + text)
        try:
            log = read_events(path, max_bad=1.0)
        except UserError:
            continue
        assert log.events.collect().height + log.rejects.height == log.rows


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 399), min_size=1, max_size=3), st.binary(min_size=0, max_size=12))
def test_damage_to_some_rows_costs_at_most_those_rows_and_their_neighbours(tmp_path: Path, where: list[int], junk: bytes) -> None:
    rows = lines(GOOD).encode().splitlines()
    for row in where:
        rows[row + 1] = rows[row + 1][:6] + junk.replace(b"\n", b"").replace(b"\r", b"") + rows[row + 1][6:]
    log = read_events(write(tmp_path / "log.csv", b"\n".join(rows) + b"\n"), max_bad=1.0)
    assert log.events.collect().height >= 400 - 2 * len(where)


def test_lines_are_right_after_quoted_line_breaks_and_blank_lines(tmp_path: Path) -> None:
    text = HEADER + 'u1,"a\nb",click,1700000000,1\n\nu2,"c",click,never,1\n'
    log = read_events(write(tmp_path / "log.csv", text), max_bad=1.0)
    assert log.rejects.drop("code").rows() == [(5, "unreadable timestamp", 'u2,"c",click,never,1')]
    rows = [json.dumps(GOOD[0]), "", json.dumps({**GOOD[1], "user_id": None})]
    log = read_events(write(tmp_path / "log.jsonl", "\n".join(rows)), max_bad=1.0)
    assert log.rejects.drop("code").rows() == [(3, "missing user_id", rows[2])]


def test_semicolons_separate_where_the_header_has_them(tmp_path: Path) -> None:
    text = lines(GOOD[:20]).replace(",", ";")
    assert read_events(write(tmp_path / "log.csv", text)).events.collect().height == 20
    broken = text.replace("u3;", 'u3";', 1)
    log = read_events(write(tmp_path / "broken.csv", broken), max_bad=1.0)
    assert log.rejects["line"].to_list() == [5]


def test_a_json_field_that_comes_late_is_kept(tmp_path: Path) -> None:
    rows = [{key: value for key, value in GOOD[0].items() if key != "value"} | {"timestamp": T0 + i} for i in range(5_000)]
    for row in rows[3_000:]:
        row["value"] = 2.5
    log = read_events(write(tmp_path / "log.jsonl", "\n".join(json.dumps(row) for row in rows)))
    assert log.events.collect()["value"].sum() == 5_000.0


@pytest.mark.parametrize("name", ["log.csv", "log.tsv", "log.jsonl"])
def test_hostile_lines_cost_themselves_only(tmp_path: Path, name: str) -> None:
    good = [json.dumps(row) for row in GOOD] if name.endswith("jsonl") else lines(GOOD).splitlines()[1:]
    hostile = [
        "[" * 100_000,
        "x" * 300_000,
        "\x00\x01\x02",
        '{"user_id":' * 5_000,
        "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
    ]
    body = "\n".join([*good[:200], *hostile, *good[200:]])
    head = "" if name.endswith("jsonl") else HEADER
    text = (head + body).replace(",", "\t") if name.endswith("tsv") else head + body
    log = read_events(write(tmp_path / name, text), max_bad=0.02)
    assert log.events.collect().height == 400
    assert log.bad_rows == len(hostile)


def test_columns_of_the_same_name_do_not_stop_the_reader(tmp_path: Path) -> None:
    text = "user_id,item_id,type,timestamp,item_id,\nu,a,click,1700000000,b,\n"
    assert read_events(write(tmp_path / "log.csv", text)).events.collect()["item_id"].to_list() == ["a"]


def test_features_given_beside_or_by_path(tmp_path: Path) -> None:
    (tmp_path / "films.csv").write_text("movieId,genres,available_from\n1,Drama|War,2020-01-01\n")
    table = read_features(tmp_path / "films.csv", "item_id").collect()
    assert table.to_dicts() == [{"item_id": "1", "genres": ["Drama", "War"], "available_from": datetime(2020, 1, 1, tzinfo=UTC)}]
    with pytest.raises(UserError, match="a column user_id"):
        read_features(tmp_path / "films.csv", "user_id")
    write(tmp_path / "films.csv", "movieId,available_from\n1,2020-01-01\n2,soon\n")
    with pytest.raises(UserError, match=r"got 'soon', at .*films.csv, column available_from"):
        read_features(tmp_path / "films.csv", "item_id")
    write(tmp_path / "rooms.csv", "item_id,available_since,end_timestamp\n1,2020-01-01,1577836800\n2,,\n3,2020-01-02,1577836800\n")
    with pytest.raises(UserError, match=r"2020-01-01T00:00:00\+00:00 before 2020-01-02T.* for item '3', at .*rooms.csv, line 4"):
        read_features(tmp_path / "rooms.csv", "item_id")
    write(tmp_path / "rooms.csv", "item_id,available_since,end_timestamp\n1,2020-01-01,1577836800\n2,,\n")
    new_year = datetime(2020, 1, 1, tzinfo=UTC)
    rows = [("1", new_year, new_year), ("2", None, None)]
    table = read_features(tmp_path / "rooms.csv", "item_id").collect()
    assert table.columns == ["item_id", "available_from", "available_until"] and table.rows() == rows
    write(tmp_path / "films.csv", b"movieId,length\ncaf\xe9,1\ncaf\xe8,2\n")
    with pytest.raises(UserError, match="ids in UTF-8"):
        read_features(tmp_path / "films.csv", "item_id")
    with pytest.raises(UserError, match="existing file"):
        read_features(tmp_path / "none.csv", "item_id")


def test_a_column_named_row_and_nested_columns(tmp_path: Path) -> None:
    table = pl.DataFrame([{**GOOD[0], "row": 9, "props": {"a": 1, "b": [1, 2]}}, {**GOOD[1], "row": 8, "props": {"a": 1, "b": []}}])
    table.write_parquet(tmp_path / "log.parquet")
    log = read_events(tmp_path / "log.parquet").events.collect()
    assert log["row"].to_list() == [1, 2]
    assert log["props"].to_list() == ['{"a":1,"b":[1,2]}', '{"a":1,"b":[]}']
    table.drop("props").write_csv(tmp_path / "log.csv")
    assert read_events(tmp_path / "log.csv").events.collect()["row"].to_list() == [2, 3]
    table.write_ndjson(tmp_path / "log.jsonl")
    lines = read_events(tmp_path / "log.jsonl").events.collect()
    assert lines["row"].to_list() == [1, 2]
    assert [json.loads(text) for text in lines["props"]] == [{"a": 1, "b": [1, 2]}, {"a": 1, "b": []}]
    table.with_columns(pl.col("props").alias("item_id")).write_parquet(tmp_path / "nested.parquet")
    with pytest.raises(UserError, match=r"ids in item_id, got objects of a, b, at .*nested\.parquet"):
        read_events(tmp_path / "nested.parquet")
    table.with_columns(pl.Series("props", [1, 2])).write_parquet(tmp_path / "other.parquet")
    assert read_events(tmp_path / "other.parquet").events.collect()["props"].to_list() == [None, None]  # a column of the shop's own


def test_order_stands_for_time_whatever_rows_are_bad(tmp_path: Path) -> None:
    text = "userID,artistID,weight\n1,a,3\n,b,4\n1,c,5\n"
    log = read_events(write(tmp_path / "plays.csv", text), max_bad=1.0)
    seconds = log.events.select(pl.col("timestamp").dt.second()).collect().to_series().to_list()
    assert seconds == [0, 2]
    assert log.rejects["line"].to_list() == [3]


@pytest.mark.parametrize("packed", ["log.csv.gz", "log.zip"])
def test_a_plan_unpacks_only_the_head_and_ingest_all(packed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qurate.events.containers.HEAD_PACKED", 2_000)
    text = "user_id,item_id,type,timestamp\n" + "".join(f"u{i % 7},i{i % 9},click,{1_717_200_000 + i}\n" for i in range(500))
    path = tmp_path / packed
    if packed.endswith("gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("log.csv", text)
    planned = read_events(path, rows=10_000)
    assert not planned.whole and 0 < planned.rows < 100 and planned.bad_rows == 0, "and what was cut is never taken for the log"
    assert read_events(path).rows == 500 and read_events(path).whole
