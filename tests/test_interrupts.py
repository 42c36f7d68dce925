"""Ctrl-C in the middle of every long command: one line or a saved result, 130, nothing half written, nothing of the user's changed."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from qurate.cli import app as cli
from qurate.interrupts import is_ours, remembered
from qurate.mdp.storage import Dataset
from qurate.models.model import load
from qurate.training.run import refuse_interrupted
from test_cli import QURATE, fail_with, run

ENDED = (130, -signal.SIGINT)
"""A shell says 130 for both: Python ends itself by the signal where it came while a module was read."""
SMALL = "--set hidden=8 --set embedding_dim=4 --set window=4 --set batch_size=16"


def test_ctrl_c_that_a_library_swallows_is_no_fault_of_ours(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    error = AttributeError("module 'numpy' has no attribute 'matrix'")
    fail_with(error, monkeypatch)
    assert "internal error" in run(capsys, "train", "--set", "help")[2]

    def pressed_and_swallowed(*_: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        except BaseException:
            raise error from None

    monkeypatch.setattr("qurate.cli.model_commands.print_settings", pressed_and_swallowed)
    assert run(capsys, "train", "--set", "help") == (130, "", "interrupted\n")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_in_a_command_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fail_with(KeyboardInterrupt(), monkeypatch)
    assert run(capsys, "train", "--set", "help") == (130, "", "interrupted\n")


def test_a_handler_of_somebody_else_is_left_alone() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with remembered() as pressed:
            os.kill(os.getpid(), signal.SIGINT)
            assert not pressed and not is_ours() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_part_that_was_cut_short_ends_the_whole() -> None:
    refuse_interrupted({"stopped": "budget"})
    with pytest.raises(KeyboardInterrupt):
        refuse_interrupted({"stopped": "interrupted"})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log, a large one, a dataset and a model."""
    top = tmp_path_factory.mktemp("long")
    for name, count in (("log.csv", 4_000), ("large.csv", 1_000_000)):
        rows = (
            f"u{i % 100},i{(i * i + i // 100) % 37},{'click' if i % 4 else 'purchase'},{1_600_000_000 + i * 60}\n" for i in range(count)
        )
        (top / name).write_text("user_id,item_id,type,timestamp\n" + "".join(rows))
    assert cli.main(["ingest", str(top / "log.csv"), "-o", str(top / "data"), "--quiet"]) == 0
    assert cli.main(["train", str(top / "data"), "-o", str(top / "model"), "--steps", "5", "--quiet", *SMALL.split()]) == 0
    assert cli.main(["train", "--env", "shop", "-o", str(top / "shop-model"), "--steps", "64", "--quiet", *SMALL.split()]) == 0
    (top / "mine").mkdir()
    (top / "mine" / "thesis.txt").write_text("years of work")
    return top


LONG: list[tuple[str, str, list[str]]] = [
    # what is typed, the line after which Ctrl-C is pressed ("": after two seconds), what may be left
    ("ingest large.csv -o out", "plan:", []),
    ("ingest large.csv -o out", "reading:", []),
    ("ingest large.csv -o data", "reading:", []),
    ("validate large.csv", "reading:", []),
    ("train data -o out --algorithm als", "", []),
    (f"train --env shop -o out --steps 1000000 {SMALL}", "preparing", ["out"]),
    ("evaluate model popularity item_knn data --html out.html", "", []),
    ("evaluate shop-model --env shop --seeds 90", "", []),
    ("compare random popularity myopic --env shop --seeds 9", "seed 0: popularity", []),
    ("tune data --algorithm dqn --budget 10m -o out", "the default settings", ["out"]),
    ("simulate shop -o out.csv --users 20000 --steps 200", "", []),
    ("simulate shop -o log.csv --users 20000 --steps 200 --force", "", []),
    ("customers data -o out", "", []),
    ("demo -o out", "a log of", ["out"]),
    ("serve model --port 0 --data out", "http://", ["out"]),
]


def started(typed: str, folder: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    command = [*QURATE, *typed.split()]
    return subprocess.Popen(command, cwd=folder, env=environment, text=True, start_new_session=True, stdout=pipe, stderr=pipe)


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize(("typed", "after", "left"), LONG, ids=[f"{typed} {after}" for typed, after, _ in LONG])
def test_ctrl_c_in_the_middle(typed: str, after: str, left: list[str], place: Path, tmp_path: Path) -> None:
    for name in ("out", "out.csv"):
        subprocess.run(["rm", "-rf", str(place / name)], check=True)
    before = everything(place)
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with started(typed, place, environment) as process:
        assert process.stderr is not None and process.stdout is not None
        heard = ""
        while after and after not in heard:
            heard += (line := process.stderr.readline())
            assert line, heard
        time.sleep(0.3 if after else 2.0)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
        out, err = process.communicate(timeout=120)
    if process.returncode == 0:
        pytest.skip("it was done sooner")
    assert process.returncode in ENDED and "Traceback" not in err, err
    assert err.count("interrupted") == 1 and (out == "" or typed.startswith(("train", "tune")))
    assert {name: content for name, content in everything(place).items() if name.split("/")[0] not in left} == before
    assert not list(tmp_path.glob("qurate-*")), "what was unpacked is removed"
    time.sleep(1.0)
    states = subprocess.run(["ps", "-o", "stat=", "-g", str(process.pid)], capture_output=True, text=True).stdout
    assert [one for one in states.split() if one[0] != "Z"] == []  # what is over may wait to be reaped
    if typed.startswith("demo"):
        assert Dataset.read(place / "out" / "dataset").manifest["kind"] == "logged"
    if typed.startswith("train") and left:
        assert load(place / "out").metrics["stopped"] == "interrupted"


@pytest.mark.slow
def test_a_second_ctrl_c_while_the_model_is_written_leaves_no_half_of_one(place: Path) -> None:
    with started(f"train --env shop -o twice --steps 1000000 {SMALL}", place, dict(os.environ)) as process:
        assert process.stderr is not None
        while "preparing" not in process.stderr.readline():
            assert process.poll() is None
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)
        while "once more stops at once" not in process.stderr.readline():
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode in ENDED and "Traceback" not in err
    assert not (place / "twice").exists() or load(place / "twice")
    assert not [path for path in place.iterdir() if path.name.startswith((".twice", "twice."))]
