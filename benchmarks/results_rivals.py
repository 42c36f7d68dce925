"""Known recommenders beside DQN on the real logs, each tuned by `tune` on held-out training decisions: docs/rivals.md and .json.

    python benchmarks/results_rivals.py [--data ../shared/data] [--cache results-cache] [--out docs] [--minutes 3]
        [--longest 10] [--seeds 3] [--only LOG] [--algorithms gru4rec,sasrec]

Every algorithm of `RIVALS` gets `--minutes` of `qurate tune` (a column of the table; 0 = the default settings), is trained with what
was found (`--seeds` times where it draws numbers), and ranks the test targets of docs/results.md with the same candidates. DQN's
models are those of `results.py`, by default options and not tuned; they must lie in the cache. Resumable: a finished row of a log is
not made again.
"""

import argparse
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads: small products lose to the barrier

from digest import code_digest
from results import LEARNING, K, digest
from results_logs import LOGS, Log, log_named

from qurate.baselines.registry import FITTED
from qurate.errors import Code, UserError
from qurate.evaluation.evaluate import Measured, Targets
from qurate.evaluation.intervals import percentile
from qurate.evaluation.ranking import Ranked, draw_visits, rank_all, ranking_targets
from qurate.events.readers import read_events
from qurate.experiments.evaluate import log_discount
from qurate.experiments.tune import tune
from qurate.files import replacing_file
from qurate.mdp.dataset import build_dataset
from qurate.mdp.storage import Dataset
from qurate.models.model import Model, load
from qurate.training.clocked import with_clocks
from qurate.training.run import intra_op_threads
from qurate.training.train import train
from qurate.types import IntArray

RIVALS = {
    "popularity": "popularity with decay",
    "item_knn": "item-kNN",
    "recent": "own items most recent first, then session-kNN",
    "session_knn": "session-kNN (VSKNN)",
    "content": "content",
    "ease": "EASE",
    "als": "ALS (implicit)",
    "bpr": "BPR (implicit)",
    "gru4rec": "GRU4Rec",
    "sasrec": "SASRec",
}
DRAWN = ("als", "bpr", "gru4rec", "sasrec")
"""Those whose result depends on a seed: three of them; the others have one."""
DQN_SEEDS = 3
BEGIN, END = "<!-- rivals -->", "<!-- /rivals -->"


class Size(NamedTuple):
    """What a row may cost."""

    budget: float  # seconds of `tune`
    longest: float | None  # seconds of one final training
    seeds: int


def main(arguments: list[str] | None = None) -> None:
    """Tunes, trains and ranks what the cache lacks, then writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("QURATE_DATA", "../shared/data"))
    parser.add_argument("--cache", default="results-cache")
    parser.add_argument("--out", default="docs")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--longest", type=float, default=10.0, help="minutes of one final training; 0 = until its passes are done")
    parser.add_argument("--seeds", type=int, default=3, help="of those that draw numbers")
    parser.add_argument("--only", help="one log; the page keeps the cached rows of the others")
    parser.add_argument("--table", action="store_true", help="only write the page from the cache")
    parser.add_argument("--algorithms", default=",".join(RIVALS), help="separated by commas")
    options = parser.parse_args(arguments)
    intra_op_threads(1)
    kept, out = Path(options.cache), Path(options.out)
    names = options.algorithms.split(",")
    for log in () if options.table else LOGS if options.only is None else (log_named(options.only),):
        size = Size(60 * options.minutes, 60 * options.longest or None, options.seeds)
        rows_of(log, names, Path(options.data), kept, size)
    found = {log.name: json.loads(kept_rows(kept, log).read_text()) for log in LOGS if kept_rows(kept, log).exists()}
    write_page(found, out)


def kept_rows(kept: Path, log: Log) -> Path:
    """Where the rows of a log are kept."""
    return kept / f"{log.name}-rivals.json"


def rows_of(log: Log, names: Sequence[str], data: Path, kept: Path, size: Size) -> None:
    """Makes the rows of one log that the cache lacks; each is written as soon as it is known."""
    file, source = kept_rows(kept, log), data / log.file
    entry: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"sha256": digest(source), "visits": log.visits, "rows": {}}
    dataset = build_dataset(read_events(source), rewards=log.rewards)
    wanted = [name for name in names if name not in entry["rows"] and (name != "content" or dataset.item_features.shape[1])]
    if not wanted:
        return
    dqn = dqn_models(log, kept)
    listed = with_clocks(dataset, dqn[0].settings)
    rows = ranking_targets(listed) if log.visits is None else draw_visits(listed, ranking_targets(listed), log.visits, 0)
    judge = Judge(listed, rows, dqn)
    entry["dqn"] = {"by": dqn[0].by, "n": int(rows.size), "users": judge.targets.users, **judge.own.total}
    for name in wanted:
        began = time.monotonic()
        search = kept / f"{log.name}-tune-{name}"
        if search.exists():  # cut short: what it found in less time would be no equal budget
            shutil.rmtree(search)
        tuned = tuned_within(dataset, name, search, size.budget)
        settings = tuned["best"]["settings"]
        longest = None if name in FITTED else size.longest
        models = [
            train(dataset, algorithm=name, seed=seed, budget=longest, histories=False, **settings)
            for seed in range(size.seeds if name in DRAWN else 1)
        ]
        entry["rows"][name] = {
            "settings": settings, "trials": (tuned["default"] is not None) + tuned["trials"] + tuned["pruned"], "default": tuned["default"],
            "best": tuned["best"].get("value"),
            "minutes": size.budget / 60, "seconds": [round(model.metrics["seconds"], 1) for model in models],
            "code": code_digest(LEARNING), **judge.row(models),
        }  # fmt: skip
        with replacing_file(file) as beside:
            beside.write_text(json.dumps(entry, indent=1, default=float))
        figure, behind = entry["rows"][name]["metrics"][f"NDCG@{K}"]["mean"], entry["rows"][name]["dqn_minus_it"]
        print(f"{log.name} {name}: NDCG@{K} {figure:.4f}, DQN minus it {behind}, {time.monotonic() - began:.0f} s", flush=True)


def tuned_within(dataset: Dataset, name: str, search: Path, budget: float) -> dict[str, Any]:
    """What `tune` finds; the default settings where the time does not suffice for one training."""
    nothing = {"best": {"settings": {}}, "default": None, "trials": 0, "pruned": 0}
    if not budget:
        return nothing
    try:
        return tune(dataset, name, search, budget=budget)
    except UserError as error:
        if error.code != Code.BAD_DURATION:
            raise
        return nothing


def dqn_models(log: Log, kept: Path) -> list[Model]:
    """The models of `results.py`.

    Raises:
        SystemExit: they are not in the cache.
    """
    folders = [kept / f"{log.name}-dqn-{seed}" for seed in range(DQN_SEEDS)]
    if not all(folder.is_dir() for folder in folders):
        raise SystemExit(f"error: expected {folders[0]} and its siblings, got none; run benchmarks/results.py --only {log.name} first")
    return [load(folder) for folder in folders]


class Judge:
    """Ranks test targets by several models of one kind and pairs them with DQN."""

    def __init__(self, data: Dataset, rows: IntArray, dqn: Sequence[Model]) -> None:
        self.data, self.rows = data, rows
        self.metric = "MRR" if len(data.transitions.candidates) else f"NDCG@{K}"
        ranked, self.opened = self._ranked(dqn)
        self.targets = Targets(data, rows, ranked[0].ranks.ties > 0, 1_000, 0, log_discount(dqn, data))
        self.own = Measured(ranked, self.targets, K, self.opened)

    def row(self, models: Sequence[Model]) -> dict[str, Any]:
        """The figures of a rival, and DQN minus it, paired by user."""
        theirs = Measured(self._ranked(models)[0], self.targets, K, self.opened)
        difference = self.own.total[self.metric]["mean"] - theirs.total[self.metric]["mean"]
        paired = percentile(difference, self.own.draws[self.metric] - theirs.draws[self.metric])
        return {"metrics": theirs.total, "lists": theirs.lists, "dqn_minus_it": {"metric": self.metric, **paired.to_dict()}}

    def _ranked(self, models: Sequence[Model]) -> tuple[list[Ranked], int]:
        scorers = {str(i): model.ranked_by(model.by) for i, model in enumerate(models)}
        ranked, opened = rank_all(self.data, self.rows, scorers, K, models[0].window)
        return [ranked[name] for name in scorers], int(opened.sum())


def write_page(found: Mapping[str, Mapping[str, Any]], out: Path) -> None:
    """docs/rivals.json, and the tables between the marks of docs/rivals.md."""
    page = out / "rivals.md"
    text = page.read_text("utf-8")
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    tables = "\n".join(line for name, entry in found.items() for line in section(name, entry))
    with replacing_file(page) as beside:
        beside.write_text(text[:begin] + "\n\n" + tables + "\n" + text[end:], "utf-8")
    with replacing_file(out / "rivals.json") as beside:
        beside.write_text(json.dumps({"k": K, "logs": found}, indent=1, default=float) + "\n")
    print(f"{page} and {out / 'rivals.json'}", flush=True)


def section(name: str, entry: Mapping[str, Any]) -> list[str]:
    """The lines of one log, the best row first."""
    dqn, rows = entry["dqn"], entry["rows"]
    metric = next(iter(rows.values()))["dqn_minus_it"]["metric"]
    shown = [f"HR@{K}", f"NDCG@{K}", f"MRR@{K}", *(["MRR"] if metric == "MRR" else [])]
    lines = [
        f"## {name}",
        "",
        f"{dqn['n']:,} targets of {dqn['users']:,} users.",
        "",
        f"| row | {' | '.join('MRR of the list' if m == 'MRR' else m for m in shown)} | DQN minus it, {metric} | minutes of `tune` "
        "| trainings tried | validation, default and best |",
        "|---" * (len(shown) + 5) + "|",
    ]
    table = {f"DQN, default options ({dqn['by']})": (dqn, "")}
    for algorithm, row in rows.items():
        behind = f"{_figure(row['dqn_minus_it'])} | {row['minutes']:g} | {row['trials']} | {_known(row['default'])}, {_known(row['best'])}"
        one_seed = " (one seed)" if algorithm in DRAWN and len(row["seconds"]) == 1 else ""
        table[RIVALS[algorithm] + one_seed] = (row["metrics"], behind)
    for label, (figures, rest) in sorted(table.items(), key=lambda pair: -pair[1][0][metric]["mean"]):
        lines.append(f"| {label} | {' | '.join(_figure(figures[m]) for m in shown)} | {rest or ' | | | '} |")
    return [*lines, ""]


def _known(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _figure(figure: Mapping[str, Any]) -> str:
    low, high = figure["ci"]
    return f"{figure['mean']:.4f}" + (f" ({low:.4f} to {high:.4f})" if low is not None else "")


if __name__ == "__main__":
    main()
