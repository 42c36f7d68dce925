"""Refusals as application/problem+json (RFC 9457)."""

from http import HTTPStatus

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from qurate.errors import Code, MachineError, QurateError
from qurate.serving.api.transport import MAX_WAITING
from qurate.serving.messages import HttpCode, Problem

RETRY_AFTER = {Code.STORAGE_FULL: "5", Code.NOT_READY: "5", Code.OVERLOADED: "1"}
"""Seconds a client should wait."""


def problem(error: QurateError) -> Response:
    """An error as a response; where the rest of the body may still be coming the connection ends with it."""
    status = error.code.http_status or 500
    headers = {"connection": "close"} if status in (400, 413, 503) else {}
    if error.code in RETRY_AFTER:
        headers["retry-after"] = RETRY_AFTER[error.code]
    return problem_response(status, msgspec.convert(error.code, HttpCode), str(error), error.where, headers)


def overloaded() -> Response:
    """The answer to requests over the concurrency limit; their connections stay open."""
    detail = f"expected at most {MAX_WAITING} requests at once, got more, at $; try again"
    return problem_response(503, "overloaded", detail, "$", {"retry-after": RETRY_AFTER[Code.OVERLOADED]})


def stopping() -> Response:
    """The answer to requests that a second signal cut off."""
    return problem(MachineError("a service that runs", "one that stops", where="$", hint="send it again", code=Code.NOT_READY))


def problem_response(status: int, code: HttpCode, detail: str, path: str, headers: dict[str, str]) -> Response:
    """A response in the form that all refusals have."""
    body = Problem("about:blank", HTTPStatus(status).phrase, status, code, detail, path)
    return Response(msgspec.json.encode(body), status, headers, "application/problem+json")


async def no_such_route(request: Request, error: Exception) -> Response:
    """Unknown routes and methods."""
    assert isinstance(error, HTTPException)
    detail = f"expected a route of /openapi.json, got {request.method} {request.url.path[:200]}"
    return problem_response(error.status_code, "not_found", detail, request.url.path[:200], dict(error.headers or {}))


async def client_gone(request: Request, error: Exception) -> Response:
    """The client left in the middle of its body; nobody reads this."""
    assert isinstance(error, ClientDisconnect)
    return Response(status_code=400)


async def refused(request: Request, error: Exception) -> Response:
    """What a route refuses."""
    assert isinstance(error, QurateError)
    return problem(error)
