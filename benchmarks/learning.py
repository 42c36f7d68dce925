"""Before and after a change that can move a learning curve: DQN in the demo's shop, on customers of its own.

    python benchmarks/learning.py [--seeds 100 101 102 103] [--decisions 90000] [--updates 200] [--customers 600] [--world 0]
        [--set KEY=VALUE ...]

Per seed: a log of the present recommender, `--updates` from it, `--decisions` online with the demo's settings and those
given, then the mean reward over 2,000 fresh customers. `--set log.KEY=VALUE` is for learning from the log alone. These
customers are not those of docs/proof.md (seeds 0 to 4): settings may be chosen here. `--world N` is another catalogue; there
the best static list, searched on customers of its own, is printed too, with the paired difference.
"""

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads: small products lose to the barrier

import numpy as np

from qurate.baselines.registry import random_policy
from qurate.environments.engine import BatchedEngine
from qurate.environments.registry import make_engine
from qurate.evaluation.intervals import student_t
from qurate.evaluation.rollouts import Rollout, customers_seed, rollout
from qurate.evaluation.static_list import best_static
from qurate.experiments import demo
from qurate.experiments.policies import as_policy, present_recommender
from qurate.settings import from_flat
from qurate.training.in_environment import train_in_engine
from qurate.training.run import intra_op_threads
from qurate.training.train import train
from qurate.types import Policy


def reward(engine: BatchedEngine, seed: int, size: demo.Size, log: dict[str, Any], online: dict[str, Any], folder: Path) -> Rollout:
    """What fresh customers brought one seed's DQN."""
    demo.log_of_today(engine, present_recommender(engine, seed, size.log_customers), seed, folder, size)
    model = train(str(folder / "dataset"), seed=seed, steps=size.log_updates, **demo.SETTINGS | log)
    if size.online_decisions:
        settings = from_flat(demo.SETTINGS | demo.ONLINE | {"update_every": size.update_every} | online)
        customers = customers_seed(seed, "train") + 1
        model = train_in_engine(model, engine, customers, size.online_decisions, settings=settings, lanes=demo.LANES)
    return met(engine, as_policy(model, engine, "dqn"), seed)


def met(engine: BatchedEngine, policy: Policy, seed: int) -> Rollout:
    """The same 2,000 customers of a seed for every policy."""
    return rollout(engine, policy, customers_seed(seed, "evaluate"), 2_000, gamma=demo.SETTINGS["gamma"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102, 103])
    parser.add_argument("--decisions", type=int, default=90_000)
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--customers", type=int, default=600, help="in the log")
    parser.add_argument("--world", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    given = dict(pair.split("=", 1) for pair in options.set)
    log = {name[4:]: value for name, value in given.items() if name.startswith("log.")}
    online = {name: value for name, value in given.items() if not name.startswith("log.")}
    size = demo.Size(options.customers, options.updates, options.decisions, 0, demo.DEMO.update_every, 2_000)
    intra_op_threads(1)
    engine = make_engine("shop", window=demo.WINDOW, world_seed=options.world)
    means, static = [], []
    for seed in options.seeds:
        began = time.process_time()
        with TemporaryDirectory() as folder:
            found = reward(engine, seed, size, log, online, Path(folder))
        means.append(float(found.returns.mean()))
        seconds = time.process_time() - began
        print(f"seed {seed}: {means[-1]:.2f} per customer, {found.length.mean():.1f} decisions, {seconds:.0f} s", flush=True)
    say(f"DQN, {given or 'as in the demo'}", means)
    if options.world:
        best = best_static(engine, random_policy(), customers_seed(options.seeds[0], "bounds"))
        static = [float(met(engine, best, seed).returns.mean()) for seed in options.seeds]
        say("best static list", static)
        say("DQN minus static", list(np.subtract(means, static)))


def say(what: str, means: Sequence[float]) -> None:
    """Mean and Student t interval over seeds."""
    interval = student_t(np.array(means))
    print(f"{what}: {interval.mean:.2f}, 95 % interval {interval.lo:.2f} to {interval.hi:.2f}, {len(means)} seeds", flush=True)


if __name__ == "__main__":
    main()
