"""What the error for columns of no known layout says to type: for common exports and public data it reads the log."""

import itertools
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from event_files import T0, refused, write

from qurate.events.readers import read_events

N = 40
R = range(N)
Rows = list[tuple[str, str, str]]


def u(i: int) -> str:
    return f"u{i % 6}"


def p(i: int) -> str:
    return f"p{i % 7}"


def lines(record: Callable[[int], dict[str, Any]]) -> str:
    return "".join(json.dumps(record(i)) + "\n" for i in R)


def table(header: str, line: Callable[[int], str]) -> str:
    return header + "\n" + "".join(line(i) + "\n" for i in R)


def items(i: int) -> list[dict[str, Any]]:
    return [{"id": 1 + k, "product_id": p(i + k), "quantity": 1} for k in range(2)]


CLICKS: Rows = [(u(i), p(i), "click") for i in R]
TWO: Rows = [(u(i), p(i + k), "click") for i in R for k in range(2)]
CASES: dict[str, tuple[str, str, Rows]] = {
    "venues": ("log.csv", table("userId,venueId,venueCategoryId,utcTimestamp", lambda i: f"{u(i)},{p(i)},c{i % 2},{T0 + i}"), CLICKS),
    "codes": ("log.csv", table("SHOP_DATE,PROD_CODE,CUST_CODE", lambda i: f"202406{1 + i % 28:02},{p(i)},{u(i)}"), CLICKS),
    "the price of a product is no product": (
        "log.csv", table("customer,product_price,product_code,created_at", lambda i: f"{u(i)},9.5,{p(i)},{T0 + i}"), CLICKS),
    "a date in three columns": ("log.csv", table("user_id,item_id,year,month,day", lambda i: f"{u(i)},{p(i)},2024,6,{1 + i % 28}"), CLICKS),
    "a moment in six": (
        "log.csv",
        table("user_id,item_id,year,month,day,hour,minute,second", lambda i: f"{u(i)},{p(i)},2024,6,{1 + i % 28},9,{i},7"),
        CLICKS,
    ),
    "user_uid beside element_uid": ("log.csv", table("element_uid,user_uid,ts", lambda i: f"{p(i)},{u(i)},{T0 + i}"), CLICKS),
    "a shop's orders": ("log.jsonl", lines(lambda i: {"customer_id": u(i), "date_created": T0 + i, "line_items": items(i)}), TWO),
    "an event's ecommerce": ("log.jsonl", lines(lambda i: {"user_id": u(i), "timestamp": T0 + i, "ecommerce": {"items": items(i)}}), TWO),
    "Google's retail events": (
        "log.jsonl", lines(lambda i: {"visitorId": u(i), "eventTime": T0 + i, "productDetails": [{"product": {"id": p(i)}}]}), CLICKS),
    "Algolia": ("log.jsonl", lines(lambda i: {"userToken": u(i), "timestamp": T0 + i, "objectIDs": [p(i)]}), CLICKS),
    "OpenSearch": (
        "log.jsonl",
        lines(lambda i: {"client_id": u(i), "timestamp": T0 + i, "event_attributes": {"object": {"object_id": p(i), "kind": "x"}}}),
        CLICKS,
    ),
    "an index's source": (
        "log.jsonl",
        lines(lambda i: {"_id": str(i), "_score": 1, "_source": {"user_id": u(i), "item_id": p(i), "event": "view", "@timestamp": T0 + i}}),
        [(u(i), p(i), "view") for i in R],
    ),
    "a history of objects": (
        "log.jsonl",
        lines(lambda i: {"user_id": f"x{i}", "history": [{"item": p(i + k), "ts": T0 + k, "type": "view"} for k in range(2)]}),
        [(f"x{i}", p(i + k), "view") for i in R for k in range(2)],
    ),
    "what was shown and clicked": (
        "log.csv",
        table("session_id_hash,clicked_skus_hash,product_skus_hash,server_timestamp_epoch_ms",
              lambda i: f"s{i // 4},{p(i) if i % 4 == 0 else ''},\"['{p(i)}', '{p(i + 1)}']\",{T0 + i}000"),
        [(f"s{i // 4}", p(i), "click") for i in range(0, N, 4)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_hint_reads_the_log(name: str, tmp_path: Path) -> None:
    file, text, expected = CASES[name]
    path = write(tmp_path / file, text)
    hint = refused(path).typed
    words = shlex.split(hint[hint.index("--map") :])
    mapped = dict(word.split("=", 1) for option, word in itertools.pairwise(words) if option == "--map")
    assert "COL" not in mapped.values(), hint
    assert read_events(path, map=mapped).events.select("user_id", "item_id", "type").collect().sort("user_id").rows() == sorted(
        expected, key=lambda row: row[0]
    )


def test_a_session_stands_in_for_the_user(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", table("session_id,item,when", lambda i: f"s{i // 4},{p(i)},{T0 + i}"))
    hint = str(refused(path).typed)
    assert "--map item_id=item --map timestamp=when; session_id stands in for the user" in hint
    log = read_events(path, map={"item_id": "item", "timestamp": "when"})
    assert not log.has_users and log.events.collect()["user_id"].n_unique() == N // 4


def test_clicks_and_who_saw_them_are_joined_by_the_command_in_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outbrain: what was shown and clicked in one table, who and when in another, which names users by `uuid`."""
    monkeypatch.chdir(tmp_path)
    write(Path("clicks.csv"), table("display_id,ad_id,clicked", lambda i: f"{i // 2},{p(i)},{i % 2}"))
    write(Path("events.csv"), table("display_id,uuid,document_id,timestamp", lambda i: f"{i},{u(i)},d{i % 3},{T0 + i}"))
    code = re.search("python -c '(.*)' and give joined.csv", str(refused(["clicks.csv", "events.csv"]).hint))
    assert code is not None
    subprocess.run([sys.executable, "-c", code[1]], check=True)
    log = read_events("joined.csv", map={"user_id": "uuid", "item_id": "ad_id"})
    events = log.events.collect()
    assert set(events["type"]) == {"click"} and events.height == N // 2 and events["user_id"].n_unique() == 6


def test_several_items_in_a_row_are_written_by_the_command_in_the_error(tmp_path: Path) -> None:
    text = table("user_id,timestamp,item_1,item_2,item_3", lambda i: f"{u(i)},{T0 + i},{p(i)},{p(i + 1)},{p(i + 2) if i % 2 else ''}")
    error = refused(write(tmp_path / "log.csv", text))
    assert "a column for each of several items (item_1, item_2, item_3)" in error.got
    subprocess.run([sys.executable, *shlex.split(str(error.hint).partition(": ")[2])[1:]], check=True)
    log = read_events(tmp_path / "log.long.csv")
    assert sorted(log.events.collect()["item_id"]) == sorted(p(i + k) for i in R for k in range(3) if k < 2 or i % 2)


def test_items_under_several_paths_are_named(tmp_path: Path) -> None:
    """Tag Manager before GA4: each kind of event has its items elsewhere."""

    def record(i: int) -> dict[str, Any]:
        inside = {"detail": {"products": [{"id": p(i)}]}} if i % 2 else {"purchase": {"products": [{"id": p(i)}]}}
        return {"event": ("purchase", "view")[i % 2], "clientId": u(i), "timestamp": T0 + i, "ecommerce": inside}

    path = write(tmp_path / "log.jsonl", lines(record))
    hint = refused(path).typed
    assert "--map item_id=ecommerce.purchase.products" in hint
    log = read_events(path, map={"user_id": "clientId", "item_id": "ecommerce.purchase.products"})
    assert any("20 of 40 rows name no item" in note and "ecommerce.detail.products may hold them" in note for note in log.notes)
