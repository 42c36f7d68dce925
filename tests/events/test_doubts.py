"""Small logs that were read wrong without a word: read right, refused, or a note that names it."""

import json
from pathlib import Path
from typing import Any

import pytest

from qurate.errors import UserError
from qurate.events.readers import read_events

T = 1_717_200_000


def csv(path: Path, header: str, rows: list[str]) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def notes_of(path: Path, **options: Any) -> str:
    return "\n".join(read_events(path, **options).notes)


def test_ids_and_times_that_a_spreadsheet_has_cut_are_named(tmp_path: Path) -> None:
    ids = csv(tmp_path / "ids.csv", "user_id,item_id,timestamp", [f"u{i % 3},1.2345{i % 4}E+12,{T + i}" for i in range(20)])
    assert "ids such as '1.23450E+12' in item_id have lost digits" in notes_of(ids)
    times = csv(tmp_path / "times.csv", "user_id,item_id,timestamp", [f"u{i % 3},i{i},1.71{i:03d}E+09" for i in range(20)])
    assert "times such as '1.71000E+09' have lost their last digits" in notes_of(times)
    names = csv(tmp_path / "names.csv", "user_id,item_id,timestamp", [f"u{i % 3},E{i}-e1,{T + i}" for i in range(20)])
    assert "lost" not in notes_of(names), "an id with an e in it is whole"


@pytest.mark.parametrize("missing", ["#N/A", "#REF!", "<NA>", "NaN", "\\N", ""])
def test_a_row_without_an_item_is_no_click(missing: str, tmp_path: Path) -> None:
    log = csv(tmp_path / "log.csv", "user_id,item_id,timestamp", [f"u{i % 3},{missing if i % 2 else f'i{i}'},{T + i}" for i in range(20)])
    with pytest.raises(UserError, match=r"got 10 of 20 \(50.0%\), most often: missing item_id \(first in line 3\)"):
        read_events(log)
    typed = csv(tmp_path / "typed.csv", "user_id,item_id,type,timestamp", [f"u{i % 3},{missing},search,{T + i}" for i in range(20)])
    assert read_events(typed).events.collect()["item_id"].null_count() == 20, "other events may have none"


def test_text_kept_from_a_spreadsheet_is_its_id(tmp_path: Path) -> None:
    log = csv(tmp_path / "log.csv", "user_id,item_id,timestamp", [f'u{i % 3},"=""00{i % 4}""",{T + i}' for i in range(20)])
    assert read_events(log).events.collect()["item_id"].unique().sort().to_list() == ["000", "001", "002", "003"]


def test_a_label_of_minus_one_and_one_says_what_was_clicked(tmp_path: Path) -> None:
    log = csv(
        tmp_path / "log.csv", "user_id,item_id,label,timestamp", [f"u{i % 3},i{i},{1 if i % 4 == 0 else -1},{T + i}" for i in range(20)]
    )
    read = read_events(log)
    assert read.kind == "exposure" and read.decisions is not None
    assert (read.decisions.collect().height, read.events.collect().height) == (20, 5)
    assert "label: -1 and 1 are read as no and yes" in read.notes


def test_an_answer_that_cannot_be_read_is_refused_where_every_row_would_count(tmp_path: Path) -> None:
    log = csv(tmp_path / "log.csv", "user_id,item_id,label,timestamp", [f"u{i % 3},i{i},{i % 3 - 1},{T + i}" for i in range(21)])
    with pytest.raises(UserError, match="0 and 1, or no and yes, got '-1', '0', '1'"):
        read_events(log)
    typed = csv(tmp_path / "typed.csv", "user_id,item_id,type,label,timestamp", [f"u{i % 3},i{i},view,{i % 3},{T + i}" for i in range(21)])
    assert "label is not read" not in notes_of(typed)


def test_lists_that_say_what_was_clicked_are_no_baskets(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    shown = [{"id": "a", "click": 0}, {"id": "b", "click": 1}, {"id": "c", "click": 0}]
    log.write_text("\n".join(json.dumps({"user_id": f"u{i % 3}", "timestamp": T + i, "impressions": shown}) for i in range(20)))
    with pytest.raises(UserError, match=r'map=\{"shown": "impressions"\}'):
        read_events(log)
    with pytest.raises(UserError, match=r"which say what came of each item.*say map"):
        read_events(log, map={"item_id": "impressions"})
    read = read_events(log, map={"shown": "impressions"})
    assert read.decisions is not None and read.decisions.collect()["shown"].list.len().to_list() == [3] * 20
    assert read.events.collect()["item_id"].to_list() == ["b"] * 20


def test_a_vector_named_clicks_answers_the_list(tmp_path: Path) -> None:
    log = csv(tmp_path / "log.csv", "user_id,timestamp,shown,clicks", [f'u{i % 3},{T + i},a|b|c,"[0, 0, 1]"' for i in range(20)])
    assert read_events(log).events.collect()["item_id"].to_list() == ["c"] * 20


def test_times_that_count_from_another_day_are_refused_or_named(tmp_path: Path) -> None:
    ticks = csv(tmp_path / "ticks.csv", "user_id,item_id,timestamp", [f"u,i{i},{(T + i) * 10**7 + 621355968 * 10**9}" for i in range(20)])
    with pytest.raises(UserError, match=r"1990 in ns.*ticks of 100 ns since 1601 or since the year 1"):
        read_events(ticks)
    apple = csv(tmp_path / "apple.csv", "user_id,item_id,timestamp", [f"u,i{i},{T + i - 978_307_200}" for i in range(20)])
    assert "are read as s since 1970, of the year 1993: is that so?" in notes_of(apple)
    old = csv(tmp_path / "old.csv", "user_id,item_id,timestamp", [f"u,i{i},{880_000_000 + i}" for i in range(20)])
    assert "is that so" not in notes_of(old), "MovieLens has ratings of 1997"


def test_a_hint_quotes_a_name_with_a_blank(tmp_path: Path) -> None:
    log = csv(tmp_path / "log.csv", "email,product name,date", [f"u{i % 3},i{i},2024-06-01" for i in range(20)])
    with pytest.raises(UserError) as caught:
        read_events(log)
    assert "--map item_id='product name' --map" in (caught.value.hint or "")
    assert '"item_id": "product name"' in str(caught.value)


@pytest.mark.parametrize("text", ["p0,p1", "p0, p1", "p0;p1", "p0 p1"])
def test_several_ids_in_one_text_are_a_list_or_are_named(text: str, tmp_path: Path) -> None:
    rows = [f'u{i % 3},"{text if i % 4 else "p7"}",{T + i}' for i in range(20)]
    log = csv(tmp_path / "log.csv", "user_id,item_ids,timestamp", rows)
    read = read_events(log, map={"item_id": "item_ids"}).events.collect()
    assert sorted(read["item_id"].unique()) == ["p0", "p1", "p7"] and read.height == 35
    single = csv(tmp_path / "single.csv", "user_id,item_id,timestamp", rows)
    assert f"item_id such as {text!r} may be several items" in notes_of(single)


def test_names_of_several_words_are_one_item(tmp_path: Path) -> None:
    log = csv(tmp_path / "log.csv", "user_id,item_id,timestamp", [f'u{i % 3},"Shirt, blue {i % 4}",{T + i}' for i in range(20)])
    assert "several" not in notes_of(log)


@pytest.mark.parametrize("name", ["item_id", "shown"])
def test_scores_are_no_part_of_an_id(name: str, tmp_path: Path) -> None:
    log = csv(tmp_path / "log.csv", "user_id,items,timestamp", [f"u{i % 3},a:0.9|b:0.{i},{T + i}" for i in range(1, 20)])
    with pytest.raises(UserError, match=r"lists of ids, got items such as 'a:0.9'"):
        read_events(log, map={name: "items"})


@pytest.mark.parametrize("name", ["user_id", "session_id"])
def test_an_object_is_no_id(name: str, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    rows = [{"who": {"id": f"u{i % 3}", "age": 7}, "item_id": f"i{i}", "timestamp": T + i} for i in range(20)]
    log.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UserError, match=rf'objects such as .*; name the field inside: map={{"{name}": "who.id"}}'):
        read_events(log, map={name: "who"})
    assert read_events(log, map={name: "who.id"}).events.collect()["user_id"].unique().sort().to_list() == ["u0", "u1", "u2"]


def test_columns_named_after_events_say_which_happened(tmp_path: Path) -> None:
    rows = [f"u{i % 3},i{i},{int(i % 2 == 0)},{int(i % 5 == 0)},{T + i}" for i in range(20)]
    log = csv(tmp_path / "log.csv", "user_id,item_id,like,purchase,timestamp", rows)
    counts = dict(read_events(log).events.collect()["type"].value_counts().iter_rows())
    assert counts == {"like": 10, "purchase": 4}
    amounts = csv(tmp_path / "a.csv", "user_id,item_id,purchase,timestamp", [f"u,i{i},{i % 2 * 12.5},{T + i}" for i in range(20)])
    with pytest.raises(UserError, match=r'column purchase; write 0 and 1; or say .*map=\{"value": "purchase"\}'):
        read_events(amounts)
    event = csv(tmp_path / "e.csv", "user_id,item_id,event,timestamp", [f"u,i{i},{i % 2},{T + i}" for i in range(20)])
    with pytest.raises(UserError, match=r"types of events, got '0', '1'.*say map=\{\"clicked\": \"event\"\} if 1 is a click"):
        read_events(event)


def test_lists_of_lists_are_no_ids(tmp_path: Path) -> None:
    for name, inside in (("mixed", [["a", 0.2], ["b", 0.8]]), ("texts", [["a", "b"], ["c", "d"]])):
        log = tmp_path / f"{name}.jsonl"
        log.write_text("\n".join(json.dumps({"user_id": "u", "timestamp": T + i, "shown": inside}) for i in range(20)))
        with pytest.raises(UserError, match="shown is no list that can be read"):
            read_events(log)


def test_thousands_in_letters_are_no_numbers_and_currencies_are_named(tmp_path: Path) -> None:
    def log(name: str, values: list[str]) -> Path:
        rows = [f"u,i{i},purchase,{values[i % len(values)]},{T + i}" for i in range(20)]
        return csv(tmp_path / name, "user_id,item_id,type,value,timestamp", rows)

    with pytest.raises(UserError, match="value is not a number"):
        read_events(log("k.csv", ["1.2k", "3"]))
    assert "value is read as currency text, decimal point; EUR, USD count alike" in notes_of(log("two.csv", ["USD 12", "EUR 10", "5"]))
    one = read_events(log("one.csv", ["USD 12", "10 USD"]))
    assert one.events.collect()["value"].sum() == 220 and "alike" not in "".join(one.notes)


def test_words_of_events_in_a_column_that_is_not_read_are_named(tmp_path: Path) -> None:
    rows = [f"u{i % 3},i{i % 4},{'viewed' if i % 3 else 'bought'},{'phone' if i % 2 else 'desktop'},{T + i}" for i in range(20)]
    log = read_events(csv(tmp_path / "log.csv", "user_id,item_id,verb,device,timestamp", rows))
    assert "every row counts as click, whatever verb says, such as 'bought': say --map type=verb" in log.typed_notes
    assert {one["column"]: one["nearest"] for one in log.files[0]["columns"] if one["role"] is None} == {"verb": "type", "device": None}
    read = read_events(tmp_path / "log.csv", map={"type": "verb"})
    assert "verb" not in " ".join(read.notes) and dict(read.events.collect().group_by("type").len().rows()) == {"viewed": 13, "bought": 7}


def test_a_bandit_whose_table_names_its_users_keeps_them(tmp_path: Path) -> None:
    for name in ("customer_id", "userId", "session_id"):
        rows = [f"{T + i},c{i % 3},a{i % 4},{i % 2},0.25" for i in range(20)]
        log = read_events(csv(tmp_path / "log.csv", f"timestamp,{name},action,reward,pscore", rows))
        assert log.events.collect()["user_id"].unique().sort().to_list() == ["c0", "c1", "c2"], name
        assert "every row is one of its own" not in " ".join(log.notes)
    csv(tmp_path / "log.csv", "timestamp,device,action,reward,pscore", rows)
    assert "no column names a user: every row is one of its own" in notes_of(tmp_path / "log.csv")


def test_words_between_semicolons_or_commas_are_baskets_where_the_name_says_so(tmp_path: Path) -> None:
    texts = ["milk;bread", "bread;beer;milk", "beer;milk", "bread"]
    rows = [f'u{i % 3},"{texts[i % 4]}",{T + 900 * i}' for i in range(20)]
    odd = notes_of(csv(tmp_path / "odd.csv", "user_id,item_id,timestamp", rows))
    assert "item_id such as 'milk;bread' may be several items: each text is read as one id" in odd
    for sign in (";", ", "):
        log = read_events(
            csv(tmp_path / "log.csv", "user_id,products,timestamp", [row.replace(";", sign) for row in rows]), map={"item_id": "products"}
        )
        assert log.events.collect()["item_id"].unique().sort().to_list() == ["beer", "bread", "milk"]
    titles = [f'u{i % 3},"Shirt {"abcd"[i % 4]}, red",{T + i}' for i in range(20)]
    assert "several items" not in notes_of(csv(tmp_path / "titles.csv", "user_id,item_id,timestamp", titles))


@pytest.mark.parametrize("name", ["游客", "匿名用户", "00000000-0000-0000-0000-000000000000"])
def test_guests_under_other_names_are_nobody(name: str, tmp_path: Path) -> None:
    rows = [f"{name if i % 3 == 0 else f'u{i % 9}'},i{i % 4},s{i // 5},{T + i}" for i in range(60)]
    path = csv(tmp_path / "log.csv", "user_id,item_id,session_id,timestamp", rows)
    assert f"user {name!r} of 20 in 60 rows is no user: the session stands in" in notes_of(path)
    assert name not in read_events(path).events.collect()["user_id"].to_list()


def test_a_year_of_two_digits_is_asked_for_and_not_taken_for_the_year_1(tmp_path: Path) -> None:
    path = csv(tmp_path / "log.csv", "user_id,item_id,timestamp", [f"u{i % 3},i{i % 4},0{i % 9 + 1}-0{i % 5 + 1}-05" for i in range(20)])
    with pytest.raises(UserError, match=r"got '01-01-05', where no value above 12 tells day from month"):
        read_events(path)
    assert read_events(path, time_form="D/M/Y").events.collect()["timestamp"].dt.year().unique().to_list() == [2005]
