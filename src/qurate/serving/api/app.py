"""The ASGI application: the table of routes behind metrics, origin and limits."""

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route

from qurate.errors import QurateError
from qurate.serving.api.middleware import CheckOrigin, CountRequests, LimitRequests
from qurate.serving.api.openapi import openapi
from qurate.serving.api.problems import no_such_route, refused
from qurate.serving.api.routes import ROUTES
from qurate.serving.service import Service


def make_app(service: Service) -> Starlette:
    """The application of a service."""
    app = Starlette(
        routes=[Route(route.path, route.handler, methods=[route.method]) for route in ROUTES],
        middleware=[Middleware(CountRequests, metrics=service.metrics), Middleware(CheckOrigin), Middleware(LimitRequests)],
        exception_handlers={HTTPException: no_such_route, QurateError: refused},
    )
    app.state.service, app.state.description = service, msgspec.json.encode(openapi(ROUTES))
    return app
