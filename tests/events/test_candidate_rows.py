"""Candidates and what is said of them: lists that do not fit are refused with file, line and both lengths; what is missing is counted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from event_files import T0, refused, write

from qurate.cli import app as cli
from qurate.events.readers import read_events
from qurate.events.validate import validate

N = 240
Change = Callable[[int], Any]


def decision(i: int, **changed: Change) -> dict[str, Any]:
    row = {
        "decision_id": f"d{i}",
        "user_id": f"u{i % 8}",
        "timestamp": T0 + 600 * i,
        "shown": [f"i{i % 5}", f"i{(i + 1) % 5}"],
        "candidates": [f"i{(i + k) % 5}" for k in range(4)],
        "candidate.price": [1.5, 2, 3, 4],
    }
    return {**row, **{name.replace("price", "candidate.price"): change(i) for name, change in changed.items()}}


def tables(folder: Path, **changed: Change) -> tuple[Path, Path]:
    """A log of events, and its decisions beside it."""
    events = [
        {"decision_id": f"d{i}", "user_id": f"u{i % 8}", "timestamp": T0 + 600 * i + 5, "type": "click", "item_id": f"i{i % 5}"}
        for i in range(0, N, 2)
    ]
    shown = [{key: value for key, value in decision(i, **changed).items() if value != "left out"} for i in range(N)]
    log, asked = ("".join(json.dumps(row) + "\n" for row in rows) for rows in (events, shown))
    return write(folder / "log.jsonl", log), write(folder / "asked.jsonl", asked)


def some(usual: Any, other: Any) -> Change:
    """`other` in every tenth row, from the third on."""
    return lambda i: other if i % 10 == 2 else usual(i) if callable(usual) else usual


USUAL = decision(0)["candidate.price"]
FAULTS: list[tuple[str, dict[str, Change], str]] = [
    # what is wrong with every tenth decision, from line 3 on, and what is said
    ("too few numbers", {"price": some(USUAL, [1, 2, 3])}, "candidate.price has 3 numbers for 4 candidates"),
    ("too many numbers", {"price": some(USUAL, [1, 2, 3, 4, 5])}, "candidate.price has 5 numbers for 4 candidates"),
    ("as many as items shown", {"price": some(USUAL, [1, 2])}, "candidate.price has 2 numbers for 4 candidates"),
    ("no number at all", {"price": some(USUAL, [])}, "candidate.price has 0 numbers for 4 candidates"),
    ("words", {"price": some(USUAL, [1, "cheap", 3, 4])}, "candidate.price holds what is no number"),
    ("a candidate without an id", {"candidates": some(lambda i: decision(i)["candidates"], ["i1", None, "i2", "i3"])},
     "missing item_id in the list of candidates"),
    ("without candidates", {"candidates": lambda i: "left out", "price": some([1, 2], [1, 2, 3])},
     "candidate.price has 3 numbers for 2 items shown"),
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=[fault[0] for fault in FAULTS])
def test_what_does_not_fit_is_refused_with_its_file_its_line_and_both_lengths(
    fault: tuple[str, dict[str, Change], str], tmp_path: Path
) -> None:
    _, changed, said = fault
    log, asked = tables(tmp_path, **changed)
    error = str(refused(log, decisions=asked))
    assert f"got 24 of 240 (10.0%), most often: decisions: {said} (first in line 3)" in error and f"at {asked};" in error
    beside = write(tmp_path / "one.jsonl", asked.read_text() + log.read_text())  # in the log itself
    assert f"24 of 360 (6.7%), most often: {said} (first in line 3)" in str(refused(beside))
    checks = {one["name"]: one for one in validate(read_events(log, decisions=asked, max_bad=1))["checks"]}
    assert not checks["decisions"]["ok"] and checks["decisions"]["rows"] == [3, 13, 23, 33, 43] and said in checks["decisions"]["message"]


MISSING: list[tuple[str, dict[str, Change], str]] = [
    ("nothing", {}, ""),
    ("a number", {"price": some(USUAL, [1, None, 3, 4])}, "candidate.price: 24 of 960 numbers are not known (first in line 3)"),
    ("two, as text", {"price": some(USUAL, ["1", "nan", "NULL", "4"])},
     "candidate.price: 48 of 960 numbers are not known (first in line 3)"),
    ("the list", {"price": some(USUAL, None)}, "candidate.price: the lists of 24 of 240 decisions are not known (first in line 3)"),
    ("the column in some rows", {"price": some(USUAL, "left out")},
     "candidate.price: the lists of 24 of 240 decisions are not known (first in line 3)"),
]  # fmt: skip


@pytest.mark.parametrize("case", MISSING, ids=[case[0] for case in MISSING])
def test_what_is_not_known_is_counted_in_a_note(case: tuple[str, dict[str, Change], str], tmp_path: Path) -> None:
    _, changed, said = case
    log, asked = tables(tmp_path, **changed)
    read = read_events(log, decisions=asked)
    assert [note for note in read.notes if "candidate." in note] == ([f"decisions: {said}"] if said else [])
    assert read.bad_rows == 0 and read.decisions is not None and read.decisions.collect().height == N


def test_a_short_list_of_text_is_not_filled_up(tmp_path: Path) -> None:
    rows = "".join(f"d{i},u{i % 8},{T0 + i},i1|i2,{'1||' if i % 10 == 2 else '1|2'}\n" for i in range(N))
    path = write(tmp_path / "asked.csv", "decision_id,user_id,timestamp,shown,candidate.price\n" + rows)
    assert "candidate.price has 1 numbers for 2 items shown (first in line 4)" in str(refused(tables(tmp_path)[0], decisions=path))


def test_an_item_that_was_no_candidate_cannot_have_been_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, asked = tables(tmp_path, candidates=some(lambda i: decision(i)["candidates"], ["w", "x", "y", "z"]))
    checks = {one["name"]: one for one in validate(read_events(log, decisions=asked))["checks"]}
    found = checks["shown was a candidate"]
    assert (found["ok"], found["count"], found["rows"]) == (False, 24, [3, 13, 23, 33, 43])
    for word in ("validate", "ingest"):
        output = ["-o", str(tmp_path / "d")] if word == "ingest" else []
        assert cli.main([word, str(log), "--decisions", str(asked), *output, "--quiet", "--json"]) == 2
        out, err = capsys.readouterr()
        assert "24 of 240 (10.00%): an item was shown that is not among the candidates of its decision" in out + err
        assert word == "validate" or f"at {asked}, lines 3, 13, 23, 33, 43" in err


def test_one_such_list_in_many_is_named_where_it_is_tolerated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, asked = tables(tmp_path, candidates=lambda i: ["w", "x", "y", "z"] if i == 6 else decision(i)["candidates"])
    assert cli.main(["ingest", str(log), "--decisions", str(asked), "-o", str(tmp_path / "d")]) == 0
    assert "note: 1 of 240 (0.42%): an item was shown that is not among the candidates" in capsys.readouterr().err
    log, asked = tables(tmp_path)
    assert cli.main(["ingest", str(log), "--decisions", str(asked), "-o", str(tmp_path / "d"), "--force"]) == 0
    assert "among the candidates" not in capsys.readouterr().err


def test_one_row_an_item_keeps_what_is_known_of_each(tmp_path: Path) -> None:
    """Rows of one list, in any order, each with its own number: as one list they have all of them."""
    head, rows = (
        "decision_id,user_id,timestamp,item_id,clicked,price",
        ["d1,u,1700000000,a,0,5", "d2,u,1700000060,c,1,7", "d1,u,1700000000,b,1,"],
    )
    read = read_events(write(tmp_path / "log.csv", "\n".join([head, *rows]) + "\n"), map={"candidate.price": "price"})
    assert read.decisions is not None
    found = read.decisions.collect().sort("decision_id").select("decision_id", "shown", "candidate.price").rows()
    assert found == [("d1", ["a", "b"], [5.0, None]), ("d2", ["c"], [7.0])]
