"""Distributions of returns: on fixed returns (C51, Bellemare et al. 2017, arXiv:1707.06887), or by quantiles (QR-DQN and IQN)."""

import torch
from torch import Tensor

from qurate.algorithms.catalogue_losses import behaviour_terms
from qurate.algorithms.objective import Loss, Networks, TensorBatch
from qurate.networks.distributional_values import DistributionalValues, QuantileValues
from qurate.networks.implicit_quantiles import ImplicitValues
from qurate.networks.values import ActionValues, BoundNetwork
from qurate.settings import QuantileSettings, Settings


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

    TD errors are differences of means.
    """
    online = networks.online.bind(rng)
    values = online(batch.state)
    assert isinstance(values, DistributionalValues)
    logits = values.by_head(batch.action[:, None])[:, 0]  # [B, Z]
    with torch.no_grad():
        target, best, reward, discount = _successor(networks, online, batch, settings)
        assert isinstance(target, DistributionalValues)
        p_t = target.by_head(best[:, None])[:, 0].softmax(1)
        z_t = reward + discount * target.atoms
        projected = categorical_projection(z_t, p_t, target.atoms)
        q_tm1, q_target = logits.softmax(1) @ target.atoms, (p_t * z_t).sum(1)
        stats = {"q": q_tm1.mean(), "q_max": (p_t @ target.atoms).abs().max()}
    cross_entropy = -(projected * logits.log_softmax(1)).sum(1) * batch.bootstrap
    terms = [cross_entropy, *behaviour_terms(values.logits, batch, rng, settings.offline.aux_weight)]
    return Loss(tuple(terms), (q_target - q_tm1) * batch.bootstrap, stats)


def _successor(
    networks: Networks, online: BoundNetwork, batch: TensorBatch, settings: Settings
) -> tuple[ActionValues, Tensor, Tensor, Tensor]:
    """What the target network says there, the best action int64 [B], and reward and discount [B, 1]: 0 where nothing could be shown.

    Reward components are summed: a distribution of returns has no parts.
    """
    target = networks.target(batch.next_state)
    picker = online(batch.next_state) if settings.learning.double else target
    best = picker.best(batch.next_actions, settings.offline.support_threshold)
    reward = (batch.reward + batch.later_reward).sum(1, keepdim=True)
    return target, best, reward, (batch.discount * (best > 0))[:, None]


def quantile_loss(theta: Tensor, fractions: Tensor, target: Tensor, kappa: float) -> Tensor:
    """Quantile regression (Dabney et al. 2018, arXiv:1710.10044, eq. 8 and 10), float32 [B]: the mean over quantiles and targets of

    |tau - 1{u < 0}| L_kappa(u) / kappa, u = target - theta, with Huber's L_kappa; |tau - 1{u < 0}| |u| for kappa 0.

    Args:
        theta: [B, M] quantiles.
        fractions: [B or 1, M] tau, in (0, 1).
        target: [B, M'] returns, each as likely as the others.
        kappa: at least 0; errors below it count as squares.
    """
    error = target[:, None] - theta[:, :, None]  # [B, M, M']
    size = error.abs()
    if kappa > 0:
        size = torch.where(size <= kappa, size.square() / (2 * kappa), size - kappa / 2)
    return ((fractions[:, :, None] - (error < 0).float()).abs() * size).mean((1, 2))


def quantile_regression(networks: Networks, batch: TensorBatch, rng: torch.Generator, *, settings: Settings, organic: bool = False) -> Loss:
    """QR-DQN and IQN: quantiles of the return fitted to r + discount * quantiles of the successor's best action.

    TD errors are differences of means.
    """
    kind = settings.algorithm
    assert isinstance(kind, QuantileSettings)
    online = networks.online.bind(rng)
    values = online(batch.state)
    assert isinstance(values, QuantileValues | ImplicitValues)
    theta, fractions = values.quantiles(batch.action, kind.quantiles, rng)
    with torch.no_grad():
        target, best, reward, discount = _successor(networks, online, batch, settings)
        assert isinstance(target, QuantileValues | ImplicitValues)
        z_t = reward + discount * target.quantiles(best, kind.target_quantiles, rng)[0]
        error = (z_t.mean(1) - theta.mean(1)) * batch.bootstrap
        stats = {"q": theta.mean(), "q_max": z_t.mean(1).abs().max()}
    terms = [quantile_loss(theta, fractions, z_t, kind.kappa) * batch.bootstrap]
    weight = settings.offline.aux_weight
    if weight > 0:  # else the mean over the quantiles is not needed
        inner = values.sums if isinstance(values, QuantileValues) else values.mean
        terms += behaviour_terms(inner, batch, rng, weight)
    return Loss(tuple(terms), error, stats)
