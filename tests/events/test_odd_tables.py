"""Text tables as R, Hive, Spark, databases and reports write them; and text that is no table, refused with a command that works."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from event_files import T0, refused, write

from qurate.events import containers
from qurate.events.odd_tables import titles_before
from qurate.events.readers import read_events
from qurate.events.text_form import look

N = 20
ROWS = [(f"u{n % 3}", f"i{n % 4}", "view", str(T0 + n)) for n in range(N)]
NAMES = ("user_id", "item_id", "type", "timestamp")


def lines(sign: str = ",", names: tuple[str, ...] = NAMES, quote: str = "") -> list[str]:
    return [sign.join(f"{quote}{one}{quote}" for one in row) for row in (names, *ROWS)]


def numbered(sign: str, quote: str) -> str:
    head, *rows = lines(sign, quote=quote)
    return "\n".join([head, *(f"{quote}{n}{quote}{sign}{row}" for n, row in enumerate(rows, 1))]) + "\n"


BORDER = "+---------+---------+------+------------+"
BOXED = "\n".join([BORDER, *(f"| {row} |" for row in lines(" | ")[:1]), BORDER, *(f"| {row} |" for row in lines(" | ")[1:])]) + "\n"
BODY = "\n".join(lines()) + "\n"
FORMS: dict[str, tuple[str, str]] = {
    "R's row names": ("log.csv", numbered(",", '"')),
    "R's row names between blanks": ("log.txt", numbered(" ", '"')),
    "R's row names between tabs": ("log.tsv", numbered("\t", "")),
    "a title": ("log.csv", f"Sales of June\n\n{BODY}"),
    "titles with separators": ("log.csv", f"Sales of June,,,\nby the shop,,,\n{BODY}"),
    "a border": ("log.txt", BOXED),
    "a name before the names": ("log.tsv", "\n".join(lines("\t", tuple(f"log.{one}" for one in NAMES)))),
    **{f"separated by {sign!r}": ("log.txt", "\n".join(lines(sign))) for sign in ("\x01", "^", "~", "，")},
}


@pytest.mark.parametrize("form", FORMS)
def test_the_rows_are_the_same_in_every_form(form: str, tmp_path: Path) -> None:
    name, text = FORMS[form]
    log = read_events(write(tmp_path / name, text), max_bad=0.1)  # of a table of a database the last line is a border
    events = log.events.select("user_id", "item_id", "type").collect()
    assert events.rows() == [row[:3] for row in ROWS] and log.events.collect()["timestamp"].dt.epoch("s").to_list() == [*range(T0, T0 + N)]


def test_what_was_assumed_is_said(tmp_path: Path) -> None:
    assert any("Sales of June" in note for note in read_events(write(tmp_path / "log.csv", FORMS["a title"][1])).notes)
    assert any(
        "log. before all names" in note for note in read_events(write(tmp_path / "log.tsv", FORMS["a name before the names"][1])).notes
    )
    plain = write(tmp_path / "plain.csv", "user_id;item_id;type;timestamp;tags\n" + "".join(f"{';'.join(row)};a,b,c\n" for row in ROWS))
    assert read_events(plain).rows == N, "a header that commas do not separate is no title"


def test_a_header_that_another_sign_does_not_separate_is_no_title() -> None:
    form = look(["item_id;title;kind", *(f"i{n};a, b, c;k" for n in range(9))], ".csv", "items.csv")
    assert (form.names, form.before, form.notes) == (["item_id", "title", "kind"], 0, ())


@pytest.mark.parametrize("every", [1, 5])
def test_quotes_within_fields_are_part_of_them_where_no_field_is_quoted(every: int, tmp_path: Path) -> None:
    items = [f'{3 + n % 4}" disk' if n % every == 0 else f"disk {n % 4}" for n in range(N)]
    rows = "".join(f"u{n % 3},{item},view,{T0 + n}\n" for n, item in enumerate(items))
    log = read_events(write(tmp_path / "log.csv", f"{','.join(NAMES)}\n{rows}"))
    assert log.events.collect()["item_id"].to_list() == items and any("quotes stand within fields" in note for note in log.notes)
    quoted = "".join(f'u{n % 3},"{item}",view,{T0 + n}\n' for n, item in enumerate(items)).replace('" disk', '"" disk')
    log = read_events(write(tmp_path / "quoted.csv", f"{','.join(NAMES)}\n{quoted}"))
    assert log.events.collect()["item_id"].to_list() == items and not any("quotes" in note for note in log.notes)


def test_backslashes_before_quotes(tmp_path: Path) -> None:
    """As Spark and MySQL write them; in JSON within a field the quotes are doubled, and a backslash before them is part of the JSON."""
    rows = "".join(f'u{n % 3},"the \\"{n % 4}\\"","{{\\"k\\": \\"a,b\\"}}",view,{T0 + n}\n' for n in range(N))
    log = read_events(write(tmp_path / "log.csv", f"user_id,item_id,props,type,timestamp\n{rows}"))
    events = log.events.collect()
    assert events["item_id"].to_list() == [f'the "{n % 4}"' for n in range(N)] and set(events["props"]) == {'{"k": "a,b"}'}
    rows = "".join(f'u{n % 3},i{n % 4},"{{""k"": ""5\\"" x""}}",view,{T0 + n}\n' for n in range(N))
    log = read_events(write(tmp_path / "log.csv", f"user_id,item_id,props,type,timestamp\n{rows}"))
    assert set(log.events.collect()["props"]) == {'{"k": "5\\" x"}'} and not any("backslash" in note for note in log.notes)


def test_a_line_for_each_field_is_written_as_records_by_the_command_in_the_error(tmp_path: Path) -> None:
    blocks = [
        f"product/productId: i{n % 4}\nreview/userId: u{n % 3}\nreview/score: {1 + n % 5}.0\nreview/time: {T0 + n}\n" for n in range(N)
    ]
    error = refused(write(tmp_path / "foods.txt", "\n".join(blocks)))
    assert "a line for each field (product/productId, review/userId" in error.got
    subprocess.run([sys.executable, *shlex.split(str(error.hint).partition(": ")[2])[1:]], check=True)
    events = read_events(tmp_path / "foods.jsonl").events.collect()
    assert events["value"].to_list() == [1.0 + n % 5 for n in range(N)] and set(events["type"]) == {"rating"}


@pytest.mark.parametrize("sign", [" ", ","])
def test_a_list_in_each_line_is_written_as_pairs_by_the_command_in_the_error(sign: str, tmp_path: Path) -> None:
    """Of users with their items between blanks, as of graph models, or of baskets."""
    lists = [[str(3 * n + k) if sign == " " else f"milk {k}" for k in range(2 + n % 5)] for n in range(N)]
    texts = [[str(n), *items] if sign == " " else items for n, items in enumerate(lists)]
    error = refused(write(tmp_path / "train.txt", "\n".join(map(sign.join, texts)) + "\n"))
    assert "a list in each line" in error.got
    command = re.search("(awk .*) > pairs.csv", str(error.hint))
    assert command is not None
    pairs = subprocess.run(["bash", "-c", command[1]], check=True, capture_output=True, text=True).stdout
    log = read_events(write(tmp_path / "pairs.csv", pairs), columns=["user_id", "item_id"], order="")
    owners = [str(n if sign == " " else n + 1) for n, items in enumerate(lists) for _ in items]
    assert log.events.select("user_id", "item_id").collect().rows() == [*zip(owners, (one for items in lists for one in items))]


def test_a_plan_rewrites_whole_lines_of_a_large_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "log.csv", BODY)
    monkeypatch.setattr(containers, "HEAD_PACKED", len(BODY) // 2)
    first, more = containers.beginning(path)
    text = first.read_text()
    assert more and text.endswith("\n") and BODY.startswith(text) and len(BODY) // 2 - len(text) < len(BODY.splitlines()[1]) + 1
    monkeypatch.setattr(containers, "HEAD_PACKED", len(BODY))
    assert containers.beginning(path) == (path, False)


@pytest.mark.parametrize(("rows", "above"), [(["1,2,3"] * 5, 1), (["1,2,3", *["1,2"] * 4], 0)])
def test_below_a_header_most_rows_are_as_wide_as_it(rows: list[str], above: int) -> None:
    def split(line: str, sign: str) -> list[str]:
        return line.split(sign)

    assert titles_before(["a report", "user,item,time", *rows], [","], split, str.isdigit) == above
