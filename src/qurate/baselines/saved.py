"""A fitted baseline as numbers and arrays, and back: what a model directory keeps of it."""

from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qurate.baselines.bandit import BanditScorer
from qurate.baselines.content import ContentScorer
from qurate.baselines.ease import EaseScorer
from qurate.baselines.factors import AlsScorer, BprScorer
from qurate.baselines.neighbours import FrequentScorer, ItemKnnScorer, RecentScorer, SessionKnnScorer
from qurate.baselines.registry import ChanceScorer, ItemScorer, ShownOrderScorer
from qurate.choosing.policy import FirstThen
from qurate.types import Scorer

SCORERS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        AlsScorer,
        BanditScorer,
        BprScorer,
        ChanceScorer,
        ContentScorer,
        EaseScorer,
        FirstThen,
        FrequentScorer,
        ItemKnnScorer,
        ItemScorer,
        RecentScorer,
        SessionKnnScorer,
        ShownOrderScorer,
    )
}
"""Every one is a dataclass whose fields are arrays, numbers, names and other scorers."""


def scorer_to_saved(scorer: Scorer) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The JSON-able fields of a scorer, and its arrays by name; those of a scorer inside are prefixed with its field's name."""
    config: dict[str, Any] = {"scorer": type(scorer).__name__}
    arrays: dict[str, NDArray[Any]] = {}
    for field in fields(SCORERS[config["scorer"]]):
        if not field.init:
            continue
        value = getattr(scorer, field.name)
        if isinstance(value, np.ndarray):
            arrays[field.name] = value
        elif type(value).__name__ in SCORERS:
            config[field.name], inner = scorer_to_saved(value)
            arrays |= {f"{field.name}.{name}": array for name, array in inner.items()}
        else:
            config[field.name] = value
    return config, arrays


def scorer_from_saved(config: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Scorer:
    """The inverse of `scorer_to_saved`.

    Raises:
        KeyError, TypeError: a scorer or a field that this version does not have.
    """
    given: dict[str, Any] = {name: array for name, array in arrays.items() if "." not in name}
    for name, value in config.items():
        if isinstance(value, dict):
            inner = {key.removeprefix(f"{name}."): array for key, array in arrays.items() if key.startswith(f"{name}.")}
            given[name] = scorer_from_saved(value, inner)
        elif name != "scorer":
            given[name] = value
    scorer: Scorer = SCORERS[config["scorer"]](**given)
    return scorer
