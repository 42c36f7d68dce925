"""What came of a row: the usual words are read, and words or numbers that nobody can be sure of never count as clicks."""

from collections.abc import Callable
from pathlib import Path

import pytest
from event_files import T0, refused, write

from qurate.events.readers import read_events

N = 60


def log(folder: Path, column: str, value: Callable[[int], object], header: str = "user_id,item_id,{},timestamp") -> Path:
    rows = "".join(f"u{i % 6},i{i % 7},{value(i)},{T0 + 60 * i}\n" for i in range(N))
    return write(folder / "log.csv", header.format(column) + "\n" + rows)


USUAL = ["yes/no", "Yes/No", "Y/N", "T/F", "true/FALSE", "1/0", "1.0/0.0", "on/off", "ja/nein", "sí/no", "sim/não", "是/否", "√/×", "✓/✗",
         "wahr/falsch", "vrai/faux", "да/нет", "はい/いいえ", "예/아니오", "有/无"]  # fmt: skip


@pytest.mark.parametrize("words", USUAL)
@pytest.mark.parametrize("nothing", ["", "NULL", "nan", "None"])
def test_usual_words_are_read_and_an_empty_one_is_no(words: str, nothing: str, tmp_path: Path) -> None:
    yes, no = words.split("/")
    path = log(tmp_path, "clicked", lambda i: yes if i % 4 == 0 else no if i % 4 < 3 else nothing)
    read = read_events(path)
    events = read.events.collect()
    assert read.decisions is not None and (read.decisions.collect().height, events.height, read.bad_rows) == (N, N // 4, 0)
    assert events["row"].to_list() == [2 + i for i in range(0, N, 4)]


UNCLEAR: list[tuple[str, list[object], str, str]] = [
    # column, its values in turn, what is said of them, what is to be typed
    ("clicked", ["click", "skip"], "0 and 1, or no and yes, got 'click', 'skip'", "--map type=clicked"),
    ("clicked", ["yes", "no", "maybe"], "0 and 1, or no and yes, got 'yes', 'no', 'maybe'", "--type click"),
    ("clicked", ["clicked", "not clicked"], "0 and 1, or no and yes, got 'clicked', 'not clicked'", "--map type=clicked"),
    ("clicked", ["x", ""], "0 and 1, or no and yes, got 'x'", "--type click"),
    ("is_clicked", [2, 3], "0 and 1, or no and yes, got '2', '3'", "--type click"),
    ("label", [-1, 0, 1], "0 and 1, or no and yes, got '-1', '0', '1'", "--type click"),
    ("label", [round(i / 97, 4) for i in range(97)], "0 and 1, or no and yes, got '0.0', '0.0103', '0.0206', ...", "--map value=label"),
    ("clicks", [0, 1, 2, 3], "0 and 1, or no and yes, got '0', '1', '2', ...", "--map value=clicks"),
    ("purchase", [0, 12.5], "0 and 1, or no and yes, got '0', '12.5'", "--map value=purchase"),
    ("rating", ["good", "bad", "ok"], "ratings that are numbers, got 'good', 'bad', 'ok'", "--map type=rating"),
    ("Stars given rating", ["like", "dislike"], "ratings that are numbers, got 'like', 'dislike'", "--map type='Stars given rating'"),
    ("event", [0, 1], "types of events, got '0', '1'", "say --map clicked=event if 1 is a click"),
]


@pytest.mark.parametrize("case", UNCLEAR, ids=[f"{case[0]} {case[1][:3]}" for case in UNCLEAR])
def test_other_words_and_numbers_are_refused_and_the_options_work(case: tuple[str, list[object], str, str], tmp_path: Path) -> None:
    column, values, said, typed = case
    path = log(tmp_path, column, lambda i: values[i % len(values)])
    error = refused(path)
    assert said in str(error) and f"{path}, column {column}" in str(error) and typed in error.typed and "--type click" in error.typed
    assert read_events(path, type="click").events.collect()["type"].to_list() == ["click"] * N
    if "--map type=" in error.typed:
        types = read_events(path, map={"type": column}, max_bad=1).events.collect()["type"]
        assert set(types) == {str(value) for value in values} - {""}
    if "--map value=" in error.typed:
        amounts = read_events(path, map={"value": column}, type="click").events.collect()["value"]
        assert amounts.to_list() == [values[i % len(values)] for i in range(N)]


def test_text_that_hardly_repeats_says_nothing_of_a_row_and_is_only_named(tmp_path: Path) -> None:
    read = read_events(log(tmp_path, "comment", lambda i: f"what I think of {i}"))
    assert read.events.collect()["type"].unique().to_list() == ["click"]
    assert any(note.startswith("comment is not read") for note in read.notes)


def test_a_column_that_says_what_happened_makes_the_words_harmless(tmp_path: Path) -> None:
    path = log(tmp_path, "type,clicked", lambda i: f"view,{['skip', 'click'][i % 2]}")
    assert read_events(path).events.collect()["type"].unique().to_list() == ["view"]
    single = log(tmp_path, "action", lambda i: 1)  # the same in every row: it tells nothing apart
    assert read_events(single).events.collect()["type"].unique().to_list() == ["click"]


def test_gorse_says_what_happened_in_a_column_of_feedback(tmp_path: Path) -> None:
    path = log(tmp_path, "feedback_type", lambda i: ["read", "like"][i % 2])
    assert sorted(read_events(path).events.collect()["type"].unique()) == ["like", "read"]


def test_a_table_beside_the_log_is_not_refused_for_its_counts(tmp_path: Path) -> None:
    log(tmp_path, "type", lambda i: "view")
    write(tmp_path / "posts.csv", "item_id,like,share\n" + "".join(f"i{i},{10 * i},{i}\n" for i in range(7)))
    assert read_events(tmp_path).rows == N
