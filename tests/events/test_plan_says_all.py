"""What the plan names besides the columns of the log: side tables and their columns, forms of times, and how to repeat it."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from qurate.errors import UserError
from qurate.events.readers import read_events
from test_cli import run

T0 = 1_717_200_000
EVENTS = "user_id,item_id,type,timestamp,rec\n" + "".join(f"u{i % 7},a,click,{T0 + 900 * i + 5},r{i}\n" for i in range(20))
ASKED = "rec;cust;at;slate;probs;algo;pool\n" + "".join(f"r{i};u{i % 7};{T0 + 900 * i};a|b;0.5|0.5;v1;a|b|c\n" for i in range(20))
NAMES = "decision_id=rec asked.csv:decision_id=rec asked.csv:user_id=cust asked.csv:timestamp=at asked.csv:shown=slate"
GOODS = "sku;end_timestamp;price\n" + "".join(f"{one};2030-01-01;{place}\n" for place, one in enumerate("abc"))


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Arguments of a log with a decisions table and a table of items."""
    monkeypatch.chdir(tmp_path)
    for name, text in (("log.csv", EVENTS), ("asked.csv", ASKED), ("goods.csv", GOODS)):
        Path(name).write_text(text)
    return ["log.csv", "--decisions", "asked.csv", "--items", "goods.csv", "--map", *NAMES.split(), "goods.csv:item_id=sku"]


def plan_of(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    code, out, err = run(capsys, "ingest", *args, "--plan", "--json")
    assert code == 0, err
    return dict(json.loads(out)["plan"])


def test_every_column_of_a_side_table_is_named(log: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    plan = plan_of(capsys, *log)
    asked, goods = plan["tables"]
    assert (asked["table"], asked["file"], asked["separator"], asked["header"], asked["encoding"]) == (
        "decisions", "asked.csv", ";", True, "utf-8",
    )  # fmt: skip
    roles = {one["column"]: one["role"] for one in asked["columns"]}
    assert roles == {"rec": "decision_id", "cust": "user_id", "at": "timestamp", "slate": "shown"} | dict.fromkeys(
        ("probs", "algo", "pool")
    )
    assert {one["column"]: one["nearest"] for one in asked["columns"]}["probs"] == "propensity"
    assert (goods["table"], goods["separator"]) == ("items", ";")
    assert goods["columns"] == [{"column": "sku", "role": "item_id"}, {"column": "end_timestamp", "role": "available_until"}]
    matched = {one["table"]: (one["matched"], one["ids"], one["rows"]) for one in plan["ids"]}
    assert matched == {"items": (2, 2, 3), "decisions": (20, 20, 20)}


def test_both_commands_print_them_at_the_start(log: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["validate"], ["ingest", "-o", "D"]):
        code, out, err = run(capsys, *command, *log)
        assert code == 0 and err.startswith("plan: layout qurate, kind exposure"), out + err
        for line in (
            "table of decisions, asked.csv: text, separator ;, header, utf-8\n  rec    ->  decision_id\n",
            "  probs  ->  not read; could be propensity: --map asked.csv:propensity=probs\n  algo   ->  not read\n",
            "table of items, goods.csv: text, separator ;, header, utf-8\n  sku            ->  item_id\n",
            "ids: 20 of 20 of the log stand in the table of decisions (20 rows)\n",
        ):
            assert line in err


def test_a_table_beside_the_log_is_named_with_its_form(log: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("items.csv").write_text(GOODS.replace(";", "\t").replace("sku", "item_id"))
    (table,) = plan_of(capsys, "log.csv")["tables"]
    assert (table["table"], table["file"], table["separator"], table["columns"][0]["role"]) == ("items", "items.csv", "\t", "item_id")
    given = plan_of(capsys, *log)["tables"]  # `--items` takes the place of what stands beside
    assert [one["file"] for one in given] == ["asked.csv", "goods.csv"]


def test_the_title_is_called_the_title(log: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("goods.csv").write_text(
        "sku,headline,label,price\n" + "".join(f"{one},Shoe {one},x{place % 2},{place}\n" for place, one in enumerate("abcd"))
    )
    became = {one["column"]: one["became"] for one in plan_of(capsys, *log)["features"]["items"]}
    assert became == {"headline": "the title", "label": "onehot", "price": "numeric"}
    became = {one["column"]: one["became"] for one in plan_of(capsys, *log, "--title-column", "label")["features"]["items"]}
    assert became == {"headline": "not a feature", "label": "onehot, and the title", "price": "numeric"}


FORMS = [
    ("D/M/Y", lambda i: f"{10 + i}/06/2024 10:00"),
    ("M/D/Y", lambda i: f"6/{10 + i}/2024 3:05 PM"),
    ("YYYYMMDD", lambda i: f"202406{10 + i}"),
    ("D Mon Y", lambda i: f"{10 + i} Jun 2024 10:00:00"),
    ("ISO 8601", lambda i: f"2024-06-{10 + i}T10:00:00Z"),
]


@pytest.mark.parametrize(("form", "written"), FORMS, ids=[form for form, _ in FORMS])
def test_the_form_of_the_times_is_said_and_repeated(
    form: str, written: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("log.csv").write_text("user_id,item_id,timestamp\n" + "".join(f"u{i % 3},i{i % 4},{written(i)}\n" for i in range(12)))
    plan = plan_of(capsys, "log.csv")
    assert (plan["time_unit"], plan["time_form"]) == ("text", form)
    assert f"time text, {form} (from 12 rows)" in run(capsys, "ingest", "log.csv", "--plan")[1]
    words = shlex.split(plan["command"])
    assert ("--time-form" in words) == (form != "ISO 8601")
    assert form == "ISO 8601" or words[words.index("--time-form") + 1] == form
    assert plan_of(capsys, *words[2:])["command"] == plan["command"]
    said = None if form == "ISO 8601" else form
    assert read_events("log.csv", time_form=said).events.collect().equals(read_events("log.csv").events.collect())


def test_a_file_without_a_header_says_so_in_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("log.csv").write_text("".join(f"u{i % 3};i{i % 4};{T0 + i}\n" for i in range(12)))
    plan = plan_of(capsys, "log.csv", "--map", "user_id=1", "item_id=2", "timestamp=3")
    assert "--header no" in plan["command"] and plan["types"][0]["rows"] == 12
    again = plan_of(capsys, *shlex.split(plan["command"])[2:])
    assert again == plan


def test_files_of_one_name_are_told_apart_in_the_plan_and_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, n in (("view", 12), ("buy", 6)):
        (tmp_path / "log" / folder).mkdir(parents=True)
        rows = "".join(f"u{i % 3},i{i % 4},{T0 + i}\n" for i in range(n))
        Path("log", folder, "a.csv").write_text("user_id,item_id,timestamp\n" + rows)
    plan = plan_of(capsys, "log")
    assert {one["type"]: one["rows"] for one in plan["types"]} == {"view": 12, "purchase": 6}
    assert "view/a.csv is read as events of type view, by its name; --type view/a.csv=TYPE says otherwise" in plan["notes"]
    assert plan["command"].endswith("--type buy/a.csv=purchase --type view/a.csv=view")
    again = plan_of(capsys, *shlex.split(plan["command"])[2:])
    assert (again["types"], again["command"]) == (plan["types"], plan["command"])
    out = run(capsys, "ingest", "log", "--plan")[1]
    assert "\nview/a.csv: text" in out and "\nbuy/a.csv: text" in out


def test_a_column_that_gives_the_order_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Path("log.csv").write_text("user_id,item_id,rank\n" + "".join(f"u{i % 3},i{i % 4},{50 - i}\n" for i in range(12)))
    (file,) = plan_of(capsys, "log.csv", "--order", "rank")["files"]
    assert {one["column"]: one["role"] for one in file["columns"]}["rank"] == "the order"


def test_the_hint_for_segment_names_the_item_that_is_there(tmp_path: Path) -> None:
    rows = [
        {"event": "Product Viewed", "anonymousId": f"a{i}", "originalTimestamp": T0 + i, "properties": {"price": 1, "sku": "p"}}
        for i in range(9)
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=r'"item_id": "properties\.sku"'):
        read_events(tmp_path / "log.jsonl")
