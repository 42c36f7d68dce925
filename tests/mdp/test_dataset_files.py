"""The dataset directory: the same after reading, refused when altered, and never half-written."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from mdp_logs import decision, event, make_log

import qurate.mdp.storage as storage
from qurate import files
from qurate.errors import MachineError, UserError
from qurate.mdp.dataset import Dataset, build_dataset


def small(seed: int = 0, lists: bool = True) -> Dataset:
    rng = np.random.default_rng(seed)
    items = pl.DataFrame({"item_id": list("abcdef"), "kind": ["x|y", "y", "x", "y", "x", "x"], "price": range(6)})
    users = pl.DataFrame({"user_id": ["u", "v"], "age": [30, 40]})
    rows = [event("uv"[i % 2], "abcdef"[rng.integers(6)], i * 100, value=float(i)) for i in range(30)]
    if not lists:
        return build_dataset(make_log(rows, items=items, users=users))
    decisions = [
        decision(
            f"d{i}", "uv"[i % 2], list(rng.permutation(list("abcdef"))[: 1 + i % 3]), i * 100 + 1, candidates=list("abc") if i % 2 else None
        )
        for i in range(30)
    ]
    return build_dataset(make_log(rows, decisions, "exposure", items=items, users=users))


def assert_same(one: Dataset, two: Dataset) -> None:
    for field in (field for field in dataclasses.fields(Dataset) if field.compare):  # all but the place
        old, new = getattr(one, field.name), getattr(two, field.name)
        if field.name in ("arrays", "transitions"):
            for part in dataclasses.fields(old):
                left, right = getattr(old, part.name), getattr(new, part.name)
                assert left.dtype == right.dtype, part.name
                np.testing.assert_array_equal(left, right, err_msg=part.name)
        elif isinstance(old, np.ndarray):
            assert old.dtype == new.dtype, field.name
            np.testing.assert_array_equal(old, new, err_msg=field.name)
        elif isinstance(old, pl.DataFrame):
            assert old.equals(new), field.name
        else:
            assert old == new, field.name


@pytest.mark.parametrize("lists", [False, True])
def test_read_gives_back_what_was_written(tmp_path: Path, lists: bool):
    written = small(lists=lists).write(tmp_path / "d")
    assert_same(written, Dataset.read(tmp_path / "d"))
    assert written.path == Dataset.read(tmp_path / "d").path == str(tmp_path / "d")
    assert len(written.sha256) == 64
    names = {"dataset.json", "events.parquet", "decisions.parquet", "candidates.parquet", "items.parquet", "users.parquet", "rejects.csv"}
    assert {file.name for file in (tmp_path / "d").iterdir()} == names
    assert (tmp_path / "d" / "rejects.csv").read_text().strip() == "line,reason,raw"
    manifest = json.loads((tmp_path / "d" / "dataset.json").read_text())
    assert manifest["schema_version"] == 2 and manifest["kind"] == written.kind


def test_a_dataset_prints_in_one_line():
    assert repr(small()) == "Dataset(exposure, 30 events, 30 decisions, 2 users, 6 items, path=None)"


def test_the_same_log_gives_the_same_dataset(tmp_path: Path):
    assert small().write(tmp_path / "a").sha256 == small().write(tmp_path / "b").sha256
    assert small().write(tmp_path / "a").sha256 != small(seed=1).write(tmp_path / "c").sha256


@pytest.mark.parametrize("name", ["dataset.json", "events.parquet", "decisions.parquet", "items.parquet"])
@pytest.mark.parametrize("damage", ["truncate", "flip", "remove"])
def test_damaged_files_are_refused(tmp_path: Path, name: str, damage: str):
    small().write(tmp_path / "d")
    file = tmp_path / "d" / name
    data = bytearray(file.read_bytes())
    if damage == "remove":
        file.unlink()
    else:
        data[len(data) // 2] ^= 1
        file.write_bytes(data[:-9] if damage == "truncate" else data)
    with pytest.raises(UserError) as caught:
        Dataset.read(tmp_path / "d")
    assert name in str(caught.value)


def test_another_schema_version_is_refused(tmp_path: Path):
    written = small()
    dataclasses.replace(written, manifest={**written.manifest, "schema_version": 99}).write(tmp_path / "d")
    with pytest.raises(UserError, match="schema version 2 or older, got 99"):
        Dataset.read(tmp_path / "d")


def test_a_dataset_of_schema_version_1_still_reads_and_its_items_never_end(tmp_path: Path):
    written = small().write(tmp_path / "d")
    manifest = json.loads((tmp_path / "d" / "dataset.json").read_text())
    items, decisions = tmp_path / "d" / "items.parquet", tmp_path / "d" / "decisions.parquet"
    pl.read_parquet(items).drop("available_until").write_parquet(items)
    pl.read_parquet(decisions).with_columns(n_available=pl.lit(6, pl.Int32)).write_parquet(decisions)
    manifest |= {"schema_version": 1}
    manifest["sha256_files"] |= {file.name: storage._digest(file) for file in (items, decisions)}
    manifest["sha256"] = storage._manifest_digest({name: value for name, value in manifest.items() if name != "sha256"})
    (tmp_path / "d" / "dataset.json").write_text(json.dumps(manifest))
    old = Dataset.read(tmp_path / "d")
    assert old.sha256 != written.sha256 and not old.availability.ends
    np.testing.assert_array_equal(old.availability.since, written.availability.since)
    again = old.write(tmp_path / "e")  # of the present version, and the same as what was written first
    assert again.manifest == written.manifest
    assert_same(Dataset.read(tmp_path / "e"), written)


@pytest.mark.parametrize("step", ["write_parquet", "fsync", "rename"])
def test_a_failed_write_leaves_the_old_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str):
    old = small().write(tmp_path / "d")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    rename = os.rename
    if step == "write_parquet":
        monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    elif step == "fsync":
        monkeypatch.setattr(files.os, "fsync", full)
    else:  # the new directory cannot be moved into place
        monkeypatch.setattr(files.os, "rename", lambda a, b: full() if str(a).endswith(files.TMP) else rename(a, b))
    with pytest.raises(MachineError, match="No space left"):
        small(seed=1).write(tmp_path / "d")
    monkeypatch.undo()
    assert_same(old, Dataset.read(tmp_path / "d"))
    assert os.listdir(tmp_path) == ["d"]


FULL = """
import resource, signal, sys
from pathlib import Path
from test_dataset_files import small
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
try:
    small(seed=1).write(sys.argv[1])
except Exception as error:
    print(type(error).__name__, error.exit_code)
"""


def test_a_disk_that_is_really_full(tmp_path: Path):
    old = small().write(tmp_path / "d")
    here = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-c", FULL, tmp_path / "d"], capture_output=True, text=True, env=here, check=True)
    assert done.stdout.split() == ["MachineError", "1"]
    assert_same(old, Dataset.read(tmp_path / "d"))
    assert os.listdir(tmp_path) == ["d"]


def test_a_dataset_is_replaced_as_one(tmp_path: Path):
    small().write(tmp_path / "d")
    new = small(seed=1).write(tmp_path / "d")
    assert_same(new, Dataset.read(tmp_path / "d"))
    assert os.listdir(tmp_path) == ["d"]


def test_other_directories_are_never_replaced(tmp_path: Path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1").write_text("work")
    (tmp_path / "file").write_text("work")
    for name in ("thesis", "file"):
        with pytest.raises(UserError, match="that qurate wrote"):
            small().write(tmp_path / name)
    assert (tmp_path / "thesis" / "chapter1").read_text() == "work"
    (tmp_path / "empty").mkdir()
    assert small().write(tmp_path / "empty").sha256


def test_ctrl_c_leaves_the_old_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    old = small().write(tmp_path / "d")

    def pressed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for place, name in ((files, "sync"), (pl.DataFrame, "write_parquet")):
        monkeypatch.setattr(place, name, pressed)
        with pytest.raises(KeyboardInterrupt):
            small(seed=1).write(tmp_path / "d")
        monkeypatch.undo()
        assert os.listdir(tmp_path) == ["d"]
        assert_same(old, Dataset.read(tmp_path / "d"))


def test_a_replacement_that_died_half_way_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    old = small().write(tmp_path / "d")
    rename = os.rename

    def dies(a: Path, b: Path) -> None:
        if str(a).endswith((files.TMP, files.OLD)):  # neither the new one arrives nor the old one returns
            raise KeyboardInterrupt
        rename(a, b)

    monkeypatch.setattr(files.os, "rename", dies)
    with pytest.raises(KeyboardInterrupt):
        small(seed=1).write(tmp_path / "d")
    monkeypatch.undo()
    assert not (tmp_path / "d").exists()
    assert_same(old, Dataset.read(tmp_path / "d"))
    assert os.listdir(tmp_path) == ["d"]


@pytest.mark.parametrize("name", ["missing", "file", "folder"])
def test_not_a_dataset(tmp_path: Path, name: str):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="qurate ingest"):
        Dataset.read(tmp_path / name)
