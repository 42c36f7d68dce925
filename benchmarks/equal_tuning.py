"""Learners from a log at equal tuning: the same number of settings tried for each, on the same logs, judged by the truth.

    python benchmarks/equal_tuning.py [--trials 8] [--customers 6000] -o docs/equal_tuning.jsonl
    python benchmarks/equal_tuning.py --table docs/equal_tuning.jsonl

The world is `shop` (benchmarks/from_logs.py), with 6,000 logged customers where nothing else is said. For each learner, `--trials`
settings are drawn: the first is the one of docs/from_logs.md, the others come from the ranges below, which are the same for all but
for what a learner has alone; those of log_rivals.py share dqn's `now`, of which nothing is drawn. Each trains on the log of trial seed
100 and is judged by what its policy earns there from fresh customers: a criterion that no log can give and that favours whoever gains
most by it. The best two train on the log of trial seed 101, too; the one with the better mean of both is trained on the logs of seeds
20 to 24, on which nothing is chosen. One line of JSON is appended per training, so that an interrupted run goes on where it stopped;
`--logs` keeps the logs, too. The table has a part for each number of logged customers.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from from_logs import OTHERS, digest, interval, one_other, read, seeds_of
from log_rivals import LEARNERS, one_rival, rival_digest

from qurate.algorithms.table import setting_names
from qurate.evaluation.intervals import paired_t, student_t
from qurate.experiments.search_space import NETWORK, Range, rounded

FIRST: dict[str, tuple[str, dict[str, str]]] = {
    "dqn": ("dqn", {"form": "linear_later"}),
    **{row: OTHERS[row] for row in ("dqn now_later", "dqn single", "bcq", "cql", "iql")},  # the draws of a row depend on its place
    "dqn later": ("dqn later", {}),
    "dqn ensemble": ("dqn ensemble", {"kappa": "0.5"}),
    "dqn traces": ("dqn traces", {"temperature": "0.1", "most": "1"}),
    "customers": ("customers", {"start": "log", "decisions": "40000"}),
    "dqn default": ("dqn later", {}),
}
"""Rows: the algorithm, or one of log_rivals.py, and the settings that its first trial has besides those of all."""
# fmt: off
COMMON = {
    "lr": Range(5e-4, 1e-2), "passes": Range(1, 6), "gamma": Range(0.9, 0.99, "linear"), "n_step": Range(1, 6, "linear", whole=True),
    "target_tau": Range(0.005, 0.2),
}
OWN = {
    "bcq": {"support_threshold": NETWORK["support_threshold"]}, "cql": {"cql_alpha": Range(0.01, 5)},
    "iql": {"expectile": NETWORK["expectile"], "inverse_temperature": NETWORK["inverse_temperature"]},
    "dqn ensemble": {"kappa": Range(0.1, 2)}, "dqn traces": {"temperature": Range(0.02, 1), "most": Range(1, 10)},
    "customers": {"decisions": Range(10_000, 100_000, whole=True)},
}
OF_LATER = ("gamma", "n_step")
READ: dict[str, tuple[str, ...]] = {
    "dqn default": (), "dqn later": OF_LATER, "dqn ensemble": OF_LATER, "dqn traces": OF_LATER,
    "customers": ("lr", "gamma", "n_step", "target_tau"),
}
"""What of COMMON a row reads, where that is not all that its algorithm has."""
FORMS = {"bcq": ("single", "now_later"), "cql": ("single", "now_later")}
"""Where a learner has both, the form is drawn as well."""
STARTS = {"customers": ("log", "nothing")}
"""And with what learning begins."""
# fmt: on
STUDY, CUSTOMERS = "shop", 6_000
TRIALS_ON, FINALS_ON = (100, 101), (20, 21, 22, 23, 24)


def drawn(row: str, trial: int) -> dict[str, str]:
    """The settings of one trial; the same for the same row and trial."""
    algorithm, first = FIRST[row]
    if trial == 0:
        return first
    rng = np.random.default_rng([list(FIRST).index(row), trial])
    given = {"form": first["form"]} if "form" in first else {}
    if row in FORMS:
        given = {"form": str(rng.choice(FORMS[row]))}
    if row in STARTS:
        given = {"start": str(rng.choice(STARTS[row]))}
    known = {*(READ[row] if row in READ else setting_names(algorithm)), *OWN.get(row, {})}
    for name, of in (COMMON | OWN.get(row, {})).items():
        at = rng.uniform()
        value = of.low * (of.high / of.low) ** at if of.scale == "log" else of.low + (of.high - of.low) * at
        if name in known:
            given[name] = str(rounded(value, of))
    return given


def trained(row: str, given: dict[str, str], seed: int, out: Path, logs: Path, customers: int = CUSTOMERS) -> float:
    """The mean per customer; from the file where it stands there."""
    learner = FIRST[row][0]
    code = rival_digest() if learner in LEARNERS else digest()
    line: dict[str, Any] = {"row": row, "seed": seed, "set": given, "code": code, "customers": customers}
    known = [r["mean"] for r in read(out) if line.items() <= r.items()]
    if known:
        return earned(known[0])
    try:
        one = one_rival if learner in LEARNERS else one_other
        line |= one(STUDY, customers, seed, learner, given, logs)
    except Exception as error:  # a diverged training is a trial that earned nothing; what ended it stands in the line
        line |= {"mean": None, "failed": f"{type(error).__name__}: {error}"}
    line["set"] = given
    with out.open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(row, given, seed, line["mean"], f"{line.get('train_seconds')} s", line.get("failed", ""), file=sys.stderr, flush=True)
    return earned(line["mean"])


def earned(mean: float | None) -> float:
    """What a trial is worth in the search."""
    return -np.inf if mean is None else mean


def search(row: str, trials: int, out: Path, logs: Path, customers: int = CUSTOMERS) -> dict[str, str]:
    """The settings that earned most on the trial seeds."""
    first, second = TRIALS_ON

    def worth(given: dict[str, str], seed: int) -> float:
        return trained(row, given, seed, out, logs, customers)

    tried = [drawn(row, trial) for trial in range(trials)]
    once = sorted(tried, key=lambda given: -worth(given, first))[:2]
    return max(once, key=lambda given: worth(given, first) + worth(given, second))


def tables(lines: list[dict[str, Any]], static: dict[int, float]) -> str:
    """Markdown: a table for each number of logged customers; nothing is compared across them."""
    sizes = sorted({r["customers"] for r in lines})
    return "\n\n".join(f"{n:,} logged customers\n\n{table([r for r in lines if r['customers'] == n], static)}" for n in sizes)


def table(lines: list[dict[str, Any]], static: dict[int, float]) -> str:
    """Markdown: trials, the settings chosen, what they earn on the final seeds, and the paired differences.

    Of two lines of the same row, seed and settings, by other code, the later one counts.

    Args:
        lines: of one number of customers. static: what the static list earns, by seed.
    """
    lines = list({(r["row"], r["seed"], str(r["set"])): r for r in lines}.values())
    final = {row: {r["seed"]: r for r in lines if r["row"] == row and r["seed"] in FINALS_ON} for row in FIRST}
    rows = [
        "| learner | settings tried | best of them on seed 100 | chosen | per customer | - dqn | - dqn later | - static |",
        "|---" * 8 + "|",
    ]
    for row, of in ((row, of) for row, of in final.items() if of):
        tried = [earned(r["mean"]) for r in lines if r["row"] == row and r["seed"] == TRIALS_ON[0]]
        means = [of[seed]["mean"] for seed in sorted(of)]
        gaps = []
        for other, rival in [(other, {s: r["mean"] for s, r in final[other].items()}) for other in ("dqn", "dqn later")] + [("", static)]:
            both = [seed for seed in sorted(of) if seed in rival and other != row]
            gap = paired_t([of[s]["mean"] for s in both], [rival[s] for s in both]) if both else None
            gaps.append("" if gap is None else f"{gap.mean:+.1f}{interval(gap)}")
        chosen = ", ".join(f"{name}={value}" for name, value in next(iter(of.values()))["set"].items()) or "defaults"
        own = f"{np.mean(means):.1f}{interval(student_t(means))}"
        rows.append(f"| {row} | {len(tried)} | {max(tried, default=np.nan):.1f} | {chosen} | {own} | {' | '.join(gaps)} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=lambda text: text.split(","), default=list(FIRST))
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--seeds", type=seeds_of, default=list(FINALS_ON), help="of the final rows")
    parser.add_argument("--customers", type=int, default=CUSTOMERS, help="in each log")
    parser.add_argument("--logs", type=Path, help="keep the logs and dqn's models there")
    parser.add_argument("-o", "--out", type=Path, default=Path("equal_tuning.jsonl"))
    parser.add_argument("--table", type=Path)
    parser.add_argument("--beside", type=Path, default=Path("docs/from_logs.jsonl"), help="lines of from_logs.py with the static list")
    options = parser.parse_args()
    if options.table:
        of = [r for r in read(options.beside) if (r.get("study"), r.get("customers")) == (STUDY, CUSTOMERS) and "means" in r]
        print(tables(read(options.table), {r["seed"]: r["means"]["static"] for r in of}))  # the same customers, whatever was logged
        return
    with tempfile.TemporaryDirectory() as folder:
        logs = options.logs or Path(folder)
        for row in options.rows:
            chosen = search(row, options.trials, options.out, logs, options.customers)
            for seed in options.seeds:
                trained(row, chosen, seed, options.out, logs, options.customers)


if __name__ == "__main__":
    main()
