"""The exact fixed point of each algorithm on a finite MDP, by iterating its own operator; nothing here knows a network."""

import numpy as np
from numpy.typing import NDArray

from qurate.environments.value_iteration import evaluate_policy, greedy_policy

Array = NDArray[np.float64]
SWEEPS = 400


def of_the_soft_policy(P: Array, R: Array, epsilon: float, gamma: float) -> Array:
    """Q of the epsilon-greedy policy that is greedy to that same Q: what SARSA ends at."""
    q = R
    for _ in range(50):
        policy = (1 - epsilon) * greedy_policy(q) + epsilon / R.shape[1]
        q = R + gamma * P @ evaluate_policy(P, R, policy, gamma)
    return q


def munchausen(P: Array, R: Array, gamma: float, alpha: float, tau: float, clip: float) -> Array:
    """Vieillard et al. 2020, eq. 2 with the log-policy clipped."""
    q = np.zeros_like(R)
    for _ in range(SWEEPS):
        peak = q.max(1)
        soft = peak + tau * np.log(np.exp((q - peak[:, None]) / tau).sum(1))
        q = R + alpha * np.clip(q - soft[:, None], clip, 0) + gamma * P @ soft
    return q


def quantiles(P: Array, chance: Array, amount: Array, gamma: float, fractions: Array, kappa: float) -> Array:
    """Quantiles [S, A, M] that minimise the quantile Huber loss to r + gamma * the quantiles of the successor's best action."""
    states, actions = chance.shape
    theta = np.zeros((states, actions, len(fractions)))
    for _ in range(SWEEPS):
        best = theta[np.arange(states), theta.mean(2).argmax(1)]  # [S, M]
        ahead = np.concatenate([gamma * best, np.zeros((1, len(fractions)))])  # the last one: gone for good
        moved = np.zeros_like(theta)
        for s in range(states):
            for a in range(actions):
                to = np.append(P[s, a], 1 - P[s, a].sum())
                z = np.concatenate([ahead + amount[s, a], ahead]).ravel()
                mass = np.concatenate([to * chance[s, a], to * (1 - chance[s, a])]).repeat(len(fractions)) / len(fractions)
                moved[s, a] = minimum(z[mass > 0], mass[mass > 0], fractions, kappa)
        if np.abs(moved - theta).max() < 5e-6:
            return moved
        theta = moved
    return theta


def minimum(z: Array, mass: Array, fractions: Array, kappa: float) -> Array:
    """Where the slope of the loss changes sign, by bisection, [M]: outcomes z with probabilities `mass`."""
    low, high = np.full(len(fractions), z.min() - 1), np.full(len(fractions), z.max() + 1)
    for _ in range(32):  # of a range of some tens: to 1e-8
        at = (low + high) / 2
        u = z[None] - at[:, None]
        slope = (mass * np.abs(fractions[:, None] - (u < 0)) * (np.clip(u / kappa, -1, 1) if kappa > 0 else np.sign(u))).sum(1)
        low, high = np.where(slope > 0, at, low), np.where(slope > 0, high, at)
    return (low + high) / 2
