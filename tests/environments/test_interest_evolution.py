"""Interest evolution: hand values of choice, interests and budget, and the figures measured on RecSim 0.2.4."""

import numpy as np
import pytest

from qurate.baselines.registry import random_policy
from qurate.environments.engine import BatchedEngine
from qurate.environments.registry import make_engine, make_env
from qurate.environments.rng import customer_keys, uniform_items
from qurate.environments.scenarios.interest_evolution import InterestEvolution, InterestParameters, topic_quality
from qurate.environments.scenarios.interest_evolution_references import far_sighted
from qurate.errors import Code, UserError
from qurate.evaluation.rollouts import rollout
from qurate.types import IntArray

N = 200_000


def many(items: list[int], interests: list[float], budget: float = 200.0) -> tuple[InterestEvolution, IntArray]:
    """N viewers with these interests in topics 1, 2, ... and one slate of `items`, answered once; where they clicked."""
    world = InterestEvolution()
    world.allocate(N)
    keys = customer_keys(7, np.arange(N))
    world.enter(np.arange(N), keys)
    world.interest[:, : len(interests)] = interests
    world.budget[:] = budget
    slate = np.tile(items, (N, 1)) if len(items) > 1 else np.full(N, items[0])
    return world, world.respond(slate, keys, np.zeros(N, np.int64)).clicked


@pytest.mark.parametrize(
    ("interests", "slate"), [([0.5, -0.4, 0.9], [1, 2, 3]), ([-1.0, 1.0], [1, 2]), ([0.3], [1]), ([0.2, 0.6], [1, 1])], ids=str
)
def test_the_choice_is_proportional_to_interest_plus_one(interests: list[float], slate: list[int]) -> None:
    """P(i) = (1 + u_i) / (2 + sum (1 + u_j)): choice model "multinomial proportional" with min_normalizer -1 and no_click_mass 1."""
    _, clicked = many(slate, interests)
    mass = 1 + np.array([interests[i - 1] for i in slate])
    expected = np.append(mass, 2) / (mass.sum() + 2)
    seen = np.bincount(np.where(clicked < 0, len(slate), clicked), minlength=len(slate) + 1) / N
    assert seen == pytest.approx(expected, abs=4.5 * np.sqrt(0.25 / N))


@pytest.mark.parametrize("x", [-1.0, -0.5, 0.0, 0.4, 1.0])
def test_an_interest_steps_up_with_probability_half_of_one_plus_it(x: float) -> None:
    """u <- u +- 0.3 (1 - |u|)(1 - u) in the watched topic (RecSim: alpha(u) * mask * (document - u)), no other changes."""
    world, clicked = many([3], [0.1, 0.2, x])
    step = 0.3 * (1 - abs(x)) * (1 - x)
    after, watched = world.interest[:, 2], clicked >= 0
    assert (after[~watched] == np.float32(x)).all()
    up = np.abs(after[watched] - np.clip(x + step, -1, 1)) < 1e-6
    down = np.abs(after[watched] - np.clip(x - step, -1, 1)) < 1e-6
    assert (up | down).all()
    if step > 0:
        assert up.mean() == pytest.approx((1 + x) / 2, abs=4.5 * np.sqrt(0.25 / watched.sum()))
    assert (world.interest[:, :2] == np.float32([0.1, 0.2])).all()


def test_the_budget_pays_for_a_document_by_its_quality() -> None:
    """b <- b - 4 + 0.9 / 3.4 * 4 * q with q ~ N(topic's mean, 0.1); b <- b - 0.5 without a click."""
    quality = topic_quality(InterestParameters())
    assert quality[[0, 13, 14, 19]].tolist() == [-3, 0, 0, 3] and quality[1] == pytest.approx(-3 + 3 / 13)
    world, clicked = many([20, 1], [0.0] * 20)
    for position, mean in ((0, 3.0), (1, -3.0)):
        cost = 200 - world.budget[clicked == position]
        assert cost.mean() == pytest.approx(4 - 0.9 / 3.4 * 4 * mean, abs=0.002)
        assert cost.std() == pytest.approx(0.9 / 3.4 * 4 * 0.1, rel=0.02)
    assert (world.budget[clicked < 0] == 199.5).all()


def test_no_more_is_watched_than_the_budget_has_and_then_it_is_over() -> None:
    """RecSim's watch time is min(budget, length); quality gives back a share of that, and a viewer without budget is gone."""
    engine = make_engine("interest_evolution", slate_size=2)
    engine.reset(0, 500)
    world = engine.world
    assert isinstance(world, InterestEvolution)
    world.budget[:], world.interest[:] = 1.5, 1.0
    feedback = engine.step(np.tile([0, 1], (500, 1)))
    watched = feedback.clicked >= 0
    assert (feedback.reward[watched] == 1.5).all() and not feedback.reward[~watched].any()
    shown = np.where(watched, feedback.clicked, 0)
    assert not feedback.terminated[~watched].any() and feedback.terminated[watched].any() and shown.max() == 1
    assert (world.budget > 0).all(), "who is gone is followed by somebody with time"


def test_documents_are_drawn_anew_and_uniformly_with_replacement() -> None:
    engine = make_engine("interest_evolution", slate_size=2)
    counts, same = np.zeros(21), 0
    observation = engine.reset(0, 4_000)
    for _ in range(10):
        before = observation.actions.candidates
        counts += np.bincount(before.ravel(), minlength=21)
        observation = engine.step(np.tile([0, 1], (4_000, 1))).obs
        same += int((before == observation.actions.candidates).all(axis=1).sum())
    assert counts[0] == 0 and same == 0
    assert ((counts[1:] - counts.sum() / 20) ** 2 / (counts.sum() / 20)).sum() < 43.8, "chi-square, 19 degrees of freedom, 0.1 %"
    row = np.sort(observation.actions.candidates, axis=1)
    distinct = (row[:, 1:] != row[:, :-1]).all(axis=1).mean()
    assert distinct == pytest.approx(np.prod(1 - np.arange(10) / 20), abs=0.01), "the birthday problem"


def test_single_draws_are_the_first_of_many() -> None:
    keys = customer_keys(3, np.arange(50))[:, None]
    assert (uniform_items(keys.copy(), 3, 20) == uniform_items(keys.copy(), 9, 20)[:, :3]).all()


def test_the_recommender_sees_the_interests_of_the_moment() -> None:
    engine = make_engine("interest_evolution", slate_size=2, max_steps=6)
    seen = engine.reset(0, 300)
    world, first = engine.world, seen.state.user.copy()
    assert isinstance(world, InterestEvolution) and (seen.state.user == world.interest).all()
    for _ in range(5):
        feedback = engine.step(np.tile([0, 1], (300, 1)))
        assert (feedback.obs.state.user == world.interest).all()
        assert feedback.user is not None and (feedback.user == feedback.obs.state.user).all()
    assert (first == seen.state.user).all() and (first != feedback.obs.state.user).any(), "an observation handed out stays as it was"
    last = engine.step(np.tile([0, 1], (300, 1)))
    assert last.truncated.all() and last.user is not None and (last.user != last.obs.state.user).any(axis=1).all()


@pytest.mark.parametrize(("slate_size", "reward", "within", "length"), [(2, 153.8, 1.1, 84), (3, 160.5, 1.3, 72)], ids=["10/2", "10/3"])
def test_the_random_policy_earns_what_it_earns_in_recsim(slate_size: int, reward: float, within: float, length: float) -> None:
    """Measured on RecSim 0.2.4 itself, resample_documents=True, 10 candidates."""
    engine = make_engine("interest_evolution", slate_size=slate_size, window=1)
    run = rollout(engine, random_policy(slate_size), 0, 4_000)
    own = 1.96 * run.returns.std() / np.sqrt(4_000)
    assert abs(run.returns.mean() - reward) < within + own
    assert run.length.mean() == pytest.approx(length, abs=1.2)
    assert run.terminated.all() and run.length.max() < engine.max_steps


def test_where_nothing_changes_later_the_far_sighted_are_no_better() -> None:
    """At strength 0 every document costs the same and no interest moves: the slate that is watched most is the best."""
    engine = make_engine("interest_evolution", slate_size=2, strength=0.0, window=1)
    engine.reset(0, 100)
    world = engine.world
    assert isinstance(world, InterestEvolution)
    before = world.interest.copy()
    engine.step(np.tile([0, 1], (100, 1)))
    assert (world.interest == before).all() and np.isin(world.budget, np.float32([196, 199.5])).all()
    policy = far_sighted(engine, price=0.7)
    chosen, _ = policy.act(engine.observation, np.random.default_rng(0))
    interest = np.take_along_axis(world.interest, engine.observation.actions.candidates - 1, axis=1)
    best = np.sort(interest, axis=1)[:, -2:].sum(axis=1)
    assert np.take_along_axis(interest, chosen, axis=1).sum(axis=1) == pytest.approx(best)


def test_the_far_sighted_slate_is_the_best_of_all_slates() -> None:
    """Against every pair of the ten candidates: expected minutes less the price of the budget."""
    engine = make_engine("interest_evolution", slate_size=2, window=1)
    engine.reset(1, 40)
    world, price = engine.world, 0.8
    assert isinstance(world, InterestEvolution)
    chosen, _ = far_sighted(engine, price).act(engine.observation, np.random.default_rng(0))
    candidates = engine.observation.actions.candidates - 1
    mass = 1 + np.take_along_axis(world.interest, candidates, axis=1)
    gain = 4 - price * (4 - 4 * 0.9 / 3.4 * world.quality[candidates])

    def worth(slate: IntArray) -> np.ndarray:
        m, g = np.take_along_axis(mass, slate, axis=1), np.take_along_axis(gain, slate, axis=1)
        return ((m * g).sum(1) - 2 * price * 0.5) / (m.sum(1) + 2)

    pairs = [np.tile([i, j], (40, 1)) for i in range(10) for j in range(i + 1, 10)]
    assert worth(chosen) == pytest.approx(np.max([worth(pair) for pair in pairs], axis=0), abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"slate_size": 11}, "expected n_candidates >= slate_size (11), got 10, at n_candidates"),
        ({"slate_size": 3, "n_candidates": 2}, "expected n_candidates >= slate_size (3), got 2, at n_candidates"),
        ({"slate_size": 0}, "slate_size of at least 1"),
        ({"n_items": 19}, "expected n_items=20 for interest_evolution, got 19"),
        ({"strength": 1.5}, "strength from 0 to 1 for interest_evolution, got 1.5"),
        ({"max_steps": 0}, "max_steps of at least 1"),
    ],
)
def test_mistakes_are_named(arguments: dict, text: str) -> None:
    with pytest.raises(UserError) as caught:
        make_engine("interest_evolution", **arguments)
    assert text in str(caught.value)


def test_bad_slates_are_named() -> None:
    engine = make_engine("interest_evolution", slate_size=2)
    engine.reset(0, 3)
    cases = (([[0, 0]] * 3, "distinct positions within a slate"), ([[0, 10]] * 3, "actions from 0 to 9"), ([[0, 1]] * 2, "[3, 2]"))
    for slate, text in cases:
        with pytest.raises(UserError) as caught:
            engine.step(np.array(slate))
        assert text in str(caught.value) and caught.value.code is Code.BAD_ACTION


def test_more_candidates_than_topics() -> None:
    engine = make_engine("interest_evolution", slate_size=2, n_candidates=30)
    assert engine.reset(0, 5).actions.candidates.shape == (5, 30)


def test_a_resumed_engine_goes_on_bit_for_bit() -> None:
    slates = np.tile([0, 1], (40, 1))
    engine, again = (make_engine("interest_evolution", slate_size=2) for _ in range(2))
    engine.reset(0, 40)
    for _ in range(20):
        engine.step(slates)
    again.restore(engine.state())
    for _ in range(100):  # long enough that viewers change
        one, other = engine.step(slates), again.step(slates)
        assert (one.reward == other.reward).all() and (one.obs.state.user == other.obs.state.user).all()
        assert (one.obs.actions.candidates == other.obs.actions.candidates).all()


def test_arguments_may_stand_in_the_name() -> None:
    engine = make_engine("interest_evolution,slate_size=3,n_candidates=12,strength=0.5")
    assert (engine.slate_size, engine.n_candidates) == (3, 12) and isinstance(engine, BatchedEngine)
    assert make_env("qurate/InterestEvolution-v0,slate_size=2").action_space.nvec.tolist() == [10, 10]  # type: ignore[attr-defined]
    for name, text in (
        ("shop,slate_size", "each NAME=NUMBER once after a comma, got 'slate_size'"),
        ("shop,slate_size=a", "got 'slate_size=a'"),
        ("shop,slate_size=2,slate_size=3", "got 'slate_size=3'"),
        ("shop,slate_sise=2", "did you mean slate_size?"),
        ("shop,", "got ''"),
    ):
        with pytest.raises(UserError) as caught:
            make_engine(name)
        assert text in str(caught.value)


def test_a_viewer_without_a_minute_is_gone() -> None:
    world = InterestEvolution()
    world.allocate(3)
    keys = customer_keys(0, np.arange(3))
    world.enter(np.arange(3), keys)
    world.interest[:], world.budget[:] = -1, [0.5, 1.0, 0.25]  # nobody watches anything
    answer = world.respond(np.ones((3, 2), np.int64), keys, np.zeros(3, np.int64))
    assert (answer.clicked == -1).all() and world.budget.tolist() == [0, 0.5, -0.25]
    assert answer.gone.tolist() == [True, False, True]
