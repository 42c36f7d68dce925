"""More logs in the forms of public data sets and exports: each with its events written down first, or refused with what helps."""

import io
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from event_files import refused, write
from test_public_logs import T0, at, records, table

from qurate.events.readers import read_events

N = 60
R = range(N)
Event = tuple[str, str, str, float | None, float | None]


def u(i: int) -> str:
    return f"u{i % 6}"


def p(i: int) -> str:
    return f"p{i % 7}"


def t(i: int) -> int:
    return T0 + 900 * i


def view(value: Callable[[int], float | None] = lambda i: None, time: Callable[[int], float] = t, kind: str = "view") -> list[Event]:
    return [(u(i), p(i), kind, time(i), value(i)) for i in R]


def typed(column: str, cell: Callable[[int], object], kind: str = "purchase", sign: str = ",") -> str:
    quote = '"' if sign == "," else ""
    return table(sign.join(["user_id", "item_id", "type", column, "timestamp"]),
                 lambda i: sign.join([u(i), p(i), kind, f"{quote}{cell(i)}{quote}", str(t(i))]))  # fmt: skip


def timed(cell: Callable[[int], str], sign: str = ",") -> str:
    return table(sign.join(["user_id", "item_id", "type", "timestamp"]), lambda i: sign.join([u(i), p(i), "view", cell(i)]))


def day(i: int) -> date:
    return date(2024, 5, 20) + timedelta(days=i)


def midnight(i: int) -> float:
    return (day(i) - date(1970, 1, 1)).days * 86_400.0


def hour(i: int) -> float:
    return 1_413_849_600.0 + 3600 * (i % 24)


def amazon(i: int) -> dict[str, Any]:
    about = {"asin": p(i), "parent_asin": f"P{i}", "user_id": u(i), "helpful_vote": 0, "images": [], "text": 'a "b"\n'}
    return {"rating": 1.0 + i % 5, "timestamp": 1000 * t(i) + 923, **about, "verified_purchase": True}


def shown(cell: str, header: str = "user_id,item_id,clicked,timestamp") -> str:
    return table(header, lambda i: f"{u(i)},{p(i)},{cell.split('/')[i % 4 > 0]},{t(i)}")


NULLS = table("user_id\titem_id\ttype\tvalue\ttimestamp", lambda i: f"{u(i)}\t{p(i)}\tview\t{i if i % 3 else chr(92) + 'N'}\t{t(i)}")
RATED = view(lambda i: None if i % 3 == 0 else 1.0 + i % 5, kind="rating")
READ: list[tuple[str, str, str, dict[str, Any], list[Event]]] = [
    # name of the file, what it holds, how it is read, and the events: user, item, type, seconds, value
    ("thousands", "log.csv", typed("value", lambda i: f"{1000 + 50 * i:,}"), {}, view(lambda i: 1000.0 + 50 * i, kind="purchase")),
    ("some thousands", "log.csv", typed("value", lambda i: f"{50 * i:,}"), {}, view(lambda i: 50.0 * i, kind="purchase")),
    ("thousands and nulls", "log.csv", typed("value", lambda i: f"{1000 + i:,}" if i % 3 else "NULL"), {},
     view(lambda i: 1000.0 + i if i % 3 else None, kind="purchase")),
    ("more nulls than thousands", "log.csv", typed("value", lambda i: "NULL" if i % 3 else f"{1000 + i:,}"), {},
     view(lambda i: None if i % 3 else 1000.0 + i, kind="purchase")),
    ("lakhs", "log.csv", typed("value", lambda i: f"₹1,{10 + i},000"), {}, view(lambda i: 110_000.0 + 1000 * i, kind="purchase")),
    ("rupiah", "log.csv", typed("value", lambda i: f"Rp {15 + i}.000"), {}, view(lambda i: 15_000.0 + 1000 * i, kind="purchase")),
    ("euros", "log.csv", typed("value", lambda i: f"1.{200 + i},50 €", sign=";"), {}, view(lambda i: 1200.5 + i, kind="purchase")),
    ("decimal comma", "log.tsv", typed("value", lambda i: f"{i},{10 + i}", sign="\t"), {},
     view(lambda i: float(f"{i}.{10 + i}"), kind="purchase")),
    ("three decimals", "log.csv", typed("value", lambda i: f"0,{100 + i}"), {}, view(lambda i: float(f"0.{100 + i}"), kind="purchase")),
    ("returns in parentheses", "log.csv", typed("value", lambda i: "($5.00)" if i % 10 == 0 else "$1,005.00"), {},
     [(u(i), p(i), *(("purchase", t(i), 1005.0) if i % 10 else ("return", t(i), -5.0))) for i in R]),  # type: ignore[misc]
    ("a database's nulls", "log.tsv", NULLS, {}, view(lambda i: float(i) if i % 3 else None)),
    ("ratings that are not there", "log.csv", stars := table("user_id,item_id,rating,timestamp",
     lambda i: f"{u(i)},{p(i)},{'NULL' if i % 3 == 0 else 1 + i % 5},{t(i)}"), {}, RATED),
    ("a year of two digits first", "log.csv", timed(lambda i: f"{day(i):%y/%m/%d}"), {"time_form": "YY/M/D"}, view(time=midnight)),
    ("the same with a clock", "log.csv", timed(lambda i: f"{day(i):%y-%m-%d} 08:30"), {"time_form": "yy-mm-dd"},
     view(time=lambda i: midnight(i) + 30_600)),
    ("the day first", "log.csv", timed(lambda i: f"{day(i):%d.%m.%y}"), {}, view(time=midnight)),
    ("one day", "log.csv", timed(lambda i: at(i, "15.06.24 %H:%M")), {}, view(time=lambda i: t(i) + 14 * 86_400)),
    ("JavaScript", "log.csv", timed(lambda i: at(i + 8, "%a %b %d %Y %H:%M:%S GMT+0200 (Central European Summer Time)")), {}, view()),
    ("Avazu's hours", "log.csv", table("user_id,item_id,type,hour", lambda i: f"{u(i)},{p(i)},view,{14102100 + i % 24}"),
     {"map": {"timestamp": "hour"}, "time_form": "%y%m%d%H"}, view(time=hour)),
    ("Amazon 2023", "All_Beauty.jsonl", records(amazon), {}, view(lambda i: 1.0 + i % 5, lambda i: t(i) + 0.923, "rating")),
    ("Ali-CCP", "log.csv", table("user_id,item_id,click,purchase,timestamp", lambda i: f"{u(i)},{p(i)},{int(i % 3 == 0)},0,{t(i)}"), {},
     [one for i, one in enumerate(view(kind="click")) if i % 3 == 0]),
    ("Diginetica", "train-item-views.csv", table("sessionId;userId;itemId;timeframe;eventdate",
     lambda i: f"s{i // 4};{'NA' if i % 5 else u(i)};{p(i)};{526309 + i};{day(i // 4)}"), {},
     [(f"s{i // 4}" if i % 5 else u(i), p(i), "click", midnight(i // 4), None) for i in R]),
    ("trailing separators", "log.csv", timed(lambda i: f"{t(i)},").replace("p\n", "p,\n").replace("\n", "\r\n"), {}, view()),
    ("rows of separators at the end", "log.csv", timed(lambda i: str(t(i))) + ",,,\n,,,\n\n", {}, view()),
    ("scientific", "log.csv", timed(lambda i: f"{t(i):.9e}"), {}, view()),
    ("ids beyond 2^64", "log.jsonl", records(lambda i: {"user_id": 2**64 + i % 6, "item_id": 2**53 + 1 + i % 7, "type": "view",
     "timestamp": t(i)}), {}, [(str(2**64 + i % 6), str(2**53 + 1 + i % 7), "view", t(i), None) for i in R]),
    ("psql", "log.txt", " user_id | item_id | type | timestamp\n---------+---------+------+------\n"
     + table("", lambda i: f" {u(i)}      | {p(i)}      | view | {t(i)}") + "(60 rows)\n", {"max_bad": 0.04}, view()),
]  # fmt: skip


def found(path: Path, **options: Any) -> list[Event]:
    columns = ("user_id", "item_id", "type", "timestamp", "value")
    return [
        (a, b, c, d.timestamp(), None if e is None else round(e, 6))
        for a, b, c, d, e in read_events(path, **options).events.select(columns).collect().iter_rows()
    ]


@pytest.mark.parametrize("case", READ, ids=[case[0] for case in READ])
def test_every_event_is_read_as_it_was_written(case: tuple[str, str, str, dict[str, Any], list[Event]], tmp_path: Path) -> None:
    _, name, text, options, events = case
    assert found(write(tmp_path / name, text), **options) == events


def wide(i: int) -> str:
    return ",".join("" if (i + k) % 3 else str(1 + i * k % 5) for k in range(12))


REFUSED: list[tuple[str, str, str, str, str]] = [
    # name of the file, what it holds, what is wrong, what helps
    ("a year first or last", "log.csv", timed(lambda i: f"{day(i):%y/%m/%d}"), "'24/05/20', whose year may stand", "YY/M/D"),
    ("one day of such", "log.csv", timed(lambda i: "24/06/13"), "'24/06/13', whose year may stand first", "--time-form D/M/Y"),
    ("Avazu", "log.csv", timed(lambda i: str(14102100 + i % 24)), "January 1970 in any unit", "say --time-form %y%m%d%H if"),
    ("Tmall", "log.csv", timed(lambda i: f"08{10 + i // 3}").replace("timestamp", "time_stamp"), "column time_stamp", "--order time_stamp"),
    ("a wide table", "log.csv", table("user_id," + ",".join(f"movie_{k}" for k in range(12)), lambda i: f"{u(i)},{wide(i)}"),
     "a matrix with a column an item (movie_0, movie_1, movie_2, ...)", "unpivot"),
    ("Jester", "jester.csv", table("", lambda i: ",".join(["3", *("99" if (i + k) % 3 else f"{i * k % 10 - 5}.50" for k in range(10))])),
     "a matrix with a column an item", 'with_row_index("user_id")'),
    ("Criteo", "train.txt", table("", lambda i: "\t".join([str(i % 2), *(f"{i * k % 50}" for k in range(13)), *["68fd1e64"] * 26])),
     "it is no header", "name all 40 columns with --columns"),
    ("Alimama", "raw_sample.csv", table("user,time_stamp,adgroup_id,nonclk,clk", lambda i: f"{u(i)},{t(i)},{p(i)},{i % 2},{1 - i % 2}"),
     "a known layout", "--map user_id=user --map item_id=adgroup_id --map timestamp=time_stamp"),
    ("MovieLens 100K", "u.data", table("", lambda i: f"{196 + i % 6}\t{242 + i % 7}\t{1 + i % 5}\t{881250949 + i}"),
     "it is no header", "--columns user_id,item_id,rating,timestamp, or"),
    ("Ta Feng", "log.csv", table("TRANSACTION_DT,CUSTOMER_ID,PRODUCT_ID,AMOUNT", lambda i: f"11/{1 + i % 28}/2000,{u(i)},{p(i)},2"),
     "a known layout", "--map user_id=CUSTOMER_ID --map item_id=PRODUCT_ID --map timestamp=TRANSACTION_DT"),
    ("Firestore", "log.jsonl", records(lambda i: {"user_id": u(i), "item_id": p(i), "timestamp": {"_seconds": t(i), "_nanoseconds": 0}}),
     'times, got objects such as {"_seconds"', "--map timestamp=timestamp._seconds"),
    ("features of items", "log.csv", table(",".join(f"dim_{k}" for k in range(9)), lambda i: ",".join(f"0.{97 * i + k}" for k in range(9))),
     "a known layout", "say which column is which"),
    ("no user but a letter box", "log.csv", table("email,sku,created_at", lambda i: f"{u(i)}@x.org,{p(i)},{at(i)}"),
     "a known layout", "--map user_id=email --map item_id=sku --map timestamp=created_at"),
]  # fmt: skip


@pytest.mark.parametrize("case", REFUSED, ids=[case[0] for case in REFUSED])
def test_what_cannot_be_read_is_said_with_what_helps(case: tuple[str, str, str, str, str], tmp_path: Path) -> None:
    _, name, text, wrong, helps = case
    error = refused(write(tmp_path / name, text))
    assert wrong in str(error) and helps in error.typed, error.typed


NOTED: list[tuple[str, str, str]] = [
    ("points that may be thousands", typed("value", lambda i: f"{1 + i}.{100 + i}", sign=";"), "numbers such as 1.100 in value are read"),
    ("unseen signs", timed(lambda i: str(t(i))).replace("u0,", "u0\u200b,"), r"ids such as 'u0\u200b' in user_id hold signs that are not"),
    ("whole thousands", typed("value", lambda i: f"{1 + i},000"), "value is read as numbers, decimal point (1,000 is 1000)"),
]  # fmt: skip


@pytest.mark.parametrize("case", NOTED, ids=[case[0] for case in NOTED])
def test_what_may_be_otherwise_is_said(case: tuple[str, str, str], tmp_path: Path) -> None:
    _, text, note = case
    assert any(note in one for one in read_events(write(tmp_path / "log.csv", text)).notes)
    assert not any(
        word in one for one in read_events(write(tmp_path / "b.csv", timed(lambda i: str(t(i))))).notes for word in ("ids", "numbers")
    )


def test_floats_that_hold_too_few_digits_for_an_id_are_named(tmp_path: Path) -> None:
    for big, said in ((2.0**62, True), (2.0**52, False)):
        pl.DataFrame(
            {"user_id": [big + i % 6 for i in R], "item_id": [p(i) for i in R], "type": "view", "timestamp": [t(i) for i in R]}
        ).write_parquet(tmp_path / "log.parquet")
        assert any("are floats, which hold 15 digits" in note for note in read_events(tmp_path / "log.parquet").notes) == said


def test_a_pattern_is_not_ignored_where_times_are_whole_numbers(tmp_path: Path) -> None:
    rows = {"user_id": [u(i) for i in R], "item_id": [p(i) for i in R], "type": "view", "timestamp": [20240106 + 100 * (i % 9) for i in R]}
    pl.DataFrame(rows).write_parquet(tmp_path / "log.parquet")
    assert read_events(tmp_path / "log.parquet").events.collect()["timestamp"].dt.day().unique().to_list() == [6]
    swapped = read_events(tmp_path / "log.parquet", time_form="%Y%d%m").events.collect()["timestamp"]
    assert swapped.dt.day().unique().sort().to_list() == list(range(1, 10)) and swapped.dt.month().unique().to_list() == [6]


def test_a_zip_archive_is_read_like_a_folder(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("events.csv", timed(lambda i: str(t(i))))
        archive.writestr("products.csv", table("product_id,colour,price", lambda i: f"{p(i)},red,{i}", 7))
        archive.writestr("readme.txt", "What stands in it.\nNothing else.\n")
    log = read_events(write(tmp_path / "log.zip", packed.getvalue()))
    assert log.rows == N and "not read as events: products.csv, readme.txt" in log.notes


def command(error_hint: str) -> str:
    code = re.search("python -c '(.*?)'(,|$)", error_hint)
    assert code is not None, error_hint
    return code[1].replace("'\"'\"'", "'")


def test_a_matrix_is_written_as_a_log_by_the_command_in_the_error(tmp_path: Path) -> None:
    rows = [[u(i) + str(i), *("" if (i + k) % 3 else str(1 + i * k % 5) for k in range(12))] for i in R]
    for sign in ",;":
        header = sign.join(["user_id", *(f"movie_{k}" for k in range(12))])
        path = write(tmp_path / "wide.csv", "".join(sign.join(row) + "\n" for row in [[header], *rows]))
        subprocess.run([sys.executable, "-c", command(refused(path).hint or "")], check=True)
        events = read_events(tmp_path / "wide.long.csv", order="").events.collect()
        assert events["type"].unique().to_list() == ["rating"] and events.height == sum(cell != "" for row in rows for cell in row[1:])
        assert events["value"].sum() == sum(float(cell) for row in rows for cell in row[1:] if cell)


COLUMNS = ("user_id", "item_id", "type", "timestamp")
DOCUMENTS: list[tuple[str, Any, str]] = [
    ("records in data", {"total": N, "data": [dict(zip(COLUMNS, (u(i), f"0{i % 7}", "view", t(i)))) for i in R]},
     "one object that holds them in data"),
    ("columns", {name: {str(i): (u(i), f"0{i % 7}", "view", t(i))[k] for i in R} for k, name in enumerate(COLUMNS)},
     'a table as pandas writes it with orient="columns"'),
    ("split", {"columns": COLUMNS, "index": [*R], "data": [(u(i), f"0{i % 7}", "view", t(i)) for i in R]},
     'a table as pandas writes it with orient="split"'),
]  # fmt: skip


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("case", DOCUMENTS, ids=[case[0] for case in DOCUMENTS])
def test_records_within_a_json_document_are_written_by_the_command_in_the_error(
    case: tuple[str, Any, str], indent: int | None, tmp_path: Path
) -> None:
    _, document, said = case
    error = refused(write(tmp_path / "log.json", json.dumps(document, indent=indent)))
    assert f"one a line or in an array, got {said}" in str(error)
    subprocess.run([sys.executable, "-c", command(error.hint or "")], check=True)
    assert found(tmp_path / "log.records.jsonl") == [(u(i), f"0{i % 7}", "view", t(i), None) for i in R]


def test_one_user_in_one_line_is_a_log_of_one_row(tmp_path: Path) -> None:
    record = {"user_id": "u", "items": [{"item_id": p(i), "at": t(i)} for i in R]}
    assert len(found(write(tmp_path / "log.json", json.dumps(record)), map={"item_id": "items.item_id"}, order="")) == N
