"""DQN from a log and then online, in the demo's shop, on customers of its own.

    python benchmarks/learning.py [--seeds 100 101 102 103] [--decisions 10000 20000 40000] [--updates 300] [--customers 600]
        [--world 0] [--set KEY=VALUE ...]

Per seed: a log of the present recommender, `--updates` of the event models from it, then so many decisions online with the demo's
settings and those given, and the mean reward over 2,000 fresh customers after each number of decisions (0: the log alone).
`--set log.KEY=VALUE` is for learning from the log alone. Customers of seeds from 100 on are nobody's proof: settings may be
chosen there. `--world N` is another catalogue. The best static list is searched on customers of its own; its difference is paired.
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
from qurate.settings import flat, from_flat
from qurate.training.in_environment import train_in_engine
from qurate.training.run import intra_op_threads
from qurate.training.train import train
from qurate.types import Policy


def rewards(
    engine: BatchedEngine, seed: int, size: demo.Size, wanted: Sequence[int], log: dict[str, Any], online: dict[str, Any], folder: Path
) -> dict[int, Rollout]:
    """What fresh customers brought one seed's DQN after so many decisions online."""
    demo.log_of_today(engine, present_recommender(engine, seed, size.log_customers), seed, folder, size)
    model = train(str(folder / "dataset"), seed=seed, steps=size.log_updates, **demo.SETTINGS | log)
    own = from_flat(flat(model.settings) | demo.ONLINE | {"update_every": size.update_every} | online)
    found = {}
    for decisions in wanted:
        customers = customers_seed(seed, "online")
        learned = train_in_engine(model, engine, customers, decisions, settings=own, lanes=demo.LANES) if decisions else model
        found[decisions] = met(engine, as_policy(learned, engine, "dqn"), seed)
    return found


def met(engine: BatchedEngine, policy: Policy, seed: int) -> Rollout:
    """The same 2,000 customers of a seed for every policy."""
    return rollout(engine, policy, customers_seed(seed, "evaluate"), 2_000, gamma=demo.SETTINGS["gamma"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102, 103])
    parser.add_argument("--decisions", type=int, nargs="+", default=[0, 10_000, 20_000, 40_000])
    parser.add_argument("--updates", type=int, default=demo.DEMO.log_updates)
    parser.add_argument("--customers", type=int, default=demo.DEMO.log_customers, help="in the log")
    parser.add_argument("--world", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    given = dict(pair.split("=", 1) for pair in options.set)
    log = {name[4:]: value for name, value in given.items() if name.startswith("log.")}
    online = {name: value for name, value in given.items() if not name.startswith("log.")}
    size = demo.Size(options.customers, options.updates, 0, 0, demo.DEMO.update_every, 2_000)
    intra_op_threads(1)
    engine = make_engine("shop", window=demo.WINDOW, world_seed=options.world)
    best = best_static(engine, random_policy(), customers_seed(options.seeds[0], "bounds"))
    static = [float(met(engine, best, seed).returns.mean()) for seed in options.seeds]
    means: dict[int, list[float]] = {decisions: [] for decisions in options.decisions}
    for seed in options.seeds:
        began = time.process_time()
        with TemporaryDirectory() as folder:
            found = rewards(engine, seed, size, options.decisions, log, online, Path(folder))
        for decisions, rollout_ in found.items():
            means[decisions].append(float(rollout_.returns.mean()))
        seconds = time.process_time() - began
        print(f"seed {seed}: { {d: round(of[-1], 2) for d, of in means.items()} } per customer, {seconds:.0f} s", flush=True)
    say("best static list", static)
    for decisions, of in means.items():
        say(f"DQN after {decisions:,} decisions, {given or 'as in the demo'}", of)
        say("  minus the static list", list(np.subtract(of, static)))


def say(what: str, means: Sequence[float]) -> None:
    """Mean and Student t interval over seeds."""
    interval = student_t(np.array(means))
    print(f"{what}: {interval.mean:.2f}, 95 % interval {interval.lo:.2f} to {interval.hi:.2f}, {len(means)} seeds", flush=True)


if __name__ == "__main__":
    main()
