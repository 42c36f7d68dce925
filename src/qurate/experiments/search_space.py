"""What `tune` searches: a range for each setting, and which settings of an algorithm are searched."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from qurate.algorithms.table import ALGORITHMS, setting_names
from qurate.baselines.registry import FITTED
from qurate.errors import Code, UserError, nearest
from qurate.training.later_from_log import LINEAR
from qurate.training.unread import OF_BOOTSTRAPPING


class Range(NamedTuple):
    """From low to high, both included."""

    low: float
    high: float
    scale: Literal["linear", "log"] = "log"
    whole: bool = False


# fmt: off
NETWORK: dict[str, Range] = {
    "lr": Range(3e-4, 2e-2), "passes": Range(1, 12), "embedding_dim": Range(16, 128, whole=True), "hidden": Range(32, 192, whole=True),
    "window": Range(5, 60, whole=True), "id_dropout": Range(0, 0.5, "linear"), "gamma": Range(0, 0.95, "linear"),
    "support_threshold": Range(0, 0.6, "linear"), "cql_alpha": Range(0.05, 20), "expectile": Range(0.5, 0.95, "linear"),
    "inverse_temperature": Range(0.1, 20),
}
"""Of a network; a table has those of them that are its settings."""
HISTORY = {"window": Range(5, 60, whole=True), "decay": Range(0.4, 1, "linear")}
KNN = {**HISTORY, "neighbours": Range(20, 1_000, whole=True)}
OF_BASELINE: dict[str, dict[str, Range]] = {
    "popularity": {"half_life": Range(0.05, 400)},
    "item_knn": {**KNN, "shrink": Range(0.1, 200)},
    "session_knn": KNN,
    "recent": KNN,
    "frequent": {"window": Range(20, 200, whole=True), "decay": Range(0.9, 1, "linear")},
    "content": HISTORY,
    "ease": {**HISTORY, "regularisation": Range(1, 10_000)},
    "als": {
        **HISTORY, "regularisation": Range(1e-3, 100), "factors": Range(16, 192, whole=True), "confidence": Range(1, 200),
        "iterations": Range(5, 40, whole=True),
    },
    "bpr": {
        **HISTORY, "regularisation": Range(1e-4, 1), "factors": Range(16, 192, whole=True), "lr": Range(5e-3, 0.5),
        "iterations": Range(20, 300, whole=True),
    },
    "linucb": {"regularisation": Range(0.1, 1_000), "width": Range(1e-3, 2), "window": Range(5, 60, whole=True)},
    "thompson": {"regularisation": Range(0.1, 1_000), "window": Range(5, 60, whole=True)},
}
# fmt: on


def search_space(algorithm: str) -> dict[str, Range]:
    """The settings of an algorithm that are searched; empty where it has none.

    Raises:
        UserError: an unknown algorithm.
    """
    if algorithm in FITTED:
        return OF_BASELINE.get(algorithm, {})
    if algorithm not in ALGORITHMS:
        hint = nearest(algorithm, [*ALGORITHMS, *FITTED])
        raise UserError("a known algorithm", algorithm, where="--algorithm", hint=hint, code=Code.UNKNOWN_ALGORITHM)
    if ALGORITHMS[algorithm].slates:  # it learns in a world, and there is no dataset to tune it on
        return {}
    own = setting_names(algorithm) - {ALGORITHMS[algorithm].made_by}
    return {name: of for name, of in NETWORK.items() if name in own}


def on_log(space: Mapping[str, Range], algorithm: str, kind: str) -> dict[str, Range]:
    """The ranges that the form reads which the algorithm has by default on this kind of log."""
    linear = algorithm in LINEAR and kind == "logged"
    return {name: of for name, of in space.items() if not (linear and name in OF_BOOTSTRAPPING)}


def rounded(value: float, of: Range) -> Any:
    """A value of a range as it can be written in a command: three significant digits."""
    return round(value) if of.whole else float(f"{value:.3g}")
