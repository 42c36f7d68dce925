"""The OpenAPI description, made from the message types, so that it cannot differ from what is accepted."""

from typing import Any

import msgspec

from qurate import __version__
from qurate.decision import Decision
from qurate.serving.messages import EventsAnswer, EventsRequest, Live, Problem, Ready, RecommendRequest

MESSAGES = (RecommendRequest, Decision, EventsRequest, EventsAnswer, Problem, Ready, Live)


def openapi() -> dict[str, Any]:
    """The document of /openapi.json (OpenAPI 3.1)."""
    _, components = msgspec.json.schema_components(MESSAGES, ref_template="#/components/schemas/{name}")
    problems = {status: _answer(text, "Problem", "application/problem+json") for status, text in PROBLEMS.items()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "qurate", "version": __version__, "description": "Which item to show now, and what came of it."},
        "paths": {
            "/v1/recommend": {
                "post": _operation("What to show", "Decision", "RecommendRequest", {k: problems[k] for k in ("400", "403", "413", "503")})
            },
            "/v1/events": {"post": _operation("What customers did", "EventsAnswer", "EventsRequest", problems)},
            "/livez": {"get": _operation("The process answers", "Live")},
            "/readyz": {"get": _operation("Traffic may come", "Ready", None, {"503": _answer("Not now", "Ready")})},
            "/metrics": {
                "get": {"summary": "Prometheus metrics", "responses": {"200": {"description": "text", "content": {"text/plain": {}}}}}
            },
            "/openapi.json": {"get": {"summary": "This document", "responses": {"200": {"description": "OpenAPI 3.1"}}}},
        },
        "components": {"schemas": components},
    }


PROBLEMS = {
    "400": "Malformed: not JSON, too deep, or a field out of form",
    "403": "Not from this machine's own pages",
    "413": "Too large",
    "503": "Overloaded or not ready; see Retry-After",
    "507": "The disk is full; see Retry-After",
}


def _answer(text: str, schema: str, media: str = "application/json") -> dict[str, Any]:
    return {"description": text, "content": {media: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}}


def _operation(summary: str, answer: str, body: str | None = None, others: dict[str, Any] | None = None) -> dict[str, Any]:
    operation: dict[str, Any] = {"summary": summary, "responses": {"200": _answer("Done", answer), **(others or {})}}
    if body is not None:
        content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{body}"}}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation
