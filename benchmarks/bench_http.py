"""POST /v1/recommend and /v1/events under load: requests per second, p50, p99, and where the time goes.

    python benchmarks/bench_http.py [--items 10000] [--seconds 5] [--double]

More than `qurate bench http`: events too, one by one and a hundred at a time. `--double` serves the tests' model double
instead of a network: the cost of all else.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from qurate.bench.load import WINDOW, event_batch, measure, recommendations, serve, server


def bodies_of(path: str, connections: int, seconds: float, items: int) -> Sequence[Iterable[bytes]]:
    """Requests for each connection, more than it can send in time."""
    _, _, count = path.partition(" x")
    if not count:
        return recommendations(connections)
    per = int(seconds * (300 if count == "100" else 2000) / connections) + 50
    return [[event_batch(f"{path}{connections}-{c}-{i}", c, int(count), items) for i in range(per)] for c in range(connections)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--double", action="store_true")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "serving"))
        from double import KnownModel

        serve(KnownModel(items=20, window=WINDOW), arguments.serve)
        return
    network = [sys.executable, "-m", "qurate.bench.load", str(arguments.items)]
    with server([sys.executable, __file__, "--serve"] if arguments.double else network, arguments.items) as url:
        for path in ("/v1/recommend", "/v1/events x1", "/v1/events x100"):
            for connections in (1, 32):
                bodies = bodies_of(path, connections, arguments.seconds, arguments.items)
                figures = measure(url, path.partition(" x")[0], bodies, arguments.seconds)
                row = {"name": f"{path}, {connections} connections"} | {key: round(value, 3) for key, value in figures.items()}
                print(json.dumps(row))


if __name__ == "__main__":
    main()
