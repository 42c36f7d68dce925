"""The examples run as they are, but with fewer updates: the scripts as a whole, the notebook cell by cell."""

import ast
import json
import runpy
from pathlib import Path
from typing import Any

import pytest

import qurate

EXAMPLES = Path(__file__).parent.parent / "examples"
SAYS = {
    "shop": ["Dataset(organic", "NDCG@20", "is shown"],
    "live": ["rooms are on air when the log ends"],
    "news": ["EventLog(exposure", "a reader of sport: Decision("],
    "films": ["features of films: 5 numbers each", "after two comedies: ["],
    "ads": ["EventLog(logged", "shown with probability"],
}
"""One script a domain, and what it prints."""


@pytest.fixture(autouse=True)
def few_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    real = qurate.train

    def train(data: Any, **given: Any) -> qurate.Model:
        return real(data, **given | ({"steps": 30, "batch_size": 64} if "steps" in given else {}))

    monkeypatch.setattr(qurate, "train", train)


@pytest.mark.parametrize("name", SAYS)
def test_a_script_runs_and_says_what_it_found(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    out = capsys.readouterr().out
    assert [text for text in SAYS[name] if text not in out] == []
    assert list(tmp_path.iterdir()) == []


def test_every_example_is_run_by_a_test() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {*SAYS, "closed_loop"}  # tests/test_loop.py runs the last
    assert [path.name for path in EXAMPLES.glob("*.ipynb")] == ["shop.ipynb"]


def test_the_notebook_runs_cell_by_cell_and_shows_tables() -> None:
    notebook = json.loads((EXAMPLES / "shop.ipynb").read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4 and len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    names: dict[str, Any] = {}
    shown = []
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        assert cell["outputs"] == [] and cell["execution_count"] is None
        parsed = ast.parse("".join(cell["source"]))
        last = parsed.body[-1]
        if isinstance(last, ast.Expr):  # a notebook shows the value of the last line
            parsed.body[-1] = ast.Assign([ast.Name("shown", ast.Store())], last.value)
        names.pop("shown", None)
        exec(compile(ast.fix_missing_locations(parsed), "shop.ipynb", "exec"), names)
        shown.append(names.get("shown"))
    pages = [one._repr_html_() for one in shown if hasattr(one, "_repr_html_")]
    assert len(pages) == 5 and sum("<iframe" in page for page in pages) == 2  # the table of polars is one of them
