"""How much each simulated customer explores."""

import numpy as np
import pytest

from qurate.choosing.selection import epsilon_greedy
from qurate.environments.registry import make_engine
from qurate.learning.learner import Learner
from qurate.learning.loops import epsilon_at, lane_epsilons, train_online
from qurate.replay.writers import OnlineWriter
from qurate.settings import Settings
from qurate.training.train import fresh_model


def test_epsilon_falls_linearly_and_stays() -> None:
    assert [epsilon_at(step, 1.0, 0.2, 100) for step in (0, 50, 100, 500)] == pytest.approx([1.0, 0.6, 0.2, 0.2])


def test_customers_explore_alike_or_from_epsilon_to_one_in_equal_ratios() -> None:
    assert lane_epsilons(0.01, 3, spread=False) == pytest.approx([0.01, 0.01, 0.01])
    assert lane_epsilons(0.01, 3, spread=True) == pytest.approx([0.01, 0.1, 1.0])


@pytest.mark.parametrize(("epsilon", "least", "most"), [(0.0, 0.0, 0.0), (0.5, 0.4, 0.6), (1.0, 0.95, 1.0)])
def test_the_replay_knows_which_actions_were_exploration(epsilon: float, least: float, most: float) -> None:
    settings = Settings(window=4, epsilon_start=epsilon, epsilon_end=epsilon)
    engine = make_engine("shop", window=4)
    model = fresh_model(engine, settings, "dqn", 0, "shop")
    writer = OnlineWriter(32, 3_200, 4, engine.component_weights, engine.n_items, model.user_dim, 0.9, 1e5)
    loop = train_online(Learner(model.network, settings), engine, writer, epsilon_greedy, np.random.default_rng(0), 0, warmup=10_000)
    for _ in range(20):
        next(loop)
    explored = writer.tables.explored[writer.tables.action > 0]
    assert len(explored) >= 600 and least <= explored.mean() <= most
