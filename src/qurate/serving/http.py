"""The HTTP shell around `Service`: routes, bounded bodies, problem+json, start and stop."""

import asyncio
import ipaddress
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from qurate.errors import Code, MachineError, QurateError, UserError
from qurate.serving.boundary import MAX_BODY, MAX_EVENTS_BODY, parse_events, parse_recommend
from qurate.serving.messages import HttpCode, Live, Problem
from qurate.serving.openapi import openapi
from qurate.serving.service import Service
from qurate.serving.transport import MAX_WAITING, BoundedProtocol

if TYPE_CHECKING:
    from qurate.choosing.selection import SelectionRule
    from qurate.models.model import Model

BODY_SECONDS = 10.0
MAX_READ = 2 * MAX_EVENTS_BODY
"""Bytes of a body that is too large which are read, and dropped, before it is refused: many a client that is still sending
sees the end of the connection and never the answer."""
BODIES_IN_FLIGHT = 64 << 20
"""Bytes of bodies being received at once, over all connections."""

RETRY_AFTER = {"storage_full": "5", "not_ready": "5", "overloaded": "1"}
STOP_SECONDS = 10
Handler = Callable[[bytes], Awaitable[Response]]


class Bodies:
    """Reads bodies within bounds: each by size and time, all together by size."""

    def __init__(self) -> None:
        self.held = 0

    async def read(self, request: Request, limit: int) -> bytes:
        """The body.

        Raises:
            UserError: too large, compressed, or not complete in time.
            MachineError: code overloaded, too many bodies at once.
        """
        headers = request.headers
        if headers.get("content-encoding", "identity") != "identity":
            raise UserError("a body that is not compressed", "a content-encoding", where="header content-encoding", code=Code.INVALID_FIELD)
        announced = int(headers.get("content-length", "0"))
        if announced > MAX_READ or (announced > limit and "expect" in headers):  # who expects 100-continue has sent nothing yet
            raise _too_large(limit)
        parts: list[bytes] = []
        size = held = 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for part in request.stream():
                    size += len(part)
                    if size > MAX_READ:
                        break
                    if max(size, announced) > limit:
                        continue
                    held += len(part)
                    self.held += len(part)
                    if self.held > BODIES_IN_FLIGHT:
                        raise MachineError(
                            f"at most {BODIES_IN_FLIGHT} bytes of bodies at once", "more", where="$", hint="try again", code=Code.OVERLOADED
                        )
                    parts.append(part)
        except TimeoutError:
            if max(size, announced) > limit:
                raise _too_large(limit) from None
            raise UserError(f"a complete body within {BODY_SECONDS:g} s", f"{size} bytes", where="$", code=Code.INVALID_JSON) from None
        finally:
            self.held -= held
        if size > limit:
            raise _too_large(limit)
        return b"".join(parts)


def make_app(service: Service) -> Starlette:
    """The ASGI application of a service."""
    bodies = Bodies()
    encode = msgspec.json.Encoder().encode
    description = msgspec.json.encode(openapi())
    full = _full()

    async def recommend(body: bytes) -> Response:
        return _json(encode(await service.recommend_async(parse_recommend(body))))

    async def events(body: bytes) -> Response:
        return _json(encode(await service.accept_async(*parse_events(body))))

    async def livez(body: bytes) -> Response:
        return _json(encode(Live()))

    async def readyz(body: bytes) -> Response:
        state = service.ready()
        return _json(encode(state), 200 if state.ready else 503)

    async def metrics(body: bytes) -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def openapi_json(body: bytes) -> Response:
        return _json(description)

    def route(path: str, method: str, handler: Handler, limit: int = 0) -> Route:
        seconds = service.metrics.seconds.labels(path)
        counts = {status: service.metrics.requests.labels(path, str(status)) for status in (200, 400)}

        async def counted(request: Request) -> Response:
            start = time.perf_counter()
            try:
                _check_origin(request)
                body = await bodies.read(request, limit) if limit else b""
                # At twice the capacity those who wait already must not wait ever longer.
                turned_away = limit and request.scope.get("state", {}).get("too_many")
                response = full if turned_away else await handler(body)
            except QurateError as error:
                response = _problem(error)
            except asyncio.CancelledError:  # by a second signal; uvicorn would call it a fault of ours
                response = _problem(
                    MachineError("a service that runs", "one that stops", where="$", hint="send it again", code=Code.NOT_READY)
                )
            count = counts.get(response.status_code) or service.metrics.requests.labels(path, str(response.status_code))
            count.inc()
            seconds.observe(time.perf_counter() - start)
            return response

        return Route(path, counted, methods=[method])

    routes = [
        route("/v1/recommend", "POST", recommend, MAX_BODY),
        route("/v1/events", "POST", events, MAX_EVENTS_BODY),
        route("/livez", "GET", livez),
        route("/readyz", "GET", readyz),
        route("/metrics", "GET", metrics),
        route("/openapi.json", "GET", openapi_json),
    ]
    handlers = {HTTPException: _http_problem, ClientDisconnect: _gone}
    return Starlette(routes=routes, exception_handlers=handlers)  # type: ignore[arg-type]


def serve(
    model: "Model", directory: Path, host: str = "127.0.0.1", port: int = 8000, seed: int | None = None, rule: "SelectionRule | None" = None
) -> None:
    """`qurate serve`: serves a model until SIGTERM; the address is told on stderr.

    Args:
        model: as loaded.
        directory: where decisions and events are kept.
        host: a loopback address.
        port: 0 takes a free one.
        seed: of the exploration; None draws one from the system.
        rule: how scores become answers; by default epsilon-greedy with 0.1, so that the next model can learn from the log.

    Raises:
        UserError, MachineError, KeyboardInterrupt: see `run`.
    """
    from qurate.choosing.selection import epsilon_greedy_rule
    from qurate.serving.served import ServedModel  # torch comes with it; the application needs none of it

    served = ServedModel(model, rule or epsilon_greedy_rule(EPSILON))
    served.warm_up()

    def opened() -> Service:
        service = Service(served, directory, seed)  # the folder is ours from here on
        try:
            served.write_catalogue(directory)
        except BaseException:
            service.close()
            raise
        return service

    run(
        opened,
        host,
        port,
        lambda url: print(f"serving {model.version} at {url}", file=sys.stderr, flush=True),
    )


def run(make_service: Callable[[], Service], host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serves until SIGTERM; requests in flight are finished first, a second signal does not wait for them.

    Args:
        make_service: opened once the port is ours, closed on return.
        host: a loopback address.
        port: 0 takes a free one.
        ready: told the address before requests are accepted.

    Raises:
        UserError: the host is not a loopback address, or the data directory holds something else.
        MachineError: the port is taken, or the data directory cannot be written or is in use.
        KeyboardInterrupt: after Ctrl-C, once everything is closed.
    """
    listener = _listen(host, port)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    signals: list[int] = []
    try:
        service = make_service()
        try:
            address, bound = listener.getsockname()[:2]
            ready(f"http://{f'[{address}]' if ':' in address else address}:{bound}")
            _server(service, signals).run(sockets=[listener])
        finally:
            service.close()
    finally:
        sys.setswitchinterval(interval)
        listener.close()
    if signal.SIGINT in signals:
        raise KeyboardInterrupt


def _server(service: Service, signals: list[int]) -> uvicorn.Server:
    """uvicorn with our application and protocol; the signals that stop it are added to `signals`."""
    config = uvicorn.Config(
        make_app(service),
        loop="uvloop",
        http=type("Protocol", (BoundedProtocol,), {"waiting": set()}),
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    server = uvicorn.Server(config)

    def stop(number: int, frame: FrameType | None) -> None:
        service.stopping = True
        server.should_exit, server.force_exit = True, bool(signals)
        signals.append(number)

    setattr(server, "handle_exit", stop)  # noqa: B010 - uvicorn's own would end the process by the signal, not with 0
    return server


EPSILON = 0.1
SWITCH_SECONDS = 0.0005
"""How long the store's thread waits for a busy event loop; with Python's 5 ms the p99 at 32 connections doubled."""


def _listen(host: str, port: int) -> socket.socket:
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


def is_loopback(host: str) -> bool:
    """Whether `host` names this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_origin(request: Request) -> None:
    """Refuses web pages of other sites, which a browser on this machine would let through to a loopback service.

    Raises:
        UserError: code forbidden.
    """
    host, origin = request.headers.get("host", ""), request.headers.get("origin")
    try:
        name, page = urlsplit(f"//{host}").hostname or "", None if origin is None else urlsplit(origin).netloc
    except ValueError:  # brackets that hold no address
        raise UserError("an address", f"{host[:100]} and origin {str(origin)[:100]}", where="header host", code=Code.FORBIDDEN) from None
    if not is_loopback(name):
        raise UserError("a loopback name", host[:100], where="header host", code=Code.FORBIDDEN)
    if origin is not None and page != host:
        raise UserError("a request from this service's own pages", origin[:100], where="header origin", code=Code.FORBIDDEN)


def _too_large(limit: int) -> UserError:
    return UserError(f"at most {limit} bytes", "more", where="$", hint="send smaller batches", code=Code.TOO_LARGE)


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")


def _problem(error: QurateError) -> Response:
    """An error as problem+json; where the rest of the body may still be coming the connection ends with it."""
    status = error.code.http_status or 500
    headers = {"connection": "close"} if status in (400, 413, 503) else {}
    if error.code in RETRY_AFTER:
        headers["retry-after"] = RETRY_AFTER[error.code]
    return _problem_response(status, msgspec.convert(error.code, HttpCode), str(error), error.where, headers)


def _full() -> Response:
    """The answer to all who are too many; their connections stay open."""
    detail = f"expected at most {MAX_WAITING} requests at once, got more, at $; try again"
    return _problem_response(503, "overloaded", detail, "$", {"retry-after": RETRY_AFTER["overloaded"]})


def _problem_response(status: int, code: HttpCode, detail: str, path: str, headers: dict[str, str]) -> Response:
    problem = Problem("about:blank", HTTPStatus(status).phrase, status, code, detail, path)
    return Response(msgspec.json.encode(problem), status, headers, "application/problem+json")


async def _http_problem(request: Request, error: HTTPException) -> Response:
    """Unknown routes and methods."""
    detail = f"expected a route of /openapi.json, got {request.method} {request.url.path[:200]}"
    return _problem_response(error.status_code, "not_found", detail, request.url.path[:200], dict(error.headers or {}))


async def _gone(request: Request, error: ClientDisconnect) -> Response:
    """The client left in the middle of its body; nobody reads this."""
    return Response(status_code=400)
