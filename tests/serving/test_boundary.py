"""Malformed bodies of every kind: one error with the field, bounded memory, nothing through."""

import contextlib
import json
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qurate.errors import UserError
from qurate.serving.api import boundary
from qurate.serving.api.boundary import MAX_DEPTH, parse_events, parse_recommend
from qurate.serving.messages import Event, RecommendRequest

GOOD = {"event_id": "e1", "type": "click", "user_id": "u", "timestamp": "2026-01-02T03:04:05Z", "item_id": "i1"}


def event_text(**changes: Any) -> str:
    return json.dumps({key: value for key, value in {**GOOD, **changes}.items() if value is not ...})


def batch(*events: str) -> bytes:
    return f'{{"events": [{", ".join(events)}]}}'.encode()


def refused(parse: Any, body: bytes) -> UserError:
    with pytest.raises(UserError) as caught:
        parse(body)
    return caught.value


def test_a_request_keeps_what_it_says() -> None:
    body = b'{"k": 3, "user_id": "\\u00e9\\ud83d\\ude00", "candidates": ["a", "b"], "context": {"age": 30, "vip": true}, "explain": true}'
    assert parse_recommend(body) == RecommendRequest(
        k=3, user_id="é😀", candidates=["a", "b"], context={"age": 30.0, "vip": True}, explain=True
    )
    assert parse_recommend(b"{}") == RecommendRequest(k=10)


@pytest.mark.parametrize(
    ("body", "code", "where"),
    [
        (b"", "invalid_json", "$"),
        (b"\xef\xbb\xbf{}", "invalid_json", "$"),
        (b"{} {}", "invalid_json", "$"),
        (b'{"user_id": "a', "invalid_json", "$"),
        (b'{"user_id": "a\xff"}', "invalid_json", "$"),
        (b'{"user_id": "\xed\xa0\x80"}', "invalid_json", "$"),
        (b'{"user_id": "\\ud800"}', "invalid_json", "$.user_id"),
        (b'{"user_id": "\\udc00x"}', "invalid_json", "$.user_id"),
        (b'{"context": {"\\ud800": 1}}', "invalid_json", "$.context.\\ud800"),
        (b'{"k": 1, "k": 2}', "invalid_json", "$.k"),
        (b'{"k": 1, "\\u006b": 2}', "invalid_json", "$.k"),
        (b'{"context": {"a": 1, "a": 1}}', "invalid_json", "$.context.a"),
        (b'{"k": NaN}', "invalid_json", "$.k"),
        (b'{"context": {"a": -Infinity}}', "invalid_json", "$.context.a"),
        (b'{"context": {"a": 1e999}}', "invalid_json", "$.context.a"),
        (b'{"k": ' + b"1" * 5000 + b"}", "invalid_json", "$"),
        (b'{"user_id": "\\u0000"}', "invalid_field", "$.user_id"),
        (b'{"context": {"b": 1, "a": 1e39}}', "invalid_field", "$.context.a"),
        (b'{"context": {"b": 1, "": 2}}', "invalid_field", "$.context"),
        (
            b'{"candidates": ["x", "y"], "candidate_features": {"age": [1, 2], "p": [1, "2"]}}',
            "invalid_field",
            "$.candidate_features.p[1]",
        ),
        (b'{"candidates": ["x", "y"], "candidate_features": {"age": [1, 2], "price": 7}}', "invalid_field", "$.candidate_features.price"),
        (b'{"candidates": ["x", "y"], "candidate_features": {"age": [1, 2], "price": [7]}}', "invalid_field", "$.candidate_features.price"),
        (
            b'{"candidates": ["x", "y"], "candidate_features": {"age": [1, 2], "p": [7, 1e39]}}',
            "invalid_field",
            "$.candidate_features.p[1]",
        ),
        (b'{"k": true}', "invalid_field", "$.k"),
        (b'{"k": "5"}', "invalid_field", "$.k"),
        (b'{"k": 1.5}', "invalid_field", "$.k"),
        (b'{"k": 0}', "invalid_field", "$.k"),
        (b'{"k": 1001}', "invalid_field", "$.k"),
        (b'{"explain": "true"}', "invalid_field", "$.explain"),
        (b'{"user_id": ""}', "invalid_field", "$.user_id"),
        (b'{"user_id": 5}', "invalid_field", "$.user_id"),
        (b'{"user_id": "' + b"x" * 257 + b'"}', "invalid_field", "$.user_id"),
        ('{"user_id": "' + "é" * 129 + '"}', "invalid_field", "$.user_id"),
        ('{"candidates": ["a", "' + "é" * 129 + '"]}', "invalid_field", "$.candidates[1]"),
        (b'{"candidates": [null]}', "invalid_field", "$.candidates[0]"),
        (b'{"userid": "a"}', "invalid_field", "$"),
        (b"[]", "invalid_field", "$"),
        (b"null", "invalid_field", "$"),
        (b"[" * 100_000, "too_deep", "$"),
        (b'{"context": ' + b'{"a":' * 40 + b"1" + b"}" * 41, "too_deep", "$"),
        (b'{"candidates": [' + b'"a",' * 10_000 + b'"a"]}', "too_large", "$.candidates"),
        (b"[" + b"[]," * 600_000 + b"[]]", "too_large", "$"),
    ],
)
def test_a_malformed_request_names_code_and_field(body: bytes | str, code: str, where: str) -> None:
    error = refused(parse_recommend, body if isinstance(body, bytes) else body.encode())
    assert (error.code, error.where) == (code, where)
    str(error).encode()  # can always be sent


def test_an_unknown_field_names_the_nearest() -> None:
    assert "did you mean user_id?" in str(refused(parse_recommend, b'{"userid": "a"}'))
    assert "did you mean timestamp?" in str(refused(parse_events, batch(event_text(timestamps=1))))


def test_depth_counts_brackets_outside_strings_only() -> None:
    deep = "[" * (MAX_DEPTH - 4) + "]" * (MAX_DEPTH - 4)
    text = event_text(props={"a": json.loads(deep), "t": '[[["\\"{{{' * 50})
    good, rejected = parse_events(batch(text))
    assert len(good) == 1 and not rejected
    assert refused(parse_events, batch(event_text(props={"a": json.loads(f"[{deep}]")}))).code == "too_deep"


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (event_text(timestamp="2026-01-02T03:04:05"), ".timestamp"),
        (event_text(timestamp="nan"), ".timestamp"),
        (event_text(timestamp=1.5), ".timestamp"),
        (event_text(timestamp=True), ".timestamp"),
        (event_text(timestamp=...), ".timestamp"),
        (event_text(value="nan"), ".value"),
        (event_text(value=1e39), ".value"),
        (event_text(value=-1e39), ".value"),
        (event_text(value=10**39), ".value"),
        (event_text(value=True), ".value"),
        (event_text(item_id="a\0b"), ".item_id"),
        (event_text(user_id="é" * 129), ".user_id"),
        (event_text(user_id=...), ".user_id"),
        (event_text(event_id=None), ".event_id"),
        (event_text(colour="red"), ""),
        ("7", ""),
    ],
)
def test_a_malformed_event_is_rejected_by_index_and_alone_refuses_the_batch(bad: str, field: str) -> None:
    good, rejected = parse_events(batch(event_text(), bad, event_text(event_id="e3")))
    assert [index for index, _ in good] == [0, 2] and all(isinstance(event, Event) for _, event in good)
    assert [(r.index, r.code, r.path) for r in rejected] == [(1, "invalid_field", f"$.events[1]{field}")]
    error = refused(parse_events, batch(bad))
    assert (error.code, error.where) == ("invalid_field", f"$.events[0]{field}")


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (event_text(value=...)[:-1] + ', "value": NaN}', ".value"),
        (event_text(value=...)[:-1] + ', "value": 1e999}', ".value"),
        (event_text()[:-1] + ', "type": "view"}', ".type"),
        (event_text(item_id="\ud800"), ".item_id"),
        (event_text(props={"a": {"b": float("inf")}}), ".props.a.b"),
    ],
)
def test_what_is_not_interoperable_json_refuses_the_batch_with_index_and_field(bad: str, field: str) -> None:
    error = refused(parse_events, batch(event_text(), bad))
    assert (error.code, error.where) == ("invalid_json", f"$.events[1]{field}")


def test_ids_beyond_ascii_are_kept() -> None:
    good, rejected = parse_events(batch(event_text(user_id="é" * 128), event_text(user_id="顾客" * 42).encode().decode()))
    assert [event.user_id for _, event in good] == ["é" * 128, "顾客" * 42] and not rejected


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"events": []}', "invalid_field"),
        (b"{}", "invalid_field"),
        (b'{"events": {}}', "invalid_field"),
        (batch(*[event_text()] * 1001), "too_large"),
    ],
)
def test_a_batch_is_a_list_of_1_to_1000(body: bytes, code: str) -> None:
    assert refused(parse_events, body).code == code


@pytest.mark.parametrize(
    "body",
    [
        b'{"events": [' + b"{}," * 1_700_000 + b"{}]}",
        b'{"events": [{"props": {"a": [' + b"1," * 2_600_000 + b"1]}}]}",
        batch(event_text(props={"a": ["xy"] * 100_000})),
        batch(event_text(item_id="\\" * 2_000_000)),
        b'"' * (5 << 20),
        b'"' + b'\\"' * (5 << 19),
        b"]" * (5 << 20),
        b'{"events": [' + b" " * (5 << 20) + b"]}",
        b'{"a":' + b'{"a":' * 90_000 + b"1",
        b"{" + b",".join(b'"%d":1' % i for i in range(120_000)) + b',"1":1}',
    ],
)
def test_5_mib_of_anything_costs_bounded_memory_and_time(body: bytes) -> None:
    tracemalloc.start()
    start = time.perf_counter()
    with contextlib.suppress(UserError):
        parse_events(body)
    seconds, (_, peak) = time.perf_counter() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100 << 20
    assert seconds < 10


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=200) | st.text(alphabet='{}[]",:0123456789truefalsn \\ud800eventsk').map(lambda text: text.encode()))
def test_no_bytes_bring_another_error(body: bytes) -> None:
    for parse in (parse_recommend, parse_events):
        try:
            parse(body)
        except UserError as error:
            assert error.code in ("invalid_json", "invalid_field", "too_deep", "too_large")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from([*GOOD, "value", "props", "x"]), json_values))
def test_any_json_object_is_an_event_or_a_rejection(fields: dict[str, Any]) -> None:
    good, rejected = parse_events(batch(event_text(), json.dumps({**GOOD, **fields})))
    assert len(good) + len(rejected) == 2


ORDINARY = [
    b'{"user_id": "u1", "k": 10}',
    b'{"user_id":"a:b","session_id":"k","k":3,"exclude":[],"explain":false,"candidates":["x","user_id"],"context":{"a":1,"b":["c"]}}',
    b"{}",
]
BATCHES = [
    batch(*[event_text(event_id=f"e{n}", item_id="i:1", value=2.5) for n in range(50)]),
    batch(event_text(item_id=...), event_text(item_id="i1"), event_text(decision_id="d", item_id="i2")),
]


def test_a_body_that_is_well_formed_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(text: str) -> None:
        raise AssertionError(f"read again: {text[:100]}")

    monkeypatch.setattr(boundary, "_check_names", never)
    for body in ORDINARY:
        parse_recommend(body)
    for body in BATCHES:
        assert parse_events(body)[1] == []


TWICE = [
    ("recommend", '{"k": 1, "k": 1}'),
    ("recommend", '{"k": 1, "k" : 1}'),
    ("recommend", '{"k": 1, "\\u006b": 1}'),
    ("recommend", '{"user_id": "k", "context": {"a": 1, "a": 2}}'),
    ("recommend", '{"context": {"k": 1, "a": 1, "a": 2}}'),
    ("recommend", '{"context": {"a": 1, "a" :2}}'),
    ("recommend", '{"context": {":": 1, ":": 2}}'),
    ("recommend", '{"context": {"a": 1}, "context": {"b": 1}}'),
    ("events", '{"events": [EVENT], "events": [EVENT]}'),
    ("events", '{"events": [{"item_id": "a", "item_id": "b", REST}, EVENT]}'),
    ("events", '{"events": [{"item_id": null, "item_id": "b", REST}, EVENT]}'),
    ("events", '{"events": [{"item_id": "b", "item_id": null, REST}, EVENT]}'),
    ("events", '{"events": [{"user_id": "b", REST}, EVENT]}'),
    ("events", '{"events": [{"props": {"a": {"b": 1, "b": 2}}, REST}]}'),
    ("events", '{"events": [{"props": {"item_id": 1, "item_id": 2}, REST}]}'),
]


@pytest.mark.parametrize(("kind", "text"), TWICE)
def test_a_name_that_stands_twice_is_seen_wherever_it_stands(kind: str, text: str) -> None:
    rest = event_text(item_id=...)[1:-1]
    body = text.replace("EVENT", "{" + rest + "}").replace("REST", rest).encode()
    with pytest.raises(UserError) as caught:
        parse_recommend(body) if kind == "recommend" else parse_events(body)
    assert caught.value.code == "invalid_json" and "the same name twice" in str(caught.value)
