"""How the learner explores online: epsilon-greedy, Boltzmann and Thompson sampling over an ensemble, in the demo's shop.

    python benchmarks/exploration.py [--seeds 100 101 102 103] [--rows epsilon "boltzmann 0.3" thompson] [-o docs/exploration.csv]
    python benchmarks/exploration.py --table docs/exploration.csv

Per seed: a log of the present recommender and dqn's model of it, as in the demo; from there `--decisions` online with each way to explore
and everything else the same. After every `--every` decisions the greedy policy of the moment meets the same 1,000 fresh customers.

    epsilon E       with probability E an item of the catalogue, all alike; "epsilon" alone: the demo's schedule, .1 to .05
    boltzmann T     in proportion to exp(Q / T), T in units of reward
    thompson        K fits of `later`, each to customers drawn with replacement (Osband et al. 2016, "Deep exploration via bootstrapped
                    DQN"); each simulated customer is shown what is best by one of them, and nothing else is random

Seeds from 100 on are nobody's proof. A row is written when it is measured; rows that the file holds are not measured again.
"""

import argparse
import copy
import csv
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads: small products lose to the barrier

import numpy as np
import torch
from torch import Tensor

from qurate.choosing.selection import GREEDY, choose, softmax_rule
from qurate.environments.registry import make_engine
from qurate.evaluation.intervals import Interval, paired_t, student_t
from qurate.evaluation.rollouts import customers_seed, rollout
from qurate.experiments import demo
from qurate.experiments.policies import as_policy, present_recommender
from qurate.learning import loops
from qurate.learning.fitted_q import fitted_q
from qurate.mdp.storage import Dataset
from qurate.models.model import Model
from qurate.networks.linear_later import LinearLaterNetwork
from qurate.networks.values import to_tensors
from qurate.replay.event_replay import EventReplay
from qurate.replay.samplers import LogSampler
from qurate.replay.writers import store_from_log
from qurate.settings import Settings, flat, from_flat
from qurate.training import later_online
from qurate.training.in_environment import train_in_engine
from qurate.training.later_from_log import greedy, log_part
from qurate.training.run import intra_op_threads
from qurate.training.train import train
from qurate.types import TRAIN, FloatArray, IntArray

ROWS = ("epsilon", "thompson", "boltzmann 0.1", "boltzmann 0.3", "epsilon 0.02", "epsilon 0.2")
MEMBERS = 5
"""K fits of an ensemble."""
CUSTOMERS = 1_000
GOALS = (50.0, 55.0)
COLUMNS = ("row", "seed", "decisions", "mean")

Fits = list[Tensor]
"""Of `later`, each float32 [D], summed over the reward components; changed in place when it is fitted again."""


@torch.no_grad()
def bootstrapped(network: LinearLaterNetwork, store: EventReplay, index: IntArray, ridge: float, seed: int) -> Fits:
    """K fits of `later` to transitions `index`, each to as many customers drawn with replacement; those that diverge are left out."""
    network = copy.deepcopy(network)
    part = log_part(network, store, index, demo.SETTINGS["n_step"])
    who = torch.unique(part.customer, return_inverse=True)[1]
    n, rng, fits = int(who.max()) + 1, np.random.default_rng([seed, 17]), []
    for _ in range(MEMBERS):
        times = torch.from_numpy(np.bincount(rng.integers(0, n, n), minlength=n)).double()
        fit = fitted_q(part.data._replace(counted=part.data.counted * times[who]), lambda theta: greedy(network, part, theta), ridge)
        fits += [] if fit.diverged else [fit.theta.sum(1).float()]
    return fits


def of_the_log(model: Model, dataset: Dataset, seed: int) -> Fits:
    """The ensemble that the log gives, its items' part shrunk as that of the model."""
    network, later, manifest = cast(LinearLaterNetwork, model.network), model.metrics["later"], dataset.manifest
    store = store_from_log(
        dataset.arrays, dataset.transitions, np.array(model.weights, np.float32), dataset.user_features, demo.SETTINGS["gamma"],
        float(manifest["episode"]["tau_s"]), model.window, dataset.availability,
    )  # fmt: skip
    fits = bootstrapped(network, store, LogSampler(dataset.transitions, TRAIN).index, later["ridge"], seed)
    for fit in fits:
        fit[network.n_state :] *= later["share"]
    return fits


@torch.no_grad()
def scores_by_fit(network: LinearLaterNetwork, state: Any, fits: Fits) -> Tensor:
    """Q of the catalogue, float32 [B, N + 1]: row b by fit b modulo K."""
    values = network.bind()(to_tensors(state))
    items = torch.arange(values.now_all.shape[1])
    later = torch.stack([network.later(values.summary, values.now_all, fit, items) for fit in fits])
    lanes = torch.arange(len(values.now_all))
    return values.now_all + later[lanes % len(fits), lanes]


@contextmanager
def exploring(row: str, fits: Fits, seed: int) -> Iterator[dict[str, Any]]:
    """The settings of exploration for a row, while the loop chooses as it says."""
    way, _, number = row.partition(" ")
    loop, later = cast(Any, loops), cast(Any, later_online)
    before: tuple[Callable[..., Any], ...] = (loop.explore, loop.q_values, later.fit_later)
    settings: dict[str, Any] = {}
    if way == "epsilon" and number:
        settings = {"epsilon_start": float(number), "epsilon_end": float(number), "epsilon_spread": False}
    elif way == "boltzmann":
        rule = softmax_rule(float(number))

        def explore(scores: FloatArray, mask: Any, epsilon: Any, rng: np.random.Generator, slate_size: int) -> tuple[IntArray, Any]:
            (drawn, _), (best, _) = choose(rule, scores, mask, rng, None), choose(GREEDY, scores, mask, rng, None)
            return drawn, drawn != best

        loop.explore = explore
    elif way == "thompson":
        settings = {"epsilon_start": 0.0, "epsilon_end": 0.0, "epsilon_spread": False}

        def q_values(network: Any, observation: Any, *rest: Any) -> FloatArray:
            candidates = to_tensors(observation.actions.candidates[0])
            return scores_by_fit(network, observation.state, fits)[:, candidates].numpy()

        def fit_later(network: Any, store: Any, index: IntArray, held: IntArray, **how: Any) -> dict[str, Any]:
            figures = before[2](network, store, index, held, **how)
            fits[:] = bootstrapped(network, store, index, figures["ridge"], seed) or fits
            return cast(dict[str, Any], figures)

        loop.q_values, later.fit_later = q_values, fit_later
    try:
        yield settings
    finally:
        loop.explore, loop.q_values, later.fit_later = before


def curve(row: str, seed: int, decisions: int, every: int) -> Iterator[tuple[int, float]]:
    """Decisions made online, and what fresh customers bring the greedy policy after them."""
    engine, size = make_engine("shop", window=demo.WINDOW), demo.DEMO
    with tempfile.TemporaryDirectory() as folder:
        present = present_recommender(engine, seed, size.log_customers)
        dataset = demo.log_of_today(engine, present, seed, Path(folder), size)
        model = train(str(Path(folder) / "dataset"), seed=seed, steps=size.log_updates, **demo.SETTINGS)
        fits = of_the_log(model, dataset, seed) if row == "thompson" else []
    with exploring(row, fits, seed) as given:
        settings: Settings = from_flat(flat(model.settings) | demo.ONLINE | {"update_every": size.update_every} | given)
        learned, saved = model, None
        for until in range(every, decisions + 1, every):
            learned = train_in_engine(
                model, engine, customers_seed(seed, "online"), until, settings=settings, lanes=demo.LANES, resumable=True, saved=saved
            )
            saved = learned.checkpoint
            met = rollout(engine, as_policy(learned, engine, "dqn"), customers_seed(seed, "evaluate"), CUSTOMERS)
            yield until, float(met.returns.mean())


def measure(rows: Sequence[str], seeds: Sequence[int], decisions: int, every: int, out: Path) -> None:
    """Appends what the file does not hold."""
    for seed in seeds:
        for row in rows:
            known = {int(line["decisions"]) for line in read(out) if (line["row"], line["seed"]) == (row, str(seed))}
            if set(range(every, decisions + 1, every)) <= known:
                continue
            found = list(curve(row, seed, decisions, every))
            new = not out.exists()
            with out.open("a", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerows([COLUMNS] * new + [(row, seed, made, round(mean, 2)) for made, mean in found])
            print(row, seed, [round(mean, 1) for _, mean in found], file=sys.stderr, flush=True)


def read(out: Path) -> list[dict[str, str]]:
    """Lines of a file, none where it does not exist."""
    if not out.exists():
        return []
    with out.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def table(lines: Sequence[dict[str, str]]) -> str:
    """Markdown: means after so many decisions, the paired difference to the demo's epsilon at the end, and when the goals were reached."""
    rows, points = list(dict.fromkeys(line["row"] for line in lines)), sorted({int(line["decisions"]) for line in lines})
    found = {row: {p: _by_seed(lines, row, p) for p in points} for row in rows}
    head = [f"after {p:,}" for p in points] + ["minus epsilon, at the end"] + [f"decisions until {goal:g}" for goal in GOALS]
    out = [f"| exploration | {' | '.join(head)} |", "|---" * (len(head) + 1) + "|"]
    for row in rows:
        cells = [_interval(student_t(list(found[row][p].values())), ".1f") for p in points]
        ours, base = found[row][points[-1]], found["epsilon"][points[-1]]
        both = sorted(ours.keys() & base.keys())
        cells.append("" if row == "epsilon" else _interval(paired_t([ours[s] for s in both], [base[s] for s in both]), "+.1f"))
        out.append(f"| {row} | {' | '.join([*cells, *(_reached(found[row], goal) for goal in GOALS)])} |")
    return "\n".join(out)


def _by_seed(lines: Sequence[dict[str, str]], row: str, decisions: int) -> dict[str, float]:
    return {line["seed"]: float(line["mean"]) for line in lines if (line["row"], int(line["decisions"])) == (row, decisions)}


def _reached(means: dict[int, dict[str, float]], goal: float) -> str:
    """The median over seeds of the first point at or above the goal, and how many reached it."""
    first = [next((p for p in sorted(means) if means[p].get(seed, -np.inf) >= goal), None) for seed in means[max(means)]]
    reached = [p for p in first if p is not None]
    return f"{int(np.median(reached)):,} ({len(reached)} of {len(first)})" if reached else f"not reached (0 of {len(first)})"


def _interval(of: Interval, form: str) -> str:
    return f"{of.mean:{form}}" + (f" [{of.lo:{form}}, {of.hi:{form}}]" if np.isfinite(of.lo) else "")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=list(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102, 103])
    parser.add_argument("--decisions", type=int, default=40_000)
    parser.add_argument("--every", type=int, default=10_000)
    parser.add_argument("-o", "--out", type=Path, default=Path("docs/exploration.csv"))
    parser.add_argument("--table", type=Path, help="print the table of a file")
    options = parser.parse_args(arguments)
    intra_op_threads(1)
    if options.table:
        print(table(read(options.table)))
        return
    measure(options.rows, options.seeds, options.decisions, options.every, options.out)
    print(table(read(options.out)))


if __name__ == "__main__":
    main()
