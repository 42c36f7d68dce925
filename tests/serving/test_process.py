"""The service as a process: killed, stopped, started twice, fed without end."""

import contextlib
import gc
import http.client
import json
import os
import random
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
import server_process

from forked import Forked
from qurate.serving.api.server import run
from qurate.serving.metrics import Metrics


class Running:
    """A service process."""

    def __init__(self, directory: Path, hangup: signal.Handlers = signal.SIG_DFL) -> None:
        """`hangup`: what SIGHUP did where it was started; `nohup` ignores it."""
        start = time.monotonic()
        self.process = Forked(directory.with_name("said"), server_process.serve, directory, 0, hangup)
        self.url, self.pid = self.process.read(), self.process.pid
        self.port = int(self.url.rsplit(":", 1)[-1])
        self.seconds = time.monotonic() - start

    def post(self, path: str, body: Any) -> dict[str, Any]:
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)  # type: ignore[no-any-return]

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def peak_mib(self) -> float:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def end(self, how: signal.Signals) -> tuple[int, str]:
        os.kill(self.pid, how)
        return self.wait()

    def wait(self) -> tuple[int, str]:
        """Exit code and standard error."""
        return self.process.wait(20)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def start(*hangup: signal.Handlers) -> Running:
        started.append(Running(tmp_path / "data", *hangup))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.wait()


def event(event_id: str, user: str = "u") -> dict[str, Any]:
    return {"event_id": event_id, "type": "click", "user_id": user, "item_id": "i4", "timestamp": int(time.time() * 1000)}


def stored(tmp_path: Path, sql: str) -> set[str]:
    return {row[0] for row in apsw.Connection(str(tmp_path / "data" / "events.sqlite")).execute(sql)}


def test_kill_9_loses_nothing_acknowledged(serve: Callable[..., Running], tmp_path: Path) -> None:
    running = serve()
    events, decisions = set[str](), set[str]()

    def customer(number: int) -> None:
        with contextlib.suppress(OSError, urllib.error.URLError, http.client.HTTPException, json.JSONDecodeError):
            for step in range(10_000):
                decided = running.post("/v1/recommend", {"user_id": f"u{number}", "k": 1})
                decisions.add(decided["decision_id"])
                batch = [event(f"{number}-{step}-{i}", f"u{number}") for i in range(5)]
                answer = running.post("/v1/events", {"events": batch})
                assert answer["accepted"] == 5 and answer["durable"]
                events.update(one["event_id"] for one in batch)

    customers = [threading.Thread(target=customer, args=(number,)) for number in range(4)]
    for one in customers:
        one.start()
    time.sleep(1 + random.random() / 10)
    assert running.end(signal.SIGKILL)[0] == -signal.SIGKILL
    for one in customers:
        one.join()
    assert len(events) > 50
    again = serve()
    assert again.seconds < 5
    assert events <= stored(tmp_path, "SELECT event_id FROM events")
    assert decisions <= stored(tmp_path, "SELECT decision_id FROM decisions")
    answer = again.post("/v1/events", {"events": [event(name) for name in sorted(events)[:100]]})
    assert (answer["accepted"], answer["duplicates"]) == (0, min(100, len(events)))
    assert again.post("/v1/recommend", {"user_id": "u0", "k": 1})["degraded"] is None  # the customer is still known


def test_sigterm_finishes_what_has_begun_and_exits_0(serve: Callable[..., Running], tmp_path: Path) -> None:
    running = serve()
    body = json.dumps({"events": [event("slow")]}).encode()
    with running.connect() as slow:
        slow.sendall(b"POST /v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(body) + body[:20])
        time.sleep(0.2)
        os.kill(running.pid, signal.SIGTERM)
        time.sleep(0.3)
        with pytest.raises(OSError):
            running.connect()
        slow.sendall(body[20:])
        answer = b"".join(iter(lambda: slow.recv(10_000), b""))
    assert answer.startswith(b"HTTP/1.1 200") and b'"accepted":1' in answer
    assert running.wait() == (0, "")
    assert stored(tmp_path, "SELECT event_id FROM events") == {"slow"}


def test_a_closed_terminal_stops_it_like_sigterm_unless_it_was_started_to_outlive_it(serve: Callable[..., Running], tmp_path: Path) -> None:
    running = serve(signal.SIG_DFL)  # whatever the tests themselves were started with
    assert running.post("/v1/events", {"events": [event("before")]})["accepted"] == 1
    assert running.end(signal.SIGHUP) == (0, "")
    assert stored(tmp_path, "SELECT event_id FROM events") == {"before"}
    outliving = serve(signal.SIG_IGN)
    os.kill(outliving.pid, signal.SIGHUP)
    time.sleep(0.3)
    assert outliving.post("/v1/events", {"events": [event("after")]})["accepted"] == 1
    assert outliving.end(signal.SIGTERM)[0] == 0


@pytest.mark.parametrize("how", ["removed", "replaced", "wal removed", "directory moved"])
def test_a_database_that_is_no_longer_there_is_noticed_before_anything_is_acknowledged(
    how: str, serve: Callable[..., Running], tmp_path: Path
) -> None:
    running = serve()
    assert running.post("/v1/events", {"events": [event("before")]})["accepted"] == 1
    database = tmp_path / "data" / "events.sqlite"
    lost = database.with_name("events.sqlite-wal") if how == "wal removed" else database
    if how == "directory moved":
        (tmp_path / "data").rename(tmp_path / "elsewhere")
    elif how == "replaced":
        (tmp_path / "other").write_bytes(database.read_bytes())
        (tmp_path / "other").replace(database)
    else:
        lost.unlink()
    with pytest.raises(urllib.error.HTTPError) as caught:
        running.post("/v1/events", {"events": [event("after")]})
    problem = json.load(caught.value)
    assert (caught.value.code, problem["code"]) == (503, "not_ready") and str(lost) in problem["detail"]
    decision = running.post("/v1/recommend", {"user_id": "u", "k": 1})
    assert decision["items"] and decision["degraded"] == "store_unavailable"
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"{running.url}/readyz", timeout=20)
    if how == "directory moved":  # put back, it works again without a restart
        (tmp_path / "elsewhere").rename(tmp_path / "data")
        time.sleep(1.5)
        assert running.post("/v1/events", {"events": [event("again")]})["accepted"] == 1
        assert urllib.request.urlopen(f"{running.url}/readyz", timeout=20).status == 200


def test_a_second_signal_does_not_wait(serve: Callable[..., Running]) -> None:
    running = serve()
    with running.connect() as stuck:
        stuck.sendall(b"POST /v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n")
        time.sleep(0.2)
        os.kill(running.pid, signal.SIGTERM)
        time.sleep(0.3)
        start = time.monotonic()
        assert running.end(signal.SIGTERM) == (0, "")
        assert time.monotonic() - start < 3


def test_a_second_process_on_the_directory_is_refused(serve: Callable[..., Running], tmp_path: Path) -> None:
    first = serve()
    second = Forked(tmp_path / "second", server_process.serve, tmp_path / "data", 0, signal.SIG_DFL)
    with pytest.raises(EOFError):
        second.read()
    code, errors = second.wait(20)
    assert code == 1
    assert errors.count("\n") == 1 and "Traceback" not in errors
    assert f"in use by process {first.pid}, at {tmp_path / 'data'}" in errors


def pour(running: Running, head: bytes, piece: bytes, limit: int) -> bytes:
    """Sends `piece` again and again until an answer comes, at most `limit` bytes."""
    with running.connect() as connection:
        sent, answer = 0, b""
        with contextlib.suppress(OSError):
            connection.sendall(head)
            while sent < limit:
                connection.sendall(piece)
                sent += len(piece)
                connection.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    answer = connection.recv(100_000)
                    break
                connection.settimeout(20)
        with contextlib.suppress(OSError):
            connection.settimeout(5)
            while part := connection.recv(100_000):
                answer += part
    return answer


def test_what_comes_without_end_is_cut_in_bounded_memory(serve: Callable[..., Running]) -> None:
    running = serve()
    before = running.peak_mib()
    mib, limit = 1 << 20, 200 << 20
    chunk = b"%x\r\n" % mib + b" " * mib + b"\r\n"
    post = b"POST /v1/events HTTP/1.1\r\nhost: localhost\r\n"
    chunked = pour(running, post + b"transfer-encoding: chunked\r\n\r\n", chunk, limit)
    assert chunked.startswith(b"HTTP/1.1 413") and b"too_large" in chunked
    announced = pour(running, post + b"content-length: 99999999999\r\n\r\n", b"x" * mib, limit)
    assert announced.startswith(b"HTTP/1.1 413")
    bomb = pour(running, post + b"content-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n", chunk, limit)
    assert bomb.startswith(b"HTTP/1.1 400")
    for name in (b"x-header: ", b"", b"x: y\r\n"):
        assert pour(running, post + name, name * 100 + b"z" * 1000, limit)[:12] in (b"HTTP/1.1 413", b"HTTP/1.1 400", b"")
    trailers = pour(running, post + b"transfer-encoding: chunked\r\n\r\n0\r\n", b"t: " + b"z" * 1000, limit)
    assert trailers[:12] in (b"HTTP/1.1 413", b"HTTP/1.1 400", b"")
    assert running.peak_mib() - before < 80
    assert running.post("/v1/recommend", {"k": 1})["items"]


def test_the_process_survives_malformed_bytes(serve: Callable[..., Running]) -> None:
    running = serve()
    for raw in (b"\x00" * 100, b"GET / HTTP/9.9\r\n\r\n", b"POST /v1/events HTTP/1.1\r\ncontent-length: -1\r\n\r\n", os.urandom(1000)):
        with running.connect() as connection:
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(1000)
            assert not answer or answer.startswith(b"HTTP/1.1 4")
    assert running.post("/v1/recommend", {"k": 1})["items"]
    code, _ = running.end(signal.SIGTERM)
    assert code == 0


def test_what_was_frozen_for_the_service_is_collected_again_after_it() -> None:
    class Closes:
        metrics = Metrics()

        def close(self) -> None:
            assert gc.get_freeze_count() == before

    def stop(url: str) -> None:
        assert gc.get_freeze_count() > before, "what there is when the service begins is not looked through again"
        raise KeyboardInterrupt

    gc.unfreeze()  # whoever started the tests may have frozen what it imported
    before = gc.get_freeze_count()
    service: Any = Closes()
    with pytest.raises(KeyboardInterrupt):
        run(lambda: service, "127.0.0.1", 0, stop)
    assert gc.get_freeze_count() == before
