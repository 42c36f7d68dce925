"""`make proof`: the claims in full, resumable. Every seed of every part is kept in proof-cache/ and not run again
while the code that decides it stays the same.

The parts are those of `qurate demo` at the size `demo.PROOF`: the shop with its long-term effects, the control without
them, and the best static list. Writes docs/proof.json, docs/proof.csv, docs/proof.md and docs/proof.html.
"""

import argparse
import csv
import hashlib
import json
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from digest import code_digest

from qurate.evaluation.rollouts import Rollout
from qurate.experiments import demo
from qurate.experiments.jobs import Job, run_jobs

ARRAYS = [f.name for f in fields(Rollout) if f.name not in ("component_names", "trace")]


CODE = (
    "settings.py", "types.py", "events", "mdp", "environments", "replay", "networks", "algorithms", "choosing", "learning", "baselines",
    "models", "training", "experiments", "evaluation/static_list.py", "evaluation/rollouts.py",
)  # fmt: skip
"""Where a change can move a figure of the proof."""


def keep(result: demo.SeedResult, path: Path) -> None:
    """One part of one seed as a NumPy archive without pickle; the traces of single customers are left out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {f"{name}/{field}": getattr(r, field) for name, r in result.rollouts.items() for field in ARRAYS}
    meta = {"names": {n: r.component_names for n, r in result.rollouts.items()}, "curves": result.curves, "steps": result.steps}
    beside = path.with_suffix(".tmp.npz")
    np.savez_compressed(beside, meta=np.frombuffer(json.dumps(meta).encode(), np.uint8), **arrays)
    beside.replace(path)


def kept(path: Path) -> demo.SeedResult:
    """The inverse of `keep`."""
    with np.load(path, allow_pickle=False) as data:
        meta = json.loads(data["meta"].tobytes())
        rollouts = {
            name: Rollout(**{field: data[f"{name}/{field}"] for field in ARRAYS}, component_names=components, trace=[])
            for name, components in meta["names"].items()
        }
    curves = {name: [(float(x), float(y)) for x, y in curve] for name, curve in meta["curves"].items()}
    return demo.SeedResult(rollouts, curves, meta["steps"])


def run(cache: Path, seeds: list[int], size: demo.Size) -> list[demo.SeedResult]:
    """All parts, those already in the cache without running them: main per seed, control per seed, static."""
    config = json.dumps([size, demo.SETTINGS, demo.ONLINE, demo.MYOPIC, demo.CLASSICAL, code_digest(CODE)], sort_keys=True)
    folder = cache / hashlib.sha256(config.encode()).hexdigest()[:12]
    places = [folder / f"main-{s}.npz" for s in seeds] + [folder / f"control-{s}.npz" for s in seeds]
    places.append(folder / f"static-{'-'.join(map(str, seeds))}.npz")
    jobs = [Job(demo.serve_one_shop, (s, folder / f"shop-{s}", size), stages=5) for s in seeds]
    jobs += [Job(demo.switch_off, (s, size), stages=2) for s in seeds] + [Job(demo.best_list, (seeds[0], seeds, size), stages=1)]
    missing = [i for i, place in enumerate(places) if not place.is_file()]
    print(f"{len(places) - len(missing)} of {len(places)} parts are in {folder}", file=sys.stderr)
    if missing:
        run_jobs([Job(run_and_keep, (*jobs[i], places[i]), stages=1) for i in missing], lambda what, done, total: None)
    return [kept(place) for place in places]


def run_and_keep(function: Any, arguments: tuple[Any, ...], stages: int, place: Path) -> demo.SeedResult:
    """Runs one part in a worker process and keeps it there, so that an interrupted run loses only what was under way."""
    began = time.monotonic()
    result: demo.SeedResult = function(*arguments)
    keep(result, place)
    print(f"{place.stem}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return result


def write(result: dict[str, Any], docs: Path) -> None:
    """proof.json, proof.csv and proof.md."""
    (docs / "proof.json").write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    rows = [("shop", p) for p in result["policies"]] + [("strength 0", p) for p in result["control"]["policies"]]
    with open(docs / "proof.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["world", "policy", "role", "mean", "ci_low", "ci_high", "decisions", "visits", "lift", "lift_low", "lift_high"])
        for world, p in rows:
            table.writerow([world, p["name"], p["role"], p["mean"], *p["ci"], p["decisions"], p["visits"], p["lift"], *p["lift_ci"]])
    (docs / "proof.md").write_text(markdown(result), encoding="utf-8")


def markdown(result: dict[str, Any]) -> str:
    """The tables of both worlds in words and figures."""

    def table(part: dict[str, Any]) -> list[str]:
        lines = [
            "| policy | mean per customer | 95 % interval | decisions | visits | lift over the best baseline |",
            "|---|---|---|---|---|---|",
        ]
        for p in sorted(part["policies"], key=lambda p: -p["mean"]):
            lift = "" if p["lift_ci"][0] is None else f"{p['lift']:+.2f} [{p['lift_ci'][0]:+.2f}, {p['lift_ci'][1]:+.2f}]"
            name = f"{p['name']} ({p['role']})" if p["role"] == "reference" else p["name"]
            lines.append(
                f"| {name} | {p['mean']:.2f} | {p['ci'][0]:.2f} to {p['ci'][1]:.2f} | {p['decisions']:.1f} | {p['visits']:.2f} | {lift} |"
            )
        return lines

    control, gap = result["control"], result["control"]["dqn_minus_myopic"]
    room = result["headroom"]
    return "\n".join(
        [
            "# The claim in full", "",
            f"Written by `make proof`: seeds {result['seeds']}, {result['customers']:,} fresh customers per policy and seed, "
            "Student t over seeds, lifts paired by seed. "
            f"{demo.PROOF.log_customers:,} logged customers, {demo.PROOF.online_decisions:,} decisions online; `qurate demo` runs the same "
            f"with {demo.DEMO.log_customers:,} and {demo.DEMO.online_decisions:,}.", "",
            "## The shop", "", result["sentence"], "", *table(result), "",
            f"Headroom, far-sighted minus true-myopic: {room['mean']:+.2f} [{room['ci'][0]:+.2f}, {room['ci'][1]:+.2f}].", "",
            "## Control: long-term effects switched off", "",
            f"DQN minus myopic: {gap['mean']:+.2f} [{gap['ci'][0]:+.2f}, {gap['ci'][1]:+.2f}].", "", *table(control), "",
        ]
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path("proof-cache"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    seeds = list(range(options.seeds))
    results = run(options.cache, seeds, demo.PROOF)
    n = len(seeds)
    result, report = demo.summarise_seeds(seeds, results[:n], results[n : 2 * n], results[-1])
    write(result | {"code": code_digest(CODE)}, options.docs)
    report.save_html(options.docs / "proof.html", force=True)
    print(result["sentence"])


if __name__ == "__main__":
    main()
