"""Functions in processes of their own that start with torch and the service imported.

What such a test is about is the process: killed, stopped, full, started twice. Its imports would take two seconds each time.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "torch",
        "torch._dynamo",
        "qurate.cli.model_commands",
        "qurate.serving.api.server",
        "qurate.models.model",
        "qurate.experiments.customers",
    ]
)


def command(arguments: Sequence[str], say: Callable[[Any], None]) -> None:
    """`qurate ARGUMENTS`, for a `Forked`."""
    from qurate.cli.app import main

    sys.exit(main(arguments))


def command_in(folder: Path, environment: Mapping[str, str], arguments: Sequence[str], say: Callable[[Any], None]) -> None:
    """The same in a folder, with variables, as the leader of a process group; it says its number when it leads one."""
    os.setsid()
    say(os.getpid())
    os.chdir(folder)
    os.environ.update(environment)
    tempfile.tempdir = None  # else that of the process that was forked
    command(arguments, say)


def _run(function: Callable[..., None], arguments: tuple[Any, ...], say: Connection, folder: Path) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, name in ((1, "stdout.txt"), (2, "stderr.txt")):
        file = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    function(*arguments, say.send)


class Forked:
    """`function(*arguments, say)` of a module that can be imported by name: `say(x)` sends, `read` gives what was sent."""

    def __init__(self, folder: Path, function: Callable[..., None], *arguments: Any) -> None:
        """`folder`: for what it writes to standard output and error; made if need be."""
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.said, say = CONTEXT.Pipe(duplex=False)
        self.process = CONTEXT.Process(target=_run, args=(function, arguments, say, folder))
        self.process.start()
        say.close()
        assert self.process.pid is not None
        self.pid = self.process.pid

    @property
    def out(self) -> str:
        """Standard output until now."""
        return (self.folder / "stdout.txt").read_text(encoding="utf-8")

    @property
    def errors(self) -> str:
        """Standard error until now."""
        file = self.folder / "stderr.txt"
        return file.read_text(encoding="utf-8") if file.exists() else ""

    def read(self, seconds: float = 60) -> Any:
        """What it says next; EOFError where it has ended."""
        assert self.said.poll(seconds), self.errors
        return self.said.recv()

    def kill(self) -> None:
        """Where it still runs."""
        self.process.kill()

    def wait(self, seconds: float = 60) -> tuple[int, str]:
        """Exit code (negative: the signal that ended it) and standard error."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, "it still runs"
        return self.process.exitcode, self.errors
