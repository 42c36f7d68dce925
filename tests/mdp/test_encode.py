"""From text to numbers: which of several rows counts, what stands for what is absent, and how many types are kept."""

import numpy as np
import polars as pl
import pytest
from mdp_logs import decision, event, make_log

from qurate.errors import UserError
from qurate.events.schema import OTHER
from qurate.mdp.dataset import build_dataset
from qurate.mdp.encode import MAX_TYPES, encode
from qurate.mdp.sessions import order_rows


def test_of_a_repeated_event_the_first_row_of_the_source_counts():
    rows = [event("u", "a", 50, row=9, event_id="1"), event("u", "a", 20, row=2, event_id="1"), event("u", "b", 30, row=3)]
    encoded = encode(make_log(rows), None, None)
    assert encoded.notes == ["1 repeated event ids dropped"]
    assert sorted(encoded.events.time.tolist()) == [20_000_000, 30_000_000]


def test_the_same_id_with_another_item_or_type_is_another_event():
    rows = [event("u", "a", 0, event_id="1"), event("u", "b", 1, event_id="1"), event("u", "a", 2, "cart", event_id="1")]
    encoded = encode(make_log(rows), None, None)
    assert len(encoded.events.user) == 3 and encoded.notes == []


def test_the_rarest_types_become_one_and_standard_and_rewarded_ones_never():
    rows = [event("u", "a", i, f"type{i:03d}") for i in range(300)]
    rows += [event("u", "a", 400 + i, "type299") for i in range(3)] + [event("u", "a", 500, "hide"), event("u", "a", 501, "zz")]
    encoded = encode(make_log(rows), None, None, rewarded=["zz"])
    assert len(encoded.types) == MAX_TYPES and {OTHER, "hide", "zz", "type299", "type000"} <= set(encoded.types)
    kept = MAX_TYPES - 4  # beside (other), hide, zz and type299, by name
    assert [name for name in encoded.types if name.startswith("type")] == [*(f"type{i:03d}" for i in range(kept)), "type299"]
    assert encoded.notes == [f"{300 - kept - 1} rare event types stand as one, {OTHER}: at most {MAX_TYPES} are told apart"]
    assert (encoded.events.type == encoded.types.index(OTHER) + 1).sum() == 300 - kept - 1


def test_the_session_stands_for_a_missing_user_of_a_decision():
    decisions = [decision("d1", None, ["a"], 1, session_id="s"), decision("d2", "u", ["b"], 2, session_id="s")]
    encoded = encode(make_log([event("u", "a", 0)], decisions, "exposure"), None, None)
    assert encoded.decisions is not None
    assert [encoded.users[i] for i in encoded.decisions.user] == ["s", "u"]


def test_propensities_that_do_not_fit_the_list_are_unknown():
    shown = (["a", "b"], ["a", "b"], ["a"], ["a", "b"])
    given = ([0.5], [None, 0.25], None, [0.125, 0.75])
    decisions = [decision(f"d{i}", "u", s, i, propensity=p) for i, (s, p) in enumerate(zip(shown, given, strict=True))]
    encoded = encode(make_log([event("u", "a", 9)], decisions, "logged"), None, None)
    assert encoded.decisions is not None
    np.testing.assert_array_equal(encoded.decisions.propensity, np.array([np.nan] * 2 + [np.nan, 0.25, np.nan, 0.125, 0.75], np.float32))


def test_equal_times_keep_the_order_of_the_source_whatever_order_the_rows_came_in():
    user, time = np.array([1, 0, 0, 1, 0], np.int32), np.array([5, 5, 5, 5, 4])
    assert order_rows(user, time, np.array([9, 8, 7, 6, 5])).tolist() == [4, 2, 1, 3, 0]
    assert order_rows(user, time, np.arange(5)).tolist() == [4, 1, 2, 0, 3]
    far = time + np.array([0, 0, 0, 2**62, 0])  # user and time no longer fit into one number
    assert order_rows(user, far, np.array([9, 8, 7, 6, 5])).tolist() == [4, 2, 1, 0, 3]


def test_an_item_declared_twice_with_other_values_is_refused():
    items = pl.DataFrame({"item_id": ["a", "b", "a"], "price": [1.0, 2.0, 4.0]})
    with pytest.raises(UserError, match="one row per item_id, got other values for 'a', at items, row 3"):
        build_dataset(make_log([event("u", "ab"[i % 2], i) for i in range(5)]), items=items)
