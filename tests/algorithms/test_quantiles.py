"""Quantiles of the return: the loss against its definition, QR-DQN and IQN against references written row by row in NumPy."""

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from objective_cases import ACTIONS, ROWS, STATES, Array, a_batch, first_best, measured
from qurate.algorithms.distributional import quantile_loss
from qurate.algorithms.objective import Networks
from qurate.algorithms.table import CATALOGUE_ONLY, algorithm_settings, make_objective
from qurate.environments.observation_layout import TaskSpec
from qurate.networks.build import build_task_network
from qurate.networks.values import to_tensors
from qurate.settings import QuantileSettings
from qurate.training.on_task import TASK_DEFAULTS


def loss_by_hand(theta: Array, fractions: Array, target: Array, kappa: float) -> float:
    """Dabney et al. 2018 (arXiv:1710.10044), eq. 8 to 10, pair by pair."""
    total = 0.0
    for (quantile, tau), z in product(zip(theta, fractions, strict=True), target):
        u = float(z - quantile)
        huber = abs(u) if kappa == 0 else u * u / 2 / kappa if abs(u) <= kappa else abs(u) - kappa / 2
        total += abs(tau - (u < 0)) * huber
    return total / len(theta) / len(target)


@pytest.mark.parametrize("kappa", [0.0, 0.5, 1.0, 3.0])
def test_the_loss_equals_its_definition(kappa: float) -> None:
    rng = np.random.default_rng(0)
    theta, target, fractions = rng.normal(size=(20, 5)), rng.normal(size=(20, 7)), rng.random((20, 5))
    target[0, 0] = theta[0, 0]  # an error of exactly 0
    got = quantile_loss(*(torch.as_tensor(a) for a in (theta, fractions, target)), kappa).numpy()
    np.testing.assert_allclose(got, [loss_by_hand(*row, kappa) for row in zip(theta, fractions, target)], rtol=1e-9)


def test_the_loss_by_hand() -> None:
    """tau 0.25: an outcome 2 above counts 0.25 (2 - 1/2), one 0.5 below 0.75 * 0.125."""
    one = torch.tensor([[0.0]]), torch.tensor([[0.25]])
    assert quantile_loss(*one, torch.tensor([[2.0]]), 1.0).item() == pytest.approx(0.375)
    assert quantile_loss(*one, torch.tensor([[-0.5]]), 1.0).item() == pytest.approx(0.09375)
    assert quantile_loss(*one, torch.tensor([[-0.5]]), 0.0).item() == pytest.approx(0.375)


def test_its_minimum_without_squares_is_the_quantile() -> None:
    outcomes = torch.as_tensor(np.random.default_rng(1).exponential(size=999))
    fractions = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    grid = torch.linspace(0, 6, 6_001, dtype=torch.float64)
    theta = grid[:, None].expand(-1, 3)
    each = torch.stack([quantile_loss(theta[:, i : i + 1], fractions[None, i : i + 1], outcomes[None], 0.0) for i in range(3)], 1)
    np.testing.assert_allclose(grid[each.argmin(0)], np.quantile(outcomes, fractions, method="inverted_cdf"), atol=2e-3)


@pytest.mark.parametrize("given", [{}, {"double": True}, {"kappa": 0.0}, {"head": "dueling"}])
def test_qr_dqn_equals_the_reference(given: dict[str, Any]) -> None:
    loss, batch, (now, online, target), settings = measured("qr_dqn", quantiles=7, **given)
    kind, mask = settings.algorithm, batch.next_actions.mask
    assert isinstance(kind, QuantileSettings) and mask is not None
    fractions = (2 * np.arange(7) + 1) / 14
    terms, errors = [], []
    for i in range(ROWS):
        best = first_best((online if settings.learning.double else target)[i].mean(1), mask[i])
        z = batch.reward[i, 0] + batch.later_reward[i, 0] + batch.discount[i] * target[i, best]
        theta = now[i, batch.action[i]]
        terms.append(loss_by_hand(theta, fractions, z, kind.kappa) * batch.bootstrap[i])
        errors.append((z.mean() - theta.mean()) * batch.bootstrap[i])
    assert loss.total().item() == pytest.approx(np.mean(terms), rel=1e-5)
    np.testing.assert_allclose(loss.td_errors.numpy(), errors, rtol=1e-4, atol=1e-6)
    weights = np.linspace(0.1, 1, ROWS).astype(np.float32)
    assert loss.total(torch.as_tensor(weights)).item() == pytest.approx(np.mean(weights * terms), rel=1e-5)


def iqn_by_hand(network: Any, state: Array, fractions: Array) -> Array:
    """Quantiles [B, M, A] of dense networks over one integer, eq. 4 of Dabney et al. 2018 (arXiv:1806.06923)."""
    arrays = {name: value.detach().numpy().astype(np.float64) for name, value in network.state_dict().items()}

    def layer(name: str, x: Array) -> Array:
        return np.asarray(x @ arrays[f"{name}.weight"].T + arrays[f"{name}.bias"])

    x = arrays["inner.embeddings.0.weight"][state]
    x = np.maximum(layer("inner.torso.2", np.maximum(layer("inner.torso.0", x), 0)), 0)
    cosines = np.cos(np.pi * np.arange(network.embedding[0].in_features) * fractions[:, :, None])
    return layer("inner.q", x[:, None] * np.maximum(layer("embedding.0", cosines), 0))


@pytest.mark.parametrize("given", [{}, {"double": True, "kappa": 0.0}])
def test_iqn_equals_the_reference(given: dict[str, Any]) -> None:
    sizes = {"quantiles": 5, "target_quantiles": 6, "policy_quantiles": 8, "cosines": 9}
    settings = algorithm_settings("iqn", given | sizes, TASK_DEFAULTS, CATALOGUE_ONLY)
    spec = TaskSpec((0,), np.dtype(np.float32), (STATES,), ACTIONS)
    online, target = (build_task_network(spec, settings, seed=seed) for seed in (1, 2))
    batch, drawn = a_batch(), torch.Generator().manual_seed(5)
    tau, tau_t = (torch.rand(ROWS, n, generator=drawn).numpy().astype(np.float64) for n in (5, 6))
    networks = Networks(online, target.bind())
    loss = make_objective("iqn", settings)(networks, to_tensors(batch), torch.Generator().manual_seed(5))
    state, then = batch.state.categories[:, 0], batch.next_state.categories[:, 0]
    now, ahead = iqn_by_hand(online, state, tau), iqn_by_hand(target, then, tau_t)
    policy = np.broadcast_to((2 * np.arange(8) + 1) / 16, (ROWS, 8))
    q = iqn_by_hand(online if settings.learning.double else target, then, policy).mean(1)
    terms, errors, mask = [], [], batch.next_actions.mask
    assert mask is not None
    for i in range(ROWS):
        best = first_best(np.concatenate([[0], q[i]]), mask[i])
        z = batch.reward[i, 0] + batch.later_reward[i, 0] + batch.discount[i] * ahead[i, :, best - 1]
        theta = now[i, :, batch.action[i] - 1]
        terms.append(loss_by_hand(theta, tau[i], z, 0.0 if "kappa" in given else 1.0) * batch.bootstrap[i])
        errors.append((z.mean() - theta.mean()) * batch.bootstrap[i])
    assert loss.total().item() == pytest.approx(np.mean(terms), rel=1e-4)
    np.testing.assert_allclose(loss.td_errors.numpy(), errors, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        values = online.bind()(to_tensors(batch.state))
        np.testing.assert_allclose(values.all()[:, 1:], iqn_by_hand(online, state, policy).mean(1), atol=1e-5)
        assert torch.allclose(values.of(torch.tensor([[2, 1]] * ROWS)), values.all()[:, [2, 1]])
