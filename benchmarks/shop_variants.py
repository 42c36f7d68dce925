"""Every algorithm in the shop, online, beside random, the best static list and the references: a row each.

    python benchmarks/shop_variants.py [--algorithms dqn c51 ...] [--seeds 0 1 2 3 4] [--decisions 90000] [--customers 2000]
        [-o shop_variants.csv] [--set KEY=VALUE ...]

Training has the shared settings below, and no log; then each model meets the same fresh customers of its seed. A row (algorithm,
seed) is written when it is done; rows that the file already holds are not run again. At the end: means with Student t intervals
over seeds, and paired differences to dqn.
"""

import argparse
import csv
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads: small products lose to the barrier

import numpy as np

from qurate.algorithms.table import ALGORITHMS, setting_names
from qurate.baselines.registry import random_policy
from qurate.environments.engine import BatchedEngine
from qurate.environments.registry import make_engine
from qurate.environments.worlds import references
from qurate.evaluation.intervals import student_t
from qurate.evaluation.rollouts import customers_seed, rollout
from qurate.evaluation.static_list import best_static
from qurate.experiments.policies import as_policy
from qurate.training.run import intra_op_threads
from qurate.training.train import train
from qurate.types import Policy

WINDOW, GAMMA = 20, 0.9
SHARED: dict[str, Any] = {
    "window": WINDOW, "gamma": GAMMA, "batch_size": 128, "update_every": 16, "epsilon_steps": 30_000, "epsilon_end": 0.05,
    "replay_capacity": 100_000,
}  # fmt: skip
"""The same for all; those that an algorithm does not have are left out, and epsilon where its layers are noisy."""
SUPPORT = {"v_min": -5.0, "v_max": 60.0}
"""Of c51 and rainbow, in reward units."""
COLUMNS = ("policy", "seed", "set", "decisions", "reward", "length", "seconds")


def trained(name: str, seed: int, decisions: int, given: dict[str, Any], engine: BatchedEngine) -> Policy:
    """An algorithm of the table after so many decisions in the shop."""
    own, noisy = setting_names(name), name in ("noisy_dqn", "rainbow")
    shared = {key: value for key, value in (SHARED | SUPPORT).items() if key in own and not (noisy and key.startswith("epsilon"))}
    model = train(env="shop", algorithm=name, seed=seed, steps=decisions, **(shared | given))
    return as_policy(model, engine, name)


def bounds(engine: BatchedEngine) -> dict[str, Any]:
    """Policies that are not trained here, by name: seed -> policy."""
    found: dict[str, Any] = {"random": lambda seed: random_policy()}
    found["static"] = lambda seed: best_static(engine, random_policy(), customers_seed(seed, "bounds"))
    return found | {name: (lambda seed, make=make: make(engine)) for name, make in references("shop").items()}


def say(rows: Iterable[dict[str, str]]) -> None:
    """Mean reward per customer and the paired difference to dqn, each with its interval over seeds."""
    by_policy: dict[str, dict[str, float]] = {}
    for row in rows:
        by_policy.setdefault(row["policy"], {})[row["seed"]] = float(row["reward"])
    for name, found in by_policy.items():
        one = student_t(np.array(list(found.values())))
        common = sorted(found.keys() & by_policy.get("dqn", {}).keys())
        text = f"{name}: {one.mean:.2f} ({one.lo:.2f} to {one.hi:.2f}), {len(found)} seeds"
        if common and name != "dqn":
            gap = student_t(np.array([found[seed] - by_policy["dqn"][seed] for seed in common]))
            text += f"; minus dqn {gap.mean:.2f} ({gap.lo:.2f} to {gap.hi:.2f})"
        print(text, flush=True)


def main() -> None:
    deep = [name for name in ALGORITHMS if name not in ("q_learning", "sarsa")]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithms", nargs="+", default=deep)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--decisions", type=int, default=90_000)
    parser.add_argument("--customers", type=int, default=2_000)
    parser.add_argument("-o", "--output", type=Path, default=Path("shop_variants.csv"))
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    intra_op_threads(1)
    given, named = dict(pair.split("=", 1) for pair in options.set), " ".join(options.set)
    done = list(csv.DictReader(options.output.open())) if options.output.exists() else []
    engine = make_engine("shop", window=WINDOW)
    untrained = bounds(engine)
    for name in [*untrained, *options.algorithms]:
        for seed in options.seeds:
            own = ("", "0") if name in untrained else (named, str(options.decisions))
            if any((row["policy"], row["seed"], row["set"], row["decisions"]) == (name, str(seed), *own) for row in done):
                continue
            began = time.process_time()
            policy = untrained[name](seed) if name in untrained else trained(name, seed, options.decisions, given, engine)
            latent = name in references("shop")  # it sees the engine, so that it is asked about all of its customers
            met = rollout(engine, policy, customers_seed(seed, "evaluate"), options.customers, gamma=GAMMA, every_lane=latent)
            seconds = round(time.process_time() - began, 1)
            values = (name, str(seed), *own, f"{met.returns.mean():.4f}", f"{met.length.mean():.2f}", str(seconds))
            done.append(dict(zip(COLUMNS, values, strict=True)))
            print(done[-1], flush=True)
            with options.output.open("w", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS)
                writer.writeheader()
                writer.writerows(done)
    say([row for row in done if row["set"] in ("", named)])


if __name__ == "__main__":
    main()
