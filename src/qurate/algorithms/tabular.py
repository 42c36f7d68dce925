"""Tabular Q-learning and SARSA: the same update on a table, with the best or with the taken successor action."""

import torch
from torch import Tensor

from qurate.algorithms import value_learning as td
from qurate.algorithms.objective import Loss, Networks, TensorBatch
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
    """Half the squared TD error per row, times the batch: the mean over rows then moves each entry by its own error."""
    q_tm1 = networks.online.bind()(batch.state).of(batch.action[:, None])[:, 0]
    reward = (batch.reward + batch.later_reward).sum(1)
    error = (td.q_target(reward, batch.discount, q_t) - q_tm1) * batch.bootstrap
    stats = {"q": q_tm1.detach().mean(), "q_max": q_t.abs().max()}
    return Loss((0.5 * error.square() * len(error),), error.detach(), stats)
