"""What a model keeps of the users of its training log."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from mdp_logs import event, make_log

from qurate.errors import UserError
from qurate.mdp.dataset import build_dataset
from qurate.mdp.storage import Dataset
from qurate.models.histories import EVENTS, ITEMS, USERS, Histories
from qurate.models.model import Model, load
from qurate.models.recommend import histories_of
from qurate.training.train import train


def test_a_saved_model_holds_the_histories_of_its_dataset_exactly(model: Model, saved: Path) -> None:
    dataset, past = Dataset.read(saved.with_name("dataset")), model.histories
    assert past is not None and histories_of(model) is past
    for name in ("item", "type", "time", "value", "user_start"):
        kept, here = getattr(past.arrays, name), getattr(dataset.arrays, name)
        assert kept.dtype == here.dtype
        np.testing.assert_array_equal(kept, here)
    assert past.users.equals(dataset.users) and past.items.equals(dataset.items)
    np.testing.assert_array_equal(past.user_features, dataset.user_features)
    assert past.log_end == dataset.arrays.time.max() and past.index == {user: i for i, user in enumerate(dataset.user_ids)}


def test_the_manifest_has_their_digests_and_they_are_small(model: Model, saved: Path) -> None:
    manifest, past = json.loads((saved / "manifest.json").read_text()), model.histories
    assert past is not None
    for name in (EVENTS, USERS, ITEMS):
        data = (saved / name).read_bytes()
        assert manifest["files"][name] == {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    rows, users = len(past.arrays.item), past.users.height
    assert not past.arrays.value.any()  # and so it costs nothing
    assert (saved / EVENTS).stat().st_size < 13 * rows + 8 * (users + 1) + 1_000


@pytest.mark.parametrize("name", [EVENTS, USERS, ITEMS])
def test_altered_or_missing_histories_are_an_error(name: str, saved: Path, tmp_path: Path) -> None:
    for code, change in (("altered_model", lambda p: p.write_bytes(p.read_bytes() + b"x")), ("bad_model", lambda p: p.unlink())):
        place = tmp_path / code
        shutil.copytree(saved, place)
        change(place / name)
        with pytest.raises(UserError) as caught:
            load(place)
        assert caught.value.code == code


def test_histories_of_another_model_are_an_error(model: Model, tmp_path: Path) -> None:
    rows = [event(f"u{i % 4}", f"x{i % 40}", 1.7e9 + 60 * i, "purchase" if i % 5 else "click") for i in range(200)]
    other = build_dataset(make_log(rows), episode="user")
    replace(model, histories=Histories.of(other)).save(tmp_path / "m")
    with pytest.raises(UserError, match="histories of 40 items"):
        load(tmp_path / "m")


def test_a_model_of_before_still_loads_and_answers_from_its_dataset(model: Model, saved: Path, tmp_path: Path) -> None:
    replace(model, histories=None).save(tmp_path / "old")
    assert not (tmp_path / "old" / "histories").exists()
    old = load(tmp_path / "old")
    assert old.histories is None and old.version == model.version
    assert old.recommend("u7").items == model.recommend("u7").items


def test_values_and_any_user_id_come_back(tmp_path: Path) -> None:
    names = ["", "a\nb", "\u4e2d\u6587", "x" * 300, "0"]
    rows = [event(names[i % 5] or "e", "abc"[i % 3], 1.7e9 + 60 * i, "purchase" if i % 5 else "click", value=i / 7) for i in range(60)]
    data = build_dataset(make_log(rows), episode="user")
    train(data, algorithm="popularity").save(tmp_path / "m")
    past = load(tmp_path / "m").histories
    assert past is not None and set(past.index) == {*names[1:], "e"}
    np.testing.assert_array_equal(past.arrays.value, data.arrays.value)
    assert past.arrays.value.any() and isinstance(past.users, pl.DataFrame)
