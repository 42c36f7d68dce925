"""Atari: trains one seed under a time budget, plays full games, and keeps its row, its learning curve and a picture.

    python benchmarks/atari.py --seed 0 --budget 15m --device cpu -o docs/atari [--threads 2] [--set KEY=VALUE ...]
    python benchmarks/atari.py --picture --page docs/atari.md -o docs/atari
    python benchmarks/atari.py --speed --device cuda

Into the folder go `runs.csv` (one row per run), `curve_DEVICE_SEED.csv`, the model and, where altair is installed, `curves.svg`. The
games played afterwards are whole and their scores are not clipped; a random action is taken with probability .001.
"""

import argparse
import csv
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads

import numpy as np
import torch

from qurate.algorithms.table import algorithm_settings, make_objective
from qurate.choosing.selection import epsilon_greedy
from qurate.environments.from_gymnasium import make_task
from qurate.learning.device import device_of
from qurate.learning.learner import Learner
from qurate.networks.build import build_task_network
from qurate.settings import flat
from qurate.training.on_task import task_defaults, task_device
from qurate.training.run import intra_op_threads
from qurate.training.train import train
from qurate.types import Batch, DenseState, OpenActions

GAME, EPSILON, LANES = "ALE/Breakout-v5", 0.001, 16
CURVE = ("seconds", "decisions", "frames", "updates", "return", "episodes", "epsilon", "loss", "q")


def scores(act: Any, env: str, games: int, seed: int) -> list[float]:
    """Unclipped scores of whole games: the first ones of each lane, so that short games are not met more often than long ones."""
    engine = make_task(env)
    lanes = min(games, LANES)
    per_lane = -(-games // lanes)
    observation, total = engine.reset(seed, lanes), np.zeros(lanes)
    done: list[list[float]] = [[] for _ in range(lanes)]
    while min(map(len, done)) < per_lane:
        feedback = engine.step(act(observation))
        total += feedback.reward
        for lane in np.flatnonzero(feedback.terminated | feedback.truncated).tolist():
            done[lane].append(float(total[lane]))
            total[lane] = 0.0
        observation = feedback.obs
    engine.close()
    return [score for lane in done for score in lane[:per_lane]]


def policy(scorer: Any, epsilon: float, seed: int) -> Any:
    """Epsilon-greedy positions for an observation."""
    rng = np.random.default_rng([seed, 11])

    def act(observation: Any) -> Any:
        mask = observation.actions.mask
        q = np.zeros(mask.shape, np.float32) if scorer is None else scorer(observation)
        return epsilon_greedy(q, mask, epsilon, rng)[0]

    return act


def run(args: argparse.Namespace) -> None:
    given = dict(pair.split("=", 1) for item in args.set or [] for pair in item.split(","))
    args.output.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()

    def report(done: int, wanted: int, figures: dict[str, float]) -> None:
        if figures.get("step") != done:
            return  # between two points of the curve
        shown = " ".join(f"{name} {value:.4g}" for name, value in figures.items() if name != "step")
        print(f"{time.monotonic() - began:7.0f} s  {done:>9,} decisions  {shown}", file=sys.stderr, flush=True)

    model = train(
        env=args.env, algorithm=args.algorithm, seed=args.seed, budget=args.budget, steps=args.steps, device=args.device, progress=report,
        **given,
    )  # fmt: skip
    metrics, name = model.metrics, f"{args.device}_{args.seed}"
    write_curve(args.output / f"curve_{name}.csv", metrics["curve"], model)
    model.save(args.output / f"model_{name}", force=True)
    place = device_of(args.device, worth_it=True)
    ranker: Any = model.ranker
    ranker.module.to(place)
    played = np.array(scores(policy(ranker.scores, EPSILON, args.seed), args.env, args.games, 1_000 + args.seed))
    at_random = np.array(scores(policy(None, 1.0, args.seed), args.env, args.games, 1_000 + args.seed))
    means = np.random.default_rng(0).choice(played, (2_000, len(played))).mean(1)
    returns = [point["return"] for point in metrics["curve"] if "return" in point]
    names = task_names(args)
    low, high = np.percentile(means, [2.5, 97.5])
    row = {
        "seed": args.seed, "device": place.type, "machine": machine(place), "torch": torch.__version__, "algorithm": args.algorithm,
        "budget_s": args.budget, "seconds": metrics["seconds"], "decisions": metrics["steps"], "frames": 4 * metrics["steps"],
        "updates": metrics["updates"], "games": len(played), "score": float(played.mean()), "score_low": float(low),
        "score_high": float(high), "score_max": float(played.max()), "random": float(at_random.mean()),
        "best_of_curve": max(returns, default=0.0), "last_of_curve": returns[-1] if returns else 0.0,
        "settings": " ".join(f"{k}={v}" for k, v in sorted(flat(model.settings).items()) if k in names),
    }  # fmt: skip
    append(args.output / "runs.csv", row)
    print({k: v for k, v in row.items() if k != "settings"})
    picture(args.output)


def task_names(args: argparse.Namespace) -> set[str]:
    """The settings that differ from the defaults of catalogues, worth a column."""
    engine = make_task(args.env)
    names = set(task_defaults(engine, task_device(engine, args.device)))
    engine.close()
    return names


def write_curve(path: Path, curve: list[dict[str, float]], model: Any) -> None:
    s = model.settings.exploration
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, CURVE, extrasaction="ignore", restval="")
        table.writeheader()
        for point in curve:
            epsilon = s.epsilon_start + (s.epsilon_end - s.epsilon_start) * min(point["step"] / s.epsilon_steps, 1.0)
            own = {"decisions": point["step"], "frames": 4 * point["step"], "epsilon": epsilon}
            table.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in {**point, **own}.items()})


def append(path: Path, row: dict[str, Any]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        table = csv.DictWriter(file, row)
        if new:
            table.writeheader()
        table.writerow({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()})


def machine(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{os.cpu_count()} cores"


def picture(folder: Path) -> None:
    """Every curve of the folder: mean unclipped score of the training games over minutes."""
    try:
        import altair
    except ImportError:
        print("no altair: the picture is drawn by --picture where it is installed", file=sys.stderr)
        return
    rows = []
    for path in sorted(folder.glob("curve_*.csv")):
        device, seed = path.stem.split("_")[1:]
        with path.open() as file:
            rows += [
                {"minutes": float(r["seconds"]) / 60, "score": float(r["return"]), "run": f"{device}, seed {seed}"}
                for r in csv.DictReader(file)
                if r["return"]
            ]
    lines = altair.Chart(altair.Data(values=rows)).mark_line()
    chart = lines.encode(
        x=altair.X("minutes:Q", title="minutes of training"),
        y=altair.Y("score:Q", title="mean score of a training game"),
        color=altair.Color("run:N", title=None),
    )
    chart.properties(width=560, height=300).save(str(folder / "curves.svg"))


def table(folder: Path, page: Path) -> None:
    """Puts the runs of the folder between the marks of a page."""
    with (folder / "runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    lines = [
        "| machine | seed | seconds | decisions | updates | score of whole games (95 %) | best | random |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        score = f"{float(r['score']):.1f} ({float(r['score_low']):.1f} to {float(r['score_high']):.1f}), {r['games']} games"
        lines.append(
            f"| {r['machine']} | {r['seed']} | {float(r['seconds']):.0f} | {int(r['decisions']):,} | {int(r['updates']):,} | {score} "
            f"| {float(r['score_max']):.0f} | {float(r['random']):.1f} |"
        )
    text, mark, end = page.read_text(), "<!-- runs:begin -->", "<!-- runs:end -->"
    before, after = text.split(mark)[0], text.split(end)[1]
    page.write_text("\n".join([before + mark, *lines, end]) + after)


def speed(args: argparse.Namespace) -> None:
    """Updates per second on random frames, for each way to compute; nothing is trained."""
    place = device_of(args.device, worth_it=True)
    engine = make_task(args.env)
    settings = algorithm_settings("dqn", {}, task_defaults(engine, place))
    size, n = settings.learning.batch_size, engine.n_items
    for name, mixed in (("float32", False), ("bfloat16", True)):
        learner = Learner(
            build_task_network(engine.spec, settings, seed=0), make_objective("dqn", settings), settings.learning, device=place
        )
        frames = torch.randint(0, 256, (size, *engine.spec.numbers_shape), dtype=torch.uint8, device=place)
        state = DenseState(frames, np.zeros((size, 0), np.int64))  # type: ignore[arg-type]
        ones = np.ones(size, np.float32)
        mask = np.ones((size, n + 1), np.bool_)
        mask[:, 0] = False
        actions = OpenActions(None, None, None, None, mask)
        one = np.ones(size, np.int64)
        batch: Any = Batch(state, one, ones[:, None], ones[:, None], ones, ones, state, actions, one, one)
        with torch.autocast(place.type, torch.bfloat16, enabled=mixed):
            for _ in range(5):
                learner.update(batch)
            began, updates = time.perf_counter(), 0
            while time.perf_counter() - began < 5:
                loss = learner.update(batch).loss
                updates += 1
        rate = updates / (time.perf_counter() - began)
        print(f"{name}: {rate:.1f} updates/s of batch {size} ({rate * size:,.0f} transitions/s), loss {loss:.4g}")
    for lanes in (settings.replay.lanes, 2 * settings.replay.lanes):
        act, observation = policy(None, 1.0, 0), engine.reset(1, lanes)
        began, steps = time.perf_counter(), 0
        while time.perf_counter() - began < 3:
            observation = engine.step(act(observation)).obs
            steps += lanes
        print(f"{lanes} lanes: {steps / (time.perf_counter() - began):,.0f} decisions/s of the games alone")


def seconds(text: str) -> float:
    return float(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default=GAME)
    parser.add_argument("--algorithm", default="dqn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", type=seconds, default=seconds("15m"), help="such as 15m")
    parser.add_argument("--steps", type=int, help="decisions at most")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--games", type=int, default=32, help="whole games played afterwards")
    parser.add_argument("--set", action="append", metavar="KEY=VALUE")
    parser.add_argument("--picture", action="store_true", help="only draw the curves of the folder")
    parser.add_argument("--page", type=Path, metavar="FILE", help="with --picture: also put the table of runs into this page")
    parser.add_argument("--speed", action="store_true", help="only measure updates and games per second")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/atari"))
    args = parser.parse_args()
    intra_op_threads(args.threads)
    if args.page is not None:
        table(args.output, args.page)
    if args.picture:
        return picture(args.output)
    return speed(args) if args.speed else run(args)


if __name__ == "__main__":
    main()
