"""POST /v1/recommend and /v1/events under load: requests per second, p50, p99, and where the time goes.

    python benchmarks/bench_http.py [--items 10000] [--seconds 5] [--double]

Starts one server process with an untrained network of the default shape over `--items` items (its arithmetic is that of
a trained one), gives each of 200 customers a full window of events, and asks for 10 items over 1 and 32 keep-alive
connections from this process, which shares the machine with it. `--double` serves without a network: the cost of all else.
"""

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

CUSTOMERS, WINDOW = 200, 50


class Connection(asyncio.Protocol):
    """One keep-alive connection that asks again as soon as it is answered."""

    def __init__(self, bodies: list[bytes], path: str, until: float) -> None:
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n".encode()
        self.requests = [head % len(body) + body for body in bodies]
        self.until, self.done = until, asyncio.get_running_loop().create_future()
        self.latencies: list[float] = []
        self.asked, self.buffer = 0.0, b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._ask()

    def _ask(self) -> None:
        if not self.requests or time.perf_counter() >= self.until:
            self.transport.close()
            self.done.set_result(None)
            return
        self.asked = time.perf_counter()
        self.transport.write(self.requests.pop())

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, gap, body = self.buffer.partition(b"\r\n\r\n")
        if gap and len(body) >= int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]):
            if not self.buffer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(self.buffer[:500])
            self.latencies.append(time.perf_counter() - self.asked)
            self.buffer = b""
            self._ask()


async def load(port: int, path: str, bodies: list[list[bytes]], seconds: float) -> dict[str, float]:
    """Latency in ms and requests per second of len(bodies) connections."""
    loop = asyncio.get_running_loop()
    start = time.perf_counter()
    connections = [Connection(part, path, start + seconds) for part in bodies]
    for connection in connections:
        await loop.create_connection(lambda connection=connection: connection, "127.0.0.1", port)
    await asyncio.gather(*(connection.done for connection in connections))
    taken = time.perf_counter() - start
    # The first answer of a connection waits for its accept, one per turn of the server's loop: not what is asked here.
    steady = np.array([one for connection in connections for one in connection.latencies[1:]]) * 1e3
    count = sum(len(connection.latencies) for connection in connections)
    return {"p50_ms": float(np.percentile(steady, 50)), "p99_ms": float(np.percentile(steady, 99)), "per_s": count / taken}


def event_batch(name: str, user: int, count: int, items: int) -> bytes:
    now = int(time.time() * 1000)
    events = [
        {
            "event_id": f"{name}-{i}",
            "type": "click",
            "user_id": f"u{user}",
            "item_id": f"i{(user * 7 + i) % items}",
            "timestamp": now - 1000 + i,
        }
        for i in range(count)
    ]
    return json.dumps({"events": events}).encode()


def metrics(url: str) -> dict[str, float]:
    page = urllib.request.urlopen(f"{url}/metrics").read().decode()
    return {name: float(value) for name, value in re.findall(r"^(qurate_\w+(?:\{[^}]*\})?) (\S+)$", page, re.M)}


def mean_ms(before: dict[str, float], after: dict[str, float], name: str, label: str = "") -> float:
    seconds, count = (after[f"{name}_{part}{label}"] - before[f"{name}_{part}{label}"] for part in ("sum", "count"))
    return 1e3 * seconds / max(count, 1)


def measure(url: str, items: int, seconds: float) -> list[dict[str, Any]]:
    port = int(url.rsplit(":", 1)[1])
    rows = []
    fill = [[event_batch(f"fill{user}", user, WINDOW, items) for user in range(CUSTOMERS)]]
    asyncio.run(load(port, "/v1/events", fill, 60))
    for path in ("/v1/recommend", "/v1/events x1", "/v1/events x100"):
        for connections in (1, 32):
            route, _, count = path.partition(" x")
            if count:
                per = int(seconds * (300 if count == "100" else 2000) / connections) + 50
                bodies = [
                    [event_batch(f"{path}{connections}-{c}-{i}", c, int(count), items) for i in range(per)] for c in range(connections)
                ]
            else:
                bodies = [[b'{"user_id": "u%d", "k": 10}' % (i % CUSTOMERS) for i in range(100_000)] for _ in range(connections)]
            before = metrics(url)
            row = asyncio.run(load(port, route, bodies, seconds))
            after = metrics(url)
            label = f'{{route="{route}"}}'
            commits = after["qurate_store_commit_seconds_count"] - before["qurate_store_commit_seconds_count"]
            row["in_server_ms"] = mean_ms(before, after, "qurate_http_request_seconds", label)
            row["model_ms"] = 0.0 if count else mean_ms(before, after, "qurate_decide_seconds")
            row["commit_ms"] = mean_ms(before, after, "qurate_store_commit_seconds")
            row["requests_per_commit"] = (
                after[f"qurate_http_request_seconds_count{label}"] - before[f"qurate_http_request_seconds_count{label}"]
            ) / max(commits, 1)
            rows.append({"name": f"{path}, {connections} connections", **{key: round(value, 3) for key, value in row.items()}})
    return rows


def serve_here(directory: Path, items: int, double: bool) -> None:
    """The server process."""
    from qurate.serving.http import run
    from qurate.serving.service import Service

    if double:
        sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "serving"))
        from double import KnownModel

        decider: Any = KnownModel(items=20, window=WINDOW)
    else:
        import torch

        from qurate.config import Settings
        from qurate.events.vocabulary import Vocabulary
        from qurate.policies.choose import epsilon_greedy_rule
        from qurate.policies.model import Model, build_network
        from qurate.serving.served import ServedModel

        torch.set_num_threads(1)
        settings = Settings(window=WINDOW)
        features = np.random.default_rng(0).normal(size=(items + 1, 24)).astype(np.float32)
        network = build_network(features, settings, n_types=3, user_dim=0, n_components=2, behaviour=False, seed=0)
        vocabulary = Vocabulary(tuple(f"i{i}" for i in range(items)), ("click", "purchase", "shown"))
        weights, popularity = np.ones(2, np.float32), np.zeros(items + 1, np.float32)
        model = Model(
            network.requires_grad_(False).eval(), settings, "dqn", vocabulary, ["click", "purchase"], weights, popularity, items, 0
        )
        decider = ServedModel(model, epsilon_greedy_rule(0.1))
        decider.warm_up()
    run(lambda: Service(decider, directory, 0), "127.0.0.1", 0, lambda url: print(url, flush=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--double", action="store_true")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve_here(arguments.serve, arguments.items, arguments.double)
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            __file__,
            "--serve",
            folder,
            "--items",
            str(arguments.items),
            *(["--double"] if arguments.double else []),
        ]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        try:
            assert server.stdout is not None
            for row in measure(server.stdout.readline().strip(), arguments.items, arguments.seconds):
                print(json.dumps(row))
        finally:
            server.terminate()
            server.wait(20)


if __name__ == "__main__":
    main()
