"""`make results`: every real log from raw file to ranking table, written to docs/results.md and docs/results.json.

    python benchmarks/results.py [--data ../shared/data] [--cache results-cache] [--out docs] [--seeds 3] [--only LOG] [--quick]

Resumable: each trained model (log, algorithm, seed) and each log's figures are kept in the cache and used again while
the source file, the settings and the number of updates are the same. `--quick` trains a few updates (for tests).
"""

import argparse
import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads: small products lose to the barrier

import numpy as np
from digest import code_digest
from results_logs import ALGORITHMS, LOGS, Log, log_named
from results_page import page

import qurate
from qurate.baselines.neighbours import RecentScorer
from qurate.baselines.registry import ShownOrderScorer, fit_popularity
from qurate.choosing.policy import FirstThen
from qurate.evaluation.evaluate import evaluate_ranking
from qurate.evaluation.ranking import gains, rank_all, ranking_targets
from qurate.events.readers import read_events
from qurate.experiments.evaluate import log_discount, ranking_baselines
from qurate.mdp.candidate_features import PLACE
from qurate.mdp.dataset import build_dataset
from qurate.mdp.storage import Dataset
from qurate.models.model import Model, load
from qurate.training.clocked import with_clocks
from qurate.training.run import intra_op_threads
from qurate.training.train import train
from qurate.types import TEST, FloatArray, Observation, Scorer

K = 20
RANKING = "models/network_ranker.py"
LEARNING = ("settings.py", "types.py", "events", "mdp", "replay", "networks", "algorithms", "learning", "training", RANKING)
"""Where a change can move a trained model's figures: their digest stands beside each figure."""


def main(arguments: list[str] | None = None) -> None:
    """Runs what is not in the cache, then writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("QURATE_DATA", "../shared/data"))
    parser.add_argument("--cache", default="results-cache")
    parser.add_argument("--out", default="docs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", help="one log; the page keeps the cached figures of the others")
    parser.add_argument("--quick", action="store_true", help="20 updates per training and 200 visits: for tests, no result")
    options = parser.parse_args(arguments)
    intra_op_threads(1)
    data, kept = Path(options.data), Path(options.cache)
    if not data.is_dir():
        raise SystemExit(f"error: expected the folder of the real logs, got none, at {data.absolute()}; set QURATE_DATA")
    chosen = LOGS if options.only is None else (log_named(options.only),)
    if options.quick:
        chosen = tuple(replace(log, steps=20, visits=200) for log in chosen)
    kept.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    found = {log.name: _cached(kept / f"{log.name}.json") for log in LOGS}
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    for log in chosen:
        found[log.name] = figures(log, data, kept, options.seeds)
        results = {name: entry for name, entry in found.items() if entry is not None}
        _write(out / "results.json", json.dumps({"k": K, "logs": results}, indent=1, allow_nan=False) + "\n")
        _write(out / "results.md", page(results, K))
    print(f"{out / 'results.md'} and {out / 'results.json'} after {time.monotonic() - began:.0f} s", flush=True)


def figures(log: Log, data: Path, kept: Path, seeds: int) -> dict[str, Any]:
    """The log's entry of docs/results.json: from the cache, or trained and evaluated now."""
    source = data / log.file
    key = {
        "sha256": digest(source), "rewards": log.rewards, "steps": log.steps, "visits": log.visits,
    }  # fmt: skip
    place = kept / f"{log.name}.json"
    found = _cached(place)
    if found is not None and found["key"] == key and found["seeds"] >= seeds:
        print(f"{log.name}: from {place}", flush=True)
        if found["code"] != code_digest(LEARNING):
            print(f"note: {log.name} was trained by other code than today's; delete {kept} to train again", flush=True)
        return found | {"what": log.what, "notes": list(log.notes)}  # words may change without training again
    began = time.monotonic()
    dataset = build_dataset(read_events(source), rewards=log.rewards)
    print(f"{log.name}: {len(dataset.transitions.action):,} transitions in {time.monotonic() - began:.0f} s", flush=True)
    models = {(a, seed): trained(log, a, seed, dataset, kept, key) for seed in range(seeds) for a in ALGORITHMS}
    entry = {
        "key": key, "code": code_digest(LEARNING), "qurate": qurate.__version__, "log": log.name, "what": log.what,
        "notes": list(log.notes),
        **_counts(dataset, log), "seeds": seeds,
        "training": {f"{a}/{seed}": _run(model) for (a, seed), model in models.items()},
        **judged(log, dataset, models, seeds),
    }  # fmt: skip
    entry["seconds"] = round(time.monotonic() - began)
    entry = json.loads(json.dumps(entry, default=float))
    _write(place, json.dumps(entry, indent=1, allow_nan=False))
    print(f"{log.name}: done after {entry['seconds']} s", flush=True)
    return entry


def trained(log: Log, algorithm: str, seed: int, dataset: Dataset, kept: Path, key: Mapping[str, Any]) -> Model:
    """The model of one log, algorithm and seed, from the cache where it was made with the same key."""
    folder, note = kept / f"{log.name}-{algorithm}-{seed}", kept / f"{log.name}-{algorithm}-{seed}.json"
    wanted = {name: value for name, value in key.items() if name != "visits"}
    found = _cached(note)
    if found is not None and found["key"] == wanted and found["code"] == code_digest(LEARNING) and folder.is_dir():
        return load(folder)
    model = train(dataset, algorithm=algorithm, seed=seed, steps=log.steps)
    model.checkpoint.clear()  # a result needs no optimiser
    model = model.save(folder)
    _write(note, json.dumps({"key": wanted, "code": code_digest(LEARNING)}))
    run = _run(model)
    print(f"{log.name}: {algorithm} seed {seed}: {run['steps']:,} updates in {run['seconds']:.0f} s", flush=True)
    return model


def judged(log: Log, dataset: Dataset, models: Mapping[tuple[str, int], Model], seeds: int) -> dict[str, Any]:
    """Ranking of the test split: every score of DQN and myopic, nested in seeds, beside the baselines."""
    first = models["dqn", 0]
    dataset = with_clocks(dataset, first.settings)
    scores: dict[str, list[Scorer]] = {by: [models["dqn", s].ranked_by(by) for s in range(seeds)] for by in first.ranker.ranking_scores}
    main = first.by if first.by == "behaviour_times_q" else "q"
    scores["myopic"] = [models["myopic", s].ranked_by(main) for s in range(seeds)]
    baselines = ranking_baselines(dataset)
    shown = len(dataset.transitions.candidates) > 0
    if dataset.lists is not None:  # where the learner may forget, popularity may too
        baselines["popularity_1d"] = fit_popularity(dataset, half_life_days=1.0)
    if shown:
        del baselines["recent"]  # on shown lists it is "last_touched" with another rest
        baselines |= listed_baselines(dataset)
        scores["q_without_place"] = [WithoutPlace(models["dqn", s].ranked_by("q")) for s in range(seeds)]
    result = evaluate_ranking(
        "dqn", log.name, dataset, scores, baselines, main, k=K, window=first.window, visits=log.visits,
        discount=log_discount([first], dataset),
    )  # fmt: skip
    return {"ranking": result, "orders_of_all_lists": orders_of_all_lists(dataset) if shown else None}


class WithoutPlace:
    """A model that is not given the place at which the site shows a candidate; to it every place is the mean one."""

    def __init__(self, model: Scorer) -> None:
        self.model, self.name = model, f"{model.name} without place"

    def scores(self, observation: Observation[Any]) -> FloatArray:
        """float32 [B, K] of the candidates."""
        actions = observation.actions
        if actions.values is None or PLACE not in actions.columns:
            return self.model.scores(observation)
        values = actions.values.copy()
        values[:, :, actions.columns.index(PLACE)] = np.nan
        return self.model.scores(observation._replace(actions=actions._replace(values=values)))


def listed_baselines(dataset: Dataset) -> dict[str, Scorer]:
    """For shown lists: the site's own order, and the item touched last (by any kind of event) put first."""
    touched = RecentScorer(np.ones(len(dataset.vocabulary.types) + 1, bool), limit=1)
    return {"site_order": ShownOrderScorer(), "last_touched": FirstThen(touched, ShownOrderScorer(), "last_touched")}


def orders_of_all_lists(dataset: Dataset) -> dict[str, float]:
    """MRR of the two orders that need no training over all clickouts of the log, not the test split alone."""
    everything = replace(dataset.transitions, split=np.full_like(dataset.transitions.split, TEST))
    whole = replace(dataset, transitions=everything)
    rows = ranking_targets(whole)
    ranked, _ = rank_all(whole, rows, listed_baselines(dataset), K, 50)
    return {"n": float(rows.size)} | {name: float(gains(r.ranks, K)["MRR"].mean()) for name, r in ranked.items()}


def _counts(dataset: Dataset, log: Log) -> dict[str, Any]:
    split = np.bincount(dataset.transitions.split, minlength=4)
    return {
        "kind": dataset.kind, "source": log.file, "rows": int(dataset.manifest["counts"]["events"]),
        "users": len(dataset.user_ids), "items": dataset.vocabulary.n_items, "transitions": len(dataset.transitions.action),
        "decisions": dict(zip(("train", "valid", "test", "history"), map(int, split))),
        "rewards": dataset.manifest["rewards"], "episode": dataset.manifest["episode"]["rule"],
    }  # fmt: skip


def _run(model: Model) -> dict[str, Any]:
    return {name: model.metrics.get(name) for name in ("steps", "seconds", "alarms", "stopped")}


def digest(file: Path) -> str:
    """sha256 of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _cached(file: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(file.read_text())
    except (FileNotFoundError, json.JSONDecodeError):  # absent, or cut off: made again
        return None
    return found


def _write(file: Path, text: str) -> None:
    """Whole or not at all."""
    beside = file.with_name(file.name + ".part")
    beside.write_text(text)
    beside.replace(file)


if __name__ == "__main__":
    main()
