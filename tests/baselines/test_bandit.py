"""The bandit against one ridge regression on (z, which item), against Algorithm 2 of Li et al. step by step, and against its posterior."""

from dataclasses import replace
from math import erf, sqrt

import numpy as np
import pytest

from policy_data import observe, organic, transitions
from qurate.baselines.bandit import (
    BanditScorer,
    Posterior,
    Sums,
    bandit_of,
    context_weights,
    features,
    item_numbers,
    listed_features,
    n_features,
    profiles,
    variance,
)
from qurate.baselines.registry import fit_scorer, fitted_settings
from qurate.errors import UserError
from qurate.types import Observation

WANTED = np.array([False, True, False])
"""Type 1 (click) says that the item was wanted, type 2 (shown) does not."""
N, K, ROWS = 5, 3, 80


def rows() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(ROWS, K)), rng.integers(1, N, ROWS), rng.normal(size=ROWS)  # item 5 was never shown


def joint(z: np.ndarray, item: np.ndarray) -> np.ndarray:
    """z and which of the items 0..N it is, side by side."""
    return np.concatenate([z, np.eye(N + 1)[item]], axis=-1)


def summed(z: np.ndarray, item: np.ndarray, reward: np.ndarray) -> Sums:
    sums = Sums.empty(N, z.shape[1])
    for part in np.array_split(np.arange(len(item)), 3):
        sums.add(z[part], item[part], reward[part])
    return sums


@pytest.mark.parametrize("regularisation", [0.3, 1.0])
def test_it_is_one_ridge_regression(regularisation: float) -> None:
    z, item, reward = rows()
    posterior = Posterior.of(summed(z, item, reward), regularisation)
    x = joint(z, item)
    inverse = np.linalg.inv(x.T @ x + regularisation * np.eye(K + N + 1))
    weights = inverse @ x.T @ reward
    assert np.allclose(posterior.beta, weights[:K], atol=1e-5) and np.allclose(posterior.theta, weights[K:], atol=1e-5)
    asked = np.random.default_rng(1).normal(size=(2, N, K)).astype(np.float32)
    items = np.arange(1, N + 1)[None]
    phi = joint(asked, np.broadcast_to(items, (2, N)))
    assert np.allclose(variance(posterior, asked, items), np.einsum("bki,ij,bkj->bk", phi, inverse, phi), atol=1e-5)


def test_it_chooses_as_algorithm_2_of_the_paper() -> None:
    """Li et al. 2010, Algorithm 2 with x = 1, row after row; at each row the choice by p is the same."""
    rng, alpha = np.random.default_rng(2), 0.8
    truth = rng.normal(size=K)
    a0, b0 = np.eye(K), np.zeros(K)
    a, ba, b = np.ones(N + 1), np.zeros((N + 1, K)), np.zeros(N + 1)
    sums, chosen = Sums.empty(N, K), []
    items = np.arange(1, N + 1)
    for _ in range(60):
        z = rng.normal(size=(N, K)).astype(np.float32)
        inverse = np.linalg.inv(a0)
        beta = inverse @ b0
        p = np.zeros(N)
        for arm in items:
            own = z[arm - 1].astype(float)
            theta = (b[arm] - ba[arm] @ beta) / a[arm]
            s = own @ inverse @ own - 2 * own @ inverse @ ba[arm] / a[arm] + 1 / a[arm] + ba[arm] @ inverse @ ba[arm] / a[arm] ** 2
            p[arm - 1] = own @ beta + theta + alpha * np.sqrt(s)
        posterior = Posterior.of(sums, 1.0)
        ours = z @ posterior.beta + posterior.theta[items] + alpha * np.sqrt(variance(posterior, z[None], items[None])[0])
        assert np.allclose(ours, p, atol=1e-4) and ours.argmax() == p.argmax()
        arm = 1 + int(p.argmax())
        own, reward = z[arm - 1].astype(float), float(z[arm - 1] @ truth + 0.1 * rng.normal())
        a0 += np.outer(ba[arm], ba[arm]) / a[arm]
        b0 += ba[arm] * b[arm] / a[arm]
        a[arm] += 1
        ba[arm] += own
        b[arm] += reward
        a0 += np.outer(own, own) - np.outer(ba[arm], ba[arm]) / a[arm]
        b0 += reward * own - ba[arm] * b[arm] / a[arm]
        sums.add(own[None], np.array([arm]), np.array([reward]))
        chosen.append(arm)
    assert len(set(chosen)) == N


def bandit(width: float = 0.0, user_dim: int = 2) -> tuple[BanditScorer, Observation]:
    """A bandit that has seen something, and three customers of whom the last is not known."""
    rng = np.random.default_rng(3)
    numbers = item_numbers(np.concatenate([np.zeros((1, 3)), rng.normal(size=(N, 3))]).astype(np.float32))
    observation = observe([[1, 2, 3], [4, 4], []], np.arange(1, N + 1), types=[[1, 2, 1], [2, 2], []])
    user = rng.normal(size=(3, user_dim)).astype(np.float32)
    observation = observation._replace(state=observation.state._replace(user=user))
    k = n_features(3, user_dim)
    sums = Sums.empty(N, k)
    sums.add(rng.normal(size=(60, k)), rng.integers(1, N + 1, 60), rng.normal(size=60))
    return bandit_of(sums, numbers, WANTED, 1.0, width), observation


def test_what_was_met_and_what_was_wanted() -> None:
    scorer, observation = bandit()
    met, wanted = profiles(observation, scorer.numbers, WANTED).transpose(1, 0, 2)
    n = scorer.numbers
    assert np.allclose(met[0], 0.2 * (n[3] + 0.8 * n[2] + 0.64 * n[1]), atol=1e-6)
    assert np.allclose(wanted[0], 0.2 * (n[3] + 0.8 * n[1]), atol=1e-6) and not wanted[1:].any() and not met[2].any()


@pytest.mark.parametrize("user_dim", [0, 2, 100])
def test_the_quick_product_is_z_beta(user_dim: int) -> None:
    scorer, observation = bandit(user_dim=user_dim)
    items = np.arange(1, N + 1)[None]
    z = features(observation, scorer.numbers, WANTED, items)
    assert z.shape == (3, N, n_features(3, user_dim))
    weights = context_weights(observation, scorer.numbers, WANTED, scorer.beta)
    assert np.allclose(weights @ scorer.numbers[1:].T, z @ scorer.beta, atol=1e-5)
    assert np.allclose(scorer.scores(observation), z @ scorer.beta + scorer.theta[1:], atol=1e-5)
    wide = replace(scorer, width=2.0).scores(observation)
    assert np.allclose(wide - scorer.scores(observation), 2 * np.sqrt(variance(scorer.posterior, z, items)), atol=1e-5)
    lists = np.array([[2, 1], [5, 3], [4, 4]])
    listed = observation._replace(actions=observation.actions._replace(candidates=lists, mask=np.ones((3, 2), np.int8)))
    assert np.allclose(replace(scorer, width=2.0).scores(listed), np.take_along_axis(wide, lists - 1, 1), atol=1e-5)


def test_draws_have_the_mean_and_the_spread_of_the_posterior() -> None:
    scorer, observation = bandit()
    rng, scale = np.random.default_rng(0), 0.5
    draws = np.stack([scorer.drawn(observation, scale, rng) for _ in range(4_000)])
    z = features(observation, scorer.numbers, WANTED, np.arange(1, N + 1)[None])
    spread = scale * np.sqrt(variance(scorer.posterior, z, np.arange(1, N + 1)[None]))
    assert np.allclose(draws.mean(0), scorer.scores(observation), atol=5 * spread.max() / 4_000**0.5)
    assert np.allclose(draws.std(0), spread, rtol=0.06)


def test_how_often_a_draw_prefers_an_item() -> None:
    """Two items without features: the difference of their draws is normal, so that P(first) is known."""
    sums = Sums.empty(2, 0)
    sums.add(np.zeros((8, 0)), np.array([1, 1, 1, 1, 1, 2, 2, 2]), np.array([1.0, 0, 1, 0, 1, 0, 1, 0]))
    scorer = bandit_of(sums, np.zeros((3, 0), np.float32), WANTED, 1.0, 0.0)
    assert scorer.theta[1:].tolist() == pytest.approx([3 / 6, 1 / 4])
    observation = observe([[]] * 20_000, np.arange(1, 3))
    draws = scorer.drawn(observation, 0.7, np.random.default_rng(1))
    expected = 0.5 * (1 + erf((3 / 6 - 1 / 4) / (0.7 * sqrt(1 / 6 + 1 / 4)) / sqrt(2)))
    assert (draws[:, 0] > draws[:, 1]).mean() == pytest.approx(expected, abs=0.015)


def test_many_features_become_principal_components() -> None:
    rng = np.random.default_rng(5)
    narrow = rng.normal(size=(40, 4))
    wide = narrow @ rng.normal(size=(4, 60))
    numbers = item_numbers(np.concatenate([np.zeros((1, 60)), wide]).astype(np.float32))
    assert numbers.shape == (41, 24) and (numbers[1:] ** 2).sum(1).mean() == pytest.approx(1, abs=1e-5)
    centred = wide - wide.mean(0)
    ours, theirs = numbers[1:] @ numbers[1:].T, centred @ centred.T
    assert np.allclose(ours, theirs / (centred**2).sum(1).mean(), atol=1e-5)  # likeness of items is kept
    assert not item_numbers(np.zeros((4, 2), np.float32)).any() and item_numbers(np.zeros((4, 0), np.float32)).shape == (4, 0)


def test_what_is_seen_of_a_candidate_is_part_of_z() -> None:
    """One row x of item 1 with reward r = 2: ridge regression on phi = (x, which item) is phi r / (1 + |phi|^2), by hand."""
    observation = observe([[1, 2], [2]], np.array([[1, 2], [2, 1]]), types=[[1, 2], [2]])
    values = np.array([[[0.0], [3.0]], [[8.0], [np.nan]]], np.float32)
    observation = observation._replace(actions=observation.actions._replace(values=values, columns=("age_hours",)))
    x = listed_features(observation, ("age_hours",), 2)
    assert x is not None and x.shape == (2, 2, n_features(0, 0, ("age_hours",), 2))
    assert x[:, :, -2] == pytest.approx(np.log1p([[0, 3], [8, 0]])), "what is not known is 0"
    none = np.zeros((3, 0), np.float32)
    sums = Sums.empty(2, x.shape[2])
    sums.add(x[0, :1].astype(np.float64), np.array([1]), np.array([2.0]))
    scorer = bandit_of(sums, none, WANTED, 1.0, 0.0, columns=("age_hours",))
    phi = np.concatenate([x, np.eye(3)[[[1, 2], [2, 1]]]], axis=2)
    seen = phi[0, 0]
    expected = phi @ seen * 2 / (1 + seen @ seen)
    assert np.allclose(scorer.scores(observation), expected, atol=1e-5)
    error = np.sqrt((phi**2).sum(2) - (phi @ seen) ** 2 / (1 + seen @ seen))
    assert np.allclose(replace(scorer, width=2.0).scores(observation), expected + 2 * error, atol=1e-4)
    draws = np.stack([scorer.drawn(observation, 0.5, rng) for rng in [np.random.default_rng(0)] for _ in range(4_000)])
    assert np.allclose(draws.mean(0), expected, atol=0.05 * error.max()) and np.allclose(draws.std(0), 0.5 * error, rtol=0.06)


def test_fitted_on_a_log_it_is_the_mean_reward_when_shown() -> None:
    """Without features: sum of rewards / (showings + 1)."""
    data = organic(np.array([2, 3, 3, 3]), np.array([1, 2, 1, 2, 3, 3, 1, 3, 4, 4, 2]), np.array([True, True, True, False]), 4)
    with pytest.raises(UserError, match="a log of what was shown"):
        fit_scorer("linucb", data)
    data.kind = "exposure"
    t = data.transitions
    reward = np.array([[3], [1], [0], [0], [-2], [9], [9]])
    data.transitions = transitions(data.arrays, t.user, t.history_end, np.array([1, 2, 2, 2, 3, 4, 4]), t.split, reward)
    observation = observe([[1], []], np.arange(1, 5))
    for name in ("linucb", "thompson"):
        assert fit_scorer(name, data).scores(observation)[0].tolist() == pytest.approx([3 / 2, 1 / 4, -2 / 2, 0])
    wide = fit_scorer("linucb", data, fitted_settings("linucb", {"width": 2})).scores(observation)[1]
    assert wide.tolist() == pytest.approx([3 / 2 + 2 / 2**0.5, 1 / 4 + 2 / 2, -1 + 2 / 2**0.5, 2])
