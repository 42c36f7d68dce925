"""Categorical distributional reinforcement learning (C51, Bellemare et al. 2017, arXiv:1707.06887)."""

import torch
from torch import Tensor

from qurate.algorithms.objective import Loss, Networks, TensorBatch
from qurate.networks.distributional_values import DistributionalValues
from qurate.settings import Settings


def categorical_projection(z_p: Tensor, p: Tensor, z_q: Tensor) -> Tensor:
    """Projects distributions onto a support (Bellemare et al. 2017, eq. 7): [B, Z].

    Each probability goes to its two neighbours on `z_q`, in proportion to nearness; what lies outside goes to the ends.

    Args:
        z_p: [B, Y] returns of the distribution to project.
        p: [B, Y] their probabilities.
        z_q: [Z] ascending, equally spaced.
    """
    low, step = z_q[0], z_q[1] - z_q[0]
    place = ((z_p - low) / step).clamp(0, len(z_q) - 1)  # [B, Y], in steps
    nearness = (1 - (place[:, :, None] - torch.arange(len(z_q), device=z_q.device)).abs()).clamp(min=0)  # [B, Y, Z]
    return torch.bmm(p[:, None], nearness)[:, 0]


def c51(networks: Networks, batch: TensorBatch, rng: torch.Generator, *, settings: Settings, organic: bool = False) -> Loss:
    """Cross-entropy between the projected target distribution and the predicted one.

    Reward components are summed: a distribution of returns has no parts. TD errors are differences of means.
    """
    values = networks.online.bind(rng)(batch.state)
    logits = values.by_head(batch.action[:, None])[:, 0]  # [B, Z]
    with torch.no_grad():
        target = networks.target(batch.next_state)
        assert isinstance(target, DistributionalValues)
        picker = networks.online.bind()(batch.next_state) if settings.learning.double else target
        best = picker.best(batch.next_actions, settings.offline.support_threshold)
        p_t = target.by_head(best[:, None])[:, 0].softmax(1)
        discount = batch.discount * (best > 0)
        z_t = (batch.reward + batch.later_reward).sum(1, keepdim=True) + discount[:, None] * target.atoms
        projected = categorical_projection(z_t, p_t, target.atoms)
        q_tm1, q_target = logits.softmax(1) @ target.atoms, (p_t * z_t).sum(1)
        stats = {"q": q_tm1.mean(), "q_max": (p_t @ target.atoms).abs().max()}
    cross_entropy = -(projected * logits.log_softmax(1)).sum(1) * batch.bootstrap
    return Loss((cross_entropy,), (q_target - q_tm1) * batch.bootstrap, stats)
