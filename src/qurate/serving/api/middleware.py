"""What happens to every request before its route, and after: metrics, origin, limits. Each wraps the application below it."""

import asyncio
import ipaddress
import time
from collections.abc import Awaitable
from urllib.parse import urlsplit

from prometheus_client import Counter, Histogram
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qurate.errors import Code, QurateError, UserError
from qurate.serving.api.bodies import Bodies
from qurate.serving.api.problems import overloaded, problem, stopping
from qurate.serving.api.routes import ROUTES
from qurate.serving.metrics import Metrics


class CountRequests:
    """Counts answers by route and status, and times them."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics
        self.seconds: dict[str, Histogram] = {route.path: metrics.seconds.labels(route.path) for route in ROUTES}
        self.counts: dict[tuple[str, int], Counter] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        start, path = time.perf_counter(), scope["path"]
        status = 500

        def watch(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            return send(message)

        try:
            await self.app(scope, receive, watch)
        finally:
            if path in self.seconds:
                self.seconds[path].observe(time.perf_counter() - start)
                self.count(path, status)

    def count(self, path: str, status: int) -> None:
        """One answer more."""
        counter = self.counts.get((path, status))
        if counter is None:  # finding a labelled counter costs more than counting
            counter = self.counts[path, status] = self.metrics.requests.labels(path, str(status))
        counter.inc()


class CheckOrigin:
    """Refuses web pages of other sites, which a browser on this machine would let through to a loopback service."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.good: set[bytes] = set()  # Host headers that have passed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        host = origin = None
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
            elif name == b"origin":
                origin = value
        if origin is not None or host not in self.good:
            try:
                check_origin((host or b"").decode("latin-1"), None if origin is None else origin.decode("latin-1"))
            except UserError as error:
                return await problem(error)(scope, receive, send)
            if host is not None and len(self.good) < 100:
                self.good.add(host)
        await self.app(scope, receive, send)


def check_origin(host: str, origin: str | None) -> None:
    """Nothing where the Host header names this machine and the page, if one asks, is this service's own.

    Raises:
        UserError: code forbidden.
    """
    try:
        name, page = urlsplit(f"//{host}").hostname or "", None if origin is None else urlsplit(origin).netloc
    except ValueError:  # brackets that hold no address
        raise UserError("an address", f"{host[:100]} and origin {str(origin)[:100]}", where="header host", code=Code.FORBIDDEN) from None
    if not is_loopback(name):
        raise UserError("a loopback name", host[:100], where="header host", code=Code.FORBIDDEN)
    if origin is not None and page != host:
        raise UserError("a request from this service's own pages", origin[:100], where="header origin", code=Code.FORBIDDEN)


def is_loopback(host: str) -> bool:
    """Whether `host` names this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class LimitRequests:
    """Reads bodies within bounds into `scope["state"]["body"]`, and answers requests over the concurrency limit at once.

    The transport has marked those when they had come whole (`transport.BoundedProtocol`): at twice the capacity the requests
    that wait already must not wait ever longer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app, self.bodies, self.full = app, Bodies(), overloaded()
        self.limits = {(route.path, route.method): route.max_body for route in ROUTES if route.max_body}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        limit = self.limits.get((scope["path"], scope["method"]))
        if limit is None:
            return await self.app(scope, receive, send)
        state = scope.setdefault("state", {})
        try:
            whole = "over_limit" in state  # the transport sets it when the request has come whole
            state["body"] = await self.bodies.read(scope["headers"], receive, limit, whole)
            if state.get("over_limit"):
                return await self.full(scope, receive, send)
            await self.app(scope, receive, send)
        except QurateError as error:
            await problem(error)(scope, receive, send)
        except ClientDisconnect:  # in the middle of its body: nobody reads an answer
            return
        except asyncio.CancelledError:  # by a second signal; uvicorn would call it a fault of ours
            await stopping()(scope, receive, send)
