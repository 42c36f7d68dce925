"""The HTTP shell in process: routes, statuses, problems, who may ask."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from double import KnownModel
from starlette.applications import Starlette

from qurate.decision import Decision
from qurate.errors import MachineError, UserError
from qurate.serving.api import bodies
from qurate.serving.api.app import make_app
from qurate.serving.api.middleware import is_loopback
from qurate.serving.api.server import Server, listen, run
from qurate.serving.api.transport import MAX_WAITING
from qurate.serving.messages import EventsAnswer, Problem, Ready
from qurate.serving.service import Service, now_us
from qurate.serving.stores.sqlite import SqliteStore

JSON = {"content-type": "application/json"}


class Client:
    """Asks the application in process."""

    def __init__(self, app: Starlette) -> None:
        self.transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=self.transport, base_url="http://127.0.0.1:8000") as client:
                return await client.request(method, path, **more)

        return asyncio.run(ask())

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.request("GET", path, **more)

    def post(self, path: str, **more: Any) -> httpx.Response:
        return self.request("POST", path, **more)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    one = Service(KnownModel(), partial(SqliteStore, tmp_path), seed=0)
    yield one
    one.close()


@pytest.fixture
def client(service: Service) -> Client:
    return Client(make_app(service))


def event(event_id: str, **changes: Any) -> dict[str, Any]:
    return {"event_id": event_id, "type": "click", "user_id": "u", "item_id": "i4", "timestamp": now_us() // 1000, **changes}


def problem(answer: Any, status: int, code: str) -> Problem:
    assert answer.status_code == status and answer.headers["content-type"] == "application/problem+json"
    found = msgspec.json.decode(answer.content, type=Problem)
    assert (found.status, found.code, found.type) == (status, code, "about:blank")
    return found


def test_ask_tell_ask(client: Client) -> None:
    first = msgspec.json.decode(client.post("/v1/recommend", json={"user_id": "u", "k": 2}).content, type=Decision)
    assert [item.item_id for item in first.items] == ["i1", "i2"] and first.degraded == "unknown_user"
    told = client.post("/v1/events", json={"events": [event("a", decision_id=first.decision_id), event("b", type=7)]})
    assert told.status_code == 200
    answer = msgspec.json.decode(told.content, type=EventsAnswer)
    assert (answer.accepted, answer.duplicates, answer.durable) == (1, 0, True)
    assert [(one.index, one.code, one.path) for one in answer.rejected] == [(1, "invalid_field", "$.events[1].type")]
    again = client.post("/v1/events", json={"events": [event("a")]}).json()
    assert again == {"accepted": 0, "duplicates": 1, "rejected": [], "durable": True}
    second = client.post("/v1/recommend", json={"user_id": "u", "k": 2}).json()
    assert [item["item_id"] for item in second["items"]] == ["i4", "i1"] and second["degraded"] is None
    assert set(second["items"][0]) == {"item_id", "score", "propensity", "source"}


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v1/recommend", b"{", 400, "invalid_json"),
        ("/v1/recommend", b'{"k": 0}', 400, "invalid_field"),
        ("/v1/recommend", b"[" * 100_000, 400, "too_deep"),
        ("/v1/recommend", b" " * ((1 << 20) + 1), 413, "too_large"),
        ("/v1/events", b'{"events": [{}]}', 400, "invalid_field"),
        ("/v1/events", b" " * ((5 << 20) + 1), 413, "too_large"),
    ],
)
def test_malformed_bodies_are_problems(client: Client, path: str, body: bytes, status: int, code: str) -> None:
    found = problem(client.post(path, content=body, headers=JSON), status, code)
    assert found.path.startswith("$") and found.detail.startswith("expected ")


def test_routes_and_methods_that_are_not_there_are_problems(client: Client) -> None:
    problem(client.get("/v1/nothing"), 404, "not_found")
    assert problem(client.get("/v1/recommend"), 405, "not_found").detail.endswith("got GET /v1/recommend; use POST")


def test_a_compressed_body_is_refused_unread(client: Client) -> None:
    problem(client.post("/v1/events", content=b"\x1f\x8b", headers={"content-encoding": "gzip"}), 400, "invalid_field")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "http://localhost:9999"},
        {"origin": "null"},
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example:8000"},
        {"host": "[::1"},
        {"origin": "http://[nowhere"},
    ],
)
def test_web_pages_of_others_are_refused(client: Client, headers: dict[str, str]) -> None:
    problem(client.post("/v1/events", json={"events": [event("a")]}, headers=headers), 403, "forbidden")
    assert client.get("/readyz", headers={"origin": "http://127.0.0.1:8000"}).status_code == 200


def test_too_many_bodies_at_once_are_turned_away(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODIES_IN_FLIGHT", 1000)
    answer = client.post("/v1/recommend", content=b" " * 2000)
    problem(answer, 503, "overloaded")
    assert answer.headers["retry-after"] == "1"
    assert client.post("/v1/recommend", json={}).status_code == 200  # the count went back


def test_a_body_that_stops_is_given_up(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.05)
    sent: list[dict[str, Any]] = []
    waiting: list[dict[str, Any]] = [{"type": "http.request", "body": b'{"k"', "more_body": True}]

    async def receive() -> dict[str, Any]:
        if waiting:
            return waiting.pop()
        await asyncio.sleep(60)
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost")]
    scope = {"type": "http", "method": "POST", "path": "/v1/recommend", "headers": headers, "query_string": b"", "http_version": "1.1"}
    asyncio.run(make_app(service)(scope, receive, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 400 and b"within 0.05 s" in sent[1]["body"]


def test_a_full_disk_is_507_and_not_ready_while_answers_go_on(client: Client, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    import apsw

    def full(group: Any) -> None:
        raise apsw.FullError("no space")

    commit = service.store._commit
    monkeypatch.setattr(service.store, "_commit", full)
    answer = client.post("/v1/events", json={"events": [event("a")]})
    problem(answer, 507, "storage_full")
    assert answer.headers["retry-after"] == "5"
    decision = client.post("/v1/recommend", json={"user_id": "u", "k": 1})
    assert decision.status_code == 200 and decision.json()["degraded"] == "store_unavailable" and decision.json()["items"]
    ready = client.get("/readyz")
    assert ready.status_code == 503 and not msgspec.json.decode(ready.content, type=Ready).checks["store"].ok
    assert client.get("/livez").json() == {"live": True}
    monkeypatch.setattr(service.store, "_commit", commit)
    assert client.post("/v1/events", json={"events": [event("a")]}).json()["accepted"] == 1
    assert client.get("/readyz").json()["ready"] is True


def test_metrics_count_what_happened(client: Client) -> None:
    client.post("/v1/recommend", json={"user_id": "u"})
    client.post("/v1/events", json={"events": [event("a"), event("a"), event("b", type="shown")]})
    client.post("/v1/recommend", content=b"{")
    page = client.get("/metrics").text
    for line in (
        'qurate_http_requests_total{route="/v1/recommend",status="200"} 1.0',
        'qurate_http_requests_total{route="/v1/recommend",status="400"} 1.0',
        'qurate_events_total{outcome="accepted"} 1.0',
        'qurate_events_total{outcome="duplicate"} 1.0',
        'qurate_events_total{outcome="rejected"} 1.0',
        'qurate_decisions_total{degraded="unknown_user"} 1.0',
        "qurate_store_writable 1.0",
    ):
        assert line in page.splitlines()


def test_the_description_has_every_route_and_its_references_resolve(client: Client) -> None:
    text = client.get("/openapi.json").text
    document = json.loads(text)
    assert set(document["paths"]) == {"/v1/recommend", "/v1/events", "/livez", "/readyz", "/metrics", "/openapi.json"}
    schemas = document["components"]["schemas"]
    references = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert references <= set(schemas)
    assert schemas["RecommendRequest"]["additionalProperties"] is False
    assert schemas["RecommendRequest"]["properties"]["k"] == {"type": "integer", "minimum": 1, "maximum": 1000, "default": 10}
    assert schemas["Event"]["required"] == ["event_id", "type", "user_id", "timestamp"]


def test_the_description_names_the_media_type_of_every_answer(client: Client) -> None:
    document = client.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            answers = [client.request(method, path, content=body) for body in (b"{}", b"[")] if method == "post" else [client.get(path)]
            for answer in answers:
                assert answer.headers["content-type"].split(";")[0] in operation["responses"][str(answer.status_code)]["content"]


def test_who_hears_that_the_service_is_ready_may_connect_and_stop_it_at_once(tmp_path: Path) -> None:
    """A signal that comes right after the address is printed must not end the process on the spot."""
    heard: list[str] = []

    def ready(url: str) -> None:
        with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[-1])), timeout=5):
            heard.append(url)
        for one in (signal.SIGTERM, signal.SIGHUP):
            assert getattr(signal.getsignal(one), "__name__", "") == "handle_exit"  # else the next line would end the tests
        os.kill(os.getpid(), signal.SIGTERM)

    run(lambda: Service(KnownModel(items=5), partial(SqliteStore, tmp_path / "data"), seed=0), "127.0.0.1", 0, ready)
    assert len(heard) == 1 and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize(
    ("host", "ours"), [("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False)]
)
def test_loopback(host: str, ours: bool) -> None:
    assert is_loopback(host) is ours


def test_other_hosts_and_taken_ports_are_refused_in_one_line(tmp_path: Path) -> None:
    import socket

    def never() -> Service:
        raise AssertionError("opened")

    for host in ("0.0.0.0", "192.168.0.1", "example.org"):
        with pytest.raises(UserError, match="a loopback address"):
            run(never, host, 0, print)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(MachineError, match=f"a free port, got Address already in use, at 127.0.0.1:{port}"):
            run(never, "127.0.0.1", port, print)


@contextlib.contextmanager
def listening(service: Service) -> Iterator[int]:
    """The port of a real server around `service`, in a thread."""
    listener = listen("127.0.0.1", 0)
    server = Server(service)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def test_who_is_too_many_is_told_at_once_and_the_others_are_served(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    commit = service.store._commit
    monkeypatch.setattr(service.store, "_commit", lambda group: gate.wait(20) and commit(group))

    async def ask(client: httpx.AsyncClient, number: int) -> httpx.Response:
        answer = await client.post("/v1/events", json={"events": [event(f"e{number}")]})
        if answer.status_code == 503:
            assert not gate.is_set()  # while the others still wait for the disk
        return answer

    async def crowd(port: int) -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=MAX_WAITING + 72)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", limits=limits, timeout=20) as client:
            asked = [asyncio.create_task(ask(client, number)) for number in range(MAX_WAITING + 70)]
            while sum(task.done() for task in asked) < 70:
                await asyncio.sleep(0.01)
            assert (await client.get("/livez")).json() == {"live": True}
            assert (await client.get("/readyz")).status_code == 200
            gate.set()
            answers = await asyncio.gather(*asked)
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as late:  # the answered keep their connections
                assert (await late.post("/v1/events", json={"events": [event("late")]})).status_code == 200
            return answers

    with listening(service) as port:
        answers = asyncio.run(asyncio.wait_for(crowd(port), 20))
        served = [answer for answer in answers if answer.status_code == 200]
        refused = [answer for answer in answers if answer.status_code == 503]
        assert (len(served), len(refused)) == (MAX_WAITING, 70)
        assert all(problem(answer, 503, "overloaded") and answer.headers["retry-after"] == "1" for answer in refused)
        again = httpx.post(f"http://127.0.0.1:{port}/v1/events", json={"events": [event("later")]}, timeout=20)
        assert again.json()["accepted"] == 1


def test_what_is_no_request_at_all_is_a_problem_too(service: Service) -> None:
    import socket

    post = b"POST /v1/events HTTP/1.1\r\nhost: localhost\r\n"
    with listening(service) as port:
        for raw, status, code in (
            (post + b"content-length: many\r\n\r\n", 400, "invalid_json"),
            (b"\x00" * 100, 400, "invalid_json"),
            (post + b"x: y\r\n" * 15_000, 413, "too_large"),
        ):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
                connection.sendall(raw)
                response = HTTPResponse(connection)
                response.begin()
                body = response.read()
            assert response.status == status and response.headers["content-type"] == "application/problem+json"
            assert msgspec.json.decode(body, type=Problem).code == code


@pytest.mark.parametrize("path", ["/v1/events", "/v1/recommend"])
def test_who_sends_too_much_still_reads_why(service: Service, path: str) -> None:
    """http.client sends all of it before it looks for an answer."""
    with listening(service) as port:
        for mib in (6, 9):
            connection = HTTPConnection("127.0.0.1", port, timeout=20)
            connection.request("POST", path, b" " * (mib << 20))
            response = connection.getresponse()
            assert response.status == 413 and msgspec.json.decode(response.read(), type=Problem).code == "too_large"
            connection.close()
        with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
            connection.request("POST", path, headers={"content-length": str(6 << 20), "expect": "100-continue"})
            assert connection.getresponse().status == 413, "before any of it is sent"


def test_bodies_that_do_not_come_keep_nobody_else_out(service: Service) -> None:
    head = b"POST /v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n"
    with listening(service) as port, contextlib.ExitStack() as stack:
        for _ in range(MAX_WAITING + 8):
            stack.enter_context(socket.create_connection(("127.0.0.1", port))).sendall(head)
        time.sleep(0.3)  # all of them are being read
        assert httpx.post(f"http://127.0.0.1:{port}/v1/recommend", json={"user_id": "u"}, timeout=5).status_code == 200
    with listening(service) as port:
        assert httpx.post(f"http://127.0.0.1:{port}/v1/recommend", json={"user_id": "u"}, timeout=5).status_code == 200
