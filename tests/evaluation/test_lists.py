"""What stands on the lists, by hand; segments; and that the figures reach the JSON and the page."""

import numpy as np
import pytest
from mdp_logs import event, make_log

from qurate.evaluation.evaluate import evaluate_ranking
from qurate.evaluation.lists import chosen_in_training, diversity, gini, list_figures, novelty, segments
from qurate.mdp.dataset import build_dataset
from qurate.types import TRAIN, Observation

LISTS = np.array([[1, 2, 3], [1, 4, 0], [0, 0, 0]])


def test_novelty_by_hand() -> None:
    """Shares 1/2, 1/4, 1/8, 1/8; an item that was never chosen counts as if once."""
    chosen = np.array([0, 4, 2, 1, 1.0])
    assert novelty(LISTS, chosen)[:2].tolist() == [(1 + 2 + 3) / 3, (1 + 3) / 2] and np.isnan(novelty(LISTS, chosen)[2])
    assert novelty(np.array([[2]]), np.array([0, 8.0, 0]))[0] == 3


def test_diversity_by_hand() -> None:
    features = np.array([[0, 0], [2, 0], [0, 1], [3, 0], [0, 0]], np.float32)
    found = diversity(LISTS, features)
    assert found[0] == pytest.approx((1 + 1 + 0) / 3, abs=1e-6)  # pairs 12, 23, 13
    assert np.isnan(found[1:]).all()  # item 4 has no features


def test_gini_by_hand() -> None:
    assert gini(np.array([[1, 2], [3, 4]]), 4) == pytest.approx(0)
    assert gini(np.array([[1], [1]]), 4) == pytest.approx(3 / 4)
    assert gini(np.array([[1, 0], [1, 2]]), 2) == pytest.approx(1 / 6)  # 1 and 2 times
    x, lists = np.array([0, 0, 1, 3, 6]), np.repeat([1, 2, 3], [1, 3, 6])[:, None]
    assert gini(lists, 5) == pytest.approx(np.abs(x[:, None] - x).sum() / (2 * 25 * x.mean()))


def test_intervals_are_over_users_and_what_has_none_says_so() -> None:
    user, chosen = np.array([0, 0, 1]), np.array([0, 4, 2, 1, 1.0])
    figures = list_figures([LISTS], user, chosen, np.zeros((5, 0), np.float32), k=3, n_open=8, draws=200, seed=0)
    assert set(figures) == {"novelty@3", "coverage@3", "gini@3"}
    assert figures["novelty@3"] == {"mean": 2, "ci": [None, None]}  # both lists are of user 0, and have 2 bits
    two = list_figures([LISTS], np.array([0, 1, 1]), chosen, np.zeros((5, 0), np.float32), k=3, n_open=8, draws=200, seed=0)
    assert two["novelty@3"] == {"mean": 2, "ci": [2, 2]}
    assert figures["coverage@3"] == {"mean": 0.5, "ci": [None, None]} and figures["gini@3"]["ci"] == [None, None]


def test_segments_and_lists_are_in_the_json() -> None:
    """u0 chooses most; u9 comes after training; the item `new` too."""
    rows = [event(f"u{u}", f"i{(u + i) % 5}", 1.7e9 + 1_000 * u + 60 * i, "click") for u in range(9) for i in range(9 if u == 0 else 3)]
    rows += [event("u0", f"i{i % 5}", 1.7e9 + 90_000 + 60 * i, "click") for i in range(3)]
    rows += [event("u9", name, 1.7e9 + 95_000 + 60 * i, "click") for i, name in enumerate(["i1", "i2", "new", "i3"])]
    data = build_dataset(make_log(rows), episode="user")
    t = data.transitions
    targets = np.flatnonzero((t.reward.sum(1) > 0) & (t.split[t.state] != TRAIN))
    groups, user = segments(t, targets), np.array(data.user_ids)[t.user[t.state[targets]]]
    assert (user[groups["new_users"]] == "u9").all() and groups["new_users"].any() and not (user[groups["heavy_users"]] == "u9").any()
    assert {data.vocabulary.items[i - 1] for i in t.action[targets[groups["new_items"]]]} <= {"new"}
    assert chosen_in_training(t, data.weights, 6).sum() == (t.split[t.state] == TRAIN).sum()

    class ByNumber:
        name = "m"

        def scores(self, observation: Observation) -> np.ndarray:
            return -observation.actions.candidates.astype(np.float32)

    result = evaluate_ranking("m", "log", data, {"q": [ByNumber()]}, {"other": ByNumber()}, k=2, draws=50)
    assert set(result["lists"]) == {"m", "other"} and result["lists"]["m"]["coverage@2"]["mean"] == result["metrics"]["coverage@2"]["mean"]
    assert result["lists"]["m"]["gini@2"]["mean"] == pytest.approx(1 - 2 / result["candidates"], abs=0.05)  # the same two for everybody
    for name, one in result["segments"].items():
        assert one["n"] > 0 and 0 <= one["HR@2"]["mean"] <= 1, name
