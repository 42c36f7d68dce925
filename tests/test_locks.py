"""File locks: held by one, named, and named where the system has none."""

import os
import subprocess
import sys
from pathlib import Path

from qurate.locks import owner_of, try_lock

WITHOUT = "import sys; sys.modules['fcntl'] = None; from qurate.cli.app import main; sys.exit(main(sys.argv[1:]))"


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("w") as one, path.open() as other:
        assert try_lock(one.fileno()) and try_lock(one.fileno()) and not try_lock(other.fileno())
    with path.open() as third:
        assert try_lock(third.fileno()), "it goes with the file"


def test_the_owner_is_named_where_it_wrote_its_number(tmp_path: Path) -> None:
    assert owner_of(tmp_path / "none") == "unknown"
    (tmp_path / "lock").write_text(str(os.getpid()))
    assert owner_of(tmp_path / "lock") == str(os.getpid())


def test_a_system_without_file_locks_is_named_before_any_work(tmp_path: Path) -> None:
    """As on Windows, where the standard library has no fcntl."""
    for command in (["simulate", "shop", "-o", str(tmp_path / "e.csv"), "--users", "5"], ["train", "x", "-o", str(tmp_path / "m")]):
        result = subprocess.run([sys.executable, "-c", WITHOUT, *command], capture_output=True, text=True, timeout=60)
        assert result.returncode == 2 and result.stdout == ""
        assert result.stderr.startswith("error: expected Linux or macOS (models and stores need POSIX file locks), got ")
        assert result.stderr.count("\n") == 1 and "without fcntl" in result.stderr
    assert list(tmp_path.iterdir()) == []
    version = subprocess.run([sys.executable, "-c", WITHOUT, "--version"], capture_output=True, text=True, timeout=60)
    assert version.returncode == 0 and version.stdout
