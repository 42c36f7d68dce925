"""Munchausen DQN (Vieillard et al. 2020, arXiv:2007.14430): a soft maximum, and the scaled log-policy as part of the reward."""

import torch

from qurate.algorithms import value_learning as td
from qurate.algorithms.catalogue_losses import behaviour_terms
from qurate.algorithms.objective import Loss, Networks, TensorBatch
from qurate.networks.catalogue_values import CatalogueValues
from qurate.networks.dense_network import DenseValues
from qurate.networks.values import ActionValues
from qurate.settings import MunchausenSettings, Settings


def munchausen(networks: Networks, batch: TensorBatch, rng: torch.Generator, *, settings: Settings, organic: bool = False) -> Loss:
    """The loss of B transitions (eq. 2 with the clipping of section 4), all values and policies by the target network:

    y = r + alpha clip(tau log pi(a|s), l0, 0) + discount * tau log sum_a' exp(q(s', a') / tau), pi = softmax(q / tau).

    The last term is sum_a' pi(a'|s') (q(s', a') - tau log pi(a'|s')). Both sums run over what is open, inside the support.
    Reward components are summed: the log-policy belongs to none of them.
    """
    kind, support = settings.algorithm, settings.offline.support_threshold
    assert isinstance(kind, MunchausenSettings) and batch.actions is not None
    values = networks.online.bind(rng)(batch.state)
    q_tm1 = values.of(batch.action[:, None])[:, 0]
    with torch.no_grad():
        now, ahead = (_checked(networks.target(state)) for state in (batch.state, batch.next_state))
        tau = kind.munchausen_tau
        log_policy = now.of(batch.action[:, None])[:, 0] - now.soft_maximum(batch.actions, tau, support)  # times tau
        bonus = kind.munchausen_alpha * log_policy.clamp(kind.munchausen_clip, 0)
        soft = ahead.soft_maximum(batch.next_actions, tau, support)
        target = td.q_target((batch.reward + batch.later_reward).sum(1) + bonus, batch.discount, soft)
    error = (target - q_tm1) * batch.bootstrap
    terms = [td.error_loss(error, settings.learning.loss), *behaviour_terms(values, batch, rng, settings.offline.aux_weight)]
    return Loss(tuple(terms), error.detach(), {"q": q_tm1.detach().mean(), "q_max": soft.abs().max()})


def _checked(values: ActionValues) -> CatalogueValues | DenseValues:
    assert isinstance(values, CatalogueValues | DenseValues)
    return values
