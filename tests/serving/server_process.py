"""Runs the service with the model double in a process of its own: server_process.py DIR [PORT]; prints its address."""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from double import KnownModel

from qurate.errors import QurateError
from qurate.serving.api.server import run
from qurate.serving.service import Service
from qurate.serving.stores.sqlite import SqliteStore

if __name__ == "__main__":
    directory, port = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    try:
        model, store = KnownModel(items=50, epsilon=0.2), partial(SqliteStore, directory)
        run(lambda: Service(model, store, seed=0), "127.0.0.1", port, lambda url: print(url, flush=True))
    except QurateError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
