"""The headroom of a world: what planning ahead can gain there, measured without any learner.

`python -m qurate.evaluation.headroom [WORLD]` prints the returns of a world's references and of chance, at several strengths of its
long-term effects (the rows of docs/scenarios/shop.md and live.md). A world whose far-sighted reference does not beat true-myopic
clearly has nothing for a learner to show.
"""

import json
import sys
from typing import Any

import numpy as np

from qurate.baselines.registry import random_policy
from qurate.environments.registry import make_engine
from qurate.environments.worlds import WORLDS, environment_name, references
from qurate.evaluation.intervals import paired_t, student_t
from qurate.evaluation.rollouts import rollout
from qurate.types import Policy

SEEDS = (0, 1, 2, 3, 4)
STRENGTHS = (1.0, 0.0, 0.5, 1.5, 2.0)


def measure(name: str, customers: int = 2000, seeds: tuple[int, ...] = SEEDS, **options: Any) -> dict[str, list[list[float]]]:
    """[return, decisions, visits], means over the customers of each seed, for random and each reference of a world.

    Args:
        name: of the world; options: its own, as in `make_engine`.
    """
    engine = make_engine(name, **options)
    if engine.n_candidates is None:  # else each step's candidates are part of what is observed
        engine = make_engine(name, observe=False, **options)
    policies: dict[str, Policy] = {"random": random_policy()} | {key: make(engine) for key, make in references(name).items()}
    out: dict[str, list[list[float]]] = {}
    for key, policy in policies.items():
        runs = [rollout(engine, policy, seed, customers, max_decisions=engine.max_steps, every_lane=True) for seed in seeds]
        out[key] = [[float(np.mean(part)) for part in (run.returns, run.length, run.visits)] for run in runs]
    return out


def main(name: str) -> None:
    """One line of JSON for each strength that the world can have: means over the seeds, the returns with their 95 % intervals."""
    strength = WORLDS[environment_name(name)].options.get("strength")
    fixed = strength is None or strength.low == strength.high
    for value in [1.0] if strength is None or fixed else [x for x in STRENGTHS if x <= strength.high]:
        measured = measure(name) if strength is None else measure(name, strength=value)
        rows = {key: np.mean(values, axis=0).round(2).tolist() for key, values in measured.items()}
        returns = {key: [run[0] for run in runs] for key, runs in measured.items()}
        interval = {key: np.round(student_t(x)[1:], 2).tolist() for key, x in returns.items()}
        line = {"world": name, "strength": value, "return, decisions, visits": rows, "interval of the return": interval}
        if {"true_myopic", "far_sighted"} <= set(returns):
            line["headroom"] = np.round(paired_t(returns["far_sighted"], returns["true_myopic"]), 2).tolist()
        sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "shop")
