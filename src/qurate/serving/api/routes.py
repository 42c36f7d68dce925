"""The table of routes: what is served, and what /openapi.json says of it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import msgspec
from starlette.responses import Response

from qurate.decision import Decision
from qurate.serving.api.boundary import MAX_BODY, MAX_EVENTS_BODY, parse_events, parse_recommend
from qurate.serving.messages import EventsAnswer, EventsRequest, Live, Problem, Ready, RecommendRequest
from qurate.serving.service import Service

Handler = Callable[[Service, bytes], Awaitable[Response]]
DESCRIPTION = "/openapi.json"

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class ApiRoute:
    """One route.

    Attributes:
        handler: answers a request, given its body as `middleware.LimitRequests` has read it; a QurateError it raises becomes a
            problem.
        summary: for the description.
        request, answer: message types of the body and of a 200 answer; None: none, or text.
        max_body: bytes; 0 = the route reads no body.
        refusals: other status -> message type of that answer.
        media: of a 200 answer without a message type.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    request: type[msgspec.Struct] | None = None
    answer: type[msgspec.Struct] | None = None
    max_body: int = 0
    refusals: dict[int, type[msgspec.Struct]] = field(default_factory=dict)
    media: str = "text/plain"


async def recommend(service: Service, body: bytes) -> Response:
    """What to show."""
    return json_response(_encode(await service.recommend_async(parse_recommend(body))))


async def events(service: Service, body: bytes) -> Response:
    """What customers did."""
    return json_response(_encode(await service.accept_async(*parse_events(body))))


async def livez(service: Service, body: bytes) -> Response:
    """Whether the process answers."""
    return json_response(_encode(Live()))


async def readyz(service: Service, body: bytes) -> Response:
    """Whether traffic may come."""
    state = service.ready()
    return json_response(_encode(state), 200 if state.ready else 503)


async def metrics(service: Service, body: bytes) -> Response:
    """Counters."""
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def describe(document: bytes) -> Handler:
    """A handler that answers with the OpenAPI document, which is made from the table of routes."""

    async def description(service: Service, body: bytes) -> Response:
        return json_response(document)

    return description


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
    ApiRoute("GET", DESCRIPTION, describe(b"{}"), "This document", media="application/json"),
)  # fmt: skip
