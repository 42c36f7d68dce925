"""The service without HTTP: what it decides from, what it writes, what it does when something is missing."""

import asyncio
import json
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from double import TYPES, KnownModel
from msgspec import structs
from test_round_trip import network_model

from qurate.decision import Decision
from qurate.errors import Code, MachineError
from qurate.events.schema import OTHER
from qurate.serving import decisions
from qurate.serving.decisions import Pending
from qurate.serving.messages import Event, RecommendRequest
from qurate.serving.served import ServedModel, encode_windows
from qurate.serving.service import Service
from qurate.serving.stores.sqlite import SqliteStore
from qurate.serving.stores.sqlite_file import connect
from qurate.serving.windows import UserWindow
from qurate.types import NEVER, Availability

NOW = 1_800_000_000_000_000
SECOND = 1_000_000


class Clock:
    """A clock that goes where it is told, backwards too."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def start(tmp_path: Path, clock: Clock) -> Iterator[Callable[..., tuple[Service, KnownModel]]]:
    """Starts a service with a model double; one at a time on the same directory."""
    services: list[Service] = []

    def begin(**changes: Any) -> tuple[Service, KnownModel]:
        for service in services:
            service.close()
        model = KnownModel(**changes)
        services.append(Service(model, partial(SqliteStore, tmp_path), seed=0, clock=clock))
        return services[-1], model

    yield begin
    for service in services:
        service.close()


def event(event_id: str, item: str = "i4", ago: float = 10, **more: Any) -> Event:
    fields = {"type": "click", "user_id": "u", **more}
    return Event(event_id=event_id, item_id=item, timestamp=int(NOW - ago * SECOND) // 1000, **fields)


def accept(service: Service, *events: Event) -> tuple[int, int, list[int]]:
    answer = service.accept(list(enumerate(events)))
    return answer.accepted, answer.duplicates, [one.index for one in answer.rejected]


def ids(decision: Decision) -> list[str]:
    return [item.item_id for item in decision.items]


def table(service: Service, sql: str) -> list[Any]:
    return connect(service.store.path).execute(sql).fetchall()


@pytest.fixture
def real(tmp_path: Path, clock: Clock) -> Iterator[Callable[..., Service]]:
    """Starts a service with a network; one at a time on the same directory."""
    services: list[Service] = []

    def begin(epsilon: float = 0.0, available: int = 30, **changes: Any) -> Service:
        for service in services:
            service.close()
        model = network_model(**changes)
        until = np.where(np.arange(31) <= available, NEVER, NOW)  # the others are no longer to be had
        served = ServedModel(replace(model, availability=Availability(model.availability.since, until)), epsilon)
        services.append(Service(served, partial(SqliteStore, tmp_path), seed=0, clock=clock))
        return services[-1]

    yield begin
    for service in services:
        service.close()


def test_a_new_event_changes_the_next_answer(start: Any) -> None:
    service, _ = start()
    ask = RecommendRequest(user_id="u", k=2)
    assert ids(service.recommend(ask)) == ["i1", "i2"]
    assert accept(service, event("a", "i4")) == (1, 0, [])
    assert ids(service.recommend(ask)) == ["i4", "i1"]
    assert accept(service, event("a", "i4")) == (0, 1, [])
    assert ids(service.recommend(RecommendRequest(user_id="someone else", k=2))) == ["i1", "i2"]


def test_a_decision_is_on_disk_as_it_was_answered(start: Any) -> None:
    service, _ = start(epsilon=0.5)
    decision = service.recommend(
        RecommendRequest(user_id="u", session_id="s", k=3, candidates=["i3", "i1", "i2", "i1", "no such item"], exclude=("i2",))
    )
    (row,) = table(service, "SELECT decision_id, user_id, session_id, timestamp_us, shown, propensity, candidates, policy FROM decisions")
    assert row[:4] == (decision.decision_id, "u", "s", NOW)
    assert json.loads(row[4]) == ids(decision) and len(ids(decision)) == 2
    assert json.loads(row[5]) == [item.propensity for item in decision.items]
    assert decision.items[1].propensity == 1.0  # one candidate is left at the second position
    assert json.loads(row[6]) == ["i3", "i1"] and row[7] == "known"


def test_logged_propensities_are_how_often_it_happens(real: Any) -> None:
    """Of the network and the real rule: what the log says an answer's probability was is how often it came."""
    service = real(epsilon=0.6)
    accept(service, *[event(f"e{i}", user_id=f"u{i}") for i in range(500)])  # all in the same state
    candidates = ["i3", "i4", "i5"]
    answers = [service.recommend(RecommendRequest(user_id=f"u{i}", k=1, candidates=candidates)).items[0] for i in range(500)]
    logged = [json.loads(row[0]) for row in table(service, "SELECT propensity FROM decisions ORDER BY seq")]
    assert logged == [[one.propensity] for one in answers]
    probability = {one.item_id: one.propensity for one in answers}
    assert sorted(probability.values()) == pytest.approx([0.2, 0.2, 0.6]) and len({one.propensity for one in answers}) == 2
    for item, p in probability.items():
        share = np.mean([one.item_id == item for one in answers])
        assert abs(share - p) < 4.5 * (p * (1 - p) / len(answers)) ** 0.5
    best = max(probability, key=probability.__getitem__)
    explored = [one for one in answers if one.source == "explore"]
    assert {one.item_id for one in explored} == set(candidates) and {one.item_id for one in answers if one.source == "q"} == {best}
    assert abs(len(explored) / len(answers) - 0.6) < 4.5 * (0.6 * 0.4 / len(answers)) ** 0.5


def test_an_answer_of_one_item_enters_the_history_a_list_does_not(start: Any) -> None:
    service, model = start()
    service.recommend(RecommendRequest(user_id="u", k=3))
    service.recommend(RecommendRequest(user_id="u", k=1))
    service.recommend(RecommendRequest(user_id="u", k=1))
    assert [len(asked.window.items) for asked in model.asked] == [0, 0, 1]
    last = model.asked[-1]
    assert (last.window.items, last.window.types) == (("i1",), ("shown",))
    assert last.clock_us == last.window.times[0] + 1  # two requests within a microsecond keep their order
    service, model = start(shown_in_history=False)
    service.recommend(RecommendRequest(user_id="u", k=1))
    assert model.asked[-1].window == UserWindow()


def test_the_clock_of_a_decision_is_after_everything_it_saw(start: Any, clock: Clock) -> None:
    service, model = start()
    accept(service, event("ahead", ago=-60))
    service.recommend(RecommendRequest(user_id="u", k=2))
    assert model.asked[-1].clock_us == NOW + 60 * SECOND + 1
    clock.now -= 3600 * SECOND  # backwards
    service.recommend(RecommendRequest(user_id="u", k=2))
    assert model.asked[-1].clock_us == NOW + 60 * SECOND + 1


def test_the_state_is_what_the_log_gives_up_to_as_of(start: Any, clock: Clock) -> None:
    """Late, duplicate and skewed events, decisions and restarts in any order: memory equals the log, bit for bit."""
    draw = random.Random(1)
    service, model = start(window=6)
    for step in range(300):
        clock.now += draw.choice([0, 1, 1000, 7 * SECOND, -3 * SECOND])
        user = draw.choice(["u", "v"])
        if draw.random() < 0.02:
            asked = model.asked
            service, model = start(window=6)
            model.asked = asked
        if draw.random() < 0.5:
            service.recommend(RecommendRequest(user_id=user, k=draw.choice([1, 1, 2])))
        else:
            names = [None, *(row[0] for row in table(service, "SELECT decision_id FROM decisions ORDER BY seq DESC LIMIT 3"))]
            kinds = ["click", "purchase", "not in the vocabulary"]
            batch = [
                event(
                    f"e{draw.randrange(step + 1)}",
                    draw.choice(["i1", "i5", "unheard of"]),
                    (NOW - clock.now) / SECOND + draw.choice([0, 0.5, 400, -20]),
                    user_id=user,
                    type=draw.choice(kinds),
                    value=draw.choice([None, 0.1, 7]),
                    decision_id=draw.choice(names),
                )
                for _ in range(draw.randrange(1, 4))
            ]
            accept(service, *batch)
    decisions = table(service, "SELECT user_id, as_of, timestamp_us, seq FROM decisions ORDER BY seq")
    assert len(decisions) > 100 and len(decisions) == len(model.asked)
    assert [row[2] for row in decisions] == [asked.clock_us for asked in model.asked]
    for (user, as_of, _, own), served in zip(decisions, model.asked):
        rebuilt = table(
            service,
            f"""SELECT item_id, type, timestamp_us, value, 2 * seq, seq FROM events
            WHERE user_id = '{user}' AND seq <= {as_of} AND type IN ('click', 'purchase')
            UNION ALL SELECT json_extract(shown, '$[0]'), 'shown', timestamp_us, NULL, 2 * as_of + 1, seq FROM decisions
            WHERE user_id = '{user}' AND seq < {own} AND json_array_length(shown) = 1 ORDER BY 5, 6""",
        )[-6:]
        assert served.window == UserWindow(*(tuple(column) for column in zip(*[(*row[:3], row[3] or 0.0) for row in rebuilt]))), own


def test_an_event_that_comes_while_its_customer_is_decided_for_stands_after_the_decision(start: Any) -> None:
    """The decision did not know it: in memory as in the store it comes first."""
    service, model = start()

    def meanwhile() -> None:
        model.during = lambda: None
        accept(service, event("during", "i5", ago=20))

    accept(service, event("before", "i4", ago=30))
    model.during = meanwhile
    service.recommend(RecommendRequest(user_id="u", k=1))
    service.recommend(RecommendRequest(user_id="u", k=1))
    asked = model.asked[-1].window
    assert (asked.items, asked.types) == (("i4", "i4", "i5"), ("click", "shown", "click"))
    service, model = start()  # as the store has it
    service.recommend(RecommendRequest(user_id="u", k=2))
    assert model.asked[-1].window.items == ("i4", "i4", "i5", "i4") and model.asked[-1].window.times[:3] == asked.times


def test_requests_that_wait_together_are_decided_together_each_with_its_own(start: Any) -> None:
    service, model = start(items=9)
    entered, gate = threading.Event(), threading.Event()

    def held() -> None:
        entered.set()
        gate.wait(10)
        model.during = lambda: None

    model.during = held
    requests = [
        RecommendRequest(user_id="a", k=1),
        RecommendRequest(user_id="b", k=2, candidates=["i7", "i5", "i6"]),
        RecommendRequest(user_id="c", k=1, exclude=("i1", "i2")),
        RecommendRequest(user_id="c", k=1),  # the second one of a customer is decided after the first
        RecommendRequest(user_id="d", k=3, context={"a": 1}),
    ]

    async def all_of_them() -> list[Decision]:
        first = asyncio.create_task(service.recommend_async(RecommendRequest(user_id="first", k=1)))
        await asyncio.to_thread(entered.wait, 10)
        rest = [asyncio.create_task(service.recommend_async(request)) for request in requests]
        await asyncio.sleep(0.05)
        gate.set()
        return await asyncio.gather(*rest, first)

    answers = asyncio.run(all_of_them())
    assert model.batches == [1, 4, 1]
    assert [ids(answer) for answer in answers] == [["i1"], ["i5", "i6"], ["i3"], ["i1"], ["i1", "i2", "i3"], ["i1"]]
    assert [answer.user_id for answer in answers] == ["a", "b", "c", "c", "d", "first"]
    assert [asked.window.items for asked in model.asked if asked.user_id == "c"] == [(), ("i3",)]
    assert len({answer.decision_id for answer in answers}) == 6 == table(service, "SELECT count(*) FROM decisions")[0][0]


def test_what_comes_while_the_disk_is_busy_is_decided_together_when_it_is_done(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    service, model = start()
    monkeypatch.setattr(decisions, "SETTLE_SECONDS", 10.0)
    busy, gate, commit = threading.Event(), threading.Event(), service.store._commit

    def slow(group: Any) -> None:
        busy.set()
        gate.wait(10)
        commit(group)

    monkeypatch.setattr(service.store, "_commit", slow)

    async def all_of_them() -> None:
        first = asyncio.create_task(service.recommend_async(RecommendRequest(user_id="first", k=1)))
        await asyncio.to_thread(busy.wait, 10)
        rest = []
        for number in range(4):
            rest.append(asyncio.create_task(service.recommend_async(RecommendRequest(user_id=f"u{number}", k=1))))
            await asyncio.sleep(0.02)
        assert model.batches == [1]
        gate.set()
        await asyncio.gather(*rest, first)

    asyncio.run(all_of_them())
    assert model.batches == [1, 4]


def test_a_disk_that_hangs_holds_up_no_decision_for_long(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answers wait for it, but whoever is turned away by it is answered, and the service can be closed."""
    service, model = start()
    gate, commit = threading.Event(), service.store._commit
    monkeypatch.setattr(service.store, "_commit", lambda group: gate.wait(10) and commit(group))

    async def two() -> None:
        tasks = []
        for user in ("u", "v"):
            tasks.append(asyncio.create_task(service.recommend_async(RecommendRequest(user_id=user, k=1))))
            await asyncio.sleep(0.3)
        assert model.batches == [1, 1]
        gate.set()
        await asyncio.gather(*tasks)

    asyncio.run(two())


def test_a_request_on_which_the_model_fails_spoils_no_other(start: Any) -> None:
    service, model = start(items=4)
    model.broken_for = lambda request: request.user_id == "bad"

    async def together() -> list[Decision]:
        return await asyncio.gather(*(service.recommend_async(RecommendRequest(user_id=user, k=1)) for user in ("good", "bad", "fine")))

    assert [answer.degraded for answer in asyncio.run(together())] == ["unknown_user", "no_model", "unknown_user"]
    assert service.metrics.registry.get_sample_value("qurate_model_errors_total") == 1


def test_training_data_comes_first_and_never_twice(start: Any) -> None:
    def rows(*times: int) -> UserWindow:
        n = len(times)
        return UserWindow(("i2",) * n, ("click",) * n, times, (0.0,) * n)

    past = {"u": rows(*(NOW - ago * SECOND for ago in (900, 800, 10, 5)))}
    service, model = start(past=past)
    service.recommend(RecommendRequest(user_id="u", k=2))
    assert model.asked[-1].window == past["u"]
    accept(service, event("a", "i4", ago=10))
    service, model = start(past=past)  # a model trained from this store knows its rows too
    service.recommend(RecommendRequest(user_id="u", k=2))
    assert model.asked[-1].window.items == ("i2", "i2", "i4")
    service, model = start(past=past, window=2)
    service.recommend(RecommendRequest(user_id="u", k=2))
    assert model.asked[-1].window.items == ("i2", "i4")
    assert model.asked[-1].window.times[0] == past["u"].times[1], "of the older rows the newest"


def test_unknown_and_anonymous_customers_get_an_answer_and_the_reason(start: Any) -> None:
    service, _ = start()
    unknown = service.recommend(RecommendRequest(user_id="nobody", k=2))
    assert (ids(unknown), unknown.degraded, unknown.user_id) == (["i1", "i2"], "unknown_user", "nobody")
    nameless = [service.recommend(RecommendRequest(k=1)) for _ in range(2)]
    assert [one.degraded for one in nameless] == ["unknown_user"] * 2
    assert nameless[0].user_id != nameless[1].user_id
    visit = service.recommend(RecommendRequest(session_id="s", k=1))
    assert visit.user_id == "s" and service.recommend(RecommendRequest(session_id="s", k=1)).degraded is None


@pytest.mark.parametrize(
    ("available", "request_", "reason"),
    [
        (0, RecommendRequest(user_id="u"), "empty_catalogue"),
        (30, RecommendRequest(user_id="u", candidates=[]), "no_candidates"),
        (30, RecommendRequest(user_id="u", candidates=["unheard of"]), "no_candidates"),
        (3, RecommendRequest(user_id="u", candidates=["i4"]), "no_candidates"),
        (3, RecommendRequest(user_id="u", exclude=("i1", "i2", "i3")), "all_masked"),
        (30, RecommendRequest(user_id="u", candidates=["i9"], exclude=("i9",)), "all_masked"),
    ],
)
def test_nothing_to_show_is_an_answer(real: Any, available: int, request_: RecommendRequest, reason: str) -> None:
    """Of a network: the reason comes from what the request left it to choose from."""
    service = real(available=available)
    decision = service.recommend(request_)
    assert (decision.items, decision.degraded) == ([], reason)
    assert table(service, "SELECT count(*) FROM decisions") == [(0,)]


def test_more_than_the_catalogue_is_the_catalogue(start: Any) -> None:
    service, _ = start()
    assert len(service.recommend(RecommendRequest(user_id="u", k=1000)).items) == 5


def test_a_failing_model_is_replaced_by_chance_with_its_probabilities(start: Any) -> None:
    service, model = start(items=4)
    model.broken_for = lambda request: True
    decision = service.recommend(RecommendRequest(user_id="u", k=2, exclude=("i1",)))
    assert decision.degraded == "no_model" and decision.policy == "fallback_random"
    assert set(ids(decision)) < {"i2", "i3", "i4"}
    assert [item.propensity for item in decision.items] == [1 / 3, 1 / 2]
    assert {item.source for item in decision.items} == {"fallback"}
    assert table(service, "SELECT policy, degraded, excluded FROM decisions") == [("fallback_random", "no_model", '["i1"]')]


def test_without_a_store_the_answer_goes_out_and_leaves_no_trace(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    service, model = start()

    def full(group: Any) -> None:
        import apsw

        raise apsw.FullError("no space")

    commit = service.store._commit
    monkeypatch.setattr(service.store, "_commit", full)
    lost = service.recommend(RecommendRequest(user_id="u", k=1))
    assert lost.degraded == "store_unavailable" and ids(lost) == ["i1"]
    assert not service.ready().ready and "room on the disk" in service.ready().checks["store"].detail
    with pytest.raises(MachineError) as caught:
        accept(service, event("a"))
    assert caught.value.code == "storage_full"
    monkeypatch.setattr(service.store, "_commit", commit)
    assert accept(service, event("a")) == (1, 0, [])
    assert service.ready().ready
    service.recommend(RecommendRequest(user_id="u", k=1))
    assert model.asked[-1].window.types == ("click",)  # not the answer that is in no log


def test_where_the_store_cannot_be_read_the_model_answers_from_its_training_data(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    known = UserWindow(("i3",), ("click",), (NOW - SECOND,), (0.0,))
    service, model = start(past={"u": known})

    def damaged(*_: Any) -> Any:
        raise MachineError("an intact store", "a malformed one", where="events.sqlite", code=Code.NOT_READY)

    history = service.store.history
    monkeypatch.setattr(service.store, "history", damaged)
    for user, best in (("u", "i3"), ("other", "i1")):
        decision = service.recommend(RecommendRequest(user_id=user, k=1))
        assert decision.degraded == "store_unavailable" and ids(decision) == [best]
    assert table(service, "SELECT count(*) FROM decisions") == [(0,)]
    monkeypatch.setattr(service.store, "history", history)
    assert service.recommend(RecommendRequest(user_id="u", k=1)).degraded is None
    assert model.asked[-1].window == known, "the answers that are in no log left no trace"
    assert table(service, "SELECT count(*) FROM decisions") == [(1,)]


@pytest.mark.parametrize(
    ("bad", "field", "reason"),
    [
        (event("x", ago=-301), "timestamp", "5 minutes ahead"),
        (event("x", ago=(NOW - 1_800_000_000_000) / SECOND), "timestamp", "integers are milliseconds, not seconds"),
        (event("x", type="shown"), "type", "reserved"),
        (event("x", type=OTHER), "type", "reserved"),
        (event("x", props={"t": "x" * 20_000}), "props", "16384"),
    ],
)
def test_what_cannot_have_happened_is_rejected_with_its_reason(start: Any, bad: Event, field: str, reason: str) -> None:
    service, _ = start()
    answer = service.accept([(0, event("a")), (1, bad), (2, event("b"))])
    assert (answer.accepted, answer.duplicates) == (2, 0)
    (rejected,) = answer.rejected
    assert (rejected.index, rejected.code, rejected.path) == (1, "invalid_field", f"$.events[1].{field}")
    assert reason in rejected.message
    assert table(service, "SELECT event_id FROM events ORDER BY seq") == [("a",), ("b",)]
    earlier = structs.replace(rejected, index=3)  # by the boundary, in the order of the batch with what is rejected here
    assert [one.index for one in service.accept([(0, bad), (4, bad)], [earlier]).rejected] == [0, 3, 4]


def test_a_type_without_a_name_in_training_is_what_rare_types_were_there(start: Any) -> None:
    for types, expected in (((*TYPES, OTHER), ("type137", "click")), (TYPES, ("click",))):
        service, model = start(types=types, shown_in_history=False)
        service.recommend(RecommendRequest(user_id="u"))
        accept(service, event("rare", type="type137"), event("b"))  # sent again it is a duplicate: the store knows both
        service.recommend(RecommendRequest(user_id="u"))
        assert model.asked[-1].window.types == expected
    service, model = start(types=(*TYPES, OTHER), shown_in_history=False)
    service.recommend(RecommendRequest(user_id="u"))
    assert model.asked[-1].window.types == ("type137", "click")  # loaded from the store, as it was live


def test_strange_ids_are_kept_to_the_letter(start: Any) -> None:
    service, _ = start()
    strange = ["'; DROP TABLE events; --", "<script>alert(1)</script>", "a\nb\r\n", "%s{0}\\", "\u202eübel"]
    assert accept(service, *[event(name, user_id=name, item=name, props={name: name}) for name in strange])[0] == len(strange)
    assert [row[0] for row in table(service, "SELECT user_id FROM events ORDER BY seq")] == strange
    assert all(service.recommend(RecommendRequest(user_id=name)).user_id == name for name in strange)


def test_the_receive_time_is_kept_beside_the_senders(start: Any, clock: Clock) -> None:
    service, _ = start()
    accept(service, event("a", ago=100))
    assert table(service, "SELECT timestamp_us, received_us FROM events") == [(NOW - 100 * SECOND, NOW)]


def test_windows_are_encoded_together_as_each_alone() -> None:
    names = network_model().vocabulary
    windows = [
        UserWindow(("i2", None, "unheard of", "i30"), ("click", "purchase", "shown", "click"), (1, 2, 3, 4), (0.5, 0.0, 1.0, 2.0)),
        UserWindow(),
        UserWindow(("i1", "i2"), ("unknown type", "click"), (7, 8), (0.0, 3.0)),
    ]
    first, empty, last = encode_windows(names, windows)
    assert [part.tolist() for part in first] == [[2, 0, 0, 30], [1, 2, 3, 1], [1, 2, 3, 4], [0.5, 0.0, 1.0, 2.0]]
    assert [len(part) for part in empty] == [0, 0, 0, 0]
    assert [part.tolist() for part in last] == [[2], [1], [8], [3.0]], "a type the model does not know leaves no row"
    assert [part.dtype for part in first] == [np.int64, np.int64, np.int64, np.float32]


def test_after_closing_nobody_waits(start: Any) -> None:
    service, _ = start()
    service.close()
    with pytest.raises(MachineError, match="stopping"):
        service.recommend(RecommendRequest(user_id="anna"))
    service.close()


def test_a_fault_after_some_were_handed_to_the_store_leaves_their_answers_alone(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of requests that are decided together those are answered that the store has; the others get the error."""
    service, _ = start(shown_in_history=True)
    show = service._windows.show

    def break_for_bert(row: Any) -> None:
        if row.user_id == "bert":
            raise RuntimeError("out of memory")
        show(row)

    monkeypatch.setattr(service._windows, "show", break_for_bert)
    pending = [Pending(RecommendRequest(user_id=user, k=1), threading.Event()) for user in ("anna", "bert", "carl")]
    service._decider._decide_each(pending)
    for one in pending:
        assert one.waiter is not None and one.waiter.wait(5)  # type: ignore[union-attr]
    anna, bert, carl = pending
    assert anna.decision is not None and anna.error is None
    assert bert.decision is None and isinstance(bert.error, RuntimeError) and isinstance(carl.error, RuntimeError)
    assert [row[0] for row in table(service, "SELECT user_id FROM decisions")] == ["anna"]
