"""Tabular Q-learning and SARSA: the same update on a table, with the best or with the taken successor action."""

from typing import cast

import torch
from torch import Tensor

from qurate.algorithms import value_learning as td
from qurate.algorithms.objective import Loss, Networks, TensorBatch
from qurate.networks.table_network import TableNetwork
from qurate.settings import Settings


def q_learning(networks: Networks, batch: TensorBatch, rng: torch.Generator, *, settings: Settings, organic: bool = False) -> Loss:
    """Q(s, a) += lr (r + gamma max Q(s', .) - Q(s, a)) (Watkins 1989), as the gradient of half the squared error."""
    with torch.no_grad():
        values = networks.target(batch.next_state)
        q_t = values.of(values.best(batch.next_actions)[:, None])[:, 0]
    return _loss(networks, batch, q_t)


def sarsa(networks: Networks, batch: TensorBatch, rng: torch.Generator, *, settings: Settings, organic: bool = False) -> Loss:
    """Q(s, a) += lr (r + gamma Q(s', a') - Q(s, a)) (Rummery and Niranjan 1994), a' the action that was taken in s'.

    Where a' is not known (the log ends, a list was shown) there is no error.
    """
    with torch.no_grad():
        q_t = networks.target(batch.next_state).of(batch.next_action[:, None])[:, 0]
    known = ((batch.next_action > 0) | (batch.discount == 0)).float()
    return _loss(networks, batch._replace(bootstrap=batch.bootstrap * known), q_t)


def _loss(networks: Networks, batch: TensorBatch, q_t: Tensor) -> Loss:
    """Half the squared TD error per row, so weighted that each entry moves by lr times the mean error of its rows.

    Without the weight an entry that stands in a batch n times would move n times as far, and beyond lr n = 2 diverge.
    """
    q_tm1 = networks.online.bind()(batch.state).of(batch.action[:, None])[:, 0]
    reward = (batch.reward + batch.later_reward).sum(1)
    error = (td.q_target(reward, batch.discount, q_t) - q_tm1) * batch.bootstrap
    stats = {"q": q_tm1.detach().mean(), "q_max": q_t.abs().max()}
    entry = cast(TableNetwork, networks.online).row(batch.state) * int(batch.action.max() + 1) + batch.action
    _, which = entry.unique(return_inverse=True)  # type: ignore[no-untyped-call]
    rows = torch.zeros(len(entry), device=error.device).index_add_(0, which, batch.bootstrap)[which]  # [B] of the same entry
    return Loss((0.5 * error.square() * len(error) / rows.clamp(min=1),), error.detach(), stats)
