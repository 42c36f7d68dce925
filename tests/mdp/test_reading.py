"""What a plan read whole is not read again; what it read in part is."""

import json
import warnings
from pathlib import Path

import pytest
from rich.cells import cell_len

from qurate.cli import app as cli
from qurate.events import listed
from qurate.events.readers import read_events
from qurate.mdp import reading
from qurate.mdp.dataset import build_dataset
from qurate.mdp.reading import Request, check, plan
from qurate.mdp.storage import Dataset


def _events(path: Path, rows: int) -> Path:
    lines = [f"u{n % 5},i{n % 7},click,{1_700_000_000 + 60 * n}" for n in range(rows)]
    path.write_text("\n".join(["user_id,item_id,type,timestamp", *lines]) + "\n")
    return path


def test_a_log_that_the_plan_read_whole_is_not_read_again(tmp_path: Path) -> None:
    request = Request([_events(tmp_path / "events.csv", 50)])
    made = plan(request)
    (tmp_path / "events.csv").unlink()
    checked = check(request)
    assert made["sampled"] is None
    assert checked.ok and checked.log.rows == 50


def test_a_log_of_which_the_plan_read_a_part_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SAMPLE", 20)
    request = Request([_events(tmp_path / "events.csv", 50)])
    made = plan(request)
    assert (made["sampled"], made["rows"]) == (20, 20)
    assert check(request).log.rows == 50


def test_rows_that_are_no_events_do_not_hide_that_a_plan_read_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the first rows describe items: 10 of 20 are left, and yet the file has more."""
    monkeypatch.setattr(reading, "SAMPLE", 20)
    lines: list[dict[str, object]] = []
    for n in range(40):
        row = {"timestamp": str(1_700_000_000_000 + 60_000 * n), "user": f"u{n % 4}"}
        lines.append({**row, "event": "item", "id": f"m{n}", "item": "a"})
        lines.append({**row, "event": "ranking", "id": f"r{n}", "items": [{"id": "a"}, {"id": "b"}]})
        lines.append({**row, "event": "interaction", "id": f"x{n}", "ranking": f"r{n}", "type": "click", "item": "a"})
    log = tmp_path / "metarank.jsonl"
    log.write_text("\n".join(map(json.dumps, lines)) + "\n")
    names = {"user_id": "user", "item_id": "item", "decision_id": "ranking", "shown": "items"}
    request = Request([log], {"map": names})
    assert plan(request)["sampled"] == 20
    assert check(request).log.rows == 80


def test_text_of_lists_is_parsed_once_for_the_sample_and_once_for_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every place that uses a list used to parse its text again."""
    _events(tmp_path / "events.csv", 50)
    shown = [f'd{n},u{n % 5},{1_700_000_000 + 60 * n},"[""i{n % 7}"", ""j{n}""]"' for n in range(50)]
    (tmp_path / "decisions.csv").write_text("\n".join(["decision_id,user_id,timestamp,shown", *shown]) + "\n")
    texts: list[str] = []
    parse = listed.parse_items
    monkeypatch.setattr(listed, "parse_items", lambda text: (texts.append(text), parse(text))[1])
    request = Request([tmp_path / "events.csv"])
    plan(request)
    checked = check(request, order=True)
    assert checked.log.decisions is not None and checked.log.decisions.collect().height == 50
    assert len(texts) == 3 * 50  # whether there are answers, the sample, the log


def test_the_plan_says_what_each_feature_column_becomes_and_which_table_was_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"u{i % 7},i{(i * i) % 9},click,{1_700_000_000 + i * 600}" for i in range(120)]
    (tmp_path / "log.csv").write_text("user_id,item_id,type,timestamp\n" + "\n".join(lines) + "\n")
    (tmp_path / "items.csv").write_text("item_id,类别,price,title\n" + "".join(f"i{i},{'杯书'[i % 2]},{i}.5,only {i}\n" for i in range(6)))
    assert cli.main(["ingest", str(tmp_path / "log.csv"), "-o", str(tmp_path / "d"), "--json"]) == 0
    out, err = capsys.readouterr()
    plan = json.loads(out)["plan"]
    made = {one["column"]: (one["became"], one["dimensions"]) for one in plan["features"]["items"]}
    # i7 of the log has no row in the table, so that every column has missing values
    assert made == {"类别": ("onehot", 3), "price": ("numeric", 2), "title": ("the title", 0)}
    assert Dataset.read(tmp_path / "d").item_features.shape[1] == 5
    assert "note: items.csv, which stands beside the log, is read as the table of items; --items FILE says another" in err
    shown = [line for line in err.splitlines() if line.startswith("  ") and "->" in line][-3:]
    assert [line.split("->")[1].strip() for line in shown] == ["onehot, 3", "numeric, 2", "the title"]
    assert len({cell_len(line.split("->")[0]) for line in shown}) == 1
    (tmp_path / "other.csv").write_text((tmp_path / "items.csv").read_text())
    assert cli.main(["ingest", str(tmp_path / "log.csv"), "--items", str(tmp_path / "other.csv"), "--plan"]) == 0
    assert "beside the log" not in capsys.readouterr().out


def test_a_reward_for_a_type_that_the_log_lacks_is_named_in_python_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"u{i % 7},i{(i * i) % 9},click,{1_700_000_000 + i * 600}" for i in range(120)]
    (tmp_path / "log.csv").write_text("user_id,item_id,type,timestamp\n" + "\n".join(lines) + "\n")
    with pytest.warns(UserWarning, match="a reward is given for gift, and the log has no event of that type; it has click"):
        build_dataset(read_events(tmp_path / "log.csv"), {"click": 1, "gift": 5})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build_dataset(read_events(tmp_path / "log.csv"), {"click": 1})
        assert cli.main(["ingest", str(tmp_path / "log.csv"), "-o", str(tmp_path / "d"), "--rewards", "click=1,gift=5"]) == 0
    assert capsys.readouterr().err.count("a reward is given for gift") == 1
