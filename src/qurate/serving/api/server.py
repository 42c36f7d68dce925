"""`qurate serve`: the listening socket, uvicorn, start and stop."""

import asyncio
import gc
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, cast

import uvicorn

from qurate.errors import Code, MachineError, UserError
from qurate.serving.api.app import make_app
from qurate.serving.api.middleware import is_loopback
from qurate.serving.api.transport import BoundedProtocol
from qurate.serving.service import Service
from qurate.serving.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from qurate.choosing.seen import SeenRule
    from qurate.models.model import Model

STOP_SECONDS = 10
EPSILON = 0.1
SWITCH_SECONDS = 0.0005
"""How long a thread waits for a busy one; with Python's 5 ms the p99 at 32 connections doubled."""


def serve(
    model: "Model", directory: Path, host: str = "127.0.0.1", port: int = 8000, seed: int | None = None, epsilon: float = EPSILON,
    exclude: "SeenRule | None" = None, tell: Callable[[str, str, str], None] | None = None,
) -> None:  # fmt: skip
    """`qurate serve`: serves a model until SIGTERM.

    Args:
        model: as loaded.
        directory: where decisions and events are kept.
        host: a loopback address.
        port: 0 takes a free one.
        seed: of the exploration; None draws one from the system.
        epsilon: share of the answers drawn at random, so that the next model can learn from the log.
        exclude: which of a customer's own items are not shown again, None = the model's default.
        tell: called once requests are accepted, with the address, the rule of `exclude`, and a note on it; None prints address and note
            to stderr.

    Raises:
        UserError, MachineError, KeyboardInterrupt: see `run`.
    """
    from qurate.serving.served import ServedModel  # torch comes with it; the application needs none of it

    served = ServedModel(model, epsilon, exclude)
    served.warm_up()

    def opened() -> Service:
        service = Service(served, partial(SqliteStore, directory), seed)  # the folder is ours from here on
        try:
            served.write_catalogue(directory)
        except BaseException:
            service.close()
            raise
        return service

    why = f" ({model.answering.exclude_reason})" if exclude is None and model.answering.exclude_reason else ""
    note = f"note: not shown again: {served.exclude.text}{why}; --exclude seen|purchased|none says otherwise"

    def printed(url: str, rule: str, note: str) -> None:
        print(f"{note}\nserving {model.version} at {url}", file=sys.stderr, flush=True)

    run(opened, host, port, lambda url: (tell or printed)(url, served.exclude.text, note))


def run(make_service: Callable[[], Service], host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serves until SIGTERM; requests in flight are finished first, a second signal does not wait for them.

    Args:
        make_service: opened once the port is ours, closed on return.
        host: a loopback address.
        port: 0 takes a free one.
        ready: called with the address once requests are accepted and a signal stops the service in good order.

    Raises:
        UserError: the host is not a loopback address, or the data directory holds something else.
        MachineError: the port is taken, or the data directory cannot be written or is in use.
        KeyboardInterrupt: after Ctrl-C, once everything is closed.
    """
    listener = listen(host, port)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        service = make_service()
        try:
            gc.collect()
            gc.freeze()  # what is there now stays: to look through all of it (a model, torch) would hold up everybody for 0.1 s
            address, bound = listener.getsockname()[:2]
            url = f"http://{f'[{address}]' if ':' in address else address}:{bound}"
            server = Server(service, lambda: ready(url))
            server.run(sockets=[listener])
        finally:
            gc.unfreeze()
            service.close()
    finally:
        sys.setswitchinterval(interval)
        listener.close()
    if signal.SIGINT in server.signals:
        raise KeyboardInterrupt


class Server(uvicorn.Server):
    """uvicorn with our application and protocol. SIGTERM, SIGINT and SIGHUP (the terminal is closed) stop it; it then returns.

    Args:
        service: answers.
        ready: called once requests are accepted.
    """

    def __init__(self, service: Service, ready: Callable[[], None] = lambda: None) -> None:
        config = uvicorn.Config(
            make_app(service),
            loop="uvloop",
            http=cast(type[asyncio.Protocol], partial(BoundedProtocol, waiting=set())),
            ws="none",
            lifespan="off",
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        super().__init__(config)
        self.service, self.ready = service, ready
        self.signals: list[int] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Says that it is ready only now: who is told may send a signal at once, and before this one would end the process."""
        await super().startup(sockets=sockets)
        self.ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal: the first one stops after what has begun, a second one does not wait.

        uvicorn's own method would also end the process by the signal, where the exit code is to be 0.
        """
        self.service.stopping = True
        self.should_exit, self.force_exit = True, bool(self.signals)
        self.signals.append(sig)

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """SIGHUP too, unless the process was started to outlive its terminal (nohup)."""
        if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
            with super().capture_signals():
                yield
            return
        before = signal.signal(signal.SIGHUP, self.handle_exit)
        try:
            with super().capture_signals():
                yield
        finally:
            signal.signal(signal.SIGHUP, before)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket on a loopback address."""
    if not is_loopback(host):
        hint = "put a reverse proxy with authentication in front; API keys are not there yet"
        raise UserError("a loopback address (127.0.0.1, ::1, localhost)", host, where="--host", hint=hint, code=Code.BAD_HOST)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except (OSError, OverflowError) as error:
        listener.close()
        got = getattr(error, "strerror", None) or str(error)
        raise MachineError("a free port", got, where=f"{host}:{port}", hint="choose another --port", code=Code.PORT_TAKEN) from None
    return listener
