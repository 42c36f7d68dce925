"""Says of a model that it gives every item the same score: of a training in which nothing told the items apart."""

import logging

import numpy as np

from qurate.evaluation.ranking import observations
from qurate.mdp.storage import Dataset
from qurate.models.network_ranker import NetworkRanker
from qurate.types import IntArray

log = logging.getLogger("qurate.training")

SOME = 8
"""Decisions that are looked at."""


def say_equal_scores(ranker: NetworkRanker, dataset: Dataset, index: IntArray, window: int) -> None:
    """A warning where, in each of a few decisions of transitions `index`, all items that could be shown have the same score."""
    rows, several = index[:: max(len(index) // SOME, 1)][:SOME], False
    for _, observation in observations(dataset, rows, window):
        scores, open_ = ranker.scores(observation), observation.actions.mask > 0
        high, low = np.where(open_, scores, -np.inf).max(1), np.where(open_, scores, np.inf).min(1)
        if np.any(high > low):
            return
        several |= bool((open_.sum(1) > 1).any())
    if several:
        hint = "give features of the items (--items), say --set id_embedding=true, or train for longer"
        log.warning("note: the model gives every item the same score, for nothing that it has learned tells them apart; %s", hint)
