"""Which column is a title, and where titles are shown."""

import json
from pathlib import Path

import polars as pl
import pytest
from rich.cells import cell_len

from qurate.cli import app as cli
from qurate.evaluation.needs_rl import most_seen
from qurate.events.titles import text_of, title_column, titles
from qurate.mdp.storage import Dataset


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        (["item_id", "price", "title"], "title"),
        (["item_id", "Name", "price"], "Name"),
        (["item_id", "商品名称", "price"], "商品名称"),
        (["item_id", "name", "title"], "title"),
        (["item_id", "renamed", "price"], None),
    ],
)
def test_a_title_is_found_by_its_name(columns: list[str], found: str | None) -> None:
    assert title_column(pl.DataFrame({name: ["a"] for name in columns}), {}) == found


def test_the_column_that_was_named_comes_first() -> None:
    items = pl.DataFrame({"item_id": ["a", "b", "c"], "title": ["x", "y", "z"], "label": [" 甲 ", None, ""]})
    assert titles(items, {}) == {"a": "x", "b": "y", "c": "z"}
    assert titles(items, {"title": "label"}) == {"a": "甲"}
    assert titles(items, {"title": "gone"}) == {"a": "x", "b": "y", "c": "z"}
    assert titles(items.drop("title", "label"), {}) == {}


def test_cells_for_people() -> None:
    assert [text_of(value) for value in (None, 1234.5, ["a", "b"], 7, "x")] == ["–", "1,234.50", "a, b", "7", "x"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop whose titles stand in a column that no name tells, with markup in one of them."""
    folder = tmp_path_factory.mktemp("titles")
    lines = ["user_id,item_id,type,timestamp"]
    for user in range(30):
        lines += [
            f"u{user},i{(user + s * s) % 9},{'purchase' if s % 3 == 2 else 'click'},{1_700_000_000 + user * 7919 + s * 600}"
            for s in range(12)
        ]
    (folder / "log.csv").write_text("\n".join(lines) + "\n")
    names = ["玻璃杯", "a", "<b>粗</b>体&", "保温杯 大号", "x", "y", "z", "w", "v"]
    table = [f"i{i},{name},{'杯' if i % 2 else '书'},{i}.5" for i, name in enumerate(names)]
    (folder / "items.csv").write_text("item_id,what,category,price\n" + "\n".join(table) + "\n")
    out = ["ingest", str(folder / "log.csv"), "--items", str(folder / "items.csv"), "-o", str(folder / "d"), "--title-column", "what"]
    assert cli.main(out) == 0
    assert cli.main(["train", str(folder / "d"), "-o", str(folder / "m"), "--algorithm", "popularity"]) == 0
    return folder


def test_recommend_and_inspect_show_titles_in_even_columns(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["recommend", str(shop / "m"), "--user", "u1", "-k", "9"]) == 0
    out, _ = capsys.readouterr()
    rows = [line for line in out.splitlines() if line.strip().startswith("i") and "item_id" not in line]
    assert "<b>粗</b>体&" in out and len(rows) == 9
    # the score begins in the same place on the screen, where a Chinese character takes two cells
    assert len({cell_len(line.rstrip()) for line in rows}) == 1 and len({len(line.rstrip()) for line in rows}) > 1
    assert cli.main(["recommend", str(shop / "m"), "--user", "u1", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["items"][0]) >= {"item_id", "score", "propensity", "source"}
    most = most_seen(Dataset.read(shop / "d"))
    assert most[0]["title"] and most[0]["events"] >= most[1]["events"]
    assert cli.main(["inspect", str(shop / "d")]) == 0
    assert f"most seen: {most[0]['item_id']} {most[0]['title']} ({most[0]['events']})" in capsys.readouterr().out


def test_the_pages_show_them_escaped(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", str(shop / "m"), str(shop / "d"), "--html", str(shop / "e.html")]) == 0
    for page in ((shop / "m" / "report.html").read_text(), (shop / "e.html").read_text()):
        assert "&lt;b&gt;粗&lt;/b&gt;体&amp;" in page and "<b>粗" not in page and "玻璃杯" in page and "<script" not in page


def test_a_title_column_that_is_not_there_is_refused(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["ingest", str(shop / "log.csv"), "-o", str(shop / "other"), "--title-column", "wat"]
    assert cli.main([*args, "--items", str(shop / "items.csv")]) == 2
    assert "did you mean what?" in capsys.readouterr().err
    alone = shop / "alone"
    alone.mkdir()
    (alone / "log.csv").write_text((shop / "log.csv").read_text())  # no items.csv beside it
    assert cli.main(["ingest", str(alone / "log.csv"), *args[2:]]) == 2 and "--items" in capsys.readouterr().err
    assert not (shop / "other").exists()
