"""The documents: commands in blocks marked `bash run` are run; links, names and both READMEs must agree."""

import contextlib
import functools
import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from qurate.algorithms.table import ALGORITHMS
from qurate.cli.app import app, main

ROOT = Path(__file__).parent.parent
PAGES = [p for p in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")] if p.is_file()]
READMES = sorted(ROOT.glob("README*.md"))
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[list[str], str]]:
    """(words after the fence, text) of each fenced block."""
    return [(match[1].split(), match[2]) for match in BLOCK.finditer(page.read_text(encoding="utf-8"))]


def runnable(pages: list[Path]) -> list[object]:
    cases: dict[str, object] = {}
    for page in pages:
        for words, text in blocks(page):
            if words[:2] == ["bash", "run"]:  # both READMEs show the same commands: they run once
                marks = [pytest.mark.slow] if "slow" in words else []
                cases.setdefault(text, pytest.param(text, id=f"{page.name}-{len(cases)}", marks=marks))
    return list(cases.values())


@pytest.mark.study
@pytest.mark.parametrize("commands", runnable(READMES))
def test_commands_in_the_readmes_run_in_a_shell(commands: str, tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert result.returncode == 0, f"{result.stdout[-2000:]}\n{result.stderr[-2000:]}"
    assert "Traceback" not in result.stderr


def type_in(folder: Path, lines: Sequence[str]) -> None:
    """Runs lines of the form `qurate COMMAND ...` in this process: each process of its own would import for two seconds."""
    with contextlib.chdir(folder):
        for line in lines:
            name, *arguments = shlex.split(line)
            assert name == "qurate" and not set(line) & set("|&;<>$*\\"), f"needs a shell: {line}"
            assert main(arguments) == 0, line


def shorter(line: str) -> str:
    """With at most 150 customers, and 60 steps: 1,020 in an environment, where the first update comes after 1,000."""
    for option, most in (("steps", 1_020 if "--env" in line else 60), ("users", 150)):
        line = re.sub(rf"(?<=--{option} )\d+", lambda found, most=most: str(min(most, int(found[0]))), line)
    return line


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Callable[[tuple[str, ...]], Path]:
    """A folder where these lines have run; many pages begin with the same log and dataset, which are made once."""

    @functools.cache
    def make(lines: tuple[str, ...]) -> Path:
        folder = tmp_path_factory.mktemp("docs")
        type_in(folder, lines)
        return folder

    return make


@pytest.mark.usefixtures("few_customers")
@pytest.mark.parametrize("commands", runnable([*READMES, *(page for page in PAGES if page not in READMES)]))
def test_commands_in_the_documents_run(
    commands: str, tmp_path: Path, prepared: Callable[[tuple[str, ...]], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """As they stand, but with fewer steps, and fewer customers whom policies meet."""
    lines = [shorter(line) for line in commands.strip().splitlines()]
    first = tuple(itertools.takewhile(lambda line: line.split()[1] in ("simulate", "ingest"), lines))
    shutil.copytree(prepared(first), tmp_path, dirs_exist_ok=True)
    type_in(tmp_path, lines[len(first) :])
    assert "Traceback" not in capsys.readouterr().err


def test_both_readmes_show_the_same_commands_and_sections() -> None:
    english, chinese = READMES
    assert blocks(english) == blocks(chinese)
    sections = [page.read_text(encoding="utf-8").count("\n## ") for page in (english, chinese)]
    assert sections[0] == sections[1]
    results = [
        re.search(r"<!-- results:begin -->.*<!-- results:end -->", p.read_text(encoding="utf-8"), re.DOTALL) for p in (english, chinese)
    ]
    assert all(results)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = [t.split("#")[0] for t in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in t]
    missing = [t for t in targets if t and not (page.parent / t).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_named_in_the_documents_exist(page: Path) -> None:
    known = {c.callback.__name__ for c in app.registered_commands if c.callback} | {"COMMAND", "命令"}
    named = re.findall(r"`(?:\.venv/bin/)?qurate ([^\s`]+)", page.read_text(encoding="utf-8"))
    named += [m for _, text in blocks(page) for m in re.findall(r"^(?:\.venv/bin/)?qurate (\S+)", text, re.MULTILINE)]
    assert {n for n in named if not n.startswith("-")} <= known


def named_sources(text: str) -> set[str]:
    """Paths of Python files, pages and folders of ours that a text names in backquotes."""
    return set(re.findall(r"`((?:[a-z_0-9]+/)*[a-zA-Z_0-9-]+\.(?:py|md)|(?:[a-z_]+/)+)(?:::\w+)?`", text))


def test_files_named_in_the_documents_exist() -> None:
    pages = [page for page in PAGES if page.name not in ("CHANGELOG.md", "layout.md")]  # these two name what was
    named = {(page.name, path) for page in pages for path in named_sources(page.read_text(encoding="utf-8"))}
    roots = (ROOT, ROOT / "src/qurate", ROOT / "docs")
    written = {"log/", "dataset/", "model/", "live/", "mlruns/"}  # what commands write for a user
    assert len({name for name, _ in named}) >= 3
    missing = {(page, path) for page, path in named if path not in written and not any((root / path).exists() for root in roots)}
    assert sorted(missing) == []


def test_the_page_of_the_layout_names_every_file_once() -> None:
    text = (ROOT / "docs/layout.md").read_text(encoding="utf-8").split("```")[1]
    folders: list[str] = []
    named = []
    for line in text.strip().splitlines():
        depth, name = (len(line) - len(line.lstrip())) // 4, line.split()[0]
        assert len(line.split()) > 1, f"{name} is not described"
        folders = folders[:depth]
        if name.endswith("/"):
            folders.append(name)
        else:
            named.append("".join(folders) + name)
    source = ROOT / "src/qurate"
    there = [str(p.relative_to(source)) for p in source.rglob("*.py") if p.name != "__init__.py"]
    assert sorted(named) == sorted(there)


def test_one_training_step_is_read_in_six_files_of_1300_lines() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    files = [file for line in re.findall(r"^\d+\. .*$", text, re.MULTILINE) for file in re.findall(r"`([^`]+\.py)`", line)]
    lines = sum(len((ROOT / "src/qurate" / f).read_text(encoding="utf-8").splitlines()) for f in files)
    assert len(files) <= 6 and lines <= 1300


def test_make_names_no_index_and_ci_is_two_lines() -> None:
    for name in ("Makefile", "constraints.txt", "pyproject.toml"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert not re.search(r"https?://|--index|--find-links|extra-index", text), name
    assert (ROOT / ".ci/run").read_text(encoding="utf-8") == "make services\nmake test\n"
    pins = [line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[^\s+]+", pin) for pin in pins) and "torch==2.13.0" in pins


def test_every_algorithm_has_a_page_with_a_command_that_runs_and_every_page_an_algorithm() -> None:
    pages = {page.stem: page for page in (ROOT / "docs/algorithms").glob("*.md") if page.stem != "README"}
    assert sorted(pages) == sorted(ALGORITHMS)
    index = (ROOT / "docs/algorithms/README.md").read_text(encoding="utf-8")
    for name, page in pages.items():
        assert f"[{name}]({name}.md)" in index
        shown = [text for words, text in blocks(page) if words[:2] == ["bash", "run"]]
        assert len(shown) == 1 and f"--algorithm {name} " in shown[0], page
        headings = re.findall(r"^## (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert headings == ["Use", "What it fits", "Differences from the paper", "Settings", "Figures of a run", "Results"]


CHINESE = sorted([*ROOT.glob("*.zh-CN.md"), *(ROOT / "docs").glob("*.zh-CN.md")])


@pytest.mark.parametrize("page", CHINESE, ids=lambda p: p.name)
def test_no_line_breaks_inside_a_sentence_of_a_chinese_page(page: Path) -> None:
    prose = re.sub(r"^```.*?^```$", "\n", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    lines = prose.split("\n")
    own = re.compile(r"(\||#|<!--|    |\* |- |\d+\. )")
    broken = [b for a, b in itertools.pairwise(lines) if a.strip() and b.strip() and not own.match(b) and not re.match(r"\||#|<!--", a)]
    assert broken == []


def test_chinese_pages_use_one_word_for_each_thing() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in CHINESE)
    assert {"离策略评估", "置信区间", "兜底推荐", "远视参考策略", "物品"} <= set(
        re.findall("离策略评估|置信区间|兜底推荐|远视参考策略|物品", text)
    )
    assert re.findall("离线策略评估|信赖区间|回退推荐|远见参考|商品(?!\\d)|条目|(?<!置信)区间", text) == []
