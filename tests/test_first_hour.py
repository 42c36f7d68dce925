"""The first hour of a shop with Chinese titles: every command as its owner types it, timed, with what it must say."""

import contextlib
import csv
import json
import resource
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from chinese_shop import CATEGORIES, FUNNEL, write_shop
from qurate.client import Client
from test_cli import QURATE
from test_cli import run as in_process

Capture = pytest.CaptureFixture[str]

SECONDS, FIRST_LIST = 120, 60
"""Of the processor, for all commands, and until the first list: on free cores that is the time on the clock."""
WAIT = 600
"""Seconds on the clock, for tests run beside others."""


def processor_seconds() -> float:
    """Of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Shop:
    """The owner's terminal."""

    def __init__(self, folder: Path, events: int = 20_000, capsys: Capture | None = None) -> None:
        """With `capsys` commands run in this process, which costs no imports and says nothing about their time."""
        self.folder, self.files, self.capsys = folder, write_shop(folder, events), capsys
        self.seconds: dict[str, float] = {}
        self.clock = 0.0

    def rows(self, name: str) -> list[dict[str, str]]:
        """Of one of the owner's files."""
        with self.files[name].open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def note(self, name: str, start: float, used: float) -> None:
        """Adds what a command took since then."""
        self.seconds[name], self.clock = processor_seconds() - used, self.clock + time.monotonic() - start

    def run(self, name: str, *args: object) -> tuple[Any, str]:
        """The result of a command as JSON, what it said, and its time."""
        start, used = time.monotonic(), processor_seconds()
        if self.capsys is not None:
            with contextlib.chdir(self.folder):
                code, out, err = in_process(self.capsys, name, *map(str, args), "--json")
            assert code == 0, err
            return json.loads(out), err
        done = subprocess.run([*QURATE, name, *map(str, args), "--json"], cwd=self.folder, capture_output=True, text=True, timeout=WAIT)
        self.note(f"{name} {args[-1]}", start, used)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout), done.stderr


def test_the_shop_is_what_it_says(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    events, items = shop.rows("events"), shop.rows("items")
    assert (len(events), len(items), len(shop.rows("users"))) == (20_000, 500, 800)
    kinds = Counter(row["event_type"] for row in events)
    assert all(abs(kinds[name] / 20_000 - share) < 0.02 for name, share in FUNNEL.items())
    assert {row["category"] for row in items} == set(CATEGORIES) and sum(not row["price"] for row in items) == 12
    assert write_shop(tmp_path, events=50)["events"].read_bytes() != b"" and len(shop.rows("events")) == 50


@pytest.mark.study
@pytest.mark.timeout(3600)
def test_every_command_of_the_first_hour(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    first_list = hour(shop, tmp_path, 20_000)
    said = ", ".join(f"{name} {took:.1f} s" for name, took in shop.seconds.items())
    print(f"\nfirst list after {first_list:.1f} s; {said}; together {sum(shop.seconds.values()):.1f} s, on the clock {shop.clock:.0f} s")
    assert first_list < FIRST_LIST and sum(shop.seconds.values()) < SECONDS and shop.clock < WAIT, said


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_first_hour_of_a_shop_with_fewer_events(tmp_path: Path, capsys: Capture) -> None:
    """The same commands in this process and fewer updates; only the service has a process of its own."""
    hour(Shop(tmp_path, 8_000, capsys), tmp_path, 8_000, "--steps", "180")


def hour(shop: Shop, tmp_path: Path, n: int, *training: str) -> float:
    """Seconds of the processor until the first list. `training`: options of `train` that the owner does not need."""
    tables = ["events.csv", "--items", "items.csv", "--users", "users.csv"]
    events, items = shop.rows("events"), {row["item_id"]: row for row in shop.rows("items")}
    kinds = Counter(row["event_type"] for row in events)

    plan = shop.run("ingest", *tables, "--plan")[0]["plan"]
    assert {one["column"]: one["role"] for one in plan["files"][0]["columns"]} == {
        "user_id": "user_id", "item_id": "item_id", "event_type": "type", "timestamp": "timestamp",
    }  # fmt: skip
    made = {one["column"]: (one["became"], one["dimensions"]) for one in plan["features"]["items"]}
    assert made == {"category": ("onehot", 5), "price": ("numeric", 2), "title": ("the title", 0)}
    checked, _ = shop.run("validate", *tables)
    assert checked["ok"] and all(one["ok"] for one in checked["checks"])
    summary, _ = shop.run("ingest", *tables, "-o", "dataset")
    assert (summary["events"], summary["users"], summary["items"], summary["kind"]) == (n, 800, 500, "organic")
    assert summary["plan"]["sampled"] == (10_000 if n > 10_000 else None)
    assert {one["type"] for one in summary["plan"]["types"]} == set(kinds)

    found, _ = shop.run("inspect", "dataset")
    assert found["types"] == dict(kinds) and found["needs_rl"] == "cannot be told"
    trained, _ = shop.run("train", "dataset", "-o", "model", *training)
    assert trained["algorithm"] == "dqn" and trained["metrics"]["skipped"] == 0
    page = (tmp_path / "model" / "report.html").read_text(encoding="utf-8")
    assert page.count("<h3>User") == 5 and page.count("<figure>") == 4 and any(row["title"] in page for row in items.values())
    answer, _ = shop.run("recommend", "model", "--user", "u001", "-k", "10")
    assert len({item["item_id"] for item in answer["items"]} & set(items)) == 10 and answer["degraded"] is None
    first_list = sum(shop.seconds.values())

    # whose list is it: four of five things that a customer looks at are of his category, and chance is one in five
    shop.run("recommend", "model", "--all-users", "-k", "10", "-o", "all.csv")
    own: dict[str, Counter[str]] = {}
    for row in events:
        own.setdefault(row["user_id"], Counter())[items[row["item_id"]]["category"]] += 1
    with (tmp_path / "all.csv").open(encoding="utf-8", newline="") as file:
        advice = list(csv.DictReader(file))
    assert all(row["title"] == items[row["item_id"]]["title"] for row in advice)
    hits = [items[row["item_id"]]["category"] == own[row["user_id"]].most_common(1)[0][0] for row in advice]
    assert len(advice) == 8_000 and sum(hits) / len(hits) > 0.5

    measured, _ = shop.run("evaluate", "model", "dataset", "--html", "evaluation.html")
    ndcg = {name: entry["NDCG@20"]["mean"] for name, entry in measured["baselines"].items()}
    assert measured["metrics"]["NDCG@20"]["mean"] > 2 * ndcg["popularity"]
    report = (tmp_path / "evaluation.html").read_text(encoding="utf-8")
    assert report.count("<h3>User") == 5
    assert any(row["title"] in report for row in items.values())
    start, used = time.monotonic(), processor_seconds()
    _serve(tmp_path, items)
    shop.note("serve", start, used)

    # the second generation: the old log and the service's, from the first model
    joined = shop.run("ingest", "events.csv", "live", "--items", "items.csv", "--users", "users.csv", "-o", "second")[0]
    assert joined["kind"] == "logged" and joined["decisions"] == 40 and joined["users"] == 800
    again, said = shop.run("train", "second", "--from", "model", "--steps", "20", "-o", "next")
    assert again["metrics"]["started_from"] == "model" and "500 of 500 items begin as the model has them" in said
    return first_list


def _serve(folder: Path, items: dict[str, dict[str, str]]) -> None:
    """Starts the service, asks for forty customers, sends their purchases, and stops it."""
    server = subprocess.Popen(
        [*QURATE, "serve", "model", "--port", "0", "--data", "live"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert server.stderr is not None
        url = next(line for line in server.stderr if line.startswith("serving ")).split(" at ")[1].strip()
        with Client(url) as client:
            for number in range(40):
                answer = client.recommend(user_id=f"u{number:03d}", k=5)
                chosen = answer.items[number % 5].item_id
                assert len(answer.items) == 5 and chosen in items
                event = {"event_id": f"e{number}", "type": "purchase", "user_id": f"u{number:03d}", "item_id": chosen}
                client.send([{**event, "decision_id": answer.decision_id}])
    finally:
        server.send_signal(signal.SIGTERM)
        _, errors = server.communicate(timeout=60)
    assert server.returncode == 0, errors
