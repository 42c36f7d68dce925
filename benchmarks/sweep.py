"""Learners at other strengths of what is shown now for what comes later: the sweep of a world's page.

    python benchmarks/sweep.py WORLD [--strengths 0 0.5 2] [--seeds 0 1 2] [--steps 20000]
    python benchmarks/sweep.py --table

For each seed and strength, but that of the world itself, which stands in docs/worlds.csv, `dqn` and `myopic` are trained with the world's
default settings on as many decisions, beside random, the best static list and the references; the same 1,000 customers meet them all
(benchmarks/worlds.py). Lines go into docs/sweep.csv as soon as they are measured, and the tables between the marks of
docs/scenarios/WORLD.md.
"""

import argparse
from collections.abc import Sequence

from worlds import PAGES, ROOT, Line, append, interval, means, measure, read

from qurate.evaluation.intervals import paired_t, student_t
from qurate.training.run import intra_op_threads

CSV = ROOT / "docs/sweep.csv"
BEGIN, END = "<!-- sweep -->", "<!-- end sweep -->"
CUSTOMERS = 1_000
POLICIES = ("random", "static", "myopic")
COLUMNS = ("random", "static", "myopic", "dqn", "true_myopic", "far_sighted")


def table(lines: Sequence[Line]) -> str:
    """Markdown: a row for each strength, with Student t intervals of dqn and of its paired differences."""
    out = [f"| strength | {' | '.join(name.replace('_', '-') for name in COLUMNS)} | dqn - myopic | dqn - static |", "|---" * 9 + "|"]
    for world in sorted({line["world"] for line in lines}, key=strength_of):
        found = means([line for line in lines if line["world"] == world])
        seeds = sorted(found["dqn"])
        values = {name: [found[name][seed] for seed in seeds] for name in COLUMNS}
        cells = [interval(student_t(of), ".2f") if name == "dqn" else f"{sum(of) / len(of):.2f}" for name, of in values.items()]
        gaps = [interval(paired_t(values["dqn"], values[name]), "+.2f") for name in ("myopic", "static")]
        out.append(f"| {strength_of(world):g} | {' | '.join([*cells, *gaps])} |")
    numbers = ", ".join(sorted({line["seed"] for line in lines}, key=int))
    what = f"{int(lines[0]['steps']):,} decisions of each learner, seeds {numbers}, {CUSTOMERS:,} customers each"
    return "\n".join([*out, "", f"`python benchmarks/sweep.py {lines[0]['page']}`: {what}."])


def strength_of(world: str) -> float:
    """Of a world as `--env` takes it."""
    return float(world.rpartition("strength=")[2])


def write(lines: Sequence[Line]) -> None:
    """The tables of all pages that have lines."""
    for page in {line["page"] for line in lines}:
        path = PAGES / f"{page}.md"
        before, rest = path.read_text(encoding="utf-8").split(BEGIN)
        own = table([line for line in lines if line["page"] == page])
        path.write_text(f"{before}{BEGIN}\n\n{own}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", nargs="?", help="its name")
    parser.add_argument("--strengths", nargs="+", type=float, default=[0, 0.5, 2])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=20_000, help="decisions of each learner")
    parser.add_argument("--table", action="store_true", help="only write the tables")
    args = parser.parse_args()
    intra_op_threads(1)
    if args.world is None and not args.table:
        parser.error("a world, or --table")
    for seed in args.seeds if args.world else ():
        for world in (f"{args.world},strength={strength:g}" for strength in args.strengths):
            own = {"world": world, "steps": str(args.steps), "seed": str(seed)}
            if not any(own.items() <= line.items() for line in read(CSV)):
                append(CSV, measure(world, args.world, "dqn", args.steps, seed, CUSTOMERS, POLICIES))
    write(read(CSV))


if __name__ == "__main__":
    main()
