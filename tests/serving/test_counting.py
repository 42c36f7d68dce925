"""A served model with counters: what is stored now decides what is shown next, also after a restart."""

import json
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from mdp_logs import event, make_log

from qurate.mdp.dataset import build_dataset
from qurate.models.model import Model, load
from qurate.serving.deployments import DecisionRequest
from qurate.serving.messages import Event, RecommendRequest
from qurate.serving.served import ServedModel
from qurate.serving.service import Service
from qurate.serving.stores.sqlite import SqliteStore
from qurate.serving.stores.sqlite_file import connect
from qurate.training.train import train

END = 1_700_030_000
MINUTE = 60_000_000


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    rows = [event(f"u{v}", f"a{rng.integers(0, 40)}", 1_700_000_000 + 60 * v + 5 * step) for v in range(500) for step in range(3)]
    rows.append(event("late", "quiet", 1_700_000_000))
    rows.append(event("late", "quiet", 1_700_000_001))
    place = tmp_path_factory.mktemp("model") / "m"
    train(build_dataset(make_log(rows), episode="session"), steps=30, clocks="on", hidden=8, embedding_dim=4, window=4).save(place)
    return place


def click(number: int, user: str, item: str, seconds: int) -> tuple[int, Event]:
    return number, Event(event_id=f"e{number}-{seconds}", type="click", user_id=user, item_id=item, timestamp=(END + seconds) * 1_000)


def served(model: Model, directory: Path) -> Service:
    return Service(ServedModel(model, 0.0), partial(SqliteStore, directory), seed=0, clock=lambda: (END + 10_000) * 1_000_000)


def state(model: Model) -> tuple[np.ndarray, np.ndarray]:
    assert model.lists is not None
    clock, history = np.array([(END + 2_000) * 1_000_000]), np.array([[0, 3]])
    listed = model.lists.candidates(history, clock)
    return listed, model.lists.values(listed, history, clock)


def test_events_are_counted_once_and_again_after_a_restart(trained: Path, tmp_path: Path) -> None:
    model = load(trained)
    service = served(model, tmp_path)
    try:
        before = state(model)
        a9 = int(model.vocabulary.item_index(["a9"])[0])
        assert model.lists is not None
        counted = model.lists.items.counts[model.lists.items.row[a9]].copy()
        batch = [click(i, f"v{i}", "quiet", i) for i in range(30)]
        service.accept(batch)
        service.accept(batch)  # the same ids again
        service.accept([click(100, "v1", "a7", 60), click(101, "v2", "a7", 3_000), click(102, "v3", "nobody knows this one", 61)])
        service.accept([click(103, "v4", "a9", -40_000)])  # older than the log's end
        after = state(model)
    finally:
        service.close()
    assert np.array_equal(counted, model.lists.items.counts[model.lists.items.row[a9]]), "the training log has counted it"
    quiet = int(model.vocabulary.item_index(["quiet"])[0])
    assert quiet in after[0] and not np.array_equal(before[1], after[1], equal_nan=True)
    count = after[1][0, np.flatnonzero(after[0][0] == quiet)[0], 3]
    assert count == pytest.approx(30, rel=0.1)
    size = len(model.lists.first_seen)
    pairs = {(key // size, key % size) for key in model.lists.moves.row}
    a7 = int(model.vocabulary.item_index(["a7"])[0])
    assert (quiet, a7) in pairs and model.lists.moves.counts[model.lists.moves.row[quiet * size + a7], 0] == 1  # v2 came back too late
    again = load(trained)
    restarted = served(again, tmp_path)
    restarted.close()
    for one, other in zip(after, state(again)):
        np.testing.assert_array_equal(one, other)


def test_a_visit_that_began_in_the_training_log_goes_on(trained: Path, tmp_path: Path) -> None:
    """The newest item of the training log is where a customer's first event in the service comes from."""
    model = load(trained)
    assert model.lists is not None and model.histories is not None
    rows = model.histories.rows(int(model.histories.index["u499"]))
    service = served(model, tmp_path)
    try:
        service.accept([click(1, "u499", "a7", 60)])
    finally:
        service.close()
    before, a7 = int(rows.items[-1]), int(model.vocabulary.item_index(["a7"])[0])
    row = model.lists.moves.row.get(before * len(model.lists.first_seen) + a7)
    assert row is not None
    assert model.lists.moves.arrays()[2][row] == (END + 60) * 1_000_000, "the newest such move is the live one"


def test_what_comes_late_leads_nowhere_and_does_not_become_the_newest(trained: Path, tmp_path: Path) -> None:
    model = load(trained)
    assert model.lists is not None
    index = {name: int(model.vocabulary.item_index([name])[0]) for name in ("quiet", "a7", "a9")}
    size = len(model.lists.first_seen)
    before = {key: model.lists.moves.counts[row, 3] for key, row in model.lists.moves.row.items()}
    service = served(model, tmp_path)
    try:
        service.accept([click(1, "v", "quiet", 600), click(2, "v", "a7", 300), click(3, "v", "a9", 660)])
    finally:
        service.close()
    moved = {key for key, row in model.lists.moves.row.items() if model.lists.moves.time[row] > END * 1_000_000}
    assert moved == {index["quiet"] * size + index["a9"]} and len(before) <= len(model.lists.moves.row)


def test_a_request_with_candidates_is_given_no_shortlist(trained: Path, tmp_path: Path) -> None:
    asked = list[str]()

    class Recording(ServedModel):
        def shortlists(self, requests: Sequence[DecisionRequest]) -> list[tuple[str, ...]]:
            asked.extend(request.user_id for request in requests)
            return super().shortlists(requests)

    service = Service(Recording(load(trained), 0.0), partial(SqliteStore, tmp_path), seed=0, clock=lambda: END * 1_000_000)
    try:
        own = service.recommend(RecommendRequest(user_id="own", k=1, candidates=["a7"]))
        service.recommend(RecommendRequest(user_id="all", k=1))
    finally:
        service.close()
    assert asked == ["all"] and [item.item_id for item in own.items] == ["a7"]


def test_a_last_event_without_an_item_is_no_beginning_of_a_visit() -> None:
    """The newest item of training is that of the last row that names one."""
    rows = [event(f"u{v}", f"a{v % 7}", 1_700_000_000 + 60 * v + 5 * step) for v in range(300) for step in range(3)]
    rows.append({**event("u299", "a1", END - 20), "item_id": None})
    model = train(build_dataset(make_log(rows), episode="session"), steps=5, clocks="on", hidden=8, embedding_dim=4, window=4)
    item, at = ServedModel(model, 0.0)._newest_in_training("u299")
    assert model.vocabulary.items[item - 1] == "a5" and at == (1_700_000_000 + 60 * 299 + 10) * 1_000_000


def test_the_log_keeps_the_shortlist_of_an_answer(trained: Path, tmp_path: Path) -> None:
    """Only these could be chosen, with these probabilities."""
    model = load(trained)
    service = Service(ServedModel(model, 0.5), partial(SqliteStore, tmp_path), seed=0, clock=lambda: (END + 10_000) * 1_000_000)
    try:
        decision = service.recommend(RecommendRequest(user_id="u3", k=2))
        named = service.recommend(RecommendRequest(user_id="u4", k=1, candidates=["quiet", "a7"]))
    finally:
        service.close()
    with closing(connect(tmp_path / "events.sqlite")) as db:
        rows = dict(db.execute("SELECT decision_id, candidates FROM decisions"))
    listed = json.loads(rows[decision.decision_id])
    assert {item.item_id for item in decision.items} <= set(listed) and 2 < len(listed) < len(model.vocabulary.items)
    assert json.loads(rows[named.decision_id]) == ["quiet", "a7"]
    second = decision.items[1].propensity
    assert decision.items[0].propensity in (pytest.approx(0.5 / len(listed)), pytest.approx(0.5 + 0.5 / len(listed)))
    assert second > 0
