"""What happened, where a name or a list says it in other words: read right, or said aloud."""

import json
from pathlib import Path
from typing import Any

import pytest
from event_files import T0, refused, write

from qurate.errors import UserError
from qurate.events.readers import read_events
from qurate.events.schema import EventLog

N = 40


def u(i: int) -> str:
    return f"u{i % 6}"


def p(i: int) -> str:
    return f"p{i % 7}"


def read(tmp_path: Path, header: str, row: Any, **options: Any) -> EventLog:
    text = header + "\n" + "".join(row(i) + "\n" for i in range(N))
    return read_events(write(tmp_path / "log.csv", text), **options)


def found(log: EventLog) -> dict[str, list[tuple[str, str]]]:
    """User and item of the events of each type."""
    events = log.events.collect().sort("row")
    return {str(kind): events.filter(events["type"] == kind).select("user_id", "item_id").rows() for kind in sorted(set(events["type"]))}


def lists(log: EventLog) -> int:
    return 0 if log.decisions is None else log.decisions.collect().height


def said(log: EventLog, words: str) -> bool:
    return any(words in note for note in log.notes)


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("click_bool", "click"),
        ("is_booking", "purchase"),
        ("purchase_flag", "purchase"),
        ("has_installed", "install"),
        ("user_like", "like"),
    ],
)
def test_a_column_of_0_and_1_by_a_word_in_its_name(column: str, kind: str, tmp_path: Path) -> None:
    log = read(tmp_path, f"user_id,item_id,{column},timestamp", lambda i: f"{u(i)},{p(i)},{int(i % 4 == 0)},{T0 + i}")
    assert found(log) == {kind: [(u(i), p(i)) for i in range(0, N, 4)]} and lists(log) == N


def test_a_column_of_0_and_1_that_the_user_names(tmp_path: Path) -> None:
    """`--map clicked=COLUMN`, of any name, also where another one has a name that says more; `--type` names the event."""
    row = lambda i: f"{u(i)},{p(i)},{int(i % 4 == 0)},{int(i % 2 == 0)},{T0 + i}"  # noqa: E731
    clicks = [(u(i), p(i)) for i in range(0, N, 4)]
    for header in ("user_id,item_id,streamed,mobile,timestamp", "user_id,item_id,streamed,click,timestamp"):
        log = read(tmp_path, header, row, map={"clicked": "streamed"})
        assert found(log) == {"click": clicks} and lists(log) == N and log.files[0]["map"]["clicked"] == "streamed"
    log = read(tmp_path, "user_id,item_id,streamed,mobile,timestamp", row, map={"log.csv:clicked": "streamed"}, type="play")
    assert found(log) == {"play": clicks}


@pytest.mark.parametrize(
    ("header", "value", "words"),
    [
        ("user_id,item_id,streamed,timestamp", "i % 3", r"expected 0 and 1, or no and yes, got '0', '1', '2', at map="),
        ("user_id,item_id,streamed,timestamp,type", "0", "expected clicked beside one shown item a row, got another kind of log"),
        ("user_id,shown,streamed,timestamp", "0", "expected clicked beside one shown item a row, got another kind of log"),
    ],
)
def test_a_column_that_is_no_answer_is_not_taken_for_one(header: str, value: str, words: str, tmp_path: Path) -> None:
    def row(i: int) -> str:
        item = f"{p(i)}|p9" if "shown" in header else p(i)
        return f"{u(i)},{item},{eval(value, {'i': i})},{T0 + i}" + (",view" if header.endswith("type") else "")

    with pytest.raises(UserError, match=words):
        read(tmp_path, header, row, map={"clicked": "streamed"})


def test_a_name_near_clicked_is_asked_back(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"got click, at map; did you mean clicked\?"):
        read(tmp_path, "user_id,item_id,streamed,timestamp", lambda i: f"{u(i)},{p(i)},{i % 2},{T0 + i}", map={"click": "streamed"})


def test_a_column_of_lists_is_no_answer_of_one_item(tmp_path: Path) -> None:
    rows = [{"user_id": u(i), "item_id": p(i), "timestamp": T0 + i, "streamed": [0, 1]} for i in range(N)]
    path = write(tmp_path / "log.json", "".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match="expected clicked beside one shown item a row, got another kind of log"):
        read_events(path, map={"clicked": "streamed"})


@pytest.mark.parametrize("column", ["is_mobile", "thumbs_up", "click_timestamp"])
def test_what_may_say_more_than_a_click_is_named(column: str, tmp_path: Path) -> None:
    log = read(tmp_path, f"user_id,item_id,{column},timestamp", lambda i: f"{u(i)},{p(i)},{int(i % 4 == 0)},{T0 + i}")
    assert len(found(log)["click"]) == N and said(log, f"every row counts as click, whatever {column} may say")
    log = read(tmp_path, f"user_id,item_id,{column},timestamp", lambda i: f"{u(i)},{p(i)},{int(i % 4 == 0)},{T0 + i}", type="view")
    assert not said(log, "whatever"), "the user has said what every row is"
    log = read(tmp_path, "user_id,item_id,is_mobile,timestamp", lambda i: f"{u(i)},{p(i)},1,{T0 + i}")
    assert not said(log, "whatever"), "the same of every row"


@pytest.mark.parametrize("column", ["response", "user_feedback", "click_list", "clicked"])
def test_a_list_of_0_and_1_beside_a_list_of_items(column: str, tmp_path: Path) -> None:
    log = read(tmp_path, f"user_id,timestamp,shown,{column}", lambda i: f"{u(i)},{T0 + i},{p(i)}|{p(i + 1)}|{p(i + 2)},0|1|0")
    assert found(log) == {"click": [(u(i), p(i + 1)) for i in range(N)]} and lists(log) == N


def test_a_list_of_0_and_1_under_another_name_is_named(tmp_path: Path) -> None:
    row = lambda i: f"{u(i)},{T0 + i},{p(i)}|{p(i + 1)}|{p(i + 2)},0|1|0"  # noqa: E731
    log = read(tmp_path, "user_id,timestamp,shown,discounted", row)
    assert not found(log) and said(log, "discounted holds 0 and 1 for each item shown: if 1 is a click, name it clicked")


def test_two_lists_of_answers_are_two_types_of_events(tmp_path: Path) -> None:
    row = lambda i: f"{u(i)},{T0 + i},{p(i)}|{p(i + 1)}|{p(i + 2)},0|1|1,0|0|{i % 2}"  # noqa: E731
    log = read(tmp_path, "user_id,timestamp,shown,clicked,purchased", row)
    assert lists(log) == N and found(log) == {
        "click": [(u(i), p(i + k)) for i in range(N) for k in (1, 2)],
        "purchase": [(u(i), p(i + 2)) for i in range(1, N, 2)],
    }


def test_a_list_of_what_was_bought_of_what_was_shown(tmp_path: Path) -> None:
    row = lambda i: f"{u(i)},{T0 + i},{p(i)}|{p(i + 1)},{p(i + 1) if i % 4 == 0 else ''}"  # noqa: E731
    log = read(tmp_path, "user_id,timestamp,shown,purchased_items", row)
    assert found(log) == {"purchase": [(u(i), p(i + 1)) for i in range(0, N, 4)]} and lists(log) == N


def test_a_type_that_says_the_same_of_every_row_gives_way(tmp_path: Path) -> None:
    """Sensors Analytics: `type` is track, and `event` says what happened."""
    row = lambda i: f"{u(i)},{p(i)},track,{('view', 'purchase')[i % 2]},{T0 + i}"  # noqa: E731
    log = read(tmp_path, "user_id,item_id,type,event,timestamp", row)
    assert {kind: len(rows) for kind, rows in found(log).items()} == {"view": 20, "purchase": 20}
    assert said(log, "type says the same of every row; event is read as what happened")
    row = lambda i: f"{u(i)},{p(i)},view,{('left', 'right')[i % 2]},{T0 + i}"  # noqa: E731
    assert set(found(read(tmp_path, "user_id,item_id,type,event,timestamp", row))) == {"view"}, "a type of the contract stays"
    row = lambda i: f"{u(i)},{p(i)},shop,{('view', 'purchase')[i % 2]},{T0 + i}"  # noqa: E731
    assert set(found(read(tmp_path, "user_id,item_id,event,action,timestamp", row))) == {"view", "purchase"}


def test_returns_that_nothing_reads_are_named(tmp_path: Path) -> None:
    row = lambda i: f"{u(i)},{p(i)},{-1 if i % 10 == 0 else 2},{T0 + i}"  # noqa: E731
    assert said(read(tmp_path, "user_id,item_id,quantity,timestamp", row), "quantity is below 0 in 4 of 40 rows")
    log = read(tmp_path, "user_id,item_id,quantity,timestamp", row, type="purchase", map={"value": "quantity"})
    assert {kind: len(rows) for kind, rows in found(log).items()} == {"purchase": 36, "return": 4} and not said(log, "below 0")


@pytest.mark.parametrize("low", [0, -1])
def test_ratings_below_their_scale_are_named(low: int, tmp_path: Path) -> None:
    row = lambda i: f"{u(i)},{p(i)},{low if i % 4 == 0 else 1 + i % 5},{T0 + i}"  # noqa: E731
    assert said(read(tmp_path, "user_id,item_id,rating,timestamp", row), f"rating is {low} in 10 of 40 rows, elsewhere 1 to 5")
    row = lambda i: f"{u(i)},{p(i)},{(i % 11) / 2},{T0 + i}"  # noqa: E731
    assert not said(read(tmp_path, "user_id,item_id,rating,timestamp", row), "not rated"), "a scale that begins at 0"


def test_rows_without_an_item_and_words_that_are_none_are_counted(tmp_path: Path) -> None:
    row = lambda i: f"{u(i)},{'' if i % 4 == 0 else p(i)},view,{T0 + i}"  # noqa: E731
    assert said(read(tmp_path, "user_id,item_id,type,timestamp", row), "10 of 40 rows name no item")
    row = lambda i: f"{u(i)},{'(not set)' if i % 4 == 0 else p(i)},view,{T0 + i}"  # noqa: E731
    assert said(read(tmp_path, "user_id,item_id,type,timestamp", row), "item '(not set)' of 10 in 40 rows is no item")
    assert not said(read(tmp_path, "user_id,item_id,type,timestamp", lambda i: f"{u(i)},{p(i)},view,{T0 + i}"), "no item")


@pytest.mark.parametrize("title", ["(500) Days of Summer", "[REC]"])
def test_titles_that_begin_with_a_bracket_are_ids(title: str, tmp_path: Path) -> None:
    row = lambda i: f"{u(i)},{title if i % 7 == 0 else f'Film {i % 7}'},view,{T0 + i}"  # noqa: E731
    log = read(tmp_path, "user_id,item_id,type,timestamp", row)
    assert set(log.events.collect()["item_id"]) == {title, *(f"Film {k}" for k in range(1, 7))}
    row = lambda i: f"{u(i)},{'[p3]' if i % 7 == 0 else p(i)},view,{T0 + i}"  # noqa: E731
    assert read(tmp_path, "user_id,item_id,type,timestamp", row, max_bad=1.0).bad_rows == 6, "a list of one item among items"


@pytest.mark.parametrize("cell", ["p{0}:2;p{1}:1", "2x p{0}; 1x p{1}", "product_id:{0}|quantity:1;product_id:{1}|quantity:2"])
def test_what_stands_beside_an_id_is_no_part_of_it(cell: str, tmp_path: Path) -> None:
    text = "user_id,timestamp,items\n" + "".join(f"{u(i)},{T0 + i},{cell.format(i % 7, (i + 1) % 7)}\n" for i in range(N))
    assert "lists of ids, got items such as" in str(refused(write(tmp_path / "log.csv", text), map={"item_id": "items"}))
    same = "user_id,timestamp,items\n" + "".join(f"{u(i)},{T0 + i},track:{i % 7};track:{i % 5}\n" for i in range(N))
    log = read_events(write(tmp_path / "log.csv", same), map={"item_id": "items"})
    assert set(log.events.collect()["item_id"]) == {f"track:{k}" for k in range(7)}


def test_amounts_with_a_word_among_them_cost_only_their_rows(tmp_path: Path) -> None:
    row = lambda i: f"{u(i)},{p(i)},purchase,{'Free' if i == 3 else f'${i}'},{T0 + i}"  # noqa: E731
    log = read(tmp_path, "user_id,item_id,type,value,timestamp", row, max_bad=0.1)
    assert log.bad_rows == 1 and log.events.collect()["value"].sum() == sum(range(N)) - 3
    for sign in ("元", "円", "%"):
        log = read(tmp_path, "user_id,item_id,type,value,timestamp", lambda i, s=sign: f"{u(i)},{p(i)},purchase,{i}{s},{T0 + i}")
        assert log.events.collect()["value"].sum() == sum(range(N))
    row = lambda i: f"{u(i)},{p(i)},purchase,{1 + i}万,{T0 + i}"  # noqa: E731
    assert read(tmp_path, "user_id,item_id,type,value,timestamp", row, max_bad=1.0).bad_rows == N, "tens of thousands"
