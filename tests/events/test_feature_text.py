"""Features written as text: amounts, days, lists in any notation become numbers and sets."""

import numpy as np
import polars as pl
import pytest

from qurate.events.features import described_features, feature_matrix
from qurate.events.matching import match_ids, match_notes

GENRES = [["a", "c"], ["b", "d"], ["a", "e"], ["b", "c"], ["a", "d"], ["b", "e"]]
NOTATIONS = {
    "json": lambda one: "[" + ", ".join(f'"{g}"' for g in one) + "]",
    "python": str,
    "numpy": lambda one: "[" + " ".join(f"'{g}'" for g in one) + "]",
    "bars": "|".join,
    "commas": ", ".join,
    "semicolons": ";".join,
    "slashes": "/".join,
    "arrows": " > ".join,
    "commas of Chinese": "，".join,
    "enumeration": "、".join,
}


@pytest.mark.parametrize("notation", NOTATIONS)
def test_lists_in_any_notation_are_the_same_features(notation: str) -> None:
    table = pl.DataFrame({"item_id": list("uvwxyz"), "genres": GENRES})
    wanted, _ = feature_matrix(table)
    text = table.with_columns(genres=pl.Series([NOTATIONS[notation](one) for one in GENRES]))
    matrix, spec = feature_matrix(text)
    assert matrix.shape == (6, 5) and np.array_equal(matrix, wanted)
    assert np.array_equal(feature_matrix(text.head(2), spec)[0], wanted[:2])


@pytest.mark.parametrize("form", ["${:,.2f}", "{:.2f} EUR", "€{:,.2f}", "USD {:,.2f}", "{:.2f}%"])
def test_amounts_are_numbers(form: str) -> None:
    prices = [1000.0, 2007.5, 14.25, 90.0]
    table = pl.DataFrame({"item_id": list("abcd"), "price": [form.format(price) for price in prices]})
    matrix, spec = feature_matrix(table)
    assert np.allclose(matrix, feature_matrix(pl.DataFrame({"item_id": list("abcd"), "price": prices}))[0])
    assert described_features(spec) == [{"column": "price", "became": "number (amount)", "dimensions": 1}]


@pytest.mark.parametrize("form", ["{} €", "€ {}", "{} EUR", "{}元", "￥{}"])
def test_amounts_with_a_decimal_comma_are_numbers(form: str) -> None:
    prices = {"1.000,00": 1000.0, "2.007,5": 2007.5, "14,25": 14.25, "90": 90.0}
    table = pl.DataFrame({"item_id": list("abcd"), "price": [form.format(price) for price in prices]})
    matrix, spec = feature_matrix(table)
    assert np.allclose(matrix, feature_matrix(pl.DataFrame({"item_id": list("abcd"), "price": list(prices.values())}))[0])
    assert described_features(spec) == [{"column": "price", "became": "number (amount)", "dimensions": 1}]


def test_lists_of_two_numbers_are_no_amounts() -> None:
    table = pl.DataFrame({"item_id": list("abcd"), "groups": ["1,2", "3,4", "1,4", "3,2"]})
    assert described_features(feature_matrix(table)[1]) == [{"column": "groups", "became": "multihot", "dimensions": 4}]


@pytest.mark.parametrize("form", ["{y}/{m}/{d}", "{d}.{m}.{y}", "{y}.{m:02}.{d:02}", "{y}年{m}月{d}日", "{d}/{m}/{y}", "{m:02}/{d:02}/{y}"])
def test_days_in_other_forms_are_the_same_ages(form: str) -> None:
    days = [(2024, 1, 31), (2024, 2, 1), (2023, 12, 5), (2024, 2, 29)]
    table = pl.DataFrame({"item_id": list("abcd"), "released": [f"{y}-{m:02}-{d:02}" for y, m, d in days]})
    wanted, _ = feature_matrix(table)
    matrix, spec = feature_matrix(table.with_columns(released=pl.Series([form.format(y=y, m=m, d=d) for y, m, d in days])))
    assert np.array_equal(matrix, wanted) and wanted.shape == (4, 1)
    assert described_features(spec) == [{"column": "released", "became": "number (days)", "dimensions": 1}]


def test_days_are_ages_and_titles_are_named_as_left_out() -> None:
    days = ["2020-01-01", "2020-01-02 12:00", "2020-01-03T00:00:00Z", None]
    table = pl.DataFrame({"item_id": list("abcd"), "released": days, "title": ["One, two", "Three, four", "Five", "Six"]})
    matrix, spec = feature_matrix(table)
    assert np.allclose(np.diff(matrix[:3, 0])[0] / np.diff(matrix[:3, 0])[1], 1.5 / 0.5) and matrix[:, 1].tolist() == [0, 0, 0, 1]
    assert {"column": "title", "became": "not a feature", "dimensions": 0} in described_features(spec)


@pytest.mark.parametrize(
    ("log", "table", "way"),
    [
        (["001", "002"], ["1", "2"], "without leading zeros 2"),
        (["SKU1", "SKU2"], ["sku1", "sku2"], "without regard to capitals 2"),
        (["a 1", "a 2"], ["a1", "a2"], "without blanks 2"),
        (["a", "b"], ["c"], ""),
    ],
)
def test_ids_that_do_not_match_are_counted_with_the_way_in_which_they_would(log: list[str], table: list[str], way: str) -> None:
    (note,) = match_notes(match_ids(pl.Series(log), pl.Series(table)), "items", "items.csv")
    assert note.startswith("none of the 2 items of the log stands in items.csv") and way in note


def test_items_that_the_table_lacks_are_counted() -> None:
    match = match_ids(pl.Series([f"i{n}" for n in range(500)]), pl.Series([f"i{n}" for n in range(200)]))
    assert match_notes(match, "items", "items.csv")[0].startswith("300 of 500 items of the log are not in items.csv")
    assert match_notes(match_ids(pl.Series(["a"]), pl.Series(["a"])), "items", "items.csv") == []


@pytest.mark.parametrize("missing", ["N/A", "-", "?", "未知"])
@pytest.mark.parametrize("form", ["{}", "${}.00", "2024-01-{:02}"])
def test_words_for_nothing_among_numbers_are_missing(missing: str, form: str) -> None:
    texts = [missing if i % 4 == 0 else form.format(i) for i in range(1, 21)]
    matrix, spec = feature_matrix(pl.DataFrame({"item_id": [f"i{n}" for n in range(20)], "price": texts}))
    empty = pl.Series([None if text == missing else text for text in texts])
    assert np.array_equal(matrix, feature_matrix(pl.DataFrame({"item_id": [f"i{n}" for n in range(20)], "price": empty}))[0])
    assert described_features(spec)[0]["dimensions"] == 2 and matrix[:, 1].tolist() == [float(i % 4 == 0) for i in range(1, 21)]


@pytest.mark.parametrize(
    "texts",
    [
        ["1/2", "3/4", "1/4", "3/2"],
        ["http://x/a", "http://x/b", "http://y/a", "http://y/b"],
        [">1", ">2", ">1", ">2"],
        ["2/3/2024", "4/5/2024"] * 2,
    ],
    ids=["fractions", "addresses", "above", "days in no certain order"],
)
def test_slashes_in_numbers_and_addresses_separate_nothing(texts: list[str]) -> None:
    _, spec = feature_matrix(pl.DataFrame({"item_id": list("abcd"), "what": texts}))
    assert described_features(spec)[0]["became"] in ("onehot", "not a feature")


def test_numbers_that_are_labels_stay_labels() -> None:
    table = pl.DataFrame({"item_id": [f"i{n}" for n in range(20)], "brand_id": ["N/A" if n % 5 == 0 else str(n % 3) for n in range(20)]})
    assert described_features(feature_matrix(table)[1]) == [{"column": "brand_id", "became": "onehot", "dimensions": 4}]
