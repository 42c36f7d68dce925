"""How much each simulated customer explores."""

import numpy as np
import pytest

from qurate.algorithms.table import make_objective
from qurate.environments.registry import make_engine
from qurate.learning.learner import Learner
from qurate.learning.loops import epsilon_at, lane_epsilons, train_online
from qurate.replay.samplers import OnlineSampler
from qurate.replay.writers import OnlineWriter
from qurate.settings import ExplorationSettings, from_flat
from qurate.training.train import fresh_model
from qurate.types import Availability


def test_epsilon_falls_linearly_and_stays() -> None:
    schedule = ExplorationSettings(epsilon_start=1.0, epsilon_end=0.2, epsilon_steps=100)
    assert [epsilon_at(step, schedule) for step in (0, 50, 100, 500)] == pytest.approx([1.0, 0.6, 0.2, 0.2])


def test_customers_explore_alike_or_from_epsilon_to_one_in_equal_ratios() -> None:
    assert lane_epsilons(0.01, 3, spread=False) == pytest.approx([0.01, 0.01, 0.01])
    assert lane_epsilons(0.01, 3, spread=True) == pytest.approx([0.01, 0.1, 1.0])


@pytest.mark.parametrize(("epsilon", "least", "most"), [(0.0, 0.0, 0.0), (0.5, 0.4, 0.6), (1.0, 0.95, 1.0)])
def test_the_replay_knows_which_actions_were_exploration(epsilon: float, least: float, most: float) -> None:
    settings = from_flat({"window": 4, "epsilon_start": epsilon, "epsilon_end": epsilon, "warm_up": 10_000})
    engine = make_engine("shop", window=4)
    model = fresh_model(engine, settings, "dqn", 0, "shop")
    writer = OnlineWriter(32, 3_200, 4, engine.component_weights, Availability.always(engine.n_items), model.user_dim, 0.9, 1e5)
    learner = Learner(model.network, make_objective("dqn", settings), settings.learning)
    rng = np.random.default_rng(0)
    loop = train_online(learner, engine, writer, OnlineSampler(writer), rng, settings, seed=0)
    for _ in range(20):
        next(loop)
    explored = writer.tables.explored[writer.tables.action > 0]
    assert len(explored) >= 600 and least <= explored.mean() <= most
