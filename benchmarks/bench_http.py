"""POST /v1/recommend and /v1/events under load: requests per second, p50, p99, and where the time goes.

    python benchmarks/bench_http.py [--items 10000] [--seconds 5] [--double] [--fastapi DIR]

More than `qurate bench http`: events too, one by one and a hundred at a time; and recommendations at twice the rate that 32
connections reached, whether they are answered or not. `--double` serves the tests' model double instead of a network: the
cost of all else. The server has one core and the clients another (Linux); `cpu_ms` is the processor time of the server for a
request, which other work on the machine changes less than it changes the rate.

The last rows compare with `fastapi_server.py`, a plain FastAPI and eager torch server of the same answer. FastAPI is not
among the project's dependencies: `pip install --target DIR fastapi`, then `--fastapi DIR`; without it the rows are left out.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qurate.bench.load import CUSTOMERS, WINDOW, event_batch, load, measure, recommendations, serve, server, whole


def bodies_of(path: str, connections: int, seconds: float, items: int) -> Sequence[Iterable[bytes]]:
    """Requests for each connection, more than it can send in time."""
    _, _, count = path.partition(" x")
    if not count:
        return recommendations(connections)
    per = int(seconds * (300 if count == "100" else 2000) / connections) + 50
    return [[event_batch(f"{path}{connections}-{c}-{i}", c, int(count), items) for i in range(per)] for c in range(connections)]


class Line(asyncio.Protocol):
    """One keep-alive connection of a client that does not wait for answers before others ask."""

    def __init__(self, idle: list["Line"], took: dict[bytes, list[float]]) -> None:
        self.idle, self.took, self.asked, self.buffer = idle, took, 0.0, b""

    def connection_made(self, transport: Any) -> None:
        """Ready to ask."""
        self.transport = transport
        self.idle.append(self)

    def ask(self, request: bytes) -> None:
        """Sends one request; the line is idle again once it is answered."""
        self.asked = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Notes the status and the time of a whole answer."""
        self.buffer += data
        if whole(self.buffer):
            self.took.setdefault(self.buffer[9:12], []).append(1e3 * (time.perf_counter() - self.asked))
            self.buffer = b""
            self.idle.append(self)


async def overload(port: int, rate: float, seconds: float, lines: int = 1_000) -> dict[str, float]:
    """Requests at a fixed rate, whatever becomes of them; what the admitted, the refused and /livez then meet."""
    loop = asyncio.get_running_loop()
    idle: list[Line] = []
    took: dict[bytes, list[float]] = {}
    lived: list[Line] = []
    alive: dict[bytes, list[float]] = {}
    for pool, answers, count in ((idle, took, lines), (lived, alive, 1)):
        for _ in range(count):
            await loop.create_connection(lambda pool=pool, answers=answers: Line(pool, answers), "127.0.0.1", port)  # type: ignore[misc]
    head = b"POST /v1/recommend HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n"
    requests = [head % len(body) + body for body, _ in zip(recommendations(1)[0], range(CUSTOMERS))]
    asked, unsent, begun = 0, 0, time.perf_counter()
    while (now := time.perf_counter() - begun) < seconds:
        for _ in range(int(now * rate) - asked - unsent):
            if idle:
                idle.pop().ask(requests[asked % CUSTOMERS])
                asked += 1
            else:
                unsent += 1
        if lived and len(alive.get(b"200", ())) < now * 10:
            lived.pop().ask(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
        await asyncio.sleep(0.0005)
    while len(idle) < lines or not lived:
        await asyncio.sleep(0.01)
    served, refused = (np.array(took.get(status, [np.nan])) for status in (b"200", b"503"))
    return {
        "asked_per_s": asked / seconds, "unsent_per_s": unsent / seconds, "served_per_s": len(served) / seconds,
        "refused_per_s": len(took.get(b"503", ())) / seconds, "served_p50_ms": float(np.percentile(served, 50)),
        "served_p99_ms": float(np.percentile(served, 99)), "refused_p50_ms": float(np.percentile(refused, 50)),
        "refused_p99_ms": float(np.percentile(refused, 99)), "livez_max_ms": max(alive[b"200"]),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--double", action="store_true")
    parser.add_argument("--fastapi", type=Path, metavar="DIR", help="where `pip install --target DIR fastapi` put it")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "serving"))
        from double import KnownModel

        serve(KnownModel(items=20, window=WINDOW), arguments.serve)
        return
    network = [sys.executable, "-m", "qurate.bench.load", str(arguments.items)]
    rates: dict[int, float] = {}
    with server([sys.executable, __file__, "--serve"] if arguments.double else network, arguments.items) as process:
        for path in ("/v1/recommend", "/v1/events x1", "/v1/events x100"):
            for connections in (1, 32):
                bodies = bodies_of(path, connections, arguments.seconds, arguments.items)
                figures = measure(process, path.partition(" x")[0], bodies, arguments.seconds)
                show(f"{path}, {connections} connections", figures)
                if path == "/v1/recommend":
                    rates[connections] = figures["per_s"]
                if path == "/v1/recommend" and connections == 32:
                    twice = asyncio.run(overload(process.port, 2 * figures["per_s"], arguments.seconds))
                    show(f"{path}, twice the rate of {connections} connections", twice)
    if not arguments.double:
        compare(arguments, rates)


def show(name: str, figures: dict[str, float]) -> None:
    """One row on stdout."""
    print(json.dumps({"name": name} | {key: round(value, 3) for key, value in figures.items()}), flush=True)


def compare(arguments: argparse.Namespace, rates: dict[int, float]) -> None:
    """Rates of the plain FastAPI server, and how many times that the service answers."""
    if arguments.fastapi is None or not (arguments.fastapi / "fastapi").is_dir():
        print("note: no comparison with FastAPI: pip install --target DIR fastapi, then --fastapi DIR", file=sys.stderr)
        return
    command = [sys.executable, str(Path(__file__).with_name("fastapi_server.py")), str(arguments.items)]
    paths = os.pathsep.join([str(arguments.fastapi), os.environ.get("PYTHONPATH", "")])
    with server(command, arguments.items, {"PYTHONPATH": paths}) as process:
        for connections, ours in rates.items():
            figures = asyncio.run(load(process.port, "/v1/recommend", recommendations(connections), arguments.seconds))
            show(f"plain FastAPI, {connections} connections", figures | {"service_times_faster": ours / figures["per_s"]})


if __name__ == "__main__":
    main()
