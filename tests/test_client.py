"""The client against a service process, and against servers that fail in every way a network can."""

import http.server
import json
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest
import server_process

import qurate
from forked import Forked
from qurate import Client, MachineError, UserError
from qurate.decision import Decision


def sockets() -> int:
    """Open TCP sockets of this process."""
    return sum(os.readlink(entry.path).startswith("socket:") for entry in os.scandir("/proc/self/fd") if os.path.islink(entry.path))


def begin(directory: Path, port: int = 0) -> tuple[Forked, str]:
    process = Forked(directory.with_name(f"{directory.name}-said"), server_process.serve, directory, port, signal.SIG_DFL)
    return process, process.read()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    directory = tmp_path_factory.mktemp("client")
    process, url = begin(directory)
    yield url, directory
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(20) == (0, "")


def count(directory: Path, table: str) -> int:
    return int(apsw.Connection(str(directory / "events.sqlite")).execute(f"SELECT count(*) FROM {table}").fetchall()[0][0])


def test_recommend_and_send_over_one_connection(running: tuple[str, Path]) -> None:
    with Client(running[0]) as client:
        assert client.ready()
        first = client.recommend("anna", 3, session_id="s1", exclude=["i2"], context={"band": "low"})
        assert isinstance(first, Decision) and len(first.items) == 3 and "i2" not in [item.item_id for item in first.items]
        before = sockets()
        click = {"user_id": "anna", "type": "click", "item_id": "i7", "decision_id": first.decision_id, "value": None}
        answer = client.send([click, {**click, "type": "shown"}, {**click, "event_id": "e", "timestamp": datetime.now(UTC)}])
        assert (answer.accepted, answer.duplicates, answer.durable) == (2, 0, True)
        assert [(one.index, one.code) for one in answer.rejected] == [(1, "invalid_field")]
        assert client.send([{**click, "event_id": "e"}]).duplicates == 1
        assert client.recommend("anna", 1, candidates=["i7"]).items[0].propensity == 1.0
        assert sockets() == before, "one connection has served them all"
    assert sockets() == before - 1, "leaving the block closes it"


def test_large_batches_are_divided(running: tuple[str, Path]) -> None:
    events: list[dict[str, Any]] = [{"user_id": "many", "type": "click", "item_id": "i1"} for _ in range(2_300)]
    events[2_299]["type"] = ""
    with Client(running[0]) as client:
        answer = client.send(events)
        assert (answer.accepted, [one.index for one in answer.rejected]) == (2_299, [2_299])
        assert answer.rejected[0].path == "$.events[2299].type" and "at $.events[2299].type" in answer.rejected[0].message
        assert client.send([]).accepted == 0


def test_threads_share_a_client(running: tuple[str, Path]) -> None:
    before = count(running[1], "decisions")
    with Client(running[0]) as client, ThreadPoolExecutor(4) as pool:
        base = sockets()
        answers = list(pool.map(lambda i: client.recommend(f"u{i}", 1), range(60)))
        assert 1 <= sockets() - base <= 4
    assert len({answer.decision_id for answer in answers}) == 60 and [a.user_id for a in answers] == [f"u{i}" for i in range(60)]
    assert count(running[1], "decisions") == before + 60


def test_connections_follow_living_threads(running: tuple[str, Path]) -> None:
    """A thread for each request, as many a web server has it; and many at once that are gone afterwards."""
    base = sockets()
    with Client(running[0], retries=0) as client:
        for user in range(30):
            thread = threading.Thread(target=client.recommend, args=(f"u{user}", 1))
            thread.start()
            thread.join()
        assert sockets() - base == 1
        together = threading.Barrier(12)

        def request() -> None:
            together.wait(10)
            client.recommend("u", 1)
            together.wait(10)

        crowd = [threading.Thread(target=request) for _ in range(12)]
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join()
        client.recommend("u", 1)
        assert sockets() - base <= threading.active_count()
    assert sockets() == base


def test_a_connection_that_rested_too_long_is_opened_anew(running: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qurate.client.IDLE_SECONDS", 0.0)
    base = sockets()
    with Client(running[0]) as client:
        assert [client.recommend("u", 1).degraded for _ in range(3)] and sockets() - base == 1


def test_what_the_service_refuses_is_the_callers_mistake(running: tuple[str, Path]) -> None:
    with Client(running[0]) as client:
        for call in (lambda: client.recommend("u", 0), lambda: client.recommend("x" * 300), lambda: client.send([{"user_id": math.nan}])):
            with pytest.raises(UserError) as caught:
                call()
            assert caught.value.code in ("invalid_field", "invalid_json")
        with pytest.raises(UserError, match="status 404"):
            Client(running[0] + "/elsewhere").recommend("u")
        assert client.recommend("u", 1).items  # the connection is fine again


@pytest.mark.parametrize("events", [{"user_id": "u", "type": "click"}, None, 3, [3], "events"])
def test_events_that_are_no_list_are_the_callers_mistake(events: Any) -> None:
    with pytest.raises(UserError, match=r"a list of events, got .*, at send; write"):
        Client("http://127.0.0.1:1").send(events)


def test_one_id_is_no_list_and_numpy_s_numbers_are_numbers(running: tuple[str, Path]) -> None:
    with Client(running[0]) as client:
        with pytest.raises(UserError, match="a list of item ids, got 'i1', at exclude; write exclude=\\['i1'\\]"):
            client.recommend("u", 1, exclude="i1")
        everything: Any = None
        assert len(client.recommend("u", np.int64(2), candidates=np.array(["i1", "i2", "i3"]), exclude=everything).items) == 2  # type: ignore[arg-type]
        assert client.send([{"user_id": "u", "type": "click", "item_id": "i1", "value": np.float32(1)}]).accepted == 1


def test_batches_have_so_many_events_and_bytes_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qurate.client.MAX_SENT", 1_000)
    events: list[dict[str, Any]] = [{"n": "x" * size} for size in (700, 200, 200, 5_000, 3)]
    parts = list(qurate.client._batches(events))
    assert [(first, len(batch)) for first, batch in parts] == [(0, 2), (2, 1), (3, 1), (4, 1)]
    assert [event for _, batch in parts for event in batch] == events
    assert [(first, len(batch)) for first, batch in qurate.client._batches([{}] * 1_001)] == [
        (0, 250),
        (250, 250),
        (500, 250),
        (750, 250),
        (1000, 1),
    ]
    monkeypatch.undo()
    assert [(first, len(batch)) for first, batch in qurate.client._batches([{}] * 1_001)] == [(0, 1_000), (1_000, 1)]
    assert list(qurate.client._batches([])) == []


def test_events_sent_again_after_a_fault_count_once(tmp_path: Path) -> None:
    """The service dies and comes back while a batch is on its way; nothing is lost, nothing counts twice."""
    process, url = begin(tmp_path)
    port = int(url.rsplit(":", 1)[1])
    client = Client(url, retries=8)
    sent = [{"user_id": "u", "type": "click", "item_id": "i1", "event_id": f"e{i}"} for i in range(50)]
    assert client.send(sent[:30]).accepted == 30
    process.kill()
    process.wait()
    revived: list[Forked] = []
    later = threading.Timer(0.5, lambda: revived.append(begin(tmp_path, port)[0]))
    later.start()
    try:
        answer = client.send(sent)
        assert (answer.accepted, answer.duplicates) == (20, 30)
    finally:
        later.join()
        revived[0].kill()
        revived[0].wait()
    assert count(tmp_path, "events") == 50
    with pytest.raises(MachineError) as caught:
        client.recommend("u")
    assert caught.value.code == "no_answer" and not client.ready()


@pytest.fixture
def stub() -> Iterator[Callable[..., tuple[str, list[dict[str, Any]]]]]:
    """A server that gives the answers it is told to, one after the other, and keeps what it was asked."""
    servers: list[http.server.ThreadingHTTPServer] = []

    def start(*answers: tuple[int, bytes, dict[str, str]] | None) -> tuple[str, list[dict[str, Any]]]:
        left, asked = list(answers), list[dict[str, Any]]()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                asked.append({"body": json.loads(body), "headers": dict(self.headers)})
                answer = left.pop(0)
                if answer is None:
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                    return
                status, content, headers = answer
                self.send_response(status)
                for name, value in {"content-length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}", asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


GOOD = (200, b'{"accepted": 1, "duplicates": 0, "rejected": [], "durable": true}', {})
BUSY = (503, b'{"code": "overloaded", "detail": "too much", "path": "$"}', {"retry-after": "1"})
EVENT = {"user_id": "u", "type": "click"}


def test_a_batch_is_repeated_word_for_word(stub: Any) -> None:
    url, asked = stub(None, BUSY, GOOD)
    begun = time.monotonic()
    assert Client(url, key="secret").send([EVENT]).accepted == 1
    assert time.monotonic() - begun > 1.0  # as long as the service asked to wait
    assert len(asked) == 3 and asked[0]["body"] == asked[1]["body"] == asked[2]["body"]
    assert asked[0]["body"]["events"][0]["event_id"] and asked[0]["headers"]["authorization"] == "Bearer secret"


def test_a_decision_is_asked_for_once(stub: Any) -> None:
    for answer in (None, BUSY):
        url, asked = stub(answer, GOOD)
        with pytest.raises(MachineError):
            Client(url).recommend("u")
        assert len(asked) == 1


def test_faults_are_named(stub: Any) -> None:
    cases = [
        ((507, b'{"code": "storage_full", "detail": "disk full", "path": "$"}', {}), MachineError, "storage_full"),
        ((401, b'{"code": "unauthorised", "detail": "no key", "path": "$"}', {}), UserError, "unauthorised"),
        ((500, b"<html>oops", {}), MachineError, "bad_answer"),
        ((200, b"<html>another server", {}), MachineError, "bad_answer"),
        ((200, b'{"accepted": "many"}', {}), MachineError, "bad_answer"),
    ]
    for answer, kind, code in cases:
        url, asked = stub(answer)
        with pytest.raises(kind) as caught:
            Client(url).send([EVENT])
        assert caught.value.code == code and len(asked) == 1


def test_a_silent_service_is_not_waited_for_for_ever() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        begun = time.monotonic()
        with pytest.raises(MachineError) as caught:
            Client(f"http://127.0.0.1:{deaf.getsockname()[1]}", timeout=0.2, retries=1).send([EVENT])
        assert caught.value.code == "no_answer" and time.monotonic() - begun < 3


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://x", "http://", "http://x:99999", "http://x/?a=b", ""])
def test_bad_addresses(url: str) -> None:
    with pytest.raises(UserError) as caught:
        Client(url)
    assert caught.value.code == "bad_url"


def test_it_is_one_of_the_public_names() -> None:
    assert qurate.Client is Client and "Client" in qurate.__all__
    with pytest.raises(UserError):
        Client("http://localhost", key="a\nb")
