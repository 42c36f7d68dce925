"""Exact solutions of finite MDPs: what the tests hold learners against.

Transition arrays are sub-stochastic: `P[s, a].sum()` may be below 1, the rest is the probability of termination.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def value_iteration(P: Array, R: Array, gamma: float, tolerance: float = 1e-12) -> Array:
    """Optimal action values Q* [S, A] (Sutton and Barto, Reinforcement Learning, 2nd edition, section 4.4).

    Args:
        P: [S, A, S] transition probabilities to states that go on.
        R: [S, A] expected reward.
        gamma: discount per decision, 0..1; 1 only where every policy terminates.
        tolerance: largest change of a value at which the iteration stops.
    """
    q = np.zeros_like(R)
    while True:
        new: Array = R + gamma * P @ q.max(axis=1)
        if np.abs(new - q).max() <= tolerance * max(1.0, float(np.abs(new).max())):
            return new
        q = new


def evaluate_policy(P: Array, R: Array, policy: Array, gamma: float) -> Array:
    """Exact state values V [S] of `policy` [S, A] (probabilities of the actions), by solving the Bellman equation."""
    transition = np.einsum("sa,sat->st", policy, P)
    reward = (policy * R).sum(axis=1)
    return np.linalg.solve(np.eye(len(reward)) - gamma * transition, reward)


def greedy_policy(q: Array) -> Array:
    """The policy [S, A] that takes the largest value of `q` [S, A]; the first of equal ones."""
    policy = np.zeros_like(q)
    policy[np.arange(len(q)), q.argmax(axis=1)] = 1.0
    return policy


def values_to_go(P: Array, R: Array, steps: int, tolerance: float = 1e-12) -> Array:
    """Optimal undiscounted action values with 1, 2, ..., T decisions left, [T, S, A] (value iteration from zero, sweep by sweep).

    T is `steps`, or less where one more decision changes no value by more than `tolerance` of the largest: then the
    last entry holds for any number of decisions left.
    """
    q = [R]
    while len(q) < steps:
        new: Array = R + P @ q[-1].max(axis=1)
        q.append(new)
        if np.abs(new - q[-2]).max() <= tolerance * max(1.0, float(np.abs(new).max())):
            break
    return np.stack(q)
