"""Refusals as application/problem+json (RFC 9457)."""

from collections.abc import Sequence
from http import HTTPStatus

import msgspec
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


def no_such_route(path: str, method: str, methods: Sequence[str]) -> Response:
    """The answer to unknown routes, and to methods other than those of the route."""
    detail = f"expected a route of /openapi.json, got {method} {path[:200]}" + (f"; use {methods[0]}" if methods else "")
    headers = {"allow": ", ".join(methods)} if methods else {}
    return problem_response(405 if methods else 404, "not_found", detail, path[:200], headers)
