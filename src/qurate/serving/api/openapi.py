"""The OpenAPI description, made from the table of routes and the message types, so that it cannot differ from what is accepted."""

from collections.abc import Sequence
from typing import Any

import msgspec

from qurate import __version__
from qurate.serving.api.routes import ApiRoute
from qurate.serving.messages import Problem

STATUS = {
    400: "Malformed: not JSON, too deep, or a field out of form",
    403: "Not from this machine's own pages",
    413: "Too large",
    503: "Overloaded or not ready; see Retry-After",
    507: "The disk is full; see Retry-After",
}


def openapi(routes: Sequence[ApiRoute]) -> dict[str, Any]:
    """The document of /openapi.json (OpenAPI 3.1)."""
    paths: dict[str, dict[str, Any]] = {}
    messages: set[type[msgspec.Struct]] = set()
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
        messages |= {message for message in (route.request, route.answer, *route.refusals.values()) if message is not None}
    ordered = sorted(messages, key=lambda message: message.__name__)
    _, components = msgspec.json.schema_components(ordered, ref_template="#/components/schemas/{name}")
    return {
        "openapi": "3.1.0",
        "info": {"title": "qurate", "version": __version__, "description": "Which item to show now, and what came of it."},
        "paths": paths,
        "components": {"schemas": components},
    }


def _operation(route: ApiRoute) -> dict[str, Any]:
    responses = {"200": _answer("Done", route.answer, route.media)}
    responses |= {str(status): _answer(STATUS[status], message) for status, message in route.refusals.items()}
    operation: dict[str, Any] = {"summary": route.summary, "responses": responses}
    if route.request is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": _reference(route.request)}}}
    return operation


def _answer(text: str, message: type[msgspec.Struct] | None, bare: str = "text/plain") -> dict[str, Any]:
    if message is None:
        return {"description": text, "content": {bare: {}}}
    media = "application/problem+json" if message is Problem else "application/json"
    return {"description": text, "content": {media: {"schema": _reference(message)}}}


def _reference(message: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{message.__name__}"}
