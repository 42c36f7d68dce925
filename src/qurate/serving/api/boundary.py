"""From untrusted bytes to messages: everything malformed ends here, with the field it is in, in bounded memory.

The order matters. Size and the number of tokens are bounded before anything is built, depth before anything recurses;
then msgspec decodes into the message types, which have no room for anything else; then names that stand twice, which
msgspec does not see, are excluded by counting. Only a body that fails, or in which counting leaves that open (names with
escapes or before a spaced colon, a null, `props`), is read a second time.
"""

import json
import math
import re
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec
import numpy as np

from qurate.errors import Code, UserError
from qurate.models.recommend import check_candidate_features
from qurate.serving.api.refusals import field_error, json_error
from qurate.serving.events import rejection
from qurate.serving.messages import (
    MAX_ID_BYTES,
    CandidateValues,
    Event,
    EventsRequest,
    Feature,
    LooseEventsRequest,
    RecommendRequest,
    Rejection,
)

MAX_BODY = 1 << 20
MAX_EVENTS_BODY = 5 << 20
MAX_DEPTH = 32
MAX_TOKENS = 500_000
"""Brackets, commas and quotes in a body: bounds what decoding can cost, whatever the bytes say (about 30 MB)."""

Message = TypeVar("Message")

_recommend: msgspec.json.Decoder[RecommendRequest] = msgspec.json.Decoder(RecommendRequest)
_events: msgspec.json.Decoder[EventsRequest] = msgspec.json.Decoder(EventsRequest)
_loose: msgspec.json.Decoder[LooseEventsRequest] = msgspec.json.Decoder(LooseEventsRequest)
_event: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"{}[]"))
_ESCAPED = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_REQUEST_FIELDS = frozenset(RecommendRequest.__struct_fields__)
_REQUEST_NAMES = [f'"{name}":'.encode() for name in RecommendRequest.__struct_fields__]
_EVENT_NAMES = [(name, f'"{name}":'.encode()) for name in Event.__struct_fields__]
_OPTIONAL = frozenset(Event.__struct_fields__[-len(Event.__struct_defaults__) :])
_ID_FIELDS = ("event_id", "user_id", "type", "item_id", "session_id", "decision_id")


class _Twice(ValueError):
    """A name stands twice in an object."""


def parse_recommend(body: bytes) -> RecommendRequest:
    """The request in `body`.

    Raises:
        UserError: codes invalid_json, invalid_field, too_large, too_deep; `where` is the path of the field.
    """
    text = _text(body)
    try:
        request = _recommend.decode(body)
        if not _names_differ(body, request):
            _check_names(text)
    except (ValueError, RecursionError) as error:
        _raise_lexical(text)
        raise _with_name(field_error(error, RecommendRequest, text), text) from None
    if _ESCAPED.search(body):
        _raise_lexical(text)
        _raise_nul(text)
    if not _one_byte_each(text):
        _check_bytes(request)
    if request.candidate_features is not None:
        check_candidate_features(request.candidate_features, request.candidates, where="$.candidate_features", code=Code.INVALID_FIELD)
    return request


def parse_events(body: bytes) -> tuple[list[tuple[int, Event]], list[Rejection]]:
    """The well-formed events of a batch with their index, and a rejection for each of the others.

    Raises:
        UserError: the body is not such a batch, or not one event in it is well-formed: codes invalid_json,
            invalid_field, too_large, too_deep; `where` is the path of the first offending field.
    """
    text = _text(body)
    try:
        batch = _events.decode(body).events
        if not _names_differ_in_events(body, batch):
            _check_names(text)
    except (ValueError, RecursionError):
        _raise_lexical(text)
        return _one_by_one(body, text)
    if _ESCAPED.search(body):
        _raise_lexical(text)
    elif _one_byte_each(text) or not any(map(_overlong, batch)):
        return list(enumerate(batch)), []
    return _one_by_one(body, text)


def path_text(path: tuple[str | int, ...]) -> str:
    """`$.events[3].value`; long names are cut."""
    return "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part[:60]}" for part in path)


def _text(body: bytes) -> str:
    """The body as text, once its size in tokens and its depth are known to be bounded."""
    tokens = sum(map(body.count, (b"{", b"[", b",", b'"', b"}", b"]"))) if len(body) > MAX_TOKENS else 0  # no more than bytes
    if tokens > MAX_TOKENS:
        raise UserError(
            f"at most {MAX_TOKENS} brackets, commas and quotes", str(tokens), where="$", hint="send smaller batches", code=Code.TOO_LARGE
        )
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise UserError("UTF-8", f"byte {body[error.start]:#04x} at offset {error.start}", where="$", code=Code.INVALID_JSON) from None
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and (depth := _depth(body)) > MAX_DEPTH:
        raise UserError(f"at most {MAX_DEPTH} objects and lists inside each other", f"{depth:,}", where="$", code=Code.TOO_DEEP)
    return text


def _depth(body: bytes) -> int:
    """Deepest nesting, brackets inside strings not counted; linear in time, no recursion."""
    outside = b"".join(body.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])
    brackets = np.frombuffer(outside.translate(None, _NOT_BRACKETS), np.uint8)
    steps = np.where((brackets == ord("[")) | (brackets == ord("{")), 1, -1).astype(np.int32)
    return int(steps.cumsum().max(initial=0))


def _plain_names(body: bytes) -> bool:
    """Whether every name stands without escapes right before its colon, so that names can be counted."""
    return b"\\" not in body and not any(spaced in body for spaced in (b" :", b"\t:", b"\n:", b"\r:"))


def _names_differ(body: bytes, request: RecommendRequest) -> bool:
    """True where counting shows that no name stands twice; False leaves it open.

    There are as many `":` as names, or more (a text may begin with a colon). Each of the message's fields stands there at
    most once, and the rest are as many as the context and the features of candidates have.
    """
    context, features = request.context or {}, request.candidate_features or {}
    counts = [body.count(name) for name in _REQUEST_NAMES]
    known = max(counts) <= 1 and _REQUEST_FIELDS.isdisjoint(context) and _REQUEST_FIELDS.isdisjoint(features)
    return known and body.count(b'":') == sum(counts) + len(context) + len(features) and _plain_names(body)


def _names_differ_in_events(body: bytes, events: list[Event]) -> bool:
    """The same of a batch: each field is named as often as there are events that have it (a null counts as a second look)."""
    if body.count(b'"events":') != 1 or b'"props":' in body or not _plain_names(body):
        return False
    total = 1
    for field, name in _EVENT_NAMES:
        count = body.count(name)
        if count not in (0, len(events)) and count != sum(getattr(event, field) is not None for event in events):
            return False
        if count == len(events) and field in _OPTIONAL and any(getattr(event, field) is None for event in events):
            return False
        total += count
    return body.count(b'":') == total


def _check_names(text: str) -> None:
    """Raises _Twice where a name stands twice in one object; the tree itself is dropped at once."""
    json.loads(text, object_pairs_hook=_distinct)


def _distinct(pairs: list[tuple[str, Any]]) -> None:
    if len(pairs) > 1 and len({name for name, _ in pairs}) < len(pairs):
        raise _Twice


class _Pairs(list[tuple[str, Any]]):
    """An object as its pairs, so that names that stand twice can be seen."""


def _tree(text: str) -> Any:
    """The body as Python's own parser reads it, which takes NaN, 1e999 and lone surrogates.

    Raises:
        UserError: it is not JSON even so.
    """
    try:
        return json.loads(text, object_pairs_hook=_Pairs)
    except json.JSONDecodeError as error:
        raise json_error(error) from None
    except (ValueError, RecursionError):
        raise UserError("JSON", "a number of more than 4,300 digits", where="$", code=Code.INVALID_JSON) from None


def _walk(value: Any) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every (path, leaf or pair name) of a tree, in the order of the text, without recursion."""
    stack: list[tuple[tuple[str | int, ...], Any]] = [((), value)]
    while stack:
        path, node = stack.pop()
        if isinstance(node, _Pairs):
            seen: set[str] = set()
            for name, _ in node:
                yield (*path, name), _Twice if name in seen else name
                seen.add(name)
            stack.extend(((*path, name), child) for name, child in reversed(node))
        elif isinstance(node, list):
            stack.extend(((*path, i), node[i]) for i in range(len(node) - 1, -1, -1))
        else:
            yield path, node


def _raise_lexical(text: str) -> None:
    """Raises for the first place where the body is not interoperable JSON (RFC 7493); returns where it is."""
    for path, leaf in _walk(_tree(text)):
        got = ""
        if leaf is _Twice:
            got = "the same name twice"
        elif isinstance(leaf, float) and not math.isfinite(leaf):
            got = "NaN, an infinity or a number beyond float64"
        elif isinstance(leaf, str) and not leaf.isascii() and any("\ud800" <= char <= "\udfff" for char in leaf):
            got = "half a surrogate pair"
        if got:
            safe = path_text(path).encode("ascii", "backslashreplace").decode()
            raise UserError("interoperable JSON", got, where=safe, code=Code.INVALID_JSON)


def _nul_paths(text: str) -> list[tuple[str | int, ...]]:
    if "\\u0000" not in text:
        return []
    return [path for path, leaf in _walk(_tree(text)) if isinstance(leaf, str) and "\0" in leaf]


def _raise_nul(text: str) -> None:
    for path in _nul_paths(text):
        where = path_text(path).replace("\0", "\\u0000")
        raise UserError("text without NUL", "NUL", where=where, code=Code.INVALID_FIELD)


def _one_byte_each(text: str) -> bool:
    """Whether every character of every id is one byte."""
    return text.isascii() and "\\u" not in text


def _overlong(event: Event) -> str | None:
    """The name of a field whose id has too many bytes; msgspec has bounded them in characters."""
    for name in _ID_FIELDS:
        value = getattr(event, name)
        if value is not None and len(value) * 4 > MAX_ID_BYTES and len(value.encode()) > MAX_ID_BYTES:
            return name
    return None


def _check_bytes(request: RecommendRequest) -> None:
    """Ids are bounded in bytes; msgspec has bounded them in characters."""
    single = (("user_id", request.user_id), ("session_id", request.session_id))
    many = ((f"{name}[{i}]", value) for name in ("candidates", "exclude") for i, value in enumerate(getattr(request, name) or ()))
    for name, value in (*single, *many):
        if value is not None and len(value.encode()) > MAX_ID_BYTES:
            raise UserError(f"1-{MAX_ID_BYTES} bytes", f"{len(value.encode())}", where=f"$.{name}", code=Code.INVALID_FIELD)


def _one_by_one(body: bytes, text: str) -> tuple[list[tuple[int, Event]], list[Rejection]]:
    """The slow way, for batches in which something is wrong: each event on its own."""
    try:
        batch = _loose.decode(body).events
    except (ValueError, RecursionError) as error:
        raise field_error(error, EventsRequest, text) from None
    nul = {path[1]: path for path in reversed(_nul_paths(text)) if len(path) > 1}
    good: list[tuple[int, Event]] = []
    bad: list[UserError] = []
    rejected: list[Rejection] = []
    for index, raw in enumerate(batch):
        try:
            if index in nul:
                where = path_text(nul[index]).replace("\0", "\\u0000")
                raise UserError("text without NUL", "NUL", where=where, code=Code.INVALID_FIELD)
            good.append((index, _checked_event(raw, index)))
        except UserError as error:
            bad.append(error)
            rejected.append(rejection(index, error))
    if not good:
        raise bad[0]
    return good, rejected


def _checked_event(raw: msgspec.Raw, index: int) -> Event:
    try:
        event = _event.decode(raw)
    except (ValueError, RecursionError) as error:
        raise field_error(error, Event, bytes(raw), f"$.events[{index}]") from None
    if name := _overlong(event):
        got = f"{len(getattr(event, name).encode())}"
        raise UserError(f"1-{MAX_ID_BYTES} bytes", got, where=f"$.events[{index}].{name}", code=Code.INVALID_FIELD)
    return event


def _with_name(error: UserError, text: str) -> UserError:
    """msgspec writes `[...]` for the name of an entry of an object: the first entry that is wrong has it."""
    field, dots, _ = (error.where or "").removeprefix("$.").partition("[...]")
    types: dict[str, Any] = {"context": Feature, "candidate_features": CandidateValues}
    if not dots or field not in types:
        return error
    for name, value in json.loads(text)[field].items():
        try:
            msgspec.convert(value, types[field])
        except msgspec.ValidationError as found:
            return field_error(found, RecommendRequest, json.dumps(value), path_text((field, name)))
    return error
