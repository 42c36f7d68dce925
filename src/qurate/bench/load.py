"""A server process to be measured, and a client that keeps it busy: what `qurate bench http` and benchmarks/bench_http.py share."""

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

CUSTOMERS, WINDOW = 200, 50


def whole(answer: bytes) -> bool:
    """Whether all of an answer has come: its head, and as many bytes of body as that announces."""
    head, gap, body = answer.partition(b"\r\n\r\n")
    return bool(gap) and len(body) >= int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])


class Connection(asyncio.Protocol):
    """One keep-alive connection that asks again as soon as it is answered."""

    def __init__(self, bodies: Iterable[bytes], path: str, seconds: float) -> None:
        self.head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n".encode()
        self.bodies, self.seconds = iter(bodies), seconds
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.latencies: list[float] = []
        self.until, self.asked, self.buffer = 0.0, 0.0, b""

    def connection_made(self, transport: Any) -> None:
        """Asks for the first time."""
        self.transport = transport
        self.until = time.perf_counter() + self.seconds
        self._ask()

    def _ask(self) -> None:
        body = next(self.bodies, None)
        if body is None or time.perf_counter() >= self.until:
            self.transport.close()
            self.done.set_result(None)
            return
        request = self.head % len(body) + body
        self.asked = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Notes the time of a whole answer and asks again."""
        self.buffer += data
        if whole(self.buffer):
            if not self.buffer.startswith(b"HTTP/1.1 200"):
                self.done.set_exception(RuntimeError(self.buffer[:500].decode(errors="replace")))
                self.transport.close()
                return
            self.latencies.append(time.perf_counter() - self.asked)
            self.buffer = b""
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        """A server that goes away must not leave the client waiting."""
        if not self.done.done():
            self.done.set_exception(exc or RuntimeError("the server closed the connection"))


async def load(port: int, path: str, bodies: Sequence[Iterable[bytes]], seconds: float) -> dict[str, float]:
    """Latency in ms and requests per second of len(bodies) connections."""
    loop = asyncio.get_running_loop()
    connections = [Connection(part, path, seconds) for part in bodies]
    start = time.perf_counter()
    for connection in connections:
        await loop.create_connection(lambda connection=connection: connection, "127.0.0.1", port)  # type: ignore[misc]
    await asyncio.gather(*(connection.done for connection in connections))
    taken = time.perf_counter() - start
    # The first answer of a connection waits for its accept, one per turn of the server's loop: not what is asked here.
    steady = np.array([one for connection in connections for one in connection.latencies[1:]]) * 1e3
    count = sum(len(connection.latencies) for connection in connections)
    return {"p50_ms": float(np.percentile(steady, 50)), "p99_ms": float(np.percentile(steady, 99)), "per_s": count / taken}


def event_batch(name: str, user: int, count: int, items: int) -> bytes:
    """The body of POST /v1/events with `count` new clicks of one customer."""
    now = int(time.time() * 1000)
    one = {"type": "click", "user_id": f"u{user}"}
    events = [
        {"event_id": f"{name}-{i}", "item_id": f"i{(user * 7 + i) % items}", "timestamp": now - 1000 + i, **one} for i in range(count)
    ]
    return json.dumps({"events": events}).encode()


def recommendations(connections: int) -> list[Iterable[bytes]]:
    """Bodies of POST /v1/recommend without end, for each connection, over all customers."""
    return [cycle([b'{"user_id": "u%d", "k": 10}' % ((i + 7 * c) % CUSTOMERS) for i in range(CUSTOMERS)]) for c in range(connections)]


class Running(NamedTuple):
    """A server process that can be asked."""

    url: str
    pid: int

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rsplit(":", 1)[1])

    def cpu_seconds(self) -> float:
        """Processor time of all its threads so far; 0 where the system does not tell."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def metrics(url: str) -> dict[str, float]:
    """What the server counts: name with labels -> value."""
    page = urllib.request.urlopen(f"{url}/metrics").read().decode()
    return {name: float(value) for name, value in re.findall(r"^(qurate_\w+(?:\{[^}]*\})?) (\S+)$", page, re.M)}


def where_time_goes(before: dict[str, float], after: dict[str, float], route: str) -> dict[str, float]:
    """Between two readings of the metrics: mean ms of a request in the server, of a batch in the model, of a commit; and how
    many requests share a batch and a commit."""

    def mean(name: str, label: str = "") -> float:
        seconds, count = (after[f"{name}_{part}{label}"] - before[f"{name}_{part}{label}"] for part in ("sum", "count"))
        return 1e3 * seconds / max(count, 1)

    label = f'{{route="{route}"}}'
    requests, batches, commits = (
        after[f"qurate_{name}"] - before[f"qurate_{name}"]
        for name in (f"http_request_seconds_count{label}", "decide_seconds_count", "store_commit_seconds_count")
    )
    return {
        "in_server_ms": mean("qurate_http_request_seconds", label),
        "model_ms": mean("qurate_decide_seconds"),
        "commit_ms": mean("qurate_store_commit_seconds"),
        "requests_per_batch": requests / batches if batches else 0.0,
        "requests_per_commit": requests / max(commits, 1),
    }


def measure(process: Running, route: str, bodies: Sequence[Iterable[bytes]], seconds: float) -> dict[str, float]:
    """`load` and `where_time_goes` of one burst of requests, and the server's processor time for one."""
    label = f'qurate_http_request_seconds_count{{route="{route}"}}'
    before, worked = metrics(process.url), process.cpu_seconds()
    figures = asyncio.run(load(process.port, route, bodies, seconds))
    worked, after = process.cpu_seconds() - worked, metrics(process.url)
    figures["cpu_ms"] = 1e3 * worked / max(after[label] - before[label], 1)
    return figures | where_time_goes(before, after, route)


@contextmanager
def server(command: list[str], items: int, environment: dict[str, str] | None = None) -> Generator[Running, None, None]:
    """A server started by `command DIR`, whose customers all have a full window of events of `items` items (0: none is told it).

    It and this process get a core each.
    """
    with tempfile.TemporaryDirectory() as folder, own_core() as other:
        settings = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
        process = subprocess.Popen([*command, folder], stdout=subprocess.PIPE, text=True, env=settings)
        try:
            if other is not None:
                os.sched_setaffinity(process.pid, {other})
            assert process.stdout is not None
            running = Running(process.stdout.readline().strip(), process.pid)
            if items:
                fill = [[event_batch(f"fill{user}", user, WINDOW, items) for user in range(CUSTOMERS)]]
                asyncio.run(load(running.port, "/v1/events", fill, 60))
            yield running
        finally:
            process.terminate()
            process.wait(20)


@contextmanager
def own_core() -> Generator[int | None, None, None]:
    """This process on one core; yields another one for the server, or None where there are not two, or the system has no such call."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < 2:
        yield None
        return
    os.sched_setaffinity(0, {cores[-1]})
    try:
        yield cores[0]
    finally:
        os.sched_setaffinity(0, cores)


def untrained(items: int) -> Any:
    """A served model of the default shape over `items` items: its arithmetic is that of a trained one."""
    import torch

    from qurate.events.vocabulary import Vocabulary
    from qurate.models.model import Model
    from qurate.models.network_ranker import NetworkRanker
    from qurate.models.parts import Answering, Provenance
    from qurate.networks.build import build_network
    from qurate.serving.served import ServedModel
    from qurate.settings import from_flat
    from qurate.types import Availability

    torch.set_num_threads(1)
    settings = from_flat({"window": WINDOW})
    features = np.random.default_rng(0).normal(size=(items + 1, 24)).astype(np.float32)
    network = build_network(features, settings, n_types=3, user_dim=0, n_components=2, behaviour=False, seed=0)
    vocabulary = Vocabulary(tuple(f"i{i}" for i in range(items)), ("click", "purchase", "shown"))
    model = Model(
        ranker=NetworkRanker(network, features),
        availability=Availability.always(items),
        provenance=Provenance(algorithm="dqn", settings=settings),
        answering=Answering(
            vocabulary=vocabulary,
            components=["click", "purchase"],
            weights=np.ones(2, np.float32),
            popularity=np.zeros(items + 1, np.float32),
            user_dim=0,
        ),
    )
    served = ServedModel(model, 0.1)
    served.warm_up()
    return served


def serve(deployment: Any, directory: Path) -> None:
    """The server process: prints its address, serves until it is stopped."""
    from qurate.serving.api.server import run
    from qurate.serving.service import Service
    from qurate.serving.stores.sqlite import SqliteStore

    run(lambda: Service(deployment, partial(SqliteStore, directory), 0), "127.0.0.1", 0, lambda url: print(url, flush=True))


if __name__ == "__main__":
    serve(untrained(int(sys.argv[1])), Path(sys.argv[2]))
