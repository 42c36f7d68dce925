"""A classical task on one core: processor time until 100 greedy episodes reach the goal, and what is kept at the end.

    python benchmarks/cart_pole.py [--env CartPole-v1|Acrobot-v1] [--algorithms dqn rainbow ...] [--seeds 0 1 2 3 4] [--steps 50000]
        [--every 5000] [-o cart_pole.csv] [--set KEY=VALUE ...] [--peers PEERS/bin/python]
    python benchmarks/cart_pole.py --rates [--peers PEERS/bin/python]

Per algorithm and seed: training with the defaults of tasks, in parts of `--every` decisions; after each part 100 greedy episodes
of the averaged network and of the last weights, whose time is not counted. `reached_s` is the training time when their mean first was
at the goal; `last_quarter` is the mean over the evaluations of the last quarter of training, never the best of them. With `--peers`
stable-baselines3 trains with its tuned settings (`peer_task.py`), seed by seed in turn with ours. Seconds are those of the
processor, for neighbours share the machine. A row is written when it is done; rows that the file already holds are not run again.
`--rates` compares updates per second at equal batch and network, and environment steps per second.
"""

import argparse
import copy
import csv
import json
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads: small products lose to the barrier

import numpy as np
from safetensors.torch import load as load_tensors

from qurate.choosing.policy import ScoredPolicy
from qurate.environments.given import task_of
from qurate.evaluation.intervals import student_t
from qurate.evaluation.rollouts import customers_seed, rollout
from qurate.learning.checkpoint import TENSORS
from qurate.models.model import Model
from qurate.models.task_ranker import TaskRanker
from qurate.training.run import intra_op_threads
from qurate.training.train import train

GOALS, EPISODES = {"CartPole-v1": 475.0, "Acrobot-v1": -100.0}, 100
KEY = ("who", "env", "seed", "set", "steps", "weights")
COLUMNS = (*KEY, "reached_s", "reached_steps", "last_quarter", "final", "seconds")
SUPPORT = {"v_min": "0", "v_max": "110"}
"""Of c51 and rainbow: with gamma 0.99 no return of CartPole is above 100."""
PEER = "stable_baselines3"

Curve = list[tuple[float, int, float]]  # seconds, steps, mean return


def ours(env: str, algorithm: str, seed: int, steps: int, every: int, given: dict[str, Any]) -> dict[str, Curve]:
    """The curves of the averaged network and of the last weights of one training."""
    support = SUPPORT if algorithm in ("c51", "rainbow") else {}
    curves: dict[str, Curve] = {"average": [], "last": []}
    seconds = 0.0
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        for until in range(every, steps + 1, every):
            began = time.process_time()
            fresh: dict[str, Any] = {"env": env, "algorithm": algorithm, "seed": seed, **support, **given}
            model = train(steps=until, **({"resume": path} if until > every else fresh))
            seconds += time.process_time() - began
            model.save(path)
            for weights, kept in (("average", model), ("last", last_weights(model))):
                curves[weights].append((seconds, until, greedy_return(kept, env, seed)))
    return curves


def last_weights(model: Model) -> Model:
    """The same model with the weights of the last update in place of the average."""
    ranker = cast(TaskRanker, model.ranker)
    module = copy.deepcopy(ranker.module)
    tensors = load_tensors(model.checkpoint[TENSORS])
    module.load_state_dict({name.removeprefix("network."): part for name, part in tensors.items() if name.startswith("network.")})
    return replace(model, ranker=replace(ranker, module=module))


def peer(python: str, env: str, seed: int, steps: int, every: int) -> dict[str, Curve]:
    """The curve of the peer, trained by its own interpreter."""
    script = str(Path(__file__).parent / "peer_task.py")
    command = [python, script, "--env", env, "--seed", str(seed), "--steps", str(steps), "--every", str(every)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""})
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {"last": [(line["seconds"], line["steps"], line["mean"]) for line in lines]}


def greedy_return(model: Model, env: str, seed: int) -> float:
    """Mean return of the greedy policy over `EPISODES` whole episodes, the same ones after each part of a seed's training."""
    engine = task_of(env)
    try:
        return float(rollout(engine, ScoredPolicy(model), customers_seed(seed, "evaluate"), EPISODES).returns.mean())
    finally:
        engine.close()


def row_of(key: dict[str, Any], curve: Curve, goal: float) -> dict[str, str]:
    """A row of the table."""
    means = [mean for _, _, mean in curve]
    reached = next(((seconds, steps) for seconds, steps, mean in curve if mean >= goal), (float("nan"), 0))
    last = means[-max(1, len(means) // 4) :]
    figures = (round(reached[0], 1), reached[1], round(float(np.mean(last)), 1), round(means[-1], 1), round(curve[-1][0], 1))
    return {name: str(value) for name, value in zip(COLUMNS, (*(key[name] for name in KEY), *figures), strict=True)}


def say(rows: list[dict[str, str]], goal: float) -> None:
    """Means over seeds with Student t intervals; a seed that never reached the goal is counted, not averaged."""
    for who, weights in dict.fromkeys((row["who"], row["weights"]) for row in rows):
        mine = [row for row in rows if (row["who"], row["weights"]) == (who, weights)]
        times = [float(row["reached_s"]) for row in mine if float(row["reached_s"]) == float(row["reached_s"])]
        last = student_t(np.array([float(row["last_quarter"]) for row in mine]))
        mean = f"{np.mean(times):.1f} s in the mean" if times else "never"
        kept = f"last quarter {last.mean:.0f} ({last.lo:.0f} to {last.hi:.0f})"
        print(f"{who}, {weights} weights: {len(times)} of {len(mine)} seeds reached {goal:g}, {mean}; {kept}", flush=True)


def rates(python: str | None) -> None:
    """Updates per second of DQN at batch 64 and 256 x 256 units, and environment steps per second while nothing is learned."""
    for batch, hidden in ((64, 256), (256, 256)):
        print(json.dumps({"library": "qurate", "batch": batch, "updates_per_s": our_rate(batch, hidden)}), flush=True)
        for library in (PEER, "tianshou") if python else ():
            script = str(Path(__file__).parent / "peer_task.py")
            options = ["--rate", "--library", library, "--batch", str(batch), "--hidden", str(hidden), "--updates", "1000"]
            subprocess.run([cast(str, python), script, *options], check=True, env={**os.environ, "PYTHONPATH": ""})
    began = time.process_time()
    train(env="CartPole-v1", steps=40_000, warm_up=40_000)
    print(json.dumps({"library": "qurate", "env_steps_per_s": 40_000 / (time.process_time() - began)}), flush=True)


def our_rate(batch: int, hidden: int) -> float:
    """Updates per second in a training of CartPole: what 1,000 updates add to the time of its 1,000 decisions."""
    seconds = []
    for updates in (0, 1_000):
        began = time.process_time()
        warm_up = 2_000 if updates else 3_000
        train(env="CartPole-v1", steps=3_000, warm_up=warm_up, update_every=1, batch_size=batch, hidden=hidden, n_step=1)
        seconds.append(time.process_time() - began)
    return 1_000 / (seconds[1] - seconds[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", choices=list(GOALS), default="CartPole-v1")
    parser.add_argument("--algorithms", nargs="+", default=["dqn"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--steps", type=int, default=50_000)
    parser.add_argument("--every", type=int, default=5_000)
    parser.add_argument("-o", "--output", type=Path, default=Path("cart_pole.csv"))
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--peers", metavar="PYTHON", help="an interpreter that has stable-baselines3, and tianshou for --rates")
    parser.add_argument("--rates", action="store_true", help="compare rates instead of training")
    options = parser.parse_args()
    intra_op_threads(1)
    if options.rates:
        return rates(options.peers)
    given, goal = dict(pair.split("=", 1) for pair in options.set), GOALS[options.env]
    done = list(csv.DictReader(options.output.open())) if options.output.exists() else []
    for seed in options.seeds:
        for who in (*options.algorithms, *([PEER] if options.peers else [])):
            named = " ".join(options.set) if who != PEER else "rl-zoo"
            key = {"who": who, "env": options.env, "seed": seed, "set": named, "steps": options.steps}
            if any(all(row[name] == str(value) for name, value in key.items()) for row in done):
                continue
            if who == PEER:
                curves = peer(options.peers, options.env, seed, options.steps, options.every)
            else:
                curves = ours(options.env, who, seed, options.steps, options.every, given)
            done += [row_of({**key, "weights": weights}, curve, goal) for weights, curve in curves.items()]
            print(done[-1], flush=True)
            with options.output.open("w", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS)
                writer.writeheader()
                writer.writerows(done)
    say([row for row in done if row["env"] == options.env and row["steps"] == str(options.steps)], goal)


if __name__ == "__main__":
    main()
