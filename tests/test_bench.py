"""The benchmark's shape and honesty; its figures are for `make bench`, not for a shared test machine."""

import json
from pathlib import Path

import pytest
import torch

from qurate.bench import run
from qurate.cli import main as cli
from qurate.errors import UserError


def test_a_part_gives_the_contract_s_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "shop", "--seconds", "0.1", "--json", "--quiet"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result) == {"machine", "rows"}
    assert set(result["machine"]) == {"gflops", "gb_s"}
    assert all(value > 0 for value in result["machine"].values())
    assert [line["aim"] for line in result["rows"]] == [">= 1000000", ">= 10000"]
    assert all({"name", "value", "unit", "aim"} <= set(line) for line in result["rows"])
    assert result["rows"][0]["value"] > result["rows"][1]["value"] > 0


def test_the_nearest_part_is_named() -> None:
    with pytest.raises(UserError, match="learner"):
        run.bench("lerner")


def test_a_stored_transition_takes_at_most_64_bytes() -> None:
    sizes = [line for line in run.replay(0.05, users=60) if line["unit"] == "bytes"]
    assert len(sizes) == 2
    assert all(0 < line["value"] <= 64 for line in sizes)


def test_the_share_of_the_roofline_by_hand() -> None:
    """2 GFLOP and 3 GB a thing: at 10 GFLOP/s and 5 GB/s the memory takes longer, 0.6 s, so half a thing a second is 30 %."""
    line = run.rate("r", "things/s", None, 4, [8.0], work=run.Work(8e9, 12e9))
    assert line["value"] == 0.5
    got = run.with_roofline(line, {"gflops": 10.0, "gb_s": 5.0})
    assert got["roofline"] == 0.3 and got["flops"] == 2e9 and got["bytes"] == 3e9 and "work" not in got
    assert run.with_roofline(line, {"gflops": 1.0, "gb_s": 5.0})["roofline"] == 1.0
    assert run.flops_of(lambda: torch.ones(3, 4) @ torch.ones(4, 5)) == 2 * 3 * 4 * 5


def test_learner_scoring_and_replay_count_their_own_work() -> None:
    rows = [*run.learner(0.05, users=60), *run.replay(0.05, users=60)]
    counted = {line["name"]: line["work"] for line in rows if "work" in line}
    assert list(counted) == ["learner", "scoring", "replay sampling from a log", "replay sampling from rings"]
    assert counted["learner"].flops > 2e8 > 100 * counted["scoring"].flops > 0
    assert 2 * 50 * 16 < counted["replay sampling from a log"].bytes < 8_000, "two windows of 50 rows of 16 bytes at least"
    assert all(line["value"] > 0 for line in rows)


def test_a_log_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("QURATE_DATA", str(tmp_path))
    rows = run.ingest(0.1)
    assert [line["value"] for line in rows] == [None, None]
    assert all("not measured" in line["note"] for line in rows)


def test_the_table_keeps_what_stands_around_it_and_says_what_is_short(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(f"before\n{run.MARKS[0]}\nold\n{run.MARKS[1]}\nafter\n")
    rows = [
        run.row("slow", 5.0, "things/s", ">= 10"),
        run.row("small", 5.0, "bytes", "<= 10"),
        run.row("none", None, "s", "<= 1", "absent"),
        run.row("counted", 5.0, "things/s") | {"roofline": 0.25},
    ]
    run.write({"machine": {"gflops": 1.0, "gb_s": 2.0}, "rows": rows}, path)
    text = path.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "| slow | 5 | things/s | >= 10 | **short** |" in text
    assert "| small | 5 | bytes | <= 10 | met |" in text
    assert "| none | - | s | <= 1 |  |  | absent |" in text
    assert "| counted | 5 | things/s |  |  | 25% |  |" in text
    with pytest.raises(UserError, match="add them"):
        run.write({"machine": {"gflops": 1.0, "gb_s": 2.0}, "rows": rows}, Path(__file__).parent / "conftest.py")
