"""uvicorn's protocol with two bounds it lacks: on bytes that are neither a body nor a complete head, and on requests at once."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD = 64 << 10
MAX_WAITING = 128
"""Requests under way at once, over all connections: they bound how long each waits. The application turns away the others."""


class BoundedProtocol(HttpToolsProtocol):
    """Ends a connection whose request line, headers or trailers grow beyond MAX_HEAD; marks the requests that are too many.

    That is decided as the head arrives (`scope["state"]["too_many"]`): who waits already keeps the place, whatever comes after.
    """

    _unfinished = 0

    def data_received(self, data: bytes) -> None:
        """Counts what has come since the last complete head or piece of body; bodies are bounded by who reads them."""
        self._unfinished += len(data)
        super().data_received(data)
        if self._unfinished > MAX_HEAD and not self.transport.is_closing():
            self.send_400_response("The head of the request is too large.")

    def on_headers_complete(self) -> None:
        """The head is complete."""
        self._unfinished = 0
        self.scope["state"]["too_many"] = len(self.tasks) >= MAX_WAITING
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of body."""
        self._unfinished = 0
        super().on_body(body)
