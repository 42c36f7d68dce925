"""What a customer is not shown again while serving: in the answer, in its probabilities, in the log, after a restart."""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from double import KnownModel
from test_round_trip import network_model
from test_service import NOW, SECOND, Clock, accept, event, ids, table

from qurate.choosing.seen import SeenRule
from qurate.errors import Code, MachineError
from qurate.events.readers import read_events
from qurate.mdp.dataset import build_dataset
from qurate.mdp.storage import Dataset
from qurate.models.histories import EMPTY_HISTORY
from qurate.models.model import Model
from qurate.models.recommend import clock_for
from qurate.replay.writers import store_from_log
from qurate.serving.messages import RecommendRequest
from qurate.serving.served import ServedModel
from qurate.serving.service import Service
from qurate.serving.stores.sqlite import SqliteStore
from qurate.serving.windows import MAX_CLOSED
from qurate.training.train import train
from qurate.types import Transitions

PURCHASED = SeenRule("purchased", {"purchase": np.inf})
Start = Callable[..., Service]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def start(tmp_path: Path, clock: Clock) -> Iterator[Start]:
    """Starts a service of a deployment; one at a time on the same directory."""
    services: list[Service] = []

    def begin(deployment: Any) -> Service:
        for service in services:
            service.close()
        services.append(Service(deployment, partial(SqliteStore, tmp_path / "data"), seed=0, clock=clock))
        return services[-1]

    yield begin
    for service in services:
        service.close()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Of a log in which every customer buys a few items, clicks on others, and goes on for longer than the window."""
    folder, draw = tmp_path_factory.mktemp("log"), random.Random(0)
    lines = ["user_id,item_id,type,timestamp"]
    for user in range(40):
        items = draw.sample(range(30), 14)
        lines += [f"u{user},i{item:02},{'purchase' if k < 3 else 'click'},{1_700_000_000 + 60 * k}" for k, item in enumerate(items)]
    (folder / "log.csv").write_text("\n".join(lines) + "\n")
    model = train(build_dataset(read_events(folder / "log.csv")), steps=3, hidden=8, embedding_dim=4, window=4, batch_size=16)
    assert model.answering.exclude == "purchased"
    return model


def at_log_end(model: Model, user: str) -> int:
    """When `recommend` decides for a customer of the training log."""
    assert model.histories is not None
    known = model.histories.index.get(user)
    rows = EMPTY_HISTORY if known is None else model.histories.rows(known)
    return clock_for(model, rows, model.histories.log_end)


def test_the_service_and_recommend_give_the_same_lists(trained: Model, start: Start, clock: Clock) -> None:
    """By the model's default and by any rule; what was bought lies before the window, and counts all the same."""
    for words in ([], ["none"], ["seen"], ["click"]):
        rule = None if not words else SeenRule(words[0], {} if words == ["none"] else {words[0]: np.inf})
        service = start(ServedModel(trained, 0.0, rule))
        for user in ("u0", "u3", "u7", "nobody"):
            clock.now = at_log_end(trained, user)
            expected = trained.recommend(user, 99, exclude=words)
            answer = service.recommend(RecommendRequest(user_id=user, k=99))
            same = sorted if user == "nobody" else list  # popularity has ties, which each breaks by its own luck
            assert same(ids(answer)) == same(ids(expected)) and answer.degraded == expected.degraded
            assert len(answer.items) == {"none": 30, "seen": 16, "click": 19}.get("".join(words), 27) or user == "nobody"


def test_probabilities_are_exact_over_what_is_left(start: Start) -> None:
    service = start(ServedModel(network_model(), 0.4, PURCHASED))
    accept(service, *(event(f"e{u}-{i}", f"i{i}", user_id=f"u{u}", type="purchase") for u in range(250) for i in range(1, 28)))
    answers = [service.recommend(RecommendRequest(user_id=f"u{u}", k=1)).items[0] for u in range(250)]
    probability = {one.item_id: one.propensity for one in answers}
    assert set(probability) == {"i28", "i29", "i30"} and sum(probability.values()) == pytest.approx(1, abs=1e-12)
    for item, p in probability.items():
        share = np.mean([one.item_id == item for one in answers])
        assert abs(share - p) < 4.5 * (p * (1 - p) / len(answers)) ** 0.5
    both = service.recommend(RecommendRequest(user_id="u0", k=9, exclude=("i30",), candidates=["i1", "i28", "i29", "i30"]))
    assert sorted(ids(both)) == ["i28", "i29"] and both.items[-1].propensity == 1.0


@pytest.mark.parametrize("cold", [False, True])
def test_who_has_met_everything_is_answered_by_popularity_and_told_why(cold: bool, start: Start) -> None:
    model = network_model(supports_cold_start=cold)
    service = start(ServedModel(model, 0.1, PURCHASED))
    accept(service, *(event(f"e{i}", f"i{i}", type="purchase") for i in range(1, 31)))
    answer = service.recommend(RecommendRequest(user_id="u", k=3, exclude=("i30",)))
    assert (len(answer.items), answer.degraded, answer.policy) == (3, "all_masked", "popularity/epsilon_greedy")
    assert {item.source for item in answer.items} == {"fallback"} and "i30" not in ids(answer)
    assert sum(item.propensity > 0.5 for item in answer.items) >= 1
    assert service.recommend(RecommendRequest(user_id="u", k=3, exclude=tuple(f"i{i}" for i in range(1, 31)))).items == []
    (row,) = table(service, "SELECT excluded, candidates FROM decisions")
    assert row == ('["i30"]', None), "what was bought could be chosen"


def test_a_decision_keeps_what_could_not_be_chosen(start: Start, tmp_path: Path) -> None:
    service = start(ServedModel(network_model(), 0.0, PURCHASED))
    accept(service, event("a", "i4", type="purchase"), event("b", "i5", type="click"), event("c", None, type="purchase"))  # type: ignore[arg-type]
    service.recommend(RecommendRequest(user_id="u", k=2, exclude=("i7",)))
    service.recommend(RecommendRequest(user_id="u", k=2, candidates=["i3", "i4", "i5", "unheard of"]))
    service.recommend(RecommendRequest(user_id="v", k=2))
    rows = table(service, "SELECT excluded, candidates FROM decisions ORDER BY seq")
    assert [[None if text is None else json.loads(text) for text in row] for row in rows] == [
        [["i7", "i4"], None], [None, ["i3", "i5"]], [None, None],
    ]  # fmt: skip


def test_a_rule_within_a_time_ends(start: Start, clock: Clock) -> None:
    rule = SeenRule("purchase:60s", {"purchase": 60.0})
    service = start(KnownModel(exclude=rule))
    accept(service, event("a", "i1", ago=10, type="purchase"), event("b", "i2", ago=100, type="purchase"))
    ask = RecommendRequest(user_id="u", k=9)
    assert ids(service.recommend(ask)) == ["i2", "i3", "i4", "i5"]
    clock.now += 49 * SECOND
    accept(service, event("late", "i1", ago=90, type="purchase"))  # an older purchase that arrives later takes nothing back
    assert ids(service.recommend(ask)) == ["i2", "i3", "i4", "i5"]
    clock.now += 2 * SECOND
    assert ids(service.recommend(ask)) == ["i1", "i2", "i3", "i4", "i5"]


def test_a_restart_changes_nothing(start: Start, clock: Clock) -> None:
    """Late, repeated and skewed events, answers and restarts in any order: memory equals what the log says."""
    draw = random.Random(2)
    rule = SeenRule("seen:100s,purchase", {"seen": 100.0, "purchase": np.inf})
    model = KnownModel(items=40, window=3, exclude=rule, epsilon=0.5)
    service = start(model)
    for step in range(250):
        clock.now += draw.choice([0, 1000, 3 * SECOND])
        if draw.random() < 0.05:
            service = start(model)
        if draw.random() < 0.5:
            answer = service.recommend(RecommendRequest(user_id=draw.choice("uv"), k=draw.choice([1, 2])))
            asked = model.asked[-1]
            rows = table(
                service,
                f"""SELECT item_id, type, timestamp_us FROM events WHERE user_id = '{asked.user_id}' UNION ALL
                SELECT json_extract(shown, '$[0]'), 'shown', timestamp_us FROM decisions WHERE user_id = '{asked.user_id}'
                AND json_array_length(shown) = 1 AND decision_id != '{answer.decision_id}'""",
            )
            expected = {item for item, kind, time in rows if kind == "purchase" or asked.clock_us - time <= 100 * SECOND}
            assert set(asked.seen) == expected, step
        else:
            kind, item = draw.choice(["click", "purchase", "not in the vocabulary"]), f"i{draw.randrange(1, 41)}"
            ago = (NOW - clock.now) / SECOND + draw.choice([0, 50, 99, 400])
            accept(service, event(f"e{draw.randrange(step + 1)}", item, ago, type=kind, user_id=draw.choice("uv")))
    assert len(model.asked) > 80 and max(len(asked.seen) for asked in model.asked) > 10


def test_so_many_items_count_and_no_more(start: Start) -> None:
    """Beyond the bound the last to have arrived, in memory as after a restart."""
    model = KnownModel(items=3, window=3, exclude=PURCHASED)
    service = start(model)
    service.recommend(RecommendRequest(user_id="u", k=2))  # the customer is in memory
    for first in range(0, MAX_CLOSED + 10, 670):
        numbers = range(first, min(first + 670, MAX_CLOSED + 10))
        accept(service, *(event(f"e{i}", f"x{i}", type="purchase") for i in numbers))
    accept(service, event("again", "x9", type="purchase"), event("other", "x10", type="click"))
    expected = {f"x{i}" for i in (9, *range(11, MAX_CLOSED + 10))}
    for _ in range(2):
        service.recommend(RecommendRequest(user_id="u", k=2))
        assert set(model.asked[-1].seen) == expected
        service = start(model)


def test_where_the_store_cannot_be_read_what_training_knew_is_not_shown_again(
    trained: Model, start: Start, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = start(ServedModel(trained, 0.0))

    def broken(*_: Any) -> None:
        raise MachineError("a store", "none", code=Code.NOT_READY)

    monkeypatch.setattr(service.store, "history", broken)
    clock.now = at_log_end(trained, "u3")
    answer = service.recommend(RecommendRequest(user_id="u3", k=99))
    assert answer.degraded == "store_unavailable" and ids(answer) == ids(trained.recommend("u3", 99))


def test_reading_the_log_back_gives_the_same_candidates(trained: Model, start: Start, tmp_path: Path) -> None:
    """What could be chosen for each decision, as the service knew it and as the dataset and the learner have it."""
    served = ServedModel(trained, 0.3)
    service = start(served)
    draw, offered = random.Random(3), {}
    for step in range(60):
        user = f"v{step % 5}"
        if step % 3 == 0:
            accept(service, event(f"e{step}", f"i{draw.randrange(30):02}", user_id=user, type="purchase"))
        listed = [f"i{n:02}" for n in draw.sample(range(30), 8)] if step % 4 == 0 else None
        answer = service.recommend(
            RecommendRequest(user_id=user, k=1, candidates=listed, exclude=("i01", "unheard of") if step % 5 else ())
        )
        known = service._windows.get(user)
        shut = {*known.closed_at(NOW), *(["i01"] if step % 5 else [])}
        offered[answer.decision_id] = {item for item in (listed or trained.vocabulary.items) if item not in shut}
    served.write_catalogue(tmp_path / "data")
    log = read_events(tmp_path / "data")
    assert not any("excluded" in note for note in log.notes) and log.decisions is not None
    order = log.decisions.collect()
    written = build_dataset(log).write(tmp_path / "dataset")
    dataset = Dataset.read(tmp_path / "dataset")
    t, names = dataset.transitions, np.array(["", *dataset.vocabulary.items])
    assert equal_parts(t, written.transitions) and "unheard of" not in names
    store = store_from_log(dataset.arrays, t, dataset.weights, dataset.user_features, 0.9, 3600.0, 4, dataset.availability)
    by_user = order.with_row_index("at").sort("user_id", "row")
    counted = 0
    for state, decision_id in enumerate(by_user["decision_id"]):
        pool = t.candidates[t.candidates_start[state] : t.candidates_start[state + 1]]
        shut = t.excluded[t.excluded_start[state] : t.excluded_start[state + 1]]
        assert not (len(pool) and len(shut))
        candidates = {*names[pool]} or {*names[dataset.availability.open_items(int(t.clock[state]))]} - {*names[shut]}
        assert candidates == offered[decision_id]
        before = np.flatnonzero(t.next_state == state)
        if before.size and not len(pool):
            excluded = store.batch(before[:1]).next_actions.excluded
            assert ({*excluded[0].tolist()} if excluded is not None else set()) == {*shut.tolist()}
            counted += excluded is not None
    assert counted > 10


def equal_parts(one: Transitions, other: Transitions) -> bool:
    return all(np.array_equal(getattr(one, part.name), getattr(other, part.name), equal_nan=True) for part in fields(one))
