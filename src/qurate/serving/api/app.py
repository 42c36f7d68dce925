"""The ASGI application: the table of routes behind metrics, origin and limits."""

from collections.abc import Sequence
from dataclasses import replace

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from qurate.errors import QurateError
from qurate.serving.api.middleware import CheckOrigin, CountRequests, LimitRequests
from qurate.serving.api.openapi import openapi
from qurate.serving.api.problems import no_such_route, problem
from qurate.serving.api.routes import DESCRIPTION, ROUTES, ApiRoute, describe
from qurate.serving.service import Service


def make_app(service: Service) -> ASGIApp:
    """The application of a service."""
    description = describe(msgspec.json.encode(openapi(ROUTES)))
    routes = [replace(route, handler=description) if route.path == DESCRIPTION else route for route in ROUTES]
    return CountRequests(CheckOrigin(LimitRequests(Dispatch(service, routes))), service.metrics)


class Dispatch:
    """Finds a request's route by its path and method, and sends the answer of its handler.

    Every path is a plain text, so that one look into a dictionary does what a router of patterns would.
    """

    def __init__(self, service: Service, routes: Sequence[ApiRoute]) -> None:
        self.service = service
        self.handlers = {(route.path, route.method): route.handler for route in routes}
        self.handlers |= {(path, "HEAD"): handler for (path, method), handler in self.handlers.items() if method == "GET"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        path, method = scope["path"], scope["method"]
        handler = self.handlers.get((path, method))
        if handler is None:
            response = no_such_route(path, method, sorted(other for known, other in self.handlers if known == path))
        else:
            try:
                response = await handler(self.service, scope.get("state", {}).get("body", b""))
            except QurateError as error:
                response = problem(error)
        await response(scope, receive, send)
