"""Paths into objects and into lists of keys and values, and the hints that name them; what stands at a path in every form of the file."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from event_files import T0, refused, write
from test_public_logs import hinted

from qurate.errors import UserError
from qurate.events.readers import read_events
from qurate.events.side_tables import read_features

N = 60
Row = dict[str, Any]


def params(i: int) -> list[Row]:
    """GA4's parameters of an event, one of the kinds filled."""
    kinds = {"string_value": None, "int_value": None, "float_value": None, "double_value": None}
    found = [
        {"key": "page_location", "value": {**kinds, "string_value": f"https://x.org/{i % 7}?a='b'"}},
        {"key": "ga_session_id", "value": {**kinds, "int_value": i // 4}},
        {"key": "scroll", "value": {**kinds, "double_value": i + 0.5}},
    ]
    return [*found, {"key": "product", "value": {**kinds, "string_value": f"p{i % 7}"}}] if i % 5 else found


def ga4(i: int) -> Row:
    who = {"user_pseudo_id": f"{i % 6}.1", "event_timestamp": (T0 + i) * 1_000_000, "event_name": "view_item"}
    return {**who, "event_params": params(i), "items": [{"item_id": f"p{i % 7}", "price": 9.5}]}


def in_form(form: str, folder: Path) -> Path:
    rows = [ga4(i) for i in range(N)]
    if form == "parquet":
        pl.DataFrame(rows).write_parquet(folder / "ga4.parquet")
        return folder / "ga4.parquet"
    if form == "csv":  # the lists as JSON text
        text = [{name: json.dumps(value) if isinstance(value, list) else value for name, value in row.items()} for row in rows]
        pl.DataFrame(text).write_csv(folder / "ga4.csv")
        return folder / "ga4.csv"
    if form == "array":
        return write(folder / "ga4.json", json.dumps(rows))
    # BigQuery exports whole numbers as text, and leaves out what is null.
    for row in rows:
        row["event_timestamp"] = str(row["event_timestamp"])
        row["event_params"] = [{**one, "value": {k: str(v) if k == "int_value" else v for k, v in one["value"].items() if v is not None}}
                               for one in row["event_params"]]  # fmt: skip
    return write(folder / "ga4.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


FORMS = ("jsonl", "array", "parquet", "csv")
GA4 = {"user_id": "user_pseudo_id", "timestamp": "event_timestamp", "type": "event_name"}


@pytest.mark.parametrize("form", FORMS)
def test_a_key_of_a_list_of_keys_and_values_is_a_path(form: str, tmp_path: Path) -> None:
    path = in_form(form, tmp_path)
    given = {**GA4, "item_id": "event_params.product", "session_id": "event_params.ga_session_id", "value": "event_params.scroll"}
    events = read_events(path, map=given).events.collect()
    assert events["item_id"].to_list() == [f"p{i % 7}" if i % 5 else None for i in range(N)]
    assert events["session_id"].to_list() == [str(i // 4) for i in range(N)]
    assert events["value"].to_list() == [i + 0.5 for i in range(N)]
    assert events["timestamp"].cast(pl.Int64).to_list() == [(T0 + i) * 1_000_000 for i in range(N)]
    named = read_events(path, map={**GA4, "item_id": "event_params.page_location.string_value"}).events.collect()
    assert named["item_id"].to_list() == [f"https://x.org/{i % 7}?a='b'" for i in range(N)]


@pytest.mark.parametrize("form", FORMS)
def test_a_key_that_is_not_there_is_named(form: str, tmp_path: Path) -> None:
    error = refused(in_form(form, tmp_path), map={**GA4, "item_id": "event_params.produkt"})
    assert "a path into a column, got event_params.produkt" in str(error) and "did you mean event_params.product?" in str(error)


@pytest.mark.parametrize("form", ("jsonl", "array", "parquet"))
def test_the_items_of_an_event_are_one_event_each(form: str, tmp_path: Path) -> None:
    events = read_events(in_form(form, tmp_path), map={**GA4, "item_id": "items.item_id"}).events.collect()
    assert events["item_id"].to_list() == [f"p{i % 7}" for i in range(N)]


@pytest.mark.parametrize("form", ("jsonl", "csv"))
def test_values_without_kinds_are_read_and_objects_are_none(form: str, tmp_path: Path) -> None:
    tags = [[{"key": "sku", "value": f"s{i % 7}"}, {"key": "box", "value": {"wide": 3}}] for i in range(N)]
    rows = [{"user_id": f"u{i % 6}", "timestamp": T0 + i, "type": "view", "tags": tags[i]} for i in range(N)]
    path = tmp_path / f"log.{form}"
    if form == "jsonl":
        write(path, "".join(json.dumps(row) + "\n" for row in rows))
    else:
        pl.DataFrame([{**row, "tags": json.dumps(row["tags"])} for row in rows]).write_csv(path)
    assert read_events(path, map={"item_id": "tags.sku"}).events.collect()["item_id"].to_list() == [f"s{i % 7}" for i in range(N)]
    assert "a path into a column, got tags.box" in str(refused(path, map={"item_id": "tags.box"}))


def test_objects_of_any_keys_stay_what_they_are(tmp_path: Path) -> None:
    """A list of records that have a field of the name: the field, not a key."""
    rows = [{"user_id": f"u{i % 6}", "timestamp": T0 + i, "seen": [{"key": f"a{i % 5}", "value": 1, "sku": f"s{i % 7}"}]} for i in range(N)]
    path = write(tmp_path / "log.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    for name, n in (("key", 5), ("sku", 7)):
        assert read_events(path, map={"item_id": f"seen.{name}"}).events.collect()["item_id"].n_unique() == n


def adressa(i: int, ids: bool = True) -> Row:
    row = {"eventId": 9000 + i, "userId": f"cx:{i % 6}", "time": T0 + i, "activeTime": 3 * i, "url": f"http://x.no/{i % 7}"}
    return {**row, "title": f"Nyhet {i % 7}", **({"id": f"{i % 7:040x}"} if ids else {})}


def amplitude(i: int) -> Row:
    inside = {"product_id": f"p{i % 7}", "price": 9.5}
    return {"event_type": "view", "user_id": f"u{i % 6}", "event_time": f"2024-06-01 00:00:{i:02}.123", "event_properties": inside}


def mixpanel(i: int) -> Row:
    return {"event": "view", "properties": {"time": T0 + i, "distinct_id": f"u{i % 6}", "product_id": f"p{i % 7}"}}


def two_columns(i: int) -> Row:
    return {"user_id": f"u{i % 6}", "item_id": f"p{i % 7}", "type": "view", "date": "2024-06-01", "time": f"08:{i:02}:07"}


HINTS: list[tuple[str, Any, str, int]] = [
    # what the hint says to map, and how many items it then reads
    ("Adressa", adressa, "--map user_id=userId --map item_id=id --map timestamp=time", 7),
    ("Adressa without ids", lambda i: adressa(i, ids=False), "--map user_id=userId --map item_id=url --map timestamp=time", 7),
    ("ids of rows", lambda i: {**adressa(i), "id": i}, "--map user_id=userId --map item_id=url --map timestamp=time", 7),
    ("Amplitude", amplitude, "--map item_id=event_properties.product_id --map timestamp=event_time", 7),
    ("Mixpanel", mixpanel, "--map user_id=properties.distinct_id --map item_id=properties.product_id --map timestamp=properties.time", 7),
    ("day and clock", two_columns, "--map timestamp=date+time", 7),
    ("objects of things", lambda i: {"user": {"id": f"u{i % 6}", "age": 3}, "article": {"id": f"p{i % 7}"}, "type": "view", "ts": T0 + i},
     "--map user_id=user.id --map item_id=article.id --map timestamp=ts", 7),
]  # fmt: skip


@pytest.mark.parametrize("case", HINTS, ids=[case[0] for case in HINTS])
def test_the_hint_names_the_very_option(case: tuple[str, Any, str, int], tmp_path: Path) -> None:
    _, row, says, items = case
    path = write(tmp_path / "log.jsonl", "".join(json.dumps(row(i)) + "\n" for i in range(N)))
    error = refused(path)
    assert says in error.typed, error.typed
    pairs = dict(word.split("=", 1) for word in hinted(f"error: x, at {path}; {error.hint}") if word != "--map")
    events = read_events(path, map=pairs).events.collect()
    assert (events.height, events["item_id"].n_unique(), events["user_id"].n_unique()) == (N, items, 6)
    assert events["timestamp"].n_unique() == N


def test_visits_of_no_article_are_kept_where_a_type_is_said(tmp_path: Path) -> None:
    rows = [{name: value for name, value in adressa(i).items() if i % 4 or name not in ("id", "title")} for i in range(N)]
    path = write(tmp_path / "log.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    given = {"user_id": "userId", "item_id": "id", "timestamp": "time"}
    with pytest.raises(UserError, match=r"got 15 of 60 \(25.0%\), most often: missing item_id .*to keep them as events about no item"):
        read_events(path, map=given)
    events = read_events(path, map=given, type="view").events.collect()
    assert (events.height, events["item_id"].null_count()) == (N, 15)


def test_a_struct_is_no_id(tmp_path: Path) -> None:
    rows = [{"user": {"country": "DE", "id": i % 6}, "item_id": f"p{i % 7}", "type": "view", "timestamp": T0 + i} for i in range(N)]
    pl.DataFrame(rows).write_parquet(tmp_path / "log.parquet")
    assert "name the field inside: --map user_id=user.id" in refused(tmp_path / "log.parquet").typed
    assert read_events(tmp_path / "log.parquet", map={"user_id": "user.id"}).events.collect()["user_id"].n_unique() == 6


@pytest.mark.parametrize("form", ["jsonl", "array", "parquet"])
def test_lists_within_lists_become_rows_by_the_command_in_the_error(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Universal Analytics in BigQuery: hits of a visit, and products of each hit."""
    monkeypatch.chdir(tmp_path)
    bought = [{"productSKU": "p9"}, {"productSKU": "p8"}]
    rows = [
        {
            "fullVisitorId": f"v{i % 3}",
            "visitStartTime": T0 + 900 * i,
            "hits": [{"page": f"x{i}", "action": "view", "product": [{"productSKU": f"p{i % 4}"}]},
                     {"page": f"x{i}", "action": "purchase", "product": bought}],
        }
        for i in range(12)
    ]  # fmt: skip
    path = Path(f"log.{'json' if form == 'array' else form}")
    if form == "parquet":
        pl.DataFrame(rows).write_parquet(path)
    else:
        write(path, json.dumps(rows) if form == "array" else "".join(json.dumps(row) + "\n" for row in rows))
    given = {"user_id": "fullVisitorId", "timestamp": "visitStartTime", "item_id": "hits.product.productSKU", "type": "hits.action"}
    error = refused(path, map=given)
    assert error.got == "lists within the lists of hits, at hits.product" and "write a row for each object of hits.product" in error.hint
    command = error.hint.partition(": python ")[2].partition(", and give ")[0]
    subprocess.run([sys.executable, *shlex.split(command)], check=True)
    events = read_events("log.rows.jsonl", map=given).events.collect()
    expected = [[(f"v{i % 3}", f"p{i % 4}", "view"), (f"v{i % 3}", "p9", "purchase"), (f"v{i % 3}", "p8", "purchase")] for i in range(12)]
    assert events.select("user_id", "item_id", "type").rows() == [one for three in expected for one in three]
    pages = read_events(path, map={**{name: given[name] for name in ("user_id", "timestamp")}, "item_id": "hits.page"}).events.collect()
    assert pages["item_id"].to_list() == [f"x{i // 2}" for i in range(24)]


def test_events_of_several_products_become_rows_by_the_command_in_the_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Segment's track calls: what is viewed is one product, what is ordered a list of them."""
    monkeypatch.chdir(tmp_path)
    rows: list[Row] = []
    for i in range(20):
        order = {
            "order_id": f"o{i}",
            "coupons": [{"code": "x"}],
            "products": [{"product_id": f"p{i}", "price": 2.5}, {"product_id": "gift", "price": 0.0}],
        }
        inside = order if i % 5 == 4 else {"product_id": f"p{i}", "price": 9.5}
        event = "Order Completed" if i % 5 == 4 else "Product Viewed"
        rows.append({"type": "track", "event": event, "userId": f"u{i % 3}", "timestamp": T0 + 60 * i, "properties": inside})
    write(Path("log.jsonl"), "".join(json.dumps(row) + "\n" for row in rows))
    given = {"user_id": "userId", "item_id": "properties.product_id", "value": "properties.price"}
    [note] = [note for note in read_events("log.jsonl", map=given).notes if "name no item" in note]
    assert "among them all of Order Completed; properties.products holds several of them: python -c" in note
    command = note.partition("several of them: python ")[2].partition(" < LOG")[0]
    with open("log.jsonl") as log, open("rows.jsonl", "w") as out:
        subprocess.run([sys.executable, *shlex.split(command)], check=True, stdin=log, stdout=out)
    read = read_events("rows.jsonl", map=given)
    orders = read.events.collect().filter(pl.col("type") == "Order Completed").select("user_id", "item_id", "value").rows()
    assert orders == [one for i in (4, 9, 14, 19) for one in ((f"u{i % 3}", f"p{i}", 2.5), (f"u{i % 3}", "gift", 0.0))]
    assert read.rows == 24 and not [note for note in read.notes if "name no item" in note]


@pytest.mark.parametrize("inside", ["object", "text"])
def test_a_column_that_a_path_leads_into_is_not_read_as_what_its_name_says(inside: str, tmp_path: Path) -> None:
    """Kafka's envelope: what happened stands in `value`, which is no amount."""
    records = [{"user_id": f"u{i % 3}", "item_id": f"p{i % 4}", "event": "view", "value": i} for i in range(N)]
    rows = [
        {"offset": i, "timestamp": (T0 + i) * 1000, "value": one if inside == "object" else json.dumps(one)}
        for i, one in enumerate(records)
    ]
    path = write(tmp_path / "topic.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    given = {"user_id": "value.user_id", "item_id": "value.item_id", "type": "value.event"}
    hint = refused(path).typed
    assert all(f"--map {name}={way}" in hint for name, way in given.items())
    events = read_events(path, map=given).events.collect()
    assert events.height == N and events["user_id"].to_list() == [one["user_id"] for one in records] and events["value"].null_count() == N
    shown = write(tmp_path / "shown.jsonl", path.read_text().replace('"value": {', '"shown": {').replace('"value": "{', '"shown": "{'))
    log = read_events(shown, map={name: way.replace("value.", "shown.") for name, way in given.items()})
    assert log.kind == "organic" and log.events.collect().select("user_id", "item_id").equals(events.select("user_id", "item_id"))
    amounts = read_events(path, map={**given, "value": "value.value"}).events.collect()["value"]
    assert amounts.to_list() == list(range(N))


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_table_of_items_is_mapped_by_paths_too(form: str, tmp_path: Path) -> None:
    rows = [{"ref": {"sku": f"p{i}"}, "meta": {"price": i, "brand": f"b{i % 2}"}} for i in range(9)]
    path = tmp_path / f"goods.{form}"
    if form == "parquet":
        pl.DataFrame(rows).write_parquet(path)
    else:
        write(path, "".join(json.dumps(row) + "\n" for row in rows))
    table = read_features(path, "item_id", {"item_id": "ref.sku", "price": "meta.price"}).collect()
    assert table["item_id"].to_list() == [f"p{i}" for i in range(9)]
    assert table["price"].cast(pl.Float64).to_list() == list(range(9))
    with pytest.raises(UserError, match=r"a path into a column, got ref.skv, .*; did you mean ref.sku\?"):
        read_features(path, "item_id", {"item_id": "ref.skv"})
    if form == "jsonl":
        with pytest.raises(UserError, match="ids in item_id, got objects such as"):  # the text of an object is no id
            read_features(path, "item_id", {"item_id": "ref"})
