"""The table of algorithms: each row is an objective and the settings that make the algorithm of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any

import msgspec

from qurate.algorithms.distributional import c51, quantile_regression
from qurate.algorithms.dqn import dqn
from qurate.algorithms.iql import behaviour_cloning, iql
from qurate.algorithms.munchausen import munchausen
from qurate.algorithms.objective import Objective
from qurate.algorithms.slateq import slateq
from qurate.algorithms.tabular import q_learning, sarsa
from qurate.errors import Code, UserError, nearest
from qurate.settings import (
    EXTRAS,
    CategoricalSettings,
    ConservativeSettings,
    ExplorationSettings,
    ImplicitSettings,
    LearningSettings,
    MunchausenSettings,
    NetworkSettings,
    OfflineSettings,
    QuantileSettings,
    ReplaySettings,
    Settings,
    SlateSettings,
    TableSettings,
    from_flat,
    parse_leaves,
)

DEEP = (NetworkSettings, LearningSettings, OfflineSettings, ReplaySettings, ExplorationSettings)
TABULAR = (LearningSettings, ReplaySettings, ExplorationSettings, TableSettings)
FROM_LOGS = (NetworkSettings, LearningSettings, OfflineSettings, ReplaySettings)
ONLINE_ONLY = ("replay_capacity", "update_every")
"""Settings of the replay that a log does not have."""
CLONING: dict[str, Any] = {"form": "single", "gamma": 0.0, "support_threshold": 0.0, "aux_weight": 1.0, "negatives": 0}
NO_VALUES = (
    *ONLINE_ONLY, "head", "form", "gamma", "n_step", "target_period", "target_tau", "loss", "later_weight", "double",
    "support_threshold", "aux_weight", "negatives", "prioritised", "priority_alpha", "priority_beta",
)  # fmt: skip
"""What learning to choose as the log does has no use for."""
NEXT_ITEM: dict[str, Any] = CLONING | {"history_terms": False, "behaviour_head": "views", "calibrate": False}
"""A sequence model as published: items are ranked by the product of their vectors with the encoder's output alone."""
TABLE: dict[str, Any] = {
    "lr": 0.1, "n_step": 1, "target_tau": 1.0, "ema": 0.0, "batch_size": 64, "form": "single", "aux_weight": 0.0, "negatives": 0,
}  # fmt: skip
"""A table's target is the table itself, and what is kept is its last state."""
NO_NETWORK = ("loss", "later_weight", "double", "adam_eps", "item_updates")
"""What a table, moved by lr times its errors, has no use for."""
SLATES: dict[str, Any] = {
    "form": "single", "gamma": 0.99, "lr": 2e-3, "n_step": 5, "target_tau": 0.05, "window": 8, "id_dropout": 0.0, "update_every": 32,
    "epsilon_steps": 50_000, "negatives": 0, "support_threshold": 0.0,
}  # fmt: skip
"""Visits of a hundred decisions and more, whose end is what a bad item brings nearer: far-reaching returns, which one-step targets
carry back too slowly, and few updates per decision."""
CATALOGUE_ONLY = (
    "encoder", "window", "embedding_dim", "form", "id_embedding", "id_dropout", "later_weight", "support_threshold", "aux_weight",
    "negatives", "behaviour_head", "history_terms", "calibrate", "lr_schedule", "passes", "clocks", "clocks_late",
    "item_updates", "candidate_features", "table_states", "table_history",
)  # fmt: skip
"""Settings of networks and tables over a catalogue; a Gymnasium task has none."""
OF_TASKS = ("lanes", "warm_up", "reward_clip", "life_ends", "filters")
"""Settings that a dataset does not read; worlds read the first three."""
OF_ACTING = (*ExplorationSettings.__struct_fields__, *ONLINE_ONLY)
"""Settings of a learner that acts while it learns; a log has been acted already."""
OF_LOGS = ("lr_schedule", "passes", "calibrate", "clocks", "clocks_late")
"""Settings that only training from a log reads."""
OF_BEHAVIOUR = ("behaviour_head", "support_threshold", "aux_weight", "negatives")
"""Settings of what a log shows; a network that begins in a world has no behaviour head, and an organic log's negatives are none of its."""
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
        from_logs: it learns from a log only.
        ranks_by: the score that decides what is shown (`models.ranker.RankingScore`); None = by the kind of log.
        rankings: the scores that its network has; empty = all that its heads give.
        needs_behaviour: it means nothing without the behaviour head.
        slates: it learns from slates of several items shown at once, in a simulated world; the others from one item a decision.
        made_by: the setting without which it would be dqn.
    """

    objective: Callable[..., Any]
    settings: dict[str, Any] = field(default_factory=dict)
    parts: tuple[type, ...] = DEEP
    unused: tuple[str, ...] = ()
    needs_next_action: bool = False
    source: str = ""
    from_logs: bool = False
    ranks_by: str | None = None
    rankings: tuple[str, ...] = ()
    needs_behaviour: bool = False
    slates: bool = False
    made_by: str = ""


# fmt: off
ALGORITHMS: dict[str, Algorithm] = {
    "dqn": Algorithm(dqn, source="Mnih et al. 2015, doi:10.1038/nature14236"),
    "double_dqn": Algorithm(dqn, {"double": True}, made_by="double", source="van Hasselt et al. 2016, arXiv:1509.06461"),
    "nstep_dqn": Algorithm(dqn, {"n_step": 3}, made_by="n_step", source="Sutton 1988; Hessel et al. 2018, arXiv:1710.02298"),
    "dueling_dqn": Algorithm(dqn, {"head": "dueling", "form": "single"}, made_by="head", source="Wang et al. 2016, arXiv:1511.06581"),
    "noisy_dqn": Algorithm(dqn, {"noisy": True}, made_by="noisy", source="Fortunato et al. 2018, arXiv:1706.10295"),
    "per_dqn": Algorithm(dqn, {"prioritised": True}, made_by="prioritised", source="Schaul et al. 2016, arXiv:1511.05952"),
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
        q_learning, TABLE, TABULAR, unused=NO_NETWORK,
        source="Watkins 1989; Watkins and Dayan 1992, doi:10.1007/BF00992698",
    ),
    "sarsa": Algorithm(
        sarsa, TABLE | {"replay_capacity": 2_000}, TABULAR, unused=NO_NETWORK, needs_next_action=True,
        source="Rummery and Niranjan 1994, CUED/F-INFENG/TR 166",
    ),
    "bc": Algorithm(
        behaviour_cloning, CLONING, FROM_LOGS, unused=NO_VALUES, from_logs=True, ranks_by="behaviour", rankings=("behaviour",),
        needs_behaviour=True, source="Pomerleau 1991, doi:10.1162/neco.1991.3.1.88",
    ),
    "gru4rec": Algorithm(
        behaviour_cloning, NEXT_ITEM | {"encoder": "gru"}, FROM_LOGS, unused=(*NO_VALUES, "encoder"), from_logs=True,
        ranks_by="behaviour", rankings=("behaviour",), needs_behaviour=True, source="Hidasi et al. 2016, arXiv:1511.06939",
    ),
    "sasrec": Algorithm(
        behaviour_cloning, NEXT_ITEM | {"encoder": "transformer"}, FROM_LOGS, unused=(*NO_VALUES, "encoder"), from_logs=True,
        ranks_by="behaviour", rankings=("behaviour",), needs_behaviour=True, source="Kang and McAuley 2018, arXiv:1808.09781",
    ),
    "bcq": Algorithm(
        dqn, {"double": True, "negatives": 0, "aux_weight": 1.0, "form": "single"}, FROM_LOGS,
        unused=(*ONLINE_ONLY, "double", "negatives"),
        from_logs=True, ranks_by="q_in_support", needs_behaviour=True, source="Fujimoto et al. 2019, arXiv:1910.01708",
    ),
    "sqn": Algorithm(
        dqn, {"double": True, "negatives": 0, "aux_weight": 1.0, "support_threshold": 0.0, "form": "single"}, FROM_LOGS,
        unused=(*ONLINE_ONLY, "negatives"),
        from_logs=True, ranks_by="behaviour", needs_behaviour=True, source="Xin et al. 2020, arXiv:2006.05779",
    ),
    "cql": Algorithm(
        dqn, {"negatives": 0, "aux_weight": 0.0, "support_threshold": 0.0, "calibrate": False, "form": "single"},
        (*FROM_LOGS, ConservativeSettings),
        unused=(*ONLINE_ONLY, "negatives", "aux_weight", "support_threshold", "behaviour_head", "calibrate"),
        from_logs=True, ranks_by="q", source="Kumar et al. 2020, arXiv:2006.04779",
    ),
    "iql": Algorithm(
        iql, {"negatives": 0, "aux_weight": 1.0, "support_threshold": 0.0, "calibrate": False, "form": "single"},
        (*FROM_LOGS, ImplicitSettings),
        unused=(*ONLINE_ONLY, "negatives", "support_threshold", "double", "calibrate"),
        from_logs=True, ranks_by="policy", rankings=("q", "policy"), needs_behaviour=True, source="Kostrikov et al. 2021, arXiv:2110.06169",
    ),
    "slateq": Algorithm(
        slateq, SLATES, (*DEEP, SlateSettings),
        unused=(
            "head", "form", "later_weight", "double", "negatives", "support_threshold", "candidate_features", "behaviour_head",
            "calibrate", "clocks", "clocks_late", "lr_schedule", "passes", "slate_size", "id_embedding", "history_terms",
            "item_updates",
        ),
        slates=True, source="Ie et al. 2019, arXiv:1905.12767",
    ),
    "myopic": Algorithm(dqn, {"gamma": 0.0}, made_by="gamma", source="the baseline: same network, data and tuning, no tomorrow"),
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
    extra = {leaf: field.default for part in row.parts if part in EXTRAS for leaf, field in _fields(part)}
    own = parse_leaves(given, leaves, name)
    noise = own.get("noisy", row.settings.get("noisy", False))
    quiet = {leaf: 0.0 for leaf in ("epsilon_start", "epsilon_end") if noise}  # the noise explores
    settings = from_flat(extra | dict(defaults) | row.settings | quiet | own)
    kind = settings.algorithm
    if isinstance(kind, CategoricalSettings) and kind.v_min >= kind.v_max:
        got, hint = f"{kind.v_min:g} and {kind.v_max:g}", "they are the smallest and the largest return"
        raise UserError("v_min below v_max", got, where="--set v_min", hint=hint, code=Code.BAD_SETTING)
    _check_name(name, row, own)
    _check_head(name, settings)
    if settings.network.noisy and settings.network.form == "linear_later":
        hint = "its values are no layers that noise could move: leave one of them out"
        raise UserError("no noisy=true with form=linear_later", name, where="--set noisy", hint=hint, code=Code.BAD_SETTING)
    if row.needs_behaviour and settings.offline.aux_weight == 0:
        hint = f"{name} learns what the log shows by that head"
        raise UserError(f"a behaviour head for {name}", "aux_weight=0", where="--set aux_weight", hint=hint, code=Code.BAD_SETTING)
    if row.ranks_by == "q_in_support" and settings.offline.support_threshold == 0:
        hint = "without it, it would be double_dqn"
        raise UserError(f"a support for {name}", "support_threshold=0", where="--set support_threshold", hint=hint, code=Code.BAD_SETTING)
    return settings


def _check_name(name: str, row: Algorithm, own: Mapping[str, Any]) -> None:
    """
    Raises:
        UserError: `own` takes away what the name says.
    """
    leaf = row.made_by
    if leaf in own and (own[leaf] < 2 if leaf == "n_step" else own[leaf] != row.settings[leaf]):
        expected = "an n_step of at least 2" if leaf == "n_step" else f"{leaf}={str(row.settings[leaf]).lower()}"
        got, where = f"{leaf}={str(own[leaf]).lower()}", f"--set {leaf}"
        raise UserError(f"{expected} with {name}", got, where=where, hint="with another it is --algorithm dqn", code=Code.BAD_SETTING)


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
    if name == "iqn" and isinstance(kind, QuantileSettings) and kind.cosines == 0:
        hint = "with fixed fractions it is --algorithm qr_dqn"
        raise UserError("at least one cosine with iqn", "cosines=0", where="--set cosines", hint=hint, code=Code.BAD_SETTING)


def _fields(part: type) -> list[tuple[str, Any]]:
    return [(field.name, field) for field in msgspec.structs.fields(part)]


def learns_values(name: str) -> bool:
    """Whether it learns from rewards at all."""
    rankings = find_algorithm(name).rankings
    return not rankings or "q" in rankings


def make_objective(name: str, settings: Settings, organic: bool = False) -> Objective:
    """The objective of an algorithm, with its settings bound."""
    return partial(find_algorithm(name).objective, settings=settings, organic=organic)
