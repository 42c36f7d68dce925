"""The family as a table: an algorithm is an objective and the settings that make it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from qurate.algorithms.dqn import dqn
from qurate.algorithms.objective import Objective
from qurate.errors import Code, UserError, nearest
from qurate.settings import (
    ExplorationSettings,
    LearningSettings,
    NetworkSettings,
    OfflineSettings,
    ReplaySettings,
    Settings,
    from_flat,
    parse_leaves,
)

DEEP = (NetworkSettings, LearningSettings, OfflineSettings, ReplaySettings, ExplorationSettings)


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A row of the table.

    Attributes:
        objective: `f(networks, batch, rng, *, settings, organic) -> Loss`.
        settings: leaves that differ from the defaults.
        parts: which settings it has.
        source: the paper.
    """

    objective: Callable[..., Any]
    settings: dict[str, Any] = field(default_factory=dict)
    parts: tuple[type, ...] = DEEP
    source: str = ""


ALGORITHMS: dict[str, Algorithm] = {
    "dqn": Algorithm(dqn, source="Mnih et al. 2015, doi:10.1038/nature14236"),
    "double_dqn": Algorithm(dqn, {"double": True}, source="van Hasselt et al. 2016, arXiv:1509.06461"),
    "nstep_dqn": Algorithm(dqn, {"n_step": 3}, source="Sutton 1988; Hessel et al. 2018, arXiv:1710.02298"),
    "myopic": Algorithm(dqn, {"gamma": 0.0}, source="the baseline: same network, data and tuning, no tomorrow"),
}


def find_algorithm(name: str) -> Algorithm:
    """The row of this name.

    Raises:
        UserError: unknown name (the nearest known one is named).
    """
    if name not in ALGORITHMS:
        raise UserError("a known algorithm", name, where="--algorithm", hint=nearest(name, ALGORITHMS), code=Code.UNKNOWN_ALGORITHM)
    return ALGORITHMS[name]


def algorithm_settings(name: str, given: dict[str, Any]) -> Settings:
    """The settings of an algorithm with what the user sets explicitly over them.

    Raises:
        UserError: an unknown algorithm or setting, a setting of another algorithm, or a value out of range.
    """
    row = find_algorithm(name)
    leaves = {leaf for part in row.parts for leaf in part.__struct_fields__}  # type: ignore[attr-defined]
    return from_flat(row.settings | parse_leaves(given, leaves, name))


def make_objective(name: str, settings: Settings, organic: bool = False) -> Objective:
    """The objective of an algorithm, with its settings bound."""
    return partial(find_algorithm(name).objective, settings=settings, organic=organic)
