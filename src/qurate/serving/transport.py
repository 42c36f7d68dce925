"""uvicorn's protocol with a bound it lacks: on bytes that are neither a body nor a complete head."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD = 64 << 10


class BoundedProtocol(HttpToolsProtocol):
    """Ends a connection whose request line, headers or trailers grow beyond MAX_HEAD."""

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
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of body."""
        self._unfinished = 0
        super().on_body(body)
