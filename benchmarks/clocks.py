"""Next clicks on a log whose catalogue turns over, with counters up to date and late: Globo by default.

    python benchmarks/clocks.py [--seeds 3] [--late 3600] [--split test] [--data DIRECTORY] [--log FILE]

Ranked are 15,000 choices of the last tenth that go on with a visit, drawn with seed 0; the same for the model of each seed (default
options of `train`) and for the rules by a single clock. `--late` asks for a model that was trained with late counters too.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from qurate import build_dataset, read_events, train
from qurate.baselines.clock_rules import CLOCK_RULES, ColumnScorer
from qurate.evaluation.intervals import percentile, sum_by_user, user_bootstrap
from qurate.evaluation.ranking import Ranked, gains, rank_all
from qurate.mdp.storage import Dataset
from qurate.types import TEST, VALID, IntArray, Scorer

K, TARGETS, DRAWS = 20, 15_000, 1_000


def main() -> None:
    """Trains, ranks, prints one line of JSON for each moment of the counters."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--late", type=float, default=0.0, help="seconds by which counters are late in training too")
    options.add_argument("--split", choices=["test", "valid"], default="test")
    options.add_argument("--data", type=Path, help="a dataset that was ingested before")
    options.add_argument("--log", type=Path, default=Path(os.environ.get("QURATE_DATA", ".")) / "globo_news/clicks.parquet")
    asked = options.parse_args()
    dataset = Dataset.read(asked.data) if asked.data else build_dataset(read_events(asked.log), episode="session")
    dataset = dataset.with_lists(asked.late)
    targets = next_clicks(dataset, {"test": TEST, "valid": VALID}[asked.split])
    scorers: dict[str, Scorer] = {name: ColumnScorer(name) for name in CLOCK_RULES}
    window = 0
    for seed in range(asked.seeds):
        began = time.monotonic()
        model = train(dataset, seed=seed, histories=False, clocks="on", clocks_late=asked.late)
        print(json.dumps({"seed": seed, "updates": model.metrics["steps"], "seconds": round(time.monotonic() - began)}), flush=True)
        scorers |= {f"{by}/{seed}": model.ranked_by(by) for by in ("behaviour_times_q", "behaviour")}
        window = model.window
    for late in [asked.late] if asked.late else [0.0, 3_600.0]:
        ranked, _ = rank_all(dataset.with_lists(late), targets, scorers, K, window)
        print(json.dumps({"late_s": late, "split": asked.split, **figures(dataset, targets, ranked, asked.seeds)}), flush=True)


def next_clicks(dataset: Dataset, split: int) -> IntArray:
    """Transitions of a split whose choice goes on with a visit; at most so many, drawn with seed 0."""
    t = dataset.transitions
    rows = np.flatnonzero(t.split[t.state] == split)
    end = t.history_end[t.state[rows]]
    rows = rows[dataset.row_visit[end - 1] == dataset.row_visit[end]]
    return np.sort(np.random.default_rng(0).choice(rows, min(TARGETS, len(rows)), replace=False))


def figures(dataset: Dataset, rows: IntArray, ranked: dict[str, Ranked], seeds: int) -> dict[str, Any]:
    """HR and MRR of each rule and of the mean over seeds, with the paired difference to the best rule: 95 %, bootstrap over users."""
    hits = {name: gains(found.ranks, K) for name, found in ranked.items()}
    metrics = (f"HR@{K}", f"MRR@{K}")
    by = {name: {m: hits[name][m][None] for m in metrics} for name in CLOCK_RULES}
    for score in ("behaviour_times_q", "behaviour"):
        by[score] = {m: np.stack([hits[f"{score}/{s}"][m] for s in range(seeds)]) for m in metrics}
    best = max(CLOCK_RULES, key=lambda name: float(by[name][f"HR@{K}"].mean()))
    out: dict[str, Any] = {"n": len(rows), "listed": float((ranked[best].ranks.ties > 0).mean()), "best_rule": best}
    out["by_seed"] = [round(float(hits[f"behaviour_times_q/{s}"][f"HR@{K}"].mean()), 4) for s in range(seeds)]
    _, user = np.unique(dataset.transitions.user[dataset.transitions.state[rows]], return_inverse=True)
    for name, values in by.items():
        out[name] = {m: interval(user, v) for m, v in values.items()}
    out["minus_best_rule"] = interval(user, by["behaviour_times_q"][f"HR@{K}"] - by[best][f"HR@{K}"])
    return out


def interval(user: IntArray, values: Any) -> dict[str, float]:
    """Mean over seeds and targets of values [S, T], and its interval, over users crossed with seeds."""
    users = int(user.max()) + 1
    sums, counts = sum_by_user(user, users, values), sum_by_user(user, users, np.ones((1, values.shape[1])))
    found = percentile(float(values.mean()), user_bootstrap(sums[None], counts, DRAWS, 0).reshape(-1))
    return {"mean": round(found.mean, 4), "lo": round(found.lo, 4), "hi": round(found.hi, 4)}


if __name__ == "__main__":
    main()
