"""What a request says of its candidates: from the question to the score, to the log of the service, and into the next dataset."""

import json
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import apsw
import numpy as np
import polars as pl
import pytest

from qurate.cli.app import main
from qurate.errors import Code, UserError
from qurate.events.readers import read_events
from qurate.mdp.dataset import build_dataset
from qurate.models.answer import AnswerRequest, _given_features
from qurate.models.histories import EMPTY_HISTORY
from qurate.models.model import Model, load
from qurate.serving.api.boundary import parse_recommend
from qurate.serving.messages import Event, RecommendRequest
from qurate.serving.served import ServedModel
from qurate.serving.service import Service
from qurate.serving.stores.sqlite import SqliteStore
from qurate.serving.stores.sqlite_file import SCHEMA, SINCE_VERSION_1, connect, open_database
from qurate.training.train import train

ITEMS = [f"i{n}" for n in range(8)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """From a log in which the cheapest of four shown items is clicked, whichever it is."""
    rng, place = np.random.default_rng(0), tmp_path_factory.mktemp("prices")
    events, decisions = [], []
    for n in range(800):
        shown = rng.choice(ITEMS, 4, replace=False).tolist()
        price = rng.integers(1, 100, 4).astype(float).tolist()
        at = 1_700_000_000_000_000 + n * 60_000_000
        decisions.append({"decision_id": f"d{n}", "user_id": f"u{n % 60}", "timestamp": at, "shown": shown, "candidate.price": price})
        events.append({"user_id": f"u{n % 60}", "item_id": shown[int(np.argmin(price))], "type": "click", "timestamp": at + 1_000_000,
                       "decision_id": f"d{n}"})  # fmt: skip
    for name, rows in (("events", events), ("decisions", decisions)):
        frame = pl.DataFrame(rows).with_columns(pl.col("timestamp").cast(pl.Datetime("us", "UTC")))
        frame.write_parquet(place / f"{name}.parquet")
    log = read_events(place / "events.parquet", decisions=place / "decisions.parquet")
    data = build_dataset(log, {"click": 1.0})
    assert data.candidate_columns == ("place", "price")
    train(data, steps=150, hidden=16, embedding_dim=8, window=4, batch_size=64, lr=0.01, gamma=0.0).save(place / "m")
    return place / "m"


@pytest.fixture
def service(trained: Path, tmp_path: Path) -> Iterator[Service]:
    running = Service(ServedModel(load(trained), 0.2), partial(SqliteStore, tmp_path / "live"), seed=0, clock=lambda: 1_700_090_000_000_000)
    yield running
    running.close()


def first(model: Model, candidates: list[str], price: list[float | None]) -> str:
    return model.recommend("u1", 1, candidates, ["none"], candidate_features={"price": price}).items[0].item_id


def test_the_price_of_the_moment_decides(trained: Path) -> None:
    model = load(trained)
    assert model.candidate_columns == ("place", "price")
    for cheap in range(4):
        assert first(model, ITEMS[:4], [5.0 if i == cheap else 90.0 for i in range(4)]) == ITEMS[cheap]
    # of a repeated candidate the first counts; an unknown one and its value are left out together
    assert first(model, ["i0", "nobody", "i1", "i0"], [90.0, 1.0, 5.0, 1.0]) == "i1"
    assert first(model, ["nobody", "i0", "i1", "i2"], [1.0, 90.0, 5.0, 60.0]) == "i1"


def test_an_excluded_candidate_takes_its_values_with_it(trained: Path) -> None:
    model = load(trained)
    shown = model.recommend("u1", 1, ITEMS[:4], ["none", "i0"], candidate_features={"price": [1.0, 90.0, 5.0, 90.0]})
    assert shown.items[0].item_id == "i2"


def test_only_what_the_model_uses_takes_memory(trained: Path) -> None:
    """A request may bring a hundred names for thousands of candidates, and so may those that are decided with it."""
    model = load(trained)
    many = {f"n{i}": [1.0, 2.0] for i in range(100)} | {"price": [90.0, 5.0]}
    request = AnswerRequest(history=EMPTY_HISTORY, clock_us=1, k=1, candidates=["i0", "i1"], features=many)
    values, names = _given_features(model, [request], model.vocabulary.item_index(["i0", "i1"])[None])
    assert names == ("place", "price") and values.shape == (1, 2, 2) and values[0, 1, 1] == 5.0


def test_an_array_of_candidates_is_a_list(trained: Path) -> None:
    model = load(trained)
    answer = model.recommend("u1", 1, np.array(["i0", "i1"]), ["none"], candidate_features={"price": np.array([90.0, 5.0])})  # type: ignore[arg-type]
    assert answer.items[0].item_id == "i1"


def test_what_the_model_does_not_use_is_named(trained: Path, caplog: pytest.LogCaptureFixture) -> None:
    load(trained).recommend("u1", 1, ITEMS[:2], candidate_features={"colour": [1.0, 2.0]})
    assert "does not use colour of candidates; it uses place, price" in caplog.text


@pytest.mark.parametrize(
    "candidates,features,expected",
    [
        (["i0", "i1"], {"price": [1.0]}, "2 numbers for price, got 1"),
        (None, {"price": [1.0]}, "candidates, as features of candidates are given"),
        (["i0"], {"price": "1"}, "1 numbers for price, got '1'"),
        (["i0"], {"price": ["dear"]}, "a number within float32, got .*, at candidate_features.price\\[0\\]"),
        (["i0"], {"price": [10**400]}, "a number within float32, got .*, at candidate_features.price\\[0\\]"),
        (["i0"], {"price": [float("inf")]}, "a number within float32, got .*, at candidate_features.price\\[0\\]"),
        (["i0"], [1.0], "lists of numbers by name"),
    ],
)
def test_values_that_do_not_fit_the_candidates_are_refused(trained: Path, candidates: object, features: object, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        load(trained).recommend("u1", 1, candidates, candidate_features=features)  # type: ignore[arg-type]


def test_the_command_reads_json(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask = ["--json", "recommend", str(trained), "--user", "u1", "-k", "1", "--candidates", "i0,i1", "--exclude", "none"]
    assert main([*ask, "--candidate-features", '{"price": [90, 5]}']) == 0
    assert json.loads(capsys.readouterr().out)["items"][0]["item_id"] == "i1"
    assert main([*ask, "--candidate-features", "[90, 5]"]) == 2
    assert "a JSON object" in capsys.readouterr().err
    for wrong, place in (
        ('{"price": [90, "5"]}', "features price[1];"),
        ('{"price": [90]}', "at --candidate-features price;"),
    ):
        assert main([*ask, "--candidate-features", wrong]) == 2
        assert place in capsys.readouterr().err


def test_a_request_over_http_is_checked() -> None:
    asked = parse_recommend(b'{"candidates": ["a", "b"], "candidate_features": {"price": [1, null], "user_rank": [2.5, 3]}}')
    assert asked.candidate_features == {"price": [1.0, None], "user_rank": [2.5, 3.0]}
    for body in (b'{"candidates": ["a"], "candidate_features": {"price": [1, 2]}}', b'{"candidate_features": {"price": [1]}}',
                 b'{"candidates": ["a"], "candidate_features": {"price": [1], "price": [2]}}',
                 b'{"candidates": ["a"], "candidate_features": {"price": ["1"]}}'):  # fmt: skip
        with pytest.raises(UserError) as refused:
            parse_recommend(body)
        assert refused.value.code in (Code.INVALID_FIELD, Code.INVALID_JSON)


def test_the_log_keeps_what_was_said_of_what_could_be_chosen(service: Service, tmp_path: Path) -> None:
    asked = {"price": [90.0, 5.0, 7.0, None, 90.0], "stock": [1.0, 2.0, 3.0, 4.0, 1.0]}
    candidates = ["i0", "i1", "unknown", "i3", "i0"]
    decision = service.recommend(
        RecommendRequest(user_id="u1", k=1, candidates=candidates, exclude=("i1",), candidate_features=asked)
    )  # fmt: skip
    other = service.recommend(RecommendRequest(user_id="u2", k=1))
    service.accept([(0, Event("e", "click", "u1", 1_700_090_000_001, decision.items[0].item_id, decision_id=decision.decision_id))])
    service.close()
    with closing(connect(tmp_path / "live" / "events.sqlite")) as db:
        rows = dict(db.execute("SELECT decision_id, candidate_features FROM decisions"))
    assert json.loads(rows[decision.decision_id]) == {"price": [90.0, None], "stock": [1.0, 4.0]} and rows[other.decision_id] is None
    data = build_dataset(read_events(tmp_path / "live"), {"click": 1.0})
    assert data.candidate_columns == ("price", "stock")
    values = data.transitions.candidate_values
    assert [[None if np.isnan(v) else v for v in row] for row in values.tolist()] == [[90.0, 1.0], [None, 4.0]]


def test_a_store_of_the_first_version_is_read_and_goes_on(tmp_path: Path) -> None:
    old = apsw.Connection(str(tmp_path / "events.sqlite"))
    with old:
        for statement in SCHEMA.replace(",\n  candidate_features TEXT", "").split(";"):
            old.execute(statement).fetchall()
        old.execute("PRAGMA user_version = 1").fetchall()
        old.execute(
            "INSERT INTO decisions VALUES (1, 'd', 'u', NULL, 1800000000000000, 0, '[\"a\"]', '[1.0]', NULL, 'p', 'v', NULL, NULL, NULL)"
        ).fetchall()
    old.close()
    assert list(SINCE_VERSION_1) == ["decisions"]
    log = read_events(tmp_path)
    assert log.decisions is not None and log.decisions.collect()["shown"].to_list() == [["a"]]
    with closing(open_database(tmp_path / "events.sqlite")) as db:
        assert next(db.execute("PRAGMA user_version"))[0] == 2
        assert list(db.execute("SELECT decision_id, candidate_features FROM decisions")) == [("d", None)]
    assert read_events(tmp_path).decisions is not None
