import math

import numpy as np
import polars as pl
import pytest

from qurate.baselines.registry import random_policy
from qurate.environments.registry import make_engine
from qurate.environments.scenarios.shop_references import true_myopic
from qurate.errors import UserError
from qurate.evaluation.compare import Contender, collect, play, summarise
from qurate.evaluation.report import Report
from qurate.evaluation.rollouts import PURPOSES, customers_seed, first_allowed, items_at, positions_of, rollout, take_customers
from qurate.evaluation.static_list import StaticCycle, StaticSlate

DAY = 86_400.0


def test_each_customer_is_measured_for_exactly_one_episode(tiny_world, always) -> None:
    result = rollout(tiny_world(), always(2), seed=0, customers=6, gamma=0.5, tau=DAY)
    assert result.length.tolist() == [1, 2, 3, 1, 2, 3]
    assert result.returns.tolist() == [3, 6, 9, 3, 6, 9]  # the customers who follow in a lane bring nothing
    across = math.exp(-1.0)  # one day of pause after the second decision
    assert result.discounted.tolist() == pytest.approx([3, 4.5, 4.5 + 3 * 0.5 * across] * 2, rel=1e-6)
    assert result.visits.tolist() == [1, 1, 2, 1, 1, 2]
    assert result.terminated.all()
    assert result.present.tolist() == [6, 4, 2]
    assert result.step_reward.tolist() == [18, 12, 6]
    assert result.shown.tolist() == [0, 0, 0, 12, 0]
    assert result.components[:, 0].tolist() == result.returns.tolist()


def test_summary(tiny_world, always) -> None:
    summary = rollout(tiny_world(), always(0), seed=0, customers=3).summary()
    assert summary["return"] == 2.0
    assert summary["decisions"] == 2.0
    assert summary["visit_length"] == 6 / 4
    assert summary["came_back"] == pytest.approx(1 / 3)
    assert summary["coverage"] == 0.25
    assert summary["gone"] == 1.0
    four = rollout(tiny_world(), always(0), seed=0, customers=4).summary()
    assert four["visit_length"] == 7 / 5, "decisions over visits, not the mean of each customer's"


def test_gamma_zero_counts_the_first_decision_only(tiny_world, always) -> None:
    assert rollout(tiny_world(), always(1), seed=0, customers=3, gamma=0.0).discounted.tolist() == [2, 2, 2]


def test_the_measurement_stops_at_its_limit_without_calling_it_an_end(tiny_world, always) -> None:
    result = rollout(tiny_world(steps=50), always(0), seed=0, customers=2, max_decisions=5)
    assert result.length.tolist() == [5, 5]
    assert not result.terminated.any()


def test_common_random_numbers(tiny_world, always) -> None:
    """Two policies with the same seed meet the same customers: their difference has no noise."""
    low = rollout(tiny_world(noise=5.0), always(0), seed=3, customers=30)
    high = rollout(tiny_world(noise=5.0), always(1), seed=3, customers=30)
    np.testing.assert_allclose(high.returns - low.returns, low.length, atol=1e-4)
    again = rollout(tiny_world(noise=5.0), always(0), seed=3, customers=30)
    assert (again.returns == low.returns).all()
    other = rollout(tiny_world(noise=5.0), always(0), seed=4, customers=30)
    assert (other.returns != low.returns).any()


def test_training_and_evaluation_customers_differ() -> None:
    seeds = {customers_seed(seed, purpose) for seed in range(20) for purpose in PURPOSES}
    assert len(seeds) == 100
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_an_illegal_action_is_named(tiny_world, always) -> None:
    with pytest.raises(UserError, match="position 9, at policy wild, decision 0"):
        rollout(tiny_world(), always(9, "wild"), seed=0, customers=2)
    with pytest.raises(UserError, match="at least one customer"):
        rollout(tiny_world(), always(0), seed=0, customers=0)


def test_a_masked_action_is_refused_and_an_empty_mask_is_said(tiny_world, always) -> None:
    world = tiny_world()
    observation = world.reset(0, 2)
    mask = np.array([[1, 0, 1, 1], [1, 1, 1, 1]], np.int8)
    world._observe = lambda: observation._replace(actions=observation.actions._replace(mask=mask))
    with pytest.raises(UserError, match="expected an allowed candidate, got position 1"):
        rollout(world, always(1), seed=0, customers=2)
    mask[0] = 0
    with pytest.raises(UserError, match="no allowed candidate at all"):
        rollout(world, always(1), seed=0, customers=2)


def test_what_traced_customers_were_shown_has_its_category_and_price(always) -> None:
    engine = make_engine("shop", n_items=40)
    rows = [Contender("alone", lambda seed: always(3), "candidate")]
    runs = collect(rows, play(rows, lambda seed: engine, [0], customers=3, trace=1))
    step = runs[0].rollouts[0].trace[0]
    row = engine.world.items_table().row(by_predicate=pl.col("item_id") == step.items[0], named=True)
    about = f"{row['category']}, {row['price']:,.2f}"
    assert step.about == (about,) and row["price"] > 0
    assert f"<bdi>{step.items[0]}</bdi> ({about})" in Report(summarise("shop", [0], runs), runs=runs).html()


def test_trace_follows_the_first_customers(tiny_world, always) -> None:
    trace = rollout(tiny_world(), always(1), seed=0, customers=4, trace=3).trace
    assert [(m.customer, m.decision, m.visit) for m in trace] == [(0, 0, 1), (1, 0, 1), (2, 0, 1), (1, 1, 1), (2, 1, 1), (2, 2, 2)]
    assert trace[0].items == ("item2",)
    assert trace[0].reward == 2.0 and trace[0].events == (), "that it was shown is not said again"
    assert [m.left for m in trace] == [True, False, False, True, True, True]


def test_rows_keep_shared_candidates_shared(tiny_world) -> None:
    observation = tiny_world(n_items=5).reset(0, 4)
    some = take_customers(observation, np.array([1, 3]))
    assert some.actions.candidates.shape == (2, 5)
    assert some.actions.candidates.strides[0] == 0
    own = observation._replace(actions=observation.actions._replace(candidates=np.arange(20).reshape(4, 5)))
    assert take_customers(own, np.array([3])).actions.candidates.tolist() == [[15, 16, 17, 18, 19]]
    assert items_at(own.actions.candidates, np.array([0, 1, 2, 3])).tolist() == [0, 6, 12, 18]
    assert items_at(own.actions.candidates, np.array([[0, 1]] * 4)).tolist() == [[0, 1], [5, 6], [10, 11], [15, 16]]


def test_first_allowed() -> None:
    mask = np.array([[0, 1, 1], [1, 0, 1]], np.int8)
    assert first_allowed(mask, 1).tolist() == [[1], [0]]
    assert first_allowed(mask, 2).tolist() == [[1, 2], [0, 2]]
    assert first_allowed(np.broadcast_to(mask[0], (3, 3)), 2).tolist() == [[1, 2]] * 3


def test_references_are_asked_about_every_lane(tiny_world) -> None:
    """A reference knows lanes, not rows: asked about every lane it stays aligned, and nothing else changes."""

    class LaneReader:
        name = "reads_lanes"

        def __init__(self, world) -> None:
            self.world = world

        def act(self, observation, rng):
            return self.world.todo % 4, np.ones(len(self.world.todo))

    world = tiny_world()
    result = rollout(world, LaneReader(world), seed=0, customers=6, every_lane=True)
    assert result.returns.tolist() == [2, 3 * 2, 4 * 3] * 2
    with pytest.raises(UserError, match="one action for each of 4 customers"):
        rollout(world, LaneReader(world), seed=0, customers=6)


def test_a_shop_customer_brings_the_same_in_any_company() -> None:
    """The real engine: customer b of a seed is the same among 7 and among 40, and references stay with their lanes."""
    shop = make_engine("shop", n_items=60, max_steps=12)
    for policy, aligned in ((StaticCycle([3, 40, 17], 1), False), (true_myopic(shop), True)):
        few = rollout(shop, policy, seed=5, customers=7, every_lane=aligned)
        many = rollout(shop, policy, seed=5, customers=40, every_lane=aligned)
        np.testing.assert_array_equal(few.returns, many.returns[:7])
        np.testing.assert_array_equal(few.length, many.length[:7])
        assert many.length.max() == 12 and (many.length[~many.terminated] == 12).all()
        assert 0 < many.terminated.sum() < 40
        assert many.shown.sum() == many.length.sum()
        np.testing.assert_allclose(many.components @ shop.component_weights, many.returns, rtol=1e-5)
        assert many.step_reward.sum() == pytest.approx(many.returns.sum())


def test_a_step_limit_is_no_end_and_the_pause_after_it_no_visit(tiny_world, always) -> None:
    world = tiny_world()
    step = world.step

    def stopped(actions):
        fb = step(actions)
        pause = np.where(fb.terminated, DAY, fb.pause).astype(np.float32)
        return fb._replace(truncated=fb.terminated, terminated=np.zeros_like(fb.terminated), pause=pause)

    world.step = stopped
    result = rollout(world, always(0), seed=0, customers=6)
    assert result.length.tolist() == [1, 2, 3] * 2 and result.visits.tolist() == [1, 1, 2] * 2
    assert not result.terminated.any() and result.summary()["gone"] == 0


def test_a_slates_reward_counts_for_each_of_its_items() -> None:
    result = rollout(make_engine("shop", n_items=20, slate_size=2, max_steps=6), StaticSlate([3, 7]), seed=0, customers=50)
    assert np.flatnonzero(result.shown).tolist() == [3, 7] and result.shown[3] == result.length.sum()
    assert result.earned[[3, 7]].tolist() == pytest.approx([result.returns.sum()] * 2) and result.returns.sum() > 0


def test_a_policys_own_chance_comes_from_the_seed() -> None:
    shop = make_engine("shop", n_items=20, max_steps=4)
    one, again, other = (rollout(shop, random_policy(), seed=seed, customers=30).shown for seed in (1, 1, 2))
    assert (one == again).all() and (one != other).any()


def test_positions_of_items() -> None:
    candidates = np.array([[0, 5, 3], [4, 0, 0]])
    assert positions_of(candidates, np.array([3, 5])).tolist() == [2, -1]
    assert positions_of(candidates, np.array([0, 0])).tolist() == [-1, -1], "padding is no item"
    shared = np.broadcast_to(np.array([0, 5, 3]), (4, 3))
    assert positions_of(shared, np.array([5, 3, 0, 9])).tolist() == [1, 2, -1, -1]
