"""The table of routes: what is served, and what /openapi.json says of it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from qurate.decision import Decision
from qurate.serving.api.boundary import MAX_BODY, MAX_EVENTS_BODY, parse_events, parse_recommend
from qurate.serving.messages import EventsAnswer, EventsRequest, Live, Problem, Ready, RecommendRequest
from qurate.serving.service import Service

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class ApiRoute:
    """One route.

    Attributes:
        handler: answers a request; a QurateError it raises becomes a problem.
        summary: for the description.
        request, answer: message types of the body and of a 200 answer; None: none, or text.
        max_body: bytes; 0 = the route reads no body.
        refusals: other status -> message type of that answer.
    """

    method: str
    path: str
    handler: Callable[[Request], Awaitable[Response]]
    summary: str
    request: type[msgspec.Struct] | None = None
    answer: type[msgspec.Struct] | None = None
    max_body: int = 0
    refusals: dict[int, type[msgspec.Struct]] = field(default_factory=dict)


def service_of(request: Request) -> Service:
    """The service behind the application."""
    service: Service = request.app.state.service
    return service


def body_of(request: Request) -> bytes:
    """The body, as `middleware.LimitRequests` has read it."""
    body: bytes = request.scope["state"]["body"]
    return body


async def recommend(request: Request) -> Response:
    """What to show."""
    return json_response(_encode(await service_of(request).recommend_async(parse_recommend(body_of(request)))))


async def events(request: Request) -> Response:
    """What customers did."""
    return json_response(_encode(await service_of(request).accept_async(*parse_events(body_of(request)))))


async def livez(request: Request) -> Response:
    """Whether the process answers."""
    return json_response(_encode(Live()))


async def readyz(request: Request) -> Response:
    """Whether traffic may come."""
    state = service_of(request).ready()
    return json_response(_encode(state), 200 if state.ready else 503)


async def metrics(request: Request) -> Response:
    """Counters."""
    return Response(service_of(request).metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def description(request: Request) -> Response:
    """The OpenAPI document."""
    return json_response(request.app.state.description)


def json_response(body: bytes, status: int = 200) -> Response:
    """JSON that is encoded already."""
    return Response(body, status, media_type="application/json")


ROUTES = (
    ApiRoute(
        "POST", "/v1/recommend", recommend, "What to show", RecommendRequest, Decision, MAX_BODY,
        dict.fromkeys((400, 403, 413, 503), Problem),
    ),
    ApiRoute(
        "POST", "/v1/events", events, "What customers did", EventsRequest, EventsAnswer, MAX_EVENTS_BODY,
        dict.fromkeys((400, 403, 413, 503, 507), Problem),
    ),
    ApiRoute("GET", "/livez", livez, "The process answers", answer=Live),
    ApiRoute("GET", "/readyz", readyz, "Traffic may come", answer=Ready, refusals={503: Ready}),
    ApiRoute("GET", "/metrics", metrics, "Prometheus metrics"),
    ApiRoute("GET", "/openapi.json", description, "This document"),
)  # fmt: skip
