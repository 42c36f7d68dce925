"""The model directory of the contract: written beside, synced, renamed; every byte is checked against its sha256.

manifest.json       format, versions, sha256 and size of every file, golden answers
config.json         settings and what the network looks like        weights.safetensors  network, item features, popularity
vocabulary.json     item ids and event types, in index order        features.json        how features are encoded
rewards.json        what an event is worth                          metrics.json         what training measured
"""

import hashlib
import json
import os
import shutil
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
from qurate.config import Settings
from qurate.errors import MachineError, UserError
from qurate.events.vocabulary import Vocabulary
from qurate.policies.model import Model, build_network
from qurate.policies.recommend import golden_answers

FORMAT = 1
FILES = ("config.json", "weights.safetensors", "vocabulary.json", "features.json", "rewards.json", "metrics.json")


def save(model: Model, path: str | Path) -> Model:
    """Writes the model directory and returns the model with its version (the first 12 digits of its weights' sha256).

    Args:
        path: the directory; an older model there is replaced in one rename, or not at all.

    Raises:
        UserError: `path` is a file, or a directory that is not a model.
        MachineError: the disk is full or not writable; what was at `path` is still there.
    """
    target = Path(path)
    if target.exists() and not (target.is_dir() and (not any(target.iterdir()) or (target / "manifest.json").exists())):
        raise UserError("a new directory or a model to replace", str(target), "-o", "choose another name", "not_a_model")
    contents = {**_contents(model), **model.checkpoint}
    files = {name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in contents.items()}
    version = files["weights.safetensors"]["sha256"][:12]  # type: ignore[index]
    model = replace(model, version=version)
    manifest = {
        "format": FORMAT, "qurate": qurate.__version__, "torch": torch.__version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "algorithm": model.algorithm, "version": version, "dataset_sha256": model.dataset_sha256, "files": files,
        "golden": golden_answers(model),
    }  # fmt: skip
    beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for name, data in {**contents, "manifest.json": _json(manifest)}.items():
            _write(beside / name, data)
        _swap(beside, target)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise MachineError("room and permission to write", str(error), str(target), "nothing was replaced", "cannot_write") from None
    return model


def _contents(model: Model) -> dict[str, bytes]:
    tensors = {f"network.{name}": value.contiguous() for name, value in model.network.state_dict().items()}
    tensors["item_features"] = model.network.tower.get_buffer("features").contiguous()
    tensors["popularity"] = torch.as_tensor(model.popularity)
    config = {
        "settings": msgspec.structs.asdict(model.settings), "algorithm": model.algorithm, "kind": model.kind, "user_dim": model.user_dim,
        "n_available": model.n_available, "shown_in_history": model.shown_in_history, "dataset": model.dataset,
        "environment": model.environment, "behaviour": model.network.behaviour is not None,
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
    manifest = read_manifest(source)
    data = {name: read_checked(source, name, manifest) for name in FILES}
    try:
        config, features, rewards = (json.loads(data[n]) for n in ("config.json", "features.json", "rewards.json"))
        vocabulary = Vocabulary.from_json(json.loads(data["vocabulary.json"]))
        tensors = load_tensors(data["weights.safetensors"])
        settings = msgspec.convert(config["settings"], Settings)
        network = build_network(
            tensors["item_features"].numpy(), settings, n_types=vocabulary.n_types, user_dim=config["user_dim"],
            n_components=len(rewards["components"]), behaviour=config["behaviour"], seed=0,
        )  # fmt: skip
        network.load_state_dict({name[8:]: value for name, value in tensors.items() if name.startswith("network.")})
        model = Model(
            network.requires_grad_(False).eval(), settings, config["algorithm"], vocabulary, rewards["components"],
            np.asarray(rewards["weights"], np.float32), tensors["popularity"].numpy(), config["n_available"], config["user_dim"],
            config["kind"], config["shown_in_history"], rewards["rewards"], features["items"], features["users"], config["dataset"],
            manifest["dataset_sha256"], config["environment"], json.loads(data["metrics.json"]), manifest["version"],
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, RuntimeError, msgspec.ValidationError, SafetensorError) as error:
        raise UserError("a model of this version of qurate", f"{type(error).__name__}: {error}", str(source), code="bad_model") from None
    answers = golden_answers(model)
    if [g["item_ids"] for g in answers] != [g["item_ids"] for g in manifest["golden"]]:
        versions = f"saved with qurate {manifest['qurate']}, torch {manifest['torch']}; here {qurate.__version__}, {torch.__version__}"
        raise UserError("the answers recorded in the manifest", "other answers", str(source), versions, "golden_mismatch")
    return model


def read_manifest(source: Path) -> dict[str, Any]:
    """The manifest of a model directory.

    Raises:
        UserError: not a model, not readable, or of another format.
    """
    path = source / "manifest.json"
    if not path.is_file():
        raise UserError("a model directory", f"no {path.name} there", str(source), "train one with `qurate train`", "not_a_model")
    try:
        manifest = json.loads(path.read_bytes())
        file_format = manifest["format"]
    except (ValueError, KeyError, TypeError):
        raise UserError("a manifest in JSON", "something else", str(path), "the file is damaged", "bad_model") from None
    if file_format != FORMAT:
        raise UserError(f"model format {FORMAT}", repr(file_format), str(path), "use the qurate that wrote it", "other_format")
    return dict(manifest)


def read_checked(source: Path, name: str, manifest: dict[str, Any]) -> bytes:
    """The bytes of one file of the model, equal to what the manifest recorded.

    Raises:
        UserError: missing, truncated or altered.
    """
    recorded = manifest.get("files", {}).get(name)
    path = source / name
    if recorded is None or not path.is_file():
        raise UserError(f"{name} in the model", "no such file", str(source), "the model is incomplete", "bad_model")
    data = path.read_bytes()
    if len(data) != recorded["bytes"] or hashlib.sha256(data).hexdigest() != recorded["sha256"]:
        got = f"{len(data)} bytes that differ" if len(data) == recorded["bytes"] else f"{len(data)} of {recorded['bytes']} bytes"
        raise UserError("the file that was saved", got, str(path), "it was altered or cut: restore it", "altered_model")
    return data


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=1).encode()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _swap(beside: Path, target: Path) -> None:
    """`beside` becomes `target`; the old one is moved away first and only then removed."""
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    if target.exists():
        os.rename(target, old)
    try:
        os.rename(beside, target)
    except OSError:
        if old.exists():
            os.rename(old, target)
        raise
    directory = os.open(target.parent, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)
    shutil.rmtree(old, ignore_errors=True)
