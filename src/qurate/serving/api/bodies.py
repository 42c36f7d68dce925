"""Request bodies within bounds: each by size and time, all together by size."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from qurate.errors import Code, MachineError, UserError
from qurate.serving.api.boundary import MAX_EVENTS_BODY

BODY_SECONDS = 10.0
MAX_READ = 2 * MAX_EVENTS_BODY
"""Bytes of a body that is too large which are read, and dropped, before it is refused: many a client that is still sending
sees the end of the connection and never the answer."""
SMALL_BODY = 32 << 10
BODIES_IN_FLIGHT = 64 << 20
"""Bytes of bodies being received at once, over all connections."""


class Bodies:
    """Reads bodies and counts the bytes that are being received."""

    def __init__(self) -> None:
        self.held = 0

    async def read(self, headers: Sequence[tuple[bytes, bytes]], receive: Receive, limit: int, whole: bool) -> bytes:
        """The body.

        Args:
            headers: names in small letters.
            whole: all of it has come already, so that no clock needs to run.

        Raises:
            UserError: too large, compressed, or not complete in time.
            MachineError: code overloaded, too many bodies at once.
            ClientDisconnect: the client left.
        """
        named = dict(headers)
        if (coding := named.get(b"content-encoding", b"identity")) != b"identity":
            got = coding.decode("latin-1")[:60]
            raise UserError("a body that is not compressed", got, where="header content-encoding", code=Code.INVALID_FIELD)
        announced = int(named.get(b"content-length", b"0"))
        if announced > MAX_READ or (announced > limit and b"expect" in named):  # who expects 100-continue has sent nothing yet
            raise too_large(limit, announced)
        if whole and 0 < announced <= SMALL_BODY:  # all of it is one message, and nothing runs in between that could be held up
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            return message["body"]  # type: ignore[no-any-return]
        body = _Body(limit, announced)
        try:
            if whole:
                await self._receive(receive, body)
            else:
                async with asyncio.timeout(BODY_SECONDS):
                    await self._receive(receive, body)
        except TimeoutError:
            if max(body.size, announced) > limit:
                raise too_large(limit, max(body.size, announced)) from None
            raise UserError(f"a complete body within {BODY_SECONDS:g} s", f"{body.size} bytes", where="$", code=Code.INVALID_JSON) from None
        finally:
            self.held -= body.held
        if body.size > limit:
            raise too_large(limit, max(body.size, announced))
        return b"".join(body.parts)

    async def _receive(self, receive: Receive, body: "_Body") -> None:
        """Takes pieces until the last one, or until so much has come that the rest does not matter."""
        more = True
        while more and body.size <= MAX_READ:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            part, more = message.get("body", b""), message.get("more_body", False)
            body.size += len(part)
            if max(body.size, body.announced) <= body.limit:
                body.parts.append(part)
                body.held += len(part)
                self.held += len(part)
                if self.held > BODIES_IN_FLIGHT:
                    expected = f"at most {BODIES_IN_FLIGHT} bytes of bodies at once"
                    raise MachineError(expected, "more", where="$", hint="try again", code=Code.OVERLOADED)


@dataclass(slots=True)
class _Body:
    """A body that is being received; `held`: bytes of it that are kept."""

    limit: int
    announced: int
    size: int = 0
    held: int = 0
    parts: list[bytes] = field(default_factory=list)


def too_large(limit: int, size: int) -> UserError:
    """A body beyond its bound. `size`: bytes that were announced or have come."""
    return UserError(f"at most {limit:,} bytes", f"{size:,}", where="$", hint="send smaller batches", code=Code.TOO_LARGE)
