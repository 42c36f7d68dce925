"""What was served is what training reads back: the store as a logged log, states included."""

import asyncio
import json
import random
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from double import KnownModel

from qurate.events.readers import read_events
from qurate.events.schema import OTHER
from qurate.events.vocabulary import Vocabulary
from qurate.mdp.dataset import build_dataset
from qurate.mdp.encode import encode
from qurate.models.model import Model
from qurate.models.network_ranker import NetworkRanker
from qurate.models.parts import Answering, Provenance
from qurate.networks.build import build_network
from qurate.serving.messages import Event, RecommendRequest
from qurate.serving.served import ServedModel
from qurate.serving.service import Service
from qurate.serving.stores.sqlite import SqliteStore
from qurate.settings import from_flat
from qurate.types import Availability

NOW = 1_800_000_000_000_000
SECOND = 1_000_000


@pytest.mark.parametrize("lists", [0.0, 0.2, 1.0])
def test_training_sees_the_states_that_were_served(lists: float, tmp_path: Path) -> None:
    """One-item answers (they leave a row) and lists (they do not), events that answer them, late events, requests at the same
    time: the same windows, row by row."""
    now, draw = NOW, random.Random(0)
    model = KnownModel(items=8, epsilon=0.5, window=6)
    service = Service(model, partial(SqliteStore, tmp_path), seed=0, clock=lambda: now)

    async def at_once(users: list[str], k: int) -> list[Any]:
        return await asyncio.gather(*(service.recommend_async(RecommendRequest(user_id=user, k=k)) for user in users))

    for step in range(150):
        now += draw.choice([1, 900, 5 * SECOND, 2400 * SECOND])
        k = 3 if draw.random() < lists else 1
        users = [f"u{draw.randrange(6)}"] * (draw.choice([1, 1, 2]) if k == 1 else 1)
        made = asyncio.run(at_once(users, k))
        if draw.random() < 0.3:
            late = (now - draw.choice([1, 100]) * SECOND) // 1000
            service.accept([(0, Event(event_id=f"late{step}", type="click", user_id=users[0], item_id="i3", timestamp=late))])
        if draw.random() < 0.5:
            kind, item = draw.choice(["click", "purchase"]), made[0].items[0].item_id
            answer = Event(
                event_id=f"e{step}", type=kind, user_id=users[0], item_id=item, decision_id=made[0].decision_id, timestamp=now // 1000
            )
            service.accept([(0, answer)])
    service.close()

    log = read_events(tmp_path)
    assert log.kind == "logged"
    dataset = build_dataset(log)
    arrays, states = dataset.arrays, dataset.transitions
    users = dataset.user_ids
    trained = {}
    for user, history_end, clock in zip(states.user, states.history_end, states.clock):
        rows = slice(max(arrays.user_start[user], history_end - 6), history_end)
        items = [dataset.vocabulary.items[i - 1] for i in arrays.item[rows]]
        types = [dataset.vocabulary.types[i - 1] for i in arrays.type[rows]]
        trained[users[user], int(clock)] = (items, types, arrays.time[rows].tolist())
    assert len(trained) == len(model.asked) >= 150
    for asked in model.asked:
        window = asked.window
        assert trained[asked.user_id, asked.clock_us] == (list(window.items), list(window.types), list(window.times))


def test_any_number_of_event_types_can_be_ingested(tmp_path: Path) -> None:
    service = Service(KnownModel(), partial(SqliteStore, tmp_path), seed=0, clock=lambda: NOW)
    for step in range(20):
        service.recommend(RecommendRequest(user_id=f"u{step % 4}"))
    kinds = [*(f"type{n}" for n in range(300)), *["type299"] * 3, "click", "hide"]
    sent = [Event(event_id=f"e{n}", type=kind, user_id=f"u{n % 4}", item_id="i1", timestamp=NOW // 1000) for n, kind in enumerate(kinds)]
    assert service.accept(list(enumerate(sent))).accepted == 305
    service.close()

    log = read_events(tmp_path)
    dataset = build_dataset(log)
    types = dataset.vocabulary.types
    assert dataset.manifest["counts"]["events"] == 305
    assert len(set(types) - {"shown"}) == 254 and {"click", "hide", "type299", OTHER} <= set(types)
    assert "49 rare event types stand as one, (other): at most 254 are told apart" in dataset.manifest["notes"]
    assert "type99" not in types and "type99" in encode(log, None, None, rewarded=["type99"]).types


def network_model(**changes: Any) -> Model:
    settings = from_flat({"window": 5, "embedding_dim": 8, "hidden": 8})
    features = np.random.default_rng(0).normal(size=(31, 3)).astype(np.float32)
    network = build_network(features, settings, n_types=3, user_dim=0, n_components=1, behaviour=False, seed=0)
    for parameter in network.parameters():  # the heads start at zero; any other values will do
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(parameter.numel()))
    vocabulary = Vocabulary(tuple(f"i{i}" for i in range(1, 31)), ("click", "purchase", "shown"))
    weights, popularity = np.ones(1, np.float32), np.arange(31, dtype=np.float32)
    where = {name: changes.pop(name) for name in ("kind", "dataset", "dataset_sha256") if name in changes}
    return Model(
        ranker=NetworkRanker(network, features),
        availability=Availability.always(30),
        provenance=Provenance(algorithm="dqn", settings=settings, **where),
        answering=Answering(
            vocabulary=vocabulary, components=["click"], weights=weights, popularity=popularity, **{"user_dim": 0, **changes}
        ),
    )


def test_a_trained_model_serves_by_the_rule_it_is_given(tmp_path: Path) -> None:
    click = Event(event_id="a", type="click", user_id="u", item_id="i7", timestamp=NOW // 1000)
    ask = RecommendRequest(user_id="u", k=3, explain=True)
    answers = {}
    for name, epsilon in (("greedy", 0.0), ("epsilon_greedy", 0.3)):
        service = Service(ServedModel(network_model(), epsilon), partial(SqliteStore, tmp_path / name), seed=0, clock=lambda: NOW)
        try:
            stranger = service.recommend(ask)
            assert stranger.degraded == "unknown_user" and stranger.policy == f"popularity/{name}"
            if name == "greedy":
                assert [item.item_id for item in stranger.items] == ["i30", "i29", "i28"]
            service.accept([(0, click)])
            answers[name] = service.recommend(ask)
        finally:
            service.close()
    assert [item.propensity for item in answers["greedy"].items] == [1.0, 1.0, 1.0]
    for place, item in enumerate(answers["epsilon_greedy"].items):
        share = 0.3 / (30 - place)
        assert min(abs(item.propensity - share), abs(item.propensity - share - 0.7)) < 1e-12
    for answer in answers.values():
        assert answer.degraded is None and answer.policy.startswith("dqn/")
        for item in answer.items:
            worth = item.components["click"]  # type: ignore[index]
            assert np.isclose(item.now + item.later, item.score, rtol=1e-5) and worth.now == item.now  # type: ignore[operator]


def test_a_model_without_its_training_data_still_serves_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    served = ServedModel(network_model(kind="logged", dataset=str(tmp_path / "gone"), dataset_sha256="0"), 0.0)
    assert served.user_history("u") is None
    served.warm_up()
    assert f"got no such directory, at {tmp_path / 'gone'}" in caplog.text


def test_training_data_is_the_customers_past_unless_it_has_changed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = [f"u{user},i{1 + (user + step) % 9},click,{1_700_000_000 + 60 * step}" for user in range(8) for step in range(9)]
    (tmp_path / "log.csv").write_text("user_id,item_id,type,timestamp\n" + "\n".join(lines) + "\n")
    dataset = build_dataset(read_events(tmp_path / "log.csv")).write(tmp_path / "dataset")
    trained = {"dataset": str(tmp_path / "dataset"), "shown_in_history": False}
    served = ServedModel(network_model(**trained, dataset_sha256=dataset.sha256), 0.0)
    rows = served.user_history("u3")
    assert rows is not None and served.user_history("nobody") is None
    assert list(rows.items) == [f"i{1 + (3 + step) % 9}" for step in range(9)] and rows.types == ("click",) * 9
    service = Service(served, partial(SqliteStore, tmp_path / "data"), seed=0)
    assert service.recommend(RecommendRequest(user_id="u3", k=1)).degraded is None
    assert service.recommend(RecommendRequest(user_id="nobody", k=1)).degraded == "unknown_user"
    service.close()
    assert ServedModel(network_model(**trained, dataset_sha256="other"), 0.0).user_history("u3") is None
    assert "note: customers' histories from before the service are not used" in caplog.text


def test_a_catalogue_that_cannot_be_written_does_not_stop_the_service(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    served = ServedModel(network_model(), 0.0)
    served.write_catalogue(tmp_path / "no such folder")
    assert "give `ingest` the items with --items" in caplog.text
    served.write_catalogue(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["items.parquet", "model-rewards.json"]
    assert json.loads((tmp_path / "model-rewards.json").read_text()) == {
        name: {"weight": float(weight)} for name, weight in zip(served.model.components, served.model.weights)
    }
