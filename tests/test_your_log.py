"""docs/your-log.md and its Chinese twin: every plan is what the command prints. And what `validate` and `ingest` share."""

import json
import re
import shlex
from pathlib import Path

import pytest

from qurate.cli import app as cli
from test_cli import one_error, run

DOCS = Path(__file__).parent.parent / "docs"
SECTION = re.compile(r"^## \d+\. .*?(?=^## )", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```(\S+) ?([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

SECTIONS = SECTION.findall((DOCS / "your-log.md").read_text(encoding="utf-8"))


def test_both_languages_show_ten_shapes_with_the_same_blocks() -> None:
    chinese = SECTION.findall((DOCS / "your-log.zh-CN.md").read_text(encoding="utf-8"))
    assert len(SECTIONS) == 10
    assert [BLOCK.findall(text) for text in SECTIONS] == [BLOCK.findall(text) for text in chinese]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda text: text.split("\n")[0].strip("# "))
def test_the_plan_is_what_the_command_prints(
    section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall(section)
    files = [(name, text) for kind, name, text in blocks if kind == "text" and name != "plan"]
    (command,) = [text for kind, _, text in blocks if kind == "bash"]
    (plan,) = [text for kind, name, text in blocks if name == "plan"]
    for name, text in files:
        assert text.count("\n") == 3
        Path(name).write_text(text, encoding="utf-8")
    code, out, _ = run(capsys, *shlex.split(command)[1:])
    assert code == 0 and out == plan
    # The last line repeats the reading with every assumption said: it brings the same events and asks for nothing more.
    again = shlex.split(plan.splitlines()[-1].removeprefix("command: qurate "))
    code, out, _ = run(capsys, *again, "--plan")
    first, second = ([line for line in text.splitlines() if not line.startswith("  ")] for text in (plan, out))
    assert code == 0 and first == second


FORM = re.compile(r"^\* .+?: (?:`([^`]*)`, )?`([^`]*)`(?: with `([^`]*)`)?: (.+)\.$", re.MULTILINE)
FORMS = FORM.findall((DOCS / "your-log.md").read_text(encoding="utf-8"))


def test_both_languages_show_the_same_other_forms() -> None:
    assert len(FORMS) == 15 and FORM.findall((DOCS / "your-log.zh-CN.md").read_text(encoding="utf-8")) == FORMS


@pytest.mark.parametrize("form", FORMS, ids=[one[1][:30] for one in FORMS])
def test_the_other_forms_are_read(form: tuple[str, str, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header, row, options, events = form
    path = tmp_path / ("log.csv" if header else "log.jsonl")
    path.write_text("".join(line + "\n" for line in (header, row) if line), encoding="utf-8")
    code, out, err = run(capsys, "ingest", str(path), *shlex.split(options), "--plan", "--json")
    assert code == 0, err
    plan = json.loads(out)["plan"]
    assert plan["bad_rows"] == 0 and ", ".join(f"{one['type']} {one['rows']}" for one in plan["types"]) == events


SHOP = "user_id,item_id,type,timestamp\n" + "".join(f"u{i % 5},i{i % 7},click,{1_717_200_000 + 600 * i}\n" for i in range(60))


def test_a_plan_writes_nothing_and_needs_no_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log.csv").write_text(SHOP)
    code, out, err = run(capsys, "ingest", str(tmp_path / "log.csv"), "--plan", "--json")
    assert code == 0 and err == "" and [p.name for p in tmp_path.iterdir()] == ["log.csv"]
    plan = json.loads(out)["plan"]
    assert plan["types"] == [{"type": "click", "rows": 60, "weight": 1.0, "per_value": False, "reward": 60.0}]
    assert "not read" not in out and plan["sampled"] is None
    line = one_error(run(capsys, "ingest", str(tmp_path / "log.csv"))[2])
    assert "--output" in line


def test_both_begin_with_the_plan_unless_quiet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log.csv").write_text(SHOP)
    for command in (["validate"], ["ingest", "-o", str(tmp_path / "d")]):
        code, _, err = run(capsys, *command, str(tmp_path / "log.csv"))
        assert code == 0 and err.startswith("plan: layout qurate") and "user_id    ->  user_id" in err
        assert run(capsys, *command, str(tmp_path / "log.csv"), "--quiet")[2] == ""


def lines(columns: str, line: str, n: int = 60) -> str:
    """`line` is a format of the row's number `i` and its time `t`."""
    return f"{columns}\n" + "".join(line.format(i=i, u=i % 5, p=i % 7, t=1_717_200_000 + 600 * i) + "\n" for i in range(n))


FAULTS = {
    "negative watch times": lines("user_id,item_id,type,timestamp,value", "u{u},i{p},watch,{t},-5"),
    "no second event of anybody": lines("user_id,item_id,type,timestamp", "u{i},i{p},click,{t}"),
    "one item": lines("user_id,item_id,type,timestamp", "u{u},i,click,{t}"),
    "bad rows of two kinds": SHOP + ",i1,click,1717200000\nu1,i1,click,never\n",
    "no weight": SHOP.replace("click", "wink"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_fails_one_fails_the_other(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log.csv").write_text(FAULTS[name])
    code, out, _ = run(capsys, "validate", str(tmp_path / "log.csv"))
    assert code == 2 and "FAIL" in out
    code, out, err = run(capsys, "ingest", str(tmp_path / "log.csv"), "-o", str(tmp_path / "d"), "--quiet")
    assert code == 2 and out == "" and not (tmp_path / "d").exists()
    one_error(err)


def test_types_that_are_worth_nothing_are_named_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log.csv").write_text(SHOP + "u1,i1,wish list,1717290000\n")
    _, _, err = run(capsys, "ingest", str(tmp_path / "log.csv"), "-o", str(tmp_path / "d"), "--rewards", "click=1,cart=2")
    assert "worth nothing: wish list (1)" in err and "a reward is given for cart, and the log has no event of that type" in err
    (tmp_path / "watch.csv").write_text(SHOP.replace("click", "watch"))
    _, _, err = run(capsys, "validate", str(tmp_path / "watch.csv"))
    said = "the rewards of this log add up to 0: watch counts by its value, and no row has one, or they cancel out"
    assert f"{said}; say for example --rewards watch=1" in err


def test_a_bare_number_is_no_duration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log.csv").write_text(SHOP)
    code, _, err = run(capsys, "ingest", str(tmp_path / "log.csv"), "-o", str(tmp_path / "d"), "--churn-after", "30", "--quiet")
    assert code == 2 and "30d is days" in one_error(err)


def test_figures_that_are_hardly_true_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"u{i % 60 if i % 4 else 0},{i},click,{1_717_200_000 + i // 20}" for i in range(600)]
    (tmp_path / "log.csv").write_text("user_id,item_id,type,timestamp\n" + "\n".join(rows) + "\n")
    _, out, _ = run(capsys, "validate", str(tmp_path / "log.csv"), "--json")
    notes = " ".join(json.loads(out)["notes"])
    assert "user 'u0' has" in notes and "within one minute" in notes and "600 of 600 items occur once" in notes


def test_the_help_of_ingest_is_one_screen(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["ingest", "--help"]) == 0
    assert len(capsys.readouterr().out.splitlines()) <= 40
