"""Small logs in the forms of public data sets and of common exports: read right, or refused with a hint that works when typed."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from event_files import write

from qurate.cli import app as cli
from qurate.errors import UserError
from qurate.events.readers import read_events

T0 = 1_717_200_000
N = 60


def at(i: int, form: str = "%Y-%m-%d %H:%M:%S", step: int = 900) -> str:
    return datetime.fromtimestamp(T0 + step * i, UTC).strftime(form)


def table(header: str, line: Callable[[int], str], n: int = N) -> str:
    return "".join(text + "\n" for text in [*([header] if header else []), *(line(i) for i in range(n))])


def records(record: Callable[[int], dict[str, Any]], n: int = N) -> str:
    return "".join(json.dumps(record(i), ensure_ascii=False) + "\n" for i in range(n))


def ga4(i: int) -> dict[str, Any]:
    items = [{"item_id": f"p{(i + k) % 7}", "price": 9.5} for k in range(1 + (i % 3 == 1))] if i % 3 < 2 else []
    params = [{"key": "ga_session_id", "value": {"int_value": str(i // 4)}}]
    what = {"event_name": ["view_item", "purchase", "page_view"][i % 3], "event_params": params, "items": items}
    return {"event_date": at(i, "%Y%m%d"), "event_timestamp": str(T0 * 10**6 + i), **what, "user_pseudo_id": f"{i % 6}.1", "user_id": None}


def segment(i: int) -> dict[str, Any]:
    who = {"userId": None if i % 3 else f"u{i % 6}", "anonymousId": f"a{i % 5}"}
    what = {"type": "track", "event": ["Product Viewed", "Order Completed"][i % 2], "properties": {"product_id": f"p{i % 7}"}}
    return {**what, **who, "timestamp": at(i, "%Y-%m-%dT%H:%M:%SZ")}


def steam(i: int) -> str:
    games = [{"item_id": str(10 * (i % 5) + k), "item_name": "Tom's Half-Life", "playtime_forever": 6 * k} for k in range(3)]
    return str({"user_id": f"765{i}", "items_count": 3, "user_url": "http://x", "items": games, "private": None})


def stars(text: Callable[[int], str]) -> str:
    return table("user_id,item_id,rating,timestamp", lambda i: f"u{i % 6},i{i % 7},{text(1 + i % 5)},{T0 + 60 * i}")


def clicked(yes: str, no: str) -> str:
    return table("user_id,item_id,clicked,timestamp", lambda i: f"u{i % 6},i{i % 7},{no if i % 4 else yes},{T0 + 60 * i}")


RATED = {"types": {"rating": 60}, "value": 180.0, "lists": 0, "users": 6, "items": 7}
READ: list[tuple[str, str, str, dict[str, Any]]] = [
    # name of the file, what it holds, what is read of it
    ("3/5", "log.csv", stars(lambda n: f"{n}/5"), RATED),
    ("3 out of 5", "log.csv", stars(lambda n: f"{n} out of 5"), RATED),
    ("3 stars", "log.csv", stars(lambda n: "1 star" if n == 1 else f"{n} stars"), RATED),
    ("3星", "log.csv", stars(lambda n: f"{n}星"), RATED),
    ("★★★☆☆", "log.csv", stars(lambda n: "★" * n + "☆" * (5 - n)), RATED),
    ("a rating's own name", "log.csv", stars(str).replace("rating", "Book-Rating"), RATED),
    *(
        (f"{yes} and {no}", "log.csv", clicked(yes, no), {"types": {"click": 15}, "lists": 60, "items": 7})
        for yes, no in (("yes", "no"), ("True", "False"), ("Y", "N"), ("是", "否"), ("ja", "nein"), ("on", "off"), ("1.0",
     "0.0"), ("1", ""))
    ),
    ("Chinese", "log.csv", table("用户ID,商品ID,行为类型,时间戳", lambda i: f"{i % 6},{i % 7},click,{T0 + i}"),
     {"types": {"click": 60}, "users": 6}),
    ("Chinese dates", "log.csv", table("用户编号,物品编号,评分,日期",
     lambda i: f"{i % 6},{i % 7},{1 + i % 5},{at(i, '%Y年%m月%d日', 90_000)}"),
     {**RATED, "days": 60}),
    ("Chinese clicks", "log.csv", table("用户,商品,是否点击,时间", lambda i: f"{i % 6},{i % 7},{i % 2},{at(i, '%Y年%m月%d日 %H时%M分')}"),
     {"types": {"click": 30}, "lists": 60, "items": 7}),
    ("traditional", "log.csv", table("用戶ID,商品,行為,時間", lambda i: f"{i % 6},{i % 7},view,{at(i)}"), {"types": {"view": 60},
     "items": 7}),
    ("H&M", "transactions_train.csv", table("t_dat,customer_id,article_id,price,sales_channel_id",
     lambda i: f"{at(i, '%Y-%m-%d', 40_000)},c{i % 6},0{663713001 + i % 7},0.05,2"), {"types": {"click": 60}, "users": 6, "items": 7}),
    ("Amazon", "Beauty_5.json", records(lambda i: {"reviewerID": f"A{i % 6}", "asin": f"B{i % 7}", "overall": float(1 + i % 5),
     "unixReviewTime": T0 + 86_400 * i, "reviewTime": "01 30, 2014"}), {**RATED, "days": 60}),
    ("Yelp", "review.json", records(lambda i: {"review_id": f"r{i}", "user_id": f"u{i % 6}", "business_id": f"b{i % 7}", "stars": 1 + i % 5,
     "date": at(i)}), RATED),
    ("Excel", "log.csv", "\ufeffsep=;\n" + table("user_id;item_id;rating;timestamp",
     lambda i: f"u{i % 6};i{i % 7};{1 + i % 5},0;{at(i, '%d.%m.%Y %H:%M')}"),
     RATED),
    ("no extension", "20170101", records(lambda i: {"user_id": f"u{i % 6}", "item_id": f"i{i % 7}", "type": "view", "timestamp": T0 + i}),
     {"types": {"view": 60}, "items": 7}),
]  # fmt: skip


def found(path: Path, **options: Any) -> dict[str, Any]:
    log = read_events(path, **options)
    events = log.events.collect()
    decisions = None if log.decisions is None else log.decisions.collect()
    return {
        "types": dict(events.group_by("type").len().rows()),
        "value": round(events["value"].sum(), 6),
        "lists": 0 if decisions is None else decisions.height,
        "users": events["user_id"].n_unique(),
        "items": events["item_id"].n_unique() if decisions is None else decisions["shown"].explode().n_unique(),
        "days": events["timestamp"].dt.date().n_unique(),
    }


@pytest.mark.parametrize("case", READ, ids=[case[0] for case in READ])
def test_what_it_holds_is_read(case: tuple[str, str, str, dict[str, Any]], tmp_path: Path) -> None:
    _, name, text, expected = case
    got = found(write(tmp_path / name, text))
    assert {key: got[key] for key in expected} == expected


def test_ratings_out_of_different_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ratings that are numbers, got '1/5', '2/10', '3/5'"):
        read_events(write(tmp_path / "log.csv", stars(lambda n: f"{n}/{5 if n % 2 else 10}")))


def test_a_column_that_stands_twice_is_named(tmp_path: Path) -> None:
    log = read_events(write(tmp_path / "log.csv", table("user_id,item_id,item_id,timestamp", lambda i: f"u{i % 6},i{i % 7},x,{T0 + i}")))
    assert any("the header has item_id twice: the later one is item_id_2" in note for note in log.notes)


HINTS: list[tuple[str, str, str, dict[str, int]]] = [
    # what the hint says, typed as it stands, reads these events
    ("GA4", "ga4.jsonl", records(ga4), {"purchase": 40, "view_item": 20, "page_view": 20}),
    ("Segment", "calls.jsonl", records(segment), {"Product Viewed": 30, "Order Completed": 30}),
    ("Steam", "australian_users_items.json", table("", steam), {"click": 180}),
    ("Goodreads", "reviews.json", records(lambda i: {"user_id": f"u{i % 6}", "book_id": f"{i % 7}", "review_id": f"r{i}",
     "rating": 1 + i % 5,
     "date_added": at(i, "%a %b %d %H:%M:%S -0700 %Y")}), {"rating": 60}),
    ("Yoochoose", "yoochoose-clicks.dat", table("", lambda i: f"{i // 4},{at(i, '%Y-%m-%dT%H:%M:%S.000Z')},{214536500 + i % 7},0"),
     {"click": 60}),
    ("Amazon's ratings", "ratings_Beauty.csv", table("", lambda i: f"A{i % 6},B{i % 7},{1 + i % 5}.0,{T0 + i}"), {"rating": 60}),
    ("Last.fm 1K", "plays.tsv", table("",
     lambda i: f"user_{i % 6}\t{at(i, '%Y-%m-%dT%H:%M:%SZ')}\tf1b1-{i % 7}\tDeep Dish\t{i % 9}-ab\tFly {i % 9}"),
     {"click": 60}),
    ("Last.fm 360K", "plays.tsv", table("", lambda i: f"00{i % 6}c2\t3bd7-{i % 7}\tbetty blowtorch {i % 7}\t{2137 - i}"), {"click": 60}),
    ("Foursquare", "checkins.txt", table("",
     lambda i: f"{i % 6}\t49bb{i % 7}\t4bf5\tArts & Crafts\t40.7{i}\t-74.0\t-240\t{at(i, '%a %b %d %H:%M:%S +0000 %Y')}"),
     {"click": 60}),
    ("Gowalla", "checkins.txt", table("", lambda i: f"{i % 6}\t{at(i, '%Y-%m-%dT%H:%M:%SZ')}\t30.2{i}\t-97.7{i}\t{22847 + i % 7}"),
     {"click": 60}),
    ("a spreadsheet's dates", "log.csv", table("user_id,item_id,type,timestamp", lambda i: f"u{i % 6},i{i % 7},view,{45_444 + i / 24:.6f}"),
     {"view": 60}),
    ("decimal commas", "log.csv", table("user_id;item_id;type;date",
     lambda i: f"u{i % 6};i{i % 7};view;{45_444 + i / 24:.6f}".replace(".", ",")),
     {"view": 60}),
    ("German", "log.csv", table("Kunde;Artikel;Datum;Menge", lambda i: f"k{i % 6};a{i % 7};{1 + i % 28:02}.06.2024;{1 + i % 3}"),
     {"click": 60}),
    ("Japanese", "log.csv", table("ユーザーID,商品ID,日時", lambda i: f"k{i % 6},a{i % 7},{at(i)}"), {"click": 60}),
    ("a retailer's invoices", "retail.csv", table("InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID",
     lambda i: f"5363{i // 3},85{i % 7}A,HOLDER,6,12/13/2010 {8 + i // 10}:26,2.55,1785{i % 6}"), {"click": 60}),
]  # fmt: skip


def hinted(line: str) -> list[str]:
    """The options that an error says to type, up to the first alternative."""
    said = re.search(r"--(?:columns|map|time-form).*", line.rpartition(", at ")[2])
    assert said is not None, line
    words = shlex.split(re.split(r", or | if they|; or", said[0])[0].replace(", and --order, because none holds times", " --order"))
    return [word for word in words if word.startswith("--") or words[words.index(word) - 1].startswith("--")]


@pytest.mark.parametrize("case", HINTS, ids=[case[0] for case in HINTS])
def test_the_hint_works_when_typed(case: tuple[str, str, str, dict[str, int]], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, name, text, expected = case
    path = str(write(tmp_path / name, text))
    more: list[str] = []
    for _ in range(2):  # a log without times is asked for its order in a second error
        code = cli.main(["ingest", path, "--plan", "--quiet", "--json", *more])
        out, err = capsys.readouterr()
        if out:
            break
        line = next(line for line in err.splitlines() if line.startswith("error: "))
        missing_time = "--order, if the log has no times" in line
        more += [*hinted(line), *(["--order"] if missing_time else [])]
        more = [word for i, word in enumerate(more) if "timestamp=COL" not in (word, *more[i + 1 : i + 2])]
    plan = json.loads(out)["plan"]
    assert {one["type"]: one["rows"] for one in plan["types"]} == expected, (code, err)
    assert plan["bad_rows"] == 0


def test_two_tables_are_joined_by_the_command_in_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Instacart: who and when in one table, what in another."""
    monkeypatch.chdir(tmp_path)
    write(Path("orders.csv"), table("order_id,user_id,eval_set,order_number", lambda i: f"{i},{i % 6},prior,{1 + i // 6}"))
    write(Path("products.csv"), table("order_id,product_id,add_to_cart_order", lambda i: f"{i // 2},{i % 9},{1 + i % 2}", 120))
    for given in (["orders.csv", "products.csv"], ["products.csv", "orders.csv"], "."):
        with pytest.raises(UserError) as caught:
            read_events(given)
        assert "order_id in common" in str(caught.value)
    code = re.search("python -c '(.*)' and give joined.csv", caught.value.hint or "")
    assert code is not None
    subprocess.run([sys.executable, "-c", code[1]], check=True)
    log = read_events("joined.csv", order="order_number", type="purchase")
    assert found(Path("joined.csv"), order="order_number", type="purchase")["users"] == 6 and log.rows == 120
    with pytest.raises(UserError) as caught:
        read_events("orders.csv")
    assert "in common" not in str(caught.value)


def test_an_item_above_its_rows_is_written_into_them_by_the_command_in_the_error(tmp_path: Path) -> None:
    """Netflix's prize."""
    above = [f"{m}:\n" + "".join(f"{1488844 + i},{1 + (m + i) % 5},2005-09-{1 + i:02}\n" for i in range(8)) for m in range(1, 8)]
    path = write(tmp_path / "combined_data_1.txt", "".join(above))
    with pytest.raises(UserError) as caught:
        read_events(path)
    hint = re.search(r"(awk .*) > ratings.csv, and ingest ratings.csv --columns (\S+)", caught.value.typed)
    assert hint is not None
    rows = subprocess.run(["bash", "-c", hint[1]], check=True, capture_output=True, text=True).stdout
    assert found(write(tmp_path / "ratings.csv", rows), columns=hint[2].split(","))["types"] == {"rating": 56}
    assert found(tmp_path / "ratings.csv", columns=hint[2].split(","))["items"] == 7


def test_lines_of_python_are_read_and_said(tmp_path: Path) -> None:
    text = table("", steam) + "{'user_id': u}\n"
    log = read_events(write(tmp_path / "games.json", text), map={"item_id": "items.item_id"}, order="", max_bad=0.1)
    assert log.events.collect().height == 180 and log.events.collect()["item_id"].n_unique() == 15
    assert (log.bad_rows, log.rejects["line"].to_list()) == (1, [61])
    assert any("objects as Python prints them" in note for note in log.notes)


def test_two_files_without_a_header_are_mapped_by_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clicks = table("", lambda i: f"{i // 4},{at(i, '%Y-%m-%dT%H:%M:%S.000Z')},{214536500 + i % 7},0")
    write(tmp_path / "clicks.dat", clicks)
    write(tmp_path / "buys.dat", clicks.replace(",0\n", ",12000,1\n"))
    files = [str(tmp_path / "clicks.dat"), str(tmp_path / "buys.dat")]
    cli.main(["ingest", *files, "--plan", "--quiet"])
    places = re.search(r"map them by place: (--map .*)", capsys.readouterr().err)
    assert places is not None
    assert cli.main(["ingest", *files, "--plan", "--json", *places[1].split()]) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert {one["type"]: one["rows"] for one in plan["types"]} == {"click": 60, "purchase": 60}
