"""CartPole-v1 on one core: wall time until 100 greedy episodes have a mean of 475, and what is kept at the end.

    python benchmarks/cart_pole.py [--algorithms dqn rainbow ...] [--seeds 0 1 2 3 4] [--steps 50000] [--every 5000]
        [-o cart_pole.csv] [--set KEY=VALUE ...]

Per algorithm and seed: training with the defaults of tasks, in parts of `--every` decisions; after each part 100 greedy episodes
of the averaged network, whose time is not counted. `reached_s` is the training time when their mean first was 475 or more;
`last_quarter` is the mean over the evaluations of the last quarter of training, never the best of them. A row is written when it
is done; rows that the file already holds are not run again.
"""

import argparse
import csv
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads: small products lose to the barrier

import numpy as np

from qurate.choosing.policy import ScoredPolicy
from qurate.environments.given import task_of
from qurate.evaluation.intervals import student_t
from qurate.evaluation.rollouts import customers_seed, rollout
from qurate.models.model import Model
from qurate.training.run import intra_op_threads
from qurate.training.train import train

GOAL, EPISODES = 475.0, 100
COLUMNS = ("algorithm", "seed", "set", "steps", "reached_s", "reached_steps", "last_quarter", "final", "seconds")
SUPPORT = {"v_min": "0", "v_max": "110"}
"""Of c51 and rainbow: with gamma 0.99 no return of CartPole is above 100."""


def one_run(algorithm: str, seed: int, steps: int, every: int, given: dict[str, Any]) -> dict[str, Any]:
    """A row of the table."""
    support = SUPPORT if algorithm in ("c51", "rainbow") else {}
    curve: list[float] = []
    seconds, reached = 0.0, (float("nan"), 0)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        for until in range(every, steps + 1, every):
            began = time.perf_counter()
            fresh: dict[str, Any] = {"env": "CartPole-v1", "algorithm": algorithm, "seed": seed, **support, **given}
            model = train(steps=until, **({"resume": path} if curve else fresh))
            seconds += time.perf_counter() - began
            model.save(path)
            curve.append(greedy_return(model, seed))
            if np.isnan(reached[0]) and curve[-1] >= GOAL:
                reached = (seconds, until)
    last = curve[-max(1, len(curve) // 4) :]
    named = " ".join(f"{k}={v}" for k, v in given.items())
    values = (algorithm, seed, named, steps, round(reached[0], 1), reached[1], float(np.mean(last)), curve[-1], round(seconds, 1))
    return dict(zip(COLUMNS, values, strict=True))


def greedy_return(model: Model, seed: int) -> float:
    """Mean return of the greedy policy over `EPISODES` whole episodes, the same ones after each part of a seed's training."""
    engine = task_of("CartPole-v1")
    try:
        return float(rollout(engine, ScoredPolicy(model), customers_seed(seed, "evaluate"), EPISODES).returns.mean())
    finally:
        engine.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithms", nargs="+", default=["dqn"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--steps", type=int, default=50_000)
    parser.add_argument("--every", type=int, default=5_000)
    parser.add_argument("-o", "--output", type=Path, default=Path("cart_pole.csv"))
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    intra_op_threads(1)
    given = dict(pair.split("=", 1) for pair in options.set)
    done = list(csv.DictReader(options.output.open())) if options.output.exists() else []
    for algorithm in options.algorithms:
        for seed in options.seeds:
            key = (algorithm, str(seed), " ".join(options.set), str(options.steps))
            if any((row["algorithm"], row["seed"], row["set"], row["steps"]) == key for row in done):
                continue
            row = one_run(algorithm, seed, options.steps, options.every, given)
            print(row, flush=True)
            done.append({name: str(value) for name, value in row.items()})
            with options.output.open("w", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS)
                writer.writeheader()
                writer.writerows(done)
        say(algorithm, [row for row in done if row["algorithm"] == algorithm and row["set"] == " ".join(options.set)])


def say(algorithm: str, rows: list[dict[str, str]]) -> None:
    """Means over seeds with Student t intervals; a seed that never reached the goal is counted, not averaged."""
    times = [float(row["reached_s"]) for row in rows if float(row["reached_s"]) == float(row["reached_s"])]
    last = student_t(np.array([float(row["last_quarter"]) for row in rows]))
    mean = f"{np.mean(times):.0f} s in the mean" if times else "never"
    kept = f"last quarter {last.mean:.0f} ({last.lo:.0f} to {last.hi:.0f})"
    print(f"{algorithm}: {len(times)} of {len(rows)} seeds reached {GOAL:g}, {mean}; {kept}", flush=True)


if __name__ == "__main__":
    main()
