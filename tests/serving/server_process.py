"""Runs the service with the model double; `Forked` runs this in a process of its own."""

import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from double import KnownModel

from qurate.errors import QurateError
from qurate.serving.api.server import run
from qurate.serving.service import Service
from qurate.serving.stores.sqlite import SqliteStore


def serve(directory: Path, port: int, hangup: signal.Handlers, say: Callable[[str], None]) -> None:
    """Serves until a signal; `hangup` is what SIGHUP does at the start, `say` is called with the address."""
    signal.signal(signal.SIGHUP, hangup)
    try:
        model, store = KnownModel(items=50, epsilon=0.2), partial(SqliteStore, directory)
        run(lambda: Service(model, store, seed=0), "127.0.0.1", port, say)
    except QurateError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
