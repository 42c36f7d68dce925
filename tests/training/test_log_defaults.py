"""Defaults follow the log's kind and size, and whatever is set by hand wins."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mdp_logs import decision, event, make_log

from qurate.errors import UserError
from qurate.evaluation.ranking import observations
from qurate.mdp.dataset import build_dataset
from qurate.mdp.storage import Dataset
from qurate.models.network_ranker import NetworkRanker
from qurate.settings import from_flat
from qurate.training.log_defaults import LARGE, TARGETS, UPDATES, log_defaults, updates_of
from qurate.training.train import train


@pytest.fixture(scope="module")
def organic(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    rows = [event(f"u{user}", f"i{(user + step) % 7}", 1.7e9 + user * 977 + step * 60) for user in range(40) for step in range(8)]
    return build_dataset(make_log(rows), episode="session", out=tmp_path_factory.mktemp("log") / "d")  # type: ignore[arg-type]


def shown() -> Dataset:
    decisions = [decision(f"d{i}", f"u{i % 9}", [f"i{i % 5}"], 1.7e9 + i * 60) for i in range(90)]
    events = [event(f"u{i % 9}", f"i{i % 5}", 1.7e9 + i * 60 + 5, decision_id=f"d{i}") for i in range(0, 90, 2)]
    return build_dataset(make_log(events, decisions, "exposure"), rewards="click=1")


def test_logs_of_choices_have_their_own_and_others_do_not(organic: Dataset) -> None:
    found = log_defaults(organic, "dqn")
    assert found["negatives"] == 0 and found["calibrate"] and found["batch_size"] == 256
    assert log_defaults(shown(), "dqn") == log_defaults(organic, "popularity") == log_defaults(organic, "q_learning") == {}


@pytest.mark.parametrize("algorithm", ["bc", "sqn", "gru4rec"])
def test_what_ranks_by_what_was_chosen_tells_the_items_of_lists_apart(algorithm: str, caplog: pytest.LogCaptureFixture) -> None:
    """Few were shown often, and nothing is known of them but their ids: a Q over features of candidates needs none, these do."""
    decisions = [decision(f"d{i}", f"u{i % 9}", [f"i{i % 40}", f"i{(i + 1) % 40}", "best"], 1.7e9 + i * 60) for i in range(120)]
    events = [event(f"u{i % 9}", "best", 1.7e9 + i * 60 + 5, decision_id=f"d{i}") for i in range(120)]
    data = build_dataset(make_log(events, decisions, "exposure"), rewards="click=1")
    assert not log_defaults(data, "dqn")["id_embedding"]
    small = {"steps": 60, "seed": 0, "hidden": 8, "embedding_dim": 4, "window": 3, "batch_size": 32, "histories": False}
    train(data, algorithm=algorithm, id_embedding=False, **small)  # type: ignore[arg-type]
    assert ("gives every item the same score" in caplog.text) == (algorithm == "gru4rec"), "the others know what a customer has met"
    caplog.clear()
    model = train(data, algorithm=algorithm, **small)  # type: ignore[arg-type]
    _, observed = next(observations(data, np.arange(5), model.window))
    scores, best = model.scores(observed), data.vocabulary.item_index(["best"])[0]
    assert (observed.actions.candidates[np.arange(5), scores.argmax(1)] == best).all() and scores.std(1).min() > 0
    assert "the same score" not in caplog.text


def test_size_decides_passes_and_batches(organic: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def at(decisions: int) -> dict[str, Any]:
        big = np.zeros(decisions, np.uint8)
        monkeypatch.setattr("qurate.training.log_defaults._train_decisions", lambda _: len(big))
        return log_defaults(organic, "dqn")

    assert at(1_000)["passes"] == 8 and at(10 * TARGETS)["passes"] == 1
    assert at(LARGE - 1)["batch_size"] == 256 and at(LARGE)["batch_size"] == 1_024
    assert at(TARGETS // 5)["passes"] == 5


def test_passes_are_passes_within_limits() -> None:
    def updates(decisions: int, **leaves: Any) -> int:
        return updates_of(from_flat(leaves), decisions)

    assert updates(560_000, passes=5.0, batch_size=1_024) == 5 * 560_000 // 1_024
    assert updates(10, passes=5.0) == UPDATES[0] and updates(10**9, passes=5.0) == UPDATES[1]


def test_a_small_log_of_choices_is_not_learnt_by_heart() -> None:
    settings = from_flat({"passes": 8.0, "batch_size": 256})
    found = [updates_of(settings, decisions, organic=True) for decisions in (10, 640, 3_200, 6_400, 32_000, 64_000)]
    assert found == [100, 100, 500, UPDATES[0], 1_000, 2_000]


def test_what_is_set_by_hand_wins_and_zero_passes_are_refused(organic: Dataset) -> None:
    model = train(organic, steps=2, hidden=8, embedding_dim=4, window=3)
    assert model.settings.learning.lr_schedule == "cosine" and model.settings.network.embedding_dim == 4
    assert model.by == "behaviour_times_q"
    old = train(organic, steps=2, hidden=8, embedding_dim=4, window=3, negatives=64, behaviour_head="views", calibrate=False)
    assert old.by == "q_in_support", "with squared negatives Q itself says what is not chosen"
    with pytest.raises(UserError, match="passes"):
        train(organic, passes=0)


def test_where_rewards_differ_what_is_worth_more_comes_first(tmp_path: Path) -> None:
    """After a, 60 % click b and 40 % buy c, which is worth ten clicks: the head shows b first, the policy c."""
    rng, rows = np.random.default_rng(0), []
    for user in range(400):
        start, bought = 1.7e9 + user * 977, rng.random() < 0.4
        rows += [event(f"u{user}", "a", start), event(f"u{user}", "c" if bought else "b", start + 60, "purchase" if bought else "click")]
        rows.append(event(f"u{user}", f"d{user % 5}", start + 120))
    data = build_dataset(make_log(rows), {"click": 1, "purchase": 10}, episode="session")  # type: ignore[arg-type]
    model = train(data, steps=300, gamma=0.0, hidden=16, embedding_dim=8, window=4, batch_size=64, lr=0.01)
    history = [{"item_id": "a", "type": "click", "timestamp": 0}]

    def first(by: Any) -> str:
        return model.ranked_by(by).recommend(None, 1, history=history, exclude=["none"]).items[0].item_id

    assert (first("behaviour"), first("behaviour_times_q")) == ("b", "c")
    model.save(tmp_path / "m")
    assert isinstance(model.ranker, NetworkRanker) and 1 < model.ranker.mean_reward < 10


def test_the_window_reaches_back_to_what_is_chosen_again() -> None:
    """Customers who go round 30 items of their own choose what stands 30 rows back; those who go round 8 or 200 do not need more."""

    def window(ring: int, users: int = 4) -> tuple[int, float]:
        rows = [event(f"u{u}", f"{u}-{step % ring}", 1.7e9 + u * 977 + step * 60) for u in range(users) for step in range(300)]
        found = log_defaults(build_dataset(make_log(rows), episode="user"), "dqn")
        return found["window"], found["passes"]

    assert window(30)[0] == 50
    assert [window(ring)[0] for ring in (8, 20, 51, 200)] == [20] * 4


def test_the_longer_window_sees_half_as_many_decisions(organic: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qurate.training.log_defaults._train_decisions", lambda _: TARGETS // 6)
    assert log_defaults(organic, "dqn")["passes"] == 6
    monkeypatch.setattr("qurate.training.log_defaults._window", lambda _: 50)
    assert log_defaults(organic, "dqn")["passes"] == round(6 * 20 / 50)
