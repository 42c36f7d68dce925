"""What is replaced is there whole or not at all, whatever interrupts it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from qurate import files
from qurate.files import locked, recover_directory, replacing_directory, replacing_file, write_file


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "report"
    with replacing_file(path) as beside:
        beside.write_text("half")
        assert not path.exists() and beside.parent == tmp_path
        beside.write_text("whole")
    assert path.read_text() == "whole" and os.listdir(tmp_path) == ["report"]


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_file_leaves_the_old_one(failure: BaseException, tmp_path: Path) -> None:
    path = tmp_path / "report"
    path.write_text("old")
    with pytest.raises(type(failure)), replacing_file(path) as beside:
        beside.write_text("half")
        raise failure
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["report"]


def test_a_directory_is_replaced_as_one(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "model"
    with replacing_directory(path) as beside:
        write_file(beside / "a" / "weights", b"1")
        assert not path.exists()
    with replacing_directory(path) as beside:
        write_file(beside / "other", b"2")
        assert (path / "a" / "weights").read_bytes() == b"1"
    assert os.listdir(path) == ["other"] and os.listdir(path.parent) == ["model"]


@pytest.mark.parametrize("step", ["block", "fsync", "rename"])
def test_a_failed_directory_leaves_the_old_one(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, rename = tmp_path / "m", os.rename
    with replacing_directory(path) as beside:
        write_file(beside / "old", b"")

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    if step == "fsync":
        monkeypatch.setattr(files.os, "fsync", fail)
    if step == "rename":
        monkeypatch.setattr(files.os, "rename", lambda a, b: fail() if str(a).endswith(files.TMP) else rename(a, b))
    with pytest.raises(OSError, match="Input/output"), replacing_directory(path) as beside:
        (beside / "new").write_bytes(b"")
        if step == "block":
            fail()
    monkeypatch.undo()
    assert os.listdir(path) == ["old"] and os.listdir(tmp_path) == ["m"]


def test_everything_in_a_directory_is_synced_before_it_arrives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    sync, rename = files.sync, os.rename
    monkeypatch.setattr(files, "sync", lambda path: order.append(path.name) or sync(path))
    monkeypatch.setattr(files.os, "rename", lambda a, b: order.append("renamed") or rename(a, b))
    with replacing_directory(tmp_path / "m") as beside:
        (beside / "inner").mkdir()
        (beside / "inner" / "file").write_bytes(b"x")
    assert set(order[: order.index("renamed")]) == {"inner", "file", beside.name} and order[-1] == tmp_path.name


HALF_WAY = """
import os, signal, sys
from qurate import files
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
rename = os.rename
files.os.rename = lambda a, b: die() if str(a).endswith(files.TMP) and sys.argv[2] == "between" else rename(a, b)
with files.replacing_directory(sys.argv[1]) as beside:
    (beside / "new").write_text("")
    if sys.argv[2] == "writing": die()
"""


@pytest.mark.parametrize("when", ["writing", "between"])
def test_what_a_killed_process_left_is_undone(when: str, tmp_path: Path) -> None:
    path = tmp_path / "m"
    with replacing_directory(path) as beside:
        write_file(beside / "old", b"")
    (tmp_path / f".m.0123abcd{files.TMP}.txt").write_text("not ours")
    assert subprocess.run([sys.executable, "-c", HALF_WAY, str(path), when]).returncode == -9
    assert len(os.listdir(tmp_path)) == 3
    assert recover_directory(path) is (when == "between")
    assert os.listdir(path) == ["old"] and sorted(os.listdir(tmp_path)) == [f".m.0123abcd{files.TMP}.txt", "m"]
    assert not recover_directory(tmp_path / "nowhere" / "m")


def test_while_another_process_writes_nothing_is_undone(tmp_path: Path) -> None:
    beside = tmp_path / f".m.01234567{files.TMP}"
    beside.mkdir()
    code = f"from qurate.files import locked; from pathlib import Path\nwith locked(Path({str(beside)!r})) as ours: print(ours)"
    with locked(beside) as ours:
        assert ours
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
        assert not recover_directory(tmp_path / "m") and beside.is_dir()
    assert not recover_directory(tmp_path / "m") and not beside.exists()
