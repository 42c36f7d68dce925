"""The rule about real logs itself: they run where they are, are counted, and are never skipped in silence."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

CASE = """
import pytest

@pytest.fixture(scope="module")
def log(real_log):
    return real_log("some/log.parquet")

def test_directly(real_log): assert real_log("some/log.parquet").is_file()
def test_through_a_fixture(log): assert log.is_file()
def test_not_there(real_log): real_log("other.parquet")
def test_of_something_else(): pytest.skip("has no log")
"""


def run(folder: Path, data: Path) -> str:
    shutil.copy(Path(__file__).with_name("conftest.py"), folder / "conftest.py")
    (folder / "test_case.py").write_text(CASE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), str(folder)]
    return subprocess.run(command, env={**os.environ, "QURATE_DATA": str(data)}, capture_output=True, text=True, timeout=60).stdout


def test_where_the_folder_exists_a_skip_fails(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "some").mkdir(parents=True)
    (data / "some/log.parquet").touch()
    out = run(tmp_path, data)
    assert "real logs: 2 run, 1 skipped" in out
    assert "1 failed, 2 passed, 1 skipped" in out and "test_not_there: skipped although QURATE_DATA exists" in out


def test_where_it_does_not_exist_they_are_skipped_with_the_reason(tmp_path: Path) -> None:
    out = run(tmp_path, tmp_path / "absent")
    assert "real logs: 0 run, 3 skipped" in out and "4 skipped" in out and "failed" not in out
