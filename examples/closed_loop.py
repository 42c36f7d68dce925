"""The closed loop: a service learns from its own customers. Run it: python examples/closed_loop.py (one or two minutes).

    simulate -> ingest -> train a first, hardly trained model -> serve it, half of the answers at random
             -> customers come over HTTP and what they do goes back as events
             -> stop -> ingest the service's own log -> train -> a second model, which earns more -> serve it

Every step but the customers is a `qurate` command. The customers are those of the simulated shop. Their days pass in
milliseconds, but the log has the service's clock, as a log should: a service believes no client about when it answered.
So the log shows no pauses between visits; visits are separated by `session_id`, and a customer who was silent for
several rounds has left (`--churn-after`).
"""

import argparse
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from qurate import Client, load, make_engine
from qurate.baselines.registry import random_policy
from qurate.evaluation.intervals import paired_t
from qurate.evaluation.rollouts import customers_seed, rollout
from qurate.experiments.policies import as_policy
from qurate.types import Feedback

QURATE = str(Path(sys.executable).with_name("qurate"))
CONNECTIONS = 4
SILENT_ROUNDS = 5
EXPLORE = ("--explore", "50%")
"""Much, because a model that has hardly been trained shows nearly everybody the same few items: a log of it teaches little else."""
SETTINGS = ("--set", "window=20", "--set", "id_embedding=false", "--set", "embedding_dim=16", "--set", "hidden=32")
"""A small network that knows items by their features only: a few thousand decisions cannot teach 300 items one by one."""


def qurate(*command: object) -> dict[str, Any]:
    """Runs a command and returns its JSON."""
    print("$ qurate", *command, flush=True)
    begun = time.monotonic()
    done = subprocess.run([QURATE, *map(str, command), "--json", "--quiet"], stdout=subprocess.PIPE, check=True)
    print(f"  {time.monotonic() - begun:.0f} s", flush=True)
    return dict(json.loads(done.stdout))


@contextmanager
def serving(*command: object) -> Iterator[str]:
    """`qurate serve` in a process of its own; gives its address, ends it with SIGTERM."""
    print("$ qurate serve", *command, flush=True)
    process = subprocess.Popen([QURATE, "serve", *map(str, command), "--port", "0"], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    lines: list[str] = []
    try:
        while not (lines and (found := re.search(r"at (http://\S+)", lines[-1]))):
            lines.append(process.stderr.readline())
            if not lines[-1]:
                raise SystemExit(f"the service did not start: {''.join(lines)}")
        yield found[1]
    finally:
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=30)
    if process.returncode or rest:
        raise SystemExit(f"the service ended with {process.returncode}: {rest}")


class Customers:
    """Customers of the shop, `lanes` at a time; where one leaves for good the next one comes."""

    def __init__(self, client: Client, seed: int, lanes: int) -> None:
        self.client, self.engine = client, make_engine("shop", window=1)
        self.user = self.engine.reset(seed, lanes).state.user
        self.position = {name: i for i, name in enumerate(self.engine.item_ids)}
        self.seed, self.visit = seed, np.zeros(lanes, np.int64)
        self.decisions: list[list[str]] = [[] for _ in range(lanes)]  # of the customer in each lane, in order
        self.events = 0

    def user_id(self, lane: int) -> str:
        return f"c{self.seed}_{self.engine.customer[lane]}"

    def session_id(self, lane: int) -> str:
        return f"{self.user_id(lane)}-v{self.visit[lane]}"

    def ask(self, lane: int) -> int:
        """POST /v1/recommend for one customer: the position of the item that is shown."""
        names = [name.split("=") for name, has in zip(self.engine.user_feature_names, self.user[lane]) if has]
        answer = self.client.recommend(self.user_id(lane), 1, session_id=self.session_id(lane), context=dict(names))
        self.decisions[lane].append(answer.decision_id)
        return self.position[answer.items[0].item_id]

    def tell(self) -> None:
        """POST /v1/events: what the customers did, each event with the decision it answers."""
        events = []
        for group in self.engine.groups:
            kind = self.engine.type_names[group.type - 1]
            if kind == "shown":
                continue  # the decisions say that themselves
            lanes = np.arange(self.engine.n) if group.lanes is None else group.lanes
            for i, lane in enumerate(lanes.tolist()):
                decision = self.decisions[lane][-1 if group.decision is None else int(group.decision[i])]
                item = self.engine.item_ids[int(group.items[i]) - 1]
                event = {"type": kind, "item_id": item, "user_id": self.who[lane], "session_id": self.during[lane]}
                events.append(event | {"decision_id": decision})
        answer = self.client.send(events)
        assert answer.accepted == len(events) and not answer.rejected, answer
        self.events += answer.accepted

    def round(self, pool: ThreadPoolExecutor) -> None:
        """Every customer is shown one item and answers."""
        lanes = range(self.engine.n)
        actions = np.array(list(pool.map(self.ask, lanes)), np.int64)
        self.who, self.during = [self.user_id(lane) for lane in lanes], [self.session_id(lane) for lane in lanes]
        feedback: Feedback = self.engine.step(actions)
        self.tell()
        self.visit += feedback.pause > 0
        for lane in np.flatnonzero(feedback.terminated | feedback.truncated).tolist():
            self.decisions[lane], self.visit[lane] = [], 0
        self.user = feedback.obs.state.user


def meet(url: str, seed: int, lanes: int, rounds: int) -> float:
    """Customers come to the service for some rounds; seconds per round."""
    begun = time.monotonic()
    with Client(url) as client, ThreadPoolExecutor(CONNECTIONS) as pool:
        customers = Customers(client, seed, lanes)
        for _ in range(rounds):
            customers.round(pool)
    seconds = time.monotonic() - begun
    print(f"  {lanes * rounds:,} decisions and {customers.events:,} events in {seconds:.0f} s", flush=True)
    return seconds / rounds


def fresh_customers(paths: list[Path], seeds: int, customers: int) -> list[list[float]]:
    """Mean reward per customer for each seed: of chance, and of each model alone (no exploration); all meet the same customers."""
    engine = make_engine("shop", window=20)
    policies = [random_policy(), *(as_policy(load(path), engine, path.name) for path in paths)]
    customer_seeds = [customers_seed(seed, "evaluate") for seed in range(seeds)]
    return [[float(rollout(engine, policy, seed, customers).returns.mean()) for seed in customer_seeds] for policy in policies]


def closed_loop(
    folder: Path, lanes: int = 100, rounds: int = 120, updates: int = 600, seeds: int = 5, customers: int = 500
) -> dict[str, Any]:
    """Goes round once. Returns the summary of ingest, and what fresh customers bring: mean reward each, and the second model's lift."""
    shop, data = folder / "shop", folder / "data"
    qurate("simulate", "shop", "--users", 200, "--steps", 10, "-o", shop / "events.csv")
    qurate("ingest", shop / "events.csv", "-o", folder / "dataset-1", "--episode", "user")
    qurate("train", folder / "dataset-1", "-o", folder / "model-1", "--steps", 20, *SETTINGS)
    with serving(folder / "model-1", "--data", data, *EXPLORE, "--seed", 1) as url:
        seconds = meet(url, seed=101, lanes=lanes, rounds=rounds)
    gone = f"{SILENT_ROUNDS * seconds:.3f}s"
    summary = qurate("ingest", data, "-o", folder / "dataset-2", "--items", shop / "items.csv", "--episode", "user", "--churn-after", gone)
    qurate("train", folder / "dataset-2", "-o", folder / "model-2", "--steps", updates, *SETTINGS)
    with serving(folder / "model-2", "--data", data, *EXPLORE, "--seed", 2) as url:
        meet(url, seed=102, lanes=lanes, rounds=5)
    chance, before, after = fresh_customers([folder / "model-1", folder / "model-2"], seeds, customers)
    more = paired_t(after, before)
    means = {name: float(np.mean(values)) for name, values in (("random", chance), ("first", before), ("second", after))}
    return {"log": summary, **means, "lift": more.mean, "lift_ci": [more.lo, more.hi]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("qurate-loop"), help="a new folder for everything")
    found = closed_loop(parser.parse_args().output)
    low, high = found["lift_ci"]
    print(f"reward per fresh customer: random {found['random']:.2f}, first model {found['first']:.2f}, second {found['second']:.2f}")
    print(f"the second over the first: {found['lift']:+.2f}, 95 % interval over 5 seeds {low:+.2f} to {high:+.2f}")
