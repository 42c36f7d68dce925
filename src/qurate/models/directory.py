"""The model directory of the contract: written beside, synced, renamed; every byte is checked against its sha256.

manifest.json       format, versions, sha256 and size of every file, golden answers
config.json         algorithm, settings, the ranker's own numbers   weights.safetensors  its arrays, popularity, availability
vocabulary.json     item ids and event types, in index order        features.json        how features are encoded
rewards.json        what an event is worth                          metrics.json         what training measured
report.html         the model's page, where one was made
histories/          the users of the training log and their events; not with `--no-histories`, nor in older models
"""

import hashlib
import json
import os
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

import qurate
from qurate.baselines.registry import FITTED
from qurate.errors import Code, MachineError, UserError
from qurate.events.features import feature_names
from qurate.events.vocabulary import Vocabulary
from qurate.files import recover_directory, replacing_directory, write_file
from qurate.locks import require_posix
from qurate.mdp.live_lists import LiveLists
from qurate.models.answer import golden_answers
from qurate.models.baseline_ranker import load_baseline_ranker
from qurate.models.histories import EVENTS, ITEMS, USERS, Histories
from qurate.models.network_ranker import load_network_ranker
from qurate.models.parts import Answering, ModelParts, Provenance
from qurate.models.ranker import Ranker, SavedRanker, Sizes
from qurate.models.task_ranker import load_task_ranker
from qurate.outputs import DATASET, MODEL, check_directory
from qurate.settings import Settings, flat, from_flat
from qurate.types import Availability

FORMAT = 1
MANIFEST_KEYS = {"qurate": str, "torch": str, "version": str, "algorithm": str, "files": dict, "golden": list}
FILES = ("config.json", "weights.safetensors", "vocabulary.json", "features.json", "rewards.json", "metrics.json")
PAGE = "report.html"
RANKER = "ranker."
"""Prefix of the ranker's arrays."""
LISTS = "lists."
"""Prefix of the arrays of shortlists and counters."""

PartsT = TypeVar("PartsT", bound=ModelParts)


def write_model(model: PartsT, path: str | Path, force: bool = False, page: str | None = None) -> PartsT:
    """Writes the model directory and returns the model with its version (the first 12 digits of its weights' sha256).

    Args:
        path: the directory; an older model there is replaced in one rename, or not at all.
        force: replace what is there even if it is no model.
        page: HTML for people, kept beside; nothing reads it.

    Raises:
        UserError: `path` is a file, a directory that is not a model, or one with files besides the model's.
        MachineError: the disk is full or not writable; what was at `path` is still there.
    """
    require_posix()
    if not isinstance(path, str | os.PathLike):
        raise UserError("the path of a directory", f"{path!r:.60}", where="save", code=Code.BAD_PATH)
    target = Path(path).absolute()
    _recover(target)
    check_directory(target, MODEL, force)
    kept = {} if model.histories is None else model.histories.saved()
    contents = {**_contents(model, target), **kept, **model.checkpoint}
    contents |= {} if page is None else {PAGE: page.encode("utf-8", "replace")}
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    model = model.with_provenance(version=digests["weights.safetensors"][:12])
    manifest = {
        "format": FORMAT, "qurate": qurate.__version__, "torch": torch.__version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "algorithm": model.algorithm, "version": model.version, "dataset_sha256": model.provenance.dataset_sha256,
        "files": {name: {"sha256": digests[name], "bytes": len(data)} for name, data in contents.items()},
        "golden": golden_answers(model),
    }  # fmt: skip
    try:
        with replacing_directory(target) as beside:
            for name, data in {**contents, "manifest.json": _json(manifest)}.items():
                write_file(beside / name, data)
    except OSError as error:
        raise MachineError(
            "room and permission to write", str(error), where=str(target), hint="nothing was replaced", code=Code.CANNOT_WRITE
        ) from None
    return model


def _recover(target: Path) -> None:
    if recover_directory(target):
        print(f"note: {target} is the model from before a save that was cut short", file=sys.stderr)


def _contents(model: ModelParts, target: Path) -> dict[str, bytes]:
    p, a, ranker = model.provenance, model.answering, model.ranker.saved()
    arrays: dict[str, NDArray[Any]] = {RANKER + name: np.ascontiguousarray(value) for name, value in ranker.arrays.items()}
    if model.lists is not None:
        arrays |= {LISTS + name: value for name, value in model.lists.saved().items()}
    arrays |= {"popularity": a.popularity, "since": model.availability.since, "until": model.availability.until}
    config = {
        "algorithm": p.algorithm, "settings": flat(p.settings), "ranker": ranker.config, "kind": p.kind, "environment": p.environment,
        "dataset": p.dataset, "dataset_from_here": None if p.dataset is None else os.path.relpath(p.dataset, target), "tau_s": p.tau_s,
        "user_dim": a.user_dim, "shown_in_history": a.shown_in_history, "supports_cold_start": a.supports_cold_start,
        "exclude": a.exclude, "exclude_reason": a.exclude_reason,
    }  # fmt: skip
    rewards = {"components": a.components, "weights": [float(w) for w in a.weights], "rewards": a.rewards}
    return {
        "config.json": _json(config),
        # the name makes versions of algorithms differ that have no weights of their own
        "weights.safetensors": save_arrays(arrays, metadata={"algorithm": p.algorithm}),
        "vocabulary.json": _json(a.vocabulary.to_json()), "features.json": _json({"items": a.item_spec, "users": a.user_spec}),
        "rewards.json": _json(rewards), "metrics.json": _json(p.metrics),
    }  # fmt: skip


class _Contents(NamedTuple):
    """What the files of a directory say, before it is known whether they belong together."""

    config: dict[str, Any]
    vocabulary: Vocabulary
    features: dict[str, Any]
    rewards: dict[str, Any]
    metrics: dict[str, Any]
    arrays: dict[str, NDArray[Any]]


def read_model(path: str | Path) -> ModelParts:
    """See `qurate.load`."""
    source = Path(path)
    _recover(source.absolute())
    manifest = read_manifest(source)
    kept = [name for name in (EVENTS, USERS, ITEMS) if name in manifest["files"]]
    data = {name: read_checked(source, name, manifest) for name in (*FILES, *kept)}
    versions = f"saved with qurate {manifest['qurate']}, torch {manifest['torch']}; here {qurate.__version__}, {torch.__version__}"
    try:
        config, features, rewards, metrics = (
            json.loads(data[name]) for name in ("config.json", "features.json", "rewards.json", "metrics.json")
        )
        vocabulary = Vocabulary.from_json(json.loads(data["vocabulary.json"]))
        contents = _Contents(config, vocabulary, features, rewards, metrics, load_arrays(data["weights.safetensors"]))
        _fit_together(contents)
        model = _model(contents, manifest, source)
        model = replace(model, histories=_histories(data, model) if kept else None)
        golden = golden_answers(model)
    except (
        KeyError,
        TypeError,
        ValueError,
        IndexError,
        RuntimeError,
        msgspec.ValidationError,
        SafetensorError,
        pl.exceptions.PolarsError,
    ) as error:
        # torch names every tensor of a network that was built otherwise, over many lines
        got = "the weights of another network" if isinstance(error, RuntimeError) else f"{type(error).__name__}: {error}"
        raise UserError(
            "a model of this version of qurate", got, where=str(source), hint=f"train it again ({versions})", code=Code.BAD_MODEL
        ) from None
    if golden != manifest["golden"]:
        raise UserError(
            "the answers recorded in the manifest", "other answers", where=str(source), hint=versions, code=Code.GOLDEN_MISMATCH
        )
    return model


def _ranker(config: dict[str, Any], arrays: dict[str, NDArray[Any]], settings: Settings, sizes: Sizes) -> Ranker:
    if config["kind"] == "task":
        return load_task_ranker(config["ranker"], arrays, settings)
    saved = SavedRanker(config["ranker"], arrays)
    return load_baseline_ranker(saved) if config["algorithm"] in FITTED else load_network_ranker(saved, settings, sizes)


def _model(contents: _Contents, manifest: dict[str, Any], source: Path) -> ModelParts:
    config, vocabulary, features, rewards, metrics, arrays = contents
    settings = from_flat(config["settings"])
    own = {name.removeprefix(RANKER): value for name, value in arrays.items() if name.startswith(RANKER)}
    lists = {name.removeprefix(LISTS): value for name, value in arrays.items() if name.startswith(LISTS)}
    sizes = Sizes(vocabulary.n_types, config["user_dim"], len(rewards["components"]))
    return ModelParts(
        ranker=_ranker(config, own, settings, sizes),
        availability=Availability(arrays["since"], arrays["until"]),
        lists=LiveLists.from_saved(lists, vocabulary.n_items) if lists else None,
        provenance=Provenance(
            algorithm=config["algorithm"],
            settings=settings,
            kind=config["kind"],
            environment=config["environment"],
            dataset=_dataset_place(config, source),
            dataset_sha256=manifest["dataset_sha256"],
            tau_s=config["tau_s"],
            metrics=metrics,
            version=manifest["version"],
        ),
        answering=Answering(
            vocabulary=vocabulary,
            components=rewards["components"],
            weights=np.asarray(rewards["weights"], np.float32),
            popularity=arrays["popularity"],
            user_dim=config["user_dim"],
            rewards=rewards["rewards"],
            item_spec=features["items"],
            user_spec=features["users"],
            shown_in_history=config["shown_in_history"],
            supports_cold_start=config["supports_cold_start"],
            exclude=config.get("exclude", "none"),
            exclude_reason=config.get("exclude_reason", ""),
        ),
    )


def _histories(data: dict[str, bytes], model: ModelParts) -> Histories:
    """
    Raises:
        ValueError: the histories of another model.
    """
    past = Histories.from_saved(data, model.user_spec)
    most = (int(past.arrays.item.max(initial=0)), int(past.arrays.type.max(initial=0)), past.items.height)
    known = (len(model.vocabulary.items), model.vocabulary.n_types, len(model.vocabulary.items))
    if most[0] > known[0] or most[1] > known[1] or most[2] != known[2] or past.user_features.shape[1] != model.user_dim:
        raise ValueError(f"histories of {most[2]} items and {most[1]} types, a model of {known[0]} and {known[1]}")
    return past


def _dataset_place(config: dict[str, Any], source: Path) -> str | None:
    """Where the training dataset is: where it was, or as far from the model as it was, for both may have moved together."""
    there: str | None = config["dataset"]
    from_here = config.get("dataset_from_here")
    if there is None or from_here is None or Path(there).is_dir():
        return there
    beside = os.path.abspath(source / from_here)
    return beside if Path(beside).is_dir() else there


def _fit_together(contents: _Contents) -> None:
    """
    Raises:
        ValueError: vocabulary, features, rewards and weights are of different models.
    """
    config, vocabulary, features, rewards, _, arrays = contents
    rows = len(vocabulary.items) + 1
    sizes = {name: (len(arrays[name]), rows) for name in ("popularity", "since", "until")}
    sizes["rewards"] = (len(rewards["weights"]), len(rewards["components"]))
    table = arrays.get(f"{RANKER}item_features")
    if table is not None:
        sizes["items"] = (len(table), rows)
    if config["environment"] is None:
        sizes["user features"] = (len(feature_names(features["users"])), config["user_dim"])
        if table is not None:
            sizes["item features"] = (len(feature_names(features["items"])), table.shape[1])
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
        got = "a dataset" if (source / DATASET).is_file() else f"no {path.name} there"
        raise UserError("a model directory", got, where=str(source), hint="train one with `qurate train`", code=Code.NOT_A_MODEL)
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
