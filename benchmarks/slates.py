"""SlateQ among its rivals in interest evolution: every policy meets the same viewers of each seed.

    python benchmarks/slates.py [--seeds 1 2 3 4 5] [--sizes 3 2] [--steps 100000] [--rows slateq ...] [--customers 1000] [--table]

Each figure is a line of docs/slates.csv as soon as it is there; those that stand there are not measured again, so a run that was
interrupted goes on. `--table` measures nothing. Both write the table into docs/scenarios/interest_evolution.md.
"""

import argparse
import csv
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads: small products lose to the barrier

import numpy as np

from qurate.baselines.registry import random_policy
from qurate.environments.engine import BatchedEngine
from qurate.environments.registry import make_engine
from qurate.environments.worlds import references
from qurate.evaluation.intervals import Interval, paired_t, student_t
from qurate.evaluation.rollouts import customers_seed, rollout
from qurate.evaluation.static_list import StaticSearch, best_static
from qurate.experiments.policies import as_policy
from qurate.training.run import intra_op_threads
from qurate.training.train import train
from qurate.types import Policy

ROOT = Path(__file__).resolve().parents[1]
FILE, PAGE = ROOT / "docs/slates.csv", ROOT / "docs/scenarios/interest_evolution.md"
BEGIN, END = "<!-- benchmarks/slates.py -->", "<!-- end -->"
FIELDS = ("slate_size", "row", "seed", "reward", "decisions", "steps", "seconds")
LEARNERS: dict[str, dict[str, Any]] = {
    "slateq": {},
    "slateq_greedy": {"slate_optimiser": "greedy"},
    "slateq_topk": {"slate_optimiser": "topk"},
    "slateq_sarsa": {"slate_target": "sarsa"},
    "slateq_published": {"nothing_value": False, "choice_model": "known"},
    "slateq_myopic": {"gamma": 0.0},
}
LABELS = {
    "random": "random", "true_myopic": "greedy pCTR (true-myopic)", "static": "best static slate", "slateq_myopic": "slateq, gamma 0",
    "slateq_sarsa": "slateq, SARSA target", "slateq_topk": "slateq, top-k", "slateq_greedy": "slateq, greedy",
    "slateq_published": "slateq, nothing counts 0, choice model known", "slateq": "slateq", "far_sighted": "far-sighted (reference)",
}  # fmt: skip
RIVAL = "true_myopic"
Line = dict[str, str]


def policy_of(row: str, engine: BatchedEngine, seed: int, steps: int) -> Policy:
    """The policy of a row, trained where it is a learner."""
    k = engine.slate_size
    if row in LEARNERS:
        model = train(env=f"interest_evolution,slate_size={k}", algorithm="slateq", seed=seed, steps=steps, **LEARNERS[row])
        return as_policy(model, engine, row)
    if row == "static":
        return best_static(engine, random_policy(k), customers_seed(seed, "bounds"), StaticSearch(slate_size=k))
    return random_policy(k) if row == "random" else references("interest_evolution")[row](engine)


def measure(row: str, slate_size: int, seed: int, steps: int, customers: int) -> dict[str, Any]:
    """One line of the file: mean reward and length over the viewers of a seed."""
    engine = make_engine("interest_evolution", slate_size=slate_size)
    began = time.monotonic()
    policy = policy_of(row, engine, seed, steps)
    seconds = time.monotonic() - began
    run = rollout(engine, policy, customers_seed(seed, "evaluate"), customers, every_lane=row in references("interest_evolution"))
    trained = steps if row in LEARNERS else 0
    figures = (f"{run.returns.mean():.3f}", f"{run.length.mean():.2f}", trained, round(seconds))
    return dict(zip(FIELDS, (slate_size, row, seed, *figures)))


def lines() -> list[Line]:
    """What has been measured."""
    if not FILE.is_file():
        return []
    with FILE.open(newline="") as file:
        return list(csv.DictReader(file))


def table(found: Sequence[Line]) -> str:
    """Markdown: a table for each slate size, means and Student t intervals over seeds, differences paired by seed."""
    parts = []
    for k in sorted({int(line["slate_size"]) for line in found}):
        of_row = {row: {line["seed"]: line for line in found if line["row"] == row and int(line["slate_size"]) == k} for row in LABELS}
        parts += [f"**10 candidates, slate {k}**", "", "| policy | seeds | minutes watched | decisions | over greedy pCTR | user-steps |"]
        parts.append("|---|---|---|---|---|---|")
        for row, own in sorted(((row, own) for row, own in of_row.items() if own), key=lambda pair: _mean(pair[1])):
            both = sorted(own.keys() & of_row[RIVAL].keys())
            gap = paired_t(*([float(lines_of[seed]["reward"]) for seed in both] for lines_of in (own, of_row[RIVAL])))
            rewards = student_t([float(line["reward"]) for line in own.values()])
            steps = next(iter(own.values()))["steps"]
            length = np.mean([float(line["decisions"]) for line in own.values()])
            lift = "" if row == RIVAL else _shown(gap, "+")
            parts.append(f"| {LABELS[row]} | {len(own)} | {_shown(rewards)} | {length:.1f} | {lift} | {int(steps):,} |")
        parts.append("")
    return "\n".join(parts)


def _mean(own: dict[str, Line]) -> float:
    return float(np.mean([float(line["reward"]) for line in own.values()]))


def _shown(one: Interval, sign: str = "") -> str:
    return f"{one.mean:{sign}.1f}" if np.isnan(one.lo) else f"{one.mean:{sign}.1f} +- {one.mean - one.lo:.1f}"


def write_page(found: Sequence[Line]) -> None:
    """Puts the table between its marks on the page of the scenario."""
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n\n{table(found)}\n{END}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--sizes", type=int, nargs="+", default=[3, 2])
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--rows", nargs="+", choices=list(LABELS), default=list(LABELS))
    parser.add_argument("--customers", type=int, default=1_000)
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    intra_op_threads(1)
    done = {(int(line["slate_size"]), line["row"], int(line["seed"])) for line in lines()}
    jobs = [(row, k, seed) for row in asked.rows for seed in asked.seeds for k in asked.sizes if (k, row, seed) not in done]
    for row, k, seed in [] if asked.table else jobs:
        line = measure(row, k, seed, asked.steps, asked.customers)
        fresh = not FILE.is_file()
        with FILE.open("a", newline="") as file:
            writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
            if fresh:
                writer.writeheader()
            writer.writerow(line)
        print(line, flush=True)
    write_page(lines())


if __name__ == "__main__":
    main()
