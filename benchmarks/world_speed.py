"""How fast every simulated world is, and what a customer takes of memory: the table of docs/scenarios/speed.md.

    python benchmarks/world_speed.py [--only live news] [--seconds 2] [--customers DIRECTORY]

Seconds are processor time of one thread within `BatchedEngine.step`, with the window of `train --env`, histories and observations built
and customers changed where they leave; each figure is the median of many short turns. What is shown is drawn evenly from what is open,
outside of the measured time. Memory is what NumPy holds for the engine and its last answer after 14 steps. The customers of `fitted` are
those of a log of `shop` (4,000 customers, 60 decisions each); `--customers` takes a directory of them instead of fitting them again.
Without `--only` the table goes into the page.
"""

import argparse
import gc
import os
import tempfile
import time
import tracemalloc
from collections.abc import Mapping, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads: small products lose to the barrier

import numpy as np

from qurate.baselines.registry import random_policy
from qurate.bench.run import WINDOW, machine
from qurate.environments.engine import BatchedEngine
from qurate.environments.fitted_customers import write_customers
from qurate.environments.log_writer import simulate
from qurate.environments.registry import make_engine
from qurate.events.readers import read_events
from qurate.mdp.dataset import build_dataset
from qurate.training.fit_customers import fit_customers
from qurate.training.run import intra_op_threads
from qurate.types import IntArray, Observation

PAGE = Path(__file__).resolve().parents[1] / "docs/scenarios/speed.md"
MARKS = ("<!-- world_speed -->", "<!-- end world_speed -->")
USERS = (1, 1_024, 100_000)
OF_ALL = {1: 10_000, 1_024: 300_000}
"""Least user-steps/s of a world that has no aims of its own, by users."""
WORLDS: Mapping[str, Mapping[int, int]] = {
    "shop": OF_ALL | {1_024: 1_000_000},
    "shop,n_items=1000,slate_size=5": {1_024: 500_000},
    "live": OF_ALL,
    "news": OF_ALL,
    "interest_evolution,slate_size=2": OF_ALL | {1_024: 1_500_000},
    "long_term_satisfaction": OF_ALL,
    "matrix": OF_ALL,
    "fitted": OF_ALL,
    "toy_chain": OF_ALL,
    "toy_clickbait": OF_ALL,
    "toy_satiation": OF_ALL,
    "toy_delayed": OF_ALL,
}
"""Arguments of `make_engine`, and the aims."""
FEWEST_TURNS = 7


def customers_of_shop(path: Path) -> Path:
    """Fits customers to a log of `shop` and writes them under `path`."""
    simulate(make_engine("shop"), random_policy(), 4_000, 60, 0, path / "log/events.parquet")
    data = build_dataset(read_events(path / "log"), rewards={"click": 1, "cart": 2, "purchase": 5})
    write_customers(fit_customers(data).customers, path / "customers")
    return path / "customers"


def drawn(observation: Observation, slate_size: int, rng: np.random.Generator) -> IntArray:
    """Positions of open candidates, evenly: int64 [B] or, distinct, [B, k]."""
    candidates, mask = observation.actions[:2]
    n, k = candidates.shape
    if slate_size > 1:
        first, step = (rng.integers(low, high, (n, 1), np.int64) for low, high in ((0, k), (1, max(k // slate_size, 2))))
        several: IntArray = (first + step * np.arange(slate_size)) % k
        return several
    if mask.strides[1] == 0:  # always open
        return rng.integers(0, k, (n,), np.int64)
    return np.asarray((mask * rng.random(mask.shape, np.float32)).argmax(axis=1))


def step_seconds(engine: BatchedEngine, users: int, seconds: float) -> float:
    """Processor seconds of one user-step: the median of turns, after a first one that does not count."""
    rng, calls = np.random.default_rng(0), max(1, min(2_000, 20_000 // users))
    observation = engine.reset(0, users)
    taken: list[float] = []
    until = time.process_time() + seconds
    while len(taken) <= FEWEST_TURNS or time.process_time() < until:
        spent = 0.0
        for _ in range(calls):
            actions = drawn(observation, engine.slate_size, rng)
            began = time.process_time()
            feedback = engine.step(actions)
            spent += time.process_time() - began
            observation = feedback.obs
        taken.append(spent / calls / users)
    return float(np.median(taken[1:]))


def bytes_of_user(name: str, users: int = 10_000) -> float:
    """What NumPy holds for each customer of an engine and of its last answer; shared tables of the world are not counted."""
    rng = np.random.default_rng(0)
    engine = made(name)
    gc.collect()
    tracemalloc.start()
    observation = engine.reset(0, users)
    for _ in range(14):
        feedback = engine.step(drawn(observation, engine.slate_size, rng))
        observation = feedback.obs
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held / users


def made(name: str) -> BatchedEngine:
    """With the window of `train --env`."""
    return make_engine(name, window=WINDOW)


def line(label: str, name: str, aims: Mapping[int, int], seconds: float) -> str:
    """One row of the table."""
    cells = []
    for users in USERS:
        per_second = 1 / step_seconds(made(name), users, seconds)
        short = users in aims and per_second < aims[users]
        cells.append(f"{per_second:,.0f}" + (f" (**short** of {aims[users]:,})" if short else ""))
        print(f"{label}, {users:,}: {per_second:,.0f} user-steps/s", flush=True)
    return f"| `{label}` | {' | '.join(cells)} | {bytes_of_user(name) / 1_000:.1f} |"


def table(lines: Sequence[str], figures: Mapping[str, float]) -> str:
    """Markdown, with the machine's own speed in the same minutes."""
    head = [
        f"One core of this machine: {figures['gflops']} GFLOP/s (float32 matrix product), {figures['gb_s']} GB/s (copying, read and "
        f"written). Measured {time.strftime('%Y-%m-%d')} by `python benchmarks/world_speed.py`.",
        "",
        f"| user-steps per second of processor time | {' | '.join(f'{n:,} user' + 's' * (n > 1) for n in USERS)} | kB a user |",
        "|---|---:|---:|---:|---:|",
    ]
    return "\n".join([*head, *lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(WORLDS), help="these rows alone; the page stays as it is")
    parser.add_argument("--seconds", type=float, default=2.0, help="processor seconds for each figure, at least")
    parser.add_argument("--customers", type=Path, help="of a log of shop, as `qurate customers` writes them")
    args = parser.parse_args()
    intra_op_threads(1)
    chosen = args.only or list(WORLDS)
    with tempfile.TemporaryDirectory() as folder:
        known = args.customers or (customers_of_shop(Path(folder)) if "fitted" in chosen else None)
        names = {label: f"fitted,from={known}" if label == "fitted" else label for label in chosen}
        lines = [line(label, name, WORLDS[label], args.seconds) for label, name in names.items()]
    text = table(lines, machine())
    print(text)
    if args.only is None:
        page = PAGE.read_text(encoding="utf-8")
        before, after = page.split(MARKS[0])[0], page.split(MARKS[1])[1]
        PAGE.write_text(f"{before}{MARKS[0]}\n\n{text}\n\n{MARKS[1]}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
