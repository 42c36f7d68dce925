"""The model directory of the contract: written beside, synced, renamed; every byte is checked against its sha256.

manifest.json       format, versions, sha256 and size of every file, golden answers
config.json         settings and what the network looks like        weights.safetensors  network, item features, popularity
vocabulary.json     item ids and event types, in index order        features.json        how features are encoded
rewards.json        what an event is worth                          metrics.json         what training measured
"""

import hashlib
import json
import os
import re
import shutil
import sys
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

import qurate
from qurate.errors import Code, MachineError, UserError
from qurate.events.features import feature_names
from qurate.events.vocabulary import Vocabulary
from qurate.locks import require_posix, try_lock
from qurate.models.answer import golden_answers
from qurate.models.model import By, Model
from qurate.networks.build import build_network
from qurate.settings import flat, from_flat

FORMAT = 1
TMP, OLD = ".model-tmp", ".model-old"
"""Endings of what stands beside a model while it is replaced."""
MANIFEST_KEYS = {"qurate": str, "torch": str, "version": str, "algorithm": str, "files": dict, "golden": list}
FILES = ("config.json", "weights.safetensors", "vocabulary.json", "features.json", "rewards.json", "metrics.json")


def save(model: Model, path: str | Path) -> Model:
    """Writes the model directory and returns the model with its version (the first 12 digits of its weights' sha256).

    Args:
        path: the directory; an older model there is replaced in one rename, or not at all.

    Raises:
        UserError: `path` is a file, or a directory that is not a model; or a system without file locks.
        MachineError: the disk is full or not writable; what was at `path` is still there.
    """
    require_posix()
    target = Path(path).absolute()
    put_in_order(target)
    if target.exists() and not (target.is_dir() and (not any(target.iterdir()) or (target / "manifest.json").exists())):
        raise UserError("a new directory or a model to replace", str(target), where="-o", hint="choose another name", code=Code.NOT_A_MODEL)
    contents = {**_contents(model, target), **model.checkpoint}
    files = {name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in contents.items()}
    version = files["weights.safetensors"]["sha256"][:12]  # type: ignore[index]
    model = replace(model, version=version)
    manifest = {
        "format": FORMAT, "qurate": qurate.__version__, "torch": torch.__version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "algorithm": model.algorithm, "version": version, "dataset_sha256": model.dataset_sha256, "files": files,
        "golden": golden_answers(model),
    }  # fmt: skip
    beside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}{TMP}")
    try:
        beside.mkdir(parents=True)
        with _locked(beside):
            for name, data in {**contents, "manifest.json": _json(manifest)}.items():
                _write(beside / name, data)
            _swap(beside, target)
    except OSError as error:
        raise MachineError(
            "room and permission to write", str(error), where=str(target), hint="nothing was replaced", code=Code.CANNOT_WRITE
        ) from None
    finally:  # after Ctrl-C too
        shutil.rmtree(beside, ignore_errors=True)
    return model


def _contents(model: Model, target: Path) -> dict[str, bytes]:
    tensors = {f"network.{name}": value.contiguous() for name, value in model.network.state_dict().items()}
    tensors["item_features"] = model.network.tower.get_buffer("features").contiguous()
    tensors["popularity"] = torch.as_tensor(model.popularity)
    config = {
        "settings": flat(model.settings), "algorithm": model.algorithm, "kind": model.kind, "user_dim": model.user_dim,
        "n_available": model.n_available, "shown_in_history": model.shown_in_history, "dataset": model.dataset,
        "environment": model.environment, "behaviour": model.network.behaviour is not None,
        "answers_newcomers": model.answers_newcomers, "upcoming": model.upcoming.tolist(),
        "ranked_by": model.by, "lists_inside": model.lists_inside,
        "dataset_from_here": None if model.dataset is None else os.path.relpath(model.dataset, target),
    }  # fmt: skip
    rewards = {"components": model.components, "weights": [float(w) for w in model.weights], "rewards": model.rewards}
    return {
        "config.json": _json(config), "weights.safetensors": save_tensors(tensors), "vocabulary.json": _json(model.vocabulary.to_json()),
        "features.json": _json({"items": model.item_spec, "users": model.user_spec}), "rewards.json": _json(rewards),
        "metrics.json": _json(model.metrics),
    }  # fmt: skip


def load(path: str | Path) -> Model:
    """Reads a model directory, checks every file, and checks that it still gives its golden answers.

    Raises:
        UserError: missing, of another format, altered, truncated, or giving other answers than when it was saved.
    """
    source = Path(path)
    put_in_order(source.absolute())
    manifest = read_manifest(source)
    data = {name: read_checked(source, name, manifest) for name in FILES}
    versions = f"saved with qurate {manifest['qurate']}, torch {manifest['torch']}; here {qurate.__version__}, {torch.__version__}"
    try:
        config, features, rewards = (json.loads(data[n]) for n in ("config.json", "features.json", "rewards.json"))
        vocabulary = Vocabulary.from_json(json.loads(data["vocabulary.json"]))
        tensors = load_tensors(data["weights.safetensors"])
        _fit_together(config, vocabulary, features, rewards, tensors)
        settings = from_flat(config["settings"])
        network = build_network(
            tensors["item_features"].numpy(), settings, n_types=vocabulary.n_types, user_dim=config["user_dim"],
            n_components=len(rewards["components"]), behaviour=config["behaviour"], seed=0,
        )  # fmt: skip
        network.load_state_dict({name[8:]: value for name, value in tensors.items() if name.startswith("network.")})
        model = Model(
            network.requires_grad_(False).eval(), settings, config["algorithm"], vocabulary, rewards["components"],
            np.asarray(rewards["weights"], np.float32), tensors["popularity"].numpy(), config["n_available"], config["user_dim"],
            config["kind"], config["shown_in_history"], rewards["rewards"], features["items"], features["users"], _dataset(config, source),
            manifest["dataset_sha256"], config["environment"], json.loads(data["metrics.json"]), manifest["version"],
            answers_newcomers=config.get("answers_newcomers", False), upcoming=np.asarray(config.get("upcoming", ()), np.int64),
            by=msgspec.convert(config.get("ranked_by", "q"), By),
            lists_inside=config.get("lists_inside", False),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, RuntimeError, msgspec.ValidationError, SafetensorError) as error:
        # torch names every tensor of a network that was built otherwise, over many lines
        got = "the weights of another network" if isinstance(error, RuntimeError) else f"{type(error).__name__}: {error}"
        raise UserError(
            "a model of this version of qurate", got, where=str(source), hint=f"train it again ({versions})", code=Code.BAD_MODEL
        ) from None
    if golden_answers(model) != manifest["golden"]:
        raise UserError(
            "the answers recorded in the manifest", "other answers", where=str(source), hint=versions, code=Code.GOLDEN_MISMATCH
        )
    return model


def _dataset(config: dict[str, Any], source: Path) -> str | None:
    """Where the training dataset is: where it was, or as far from the model as it was, for both may have moved together."""
    there: str | None = config["dataset"]
    from_here = config.get("dataset_from_here")
    if there is None or from_here is None or Path(there).is_dir():
        return there
    beside = os.path.abspath(source / from_here)
    return beside if Path(beside).is_dir() else there


def _fit_together(
    config: dict[str, Any], vocabulary: Vocabulary, features: dict[str, Any], rewards: dict[str, Any], tensors: dict[str, torch.Tensor]
) -> None:
    """
    Raises:
        ValueError: vocabulary, features, rewards and weights are of different models.
    """
    rows, width = tensors["item_features"].shape
    sizes = {"items": (len(vocabulary.items) + 1, rows), "popularity": (len(tensors["popularity"]), rows)}
    sizes["rewards"] = (len(rewards["weights"]), len(rewards["components"]))
    if config["environment"] is None:
        sizes["item features"] = (len(feature_names(features["items"])), width)
        sizes["user features"] = (len(feature_names(features["users"])), config["user_dim"])
    for name, (one, other) in sizes.items():
        if one != other:
            raise ValueError(f"{name}: {one} in one file, {other} in another")


def read_manifest(source: Path) -> dict[str, Any]:
    """The manifest of a model directory.

    Raises:
        UserError: not a model, not readable, or of another format.
    """
    path = source / "manifest.json"
    if not path.is_file():
        raise UserError(
            "a model directory", f"no {path.name} there", where=str(source), hint="train one with `qurate train`", code=Code.NOT_A_MODEL
        )
    try:
        manifest = json.loads(path.read_bytes())
        file_format = manifest["format"]
    except (ValueError, KeyError, TypeError):
        raise UserError("a manifest in JSON", "something else", where=str(path), hint="the file is damaged", code=Code.BAD_MODEL) from None
    if file_format != FORMAT:
        raise UserError(
            f"model format {FORMAT}", repr(file_format), where=str(path), hint="use the qurate that wrote it", code=Code.OTHER_FORMAT
        )
    for key, kind in MANIFEST_KEYS.items():
        if not isinstance(manifest.get(key), kind):
            raise UserError(f"{key} in the manifest", "none", where=str(path), hint="the file is damaged", code=Code.BAD_MODEL)
    return dict(manifest)


def read_checked(source: Path, name: str, manifest: dict[str, Any]) -> bytes:
    """The bytes of one file of the model, equal to what the manifest recorded.

    Raises:
        UserError: missing, truncated or altered.
    """
    recorded = manifest.get("files", {}).get(name)
    path = source / name
    if not isinstance(recorded, dict) or not {"sha256", "bytes"} <= set(recorded) or not path.is_file():
        raise UserError(f"{name} in the model", "no such file", where=str(source), hint="the model is incomplete", code=Code.BAD_MODEL)
    data = path.read_bytes()
    if len(data) != recorded["bytes"] or hashlib.sha256(data).hexdigest() != recorded["sha256"]:
        got = f"{len(data)} bytes that differ" if len(data) == recorded["bytes"] else f"{len(data)} of {recorded['bytes']} bytes"
        raise UserError("the file that was saved", got, where=str(path), hint="it was altered or cut: restore it", code=Code.ALTERED_MODEL)
    return data


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=1).encode()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _swap(beside: Path, target: Path) -> None:
    """`beside` becomes `target`; the old one is moved away first and only then removed."""
    for directory in {beside, *(path.parent for path in beside.rglob("*"))}:
        _sync_directory(directory)
    old = beside.with_suffix(OLD)
    if target.exists():
        os.rename(target, old)
    try:
        os.rename(beside, target)
    except BaseException:  # Ctrl-C too
        if old.exists():
            os.rename(old, target)
        raise
    _sync_directory(target.parent)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _locked(directory: Path) -> Generator[bool, None, None]:
    """Holds the directory's lock, which dies with its process; False where another process holds it."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        yield try_lock(descriptor)
    finally:
        os.close(descriptor)


def put_in_order(target: Path) -> None:
    """Undoes what a killed process left beside a model: the model that was there comes back, half-written ones go.

    While a living process saves, and where nothing can be changed (a read-only disk), nothing is done.
    """
    name = re.compile(re.escape(f".{target.name}.") + "[0-9a-f]{8}(" + re.escape(TMP) + "|" + re.escape(OLD) + ")")
    if not target.parent.is_dir():
        return
    left = [path for path in target.parent.iterdir() if name.fullmatch(path.name)]
    try:
        for path in left:
            if path.suffix == TMP:
                with _locked(path) as ours:
                    if not ours:
                        return
        for path in left:
            if path.suffix == OLD and not target.exists():
                os.rename(path, target)
                print(f"note: {target} is the model from before a save that was cut short", file=sys.stderr)
            else:
                shutil.rmtree(path, ignore_errors=True)
    except OSError:
        return
