"""Returns that followed decisions of a log, against the sum written out."""

import numpy as np
import pytest
from mdp_logs import event, make_log

from qurate.evaluation.ranking import ranking_targets
from qurate.evaluation.returns import returns_of
from qurate.mdp.dataset import build_dataset
from qurate.mdp.storage import Dataset
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
