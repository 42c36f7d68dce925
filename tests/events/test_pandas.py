"""DataFrames of pandas wherever a path or a log goes: the dataset of the CSV file of their rows, bit for bit. Skipped without pandas."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import qurate
from qurate.errors import UserError
from test_python import same

pandas: Any = pytest.importorskip("pandas")

N, T0 = 240, 1_700_000_000
TEXT = "user_id,item_id,type,timestamp,value\n" + "".join(
    f"u{i % 20},{(i * i + i // 20) % 9},{'purchase' if i % 4 == 3 else 'click'},{T0 + i * 3600},{['1.5', '', '2'][i % 3]}\n"
    for i in range(N)
)
SMALL: dict[str, Any] = {"hidden": 8, "embedding_dim": 4, "window": 4, "batch_size": 16}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("pandas") / "log.csv"
    file.write_text(TEXT)
    return file


@pytest.fixture(scope="module")
def frame(path: Path) -> Any:
    return pandas.read_csv(path)


def times(frame: Any, **zone: Any) -> Any:
    return pandas.to_datetime(frame["timestamp"], unit="s", **zone)


FORMS: dict[str, Any] = {
    "as read": lambda f: f,
    "all text": lambda f: pandas.DataFrame({name: f[name].map(lambda v: None if v != v else str(v)) for name in f}).astype(object),
    "object": lambda f: f.astype({"user_id": object, "type": object}),
    "string": lambda f: f.astype({"user_id": "string", "type": "string"}),
    "category": lambda f: f.astype({"type": "category", "user_id": "category", "item_id": "category"}),
    "nullable": lambda f: f.astype({"timestamp": "Int64", "item_id": "Int32", "value": "Float64"}),
    "ids as floats": lambda f: f.astype({"item_id": float}),
    "text beside numbers": lambda f: f.assign(item_id=[str(v) if i % 2 else v for i, v in enumerate(f["item_id"])]),
    "None": lambda f: f.assign(value=f["value"].astype(object).where(f["value"].notna(), None)),
    "times": lambda f: f.assign(timestamp=times(f)),
    "times in seconds": lambda f: f.assign(timestamp=times(f).astype("datetime64[s]")),
    "times in UTC": lambda f: f.assign(timestamp=times(f, utc=True)),
    "times in a zone": lambda f: f.assign(timestamp=times(f, utc=True).dt.tz_convert("Europe/Berlin")),
    "times as objects": lambda f: f.assign(timestamp=times(f).astype(object)),
    "a named index": lambda f: f.set_index("user_id"),
    "two levels": lambda f: f.set_index(["user_id", "timestamp"]),
    "an index that is a column too": lambda f: f.set_index("user_id", drop=False),
    "an odd index": lambda f: f.set_axis(range(7, 7 + 3 * N, 3), axis=0),
    "a part of a frame": lambda f: pandas.concat([f, f])[f.columns[::-1]].iloc[:N],
}


@pytest.mark.parametrize("form", FORMS)
def test_a_log(form: str, frame: Any, path: Path) -> None:
    assert same(qurate.build_dataset(FORMS[form](frame)), qurate.build_dataset(path))


def test_several_frames_and_mapped_columns(frame: Any, path: Path) -> None:
    expected = qurate.build_dataset(path)
    assert same(qurate.build_dataset(qurate.read_events([frame.head(100), frame.tail(N - 100)])), expected)
    renamed = frame.rename(columns={"user_id": "kunde", "item_id": "artikel"})
    assert same(qurate.build_dataset(qurate.read_events(renamed, map={"user_id": "kunde", "item_id": "artikel"})), expected)
    numbered = frame.set_axis(range(5), axis=1)
    names = {"user_id": "0", "item_id": "1", "type": "2", "timestamp": "3", "value": "4"}
    assert same(qurate.build_dataset(qurate.read_events(numbered, map=names)), expected)


@pytest.mark.parametrize("wrap", [list, tuple, np.array], ids=["list", "tuple", "array"])
def test_lists_in_a_column(wrap: Any) -> None:
    rows = {"user_id": ["u1", "u2"] * 30, "timestamp": [T0 + i * 60 for i in range(60)]}
    frame = pandas.DataFrame({**rows, "shown": [wrap(["a", "b", "c"])] * 60, "clicked": [wrap([1, 0, 0]), wrap([0, 0, 0])] * 30})
    log = qurate.read_events(frame)
    assert (log.kind, log.events.collect().height) == ("exposure", 30) and log.decisions is not None
    assert log.decisions.collect()["shown"].to_list() == [["a", "b", "c"]] * 60


def test_objects_in_a_column() -> None:
    frame = pandas.DataFrame({"who": ["u1", "u2"] * 9, "timestamp": range(T0, T0 + 18), "properties": [{"product_id": "a"}] * 18})
    log = qurate.read_events(frame, map={"user_id": "who", "item_id": "properties.product_id"})
    assert log.events.collect()["item_id"].to_list() == ["a"] * 18


def test_tables_of_items_users_and_decisions(frame: Any, path: Path, tmp_path: Path) -> None:
    items = pandas.DataFrame(
        {"item_id": range(9), "price": [i + 0.5 for i in range(9)], "available_from": pandas.to_datetime(["2023-01-01"] * 9)}
    )
    users = pandas.DataFrame({"user_id": [f"u{i}" for i in range(20)], "age": range(20, 40)})
    for name, table in (("items.csv", items), ("users.csv", users)):
        table.to_csv(tmp_path / name, index=False)
    expected = qurate.build_dataset(path, items=tmp_path / "items.csv", users=tmp_path / "users.csv")
    got = qurate.build_dataset(frame, items=items, users=users)
    assert same(got, expected) and got.item_spec == expected.item_spec
    assert np.array_equal(got.item_features, expected.item_features) and np.array_equal(got.user_features, expected.user_features)
    shown = pandas.DataFrame({
        "decision_id": [f"d{i}" for i in range(N)], "user_id": frame["user_id"], "timestamp": frame["timestamp"] - 5,
        "shown": [[str(item), "99"] for item in frame["item_id"]], "propensity": [[0.5, 0.5]] * N,
    })  # fmt: skip
    log = qurate.read_events(frame.assign(decision_id=shown["decision_id"]), decisions=shown)
    assert log.kind == "logged" and log.bad_rows == 0


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_an_id_that_stands_twice_is_refused_as_in_a_file(library: str, frame: Any) -> None:
    columns = {"item_id": [1, 2, 1], "price": [1.0, 2.0, 3.0]}
    table: Any = pandas.DataFrame(columns) if library == "pandas" else pl.DataFrame(columns)
    with pytest.raises(UserError, match="one row per item_id, got other values for '1', at items, row 3"):
        qurate.build_dataset(frame, items=table)
    with pytest.raises(UserError, match="rename the id column to item_id"):
        qurate.build_dataset(
            frame, items=table.rename(columns={"item_id": "sku"}) if library == "pandas" else table.rename({"item_id": "sku"})
        )


def test_training_evaluation_and_answers(frame: Any, path: Path) -> None:
    model = qurate.train(frame, steps=3, **SMALL)
    again = qurate.train(qurate.build_dataset(path), steps=3, **SMALL)
    assert [one.item_id for one in model.recommend(user="u1", k=5).items] == [one.item_id for one in again.recommend(user="u1", k=5).items]
    popular = qurate.train(frame, algorithm="popularity")
    assert qurate.evaluate(popular, frame).to_dict()["metrics"] == qurate.evaluate(popular, qurate.build_dataset(path)).to_dict()["metrics"]
    assert "verdict" in qurate.evaluate_many([popular, "item_knn"], frame).to_dict()
    best = popular.recommend(user="u1", k=1).items[0].item_id
    left = popular.recommend(user="u1", k=9, exclude=pandas.Series([best]), candidates=frame["item_id"].astype(str).unique())
    assert best not in [item.item_id for item in left.items] and len(left.items) > 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f["user_id"], r"a DataFrame, got a Series.*write series.to_frame\(\)"),
        (lambda f: pandas.concat([f, f[["item_id"]]], axis=1), "'item_id' has more than one occurrence"),
        (lambda f: f.assign(timestamp=times(f).dt.to_period("h")), r"column timestamp of period\[h\]"),
        (lambda f: f.head(0), "at least one row"),
        (lambda f: f.drop(columns="user_id"), "user_id"),
    ],
    ids=["a Series", "a name twice", "periods", "no rows", "no user"],
)
def test_what_cannot_be_read_is_named(change: Any, said: str, frame: Any) -> None:
    with pytest.raises(UserError, match=said):
        qurate.read_events(change(frame))


def test_missing_times_are_bad_rows(frame: Any) -> None:
    log = qurate.read_events(frame.assign(timestamp=times(frame).where(frame.index != 3)), max_bad=0.1)
    assert (log.bad_rows, log.rejects["line"].to_list()) == (1, [4])
