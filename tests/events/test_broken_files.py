"""Files that are not quite what they should be: stray quotes, odd line ends and encodings, several files, late formats."""

import lzma
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from event_files import GOOD, HEADER, T0, lines, refused, write

from qurate.events.readers import read_events
from qurate.events.validate import validate

TITLED = "user_id,item_id,type,timestamp,title\n"


def titled(*titles: str) -> str:
    return TITLED + "".join(f"u{i},i{i},click,{T0 + i},{title}\n" for i, title in enumerate(titles))


def test_a_stray_quote_costs_its_row_and_no_quoted_line_break(tmp_path: Path) -> None:
    text = titled(*['"two\r\n""lines"", x"'] * 10, '"open', *['"two\nlines"'] * 10, "plain")
    log = read_events(write(tmp_path / "log.csv", text), max_bad=1.0)
    assert log.rejects.drop("code").rows() == [(22, "unbalanced quotes", f'u10,i10,click,{T0 + 10},"open')]
    assert log.events.collect()["user_id"].to_list() == [f"u{i}" for i in range(22) if i != 10]
    assert log.events.collect()["row"].to_list()[:3] == [2, 4, 6]
    assert log.notes


def test_rejects_of_a_broken_file_show_the_whole_record(tmp_path: Path) -> None:
    text = titled('"open', '"a\nb"') + 'u5,i5,click,never,"c\nd"\n'
    log = read_events(write(tmp_path / "log.csv", text), max_bad=1.0)
    assert log.rejects.select("line", "raw").rows()[1] == (5, 'u5,i5,click,never,"c\nd"')


def test_a_quote_that_stays_open_is_given_up_after_100_lines(tmp_path: Path) -> None:
    for count, kept in ((100, 1), (101, 0)):
        log = read_events(write(tmp_path / "log.csv", titled('"open', "x", '"' + "line\n" * count + 'end"')), max_bad=1.0)
        assert log.events.filter(pl.col("user_id") == "u2").collect().height == kept
        assert log.events.filter(pl.col("user_id") == "u1").collect().height == 1


def test_two_stray_quotes_do_not_swallow_what_stands_between(tmp_path: Path) -> None:
    for stray in ('"u,i,click,{},x', 'u,i,click,{},TV 42" black', 'u,i,click,{},TV 42"'):
        rows = titled('"x"', *["x"] * 299).splitlines()
        rows[100], rows[150] = stray.format(T0), stray.format(T0 + 1)
        log = read_events(write(tmp_path / "log.csv", "\n".join(rows)))
        assert log.rejects["line"].to_list() == [101, 151]
        assert log.events.collect().height == 298


def test_an_inch_mark_in_every_row_is_named(tmp_path: Path) -> None:
    error = refused(write(tmp_path / "log.csv", titled(*['TV 42" black'] * 50).replace("title", '"title"')))
    assert "unbalanced quotes in 50 of 50 (first in line 2)" in str(error) and "empty column" not in str(error)


def test_a_carriage_return_inside_a_row_is_an_unreadable_row(tmp_path: Path) -> None:
    log = read_events(write(tmp_path / "log.csv", titled('"open', "a\rb", *["x"] * 9)), max_bad=1.0)
    assert log.rejects.select("line", "reason").rows() == [(2, "unbalanced quotes"), (3, "a carriage return within a field")]
    assert next(check["count"] for check in validate(log)["checks"] if check["name"] == "readable rows") == 2


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl"])
def test_what_is_no_text_is_named(tmp_path: Path, name: str) -> None:
    text = lines(GOOD[:5])
    assert "decompress it" in str(refused(write(tmp_path / name, lzma.compress(text.encode()))))
    for encoding in ("utf-16", "utf-16-le", "utf-16-be"):
        path = write(tmp_path / name, text.encode(encoding))
        assert "got UTF-16" in refused(path).typed and f"--encoding {encoding}" in refused(path).typed
    assert r"expected line ends \n or \r\n" in str(refused(write(tmp_path / name, text.replace("\n", "\r"))))


def test_a_compressed_file_is_not_to_be_renamed(tmp_path: Path) -> None:
    error = refused(write(tmp_path / "log.csv.xz", lzma.compress(lines(GOOD).encode())))
    assert "decompress it" in str(error) and "rename" not in str(error)


def test_a_header_broken_by_a_carriage_return(tmp_path: Path) -> None:
    error = refused(write(tmp_path / "log.csv", HEADER.replace("type,", "type\r,") + "u,i,click,1700000000,1\n"))
    assert r"line ends \n or \r\n" in str(error)


@pytest.mark.parametrize("head", ["\n", "\r\n\r\n", "sep=,\n", "\ufeffsep=,\r\n", "\nSEP=,\n"])
@pytest.mark.parametrize("damage", [False, True])
def test_lines_before_the_header_are_skipped_and_counted(tmp_path: Path, head: str, damage: bool) -> None:
    rows = lines(GOOD[:20]).splitlines()
    rows[5] = "u1,i1,click,never,1"
    rows += ['u1,"i1,click,1700000000,1'] * damage
    log = read_events(write(tmp_path / "log.csv", head + "\n".join(rows) + "\n"), max_bad=1.0)
    assert log.events.collect().height == 19
    before = head.count("\n")
    assert log.rejects["line"].to_list() == [before + 6, before + 22][: 1 + damage]
    assert log.rejects["raw"][0] == rows[5]


def test_excel_says_the_separator(tmp_path: Path) -> None:
    log = read_events(write(tmp_path / "log.csv", "sep=;\n" + lines(GOOD[:9]).replace(",", ";")))
    assert log.events.collect().height == 9


def test_a_header_may_hold_a_line_break(tmp_path: Path) -> None:
    text = titled("x", "y").replace(",title", ',"the\ntitle"')
    assert read_events(write(tmp_path / "log.csv", text)).events.collect()["user_id"].to_list() == ["u0", "u1"]
    assert read_events(write(tmp_path / "log.csv", text + "u9,i,click,never,z\n"), max_bad=1.0).rejects["line"].to_list() == [5]


def test_a_time_format_that_comes_late_is_read(tmp_path: Path) -> None:
    early = [f"u{i % 7},i{i},click,2023-01-01 10:{i % 60:02}" for i in range(10_500)]
    late = ["u1,i,click,2023-02-01T10:00:00+01:00", "u2,i,click,02/01/2023 09:00:01 AM", "u3,i,click,tomorrow"]
    path = write(tmp_path / "log.csv", "\n".join(["user_id,item_id,type,timestamp", *early, *late]))
    log = read_events(path)
    assert log.rejects.select("line", "reason").rows() == [(10_504, "unreadable timestamp")]
    last = log.events.filter(pl.col("row") > 10_501).collect()["timestamp"].to_list()
    assert last == [datetime(2023, 2, 1, 9, 0, 0, tzinfo=UTC), datetime(2023, 2, 1, 9, 0, 1, tzinfo=UTC)]


def test_validate_and_ingest_agree_on_the_future(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    rows = [*GOOD[:300], *({**GOOD[i], "timestamp": int((now + timedelta(days=i - 299)).timestamp())} for i in range(299, 303))]
    log = read_events(write(tmp_path / "log.csv", lines(rows)))
    assert log.rejects.select("line", "reason").rows() == [(304, "timestamp in the future"), (305, "timestamp in the future")]
    checks = {check["name"]: check for check in validate(log)["checks"]}
    assert (checks["no future"]["count"], checks["no future"]["rows"], checks["no future"]["ok"]) == (2, [304, 305], True)
    assert checks["timestamps"]["count"] == 0
    rows += [{**row, "user_id": f"v{i}"} for i, row in enumerate(rows[-2:])]
    assert "timestamp in the future" in str(refused(write(tmp_path / "log.csv", lines(rows))))
    assert not validate(read_events(tmp_path / "log.csv", max_bad=1.0))["ok"]


def test_a_file_of_another_layout_is_refused_by_name_and_left_out_of_a_directory(tmp_path: Path) -> None:
    one = write(tmp_path / "a.csv", lines(GOOD))
    other = write(tmp_path / "b.csv", f"userId,movieId,rating,timestamp\n1,2,3,{T0}\n")
    error = refused([one, other])
    assert "b.csv" in str(error) and "movielens" in str(error) and "qurate" in str(error)
    log = read_events(tmp_path)
    assert log.events.collect().height == 400
    assert log.notes == ["not read as events: b.csv"]


def test_a_part_without_a_header_is_left_out_by_name_and_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user_id,item_id,type,timestamp\nu,a,click,1600000000\nv,b,click,1600000100\n")
    (tmp_path / "b.csv").write_text("u,c,click,1600000200\nv,a,click,1600000300\n")
    log = read_events(tmp_path)
    assert log.rows == 2
    assert log.notes == ["not read as events: b.csv (its first line holds values: write the names of the columns above them)"]


def test_map_in_a_directory_leaves_out_files_without_those_columns(tmp_path: Path) -> None:
    names = {"user_id": "who", "item_id": "what", "timestamp": "when"}
    write(tmp_path / "things.csv", "what,price\na,1\n")
    log_path = write(tmp_path / "log.csv", f"who,what,when\nu,a,{T0}\n")
    log = read_events(tmp_path, map=names)
    assert log.events.collect().height == 1 and log.notes == ["not read as events: things.csv"]
    assert "things.csv" in str(refused([log_path, tmp_path / "things.csv"], map=names))
    assert "did you mean who?" in str(refused(tmp_path, map={**names, "user_id": "hwo"}))
    assert "did you mean user_id?" in str(refused(tmp_path, map={"user": "who", **names}))


@pytest.mark.parametrize("max_bad", ["1%", "0.01", None, float("nan"), -1])
def test_a_limit_that_is_no_share_is_refused(tmp_path: Path, max_bad: object) -> None:
    assert "a share from 0 to 1" in str(refused(write(tmp_path / "log.csv", lines(GOOD)), max_bad=max_bad))
