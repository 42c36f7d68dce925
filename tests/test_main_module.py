"""`python -m qurate` and `python -m qurate.cli` are the command; `qurate.cli.main` is the function behind it."""

import subprocess
import sys

import pytest

import qurate
from qurate import cli


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("module", ["qurate", "qurate.cli"])
def test_python_m_is_the_command(module: str) -> None:
    result = run(module, "--version")
    assert (result.returncode, result.stderr) == (0, "") and qurate.__version__ in result.stdout
    wrong = run(module, "recomend")
    assert wrong.returncode == 2 and "recommend" in wrong.stderr and "Traceback" not in wrong.stderr


def test_the_function_behind_the_command_returns_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0 and qurate.__version__ in capsys.readouterr().out
