"""What a policy trained from a log earns in a simulated world, beside the best static list, popularity and the myopic learner.

Each seed has customers of its own: its present recommender (popularity, with `--exploration` uniform) writes a log with probabilities;
`dqn` and `myopic` train on it with the default form of such logs; all policies meet the same fresh customers. One line of JSON is
appended per seed and study, so that an interrupted run goes on where it stopped; `--table` prints the table of a file of lines.

    python benchmarks/from_logs.py --study shop --customers 6000 --seeds 20-29 -o from-logs.jsonl
    python benchmarks/from_logs.py --algorithms bcq,cql --seeds 20-22 -o from-logs.jsonl
    python benchmarks/from_logs.py --table from-logs.jsonl

`--algorithms` trains others on the same logs; `--set KEY=VALUE` tries settings, on seeds that nothing is claimed on (100 and up).
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections import defaultdict
from itertools import product
from pathlib import Path
from typing import Any

from digest import code_digest

from qurate.algorithms.table import setting_names
from qurate.baselines.registry import random_policy
from qurate.choosing.policy import ScoredPolicy
from qurate.environments.registry import make_engine
from qurate.evaluation.intervals import Interval, paired_t, student_t
from qurate.evaluation.rollouts import customers_seed
from qurate.evaluation.static_list import best_static
from qurate.experiments import demo
from qurate.experiments.policies import as_policy, present_recommender
from qurate.mdp.storage import Dataset
from qurate.training.train import train
from qurate.types import Policy

STUDIES: dict[str, str] = {
    "shop": "shop",
    "catalogue 1": "shop,world_seed=1",
    "catalogue 2, 1,000 items": "shop,world_seed=2,n_items=1000",
    "strength 0": "shop,strength=0",
    "live": "live",
    "long_term_satisfaction": "long_term_satisfaction,sensitivity=0.25",
}
"""Worlds with their options."""
REWARDS: dict[str, dict[str, Any]] = {
    "live": {"watch": {"weight": 0.01, "per": "value"}, "like": 1, "gift": 20},
    "long_term_satisfaction": {"watch": {"weight": 1, "per": "value"}},
}
"""Where a component of the reward is the value of an event and not the event: as the world pays."""
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "dqn single": ("dqn", {"form": "single"}),
    "dqn now_later": ("dqn", {"form": "now_later"}),
    "bcq": ("bcq", {"support_threshold": "0.1"}),
    "cql": ("cql", {"cql_alpha": "0.1"}),
    "iql": ("iql", {"expectile": "0.9"}),
}
"""Names of rows that are not an algorithm of their own with the settings of all; what was chosen on trial seeds stands here."""
TRIAL_SEEDS = 100
"""Seeds from here on are for choices."""
STATIC_SEED = 0
"""Of the customers on whom the static list of a catalogue is searched, once."""
EXPLORATION = 0.1
"""Share of the present recommender's decisions that are uniform, where nothing else is said: also in lines that do not say it."""


def one_seed(study: str, customers: int, seed: int, static: Policy, exploration: float) -> dict[str, Any]:
    """The means per customer of one seed, and how long training took."""
    engine = make_engine(STUDIES[study], window=demo.WINDOW)
    present = present_recommender(engine, seed, customers, exploration)
    size = demo.PROOF._replace(log_customers=customers)
    with tempfile.TemporaryDirectory() as folder:
        dataset = demo.log_of_today(engine, present, seed, Path(folder), size, REWARDS.get(study))
        began = time.monotonic()
        dqn = train(dataset, seed=seed, **demo.SETTINGS)
        seconds = time.monotonic() - began
    myopic = demo.without_later(dqn)
    policies = {
        "dqn": as_policy(dqn, engine, "dqn"), "myopic": as_policy(myopic, engine, "myopic"), "static": static,
        "popularity": ScoredPolicy(present.parts[0].scorer),
    }  # fmt: skip
    rollouts = demo.measure(engine, policies, dict.fromkeys(policies, "baseline"), seed, size.customers)
    means = {name: float(r.returns.mean()) for name, r in rollouts.items()}
    figures = {name: dqn.metrics.get(name) for name in ("held_out", "later")}
    of = {"study": study, "customers": customers, "seed": seed, "exploration": exploration}
    return {**of, "means": means, "train_seconds": round(seconds), **figures}


def the_log(study: str, customers: int, seed: int, logs: Path) -> Dataset:
    """The log of one seed as a dataset, kept in `logs`."""
    folder = logs / f"{study}-{customers}-{seed}"
    if (folder / "dataset" / "dataset.json").is_file():
        return Dataset.read(folder / "dataset")
    engine = make_engine(STUDIES[study], window=demo.WINDOW)
    size = demo.PROOF._replace(log_customers=customers)
    return demo.log_of_today(engine, present_recommender(engine, seed, customers), seed, folder, size, REWARDS.get(study))


def one_other(study: str, customers: int, seed: int, name: str, given: dict[str, str], logs: Path) -> dict[str, Any]:
    """What a policy of another algorithm earns from the same log, with the settings of all and `given`."""
    engine, dataset = make_engine(STUDIES[study], window=demo.WINDOW), the_log(study, customers, seed, logs)
    algorithm = OTHERS.get(name, (name, {}))[0]
    settings = {key: value for key, value in (demo.SETTINGS | given).items() if key in setting_names(algorithm)}
    began = time.monotonic()
    model = train(dataset, algorithm=algorithm, seed=seed, **settings)
    seconds = round(time.monotonic() - began)
    met = demo.measure(engine, {name: as_policy(model, engine, name)}, {name: "baseline"}, seed, demo.PROOF.customers)[name]
    line = {"study": study, "customers": customers, "seed": seed, "algorithm": name, "set": given, "mean": float(met.returns.mean())}
    return line | {"train_seconds": seconds, "updates": model.metrics["steps"]}


def run_others(study: str, customers: int, seeds: list[int], out: Path, names: list[str], given: dict[str, str], logs: Path) -> None:
    """Appends what is not in the file yet."""
    code = digest()
    for seed, name in product(seeds, names):
        own = OTHERS.get(name, (name, {}))[1] | given
        line: dict[str, Any] = {"study": study, "customers": customers, "seed": seed, "algorithm": name, "set": own, "code": code}
        if not any(line.items() <= r.items() for r in read(out)):
            line |= one_other(study, customers, seed, name, own, logs)
            with out.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(name, own, round(line["mean"], 1), study, customers, seed, f"{line['train_seconds']} s", file=sys.stderr, flush=True)


def digest() -> str:
    """Of the code that the figures come from."""
    return code_digest(("settings.py", "networks", "algorithms", "learning", "training", "environments", "replay", "mdp"))


def run(study: str, customers: int, seeds: list[int], out: Path, exploration: float) -> None:
    """Appends the seeds that are not in the file yet."""
    code = digest()
    done = {log_of(r) for r in read(out) if r["code"] == code and "means" in r}
    engine = make_engine(STUDIES[study], window=demo.WINDOW)
    static = best_static(engine, random_policy(), customers_seed(STATIC_SEED, "bounds"))
    for seed in seeds:
        if (study, customers, exploration, seed) not in done:
            result = one_seed(study, customers, seed, static, exploration) | {"code": code}
            with out.open("a") as file:
                file.write(json.dumps(result) + "\n")
            means = {name: round(mean, 1) for name, mean in result["means"].items()}
            print(means, study, customers, exploration, seed, file=sys.stderr, flush=True)


def log_of(line: dict[str, Any]) -> tuple[str, int, float, int]:
    """World, logged customers, exploration and seed of a line."""
    return line["study"], line["customers"], line.get("exploration", EXPLORATION), line["seed"]


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a file; none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def table(results: list[dict[str, Any]]) -> str:
    """Markdown: means over the seeds, and the paired differences of dqn, with Student t intervals."""
    groups: dict[tuple[str, int, float], list[dict[str, Any]]] = defaultdict(list)
    for result in (r for r in results if "means" in r):
        groups[log_of(result)[:3]].append(result)
    names = ("dqn", "static", "myopic", "popularity")
    lines = [
        "| world | logged customers | uniform | seeds | dqn | static | myopic | popularity | dqn - static | dqn - myopic |",
        "|---" * 10 + "|",
    ]
    for (study, customers, exploration), rows in groups.items():
        of = {name: [r["means"][name] for r in rows] for name in names}
        own = student_t(of["dqn"])
        gaps = [paired_t(of["dqn"], of[name]) for name in ("static", "myopic")]
        cells = [f"{sum(of[name]) / len(rows):.1f}" for name in names]
        cells[0] += interval(own)
        cells += [f"{g.mean:+.1f}{interval(g)}" for g in gaps]
        seeds = ", ".join(str(r["seed"]) for r in rows)
        lines.append(f"| {study} | {customers:,} | {exploration:.0%} | {seeds} | {' | '.join(cells)} |")
    return "\n".join(lines)


def others_table(results: list[dict[str, Any]]) -> str:
    """Markdown: what other algorithms earn from the same logs, and the paired differences to dqn and the static list of the same seeds."""
    known = {log_of(r): r["means"] for r in results if "means" in r}
    groups: dict[tuple[Any, ...], dict[int, float]] = defaultdict(dict)
    for r in (r for r in results if "algorithm" in r):
        given = ", ".join(f"{name}={value}" for name, value in r["set"].items())
        groups[r["seed"] >= TRIAL_SEEDS, r["study"], r["customers"], r["algorithm"], given][r["seed"]] = r["mean"]
    lines = ["| world | logged customers | algorithm | besides | seeds | per customer | - dqn | - static |", "|---" * 8 + "|"]
    for (_, study, customers, name, given), of in sorted(groups.items(), key=lambda entry: entry[0]):
        cells = [f"{sum(of.values()) / len(of):.1f}{interval(student_t(list(of.values())))}"]
        for rival in ("dqn", "static"):
            logs = {seed: (study, customers, EXPLORATION, seed) for seed in of}
            both = [(mean, known[logs[seed]][rival]) for seed, mean in of.items() if logs[seed] in known]
            gap = paired_t([a for a, _ in both], [b for _, b in both]) if both else None
            cells.append("" if gap is None else f"{gap.mean:+.1f}{interval(gap)}")
        seeds = ", ".join(str(seed) for seed in sorted(of))
        lines.append(f"| {study} | {customers:,} | {name} | {given} | {seeds} | {' | '.join(cells)} |")
    return "\n".join(lines)


def interval(of: Interval) -> str:
    """Its limits, nothing where one seed gives none."""
    return f" [{of.lo:.1f}, {of.hi:.1f}]" if math.isfinite(of.lo) else ""


def seeds_of(text: str) -> list[int]:
    """ "20-29" or "1,2,3"."""
    first, _, last = text.partition("-")
    return list(range(int(first), int(last) + 1)) if last else [int(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", choices=STUDIES, default="shop")
    parser.add_argument("--customers", type=int, default=6_000)
    parser.add_argument("--seeds", type=seeds_of, default="20-29")
    parser.add_argument("--exploration", type=float, default=EXPLORATION, help="share of the log's decisions that are uniform")
    parser.add_argument("-o", "--out", type=Path, default=Path("from-logs.jsonl"))
    parser.add_argument("--table", type=Path)
    parser.add_argument("--algorithms", type=lambda text: text.split(","), help="others, from the same logs")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="settings to try, with --algorithms")
    parser.add_argument("--logs", type=Path, help="keep the logs there, with --algorithms")
    options = parser.parse_args()
    if options.table:
        results = read(options.table)
        print(table(results), *([others_table(results)] if any("algorithm" in r for r in results) else []), sep="\n\n")
    elif options.algorithms:
        given = dict(pair.split("=", 1) for pair in options.set)
        with tempfile.TemporaryDirectory() as folder:
            logs = options.logs or Path(folder)
            run_others(options.study, options.customers, options.seeds, options.out, options.algorithms, given, logs)
    else:
        run(options.study, options.customers, options.seeds, options.out, options.exploration)


if __name__ == "__main__":
    main()
