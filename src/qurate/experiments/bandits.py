"""LinUCB and Thompson sampling in a simulated world: they learn from the first customer on, while they serve (`baselines/bandit.py`)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qurate.baselines.bandit import BanditScorer, Sums, bandit_of, features, item_numbers, listed_features, n_features
from qurate.baselines.training_rows import interest
from qurate.choosing.merchandising import allowed
from qurate.choosing.policy import ScoredPolicy
from qurate.choosing.selection import GREEDY, choose
from qurate.environments.engine import BatchedEngine
from qurate.evaluation.rollouts import customers_seed, items_at
from qurate.types import Observation, Policy, Propensities

BANDITS = ("linucb", "thompson")
LANES = 64
"""Customers served at once; all of them meet what was learnt up to the last step."""
REGULARISATION = 1.0
WIDTH = {"linucb": 0.3, "thompson": 0.3}
"""Exploration, in standard deviations of the reward: standard errors added, and the spread of the posterior. Of 0, .1, .3 and 1
these earned most in `shop` after 30,000 decisions, on customers of a seed (100) that no comparison uses."""


class ThompsonPolicy:
    """Shows what one draw from the posterior ranks highest.

    Its probabilities have no closed form: `act` gives NaN, or with `draws` their Monte-Carlo estimate, the share of so many
    further draws that choose the same item (one imaginary draw added, so that none is 0).

    Args:
        scorer: the bandit.
        scale: spread of the posterior, reward units.
        slate_size: items shown at once; probabilities are estimated for one only.
        draws: 0 = no probabilities.
    """

    name = "thompson"

    def __init__(self, scorer: BanditScorer, scale: float, slate_size: int = 1, draws: int = 0) -> None:
        self.scorer, self.scale, self.slate_size, self.draws = scorer, scale, slate_size, draws

    def act(self, observation: Observation[Any], rng: np.random.Generator) -> tuple[NDArray[np.int64], Propensities]:
        """Positions in the candidates, [B] or [B, k], and their probabilities, NaN where they are not estimated."""
        actions = self._drawn(observation, rng)
        if not self.draws or self.slate_size > 1:
            return actions, np.full(actions.shape, np.nan)
        again = sum((self._drawn(observation, rng) == actions).astype(np.float64) for _ in range(self.draws))
        return actions, (again + 1) / (self.draws + 1)

    def _drawn(self, observation: Observation[Any], rng: np.random.Generator) -> NDArray[np.int64]:
        scores, k = self.scorer.drawn(observation, self.scale, rng), None if self.slate_size == 1 else self.slate_size
        return choose(GREEDY, scores, allowed(observation), rng, k)[0]


def bandit_in(name: str, engine: BatchedEngine, seed: int, decisions: int) -> Policy:
    """The bandit after so many decisions of its own, on customers that it is not measured on; it explores as it did when it learned.

    Args:
        name: of `BANDITS`.
        seed: of the customers, and of the draws.
    """
    numbers, rng = item_numbers(engine.item_features), np.random.default_rng([seed, 17])
    wanted = interest(engine.type_names, engine.component_names, engine.component_weights)
    columns, n_types = engine.candidate_columns or None, len(engine.type_names)
    sums = Sums.empty(len(numbers) - 1, n_features(numbers.shape[1], len(engine.user_feature_names), columns, n_types))
    squares = total = 0.0
    policy: Policy = _policy(name, bandit_of(sums, numbers, wanted, REGULARISATION, 1.0, name, columns), 1.0, engine.slate_size)
    observation = engine.reset(customers_seed(seed, "train"), min(LANES, decisions))
    for _ in range(decisions // LANES):
        actions = policy.act(observation, rng)[0]
        feedback = engine.step(actions)
        shown = items_at(observation.actions.candidates, actions).reshape(len(actions), -1)
        reward = _of_each(feedback.reward.astype(np.float64), feedback.clicked, shown.shape[1])
        z = features(observation, numbers, wanted, shown)
        listed = listed_features(observation, columns, n_types)
        if listed is not None:
            own = np.take_along_axis(listed, actions.reshape(*shown.shape, 1), axis=1)
            z = np.concatenate([z, own], axis=2)
        sums.add(z.reshape(shown.size, -1).astype(np.float64), shown.ravel(), reward.ravel())
        squares, total = squares + float((reward**2).sum()), total + float(reward.sum())
        mean = total / sums.n.sum()
        spread = max(squares / sums.n.sum() - mean**2, 1e-12) ** 0.5
        policy = _policy(name, bandit_of(sums, numbers, wanted, REGULARISATION, 1.0, name, columns), spread, engine.slate_size)
        observation = feedback.obs
    return policy


def _policy(name: str, scorer: BanditScorer, spread: float, slate_size: int) -> Policy:
    """Args: spread: standard deviation of the reward of one item."""
    if name == "thompson":
        return ThompsonPolicy(scorer, WIDTH[name] * spread, slate_size)
    scorer.width = WIDTH[name] * spread
    return ScoredPolicy(scorer, GREEDY, slate_size, name=name)


def _of_each(reward: NDArray[np.float64], clicked: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """The reward of each item of a slate, [B, k]: that of the slate for the item clicked, else shared by all alike."""
    if k == 1:
        return reward[:, None]
    at = np.arange(k) == clicked[:, None]
    return np.where((clicked >= 0)[:, None], at * reward[:, None], reward[:, None] / k)
