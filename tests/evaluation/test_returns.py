"""Returns that followed decisions of a log, against the sum written out."""

import numpy as np
import pytest
from mdp_logs import event, make_log

from qurate.baselines.registry import ItemScorer
from qurate.evaluation.evaluate import evaluate_ranking
from qurate.evaluation.ranking import ranking_targets
from qurate.evaluation.returns import returns_of
from qurate.experiments.evaluate import log_discount
from qurate.mdp.dataset import build_dataset
from qurate.mdp.storage import Dataset
from qurate.training.train import train
from qurate.types import TERMINATED

DAY = 86_400


@pytest.fixture
def log() -> Dataset:
    rng, rows = np.random.default_rng(0), []
    for user in range(12):
        at = 1.7e9 + user * 7_000
        for _ in range(9):
            rows.append(event(f"u{user}", f"i{rng.integers(5)}", at, type=str(rng.choice(["click", "purchase"]))))
            at += float(rng.choice([30, 90, 3 * DAY]))
    return build_dataset(make_log(rows), rewards={"click": 1.0, "purchase": 7.0}, episode="user")


@pytest.mark.parametrize(("gamma", "tau"), [(0.9, 5.0 * DAY), (1.0, 1e12), (0.0, DAY)])
def test_returns_are_the_sum_of_what_followed(log: Dataset, gamma: float, tau: float) -> None:
    t, weights = log.transitions, log.weights
    expected = np.zeros(len(t.action))
    for row in range(len(t.action)):
        at, factor = row, 1.0
        while True:
            expected[row] += factor * float(t.reward[at] @ weights)
            if t.end[at] == TERMINATED or t.next_state[at] < 0:
                break
            across = float(np.exp(-t.pause[at] / tau)) if gamma > 0 else 0.0
            factor *= across if t.pause[at] > 0 else gamma
            at = int(np.flatnonzero(t.state == t.next_state[at])[0])  # one transition per decision here
    rows = np.arange(len(t.action))
    assert np.allclose(returns_of(t, rows, weights, gamma, tau), expected, rtol=1e-5)
    some = ranking_targets(log)
    assert np.allclose(returns_of(t, some, weights, gamma, tau), expected[some], rtol=1e-5) and (t.pause > 0).any()


def test_a_hit_counts_by_the_return_that_followed(log: Dataset) -> None:
    """A ranker that always shows item 3 first hits where it was chosen."""
    scorer = ItemScorer(np.where(np.arange(6) == 3, 1, 0).astype(np.float32), "third")
    rows = ranking_targets(log)
    hit = log.transitions.action[rows] == 3
    found = evaluate_ranking("m", "log", log, {"q": [scorer]}, {}, k=1, draws=20, discount=(0.9, 5.0 * DAY))["metrics"]
    assert hit.any() and found["return@1"]["mean"] == pytest.approx(
        (hit * returns_of(log.transitions, rows, log.weights, 0.9, 5.0 * DAY)).mean()
    )
    assert found["return@1"]["mean"] > found["value@1"]["mean"] > 0
    assert "return@1" not in evaluate_ranking("m", "log", log, {"q": [scorer]}, {}, k=1, draws=20)["metrics"]


def test_the_most_far_sighted_model_gives_the_discount(log: Dataset) -> None:
    models = [train(log, steps=1, gamma=gamma, hidden=4, embedding_dim=2, window=2, batch_size=8) for gamma in (0.3, 0.7)]
    assert log_discount(models, log) == (0.7, log.manifest["episode"]["tau_s"]) and log_discount([], log)[0] == 0.9
