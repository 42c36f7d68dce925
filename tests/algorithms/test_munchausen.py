"""Munchausen DQN against a reference written row by row in NumPy, and against a value worked out by hand."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from objective_cases import ACTIONS, ROWS, STATES, Array, a_batch, measured
from qurate.algorithms.objective import Networks
from qurate.algorithms.table import CATALOGUE_ONLY, algorithm_settings, make_objective
from qurate.environments.observation_layout import TaskSpec
from qurate.networks.build import build_task_network
from qurate.networks.values import to_tensors
from qurate.settings import MunchausenSettings
from qurate.training.on_task import TASK_DEFAULTS


def policy_of(q: Array, mask: Array, tau: float) -> dict[int, float]:
    """softmax(q / tau) over the legal actions 1..A."""
    legal = [a for a in range(1, len(q)) if mask[a]]
    power = [math.exp((q[a] - max(q[b] for b in legal)) / tau) for a in legal]
    return {a: p / sum(power) for a, p in zip(legal, power, strict=True)}


@pytest.mark.parametrize(
    "given", [{}, {"munchausen_tau": 0.5}, {"munchausen_tau": 0.5, "munchausen_clip": -0.1, "munchausen_alpha": 0.5}, {"loss": "huber"}]
)
def test_it_equals_the_reference(given: dict[str, Any]) -> None:
    """Eq. 2 of Vieillard et al. 2020: expectation of q minus tau log pi over the policy of the successor."""
    loss, batch, (now, _, target), settings = measured("munchausen", **given)
    kind, errors, terms = settings.algorithm, [], []
    assert isinstance(kind, MunchausenSettings) and batch.actions is not None and batch.next_actions.mask is not None
    assert batch.actions.mask is not None
    tau, at_state = kind.munchausen_tau, target_at(batch)
    for i in range(ROWS):
        own = policy_of(at_state[i], batch.actions.mask[i], tau)
        bonus = kind.munchausen_alpha * min(max(tau * math.log(max(own[int(batch.action[i])], 1e-300)), kind.munchausen_clip), 0.0)
        then = policy_of(target[i, :, 0], batch.next_actions.mask[i], tau)
        soft = sum(p * (target[i, a, 0] - tau * math.log(p)) for a, p in then.items() if p > 0)
        goal = batch.reward[i, 0] + batch.later_reward[i, 0] + bonus + batch.discount[i] * soft
        error = float((goal - now[i, batch.action[i], 0]) * batch.bootstrap[i])
        errors.append(error)
        terms.append(abs(error) - 0.5 if given.get("loss") == "huber" and abs(error) > 1 else 0.5 * error**2)
    np.testing.assert_allclose(loss.td_errors.numpy(), errors, rtol=1e-4, atol=1e-5)
    weights = np.linspace(0.1, 1, ROWS).astype(np.float32)
    assert loss.total(torch.as_tensor(weights)).item() == pytest.approx(np.mean(weights * terms), rel=1e-4)


def target_at(batch: Any) -> Array:
    """Q of the target network of `measured` at the decisions themselves, [B, A + 1]."""
    settings = algorithm_settings("munchausen", {}, TASK_DEFAULTS, CATALOGUE_ONLY)
    network = build_task_network(TaskSpec((0,), np.dtype(np.float32), (STATES,), ACTIONS), settings, seed=2)
    with torch.no_grad():
        return np.asarray(network.bind()(to_tensors(batch.state)).all().numpy(), np.float64)


def test_by_hand() -> None:
    """Two actions of value 0: pi = 1/2, so the bonus is -alpha tau ln 2 and the soft value of the successor tau ln 2."""
    settings = algorithm_settings("munchausen", {"munchausen_tau": 0.5, "munchausen_alpha": 0.8}, TASK_DEFAULTS, CATALOGUE_ONLY)
    network = build_task_network(TaskSpec((0,), np.dtype(np.float32), (STATES,), ACTIONS), settings, seed=0)
    with torch.no_grad():
        for parameter in network.parameters():  # type: ignore[attr-defined]
            parameter.zero_()
    batch = a_batch()
    assert batch.actions is not None and batch.actions.mask is not None and batch.next_actions.mask is not None
    assert batch.actions.mask.sum(1).tolist() == batch.next_actions.mask.sum(1).tolist() == [2] * ROWS
    loss = make_objective("munchausen", settings)(Networks(network, network.bind()), to_tensors(batch), torch.Generator())
    soft = 0.5 * math.log(2)
    expected = (batch.reward[:, 0] + batch.later_reward[:, 0] - 0.8 * soft + batch.discount * soft) * batch.bootstrap
    np.testing.assert_allclose(loss.td_errors.numpy(), expected, rtol=1e-5, atol=1e-6)
