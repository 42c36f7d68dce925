"""uvicorn's protocol with two bounds it lacks: on bytes that are neither a body nor a complete head, and on requests at once."""

from http import HTTPStatus
from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from qurate.serving.messages import HttpCode, Problem

MAX_HEAD = 64 << 10
MAX_WAITING = 64
"""Requests that have come and are not answered, over all connections: they bound how long each waits. Others are turned away."""


class BoundedProtocol(HttpToolsProtocol):
    """Ends a connection whose request line, headers or trailers grow beyond MAX_HEAD; marks requests over the concurrency limit.

    That is decided when a request has come whole (`scope["state"]["over_limit"]`): a slow body keeps nobody else out, and a
    request that waits already keeps its place, whatever comes after.

    Args:
        waiting: shared by all connections of a server: those whose admitted request has come and is not answered.
    """

    def __init__(self, *arguments: Any, waiting: set["BoundedProtocol"], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.waiting, self._unfinished = waiting, 0

    def data_received(self, data: bytes) -> None:
        """Counts what has come since the last complete head or piece of body; bodies are bounded by who reads them."""
        self._unfinished += len(data)
        super().data_received(data)
        if self._unfinished > MAX_HEAD and not self.transport.is_closing():
            self._refuse(
                413,
                "too_large",
                f"expected at most {MAX_HEAD} bytes of request line and headers, got {self._unfinished}",
                "the request's head",
            )

    def send_400_response(self, msg: str) -> None:
        """uvicorn's answer to what is no HTTP, as a problem."""
        self._refuse(400, "invalid_json", f"expected a request of HTTP/1.1, got bytes that are none: {msg}", "the request's head")

    def _refuse(self, status: int, code: HttpCode, detail: str, path: str) -> None:
        body = msgspec.json.encode(Problem("about:blank", HTTPStatus(status).phrase, status, code, detail, path))
        usual = b"".join(b"%s: %s\r\n" % header for header in self.server_state.default_headers)
        head = b"content-type: application/problem+json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[status] + usual + head + body)
        self.transport.close()

    def on_headers_complete(self) -> None:
        """The head is complete."""
        self._unfinished = 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request has come whole."""
        over_limit = len(self.waiting) >= MAX_WAITING
        self.scope["state"]["over_limit"] = over_limit
        if not over_limit and not self.cycle.response_complete:
            self.waiting.add(self)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """It is answered."""
        self.waiting.discard(self)
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits for the answer any more."""
        self.waiting.discard(self)
        super().connection_lost(exc)

    def on_body(self, body: bytes) -> None:
        """A piece of body."""
        self._unfinished = 0
        super().on_body(body)
