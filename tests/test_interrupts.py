"""Ctrl-C in the middle of every long command: one line or a saved result, 130, nothing half written, nothing of the user's changed."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from forked import Forked, command_in
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
    # what is typed, the line after which Ctrl-C is pressed ("": after half a second of work), what may be left
    ("ingest large.csv -o out", "plan:", []),
    ("ingest large.csv -o out", "reading:", []),
    ("ingest large.csv -o data", "reading:", []),
    ("validate large.csv", "reading:", []),
    ("train data -o out --algorithm als --set iterations=300", "", []),
    (f"train --env shop -o out --steps 1000000 {SMALL}", "preparing", ["out"]),
    ("evaluate model popularity item_knn data --html out.html", "", []),
    ("evaluate shop-model --env shop --seeds 90", "", []),
    ("compare random popularity myopic --env shop --seeds 9", "seed 0: popularity", []),
    ("tune data --algorithm dqn --budget 10m -o out", "the default settings", ["out"]),
    ("simulate shop -o out.csv --users 20000 --steps 200", "", []),
    ("simulate shop -o log.csv --users 20000 --steps 200 --force", "", []),
    ("customers data -o out", "", []),
    ("demo -o out", "seed 0: a log of", ["out"]),  # the first shop's: the second may be done sooner
    ("serve model --port 0 --data out", "http://", ["out"]),
]


WITH_WORKERS = ("compare", "demo", "serve")
"""Commands with processes or threads of their own start as a user starts them; the others with torch imported, in a forked process."""


class Started:
    """`qurate TYPED` in a folder, as the leader of a process group; what it says goes to files in `said`."""

    def __init__(self, typed: str, folder: Path, said: Path, environment: dict[str, str]) -> None:
        said.mkdir()
        self.said, arguments = said, typed.split()
        self.process: subprocess.Popen[bytes] | Forked
        if arguments[0] in WITH_WORKERS:
            with (said / "stdout.txt").open("wb") as out, (said / "stderr.txt").open("wb") as err:
                self.process = subprocess.Popen(
                    [*QURATE, *arguments], cwd=folder, env=os.environ | environment, start_new_session=True, stdout=out, stderr=err
                )
        else:
            self.process = Forked(said, command_in, folder, environment, arguments)
            self.process.read()
        self.pid = self.process.pid

    def read(self, name: str) -> str:
        file = self.said / f"{name}.txt"
        return file.read_text(encoding="utf-8") if file.exists() else ""

    def until(self, text: str) -> None:
        """Waits until it has said this; where that is nothing, until it has used the processor for half a second, or is over."""
        while not text and seconds_of(self.pid) < 0.5:
            time.sleep(0.02)
        while text not in self.read("stderr"):
            alive = self.process.poll() is None if isinstance(self.process, subprocess.Popen) else self.process.process.is_alive()
            assert alive or text in self.read("stderr"), self.read("stderr")
            time.sleep(0.02)

    def wait(self, seconds: float) -> int:
        """Its exit code, negative where a signal ended it."""
        return self.process.wait(seconds) if isinstance(self.process, subprocess.Popen) else self.process.wait(seconds)[0]


def seconds_of(pid: int) -> float:
    """Of the processor, used by a process that runs; infinite where it is over."""
    file = Path(f"/proc/{pid}/stat")
    words = file.read_text().rpartition(")")[2].split() if file.exists() else ["Z"]
    return float("inf") if words[0] == "Z" else (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def running(group: int) -> list[str]:
    """States of the processes of a group; what is over may wait to be reaped."""
    states = subprocess.run(["ps", "-o", "stat=", "-g", str(group)], capture_output=True, text=True).stdout
    return [one for one in states.split() if one[0] != "Z"]


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize(("typed", "after", "left"), LONG, ids=[f"{typed} {after}" for typed, after, _ in LONG])
def test_ctrl_c_in_the_middle(typed: str, after: str, left: list[str], place: Path, tmp_path: Path) -> None:
    for name in ("out", "out.csv"):
        subprocess.run(["rm", "-rf", str(place / name)], check=True)
    before = everything(place)
    process = Started(typed, place, tmp_path / "said", {"TMPDIR": str(tmp_path)})
    process.until(after)
    time.sleep(0.3 if after else 0)
    with contextlib.suppress(ProcessLookupError):  # it was done sooner
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
    code = process.wait(120)
    out, err = process.read("stdout"), process.read("stderr")
    if code == 0:
        pytest.skip("it was done sooner")
    assert code in ENDED and "Traceback" not in err, err
    assert err.count("interrupted") == 1 and (out == "" or typed.startswith(("train", "tune")))
    assert {name: content for name, content in everything(place).items() if name.split("/")[0] not in left} == before
    assert not list(tmp_path.glob("qurate-*")), "what was unpacked is removed"
    since = time.monotonic()
    while running(process.pid) and time.monotonic() - since < 5:
        time.sleep(0.05)
    assert running(process.pid) == []
    if typed.startswith("demo"):
        assert Dataset.read(place / "out" / "dataset").manifest["kind"] == "logged"
    if typed.startswith("train") and left:
        assert load(place / "out").metrics["stopped"] == "interrupted"


@pytest.mark.slow
def test_a_second_ctrl_c_while_the_model_is_written_leaves_no_half_of_one(place: Path, tmp_path: Path) -> None:
    process = Started(f"train --env shop -o twice --steps 1000000 {SMALL}", place, tmp_path / "said", {})
    process.until("preparing")
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    process.until("once more stops at once")
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) in ENDED and "Traceback" not in process.read("stderr")
    assert not (place / "twice").exists() or load(place / "twice")
    assert not [path for path in place.iterdir() if path.name.startswith((".twice", "twice."))]
