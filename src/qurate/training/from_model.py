"""`train DATASET --from MODEL`: a network that begins with the weights of a model of another catalogue, and what else is kept of it.

A layer that reads features or counts by event type is linear, so that its weights for the new dataset follow from the old
ones: W' = W A and b' = b + W c, where x = A x' + c is what the old network would have read where the new one reads x'.
Items, event types and reward components are matched by their names.
"""

import logging
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from qurate.baselines.registry import FITTED
from qurate.errors import Code, UserError
from qurate.events.features import Spec, described_features, feature_names
from qurate.mdp import candidate_features
from qurate.mdp.rewards import DEFAULT_REWARDS
from qurate.mdp.storage import Dataset
from qurate.models.model import Model
from qurate.models.network_ranker import NetworkRanker
from qurate.networks.build import inner_network
from qurate.networks.implicit_quantiles import ImplicitNetwork
from qurate.networks.linear_later import LinearLaterNetwork
from qurate.networks.table_network import TableNetwork
from qurate.networks.values import ValueNetwork
from qurate.settings import NetworkSettings, Settings, flat
from qurate.types import FloatArray

log = logging.getLogger("qurate.training")

CONTEXT_DIM = 2
WITHOUT_CARRYING = (TableNetwork, LinearLaterNetwork)
"""A table's rows are hashes, and a least-squares fit has no weights to begin with."""
Labels = Sequence[Hashable]


@dataclass(frozen=True)
class Names:
    """What the axes of a network's weights count."""

    items: Sequence[str]
    types: Sequence[str]
    components: Sequence[str]
    item_spec: Spec
    user_spec: Spec
    of_candidate: Sequence[str]

    @classmethod
    def of(cls, one: Model | Dataset, columns: Sequence[str] | None) -> "Names":
        """Those of a model or of a dataset, with the columns that it uses of each candidate at its decision (None: nothing)."""
        specs = (one.answering.item_spec, one.answering.user_spec) if isinstance(one, Model) else (one.item_spec, one.user_spec)
        types = one.vocabulary.types
        of_candidate = [] if columns is None else candidate_features.feature_names(columns, types)
        return cls(one.vocabulary.items, types, one.components, *specs, of_candidate)

    @property
    def views(self) -> Labels:
        """Of `networks.encoders.HistoryViews`."""
        return [*((kind, name) for kind in ("fast", "slow", "visit") for name in self.types), "value"]


def check_start(model: Model, algorithm: str, settings: Settings, kept: Mapping[str, Any], defaults: Settings) -> None:
    """Checks that training can begin with the model's network, and logs a note of the algorithm and settings that are kept.

    Args:
        kept: settings that are the model's.
        defaults: of the algorithm.

    Raises:
        UserError: no model of a log, or settings that ask for a network of another shape.
    """
    if model.kind in ("environment", "task"):
        got, hint = f"one of {model.environment}", "its items and features are those of a simulator"
        raise UserError("a model that was trained on a log", got, where="--from", hint=hint, code=Code.OTHER_ENVIRONMENT)
    usual = flat(defaults)
    said = ", ".join([model.algorithm, *(f"{name}={value}" for name, value in kept.items() if usual.get(name) != value)])
    if model.algorithm == algorithm:
        log.warning("note: algorithm and settings as in the model: %s", said)
    if algorithm in FITTED or model.algorithm in FITTED:
        return
    asked, own = settings.network, model.settings.network
    for name in ("hidden", "embedding_dim", "encoder", "head", "form", "id_embedding"):
        if getattr(asked, name) != getattr(own, name):
            got, hint = f"{name}={getattr(asked, name)}", f"leave it out, or train without --from (the model is of {model.algorithm})"
            raise UserError(f"the network of the model, {name}={getattr(own, name)}", got, where="--from", hint=hint, code=Code.BAD_SETTING)


def kept_settings(model: Model, algorithm: str, leaves: Collection[str], kind: str) -> dict[str, Any]:
    """The settings of a model that the algorithm has too.

    For another algorithm, or another kind of log, whose defaults are others, only the network's shape (and gamma) is kept.
    """
    own = flat(model.settings)
    if model.algorithm != algorithm:
        own = {name: own[name] for name in ("hidden", "embedding_dim", "encoder", "window") if name in own}
    elif model.kind != kind:
        own = {name: own[name] for name in (*NetworkSettings.__struct_fields__, "gamma") if name in own}
    return {name: value for name, value in own.items() if name in leaves}


def kept_weights(model: Model, dataset: Dataset) -> FloatArray:
    """The reward weights float32 [R] of a dataset, those of the model where none were chosen at `ingest`; logs a note of which."""
    stated = dataset.manifest["rewards"]
    defaults = {name: DEFAULT_REWARDS[name].to_json() for name in stated if name in DEFAULT_REWARDS}
    own = dict(zip(model.components, model.weights.tolist(), strict=True))
    if stated != defaults:
        differ = [f"{name} {w:g}" for name, w in zip(dataset.components, dataset.weights) if own.get(name) != w]
        if differ:
            log.warning("note: reward weights as given at ingest, not the model's: %s", ", ".join(differ))
        return dataset.weights
    weights = np.array([own.get(name, float(w)) for name, w in zip(dataset.components, dataset.weights)], np.float32)
    log.warning("note: reward weights as in the model: %s", ", ".join(f"{n} {w:g}" for n, w in zip(dataset.components, weights)))
    if new := [name for name in dataset.components if name not in own]:
        log.warning("note: the model has no weight for %s: the dataset's is used", ", ".join(new))
    if gone := [name for name in own if name not in dataset.components]:
        log.warning("note: the model has a weight for %s, which the dataset does not have", ", ".join(gone))
    return weights


def carry_weights(network: ValueNetwork, model: Model, dataset: Dataset, columns: Sequence[str] | None = None) -> None:
    """Copies the weights of the model into an untrained network of the dataset; what the model has no weight for begins at 0.

    Args:
        columns: what the network uses of each candidate at its decision (mdp/candidate_features.py), None = nothing.

    Raises:
        UserError: the model has no network, or one of another shape.
    """
    module, ranker = cast(nn.Module, network), model.ranker
    old, new = Names.of(model, ranker.columns if isinstance(ranker, NetworkRanker) else None), Names.of(dataset, columns)
    if not isinstance(ranker, NetworkRanker) or isinstance(module, WITHOUT_CARRYING) or isinstance(ranker.module, WITHOUT_CARRYING):
        log.warning("note: %s has no network whose weights fit another catalogue: only its settings and rewards are kept", model.algorithm)
        return
    source, target = inner_network(ranker.module), inner_network(module)
    state = source.state_dict()
    biases: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        for name, value in target.named_parameters():
            if name not in state:  # a part that the model does not have, such as a behaviour head
                if name == "tower.from_features.2.weight":  # the model knows no features: they count nothing at first
                    value.zero_()
                continue
            array = state[name].numpy()
            if array.ndim == 2:
                matrix, shift = _columns(name, array.shape[1], value.shape[1], old, new, (source, target))
                if shift.any() and name.endswith("weight"):  # noise has no shift
                    biases[name.removesuffix("weight") + "bias"] = torch.as_tensor(array @ shift)
                array = array if matrix is None else array @ matrix
            found = _rows(name, array, value.shape[0], old, new, (source, target), value.detach().numpy())
            if found.shape != tuple(value.shape):
                got, hint = f"{name} {found.shape} for {tuple(value.shape)}", "train without --from"
                raise UserError("a network of the same shape", got, where="--from", hint=hint, code=Code.BAD_SETTING)
            value.copy_(torch.as_tensor(found))
        for name, shift_of_bias in biases.items():
            bias = target.get_parameter(name)
            moved = _rows(name, shift_of_bias.numpy(), bias.shape[0], old, new, (source, target), np.zeros(bias.shape, np.float32))
            bias.add_(torch.as_tensor(moved))
        if isinstance(module, ImplicitNetwork) and isinstance(ranker.module, ImplicitNetwork):
            for mine, theirs in zip(module.embedding.parameters(), ranker.module.embedding.parameters(), strict=True):
                if mine.shape != theirs.shape:
                    got, hint = f"{tuple(theirs.shape)} for {tuple(mine.shape)}", "keep the model's cosines, or train without --from"
                    raise UserError("an embedding of the same shape", got, where="--from", hint=hint, code=Code.BAD_SETTING)
                mine.copy_(theirs)
    _say(old, new)


def _say(old: Names, new: Names) -> None:
    known = set(old.items)
    fresh = sum(item not in known for item in new.items)
    how = "from their features" if feature_names(new.item_spec) else "as the average item, for there are no features of items"
    log.warning(
        "note: %s of %s items begin as the model has them%s",
        f"{len(new.items) - fresh:,}",
        f"{len(new.items):,}",
        f", {fresh:,} new ones {how}" if fresh else "",
    )
    for what, one, other in (("items", old.item_spec, new.item_spec), ("users", old.user_spec, new.user_spec)):
        had, has = ([c["column"] for c in described_features(spec) if c["dimensions"]] if spec else [] for spec in (one, other))
        if gone := [name for name in had if name not in has]:
            log.warning("note: the model knows features of %s that the dataset does not have: %s", what, ", ".join(gone))
        if extra := [name for name in has if name not in had]:
            log.warning("note: features of %s that are new to the model count nothing at first: %s", what, ", ".join(extra))
    if new_types := [name for name in new.types if name not in old.types]:
        log.warning("note: event types that are new to the model count nothing at first: %s", ", ".join(new_types))


def _rows(
    name: str, array: NDArray[Any], n: int, old: Names, new: Names, networks: tuple[nn.Module, nn.Module], fresh: NDArray[Any]
) -> NDArray[Any]:
    """The weights with one row per row of the new network."""
    ours, theirs = (_row_labels(name, size, names, net) for size, names, net in zip((len(array), n), (old, new), networks))
    if ours is None or theirs is None:
        return array
    place = {label: i for i, label in enumerate(ours)}
    index = np.array([place.get(label, -1) for label in theirs], np.int64)
    missing = fresh if name == "views.scale" and fresh.shape[1:] == array.shape[1:] else np.zeros((n, *array.shape[1:]), array.dtype)
    return np.where((index >= 0).reshape(-1, *[1] * (array.ndim - 1)), array[np.maximum(index, 0)], missing).astype(np.float32)


def _row_labels(name: str, size: int, names: Names, network: nn.Module) -> Labels | None:
    """What each row of a parameter is of; None: the same in every network of this shape."""
    part = name.removeprefix("later_").removeprefix("state_")
    if name in ("tower.ids", "tower.id_bias"):
        return ["", *names.items]
    if name == "views.scale":
        return names.views
    if part.endswith("encoder.types.weight"):
        return ["", *names.types]
    if name == "choice.by_type":
        return names.types
    if name == "choice.by_place":
        return range(-size, 0)  # the newest event stands last, whatever the window
    components = _components(names, network)
    if name in ("match", "repeat"):
        return _heads(components, network)
    if name.startswith("candidate.kinds.") and ".4." in name:
        return components
    if name.startswith("tower.from_features.2."):
        heads = _heads(components, network)
        return [*range(size - len(heads)), *heads]
    if part.startswith(("value.", "direction.")):
        return [(one, i) for one in components for i in range(size // len(components))]
    return None


def _components(names: Names, network: nn.Module) -> Labels:
    """Reward components, or the atoms of a distribution."""
    n = cast(int, network.n_components)
    return list(names.components) if n == len(names.components) else list(range(n))


def _heads(components: Labels, network: nn.Module) -> Labels:
    times = ("now", "later") if network.form == "now_later" else ("later",)
    return [*((time, one) for time in times for one in components), *(["behaviour"] if network.behaviour is not None else [])]


def _columns(
    name: str, n_old: int, n_new: int, old: Names, new: Names, networks: tuple[nn.Module, nn.Module]
) -> tuple[NDArray[np.float32] | None, NDArray[np.float32]]:
    """A, float32 [n_old, n_new] (None: the identity), and c [n_old] of what a layer reads: x = A x' + c."""
    if name == "tower.from_features.0.weight":
        return features_as_before(old.item_spec, new.item_spec)
    if name.startswith(("candidate.kinds.", "candidate.choice.")) and name.endswith(".0.weight"):
        return _candidates_as_before(old, new, networks)
    part = name.removeprefix("later_").removeprefix("state_").removesuffix("_sigma")
    nothing = np.zeros(n_old, np.float32)
    if name in ("match", "repeat"):
        return _selected(old.views, new.views), nothing
    if name == "tower.id_bias":
        return _selected(*(_heads(_components(names, net), net) for names, net in zip((old, new), networks))), nothing
    if part not in ("encoder.layers.0.weight", "direction.weight", "behaviour.weight", "choice.of_state.weight"):
        return None, nothing
    users, shift = features_as_before(old.user_spec, new.user_spec)
    before, after = n_old - users.shape[0] - CONTEXT_DIM, n_new - users.shape[1] - CONTEXT_DIM
    first = np.eye(before, dtype=np.float32)
    if part.startswith("encoder") and hasattr(networks[0].encoder, "narrow"):  # sums of item vectors by view, then their weights
        widths = (before // len(old.views) - 1, after // len(new.views) - 1)
        labels = ([*((view, i) for view in n.views for i in range(w)), *n.views] for n, w in zip((old, new), widths))
        first = _selected(*labels)
    known = np.eye(CONTEXT_DIM, dtype=np.float32)
    return _diagonal([first, users, known]), np.concatenate([nothing[:before], shift, nothing[:CONTEXT_DIM]])


def _selected(old: Labels, new: Labels) -> NDArray[np.float32]:
    """A of columns that are the same ones in another order, or not there."""
    place = {label: i for i, label in enumerate(new)}
    out = np.zeros((len(old), len(new)), np.float32)
    for i, label in enumerate(old):
        if label in place:
            out[i, place[label]] = 1
    return out


def _candidates_as_before(old: Names, new: Names, networks: tuple[nn.Module, nn.Module]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A and c of the features of a candidate, which each network standardises by what it was trained on."""
    mean, later_mean = (net.get_buffer("candidate.mean").numpy() for net in networks)
    scale, later_scale = (net.get_buffer("candidate.scale").numpy() for net in networks)
    matrix, shift = _selected(old.of_candidate, new.of_candidate), np.zeros(len(old.of_candidate), np.float32)
    rows, columns = np.nonzero(matrix)
    varies = later_scale[columns] > 0
    matrix[rows, columns] = np.where(varies, scale[rows] / np.where(varies, later_scale[columns], 1), 0)
    shift[rows] = (later_mean[columns] - mean[rows]) * scale[rows]
    return matrix, shift


def _diagonal(blocks: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    out = np.zeros(tuple(np.sum([block.shape for block in blocks], axis=0)), np.float32)
    row = column = 0
    for block in blocks:
        out[row : row + block.shape[0], column : column + block.shape[1]] = block
        row, column = row + block.shape[0], column + block.shape[1]
    return out


def features_as_before(old: Spec, new: Spec) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A float32 [F, F'] and c [F]: features as an earlier spec encodes them from how a later one does, x = A x' + c.

    Numbers are standardised by other means and deviations (a missing one is 0 in both); what the later one does not have
    counts as missing.
    """
    names, theirs = (feature_names(spec) if spec else [] for spec in (old, new))
    matrix, shift = _selected(names, theirs), np.zeros(len(names), np.float32)
    at, there = ({name: i for i, name in enumerate(one)} for one in (names, theirs))
    scaled: Mapping[str, Spec] = {c["name"]: c for c in new.get("columns", []) if c["kind"] == "numeric"}
    have = {c["name"] for c in new.get("columns", [])}
    for column in old.get("columns", []):
        name, other = column["name"], scaled.get(column["name"])
        flag = f"{name}:missing"
        if name not in have and flag in at:
            shift[at[flag]] = 1.0
        if other is None or column["kind"] != "numeric":
            continue
        moved = (other["mean"] - column["mean"]) / column["std"]
        matrix[at[name], there[name]], shift[at[name]] = other["std"] / column["std"], moved
        if flag in there:
            matrix[at[name], there[flag]] = -moved
    return matrix, shift
