"""Feature columns to a matrix, and the same spec applied to new items."""

import json
from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qurate.errors import UserError
from qurate.events.features import CLIP, MAX_VALUES, feature_matrix, feature_names

ITEMS = pl.DataFrame(
    {
        "item_id": ["a", "b", "c", "d"],
        "available_from": [date(2024, 1, 1)] * 4,
        "price": [1.0, 2.0, 3.0, None],
        "colour": ["red", "red", "blue", "blue"],
        "genres": [["x", "y"], ["y"], [], ["x"]],
        "tags": ["p|q", "q", None, "p|q"],
        "title": ["one", "two", "three", "four"],
        "constant": [1, 1, 1, 1],
        "category_id": [7, 7, 9, 9],
    }
)


def test_hand_values() -> None:
    matrix, spec = feature_matrix(ITEMS)
    assert matrix.dtype == np.float32
    names = feature_names(spec)
    assert matrix.shape == (4, len(names))
    column = {name: matrix[:, i].tolist() for i, name in enumerate(names)}
    assert column["price"] == pytest.approx([-1.2247, 0.0, 1.2247, 0.0], abs=1e-4)
    assert column["price:missing"] == [0, 0, 0, 1]
    assert column["colour=red"] == [1, 1, 0, 0]
    assert column["genres=x"] == [1, 0, 0, 1]
    assert column["genres=y"] == [1, 1, 0, 0]
    assert column["tags=p"] == [1, 0, 0, 1]
    assert column["tags=q"] == [1, 1, 0, 1]
    assert column["category_id=9"] == [0, 0, 1, 1]
    assert spec["dropped"] == ["title", "constant"]
    assert not any(name.startswith(("item_id", "available_from")) for name in names)


def test_the_spec_is_json_and_gives_the_same_rows() -> None:
    matrix, spec = feature_matrix(ITEMS)
    again, same = feature_matrix(ITEMS[[2, 0]], json.loads(json.dumps(spec)))
    assert same == spec
    assert np.array_equal(again, matrix[[2, 0]])


def test_new_items_may_lack_columns_or_hold_nonsense() -> None:
    _, spec = feature_matrix(ITEMS)
    new = pl.DataFrame({"item_id": ["n"], "price": ["not a number"], "colour": ["green"], "genres": ["x|z"]})
    matrix, _ = feature_matrix(new, spec)
    row = dict(zip(feature_names(spec), matrix[0].tolist()))
    assert row["price"] == 0
    assert row["price:missing"] == 1
    assert row["colour=red"] == row["colour=blue"] == 0
    assert row["genres=x"] == 1
    assert row["tags=p"] == 0


def test_text_of_numbers_is_a_number_but_ids_are_labels() -> None:
    table = pl.DataFrame({"item_id": ["a", "b", "c", "d"], "price": ["1", "2", "3", "4"], "brand": ["1", "1", "2", "2"]})
    _, spec = feature_matrix(table)
    assert feature_names(spec) == ["price", "brand=1", "brand=2"]


def test_vectors_are_taken_as_they_are() -> None:
    table = pl.DataFrame({"item_id": ["a", "b"], "embedding": [[0.5, -1.0], [2.0, 0.0]]})
    matrix, spec = feature_matrix(table)
    assert matrix.tolist() == [[0.5, -1.0], [2.0, 0.0]]
    wrong, _ = feature_matrix(pl.DataFrame({"embedding": [[1.0, 2.0, 3.0], None]}, schema={"embedding": pl.List(pl.Float64)}), spec)
    assert wrong.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_many_values_keep_the_most_frequent() -> None:
    values = [f"v{n:03d}" for n in range(100) for _ in range(2 + (n < 10))]
    _, spec = feature_matrix(pl.DataFrame({"item_id": [str(n) for n in range(len(values))], "label": values}))
    kept = spec["columns"][0]["values"]
    assert len(kept) == MAX_VALUES
    assert kept[:12] == [f"v{n:03d}" for n in range(12)]


@given(st.lists(st.one_of(st.none(), st.floats()), min_size=1, max_size=40))
def test_numbers_are_always_finite_and_bounded(values: list[float | None]) -> None:
    matrix, _ = feature_matrix(pl.DataFrame({"x": pl.Series(values, dtype=pl.Float64)}))
    assert np.isfinite(matrix).all()
    assert (np.abs(matrix) <= CLIP).all()


@given(st.permutations(range(4)))
def test_the_spec_does_not_depend_on_the_order_of_rows(order: list[int]) -> None:
    _, spec = feature_matrix(ITEMS)
    _, shuffled = feature_matrix(ITEMS[order])
    assert feature_names(shuffled) == feature_names(spec)


def test_no_features_and_no_rows() -> None:
    assert feature_matrix(pl.DataFrame({"item_id": ["a", "b"]}))[0].shape == (2, 0)
    _, spec = feature_matrix(ITEMS)
    assert feature_matrix(ITEMS.clear(), spec)[0].shape == (0, len(feature_names(spec)))


def test_a_damaged_spec_is_refused() -> None:
    for damaged in ({}, {"format": 2, "columns": []}, {"format": 1, "columns": [{"name": "price", "kind": "eval"}]}):
        with pytest.raises(UserError, match="damaged"):
            feature_matrix(ITEMS, damaged)
