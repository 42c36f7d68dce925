"""Baselines by hand on three visits, only from the train split, and on real logs against known scores."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from policy_data import Data, observe, organic, transitions
from qurate.baselines import neighbours
from qurate.baselines.content import fit_content_scorer
from qurate.baselines.neighbours import FrequentScorer, ItemKnnScorer, RecentScorer, fit_item_knn, fit_session_knn_scorer
from qurate.baselines.registry import (
    FITTED,
    ItemScorer,
    ShownOrderScorer,
    fit_baseline,
    fit_popularity,
    fitted_settings,
    mean_reward,
    popularity,
)
from qurate.baselines.training_rows import interest, rows_of_interest, train_rows, type_worth
from qurate.choosing.policy import FirstThen
from qurate.errors import UserError
from qurate.mdp.states import gather_state
from qurate.types import HISTORY, TEST, TRAIN, Actions, Observation, Scorer
from trivago import clickouts

SHOWN_ONLY = {"linucb", "thompson"}
"""They learn from what was shown in vain too, which organic logs do not have (tests/baselines/test_bandit.py)."""
CLICKS = np.array([False, True, False])
"""Type 1 (click) counts, type 2 (shown) does not."""


def three_visits() -> Data:
    """Visits 1 2 | 1 2 3 | 3 1 3, and a test customer 4 4 2 whose rows no baseline may see."""
    data = organic(np.array([2, 3, 3, 3]), np.array([1, 2, 1, 2, 3, 3, 1, 3, 4, 4, 2]), np.array([True, True, True, False]), 4)
    data.item_features = np.array([[0, 0], [1, 0], [0, 1], [1, 1], [0, 0]], np.float32)
    return data


def test_only_train_rows_are_used() -> None:
    data = three_visits()
    assert data.transitions.split.tolist() == [TRAIN] * 5 + [HISTORY, TEST]
    assert train_rows(data.arrays, data.transitions).tolist() == [True] * 8 + [False] * 3
    for name in ("popularity", "item_knn", "session_knn"):
        scores = fit_baseline(name, data).scorer.scores(observe([[1], [2]], np.arange(1, 5)))
        assert (scores.argmin(axis=1) == 3).all(), name


def test_train_rows_stop_at_the_cut_of_a_customer() -> None:
    """Rows 0..3 of one customer; decisions at 1 (train), 2 (train), 3 (test): the row of the test decision is unknown."""
    data = organic(np.array([4]), np.array([1, 2, 3, 4]), np.array([True]), 4)
    data.transitions.split[2] = TEST
    assert train_rows(data.arrays, data.transitions).tolist() == [True, True, True, False]


def test_pairs_do_not_cross_visits() -> None:
    data = organic(np.array([4]), np.array([1, 2, 3, 4]), np.array([True]), 4)
    data.row_visit = np.array([7, 7, 9, 9], np.int32)
    near, _ = fit_item_knn(rows_of_interest(data.arrays, data.transitions, data.row_visit, CLICKS), 4)
    assert near[1:, 0].tolist() == [2, 1, 4, 3]


def test_what_counts_as_interest() -> None:
    weights = np.array([1, -1, 5], np.float32)
    types, components = ("click", "shown", "rate", "purchase", "view", "hide"), ("click", "rate", "purchase")
    assert interest(types, components, weights).tolist() == [False, True, False, False, True, True, False]
    assert type_worth(types, components, weights).tolist() == [0, 1, 0, 0, 5, 0, 0]
    assert type_worth(("view", "shown"), ("click",), np.ones(1, np.float32)).tolist() == [0, 1, 0]


def test_popularity_counts_and_halves() -> None:
    scorer = fit_popularity(three_visits())
    assert scorer.table.tolist() == [0, 3, 2, 3, 0]
    day = 86_400_000_000
    decayed = popularity(np.array([1, 1, 2]), np.ones(3), np.array([0, 2, 2]) * day, 2, half_life_days=1)
    assert decayed.tolist() == [0, 1.25, 1]


def test_popularity_of_a_shown_log_is_reward_earned() -> None:
    """Item 2 was shown more often, item 1 earned more; the reward of the test decision does not count."""
    data = three_visits()
    data.kind = "exposure"
    user, history_end = data.transitions.user, data.transitions.history_end
    reward = np.array([[3], [1], [0], [0], [-2], [9], [9]])
    data.transitions = transitions(data.arrays, user, history_end, np.array([1, 2, 2, 2, 3, 4, 4]), data.transitions.split, reward)
    assert fit_popularity(data).table.tolist() == [0, 3, 1, 0, 0]
    order = fit_baseline("static", data).scorer.scores(observe([[]], np.arange(1, 5)))[0]
    assert np.argsort(-order).tolist() == [0, 3, 1, 2]  # the unknown item 4 stands at the overall mean


def test_mean_reward_is_drawn_to_the_mean() -> None:
    """Overall mean 1; item 1 earned 4 in 1 showing: (4 + 2) / 3; item 2 earned 0 in 3: 2 / 5; item 3 never: 1."""
    got = mean_reward(np.array([1, 2, 2, 2]), np.array([4.0, 0, 0, 0]), 3, prior=2)
    assert got[1:] == pytest.approx([2, 0.4, 1])


def test_item_knn_by_hand() -> None:
    """c_12 = 2, c_13 = 2, c_23 = 1 visits; n_1 = 3, n_2 = n_3 = 2."""
    data = three_visits()
    rows = rows_of_interest(data.arrays, data.transitions, data.row_visit, CLICKS)
    near, similarity = fit_item_knn(rows, 4, shrink=0)
    assert near[:4].tolist() == [[0, 0], [2, 3], [1, 3], [1, 2]] and (near[4] == 0).all()
    assert similarity[1] == pytest.approx([2 / 6**0.5] * 2) and similarity[2] == pytest.approx([2 / 6**0.5, 0.5])
    assert fit_item_knn(rows, 4, window=1, shrink=1)[1][1] == pytest.approx([2 / (6**0.5 + 1), 1 / (6**0.5 + 1)])
    assert fit_item_knn(rows, 4, neighbours=1)[0][1:].tolist() == [[2], [1], [1], [0]]
    scorer = ItemKnnScorer(near, similarity, CLICKS, decay=0.5)
    scores = scorer.scores(observe([[3, 2], [2]], np.arange(1, 5), types=[[1, 1], [1]]))
    assert scores[0] == pytest.approx([1.5 * 2 / 6**0.5, 0.25, 0.5, 0]) and scores[1] == pytest.approx([2 / 6**0.5, 0, 0.5, 0])


def test_item_knn_dense_equals_sparse(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    data = organic(np.full(200, 6), rng.integers(1, 41, 1200), np.ones(200, bool), 40)
    near, similarity = fit_item_knn(rows_of_interest(data.arrays, data.transitions, data.row_visit, CLICKS), 40, neighbours=10)
    observation = observe(rng.integers(1, 41, (8, 7)).tolist(), np.arange(1, 41))
    dense = ItemKnnScorer(near, similarity, CLICKS)
    monkeypatch.setattr(neighbours, "DENSE_ITEMS", 0)
    sparse = ItemKnnScorer(near, similarity, CLICKS)
    assert dense.dense is not None and sparse.dense is None
    assert np.allclose(dense.scores(observation), sparse.scores(observation), atol=1e-5)


def test_log_without_pairs() -> None:
    data = organic(np.array([2, 2]), np.array([1, 1, 2, 2]), np.array([True, True]), 3)
    near, similarity = fit_item_knn(rows_of_interest(data.arrays, data.transitions, data.row_visit, CLICKS), 3)
    assert not near.any() and not similarity.any()


def test_session_knn_by_hand() -> None:
    """The last item 2 is in visits 1 2 and 1 2 3, likeness 1 / sqrt(2) and 1 / sqrt(3)."""
    data = three_visits()
    rows = rows_of_interest(data.arrays, data.transitions, data.row_visit, CLICKS)
    two, three = 2**-0.5, 3**-0.5
    observation = observe([[4, 2], [2, 2], [4]], np.arange(1, 5))
    for row in fit_session_knn_scorer(rows, 4, CLICKS).scores(observation)[:2]:
        assert row == pytest.approx([two + three, two + three, three, 0])
    assert not fit_session_knn_scorer(rows, 4, CLICKS).scores(observation)[2].any()
    nearest = fit_session_knn_scorer(rows, 4, CLICKS, neighbours=1).scores(observation)[0]
    assert nearest == pytest.approx([two, two, 0, 0])
    latest = fit_session_knn_scorer(rows, 4, CLICKS, sample=1).scores(observation)[0]  # visit 1 2 3 ended later
    assert latest == pytest.approx([three, three, three, 0])


@pytest.mark.parametrize("shared", [True, False])
def test_recent_ranks_own_items_newest_first(shared: bool) -> None:
    candidates = np.arange(0, 6) if shared else np.arange(0, 6)[None].repeat(2, 0)
    observation = observe([[5, 1, 2, 1, 3], [4]], candidates, types=[[1, 1, 1, 1, 2], [1]])  # item 3 was only shown
    assert RecentScorer(CLICKS, 3).scores(observation).tolist() == [[0, 3, 2, 0, 0, 1], [0, 0, 0, 0, 3, 0]]
    assert RecentScorer(CLICKS, 1).scores(observation).tolist() == [[0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0]]


@pytest.mark.parametrize("shared", [True, False])
def test_frequent_ranks_own_items_by_how_often_they_were_met(shared: bool) -> None:
    """Of items met equally often the newer one comes first; what was only shown does not count."""
    candidates = np.arange(0, 6) if shared else np.arange(0, 6)[None].repeat(2, 0)
    observation = observe([[1, 5, 1, 2, 3], [4]], candidates, types=[[1, 1, 1, 1, 2], [1]])
    scores = FrequentScorer(CLICKS, decay=0.5).scores(observation)
    np.testing.assert_allclose(scores, [[0, 0.5 + 0.125, 1, 0, 0, 0.25], [0, 0, 0, 0, 1, 0]])
    assert np.argsort(-FrequentScorer(CLICKS, decay=0.98).scores(observation)[0]).tolist()[:3] == [1, 2, 5]


def test_frequent_looks_far_back_and_on_lists_keeps_the_rest_in_the_list_s_order() -> None:
    assert fitted_settings("frequent").network.window == 100
    data = three_visits()
    observation = observe([[1, 2, 2]], np.array([[4, 3, 1, 2]]))
    data.transitions = replace(data.transitions, candidates=np.array([1, 2], np.int32))  # whatever was listed: the log re-ranks lists
    scores = fit_baseline("frequent", data).scorer.scores(observation)[0]
    assert np.argsort(-scores, kind="stable").tolist() == [3, 2, 0, 1], "2 twice, 1 once, then 4 and 3 as they were shown"


def test_content_by_hand() -> None:
    scorer = replace(fit_content_scorer(three_visits().item_features, CLICKS), decay=0.5)
    scores = scorer.scores(observe([[1], [], [2, 1]], np.arange(1, 5)))
    assert scores[0] == pytest.approx([1, 0.5, 0.5 + 0.5**1.5, 0.5], abs=1e-5) and not scores[1].any()
    assert scores[2, :2] == pytest.approx([(1 + 2 / 5**0.5) / 2, (1 + 1 / 5**0.5) / 2], abs=1e-5)


@pytest.mark.parametrize("name", sorted(set(FITTED) - SHOWN_ONLY))
def test_batch_equals_single_and_lists_equal_the_catalogue(name: str) -> None:
    scorer = fit_baseline(name, three_visits()).scorer
    histories = [[1], [], [2, 3], [3, 3, 1], [4, 4]]
    batch = scorer.scores(observe(histories, np.arange(1, 5)))
    assert batch.shape == (5, 4) and batch.dtype == np.float32
    for row, history in enumerate(histories):
        assert np.allclose(scorer.scores(observe([history], np.arange(1, 5)))[0], batch[row], atol=1e-6)
    lists = np.array([[2, 1], [4, 3], [1, 3], [3, 2], [2, 4]])
    picked = scorer.scores(observe(histories, lists))
    full = np.take_along_axis(batch, lists - 1, 1)
    assert ((picked[:, 0] > picked[:, 1]) == (full[:, 0] > full[:, 1])).all()


@pytest.mark.parametrize("name", sorted(set(FITTED) - SHOWN_ONLY))
def test_policies_act(name: str) -> None:
    policy = fit_baseline(name, three_visits(), slate_size=2)
    actions, propensity = policy.act(observe([[1], []], np.arange(1, 5)), np.random.default_rng(0))
    assert policy.name == name and actions.shape == (2, 2) and ((propensity > 0) & (propensity <= 1)).all()
    if name == "random":
        assert np.allclose(propensity, [1 / 4, 1 / 3])


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match="did you mean popularity"):
        fit_baseline("popularty", three_visits())
    data = three_visits()
    data.item_features = np.zeros((5, 0), np.float32)
    with pytest.raises(UserError, match="item features"):
        fit_baseline("content", data)


# --- real logs -------------------------------------------------------------------------------------------------------


def ranking(scorer: Scorer, data: Data, states: np.ndarray, n_items: int, batch: int = 256) -> tuple[float, float]:
    """HR@20 and MRR@20 of the actions, full ranking, expected rank within ties."""
    t, ranks = data.transitions, []
    for first in range(0, len(states), batch):
        some = states[first : first + batch]
        user = t.user[some]
        state = gather_state(
            data.arrays, data.arrays.user_start[user], t.history_end[some], t.clock[some], 50, np.zeros((len(some), 0), np.float32)
        )
        shape = (len(some), n_items)
        actions = Actions(np.broadcast_to(np.arange(1, n_items + 1), shape), np.broadcast_to(np.ones((1, n_items), np.int8), shape))
        observation = Observation(state, actions)
        scores = scorer.scores(observation)
        own = scores[np.arange(len(some)), t.action[some] - 1][:, None]
        ranks.append((scores > own).sum(axis=1) + ((scores == own).sum(axis=1) - 1) / 2)
    rank = np.concatenate(ranks)
    return float((rank < 20).mean()), float(np.where(rank < 20, 1 / (rank + 1), 0).mean())


def test_known_scores_of_retailrocket(real_log: Callable[[str], Path]) -> None:
    """Popularity HR@20 .024; own items most recent first (3) then session-kNN HR@20 .547, MRR@20 .285 with the reference's neighbours."""
    log = pl.read_parquet(real_log("retailrocket_sessions/retailrocket.parquet"))
    ids, item = np.unique(log["items"].explode().to_numpy(), return_inverse=True)
    data = organic(log["items"].list.len().to_numpy(), item + 1, (log["split"] == "train").to_numpy(), len(ids))
    test = np.flatnonzero(data.transitions.split == TEST)
    assert len(test) == 15_132
    assert ranking(fit_baseline("popularity", data).scorer, data, test, len(ids))[0] == pytest.approx(0.024, abs=0.0005)
    hit, mrr = ranking(fit_baseline("recent", data).scorer, data, test[::8], len(ids))
    assert 0.547 - 0.02 < hit < 0.62 and 0.285 - 0.015 < mrr < 0.32


def test_known_orders_of_trivago(real_log: Callable[[str], Path]) -> None:
    """MRR of the order shown .450; last touched item first, else the order shown .601."""
    observation, target = clickouts(real_log("trivago_100k/sessions.parquet"))
    assert len(target) == 13_596
    counts = np.array([False, True])
    for scorer, known in ((ShownOrderScorer(), 0.450), (FirstThen(RecentScorer(counts, 1), ShownOrderScorer(), "recent"), 0.601)):
        scores = np.where(observation.actions.mask != 0, scorer.scores(observation), -np.inf)
        rank = (scores > scores[np.arange(len(target)), target][:, None]).sum(axis=1)
        assert (1 / (rank + 1)).mean() == pytest.approx(known, abs=0.0005)


def test_item_scorer_is_shared_over_a_shared_catalogue() -> None:
    scores = ItemScorer(np.arange(5, dtype=np.float32), "items").scores(observe([[1], [2]], np.arange(1, 5)))
    assert scores.strides[0] == 0 and scores.tolist() == [[1, 2, 3, 4]] * 2
