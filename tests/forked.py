"""Functions in processes of their own that start with torch and the service imported.

What such a test is about is the process: killed, stopped, full, started twice. Its imports would take two seconds each time.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch", "torch._dynamo", "qurate.cli.model_commands", "qurate.serving.api.server", "qurate.models.model"])


def _run(function: Callable[..., None], arguments: tuple[Any, ...], say: Connection, errors: Path) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with errors.open("wb") as file:
        os.dup2(file.fileno(), 2)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    function(*arguments, say.send)


class Forked:
    """`function(*arguments, say)` of a module that can be imported by name: `say(x)` sends, `read` gives what was sent."""

    def __init__(self, errors: Path, function: Callable[..., None], *arguments: Any) -> None:
        """`errors`: a file for standard error."""
        self.errors = errors
        self.said, say = CONTEXT.Pipe(duplex=False)
        self.process = CONTEXT.Process(target=_run, args=(function, arguments, say, errors))
        self.process.start()
        say.close()
        assert self.process.pid is not None
        self.pid = self.process.pid

    def read(self, seconds: float = 60) -> Any:
        """What it says next; EOFError where it has ended."""
        assert self.said.poll(seconds), self.errors.read_text()
        return self.said.recv()

    def kill(self) -> None:
        """Where it still runs."""
        self.process.kill()

    def wait(self, seconds: float = 60) -> tuple[int, str]:
        """Exit code (negative: the signal that ended it) and standard error."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, "it still runs"
        return self.process.exitcode, self.errors.read_text()
