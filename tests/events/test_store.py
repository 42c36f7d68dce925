"""The service's store as a logged log."""

from pathlib import Path

import polars as pl
import pytest
from service_store import T0, make_store

from qurate.errors import UserError
from qurate.events.readers import read_events


def test_a_store_is_a_logged_log_even_while_it_is_open(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    log = read_events(tmp_path)
    assert (log.layout, log.kind) == ("qurate", "logged")
    assert log.decisions is not None
    picked = log.decisions.select("decision_id", "user_id", "shown", "propensity", "candidates", "policy").collect()
    assert picked.rows() == [("d0", "u0", ["a", "b"], [0.5, 1e-6], ["a", "b", "c"], "q"), ("d1", "u1", ["a", "b"], [0.5, 1e-6], None, "q")]
    events = log.events.collect()
    assert events.select("event_id", "item_id", "type", "decision_id", "props").rows() == [("e1", "b", "click", "d0", '{"a":1}')]
    assert int(events["timestamp"].dt.epoch("us")[0]) == T0 + 9
    assert read_events(tmp_path / "events.sqlite").decisions is not None
    assert log.decisions.collect()["as_of"].to_list() == [0, 1]
    store.close()


def test_the_catalogue_beside_the_store_is_read_and_what_was_excluded(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.execute("UPDATE decisions SET excluded = '[\"c\"]' WHERE decision_id = 'd1'")
    store.close()
    pl.DataFrame({"item_id": ["a", "b", "never shown"], "price": [1.0, 2.0, 3.0]}).write_parquet(tmp_path / "items.parquet")
    log = read_events(tmp_path)
    assert log.items is not None and log.items.collect().rows() == [("a", 1.0), ("b", 2.0), ("never shown", 3.0)]
    assert log.notes == [] and log.decisions is not None
    assert log.decisions.select("decision_id", "excluded").collect().rows() == [("d0", None), ("d1", ["c"])]


def test_answers_without_items_are_left_out(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.execute("INSERT INTO decisions(decision_id, user_id, timestamp_us, as_of, shown, propensity) VALUES('d9', 'u', 1, 1, '[]', '[]')")
    store.close()
    log = read_events(tmp_path)
    assert log.decisions is not None
    assert log.decisions.collect()["decision_id"].to_list() == ["d0", "d1"]
    assert log.notes == ["1 answers without an item left out"]


def test_what_requests_say_of_a_customer_becomes_features(tmp_path: Path) -> None:
    store = make_store(tmp_path, decisions=0)
    said = [
        ("a", '{"band": "low", "age": 30, "likes": ["x", "y"], "mixed": 1}'),
        ("b", '{"band": "high", "likes": [], "mixed": "two"}'),
        ("a", '{"band": "high", "age": 31}'),
        ("a", '{"band": "low", "seen_later": true}'),
        ("c", None),
    ]
    for number, (user, context) in enumerate(said):
        names = "decision_id, user_id, timestamp_us, as_of, shown, propensity, context"
        store.execute(f"INSERT INTO decisions({names}) VALUES(?,?,?,0,'[\"i\"]','[1.0]',?)", (f"d{number}", user, T0 + number, context))
    store.close()
    log = read_events(tmp_path)
    assert log.users is not None
    rows = log.users.collect().sort("user_id").to_dicts()
    first = {"user_id": "a", "age": 30.0, "band": "low", "likes": ["x", "y"], "mixed": "1", "seen_later": 1.0}
    assert rows == [first, {"user_id": "b", "age": None, "band": "high", "likes": [], "mixed": "two", "seen_later": None}]
    assert log.notes == ["1 requests gave a customer other features than before: the first ones are kept"]


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "events.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(UserError) as caught:
        read_events(tmp_path)
    assert caught.value.code == "bad_store"


def test_an_empty_store_says_so(tmp_path: Path) -> None:
    make_store(tmp_path, decisions=0).close()
    with pytest.raises(UserError, match="without any"):
        read_events(tmp_path)
