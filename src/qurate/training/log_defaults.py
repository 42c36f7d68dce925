"""Defaults that follow the log: its kind and its size. docs/logs_of_choices.md says why.

They stand between the settings' own defaults and what an algorithm or a user sets.
"""

from typing import Any

import numpy as np

from qurate.algorithms.table import find_algorithm
from qurate.baselines.registry import FITTED
from qurate.mdp.storage import Dataset
from qurate.settings import EXTRAS, ConservativeSettings, ImplicitSettings, NetworkSettings, Settings
from qurate.training.clocked import may_have_lists, of_clocks, turns_over
from qurate.types import TRAIN

LARGE = 100_000
"""Training decisions from which batches are large: an update moves the whole item table, whatever its batch."""
TARGETS = 3_000_000
"""Training decisions seen over a whole run, where `PASSES` allow as many."""
PASSES = (1.0, 8.0)
LIST_PASSES = (1.0, 6.0)
CLOCK_TARGETS = 300_000
"""The same where candidates come with clocks: some thousand weights over some dozen features are soon fitted."""
SHOWN_OFTEN = 50
"""A free vector per item pays where an item was shown so many times in the mean."""
WINDOWS, REACH = (20, 50), 0.05
"""Rows of history in a state of a log of choices: the longer window costs twice the time, and is taken where so large a share more
of the training choices is found again in it, as with baskets of a grocery or the tracks of a library."""
UPDATES = (1_000, 20_000)
"""Without `steps`: at least and at most so many."""
SMALL_PASSES, FEWEST_UPDATES = 40, 100
"""The least of a log of choices makes no more passes than this: of some hundred choices a head learns each by heart. But it is so many
updates."""


def log_defaults(dataset: Dataset, algorithm: str, clocks: str = "auto") -> dict[str, Any]:
    """Leaf name -> value for a dataset of this kind and size; nothing where items were shown, or for what is no network.

    Args:
        clocks: what was asked for: on, off, or auto, which the log decides (`turns_over`).
    """
    if algorithm in FITTED or NetworkSettings not in find_algorithm(algorithm).parts:
        return {}
    if dataset.kind == "exposure" and len(dataset.transitions.candidates):
        # what ranks by the behaviour head alone tells items apart by their ids, or not at all
        ids = {"id_embedding": True} if find_algorithm(algorithm).ranks_by == "behaviour" else {}
        return _of_lists(dataset) | ids
    if not may_have_lists(dataset):
        return {}
    decisions = _train_decisions(dataset)
    usable = {*find_algorithm(algorithm).parts} & {*EXTRAS} <= {ConservativeSettings, ImplicitSettings}  # of candidate features
    if clocks == "on" or (clocks == "auto" and usable and turns_over(dataset)):
        return _of_clocks(int((of_clocks(dataset).split == TRAIN).sum()))
    if dataset.kind != "organic":
        return {}
    window = _window(dataset)
    targets = TARGETS * WINDOWS[0] / window  # what is seen over a run costs about as much with either
    return {
        "negatives": 0, "behaviour_head": "attention", "calibrate": True, "lr_schedule": "cosine", "ema": 0.99, "double": True,
        "target_period": 10, "target_tau": 0.1, "embedding_dim": 64, "window": window, "lr": 4e-3,
        "batch_size": 1_024 if decisions >= LARGE else 256,
        "passes": float(np.clip(round(targets / max(decisions, 1)), *PASSES)),
    }  # fmt: skip


def _window(dataset: Dataset) -> int:
    """The longer window where much of what is chosen was last met beyond the shorter one, else the shorter one."""
    t, events = dataset.transitions, dataset.arrays
    rows = np.arange(len(events.item))
    user = np.searchsorted(events.user_start, rows, side="right")
    order = np.lexsort((rows, events.item, user))
    again = (user[order][1:] == user[order][:-1]) & (events.item[order][1:] == events.item[order][:-1]) & (events.item[order][1:] > 0)
    since = np.zeros(len(rows), np.int64)  # rows since the customer's event before with the same item; 0: none
    since[order[1:][again]] = np.diff(order)[again]
    since = since[t.history_end[t.split == TRAIN]]  # the row that follows a history is what was chosen
    beyond = np.count_nonzero((since > WINDOWS[0]) & (since <= WINDOWS[1]))
    return WINDOWS[1] if beyond > REACH * max(len(since), 1) else WINDOWS[0]


def _of_clocks(decisions: int) -> dict[str, Any]:
    """Where the catalogue turns over, for so many decisions that train: a small network over features of the candidates, for ids of
    yesterday say nothing today."""
    passes = min(CLOCK_TARGETS / max(decisions, 1), LIST_PASSES[1])
    return {
        "clocks": "on", "negatives": 0, "id_embedding": False, "lr_schedule": "cosine", "ema": 0.99, "window": 20, "lr": 3e-3,
        "batch_size": 256, "passes": passes, "double": True, "target_period": 10, "target_tau": 0.1,
    }  # fmt: skip


def _of_lists(dataset: Dataset) -> dict[str, Any]:
    """Where lists were shown: features of the candidates carry the values, and ids only what was shown often enough to be known.

    Without ids nothing tells items apart beyond a list, so there is nothing that a behaviour head could learn.
    """
    t = dataset.transitions
    shown = int((t.split[t.state] == TRAIN).sum())
    often = shown >= SHOWN_OFTEN * len(np.unique(t.action))
    return {
        "gamma": 0.5, "aux_weight": float(often), "negatives": 0, "id_embedding": often, "lr_schedule": "cosine", "lr": 3e-3,
        "ema": 0.99, "window": 20, "batch_size": 1_024 if shown >= LARGE else 256,
        "passes": float(np.clip(round(TARGETS / max(shown, 1)), *LIST_PASSES)),
    }  # fmt: skip


def _train_decisions(dataset: Dataset) -> int:
    return int((dataset.transitions.split == TRAIN).sum())


def updates_of(settings: Settings, decisions: int, organic: bool = False) -> int:
    """Updates that make `passes` over so many training decisions, within limits; the horizon of the step size.

    Args:
        organic: whether customers chose from the catalogue.
    """
    passes, batch = settings.learning.passes, settings.learning.batch_size
    fewest, most = UPDATES
    if organic:
        fewest = min(fewest, max(SMALL_PASSES * decisions // batch, FEWEST_UPDATES))
    return int(np.clip(passes * decisions // batch, fewest, most))
