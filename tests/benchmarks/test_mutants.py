"""`make mutants` on a checkout of four lines: what is killed, what survives, and what cannot be told is said."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mutants
import pytest
from mutants import KILLED, MISSING, NO_VERDICT, SURVIVED, Mutation, Verdict, chosen, outcome_of, read_tables, report
from quickest_first import Order

COMMAND = Path(mutants.__file__)
TABLE = """
[[file]]
path = "arith.py"
tests = ["tests/test_arith.py"]
faults = [
  { was = "a + b", now = "a - b" },
  { was = "return a + b", now = "return b + a" },
  { was = "a * b", now = "a / b" },
  { was = "0", nth = 2, now = "1" },
  { was = "0 or 0", now = "0 or (" },
]
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for folder in ("src/qurate", "tests", "benchmarks/mutations"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "src/qurate/__init__.py").write_text("")
    (tmp_path / "src/qurate/arith.py").write_text("def add(a, b):\n    return a + b\n\n\nZERO = 0 or 0\n")
    test = "from qurate.arith import ZERO, add\n\n\ndef test_add():\n    assert add(1, 2) == 3 and ZERO == 0\n"
    (tmp_path / "tests/test_arith.py").write_text(test)
    (tmp_path / "benchmarks/mutations/arith.toml").write_text(TABLE)
    return tmp_path


def run(checkout: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(COMMAND), "--root", str(checkout), "--verbose", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_survivors_missing_texts_and_missing_verdicts_are_named_and_fail(checkout: Path) -> None:
    before = {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()}
    result = run(checkout)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "5 faults: 2 killed, 1 survived, 1 missing, 1 no verdict" in result.stdout
    assert "survived: src/qurate/arith.py:2\n  - return a + b\n  + return b + a\n" in result.stdout
    assert "missing: src/qurate/arith.py:0\n  - a * b\n" in result.stdout and "occurs 0 times" in result.stdout
    assert "no verdict: src/qurate/arith.py:5" in result.stdout and "SyntaxError" in result.stdout
    after = {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()}
    assert after == before, "the checkout is only read"


def test_faults_that_are_all_noticed_pass_and_tests_that_fail_anyway_notice_nothing(checkout: Path) -> None:
    assert run(checkout, "--only", "a - b").returncode == 0
    (checkout / "tests/test_arith.py").write_text("def test_never():\n    assert False\n")
    result = run(checkout, "--only", "a - b")
    assert result.returncode == 1 and "The tests fail without any fault" in result.stderr


def test_a_text_must_occur_once_or_as_often_as_the_table_says() -> None:
    text = "x = 1\ny = 1\n"
    assert Mutation("f.py", "x = 1", "x = 2", ()).apply(text) == "x = 2\ny = 1\n"
    assert Mutation("f.py", "1", "2", (), nth=2).apply(text) == "x = 1\ny = 2\n"
    for bad in (Mutation("f.py", "1", "2", ()), Mutation("f.py", "1", "2", (), nth=3), Mutation("f.py", "z", "2", ())):
        with pytest.raises(ValueError, match="occurs"):
            bad.apply(text)


def test_what_an_exit_code_of_the_tests_says() -> None:
    assert [outcome_of(code) for code in (0, 1, None, 2, 3, 4, 5, -9)] == [SURVIVED, KILLED, KILLED, *[NO_VERDICT] * 5]


def test_the_report_fails_for_everything_that_was_not_killed_and_for_nothing_at_all() -> None:
    lines: list[str] = []
    one = Mutation("f.py", "a", "b", ("tests/t.py",))
    assert report([Verdict(one, KILLED, 3)], lines.append) == 0 and "1 killed, 0 survived" in lines[-1]
    for outcome in (SURVIVED, MISSING, NO_VERDICT):
        assert report([Verdict(one, KILLED, 3), Verdict(one, outcome, 7)], lines.append) == 1
    assert report([], lines.append) == 1


def test_the_tables_of_this_checkout_fit_its_sources() -> None:
    """Quick: that each text is there. `make mutants` says whether the tests notice."""
    mutations = read_tables(mutants.ROOT / mutants.TABLES)
    assert len(mutations) >= 100
    texts = {m.path: (mutants.ROOT / "src" / "qurate" / m.path).read_text("utf-8") for m in mutations}
    assert [(m.path, m.was) for m in mutations if m.position(texts[m.path]) is None] == []
    assert [m for m in mutations if m.was == m.now] == []
    absent = {test.split("::")[0] for m in mutations for test in m.tests if not (mutants.ROOT / test.split("::")[0]).exists()}
    assert absent == set()
    assert {m.path for m in chosen(mutations, "mdp/*")} == {m.path for m in mutations if m.path.startswith("mdp/")}


def test_the_cheapest_tests_run_first() -> None:
    """Those of unknown cost run last."""
    items: Any = [SimpleNamespace(nodeid=name) for name in "abc"]
    Order({"a": 2.0, "c": 0.5}).pytest_collection_modifyitems(items)
    assert [item.nodeid for item in items] == ["c", "a", "b"]
