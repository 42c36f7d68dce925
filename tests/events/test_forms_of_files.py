"""The ways in which a log can be written: containers, encodings, separators, headers, times. What is read is the same log."""

import gzip
import io
import json
import zipfile
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from event_files import T0, refused, write

from qurate.errors import UserError
from qurate.events.readers import read_events
from qurate.events.schema import EventLog

NAMES = ("user_id", "item_id", "type", "timestamp")
ROWS = [(f"kund{i * 7 % 6}", f"vara0{i * 5 % 8}", "click", str(T0 + 900 * i)) for i in range(60)]
PLAIN = [(user, item, kind, int(time) * 1_000_000) for user, item, kind, time in ROWS]


def text(separator: str = ",", rows: list[tuple[str, ...]] = ROWS, names: tuple[str, ...] | None = NAMES) -> str:
    return "".join(separator.join(row) + "\n" for row in [*([names] if names else []), *rows])


def as_rows(log: EventLog) -> list[tuple[str, str, str, int]]:
    events = log.events.collect().sort("timestamp", "row")
    return events.select("user_id", "item_id", "type", events["timestamp"].cast(pl.Int64)).rows()


def packed(*files: tuple[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files:
            archive.writestr(name, content)
    return buffer.getvalue()


def records() -> list[dict[str, object]]:
    return [dict(zip(NAMES, (*row[:3], int(row[3])))) for row in ROWS]


QUOTED = "".join(",".join(f'"{field}"' for field in row) + "\n" for row in [NAMES, *ROWS])
FILES: dict[str, tuple[str, str | bytes]] = {
    "plain": ("log.csv", text()),
    "gzip": ("log.csv.gz", gzip.compress(text().encode())),
    "gzip by another name": ("log.csv", gzip.compress(text().encode())),
    "gzip with a mark": ("log.csv.gz", gzip.compress(text().encode("utf-8-sig"))),
    "gzip of JSON lines": ("log.jsonl.gz", gzip.compress("\n".join(map(json.dumps, records())).encode())),
    "zip": ("log.zip", packed(("deep/log.csv", text()))),
    "zip of tabs": ("log.tsv.zip", packed(("log.tsv", text("\t")))),
    "txt with tabs": ("log.txt", text("\t")),
    "dat with bars": ("log.dat", text("|")),
    "dat with two colons": ("log.dat", text("::")),
    "semicolons in a csv": ("log.csv", text(";")),
    "tabs in a csv": ("log.csv", text("\t")),
    "commas in a tsv": ("log.tsv", text(",")),
    "blanks": ("log.txt", text(" ")),
    "runs of blanks": ("log.dat", "\n".join("  ".join(f"{field:>12}" for field in row) for row in [NAMES, *ROWS])),
    "atomic with blanks": ("log.inter", "\n".join(" ".join(row) for row in [NAMES, *ROWS])),
    "json array": ("log.json", json.dumps(records())),
    "json array over lines": ("log.json", json.dumps(records(), indent=2)),
    "json array as jsonl": ("log.jsonl", json.dumps(records())),
    "json lines as json": ("log.json", "\n".join(map(json.dumps, records()))),
    "json lines as txt": ("log.txt", "\n".join(map(json.dumps, records()))),
    "carriage returns": ("log.csv", text().replace("\n", "\r\n")),
    "mark and carriage returns": ("log.csv", ("\ufeff" + text()).replace("\n", "\r\n")),
    "blanks after commas": ("log.csv", text(", ")),
    "blanks and tabs around": ("log.csv", text(" ,\t")),
    "quotes": ("log.csv", QUOTED),
    "quotes after blanks": ("log.csv", QUOTED.replace(",", ", ")),
    "quotes with tabs": ("log.tsv", QUOTED.replace(",", "\t")),
    "quoted values with tabs": ("log.tsv", "\t".join(NAMES) + "\n" + QUOTED.replace(",", "\t").split("\n", 1)[1]),
    "comments": ("log.csv", "# written by a shop\n# in 2024\n" + text()),
    "comments between": ("log.csv", "# written by a shop\n" + text().replace("\nkund0", "\n# here, too, stands one\nkund0", 3)),
    "a header in a comment": ("log.csv", "#" + text()),
    "percent comments": ("log.tsv", "% sym\n" + text("\t")),
    "empty lines": ("log.csv", text().replace("\n", "\n\n")),
    "lines of blanks": ("log.csv", text().replace("\nkund3", "\n   \nkund3")),
    "empty lines first": ("log.csv", "\n\n" + text()),
    "separators at the end": ("log.csv", text().replace("\n", ",\n")),
    "separators at the end of rows": ("log.csv", text().replace("\n", ",\n").replace("timestamp,", "timestamp")),
    "no line end at the end": ("log.csv", text().rstrip("\n")),
}


@pytest.mark.parametrize("form", FILES)
def test_the_same_log_in_every_form(tmp_path: Path, form: str) -> None:
    name, content = FILES[form]
    log = read_events(write(tmp_path / name, content))
    assert as_rows(log) == PLAIN
    assert log.rejects.height == 0 and log.layout == "qurate"


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le", "gbk", "big5", "cp1252", "gb18030"])
@pytest.mark.parametrize("zipped", [False, True])
def test_an_encoding_that_the_user_names(tmp_path: Path, encoding: str, zipped: bool) -> None:
    letter = "商" if encoding in ("gbk", "big5", "gb18030", "utf-16", "utf-16-le") else "é"
    content = text().replace("kund0", letter).encode(encoding)
    path = write(tmp_path / ("log.csv.gz" if zipped else "log.csv"), gzip.compress(content) if zipped else content)
    log = read_events(path, encoding=encoding)
    assert as_rows(log) == [(letter if user == "kund0" else user, *rest) for user, *rest in PLAIN]


@pytest.mark.parametrize(("encoding", "name"), [("gbk", "gbk"), ("big5", "big5"), ("latin-1", "latin-1")])
def test_bytes_that_are_not_utf_8_are_named_with_the_encoding_they_look_like(tmp_path: Path, encoding: str, name: str) -> None:
    letters = "café à Orléans" if encoding == "latin-1" else "商品推薦系統" if encoding == "big5" else "商品推荐系统手机数码"
    head = write(tmp_path / "head.csv", text(names=(f"user_id{letters}", *NAMES[1:])).encode(encoding))
    assert f"say --encoding {name}" in refused(head).typed
    titled = "user_id,item_id,timestamp,title\n" + "".join(f"u{i % 3},i{i},{T0 + i},{letters}\n" for i in range(9))
    log = read_events(write(tmp_path / "log.csv", titled.encode(encoding)))
    assert any(f"--encoding {name}" in note for note in log.typed_notes)
    assert f"--encoding {name}" in refused(write(tmp_path / "ids.csv", text().replace("kund", letters).encode(encoding))).typed


def test_an_encoding_that_is_none_or_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", text().replace("kund0", "商").encode())
    assert "a text encoding, got utf-99, at --encoding" in refused(path, encoding="utf-99").typed
    assert "text in ascii" in str(refused(path, encoding="ascii"))


@pytest.mark.parametrize("damage", ["cut", "noise"])
@pytest.mark.parametrize("name", ["log.csv.gz", "log.zip"])
def test_a_damaged_container_is_one_line(tmp_path: Path, name: str, damage: str) -> None:
    content = gzip.compress(text().encode()) if name.endswith("gz") else packed(("log.csv", text() * 50))
    broken = content[: len(content) // 2] if damage == "cut" else content[:40] + bytes(60) + content[100:]
    assert "the file is damaged" in str(refused(write(tmp_path / name, broken)))


def test_a_zip_of_several_tables_is_read_as_a_folder_is(tmp_path: Path) -> None:
    half = ("\n".join(text().splitlines()[:31]) + "\n", text(rows=ROWS[30:]))
    path = write(tmp_path / "log.zip", packed(("a.csv", half[0]), ("more/b.csv", half[1]), ("readme.md", "x"), ("pic.png", "x")))
    log = read_events(path)
    assert as_rows(log) == PLAIN
    assert "not read in log.zip: pic.png, readme.md" in log.notes
    assert "an archive without any" in str(refused(write(tmp_path / "no.zip", packed(("a.png", "x")))))


def test_a_folder_is_read_with_its_subfolders_and_the_rest_is_named(tmp_path: Path) -> None:
    thirds = [text(rows=ROWS[i : i + 20]) for i in (0, 20, 40)]
    folder = tmp_path / "logs"
    (folder / "more/deep").mkdir(parents=True)
    write(folder / "a.csv", thirds[0])
    write(folder / "b.csv.gz", gzip.compress(thirds[1].encode()))
    write(folder / "more/deep/c.csv", thirds[2])
    for name in ("README", "more/note.pdf", "_SUCCESS", ".hidden.csv", "old.csv.xz"):
        write(folder / name, "x")
    write(folder / "empty.csv", "")
    (folder / "d").mkdir()
    write(folder / "d/dataset.json", "{}")
    write(folder / "d/events.parquet", "x")
    log = read_events(folder)
    assert as_rows(log) == PLAIN
    said = next(note for note in log.notes if note.startswith("not read in logs"))
    assert all(name in said for name in (".hidden.csv", "README", "_SUCCESS", "empty.csv (empty)", "more/note.pdf", "old.csv.xz"))
    assert "d (a dataset or model)" in said and "events.parquet" not in said


def test_partitions_give_columns(tmp_path: Path) -> None:
    for place, day in enumerate(("2024-06-01", "2024-06-02")):
        for number, kind in enumerate(("click", "purchase")):
            folder = tmp_path / f"log/day={day}/type={kind}"
            folder.mkdir(parents=True)
            write(folder / "part.csv", f"user_id,item_id,timestamp\nu,i{place}{number},{T0 + 2 * place + number}\nv,i9,{T0 + 9}\n")
    log = read_events(tmp_path / "log")
    assert log.events.collect()["type"].to_list() == ["click", "click", "purchase", "purchase"] * 2
    by_day = read_events(tmp_path / "log", map={"timestamp": "day", "user_id": "user_id", "item_id": "item_id", "type": "type"})
    assert by_day.events.collect()["timestamp"].dt.day().unique().sort().to_list() == [1, 2]


def test_partitions_of_parquet_and_of_broken_files(tmp_path: Path) -> None:
    for kind in ("click", "a%20b", "__HIVE_DEFAULT_PARTITION__"):
        folder = tmp_path / f"log/type={kind}"
        folder.mkdir(parents=True)
        pl.DataFrame({"user_id": ["u"], "item_id": [kind[:3]], "timestamp": [T0]}).write_parquet(folder / "part.parquet")
    log = read_events(tmp_path / "log", max_bad=1.0)
    assert sorted(log.events.collect()["type"].to_list()) == ["a b", "click"] and log.bad_rows == 1
    folder = tmp_path / "broken/type=click"
    folder.mkdir(parents=True)
    write(folder / "a.csv", f'user_id,item_id,timestamp\nu,i,{T0}\nu,"i,{T0}\n')
    log = read_events(tmp_path / "broken", max_bad=1.0)
    assert log.events.collect()["type"].to_list() == ["click"] and log.rejects["line"].to_list() == [3]


def test_movielens_with_two_colons_has_no_header(tmp_path: Path) -> None:
    rows = [(str(i % 6), f"{i % 8:02}", str(1 + i % 5), str(T0 + i)) for i in range(60)]
    log = read_events(write(tmp_path / "ratings.dat", text("::", rows, None)))
    assert log.layout == "movielens" and log.events.collect().height == 60
    assert log.events.collect()["value"].sum() == 180
    assert any("userId, movieId, rating, timestamp" in note for note in log.notes)
    bad = read_events(write(tmp_path / "ratings.dat", text("::", rows, None) + "1::2::3\n"), max_bad=0.1)
    assert bad.rejects.select("line", "reason", "raw").rows() == [(61, "missing timestamp", "1::2::3")]


@pytest.mark.parametrize("separator", [" ", ",", "\t"])
def test_lines_of_names_with_their_values_are_said_to_be_such(tmp_path: Path, separator: str) -> None:
    path = write(
        tmp_path / "app.log.txt", "".join(separator.join((f"user=u{i % 6}", f"item=i{i % 8}", f"ts={T0 + i}")) + "\n" for i in range(60))
    )
    error = refused(path).typed
    assert "got lines of names with their values (user=u0, item=i0" in error
    assert (
        'write each line as a JSON object, such as {"user": ..., "item": ..., "ts": ...}, or as CSV with the header user,item,ts' in error
    )


@pytest.mark.parametrize("separator", ["\t", ",", "::", " ", ";"])
@pytest.mark.parametrize("ids", ["number", "text"])
def test_a_first_line_of_values_is_a_row(tmp_path: Path, separator: str, ids: str) -> None:
    sign = "u" if ids == "text" else ""
    rows = [(f"{sign}{i % 6}", f"{sign}0{i % 8}", "view" if ids == "text" else "3", str(T0 + i)) for i in range(60)]
    path = write(tmp_path / "log.tsv", text(separator, rows, None))
    if separator != "::":
        error = refused(path).typed
        assert "it is no header" in error and "--columns user_id,item_id," in error
    for header in (None, False):
        log = read_events(path, columns=["user_id", "item_id", "type", "timestamp"], header=header)
        assert as_rows(log)[0] == (f"{sign}0", f"{sign}00", rows[0][2], T0 * 1_000_000)
        assert log.events.collect().height == 60 and log.events.collect()["row"].min() == 1


def test_columns_by_place(tmp_path: Path) -> None:
    rows = [(str(i % 6), f"0{i % 8}", str(T0 + i)) for i in range(60)]
    log = read_events(write(tmp_path / "log.txt", text("\t", rows, None)), map={"user_id": "1", "item_id": "2", "timestamp": "3"})
    assert log.events.collect().height == 60
    assert any("no header" in note for note in log.notes)


def test_what_the_user_says_about_the_header(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", text(names=("a", "b", "c", "d")))
    log = read_events(path, columns=NAMES)
    assert as_rows(log) == PLAIN and any("columns replaces" in note for note in log.notes)
    assert "4 names, got 3" in str(refused(path, columns=NAMES[:3]))
    first = read_events(write(tmp_path / "text.csv", "u,i,click,9\n" * 1 + text(names=None)), columns=NAMES, header=False, max_bad=0.1)
    assert first.rows == 61
    numbers = read_events(write(tmp_path / "numbers.csv", text(names=("1", "2", "3", "4"))), header=True, map=dict(zip(NAMES, "1234")))
    assert as_rows(numbers) == PLAIN


def test_a_separator_that_the_user_names(tmp_path: Path) -> None:
    path = write(tmp_path / "log.txt", text("^~^"))
    assert as_rows(read_events(path, separator="^~^")) == PLAIN
    assert as_rows(read_events(write(tmp_path / "tab.csv", text("\t")), separator="tab")) == PLAIN
    assert "a separator" in str(refused(path, separator="\n"))


def test_separators_within_quotes_and_decimal_commas(tmp_path: Path) -> None:
    rows = [(user, f'"{item}; red"', kind, time, f"1.{i:03},5") for i, (user, item, kind, time) in enumerate(ROWS)]
    log = read_events(write(tmp_path / "log.csv", text(";", rows, (*NAMES, "value"))))
    events = log.events.collect()
    assert events["item_id"][0] == "vara00; red" and events["value"][7] == 1007.5 and log.rejects.height == 0
    assert any("decimal commas in value" in note for note in log.notes)


def test_decimal_commas_in_a_file_that_is_read_line_by_line(tmp_path: Path) -> None:
    rows = [(*row, f"{i},5") for i, row in enumerate(ROWS)]
    broken = text(";", rows, (*NAMES, "value")) + '"u;i;click;5;1\n'
    log = read_events(write(tmp_path / "log.csv", broken), max_bad=0.1)
    assert log.events.collect()["value"].to_list() == [i + 0.5 for i in range(60)] and log.rejects["line"].to_list() == [62]


def test_rejected_rows_are_shown_as_they_stand(tmp_path: Path) -> None:
    for separator, name in (("::", "a.dat"), (";", "b.csv")):
        rows = [*ROWS[:9], ("u", "i", "click", "never")]
        log = read_events(write(tmp_path / name, text(separator, rows)), max_bad=1.0)
        assert log.rejects.select("line", "reason", "raw").rows() == [(11, "unreadable timestamp", separator.join(rows[-1]))]
    commented = "# one\n" + text(rows=ROWS[:3]) + "# two\n" + "u,i,click,never\n"
    assert read_events(write(tmp_path / "c.csv", commented), max_bad=1.0).rejects.select("line", "reason", "raw").rows() == [
        (7, "unreadable timestamp", "u,i,click,never")
    ]


@pytest.mark.parametrize("form", ["text", "decimal", "float", "blanks"])
def test_numbers_of_one_id_are_one(tmp_path: Path, form: str) -> None:
    ids = [1, 2, 3, 10, 100]
    column = {
        "text": pl.Series([f"{i}.00" for i in ids]),
        "decimal": pl.Series([Decimal(i) for i in ids], dtype=pl.Decimal(10, 2)),
        "float": pl.Series(ids, dtype=pl.Float64),
        "blanks": pl.Series([f" {i} " for i in ids]),
    }[form]
    frame = pl.DataFrame({"user_id": ["u"] * 5, "item_id": column, "timestamp": [T0 + i for i in ids]})
    frame.write_parquet(tmp_path / "log.parquet")
    assert read_events(tmp_path / "log.parquet").events.collect()["item_id"].to_list() == ["1", "2", "3", "10", "100"]


def test_ids_that_are_no_whole_numbers_stay(tmp_path: Path) -> None:
    ids = ["007", "1.10", "1.0.0", "a.0", "0.50", ".0", "00.0", "10."]
    rows = "".join(f"u,{one},{T0 + i}\n" for i, one in enumerate(ids))
    log = read_events(write(tmp_path / "log.csv", "user_id,item_id,timestamp\n" + rows))
    assert log.events.collect()["item_id"].to_list() == ["007", "1.10", "1.0.0", "a.0", "0.50", ".0", "00", "10."]


def test_an_order_instead_of_a_time(tmp_path: Path) -> None:
    start = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
    shuffled = [(*row[:3], str(100 + 7 * i)) for i, row in reversed(list(enumerate(ROWS)))]
    path = write(tmp_path / "log.csv", text(rows=shuffled))
    assert "--order timestamp" in refused(path).typed
    log = read_events(path, order="timestamp")
    assert as_rows(log) == [(*row[:3], start + i * 1_000_000) for i, row in enumerate(ROWS)]
    assert log.time_unit == "order" and any("no real times" in note for note in log.notes)
    no_time = write(tmp_path / "none.csv", text(rows=[row[:3] for row in ROWS], names=NAMES[:3]))
    log = read_events(no_time, order="")
    assert as_rows(log) == [(*row[:3], start + i * 1_000_000) for i, row in enumerate(ROWS)]
    assert "did you mean timestamp?" in str(refused(path, order="timestmp"))
    assert "a column of the log, got x" in str(refused(no_time, order="x"))


def test_an_order_over_several_broken_files(tmp_path: Path) -> None:
    write(tmp_path / "log/a.csv", "") if (tmp_path / "log").mkdir() else None
    write(tmp_path / "log/a.csv", "user_id,item_id,seq\nu,a,3\nu,b,1\n")
    write(tmp_path / "log/b.csv", 'user_id,item_id,seq\nu,c,2\nu,d,0\nu,"e,9\n')
    for order, wanted in (("seq", "dbca"), ("", "abcd")):
        log = read_events(tmp_path / "log", order=order, max_bad=1.0)
        assert "".join(log.events.collect().sort("timestamp")["item_id"]) == wanted


def test_files_that_write_their_times_in_their_own_ways(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    moment = datetime.fromtimestamp(T0, UTC)
    forms = {"a.csv": str(T0), "b.csv": str(T0 * 1000), "c.csv": moment.isoformat(), "d.csv": f"{moment:%d.%m.%Y %H:%M:%S}"}
    for name, time in forms.items():
        write(folder / name, f"user_id,item_id,timestamp\nu,{name[0]},{time}\n")
    log = read_events(folder)
    assert log.events.collect()["timestamp"].unique().to_list() == [moment]
    assert "b.csv: times are read as ms since 1970" in log.notes and "d.csv: times are read as D/M/Y" in log.notes


def test_another_file_tells_day_from_month(tmp_path: Path) -> None:
    for name, day in (("a.csv", "06/01/2024"), ("b.csv", "06/13/2024")):
        write(tmp_path / name, f"user_id,item_id,timestamp\nu,{name[0]},{day}\n")
    assert read_events(tmp_path).events.collect()["timestamp"].dt.month().to_list() == [6, 6]
    write(tmp_path / "c.csv", "user_id,item_id,timestamp\nu,c,05/06/2024\n")
    assert isinstance(refused(tmp_path / "c.csv"), UserError)
