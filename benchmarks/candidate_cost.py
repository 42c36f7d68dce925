"""What features of a candidate cost: an update on a log with them and without, and a service's answer with clocks and without.

    python benchmarks/candidate_cost.py [--data FOLDER] [--updates 60] [--answers 40] [--seconds 4]

Updates are those of `train` on trivago_100k (lists of 25 shown hotels with places and prices) with `candidate_features=on` and `off`.
Answers are ten items for each of 1 and of 32 customers of kuairand (9,359 videos) by a model with shortlists and clocks, and by one that
ranks the catalogue. Processor seconds of one thread; turns of both alternate, and the median is printed with the ratio. Then the same
answers over HTTP, from two servers in turns: processor time of the server for a request, reading, choosing, writing and syncing to disk.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads: small products lose to the barrier

import numpy as np

from qurate import build_dataset, load, read_events, train
from qurate.bench.load import Running, measure, serve, server
from qurate.mdp.storage import Dataset
from qurate.serving.deployments import DecisionRequest
from qurate.serving.served import ServedModel
from qurate.serving.windows import UserWindow
from qurate.training.run import intra_op_threads

K, TURNS = 10, 9


def medians(one: Callable[[int], float], other: Callable[[int], float]) -> tuple[float, float]:
    """Of alternating turns; each call gets the number of its turn and gives seconds."""
    taken = [(one(turn), other(turn)) for turn in range(TURNS)]
    first, second = np.median(np.array(taken), axis=0).tolist()
    return first, second


def update_seconds(dataset: Dataset, features: bool, updates: int) -> Callable[[int], float]:
    """Processor seconds of an update: of a training of `updates`, less one of a third of them."""

    def trained(steps: int) -> float:
        began = time.process_time()
        train(dataset, steps=steps, seed=0, histories=False, candidate_features=features)
        return time.process_time() - began

    return lambda turn: (trained(updates) - trained(updates // 3)) / (updates - updates // 3)


def answer_seconds(served: ServedModel, together: int, answers: int) -> Callable[[int], float]:
    """Processor seconds of one batch of `together` customers of the training log, each asking a moment after the log's end."""
    assert served.model.histories is not None
    users = [str(user) for user in served.model.histories.index]
    windows = [served.user_history(user) or UserWindow() for user in users]
    clock = max(max(window.times) for window in windows if window.times) + 60_000_000
    rng = np.random.default_rng(0)

    def batch(turn: int, i: int) -> list[DecisionRequest]:
        at = [(turn * answers * together + i * together + j) % len(users) for j in range(together)]
        return [DecisionRequest(users[u], windows[u], clock + i, K) for u in at]

    def taken(turn: int) -> float:
        asked = [batch(turn, i) for i in range(answers)]
        began = time.process_time()
        for requests in asked:
            served.decide(requests, rng)
        return (time.process_time() - began) / answers

    return taken


def http_seconds(running: Running, users: list[str], connections: int, seconds: float) -> Callable[[int], float]:
    """Processor seconds of the server for a request of `connections` that ask as soon as they are answered."""
    bodies = [b'{"user_id": "%s", "k": %d}' % (user.encode(), K) for user in users]

    def taken(turn: int) -> float:
        asked = [cycle(bodies[c:] + bodies[:c]) for c in range(connections)]
        return measure(running, "/v1/recommend", asked, seconds)["cpu_ms"] / 1e3

    return taken


def line(name: str, unit: float, of: tuple[float, float]) -> None:
    """One figure: with, without, and how many times as much."""
    print(f"{name}: {of[0] * unit:.2f} ms with, {of[1] * unit:.2f} ms without: {of[0] / of[1]:.2f} times", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("QURATE_DATA", ".")))
    parser.add_argument("--updates", type=int, default=60)
    parser.add_argument("--answers", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--serve", type=Path, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    intra_op_threads(1)
    if args.serve:
        served = ServedModel(load(args.serve[0]), 0.1)
        served.warm_up()
        serve(served, args.serve[1])
        return
    hotels = build_dataset(read_events(args.data / "trivago_100k/sessions.parquet"), episode="session")
    line("update on trivago_100k", 1e3, medians(*(update_seconds(hotels, features, args.updates) for features in (True, False))))
    [videos] = (args.data / "kuairand").glob("*.parquet")
    rewards: dict[str, Any] = {"watch": {"weight": 0.01, "per": "value", "cap": 60}, "like": 1, "hide": -1}
    log = build_dataset(read_events(videos), rewards=rewards, episode="user")
    models = [train(log, steps=200, seed=0, clocks=clocks) for clocks in ("on", "off")]
    name = f"{K} of {len(log.vocabulary.items):,} items"
    for together in (1, 32):
        with_clocks, without = (answer_seconds(ServedModel(model, 0.1), together, args.answers) for model in models)
        line(f"{name} for {together} at once", 1e3, medians(with_clocks, without))
    assert models[0].histories is not None
    users = [str(user) for user in models[0].histories.index]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        paths = [Path(folder, name) for name in ("on", "off")]
        for model, path in zip(models, paths):
            model.save(path)
        both = [running.enter_context(server([sys.executable, __file__, "--serve", str(path)], 0)) for path in paths]
        for connections in (1, 32):
            with_clocks, without = (http_seconds(one, users, connections, args.seconds) for one in both)
            line(f"{name} over HTTP, {connections} connections", 1e3, medians(with_clocks, without))


if __name__ == "__main__":
    main()
