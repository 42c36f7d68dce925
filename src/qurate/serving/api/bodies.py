"""Request bodies within bounds: each by size and time, all together by size."""

import asyncio

from starlette.requests import Request

from qurate.errors import Code, MachineError, UserError
from qurate.serving.api.boundary import MAX_EVENTS_BODY

BODY_SECONDS = 10.0
MAX_READ = 2 * MAX_EVENTS_BODY
"""Bytes of a body that is too large which are read, and dropped, before it is refused: many a client that is still sending
sees the end of the connection and never the answer."""
BODIES_IN_FLIGHT = 64 << 20
"""Bytes of bodies being received at once, over all connections."""


class Bodies:
    """Reads bodies and counts the bytes that are being received."""

    def __init__(self) -> None:
        self.held = 0

    async def read(self, request: Request, limit: int) -> bytes:
        """The body.

        Raises:
            UserError: too large, compressed, or not complete in time.
            MachineError: code overloaded, too many bodies at once.
        """
        headers = request.headers
        if headers.get("content-encoding", "identity") != "identity":
            raise UserError("a body that is not compressed", "a content-encoding", where="header content-encoding", code=Code.INVALID_FIELD)
        announced = int(headers.get("content-length", "0"))
        if announced > MAX_READ or (announced > limit and "expect" in headers):  # who expects 100-continue has sent nothing yet
            raise too_large(limit)
        parts: list[bytes] = []
        size = held = 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for part in request.stream():
                    size += len(part)
                    if size > MAX_READ:
                        break
                    if max(size, announced) > limit:
                        continue
                    held += len(part)
                    self.held += len(part)
                    if self.held > BODIES_IN_FLIGHT:
                        raise MachineError(
                            f"at most {BODIES_IN_FLIGHT} bytes of bodies at once", "more", where="$", hint="try again", code=Code.OVERLOADED
                        )
                    parts.append(part)
        except TimeoutError:
            if max(size, announced) > limit:
                raise too_large(limit) from None
            raise UserError(f"a complete body within {BODY_SECONDS:g} s", f"{size} bytes", where="$", code=Code.INVALID_JSON) from None
        finally:
            self.held -= held
        if size > limit:
            raise too_large(limit)
        return b"".join(parts)


def too_large(limit: int) -> UserError:
    """A body beyond its bound."""
    return UserError(f"at most {limit} bytes", "more", where="$", hint="send smaller batches", code=Code.TOO_LARGE)
