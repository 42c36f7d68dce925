"""Fingerprints of trained weights: the same before and after a change that must not move any learning figure.

    python benchmarks/weights.py > before.txt        (change the code)        python benchmarks/weights.py | diff before.txt -

Trains for a few dozen updates in the shop and on a logged, an exposure (lists) and an organic log of its own making, in
several settings, and prints one sha256 of all weights per run. Needs no data; 20 seconds.
"""

import csv
import hashlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

import qurate

START = 1_700_000_000


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A CSV file with these rows."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)
    return path


def organic(folder: Path) -> Path:
    """Customers who click and buy; nothing is known of what was shown."""
    rng, rows = np.random.default_rng(1), []
    for user in range(120):
        at = START + int(rng.integers(0, 20 * 86_400))
        for _ in range(int(rng.integers(3, 14))):
            at += int(rng.choice([20, 60, 7_200]))
            kind = str(rng.choice(["click", "click", "purchase"]))
            rows.append({"user_id": f"u{user}", "item_id": f"i{rng.integers(60)}", "type": kind, "timestamp": at})
    return write(folder / "organic.csv", rows)


def shown(folder: Path, name: str, propensities: bool) -> tuple[Path, Path]:
    """One item (with probabilities) or lists of three (without), and the clicks on them."""
    rng, decisions, events = np.random.default_rng(2), [], []
    for user in range(120):
        at = START + int(rng.integers(0, 20 * 86_400))
        for step in range(8):
            at += int(rng.choice([20, 60, 7_200]))
            items = [f"i{i}" for i in rng.choice(60, 1 if propensities else 3, replace=False)]
            row = {"decision_id": f"d{user}-{step}", "user_id": f"u{user}", "timestamp": at, "shown": "|".join(items)}
            if propensities:
                row |= {"shown": items[0], "propensity": 1 / 60}
            decisions.append(row)
            if rng.random() < 0.4:
                event = {"user_id": f"u{user}", "item_id": items[-1], "type": "click", "timestamp": at + 5}
                events.append(event | {"decision_id": f"d{user}-{step}"})
    return write(folder / f"{name}.csv", events), write(folder / f"{name}-decisions.csv", decisions)


def fingerprint(model: Any) -> str:
    """First 16 digits of the sha256 of all weights, by name."""
    total = hashlib.sha256()
    for name, value in sorted(model.network.state_dict().items()):
        total.update(name.encode() + value.cpu().numpy().tobytes())
    return total.hexdigest()[:16]


def datasets(folder: Path) -> dict[str, Any]:
    """One dataset of each kind."""
    features = folder / "items.csv"
    write(features, [{"item_id": f"i{i}", "price": 1 + i % 7, "category": f"c{i % 5}"} for i in range(60)])
    logs = {"organic": (organic(folder), None), "logged": shown(folder, "logged", True), "exposure": shown(folder, "exposure", False)}
    out = {}
    for name, (events, decisions) in logs.items():
        log = qurate.read_events(events, decisions=decisions)
        out[name] = qurate.build_dataset(
            log, items=pl.read_csv(features), rewards={"click": 1, "purchase": 5} if name == "organic" else {"click": 1}
        )
        assert out[name].kind == name, (name, out[name].kind)
    return out


RUNS: dict[str, dict[str, Any]] = {
    "default": {},
    "single": {"form": "single", "loss": "huber", "target_period": 10, "target_tau": 1.0},
    "double": {"double": True, "n_step": 3, "encoder": "gru"},
    "myopic": {"gamma": 0.0, "id_embedding": False},
}


def main() -> None:
    """Prints `log setting digest`, a line each."""
    torch.set_num_threads(1)
    small = {"hidden": 16, "embedding_dim": 8, "window": 10, "batch_size": 32}
    with tempfile.TemporaryDirectory() as folder:
        for log, dataset in datasets(Path(folder)).items():
            for run, settings in RUNS.items():
                print(log, run, fingerprint(qurate.train(dataset, steps=40, **small, **settings)), flush=True)
    for run, settings in RUNS.items():
        print("shop", run, fingerprint(qurate.train(env="shop", steps=3_000, **small, **settings)), flush=True)


if __name__ == "__main__":
    main()
