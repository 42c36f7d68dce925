"""The model directory: what is saved is what is loaded, whatever is damaged is refused, and nothing half-written is left."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import model_processes
from forked import Forked
from model_processes import untrained
from qurate import files
from qurate.cli import app as cli
from qurate.environments.registry import make_engine
from qurate.errors import MachineError, UserError
from qurate.models import directory as storage
from qurate.models import network_ranker
from qurate.models.answer import golden_answers
from qurate.models.model import Model, load
from qurate.training.train import train

NAMES = ("config.json", "weights.safetensors", "vocabulary.json", "features.json", "rewards.json", "metrics.json", "manifest.json")


def answers(model: Model) -> list[list[tuple[str, float, float]]]:
    return [[(i.item_id, i.score, i.propensity) for i in model.recommend(f"u{user}", 5).items] for user in range(10)]


def weights(model: Model) -> dict[str, torch.Tensor]:
    return model.network.state_dict()


def equal(a: Model, b: Model) -> bool:
    return all(torch.equal(x, y) for x, y in zip(weights(a).values(), weights(b).values(), strict=True))


def copy(saved: Path, to: Path) -> Path:
    shutil.copytree(saved, to)
    return to


def test_a_loaded_model_gives_the_same_answers(saved: Path, model: Model, tmp_path: Path) -> None:
    again = load(copy(saved, tmp_path / "copy"))
    assert equal(model, again) and answers(model) == answers(again)
    assert (again.version, again.algorithm, again.settings) == (model.version, "dqn", model.settings)
    twice = again.save(tmp_path / "twice")
    assert twice.version == model.version and answers(load(tmp_path / "twice")) == answers(model)


def test_the_manifest_is_the_contracts(saved: Path) -> None:
    manifest = json.loads((saved / "manifest.json").read_text())
    assert {"format", "qurate", "torch", "created", "algorithm", "dataset_sha256", "files", "golden"} <= set(manifest)
    assert manifest["format"] == 1 and len(manifest["golden"]) == 3 and all(set(g) == {"request", "item_ids"} for g in manifest["golden"])
    for name, entry in manifest["files"].items():
        assert entry["bytes"] == (saved / name).stat().st_size and len(entry["sha256"]) == 64
    assert set(NAMES) - {"manifest.json"} <= set(manifest["files"])
    assert {p.relative_to(saved).as_posix() for p in saved.rglob("*") if p.is_file()} == {*manifest["files"], "manifest.json"}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, flip, empty, Path.unlink])
@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_is_refused_by_name(
    name: str, damage: Callable[[Path], None], saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = copy(saved, tmp_path / "m")
    damage(broken / name)
    if name == "manifest.json" and damage is flip:
        return  # the manifest has no digest of its own; what it must hold is tested below
    assert cli.main(["recommend", str(broken), "--user", "u1"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and err.startswith("error: expected ") and str(broken) in err
    assert "Traceback" not in err and "internal" not in err


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"format": 2}, "other_format"),
        ({"format": "1"}, "other_format"),
        ({"format": None}, "other_format"),
        ({"files": {}}, "bad_model"),
        ({"files": []}, "bad_model"),
        ({"golden": None}, "bad_model"),
        ({"version": 7}, "bad_model"),
        ({"qurate": None}, "bad_model"),
        ({"golden": []}, "golden_mismatch"),
    ],
)
def test_a_manifest_of_another_kind_is_refused(change: dict[str, object], code: str, saved: Path, tmp_path: Path) -> None:
    other = copy(saved, tmp_path / "m")
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps(manifest | change))
    with pytest.raises(UserError) as caught:
        load(other)
    assert caught.value.code == code and caught.value.exit_code == 2
    for text in ("[]", "3", "null", '{"format": 1}', "{"):
        (other / "manifest.json").write_text(text)
        with pytest.raises(UserError):
            load(other)


@pytest.mark.parametrize("name", ["config.json", "weights.safetensors", "vocabulary.json", "features.json", "rewards.json"])
def test_files_of_another_model_do_not_fit_together(name: str, saved: Path, tmp_path: Path) -> None:
    """Even where digests are right: weights, vocabulary and features of different versions cannot be activated."""
    mixed, other = copy(saved, tmp_path / "m"), tmp_path / "other"
    untrained(0).save(other)
    shutil.copy(other / name, mixed / name)
    manifest = json.loads((mixed / "manifest.json").read_text())
    manifest["files"][name] = json.loads((other / "manifest.json").read_text())["files"][name]
    (mixed / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError) as caught:
        load(mixed)
    assert caught.value.code in ("bad_model", "golden_mismatch")


def test_a_model_that_answers_otherwise_than_when_it_was_saved_is_refused_with_both_versions(saved: Path, tmp_path: Path) -> None:
    other = copy(saved, tmp_path / "m")
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["golden"][0]["item_ids"].reverse()
    manifest["torch"] = "1.0.0"
    (other / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=f"torch 1.0.0; here .*{torch.__version__}".replace("+", r"\+")) as caught:
        load(other)
    assert caught.value.code == "golden_mismatch"


@pytest.mark.parametrize("place", ["missing", "file", "folder", "folder/manifest.json"])
def test_what_is_not_a_model(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError) as caught:
        load(tmp_path / place)
    assert caught.value.code == "not_a_model"


def test_nothing_else_is_ever_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter").write_text("work")
    (tmp_path / "file").write_text("work")
    for name in ("thesis", "file"):
        with pytest.raises(UserError):
            untrained(0).save(tmp_path / name)
    assert (tmp_path / "thesis" / "chapter").read_text() == (tmp_path / "file").read_text() == "work"
    (tmp_path / "empty").mkdir()
    assert untrained(0).save(tmp_path / "empty").version == load(tmp_path / "empty").version


def test_a_model_is_replaced_as_one(tmp_path: Path) -> None:
    first, second = untrained(0), untrained(1)
    first.checkpoint["checkpoint/state.json"] = b"{}"
    first.save(tmp_path / "m")
    second.save(tmp_path / "m")
    assert equal(load(tmp_path / "m"), second) and not (tmp_path / "m" / "checkpoint").exists()
    assert os.listdir(tmp_path) == ["m"]


@pytest.mark.parametrize("step", ["write", "fsync", "arrive"])
@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_save_leaves_the_old_model(step: str, failure: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = untrained(0)
    old.save(tmp_path / "m")

    def fail(*_: object, **__: object) -> None:
        raise failure

    rename = os.rename
    if step == "write":
        monkeypatch.setattr(storage, "write_file", lambda path, data: fail() if path.name == "rewards.json" else path.write_bytes(data))
    elif step == "fsync":
        monkeypatch.setattr(files.os, "fsync", fail)
    else:
        monkeypatch.setattr(files.os, "rename", lambda a, b: fail() if str(a).endswith(files.TMP) else rename(a, b))
    with pytest.raises(MachineError if isinstance(failure, OSError) else KeyboardInterrupt) as caught:
        untrained(1).save(tmp_path / "m")
    monkeypatch.undo()
    if isinstance(caught.value, MachineError):
        assert caught.value.exit_code == 1 and "No space left" in str(caught.value)
    assert equal(load(tmp_path / "m"), old) and os.listdir(tmp_path) == ["m"]


def test_a_disk_that_is_really_full_is_exit_code_1_and_the_old_model_answers(saved: Path, model: Model, tmp_path: Path) -> None:
    mine = copy(saved, tmp_path / "m")
    arguments = ["train", "--resume", str(mine), "-o", str(mine), "--steps", "45", "--quiet"]
    process = Forked(tmp_path.with_name("full"), model_processes.full, arguments)
    code, errors = process.wait()
    assert code == 1 and process.out == "" and "Traceback" not in errors
    assert errors.startswith("error: expected room and permission to write, got ") and len(errors.splitlines()) == 1
    assert answers(load(mine)) == answers(model) and os.listdir(tmp_path) == ["m"]


@pytest.mark.parametrize("when", ["writing", "between", "after"])
def test_a_killed_save_leaves_one_whole_model_and_is_tidied_up(when: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = untrained(0), untrained(1)
    old.save(tmp_path / "m")
    (tmp_path / ".m.0123abcd.qurate-tmp.txt").write_text("not ours")
    assert Forked(tmp_path.with_name(f"killed-{when}"), model_processes.killed, when, tmp_path / "m").wait() == (-signal.SIGKILL, "")
    assert len(os.listdir(tmp_path)) == 3
    assert equal(load(tmp_path / "m"), new if when == "after" else old)
    assert sorted(os.listdir(tmp_path)) == [".m.0123abcd.qurate-tmp.txt", "m"]
    assert ("from before a save that was cut short" in capsys.readouterr().err) == (when == "between")
    new.save(tmp_path / "m")
    assert equal(load(tmp_path / "m"), new)


def test_while_another_process_saves_nothing_is_tidied_up(tmp_path: Path) -> None:
    untrained(0).save(tmp_path / "m")
    beside, old = tmp_path / f".m.01234567{files.TMP}", tmp_path / f".m.01234567{files.OLD}"
    beside.mkdir()
    with files.locked(beside) as ours:
        assert ours
        os.rename(tmp_path / "m", old)  # the other process is between its two renames
        with pytest.raises(UserError):
            load(tmp_path / "m")
        assert beside.is_dir() and old.is_dir()
    assert equal(load(tmp_path / "m"), untrained(0)) and os.listdir(tmp_path) == ["m"]


SMALL_NET = {"hidden": 8, "embedding_dim": 4, "window": 4, "batch_size": 16}


def test_figures_that_are_not_finite_do_not_lose_a_training(tmp_path: Path) -> None:
    """An infinite reward makes every loss infinite: steps are skipped and counted, and the model can still be saved."""
    model = train(env="toy_chain", steps=1_500, rewards="watch=1e36", loss="squared", keep_diverged=True, **SMALL_NET)
    assert model.metrics["skipped"] > 0 and json.dumps(model.metrics, allow_nan=False)
    assert np.isfinite(model.scores(make_engine("toy_chain", window=4).reset(0, 3))).all()
    assert equal(load(model.save(tmp_path / "m") and tmp_path / "m"), model)


def test_a_model_of_an_earlier_network_is_refused_in_one_line(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(*args: Any, **options: Any) -> torch.nn.Module:
        net = build(*args, **options)
        net.added = torch.nn.Parameter(torch.zeros(3))
        return net

    build = network_ranker.build_network
    monkeypatch.setattr(network_ranker, "build_network", other)
    with pytest.raises(UserError, match="got the weights of another network") as caught:
        load(saved)
    assert caught.value.code == "bad_model" and "\n" not in str(caught.value)


def test_golden_answers_do_not_depend_on_what_ran_before(model: Model) -> None:
    first = golden_answers(model)
    torch.rand(3)
    np.random.default_rng(0).random()
    assert golden_answers(replace(model, ranker=replace(model.ranker))) == first  # type: ignore[type-var]
