"""Known truths of real logs (../shared/data/README.md)."""

import json
from pathlib import Path

import numpy as np
import pytest

from qurate.baselines.neighbours import RecentScorer
from qurate.baselines.registry import ShownOrderScorer, fit_scorer
from qurate.choosing.policy import FirstThen
from qurate.evaluation.evaluate import evaluate_ranking
from qurate.evaluation.ranking import gains, rank_all, ranking_targets
from qurate.events.readers import read_events
from qurate.experiments.evaluate import evaluate
from qurate.mdp.dataset import build_dataset
from qurate.training.train import train


def test_trivago_lists_reranked(real_log) -> None:
    """MRR over all clickouts: the site's order 0.450; last touched item first, else the order shown 0.601."""
    data = build_dataset(read_events(real_log("trivago_100k/sessions.parquet")))
    data.transitions.split[:] = 2  # all clickouts, as published; nothing is fitted
    touched = FirstThen(RecentScorer(np.ones(len(data.vocabulary.types) + 1, bool), limit=1), ShownOrderScorer(), "last_touched")
    rows = ranking_targets(data)
    ranked, _ = rank_all(data, rows, {"site": ShownOrderScorer(), "touched": touched}, 20, window=50)
    assert gains(ranked["site"].ranks, 20)["MRR"].mean() == pytest.approx(0.450, abs=0.002)
    assert gains(ranked["touched"].ranks, 20)["MRR"].mean() == pytest.approx(0.601, abs=0.01)


def test_retailrocket_answers(real_log) -> None:
    """Popularity scores HR@20 .024, own items then session-kNN .547 over all 15,132 answers; here 400 of them."""
    data = build_dataset(read_events(real_log("retailrocket_sessions/retailrocket.parquet")))
    baselines = {name: fit_scorer(name, data) for name in ("popularity", "recent")}
    result = evaluate_ranking("recent", "retailrocket", data, {"q": [baselines["recent"]]}, baselines, visits=400, draws=200)
    assert (result["n"], result["users"], result["missed"]) == (400, 400, 0.0)
    lo, hi = result["metrics"]["HR@20"]["ci"]
    assert lo - 0.02 < 0.547 < hi + 0.02
    lo, hi = result["baselines"]["popularity"]["HR@20"]["ci"]
    assert lo - 0.01 < 0.024 < hi + 0.01
    assert result["lift"]["mean"] == 0.0
    json.dumps(result, allow_nan=False)


@pytest.mark.parametrize(
    ("name", "n"), [("taobao_userbehavior_mini/events.parquet", 428), ("otto_mini/events.parquet", 85)], ids=["taobao", "otto"]
)
def test_a_sample_too_small_to_claim_anything_goes_the_whole_way(name: str, n: int, real_log, tmp_path: Path) -> None:
    """From the file to a figure with an interval; each next choice of the test split is ranked once."""
    data = build_dataset(read_events(real_log(name)), out=tmp_path / "dataset")
    report = evaluate(train(data, steps=5, hidden=8, embedding_dim=8, window=8), data).to_dict()
    low, high = report["metrics"]["NDCG@20"]["ci"]
    assert report["n"] == n and 0 <= low <= report["metrics"]["NDCG@20"]["mean"] <= high <= 1
