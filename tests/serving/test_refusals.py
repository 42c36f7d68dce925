"""Every answer to a malformed body says what was expected, what stands there, and where."""

import asyncio
import json
from typing import Any

import pytest

from qurate.errors import UserError
from qurate.serving.api.bodies import Bodies
from qurate.serving.api.boundary import parse_events, parse_recommend

EVENT = {"event_id": "e1", "type": "click", "user_id": "u", "timestamp": "2026-01-02T03:04:05Z", "item_id": "i1"}
TIME = "expected a time with a zone such as 2026-01-02T03:04:05Z, or milliseconds since 1970, got "

REQUESTS: list[tuple[Any, str]] = [
    (b"", "expected JSON, got an empty body in line 1, column 1 (Expecting value), at $"),
    (b"k=5", 'expected JSON, got "k=5" in line 1, column 1 (Expecting value), at $'),
    (b'{"k": 5,}', 'expected JSON, got "}" in line 1, column 9 (Expecting property name enclosed in double quotes), at $'),
    (b'{"k": 5', "expected JSON, got its end in line 1, column 8 (Expecting ',' delimiter), at $"),
    (b'{"user_id": "a\xff"}', "expected UTF-8, got byte 0xff at offset 14, at $"),
    ([], "expected `object`, got a list of 0, at $"),
    ("x", 'expected `object`, got `str` "x", at $'),
    (None, "expected `object`, got `null`, at $"),
    ({"k": 0}, "expected `int` >= 1, got 0, at $.k"),
    ({"k": 10**20}, "expected `int` <= 1000, got 100000000000000000000, at $.k"),
    ({"k": "5"}, 'expected `int`, got `str` "5", at $.k'),
    ({"k": True}, "expected `int`, got `bool` true, at $.k"),
    ({"k": {}}, "expected `int`, got an object of 0, at $.k"),
    ({"user_id": ""}, 'expected `str` of length >= 1, got "" of 0 characters, at $.user_id'),
    ({"user_id": "a" * 300}, f'expected `str` of length <= 256, got "{"a" * 59}... of 300 characters, at $.user_id'),
    ({"user_id": "é" * 200}, "expected 1-256 bytes, got 400, at $.user_id"),
    ({"user": "a"}, "expected a field of the message, got 'user', at $; did you mean user_id?"),
    ({"candidates": ["a", ""]}, 'expected `str` of length >= 1, got "" of 0 characters, at $.candidates[1]'),
    ({"candidates": ["a"] * 10_001}, "expected at most 10,000 entries, got 10,001, at $.candidates"),
    ({"exclude": "a"}, 'expected `array`, got `str` "a", at $.exclude'),
    ({"context": {"a": {}}}, "expected `bool | float | str | array`, got an object of 0, at $.context.a"),
    ({"context": {"b": 1, "": 1}}, 'expected `str` of length >= 1, got "" of 0 characters, at $.context'),
    ({"context": {f"a{i}": 1 for i in range(101)}}, "expected at most 100 entries, got 101, at $.context"),
    ({"context": {"a": 1e39}}, "expected `float` < 3.4028234663852886e+38, got 1e+39, at $.context.a"),
    ({"context": {"a.b": [1]}}, "expected `str`, got `int` 1, at $.context.a.b[0]"),
    ({"candidates": ["a"], "candidate_features": {"p": 7}}, "expected `array`, got `int` 7, at $.candidate_features.p"),
    (b'{"context": {"a": ' + b"[" * 40 + b"]" * 40 + b"}}", "expected at most 32 objects and lists inside each other, got 42, at $"),
]
EVENTS: list[tuple[Any, str]] = [
    ({"events": []}, "expected `array` of length >= 1, got a list of 0, at $.events"),
    ({"events": {}}, "expected `array`, got an object of 0, at $.events"),
    ({}, "expected the field events, got none, at $.events"),
    ({"events": [EVENT] * 1001}, "expected at most 1,000 entries, got 1,001, at $.events"),
    (EVENT, "expected a field of the message, got 'event_id', at $; did you mean events?"),
    ({"timestamp": "yesterday"}, f'{TIME}"yesterday", at $.events[0].timestamp'),
    ({"timestamp": "2026-01-02T03:04:05"}, f'{TIME}"2026-01-02T03:04:05", at $.events[0].timestamp'),
    ({"timestamp": 1.5}, "expected `int | datetime`, got `float` 1.5, at $.events[0].timestamp"),
    ({"event_id": ""}, 'expected `str` of length >= 1, got "" of 0 characters, at $.events[0].event_id'),
    ({"item_id": "é" * 200}, "expected 1-256 bytes, got 400, at $.events[0].item_id"),
    ({"value": "5"}, 'expected `float | null`, got `str` "5", at $.events[0].value'),
    ({"props": [1, 2]}, "expected `object | null`, got a list of 2, at $.events[0].props"),
    ({"userId": "u"}, "expected a field of the message, got 'userId', at $.events[0]; did you mean user_id?"),
]


def refusal(parse: Any, body: Any) -> str:
    with pytest.raises(UserError) as caught:
        parse(body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode())
    assert "something else" not in str(caught.value) and "more" not in caught.value.got
    return str(caught.value)


@pytest.mark.parametrize(("body", "said"), REQUESTS, ids=[said[:60] for _, said in REQUESTS])
def test_a_request(body: Any, said: str) -> None:
    assert refusal(parse_recommend, body) == said


@pytest.mark.parametrize(("body", "said"), EVENTS, ids=[said[:60] for _, said in EVENTS])
def test_a_batch_of_events(body: Any, said: str) -> None:
    whole = body if not body or "events" in body or body is EVENT else {"events": [{**EVENT, **body}]}
    assert refusal(parse_events, whole) == said


def test_half_a_surrogate_pair_is_shown_as_an_escape() -> None:
    assert refusal(parse_recommend, b'{"k": "\\ud800"}').isascii()


def test_a_body_that_is_too_large_is_told_its_size() -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"x" * 30, "more_body": False}

    for headers in ([], [(b"content-length", b"30")]):
        with pytest.raises(UserError, match="expected at most 20 bytes, got 30, at"):
            asyncio.run(Bodies().read(headers, receive, 20, False))
