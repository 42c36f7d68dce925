"""Real exports: who is nobody, which rows name no item or no probability, and hints that lead on."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from event_files import T0, refused, write

from qurate.errors import UserError
from qurate.events.nearest_role import nearest_role
from qurate.events.readers import read_events
from qurate.mdp.dataset import build_dataset
from qurate.mdp.plan import plausibility

N = 60


def table(header: str, line: Callable[[int], str]) -> str:
    return header + "\n" + "".join(line(i) + "\n" for i in range(N))


def users(name: Callable[[int], object]) -> str:
    return table("user_id,item_id,timestamp", lambda i: f"{name(i)},p{i % 7},{T0 + i}")


def nobody_in(path: Path) -> list[str]:
    return [note.partition(" of ")[0] for note in read_events(path).notes if "is no user" in note]


EMPTY_MD5 = "d41d8cd98f00b204e9800998ecf8427e"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (lambda i: -1 if i % 4 == 0 else i % 6, "-1"),
        (lambda i: "0" if i % 4 == 0 else f"u{i % 6}", "0"),
        (lambda i: "0.0" if i % 4 == 0 else f"{1000 + i % 6}.0", "0.0"),
        (lambda i: EMPTY_MD5 if i % 4 == 0 else f"u{i % 6}", EMPTY_MD5),
        (lambda i: i % 6, None),
        (lambda i: -1 - i % 6, None),
        (lambda i: i // 15 * 2, None),
    ],
    ids=["-1", "0 among words", "0.0 among large numbers", "a hash of nothing", "from 0 on", "below 0", "sorted by user"],
)
def test_numbers_that_are_nobody(name: Callable[[int], object], found: str | None, tmp_path: Path) -> None:
    """A number beside its neighbour, or first of a sorted file, may be a user like the others."""
    assert nobody_in(write(tmp_path / "log.csv", users(name))) == ([f"user {found!r}"] if found else [])


def test_types_whose_rows_all_name_no_item_are_said(tmp_path: Path) -> None:
    text = table(
        "user_id,item_id,type,timestamp",
        lambda i: f"u{i % 6},{'' if i % 3 == 0 else f'p{i % 7}'},{'order' if i % 3 == 0 else 'view'},{T0 + i}",
    )
    notes = read_events(write(tmp_path / "log.csv", text)).notes
    assert "20 of 60 rows name no item: they are events without one, among them all of order" in notes
    some = text.replace(",order,", ",view,", 19)
    assert (
        "20 of 60 rows name no item: they are events without one, among them all of order"
        in read_events(write(tmp_path / "l.csv", some)).notes
    )
    none = text.replace(",order,", ",view,")
    assert "20 of 60 rows name no item: they are events without one" in read_events(write(tmp_path / "m.csv", none)).notes


@pytest.mark.parametrize("shown", ["an item", "a list"])
def test_shown_without_a_probability_is_said(shown: str, tmp_path: Path) -> None:
    head, what = ("item_id,click", "p1,1") if shown == "an item" else ("shown,clicked", "p1|p2,1|0")
    chance = "0.5" if shown == "an item" else "0.5|0.5"
    text = table(f"user_id,{head},propensity,timestamp", lambda i: f"u{i % 6},{what},{'' if i % 10 == 0 else chance},{T0 + i}")
    assert "6 of 60 rows show something without a propensity" in read_events(write(tmp_path / "log.csv", text)).notes
    whole = text.replace(",,", f",{chance},")
    assert not [note for note in read_events(write(tmp_path / "whole.csv", whole)).notes if "propensity" in note]


def test_answers_in_rows_of_their_own_need_no_probability(tmp_path: Path) -> None:
    text = table("user_id,item_id,type,propensity,timestamp", lambda i: f"u{i % 6},p1,{'click,' if i % 3 == 0 else 'shown,0.5'},{T0 + i}")
    assert not [note for note in read_events(write(tmp_path / "log.csv", text)).notes if "propensity" in note]


@pytest.mark.parametrize("written", ["25%", "25", "-1.386"])
def test_percentages_and_logarithms_are_no_probabilities(written: str, tmp_path: Path) -> None:
    text = table("user_id,item_id,click,propensity,timestamp", lambda i: f"u{i % 6},p{i % 7},{i % 2},{written},{T0 + i}")
    assert "percentages divided by 100" in refused(write(tmp_path / "log.csv", text)).hint


def test_rows_below_the_first_of_an_order_that_name_no_user(tmp_path: Path) -> None:
    text = table("user_id,order,item_id,timestamp", lambda i: f"{'' if i % 2 else f'u{i % 6}'},o{i // 2},p{i % 7},{T0 + i}")
    assert "where only the first row of an order names its user, repeat it below" in refused(write(tmp_path / "log.csv", text)).hint


def test_floats_of_32_bits_hold_no_times_and_few_ids() -> None:
    rows = pl.DataFrame({"user_id": [f"u{i % 6}" for i in range(N)], "item_id": [20_000_001.0 + i % 7 for i in range(N)],
                         "timestamp": [float(T0 + 600 * i) for i in range(N)]})  # fmt: skip
    assert read_events(rows).notes == []
    notes = read_events(rows.cast({"item_id": pl.Float32, "timestamp": pl.Float32})).notes
    assert any("floats, which hold 7 digits" in note for note in notes) and any(
        note.startswith("timestamp holds floats of 32 bits") for note in notes
    )


@pytest.mark.parametrize(
    ("column", "role"),
    [("watch_time", "value"), ("time_spent", "value"), ("timeOnPage", "value"), ("停留时间", "value"), ("view_time", "timestamp"),
     ("start_time", "timestamp"), ("time_zone", None), ("fullVisitorId", "user_id"), ("shop_customer_id", "user_id"),
     ("lineitem_product_id", "item_id")],
)  # fmt: skip
def test_the_nearest_role_of_a_name(column: str, role: str | None) -> None:
    assert nearest_role(column) == role


def test_a_country_of_visitors_is_no_user(tmp_path: Path) -> None:
    """Searches for hotels: Expedia."""
    header = "srch_id,date_time,site_id,visitor_location_country_id,prop_id,position,click_bool"
    text = table(header, lambda i: f"{i // 5},2024-06-01 10:00:{i:02d},12,{i % 4},{i % 7 + 893},{i % 5 + 1},{int(i % 5 == 0)}")
    assert "user_id=COL" in refused(write(tmp_path / "log.csv", text)).typed


@pytest.mark.parametrize("users", [1, 3, 60])
def test_one_user_with_a_large_share_of_the_events_is_said(users: int, tmp_path: Path) -> None:
    """A site or a country may stand where the user should."""
    name = {1: lambda i: "12", 3: lambda i: f"u{i % 3}", 60: lambda i: "x" if i % 4 == 0 else f"u{i % 60}"}[users]
    rows = [{"user_id": name(i), "item_id": f"p{i % 7}", "timestamp": T0 + 60 * i} for i in range(400)]
    notes = plausibility(build_dataset(read_events(pl.DataFrame(rows))))
    said = {1: "user '12' has 400 of 400 events", 3: "", 60: "user 'x' has 100 of 400 events"}[users]
    assert [note.partition(" (")[0] for note in notes] == ([said] if said else [])


def test_answers_beside_a_type_that_never_changes_are_said(tmp_path: Path) -> None:
    text = table("user_id,item_id,type,label,timestamp", lambda i: f"u{i % 6},p{i % 7},impression,{int(i % 4 == 0)},{T0 + i}")
    notes = read_events(write(tmp_path / "log.csv", text)).notes
    assert len(notes) == 1 and notes[0].startswith("label holds 0 and 1 and is not read, because type says what happened")
    assert read_events(write(tmp_path / "two.csv", text.replace(",impression,1,", ",click,1,"))).notes == []
    without = "".join(line.replace(",impression", "") + "\n" for line in text.replace(",type", "").splitlines())
    assert read_events(write(tmp_path / "shown.csv", without)).events.collect()["type"].to_list() == ["click"] * 15


@pytest.mark.parametrize(
    ("write_id", "said"),
    [
        (lambda i: f"{i % 20:04d}" if i < 200 else str(i % 20), "items differ from another only in how they are written, such as '0'"),
        (lambda i: f"SKU{i % 20}" if i < 200 else f"sku{i % 20}", "items differ from another only in how they are written, such as 'SKU0'"),
        (lambda i: f"{i % 20:04d}", ""),
    ],
    ids=["leading zeros in one file", "capitals in one file", "alike"],
)
def test_ids_of_one_log_that_are_written_in_two_ways_are_said(write_id: Callable[[int], str], said: str) -> None:
    rows = [{"user_id": f"u{i % 60}", "item_id": write_id(i), "timestamp": T0 + 60 * i} for i in range(400)]
    notes = plausibility(build_dataset(read_events(pl.DataFrame(rows))))
    assert len(notes) == bool(said) and all(said in note for note in notes)


VIEWS = table("sessionId;userId;itemId;timeframe;eventdate", lambda i: f"{i % 6};NA;{81766 + i % 7};{i};2016-05-09")
BUYS = table("sessionId;userId;timeframe;eventdate;ordernumber;itemId", lambda i: f"{i % 6};NA;{i};2016-05-09;{i};{81766 + i % 7}")


@pytest.mark.parametrize("more", [{}, {"a-categories.csv": table("itemId;categoryId", lambda i: f"{81766 + i};3")}], ids=["two", "three"])
def test_the_hint_for_a_folder_names_the_columns_of_its_log(more: dict[str, str], tmp_path: Path) -> None:
    """Diginetica: tables of what happened, each whole, beside one of items, which is not to be joined to them."""
    for name, text in {"item-views.csv": VIEWS, "purchases.csv": BUYS, **more}.items():
        write(tmp_path / name, text)
    hint = refused(tmp_path).typed
    assert "--map user_id=userId --map item_id=itemId --map timestamp=eventdate --map session_id=sessionId" in hint
    given = {"session_id": "sessionId", "item_id": "itemId", "timestamp": "eventdate"}
    assert dict(read_events(tmp_path, map=given).events.collect()["type"].value_counts().iter_rows()) == {"view": N, "purchase": N}


def test_notes_name_arguments_to_a_caller_from_python(tmp_path: Path) -> None:
    rows = pl.DataFrame({"user": ["NA"] * 20 + [f"u{i % 6}" for i in range(40)], "item_id": ["p1", "p2"] * 30, "time": [T0, T0 + 9] * 30})
    log = read_events(rows)
    assert not [note for note in log.notes if "--" in note]
    assert any("name a session with map" in note for note in log.notes) and any("keep_duplicates=True reads" in note for note in log.notes)
    assert any("--map session_id=COLUMN" in note for note in log.typed_notes)
    with pytest.raises(UserError, match="map="):
        read_events(rows.rename({"user": "who"}))
