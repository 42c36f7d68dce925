"""The family as a table: an algorithm is an objective and the settings that make it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any

import msgspec

from qurate.algorithms.distributional import c51, quantile_regression
from qurate.algorithms.dqn import dqn
from qurate.algorithms.munchausen import munchausen
from qurate.algorithms.objective import Objective
from qurate.algorithms.tabular import q_learning, sarsa
from qurate.errors import Code, UserError, nearest
from qurate.settings import (
    OWN,
    CategoricalSettings,
    ExplorationSettings,
    LearningSettings,
    MunchausenSettings,
    NetworkSettings,
    OfflineSettings,
    QuantileSettings,
    ReplaySettings,
    Settings,
    TableSettings,
    from_flat,
    parse_leaves,
)

DEEP = (NetworkSettings, LearningSettings, OfflineSettings, ReplaySettings, ExplorationSettings)
TABULAR = (LearningSettings, ReplaySettings, ExplorationSettings, TableSettings)
TABLE: dict[str, Any] = {
    "lr": 0.1, "n_step": 1, "target_tau": 1.0, "ema": 0.0, "batch_size": 64, "form": "single", "aux_weight": 0.0, "negatives": 0,
}  # fmt: skip
"""A table's target is the table itself, and what is kept is its last state."""
CATALOGUE_ONLY = (
    "encoder", "window", "embedding_dim", "form", "id_embedding", "id_dropout", "later_weight", "support_threshold", "aux_weight",
    "negatives", "behaviour_head", "calibrate", "lr_schedule", "passes", "clocks", "clocks_late",
)  # fmt: skip
"""Settings of networks over a catalogue; a Gymnasium task has none."""
ONE_HEAD = ("form", "loss", "later_weight", "negatives")
"""What a distribution of returns does not have: parts, squared errors, and targets of items that nobody chose."""


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A row of the table.

    Attributes:
        objective: `f(networks, batch, rng, *, settings, organic) -> Loss`.
        settings: leaves that differ from the defaults.
        parts: which settings it has.
        unused: leaves of those parts that it does not read, so that nobody sets them in vain.
        needs_next_action: it learns from the action taken in the successor, which a log of lists does not have.
        source: the paper.
    """

    objective: Callable[..., Any]
    settings: dict[str, Any] = field(default_factory=dict)
    parts: tuple[type, ...] = DEEP
    unused: tuple[str, ...] = ()
    needs_next_action: bool = False
    source: str = ""


# fmt: off
ALGORITHMS: dict[str, Algorithm] = {
    "dqn": Algorithm(dqn, source="Mnih et al. 2015, doi:10.1038/nature14236"),
    "double_dqn": Algorithm(dqn, {"double": True}, source="van Hasselt et al. 2016, arXiv:1509.06461"),
    "nstep_dqn": Algorithm(dqn, {"n_step": 3}, source="Sutton 1988; Hessel et al. 2018, arXiv:1710.02298"),
    "dueling_dqn": Algorithm(dqn, {"head": "dueling", "form": "single"}, source="Wang et al. 2016, arXiv:1511.06581"),
    "noisy_dqn": Algorithm(dqn, {"noisy": True}, source="Fortunato et al. 2018, arXiv:1706.10295"),
    "per_dqn": Algorithm(dqn, {"prioritised": True}, source="Schaul et al. 2016, arXiv:1511.05952"),
    "c51": Algorithm(
        c51, {"head": "c51", "form": "single", "negatives": 0}, (*DEEP, CategoricalSettings),
        unused=ONE_HEAD, source="Bellemare et al. 2017, arXiv:1707.06887",
    ),
    "qr_dqn": Algorithm(
        quantile_regression, {"head": "qr", "form": "single", "negatives": 0}, (*DEEP, QuantileSettings),
        unused=(*ONE_HEAD, "target_quantiles", "policy_quantiles", "cosines"), source="Dabney et al. 2018, arXiv:1710.10044",
    ),
    "iqn": Algorithm(
        quantile_regression, {"head": "qr", "form": "single", "negatives": 0, "quantiles": 32, "cosines": 64}, (*DEEP, QuantileSettings),
        unused=ONE_HEAD, source="Dabney et al. 2018, arXiv:1806.06923",
    ),
    "rainbow": Algorithm(
        c51, {"head": "dueling", "form": "single", "negatives": 0, "double": True, "prioritised": True, "n_step": 3, "noisy": True},
        (*DEEP, CategoricalSettings), unused=ONE_HEAD, source="Hessel et al. 2018, arXiv:1710.02298",
    ),
    "munchausen": Algorithm(
        munchausen, {"form": "single", "negatives": 0, "n_step": 1, "double": False}, (*DEEP, MunchausenSettings),
        unused=("form", "later_weight", "negatives", "n_step", "double"), source="Vieillard et al. 2020, arXiv:2007.14430",
    ),
    "q_learning": Algorithm(
        q_learning, TABLE, TABULAR, unused=("loss", "later_weight", "double"),
        source="Watkins 1989; Watkins and Dayan 1992, doi:10.1007/BF00992698",
    ),
    "sarsa": Algorithm(
        sarsa, TABLE | {"replay_capacity": 2_000}, TABULAR, unused=("loss", "later_weight", "double"), needs_next_action=True,
        source="Rummery and Niranjan 1994, CUED/F-INFENG/TR 166",
    ),
    "myopic": Algorithm(dqn, {"gamma": 0.0}, source="the baseline: same network, data and tuning, no tomorrow"),
}
# fmt: on


def find_algorithm(name: str) -> Algorithm:
    """The row of this name.

    Raises:
        UserError: unknown name (the nearest known one is named).
    """
    if name not in ALGORITHMS:
        raise UserError("a known algorithm", name, where="--algorithm", hint=nearest(name, ALGORITHMS), code=Code.UNKNOWN_ALGORITHM)
    return ALGORITHMS[name]


def setting_names(name: str) -> set[str]:
    """The settings that an algorithm has."""
    row = find_algorithm(name)
    return {leaf for part in row.parts for leaf in part.__struct_fields__} - set(row.unused)  # type: ignore[attr-defined]


def algorithm_settings(
    name: str, given: dict[str, Any], defaults: Mapping[str, Any] = MappingProxyType({}), without: Sequence[str] = ()
) -> Settings:
    """The settings of an algorithm with what the user sets explicitly over them, and `defaults` under them.

    Args:
        without: leaves that mean nothing where it is to learn.

    Raises:
        UserError: an unknown algorithm or setting, a setting of another algorithm, or a value out of range.
    """
    row = find_algorithm(name)
    leaves = setting_names(name) - set(without)
    extra = {leaf: field.default for part in row.parts if part in OWN for leaf, field in _fields(part)}
    own = parse_leaves(given, leaves, name)
    noise = own.get("noisy", row.settings.get("noisy", False))
    quiet = {leaf: 0.0 for leaf in ("epsilon_start", "epsilon_end") if noise}  # the noise explores
    settings = from_flat(extra | dict(defaults) | row.settings | quiet | own)
    kind = settings.algorithm
    if isinstance(kind, CategoricalSettings) and kind.v_min >= kind.v_max:
        got, hint = f"{kind.v_min:g} and {kind.v_max:g}", "they are the smallest and the largest return"
        raise UserError("v_min below v_max", got, where="--set v_min", hint=hint, code=Code.BAD_SETTING)
    _check_head(name, settings)
    if settings.network.noisy and settings.network.form == "linear_later":
        hint = "its values are no layers that noise could move: leave one of them out"
        raise UserError("no noisy=true with form=linear_later", name, where="--set noisy", hint=hint, code=Code.BAD_SETTING)
    return settings


def _check_head(name: str, settings: Settings) -> None:
    """
    Raises:
        UserError: a head of another algorithm.
    """
    kind, head = settings.algorithm, settings.network.head
    plain = "c51" if isinstance(kind, CategoricalSettings) else "qr" if isinstance(kind, QuantileSettings) else "q"
    if head not in (plain, "dueling"):
        hint = {"c51": "--algorithm c51", "qr": "--algorithm qr_dqn", "q": "--algorithm dqn"}[head]
        raise UserError(f"head={plain} or head=dueling with {name}", head, where="--set head", hint=hint, code=Code.BAD_SETTING)


def _fields(part: type) -> list[tuple[str, Any]]:
    return [(field.name, field) for field in msgspec.structs.fields(part)]


def make_objective(name: str, settings: Settings, organic: bool = False) -> Objective:
    """The objective of an algorithm, with its settings bound."""
    return partial(find_algorithm(name).objective, settings=settings, organic=organic)
