"""Ids to indices and back."""

import json

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qurate.errors import UserError
from qurate.events.schema import OTHER
from qurate.events.vocabulary import SMALL, Vocabulary

IDS = st.lists(st.text(min_size=1, max_size=8), unique=True, min_size=1, max_size=30)


def test_indices_start_at_one_and_unknown_is_zero() -> None:
    vocabulary = Vocabulary(("b", "a"), ("click", "purchase"))
    assert vocabulary.item_index(["a", "b", "c", None, ""]).tolist() == [2, 1, 0, 0, 0]
    assert vocabulary.type_index(["purchase", "shown"]).tolist() == [2, 0]
    assert (vocabulary.n_items, vocabulary.n_types) == (2, 2)
    assert str(vocabulary.item_index(["a"]).dtype) == "int32"
    assert str(vocabulary.type_index(["click"]).dtype) == "uint8"


def test_many_ids_give_the_same_as_few() -> None:
    vocabulary = Vocabulary(tuple(f"i{n}" for n in range(500)), ("click", "cart"))
    ids = pl.Series([f"i{n % 700}" if n % 11 else None for n in range(3 * SMALL)])
    many = vocabulary.item_index(ids)
    few = [vocabulary.item_index([one])[0] for one in ids]
    assert many.tolist() == few
    names = pl.Series(["cart", "click", "other", None] * SMALL)
    assert vocabulary.type_index(names).tolist() == [2, 1, 0, 0] * SMALL


def test_an_unknown_type_is_the_one_of_rare_types_where_there_is_one() -> None:
    vocabulary = Vocabulary(("a",), ("click", OTHER))
    assert vocabulary.type_index(["click", "type137", None, OTHER]).tolist() == [1, 2, 0, 2]
    assert vocabulary.type_index(pl.Series(["click", "type137", None, OTHER] * SMALL)).tolist() == [1, 2, 0, 2] * SMALL


@given(IDS)
def test_json_round_trip(ids: list[str]) -> None:
    vocabulary = Vocabulary(tuple(ids), ("click",))
    again = Vocabulary.from_json(json.loads(json.dumps(vocabulary.to_json())))
    assert again == vocabulary
    assert again.item_index(ids).tolist() == list(range(1, len(ids) + 1))


def test_repeated_ids_and_damaged_files_are_refused() -> None:
    with pytest.raises(UserError, match="'a' twice"):
        Vocabulary(("a", "b", "a"), ())
    with pytest.raises(UserError, match="255"):
        Vocabulary((), tuple(str(n) for n in range(256)))
    for damaged in ([], {}, {"items": "ab", "types": []}, {"items": [1], "types": []}, None):
        with pytest.raises(UserError, match=r"vocabulary\.json"):
            Vocabulary.from_json(damaged)


def test_empty_vocabulary_knows_nothing() -> None:
    assert Vocabulary((), ()).item_index(pl.Series(["a"] * (SMALL + 1))).sum() == 0
