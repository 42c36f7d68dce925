"""A training run as files: learner, generators and counters, so that a resumed run equals an uninterrupted one."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from qurate.learning.learner import Learner

TENSORS, STATE, REPLAY = "checkpoint/optimiser.safetensors", "checkpoint/state.json", "checkpoint/replay.safetensors"
PARTS = ("network", "target", "ema", "rows")
"""Of the learner's state, those that are tensors by name."""

Arrays = dict[str, NDArray[Any]]


def to_files(
    learner: Learner, rng: np.random.Generator, progress: dict[str, Any], arrays: Mapping[str, NDArray[Any]] | None = None
) -> dict[str, bytes]:
    """File name -> content.

    Args:
        learner: networks, optimiser, generator and counters.
        rng: draws the batches, and explores.
        progress: JSON-able: steps done and what else the caller wants back.
        arrays: replay and simulated world, where a log does not hold them.
    """
    state = learner.state()
    tensors = {f"{part}.{name}": value for part in PARTS for name, value in state[part].items()}
    for index, slots in state["optimiser"]["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in slots.items()}
    tensors["generator"] = state["generator"]
    meta = {
        "updates": state["updates"],
        "largest_reward": state["largest_reward"],
        "groups": state["optimiser"]["param_groups"],
        "rng": rng.bit_generator.state,
        "progress": progress,
    }
    files = {TENSORS: save_tensors({k: v.contiguous().clone() for k, v in tensors.items()}), STATE: json.dumps(meta).encode()}
    return files if arrays is None else files | {REPLAY: save_arrays({k: np.array(v, order="C") for k, v in arrays.items()})}


def from_files(learner: Learner, rng: np.random.Generator, files: Mapping[str, bytes]) -> dict[str, Any]:
    """Puts learner and generator back to where `to_files` saw them; returns `progress`.

    Raises:
        KeyError, RuntimeError, ValueError: the files belong to another network.
    """
    loaded, meta = load_tensors(files[TENSORS]), json.loads(files[STATE])
    parts: dict[str, Any] = {part: {} for part in PARTS}
    slots: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in loaded.items():
        part, _, rest = name.partition(".")
        if part in parts:
            parts[part][rest] = value
        elif part == "optimiser":
            index, _, slot = rest.partition(".")
            slots.setdefault(int(index), {})[slot] = value
    optimiser = {"state": slots, "param_groups": meta["groups"]}
    counters = {"updates": meta["updates"], "largest_reward": meta.get("largest_reward", 0.0)}  # older checkpoints have no such reward
    learner.load_state({**parts, "optimiser": optimiser, "generator": loaded["generator"], **counters})
    rng.bit_generator.state = meta["rng"]
    return dict(meta["progress"])


def arrays_of(parts: Mapping[str, Any]) -> Arrays:
    """The arrays of all parts that have a state, by `part.array`."""
    return {f"{name}.{key}": array for name, part in parts.items() if hasattr(part, "state") for key, array in part.state().items()}


def restore_parts(parts: Mapping[str, Any], arrays: Arrays) -> dict[str, Any]:
    """Puts each part back to what `arrays_of` saw; what each `restore` returned, by part."""
    out = {}
    for name, part in parts.items():
        own = {key.removeprefix(f"{name}."): array for key, array in arrays.items() if key.startswith(f"{name}.")}
        if hasattr(part, "restore"):
            out[name] = part.restore(own)
    return out


def read_progress(files: Mapping[str, bytes]) -> dict[str, Any]:
    """Only the `progress` of a checkpoint."""
    return dict(json.loads(files[STATE])["progress"])


def read_arrays(files: Mapping[str, bytes]) -> Arrays:
    """Only the `arrays` of a checkpoint."""
    return dict(load_arrays(files[REPLAY]))
