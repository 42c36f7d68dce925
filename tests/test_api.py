"""The public names: their docstrings' examples run, docs/api.md is made from them, `dir` shows them."""

import doctest
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest

import qurate
from qurate import errors, facts
from scripts import load_script

SCRIPT = Path(__file__).parent.parent / "docs" / "make_api.py"
NAMES = [name for name in qurate.__all__ if not name.startswith("_")]


def table_of_the_page() -> pl.DataFrame:
    code = load_script(SCRIPT).HEAD.split("```python\n")[1].split("```")[0]
    names: dict[str, pl.DataFrame] = {}
    exec(code, names)
    return names["log"]


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_has_an_example_that_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = doctest.DocTestFinder().find(getattr(qurate, name), name, globs={"qurate": qurate, "log": table_of_the_page()})
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    ran = [runner.run(one, out=said.append) for one in found]
    assert sum(one.attempted for one in ran) > 0 and sum(one.failed for one in ran) == 0, "".join(said)


@pytest.mark.parametrize("module", [errors, facts])
def test_examples_of_helpers_run(module: ModuleType) -> None:
    globs = {**vars(module), "qurate": qurate, "log": table_of_the_page()}
    failed, attempted = doctest.testmod(module, globs=globs)
    assert attempted > 0 and failed == 0


def test_the_page_is_made_from_the_docstrings() -> None:
    module = load_script(SCRIPT)
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), "run python docs/make_api.py"


def test_dir_shows_the_public_names_and_nothing_else() -> None:
    assert dir(qurate) == sorted(qurate.__all__) and {"evaluate_many", "train", "EventLog"} <= set(dir(qurate))
    assert all(getattr(qurate, name) is not None for name in dir(qurate))
