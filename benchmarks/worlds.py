"""Every kind of policy in a simulated world: learners trained anew for each seed, baselines, and the references that see the latent state.

    python benchmarks/worlds.py WORLD [--seeds 0 1 2 3 4] [--learner dqn] [--steps 20000] [--name NAME]
    python benchmarks/worlds.py WORLD --again myopic [--seeds 0 1 2 3 4]
    python benchmarks/worlds.py WORLD --planner [--seeds 0 1 2 3 4]
    python benchmarks/worlds.py --table

Each seed is a training of the learner with its default settings, a training of the myopic learner of as many decisions, baselines
fitted to that seed's random log, and the same 2,000 customers for all of them. Its lines go into docs/worlds.csv as soon as they are
measured, with a digest of the worlds' code; a seed that stands there is not measured again, but for the learner and the policies named
after `--again`, whose lines are replaced: where a learner changed and the world did not. Bandits alone after `--again` are measured
without the learner, which they do not depend on. `--planner` adds the policy that tries the first choices of `far_sighted` on copies of
the customers (environments/planner.py), which takes a minute or two of a seed: it meets the first 500 of the same customers, and its line
is the mean of `far_sighted` over all of them plus the paired difference on the 500. All forms write the table between the
marks of docs/scenarios/NAME.md. WORLD is what `--env` takes, such as `live` or `live,strength=0.5`.
"""

import argparse
import csv
import os
import time
from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads: small products lose to the barrier

from digest import code_digest

from qurate.environments.given import world_of
from qurate.environments.planner import planner
from qurate.environments.worlds import references
from qurate.evaluation.compare import Contender, summarise
from qurate.evaluation.intervals import Interval, paired_t, student_t
from qurate.experiments.bandits import BANDITS, bandit_in
from qurate.experiments.compare import compare, play_all
from qurate.files import replacing_file
from qurate.settings import Settings
from qurate.training.run import intra_op_threads
from qurate.training.train import train

ROOT = Path(__file__).resolve().parents[1]
CSV, PAGES = ROOT / "docs/worlds.csv", ROOT / "docs/scenarios"
FIELDS = ("page", "world", "worlds_code", "learner", "steps", "seed", "policy", "role", "mean", "decisions")
BASELINES = ("random", "static", "popularity", "item_knn", "linucb", "thompson", "myopic")
BEGIN, END = "<!-- worlds -->", "<!-- end worlds -->"
LABELS = {"true_myopic": "true-myopic (reference)", "far_sighted": "far-sighted (reference)", "planner": "planner (reference)"}
CUSTOMERS, PLANNED = 2_000, 500
Line = Mapping[str, str]
Means = dict[str, dict[int, float]]
"""Policy, seed."""


def measure(
    world: str, page: str, learner: str, steps: int, seed: int, customers: int, policies: Sequence[str] = BASELINES
) -> list[dict[str, str]]:
    """The lines of one seed."""
    began = time.monotonic()
    model = train(env=world, algorithm=learner, steps=steps, seed=seed)
    rows = compare([model, *policies], world, seeds=1, customers=customers, seed=seed)["policies"]
    print(f"{world}, seed {seed}: {time.monotonic() - began:.0f} s", flush=True)
    return lines_of(rows, world, page, learner, steps, seed)


def lines_of(rows: Sequence[Mapping[str, Any]], world: str, page: str, learner: str, steps: int, seed: int) -> list[dict[str, str]]:
    """Lines of the file from rows of `compare`."""
    code = code_digest(("environments",))
    common = {"page": page, "world": world, "worlds_code": code, "learner": learner, "steps": str(steps), "seed": str(seed)}
    return [
        common | {"policy": row["name"], "role": row["role"], "mean": f"{row['mean']:.6g}", "decisions": f"{row['decisions']:.5g}"}
        for row in rows
    ]


def measure_bandits(
    world: str, page: str, learner: str, steps: int, seed: int, customers: int, policies: Sequence[str]
) -> list[dict[str, str]]:  # fmt: skip
    """The lines of bandits of one seed, with the window that networks have by default."""
    began = time.monotonic()
    engine = world_of(world, Settings().network.window)
    rows = [Contender(name, lambda seed, name=name: bandit_in(name, engine, seed, steps), "baseline", steps) for name in policies]  # type: ignore[misc]
    found = summarise(world, [seed], play_all(rows, engine, [seed], customers, None))["policies"]
    print(f"{world}, seed {seed}: {time.monotonic() - began:.0f} s", flush=True)
    return lines_of(found, world, page, learner, steps, seed)


def measure_planner(lines: Sequence[Line], seed: int) -> list[dict[str, str]]:
    """The line of the planner of one seed, from those of the world, learner and steps, which it does not depend on."""
    [known] = [line for line in lines if int(line["seed"]) == seed and line["policy"] == "far_sighted"]
    began, engine = time.monotonic(), world_of(known["world"], Settings().network.window)
    base = references(known["world"])["far_sighted"]
    makers = {"far_sighted": lambda seed: base(engine), "planner": lambda seed: planner(base, engine)}
    rows = [Contender(name, make, "reference") for name, make in makers.items()]
    far, planned = summarise(known["world"], [seed], play_all(rows, engine, [seed], PLANNED, None))["policies"]
    gain = {name: planned[name] - far[name] for name in ("mean", "decisions")}
    print(f"{known['world']}, seed {seed}: planner {gain['mean']:+.3f} to far_sighted, {time.monotonic() - began:.0f} s", flush=True)
    row = {"name": "planner", "role": "reference", **{name: float(known[name]) + gain[name] for name in gain}}
    return lines_of([row], known["world"], known["page"], known["learner"], int(known["steps"]), seed)


def read(path: Path) -> list[dict[str, str]]:
    """The lines measured so far."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def append(path: Path, lines: Sequence[Line]) -> None:
    """Adds lines, with a head where the file is new."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        table = csv.DictWriter(file, FIELDS)
        if new:
            table.writeheader()
        table.writerows(lines)


def renewed(lines: Sequence[Line], new: Sequence[Line]) -> list[Line]:
    """The lines, in their order, with new ones in place of those of the same world, learner, steps, seed and policy, and no others."""
    key = ("world", "learner", "steps", "seed", "policy")
    by_key = {tuple(line[name] for name in key): line for line in new}
    return [by_key.get(tuple(line[name] for name in key), line) for line in lines]


def means(lines: Sequence[Line], column: str = "mean") -> Means:
    """Of each policy and seed."""
    out: Means = {}
    for line in lines:
        out.setdefault(line["policy"], {})[int(line["seed"])] = float(line[column])
    return out


def interval(of: Interval, form: str) -> str:
    """The mean with its interval."""
    return f"{of.mean:{form}}" if isnan(of.lo) else f"{of.mean:{form}} [{of.lo:{form}}, {of.hi:{form}}]"


def table(lines: Sequence[Line]) -> str:
    """Markdown: mean returns over the seeds by falling mean, Student t intervals, and the learner's paired differences."""
    learner = lines[0]["learner"]
    found, decisions = means(lines), means(lines, "decisions")
    roles = {line["policy"]: line["role"] for line in lines}
    seeds = sorted(found[learner])

    def values(name: str) -> list[float]:
        return [found[name][seed] for seed in seeds]

    out = [f"| policy | return | decisions | {learner} above it, paired |", "|---|---|---|---|"]
    for name in sorted(found, key=lambda name: -sum(values(name))):
        trained = f", {int(lines[0]['steps']):,} decisions" if name in (learner, "myopic", "linucb", "thompson") else ""
        label = LABELS.get(name, name) + trained
        gap = "" if name == learner else interval(paired_t(values(learner), values(name)), "+.2f")
        met = sum(decisions[name].values()) / len(seeds)
        out.append(f"| {label} | {interval(student_t(values(name)), '.2f')} | {met:.1f} | {gap} |")
    references = [name for name in found if roles[name] == "reference"]
    return "\n".join([*out, "", sentence(learner, {name: values(name) for name in found}, references, lines, seeds)])


def sentence(
    learner: str, values: Mapping[str, Sequence[float]], references: Sequence[str], lines: Sequence[Line], seeds: list[int]
) -> str:
    """How far the learner came between the references, and what was measured."""
    what = f"`python benchmarks/worlds.py {lines[0]['world']}`, seeds {', '.join(map(str, seeds))}, {CUSTOMERS:,} customers each"
    if "true_myopic" not in references or len(references) < 2:
        return f"{what}."
    low, high = values["true_myopic"], max((values[name] for name in references), key=sum)
    room = sum(high) - sum(low)
    if room < 1e-3 * abs(sum(high)):
        return f"{what}. The references earn the same: there is nothing to gain by foresight."
    share = student_t([(own - least) / (most - least) for own, least, most in zip(values[learner], low, high)])
    return f"{what}. Between true-myopic (0) and the best reference (1) {learner} stands at {interval(share, '.2f')}."


def write(lines: Sequence[Line]) -> None:
    """The tables of all pages that have lines and marks, one after the other where a page has several worlds."""
    for page in {line["page"]: None for line in lines}:
        path, own = PAGES / f"{page}.md", [line for line in lines if line["page"] == page]
        text = path.read_text(encoding="utf-8")
        parts = {(line["world"], line["learner"], line["steps"]): None for line in own}
        tables = [table([line for line in own if (line["world"], line["learner"], line["steps"]) == part]) for part in parts]
        if BEGIN not in text:
            raise SystemExit(f"{path} has no line {BEGIN}, between which and {END} the table stands")
        before, rest = text.split(BEGIN)
        path.write_text(f"{before}{BEGIN}\n\n" + "\n\n".join(tables) + f"\n\n{END}{rest.split(END)[1]}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", nargs="?", help="as --env takes it")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--learner", default="dqn")
    parser.add_argument("--steps", type=int, default=20_000, help="decisions of every learner")
    parser.add_argument("--customers", type=int, default=CUSTOMERS)
    parser.add_argument("--name", help="page under docs/scenarios, the world's name by default")
    parser.add_argument("--again", nargs="+", default=[], help="policies that are measured again, beside the learner")
    parser.add_argument("--planner", action="store_true", help="add the planner to seeds that are measured")
    parser.add_argument("--csv", type=Path, default=CSV)
    parser.add_argument("--table", action="store_true", help="only write the tables")
    args = parser.parse_args()
    intra_op_threads(1)
    if args.world is None and not args.table:
        parser.error("a world, or --table")
    if args.world is not None:
        page = args.name or args.world.partition(",")[0]
        own = {"world": args.world, "learner": args.learner, "steps": str(args.steps)}
        done = {int(line["seed"]) for line in read(args.csv) if own.items() <= line.items()}
        for seed in args.seeds:
            if args.planner:
                measured_lines = [line for line in read(args.csv) if own.items() <= line.items() and int(line["seed"]) == seed]
                if not any(line["policy"] == "planner" for line in measured_lines):
                    append(args.csv, measure_planner(measured_lines, seed))
            elif seed in done and args.again:
                measured = measure_bandits if set(args.again) <= set(BANDITS) else measure
                new = measured(args.world, page, args.learner, args.steps, seed, args.customers, args.again)
                new = [line for line in new if line["policy"] in (args.learner, *args.again)]
                lines = renewed(read(args.csv), new)
                with replacing_file(args.csv) as beside:
                    append(beside, lines)
            elif seed not in done:
                append(args.csv, measure(args.world, page, args.learner, args.steps, seed, args.customers))
    if args.csv == CSV:
        write(read(args.csv))


if __name__ == "__main__":
    main()
