"""How much Q has to say beside what is chosen: all, unless held-out choices say less."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from mdp_logs import event, make_log

from qurate.evaluation.ranking import observations
from qurate.mdp.dataset import build_dataset
from qurate.mdp.storage import Dataset
from qurate.models.model import load
from qurate.models.network_ranker import NetworkRanker
from qurate.training.q_power import q_power
from qurate.training.train import train
from qurate.types import FloatArray, Observation

NAMES = ["cheap", "dear", "rare"]


@dataclass(frozen=True)
class Known:
    """Scores that depend on the item alone: log pi_b, and that plus log Q."""

    chance: FloatArray
    worth: FloatArray
    q_power: float = 1.0

    def scores_by(self, observation: Observation) -> dict[str, FloatArray]:
        at = observation.actions.candidates - 1
        inside = np.log(self.chance)[at]
        return {"behaviour": inside, "behaviour_times_q": inside + np.log(self.worth)[at]}


def log(users: int, shares: list[float], seed: int = 0, dear: float = 10.0) -> Dataset:
    """Visits of four independent choices, of which the dear item has a worth of its own."""
    rng, rows = np.random.default_rng(seed), []
    for user in range(users):
        for step, item in enumerate(rng.choice(NAMES, 4, p=shares)):
            rows.append(event(f"u{user}", item, 1.7e9 + user * 1_000 + step * 60, "purchase" if item == "dear" else "click"))
    return build_dataset(make_log(rows), rewards=f"click=1,purchase={dear}")


def power(data: Dataset, chance: dict[str, float], worth: dict[str, float]) -> float:
    order = np.argsort(data.vocabulary.item_index(NAMES))
    of = [np.array([one[NAMES[i]] for i in order], np.float32) for one in (chance, worth)]
    rows = np.arange(len(data.transitions.state))
    return q_power(data, cast(NetworkRanker, Known(*of)), rows, 5, np.asarray(data.weights, np.float32), 0.0)


def test_a_q_that_is_right_has_all_to_say() -> None:
    """The dear item is chosen less often and first by what is expected of it."""
    shares = [0.55, 0.35, 0.1]
    found = power(log(300, shares), dict(zip(NAMES, shares)), {"cheap": 1.0, "dear": 10.0, "rare": 1.0})
    assert found == 1.0


def test_a_q_that_is_noise_has_less_to_say() -> None:
    shares = [0.6, 0.1, 0.3]
    data = log(300, shares)
    assert power(data, dict(zip(NAMES, shares)), {"cheap": 1.0, "dear": 10.0, "rare": 400.0}) < 1.0
    assert power(data, dict(zip(NAMES, shares)), {"cheap": 3.0, "dear": 3.0, "rare": 3.0}) == 1.0, "it changes nothing"


def test_what_may_be_chance_leaves_it_as_it_is() -> None:
    """A Q that is wrong about one item costs a few customers nothing that is clear, and many something that is."""
    shares, wrong = [0.5, 0.1, 0.4], {"cheap": 1.0, "dear": 1.0, "rare": 1.5}
    few = [data for data in (log(4, shares, seed, 1.0) for seed in range(12)) if len(data.vocabulary.items) == len(NAMES)]
    left = [power(data, dict(zip(NAMES, shares)), wrong) for data in few]
    assert len(left) > 5 and left.count(1.0) >= 0.7 * len(left)
    assert power(log(1_500, shares, dear=1.0), dict(zip(NAMES, shares)), wrong) < 1.0


def test_it_is_kept_and_used(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        event(f"u{user}", f"i{rng.integers(40):02d}", 1.7e9 + user * 1_000 + step * 60, "purchase" if rng.random() < 0.1 else "click")
        for user in range(400)
        for step in range(6)
    ]
    small: dict[str, Any] = {"hidden": 8, "embedding_dim": 4, "window": 6, "batch_size": 64}
    data = build_dataset(make_log(rows), rewards="purchase=10,click=1")
    made = train(data, steps=30, seed=0, **small)
    assert isinstance(made.ranker, NetworkRanker)
    assert made.metrics["calibration"]["q_power"] == made.ranker.q_power
    replace(made, ranker=replace(made.ranker, q_power=0.25)).save(tmp_path / "m")
    ranker = load(tmp_path / "m").ranker
    assert isinstance(ranker, NetworkRanker) and ranker.q_power == 0.25
    _, observation = next(observations(data, np.arange(9), 6))
    quarter, whole = ranker.scores_by(observation), replace(made.ranker, q_power=1.0).scores_by(observation)
    added = whole["behaviour_times_q"] - whole["behaviour"]
    np.testing.assert_allclose(quarter["behaviour_times_q"], quarter["behaviour"] + added / 4, rtol=1e-4, atol=1e-5)
    assert np.abs(added).max() > 0.01
