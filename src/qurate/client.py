"""A client of the service over the standard library: `Client(url).recommend(user_id, k=3)`, `Client(url).send(events)`.

Events may be sent again after a fault, because they carry ids and count once; a request for a recommendation is not
repeated, because each answer is logged as shown.
"""

import http.client
import json
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec

from qurate.decision import Decision
from qurate.errors import Code, MachineError, UserError
from qurate.serving.messages import MAX_BATCH, EventsAnswer, Rejection

Answer = TypeVar("Answer")

MAX_SENT = 4 << 20
"""Bytes of a batch; the service refuses more than 5 MiB."""
IDLE_SECONDS = 15.0
"""A connection that rested longer is opened anew: the service closes idle ones after 30 s."""


class _Resting(NamedTuple):
    connection: http.client.HTTPConnection
    since: float  # monotonic seconds


RETRY_STATUS = (429, 502, 503, 504)
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0


class Client:
    """Talks to one `qurate serve`. Threads may share it: a request takes a connection that rests, or opens one; never more rest
    than there are living threads.

    Args:
        url: `http://127.0.0.1:8000`, or a prefix behind a proxy.
        key: sent as `Authorization: Bearer KEY`.
        timeout: seconds to wait for a connection, and for each answer.
        retries: how often a batch of events is sent again after a fault.

    Raises:
        UserError: not an http or https address.

    >>> client = qurate.Client("http://127.0.0.1:8000")
    >>> client.recommend("u1", k=3)  # doctest: +SKIP
    Decision(user 'u1': i4, i0, i2; policy dqn/greedy, model 5c1e...)
    >>> client.send([{"type": "click", "user_id": "u1", "item_id": "i4"}])  # doctest: +SKIP
    >>> client.close()
    """

    def __init__(self, url: str, key: str | None = None, timeout: float = 10.0, retries: int = 4) -> None:
        parts = urlsplit(url if isinstance(url, str) else "")
        try:
            self._place = (parts.hostname, parts.port)
        except ValueError:
            self._place = (None, None)
        if parts.scheme not in ("http", "https") or not self._place[0] or parts.query or parts.fragment:
            raise UserError(
                "an address such as http://127.0.0.1:8000", repr(url), where="url", hint="see what `qurate serve` prints", code=Code.BAD_URL
            )
        if key is not None and not (key.isascii() and key.isprintable() and key):
            raise UserError("a key of printable ASCII", "another text", where="key", code=Code.BAD_KEY)
        self.url, self.timeout, self.retries = url, timeout, retries
        self._secure, self._prefix = parts.scheme == "https", parts.path.rstrip("/")
        self._headers = {"content-type": "application/json"} | ({} if key is None else {"authorization": f"Bearer {key}"})
        self._lock = threading.Lock()
        self._resting: list[_Resting] = []  # the one used last at the end
        self._closed = 0  # how often `close` was called

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes all connections, those in use after their answer; the next request opens one again."""
        with self._lock:
            resting, self._resting, self._closed = self._resting, [], self._closed + 1
        for one in resting:
            one.connection.close()

    def recommend(
        self,
        user_id: str | None = None,
        k: int = 10,
        *,
        session_id: str | None = None,
        candidates: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        context: Mapping[str, Any] | None = None,
        candidate_features: Mapping[str, Sequence[float | None]] | None = None,
        explain: bool = False,
    ) -> Decision:
        """What to show now; the answer is in the service's log with its probabilities.

        Args:
            user_id: who. session_id: of the visit.
            k: items wanted, 1 to 1,000.
            candidates: item ids to choose from; None = all that are available.
            exclude: item ids not to show.
            context: the customer's features by name.
            candidate_features: what is known of each of `candidates` at this moment, by name, in their order.
            explain: also what each item is worth now and later.

        Raises:
            UserError: the service refused the request, or ids are no list.
            MachineError: no answer came. Nothing is sent again: the decision may be in the log.
        """
        if isinstance(exclude, str | bytes):  # letters would be the ids
            raise UserError("a list of item ids", repr(exclude), where="exclude", hint=f"write exclude=[{exclude!r}]", code=Code.BAD_IDS)
        asked = {"user_id": user_id, "session_id": session_id, "candidates": candidates, "context": context,
                 "candidate_features": candidate_features}  # fmt: skip
        body: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
        body |= {"k": k, "exclude": list(exclude or ()), "explain": explain}
        return self._decoded(self._once("POST", "/v1/recommend", body), Decision)

    def send(self, events: Sequence[Mapping[str, Any]]) -> EventsAnswer:
        """Stores events; returns when they are on the service's disk.

        An event without `event_id` gets one, and one without `timestamp` the present time, before it is first sent, so
        that a repeated batch counts once. Faults of the connection and refusals for now (429, 502, 503, 504) are tried
        again with growing pauses. More than 1,000 events, or 4 MB of them, go in several batches.

        Args:
            events: `{"user_id", "type", "item_id"?, "decision_id"?, "value"?, "session_id"?, "props"?, "timestamp"?, "event_id"?}`;
                a timestamp is RFC 3339 text, a datetime with a zone, or milliseconds.

        Returns:
            How many were new, how many the service had already, and which it rejected (`index` counts in `events`).

        Raises:
            UserError: the service refused the whole batch, or the events are no list of mappings.
            MachineError: no answer after all retries. Send the same events, ids included, again.
        """
        given: Any = list(events) if isinstance(events, Iterable) and not isinstance(events, str | bytes | Mapping) else None
        if given is None or not all(isinstance(event, Mapping) for event in given):
            hint = 'write [{"user_id": "u1", "type": "click", "item_id": "i4"}]'
            raise UserError("a list of events", f"{events!r:.60}", where="send", hint=hint, code=Code.BAD_ARGUMENT)
        ready = [_complete(event) for event in given]
        accepted, duplicates, rejected = 0, 0, []
        for first, batch in _batches(ready):
            answer = self._decoded(self._repeated("POST", "/v1/events", {"events": batch}), EventsAnswer)
            accepted, duplicates = accepted + answer.accepted, duplicates + answer.duplicates
            rejected += [_placed(one, one.index + first) for one in answer.rejected]
        return EventsAnswer(accepted, duplicates, rejected)

    def ready(self) -> bool:
        """Whether the service takes traffic (GET /readyz); False also where nobody answers."""
        try:
            self._once("GET", "/readyz", None)
        except MachineError:
            return False
        return True

    # one exchange

    def _repeated(self, method: str, path: str, body: Any) -> bytes:
        for attempt in range(self.retries):
            answer = self._asked(method, path, body)
            if isinstance(answer, bytes):
                return answer
            time.sleep(min(max(answer.pause, FIRST_PAUSE * 2**attempt), LONGEST_PAUSE))
        return self._once(method, path, body)

    def _once(self, method: str, path: str, body: Any) -> bytes:
        """The body of a 200 answer."""
        answer = self._asked(method, path, body)
        if isinstance(answer, _Unavailable):
            raise answer.error
        return answer

    def _asked(self, method: str, path: str, body: Any) -> "bytes | _Unavailable":
        """The body of a 200 answer, or why there is none for now; what trying again does not help is raised."""
        content = None if body is None else _encoded(body)
        connection, opened = self._take()
        try:
            connection.request(method, self._prefix + path, content, self._headers)
            response = connection.getresponse()
            data = response.read()
        except BaseException as error:
            connection.close()
            if not isinstance(error, OSError | http.client.HTTPException):
                raise
            reason = str(error) or type(error).__name__
            hint = "see whether it runs, then try again"
            return _Unavailable(MachineError("an answer of the service", reason, where=self.url, hint=hint, code=Code.NO_ANSWER))
        self._put_back(connection, opened)
        if response.status == 200:
            return data
        refusal, pause = _refusal(response.status, data, self.url + path), response.getheader("retry-after")
        if response.status in RETRY_STATUS and isinstance(refusal, MachineError):
            return _Unavailable(refusal, float(pause) if pause is not None and pause.isdigit() else 0.0)
        raise refusal

    def _take(self) -> tuple[http.client.HTTPConnection, int]:
        """A connection for one exchange, and how often the client had been closed when it was taken."""
        now = time.monotonic()
        with self._lock:
            fresh = [one for one in self._resting if now - one.since <= IDLE_SECONDS]
            stale = [one for one in self._resting if now - one.since > IDLE_SECONDS]
            taken, closed = fresh.pop().connection if fresh else None, self._closed
            self._resting = fresh
        for one in stale:
            one.connection.close()
        if taken is None:
            host, port = self._place
            make = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
            taken = make(str(host), port, timeout=self.timeout)
        return taken, closed

    def _put_back(self, connection: http.client.HTTPConnection, closed: int) -> None:
        """Lets a connection rest; the ones that nobody alive could need are closed."""
        with self._lock:
            if closed == self._closed:
                self._resting.append(_Resting(connection, time.monotonic()))
                spare = max(len(self._resting) - threading.active_count(), 0)
                too_many, self._resting = self._resting[:spare], self._resting[spare:]
            else:
                too_many = [_Resting(connection, 0.0)]
        for one in too_many:
            one.connection.close()

    def _decoded(self, data: bytes, shape: type[Answer]) -> Answer:
        try:
            return msgspec.json.decode(data, type=shape)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            hint = "is this the address of `qurate serve`, of the same version?"
            raise MachineError(f"a {shape.__name__} in JSON", str(error), where=self.url, hint=hint, code=Code.BAD_ANSWER) from None


def _batches(events: Sequence[dict[str, Any]]) -> Iterator[tuple[int, Sequence[dict[str, Any]]]]:
    """Parts that the service takes, each with the place of its first event."""
    start = size = 0
    for place, event in enumerate(events):
        more = len(_encoded(event)) + 2
        if place > start and (place - start == MAX_BATCH or size + more > MAX_SENT):
            yield start, events[start:place]
            start, size = place, 0
        size += more
    if start < len(events):
        yield start, events[start:]


def _encoded(body: Any) -> bytes:
    """JSON; numbers that JSON does not have are refused rather than sent as null."""
    try:
        return json.dumps(body, allow_nan=False, default=_plain).encode()
    except (TypeError, ValueError) as error:
        raise UserError(
            "values that JSON has", str(error), where="request", hint="no NaN, no infinity, no objects", code=Code.INVALID_JSON
        ) from None


def _plain(value: Any) -> Any:
    """A time as text; a number or an array of numpy as Python's own."""
    if isinstance(value, datetime):
        return value.isoformat()
    if hasattr(value, "tolist") and hasattr(value, "dtype"):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__}")


class _Unavailable(NamedTuple):
    """No answer for now."""

    error: MachineError
    pause: float = 0.0  # seconds that the service asks to wait


def _refusal(status: int, data: bytes, where: str) -> UserError | MachineError:
    """The error that an answer other than 200 stands for."""
    try:
        problem = json.loads(data)
        code, detail = Code(problem["code"]), str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        code, detail = Code.BAD_ANSWER, f"status {status}"
    if 400 <= status < 500 and status != 429:
        return UserError("a request that the service takes", f"status {status} ({detail})", where=where, code=code)
    return MachineError("a working service", f"status {status} ({detail})", where=where, hint="send it again later", code=code)


def _placed(rejection: Rejection, index: int) -> Rejection:
    """A rejection as of all events that were sent, not of its batch alone."""
    own, place = f"$.events[{rejection.index}]", f"$.events[{index}]"
    path, message = rejection.path.replace(own, place, 1), rejection.message.replace(own, place, 1)
    return msgspec.structs.replace(rejection, index=index, path=path, message=message)


def _complete(event: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with an id and a time, without absent fields."""
    out = {name: value for name, value in event.items() if value is not None}
    out.setdefault("event_id", uuid.uuid4().hex)
    out.setdefault("timestamp", datetime.now(UTC))
    return out
