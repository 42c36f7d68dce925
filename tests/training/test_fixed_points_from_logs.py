"""What each algorithm ends at on the log of a poor policy: its own exact fixed point on the MDP that the log describes."""

from functools import cache
from typing import Any

import numpy as np
import pytest

from qurate.algorithms.table import setting_names
from qurate.environments.scenarios.toys import TOYS
from qurate.environments.value_iteration import evaluate_policy, greedy_policy, value_iteration
from qurate.mdp.storage import Dataset
from qurate.models.model import Model
from qurate.training.train import train
from qurate.types import TRAIN
from toy_logs import GAMMA, Array, LoggedMDP, learned, logged_mdp, toy_log

SETTINGS: dict[str, Any] = {
    "gamma": GAMMA, "window": 1, "hidden": 32, "embedding_dim": 8, "batch_size": 256, "lr": 1e-2, "lr_schedule": "cosine",
    "target_tau": 0.05, "ema": 0.99, "id_dropout": 0.0,
}  # fmt: skip
PLAIN: dict[str, Any] = {"aux_weight": 0.0, "support_threshold": 0.0, "form": "single", "n_step": 1}
"""dqn without anything that holds it to the log."""
UPDATES = 4_000
POOR = {"toy_chain": (0.6, 0.4), "toy_clickbait": (0.4, 0.4, 0.2), "toy_satiation": (0.2, 0.2, 0.4, 0.2)}
"""What the log's policy shows, whatever the state: bad in each world, but every item now and then."""


@cache
def covering_log(toy: str) -> Dataset:
    mdp = TOYS[toy]()
    return toy_log(mdp, np.tile(POOR[toy], (len(mdp.states), 1)), 1_500, 0)


@cache
def narrow_log() -> Dataset:
    """Of toy_satiation: the feast is shown to the fresh only, where it is good; nobody knows what it does to the tired."""
    policy = np.tile([0.3, 0.3, 0.0, 0.4], (16, 1))
    policy[0] = [0.2, 0.2, 0.6, 0.0]
    return toy_log(TOYS["toy_satiation"](), policy, 900, 0)


def bellman(log: LoggedMDP, v: Array) -> Array:
    return log.R + GAMMA * log.P @ v


def supported_optimum(log: LoggedMDP, threshold: float) -> Array:
    """Q of the best policy among items with pi_b / max pi_b >= threshold (BCQ); 0: among those that were shown at all."""
    allowed = (log.behaviour > 0) & (log.behaviour >= threshold * log.behaviour.max(1, keepdims=True))
    q = np.zeros_like(log.R)
    for _ in range(500):
        best = np.where(allowed, q, -np.inf).max(1)
        q = bellman(log, np.where(np.isfinite(best), best, 0))
    return q


def expectile(values: Array, weights: Array, tau: float) -> float:
    """Of a distribution, by its first-order condition."""
    m = float(values @ weights)
    for _ in range(200):
        side = weights * np.where(values < m, 1 - tau, tau)
        m = float(side @ values / side.sum())
    return m


def implicit(log: LoggedMDP, tau: float) -> tuple[Array, Array]:
    """Q and V of IQL: V(s) the expectile of Q(s, .) under what the log shows in s."""
    q, v = np.zeros_like(log.R), np.zeros(len(log.R))
    seen = np.flatnonzero(log.behaviour.sum(1))
    for _ in range(300):
        v[seen] = [expectile(q[s], log.behaviour[s], tau) for s in seen]
        q = bellman(log, v)
    return q, v


def conservative(log: LoggedMDP, alpha: float) -> Array:
    """Q of CQL: in each state the minimum of sum_a pi_b(a) (Q(a) - y(a))^2 / 2 + alpha (log sum_a exp Q(a) - sum_a pi_b(a) Q(a)).

    By Newton's method over the items that were shown there; y is the Bellman target of that same Q.
    """
    q = np.where(log.behaviour > 0, 0.0, -np.inf)
    for _ in range(300):
        best = q.max(1)
        y = bellman(log, np.where(np.isfinite(best), best, 0))
        for s in np.flatnonzero(log.behaviour.sum(1)):
            shown = log.behaviour[s] > 0
            pi, x = log.behaviour[s, shown], q[s, shown]
            for _ in range(20):
                p = np.exp(x - x.max()) / np.exp(x - x.max()).sum()
                x = x - np.linalg.solve(np.diag(pi) + alpha * (np.diag(p) - np.outer(p, p)), pi * (x - y[s, shown]) + alpha * (p - pi))
            q[s, shown] = x
    return q


def share_of_range(found: Array, exact: Array, log: LoggedMDP) -> float:
    """The largest error over pairs with more than 1e-3 of the visits, as a share of the range of the exact values there."""
    often = log.share > 1e-3
    assert often.sum() >= often.size / 3
    return float(np.abs(found - exact)[often].max() / np.ptp(exact[often]))


def value_of(toy: str, scores: Array) -> float:
    """Exact value at the start of showing the item of the highest score, in the world itself."""
    mdp = TOYS[toy]()
    P, R, _ = mdp.exact()
    return float(evaluate_policy(P, R, greedy_policy(np.where(np.isnan(scores), -np.inf, scores)), GAMMA)[mdp.start])


def optimum(toy: str) -> float:
    mdp = TOYS[toy]()
    P, R, _ = mdp.exact()
    return float(value_iteration(P, R, GAMMA)[mdp.start].max())


def of_the_log(toy: str, dataset: Dataset) -> float:
    mdp = TOYS[toy]()
    P, R, _ = mdp.exact()
    shown = logged_mdp(dataset, mdp).behaviour
    return float(evaluate_policy(P, R, np.where(shown.sum(1, keepdims=True) > 0, shown, 1 / shown.shape[1]), GAMMA)[mdp.start])


def trained(name: str, dataset: Dataset, **given: Any) -> Model:
    own = {key: value for key, value in SETTINGS.items() if key in setting_names(name)}
    own["passes"] = UPDATES * SETTINGS["batch_size"] / int((dataset.transitions.split == TRAIN).sum())
    return train(dataset, algorithm=name, **own | given)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("toy", ["toy_chain", "toy_clickbait"])
class TestALogThatCoversTheOptimum:
    def test_bcq(self, toy: str) -> None:
        log = logged_mdp(covering_log(toy), TOYS[toy]())
        model = trained("bcq", covering_log(toy), support_threshold=0.2)
        q = learned(model, covering_log(toy), TOYS[toy](), "q")
        assert share_of_range(q, supported_optimum(log, 0.2), log) <= 0.05
        assert value_of(toy, learned(model, covering_log(toy), TOYS[toy](), "q_in_support")) >= 0.95 * optimum(toy)

    def test_cql(self, toy: str) -> None:
        log = logged_mdp(covering_log(toy), TOYS[toy]())
        q = learned(trained("cql", covering_log(toy), cql_alpha=0.1), covering_log(toy), TOYS[toy](), "q")
        assert share_of_range(q, conservative(log, 0.1), log) <= 0.05
        assert value_of(toy, q) >= 0.95 * optimum(toy)

    def test_iql(self, toy: str) -> None:
        log = logged_mdp(covering_log(toy), TOYS[toy]())
        model = trained("iql", covering_log(toy), expectile=0.9, inverse_temperature=4.0)
        exact, _ = implicit(log, 0.9)
        assert share_of_range(learned(model, covering_log(toy), TOYS[toy](), "q"), exact, log) <= 0.05
        policy = learned(model, covering_log(toy), TOYS[toy](), "policy")
        assert value_of(toy, policy) >= 0.95 * optimum(toy)

    def test_sqn(self, toy: str) -> None:
        """Its Q is that of double Q-learning, and would do; what it shows is what the log shows most."""
        log = logged_mdp(covering_log(toy), TOYS[toy]())
        model = trained("sqn", covering_log(toy))
        q = learned(model, covering_log(toy), TOYS[toy](), "q")
        assert share_of_range(q, supported_optimum(log, 0.0), log) <= 0.05
        assert value_of(toy, q) >= 0.95 * optimum(toy)
        check_cloned(model, toy, log)

    def test_bc(self, toy: str) -> None:
        check_cloned(trained("bc", covering_log(toy)), toy, logged_mdp(covering_log(toy), TOYS[toy]()))


def check_cloned(model: Model, toy: str, log: LoggedMDP) -> None:
    logits = learned(model, covering_log(toy), TOYS[toy](), "behaviour")
    pi = np.exp(logits - np.nanmax(logits, 1, keepdims=True))
    pi /= np.nansum(pi, 1, keepdims=True)
    states = log.share.sum(1) > 0.01
    assert np.abs(pi - log.behaviour)[states].max() <= 0.05


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_sixteen_states_are_planned_from_a_log() -> None:
    """toy_satiation: Q misses its fixed point by 17 % of its (small) range, nearly the same for all items; the policy is worth 99 %."""
    toy, data = "toy_satiation", covering_log("toy_satiation")
    ranked = learned(trained("bcq", data, support_threshold=0.2), data, TOYS[toy](), "q_in_support")
    assert value_of(toy, ranked) >= 0.95 * optimum(toy) > 1.2 * of_the_log(toy, data)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_where_the_log_does_not_cover_the_optimum_the_support_is_kept_and_plain_dqn_promises_too_much() -> None:
    """toy_satiation, the feast never shown to the tired. Promise: the highest Q at the start; then what its policy is worth there."""
    toy, data = "toy_satiation", narrow_log()
    mdp = TOYS[toy]()
    log, start = logged_mdp(data, mdp), mdp.start
    today = of_the_log(toy, data)
    rows: dict[str, tuple[float, float]] = {}
    fewer = {"passes": 1_500 * 256 / int((data.transitions.split == TRAIN).sum())}
    for name, by, given in (
        ("dqn", "q", PLAIN), ("bcq", "q_in_support", {"support_threshold": 0.2}), ("cql", "q", {"cql_alpha": 0.1}),
        ("iql", "policy", {"expectile": 0.9, "inverse_temperature": 4.0}),
    ):  # fmt: skip
        model = trained(name, data, **given, **fewer)
        q, ranked = learned(model, data, mdp, "q"), learned(model, data, mdp, by)
        shown = np.nanargmax(ranked, 1)
        rows[name] = float(q[start, shown[start]]), value_of(toy, ranked)
        if name != "dqn":
            states = log.share.sum(1) > 0.01
            assert (log.behaviour[np.arange(len(shown)), shown] > 0)[states].all(), f"{name} stays inside what was shown"
            assert rows[name][1] > today
    print("\n".join(f"{name}: promises {promise:.2f}, earns {earns:.2f}; the log {today:.2f}" for name, (promise, earns) in rows.items()))
    over = {name: promise - earns for name, (promise, earns) in rows.items()}
    assert over["dqn"] > 2 * max(over["bcq"], over["iql"], 0) and rows["dqn"][1] < rows["bcq"][1]
