"""Training where the catalogue turns over faster than a model is trained: shortlists with clocks (mdp/shortlists.py)."""

import logging
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from torch import nn

from qurate.algorithms.dqn import later_rows
from qurate.errors import Code, UserError
from qurate.mdp.clocks import ranked
from qurate.mdp.storage import Dataset
from qurate.networks.catalogue_network import CatalogueNetwork
from qurate.settings import Settings
from qurate.types import HISTORY, TRAIN, VALID, Availability, Transitions

log = logging.getLogger("qurate.training")

TURNOVER, FEWEST, OFTEN = 0.1, 1_000, 10
"""From this share of new items among what was chosen in the validation split on, a log gets shortlists with clocks; a log with fewer
such choices does not. New items count that had so many events before the decision."""
NEWEST = 1_000_000
"""Decisions that train: what is older says little of what is clicked now, and counts in the clocks all the same."""


def turnover(dataset: Dataset) -> float:
    """Share of the validation choices of items that were first seen after the training split and chosen `OFTEN` times before the clock.

    Of an item that is new because most items of a small log are rare, counters know nothing. 0 where the log has no times, or few choices.
    """
    t, events = dataset.transitions, dataset.arrays
    valid = np.flatnonzero(t.split[t.state] == VALID)
    if dataset.manifest["time_unit"] == "order" or len(valid) < FEWEST:
        return 0.0
    first = np.full(dataset.vocabulary.n_items + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, events.item, events.time)
    times, rank = ranked(events.time)
    place = np.sort(events.item.astype(np.int64) * (len(times) + 1) + rank)
    chosen = t.action[valid].astype(np.int64)
    begin, clock = chosen * (len(times) + 1), np.searchsorted(times, t.clock[t.state[valid]])
    before = np.searchsorted(place, begin + clock) - np.searchsorted(place, begin)
    return float(((first[chosen] > last_trained(dataset)) & (before >= OFTEN)).mean())


def last_trained(dataset: Dataset) -> int:
    """The clock of the last training decision, microseconds."""
    t = dataset.transitions
    return int(t.clock[t.split == TRAIN].max(initial=np.iinfo(np.int64).min))


def may_have_lists(dataset: Dataset) -> bool:
    """Whether decisions may be given shortlists: the log says neither what there was to choose from, nor with which probability."""
    return dataset.kind != "logged" and not len(dataset.transitions.candidates)


def turns_over(dataset: Dataset) -> bool:
    """Whether a log gets shortlists with clocks by default: they are possible, and much of what was chosen or shown was new."""
    return may_have_lists(dataset) and turnover(dataset) > TURNOVER


def say_turnover(dataset: Dataset) -> None:
    """Logs why a log got shortlists without being asked."""
    text = "note: %.0f %% of the validation choices are of new and popular items: shortlists with clocks (clocks=off: without)"
    log.warning(text, 100 * turnover(dataset))


def with_clocks(dataset: Dataset, settings: Settings) -> Dataset:
    """The dataset with shortlists where the settings want them.

    Raises:
        UserError: they want them of a log that cannot have them.
    """
    if settings.offline.clocks != "on":
        return dataset
    got = "lists or probabilities" if not may_have_lists(dataset) else "no times" if dataset.manifest["time_unit"] == "order" else None
    got = "an algorithm without candidate features" if not settings.uses_candidate_features else got
    if got is not None:
        hint = "leave clocks out"
        raise UserError(
            "a log without lists and probabilities, with times, for clocks=on", got, where="--set clocks", hint=hint, code=Code.BAD_SETTING
        )
    return dataset.with_lists(settings.offline.clocks_late)


def successors(settings: Settings) -> int:
    """How many successors of a batch need a shortlist, because they are bootstrapped."""
    batch = settings.learning.batch_size
    return later_rows(batch, settings.network.form, True) if settings.learning.gamma > 0 else 0


def of_clocks(dataset: Dataset) -> Transitions:
    """The transitions with fewer of them in the train split: the newest decisions; of choices, without the first one of each visit.

    The first choice of a visit has the clock of the visit before, when what is chosen now may not have been there. What was shown has
    a clock of its own.
    """
    t, row_visit = dataset.transitions, dataset.row_visit
    first = row_visit[np.maximum(t.history_end - 1, 0)] != row_visit[np.minimum(t.history_end, len(row_visit) - 1)]
    first &= dataset.kind == "organic"
    clock = t.clock[(t.split == TRAIN) & ~first]
    since = np.partition(clock, -NEWEST)[-NEWEST] if len(clock) > NEWEST else np.iinfo(np.int64).min
    left_out = (t.split == TRAIN) & (first | (t.clock < since))
    return replace(t, split=np.where(left_out, HISTORY, t.split).astype(np.uint8))


def all_seen(dataset: Dataset) -> Availability:
    """For answers after a log: no item begins late, those first seen after training included; an event puts an item on lists."""
    return Availability(Availability.always(dataset.vocabulary.n_items).since, dataset.availability.until)


@torch.no_grad()
def forget_unseen(network: nn.Module, dataset: Dataset) -> None:
    """Sets the id vector and bias of items without training events to 0: in training they only moved with the mean of all items."""
    tower = cast(CatalogueNetwork, network).tower
    if tower.ids is None or tower.id_bias is None:
        return
    met = np.zeros(dataset.vocabulary.n_items + 1, np.bool_)
    met[dataset.arrays.item[dataset.arrays.time <= last_trained(dataset)]] = True
    unseen = torch.from_numpy(~met)
    tower.ids[unseen] = 0
    tower.id_bias[unseen] = 0
