"""bc, bcq, sqn, cql and iql on every kind of log, and where they are refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mdp_logs import decision, event, make_log

from qurate.cli.app import main
from qurate.errors import UserError
from qurate.mdp.dataset import build_dataset
from qurate.mdp.storage import Dataset
from qurate.models.model import load
from qurate.models.network_ranker import NetworkRanker
from qurate.replay.writers import store_from_log
from qurate.training.train import train

SMALL: dict[str, Any] = {"steps": 5, "hidden": 8, "embedding_dim": 4, "window": 6, "batch_size": 16}
RANKS_BY = {"bc": "behaviour", "bcq": "q_in_support", "sqn": "behaviour", "cql": "q", "iql": "policy"}
NAMES = list(RANKS_BY)


def choices() -> Dataset:
    rows = [event(f"u{i // 20}", f"i{i % 7}", 1.7e9 + i * 60, "click" if i % 3 else "purchase") for i in range(800)]
    return build_dataset(make_log(rows), {"click": 1, "purchase": 5}, episode="session")  # type: ignore[arg-type]


def lists() -> Dataset:
    """Three of four items are shown at a time; the catalogue has a fifth, which begins late."""
    shown = [
        decision(f"d{user}-{i}", f"u{user}", ["abcd"[(user + i + j) % 4] for j in range(3)], 1e9 + 9000 * user + 600 * i)
        for user in range(30) for i in range(5)
    ]  # fmt: skip
    clicks = [
        event(f"u{user}", "abcd"[(user + i) % 4], 1e9 + 9000 * user + 600 * i + 5, decision_id=f"d{user}-{i}")
        for user in range(30) for i in range(4)
    ]  # fmt: skip
    return build_dataset(make_log(clicks, shown, "exposure"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("log", [choices, lists])
def test_every_kind_of_log_trains_them_and_the_score_that_ranks_is_the_algorithm_s(name: str, log: Any, tmp_path: Path) -> None:
    data = log()
    model = train(data, algorithm=name, **SMALL)
    assert model.by == RANKS_BY[name] and model.metrics["skipped"] == 0
    model.save(tmp_path / "m")
    again = load(tmp_path / "m")
    assert isinstance(again.ranker, NetworkRanker) and again.ranker.ranking_scores == model.ranker.ranking_scores
    mine, theirs = (m.recommend("u3", 3, exclude=["none"]).items for m in (model, again))
    assert [(i.item_id, i.score) for i in mine] == [(i.item_id, i.score) for i in theirs] and len(mine) == 3


@pytest.mark.parametrize("name", NAMES)
def test_shortlists_with_clocks_train_them(name: str) -> None:
    model = train(choices(), algorithm=name, clocks="on", id_embedding=False, **SMALL)
    assert model.lists is not None and model.by == RANKS_BY[name]


def test_what_was_not_learnt_is_not_offered() -> None:
    """bc has no Q; the head of iql is no model of the log."""
    cloned, implicit = (train(choices(), algorithm=name, **SMALL) for name in ("bc", "iql"))
    assert cloned.ranker.ranking_scores == ["behaviour"] and implicit.ranker.ranking_scores == ["q", "policy"]
    items = [model.recommend("u3", 1, explain=True, exclude=["none"]).items[0] for model in (cloned, implicit)]
    assert [item.source for item in items] == ["rule", "q"] and [isinstance(item.later, float) for item in items] == [False, True]
    with pytest.raises(ValueError, match="bc ranks by behaviour"):
        cloned.ranked_by("q")


def test_cloning_needs_no_rewards_that_differ() -> None:
    rows = [event(f"u{i // 20}", f"i{i % 7}", 1.7e9 + i * 60) for i in range(400)]
    data = build_dataset(make_log(rows), {"click": 1}, episode="user")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="rewards from which something can be learnt"):
        train(data, algorithm="cql", **SMALL)
    assert train(data, algorithm="bc", **SMALL).metrics["steps"] == 5


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("env", ["shop", "CartPole-v1"])
def test_an_environment_is_refused_in_one_line(name: str, env: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--env", env, "--algorithm", name, "-o", str(tmp_path / "m")]) == 2 and not (tmp_path / "m").exists()
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and error[0].startswith(f"error: expected a dataset, got --env {env}, at --algorithm {name}; ")


def test_a_batch_says_what_could_be_shown_at_the_decision_itself() -> None:
    data = lists()
    t = data.transitions
    index = np.arange(0, len(t.state), 7)
    listing, without = (
        store_from_log(t_, t, data.weights, data.user_features, 0.9, 1e6, 4, data.availability, with_actions=wanted)
        for t_, wanted in ((data.arrays, True), (data.arrays, False))
    )
    assert without.batch(index).actions is None
    now = listing.batch(index).actions
    assert now is not None and now.candidates is not None and now.clock is not None
    for row, at in enumerate(t.state[index]):
        own = t.candidates[t.candidates_start[at] : t.candidates_start[at + 1]]
        assert now.candidates[row][now.candidates[row] > 0].tolist() == own.tolist() and now.clock[row] == t.clock[at]
