"""`python -m qurate` is the command; `python -m qurate.cli` is not one, and says so."""

import subprocess
import sys

import qurate


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, timeout=60)


def test_python_m_qurate_is_the_command() -> None:
    result = run("qurate", "--version")
    assert (result.returncode, result.stderr) == (0, "") and qurate.__version__ in result.stdout
    wrong = run("qurate", "recomend")
    assert wrong.returncode == 2 and "recommend" in wrong.stderr and "Traceback" not in wrong.stderr


def test_python_m_qurate_cli_does_not_pretend_to_work() -> None:
    result = run("qurate.cli", "--version")
    assert result.returncode != 0 and "cannot be directly executed" in result.stderr and result.stdout == ""
