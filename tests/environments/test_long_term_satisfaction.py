"""Long-term satisfaction: engagement and exposure follow their formulas, and the figure measured on RecSim 0.2.4."""

import math

import numpy as np
import pytest

from qurate.baselines.registry import random_policy
from qurate.environments.engine import Outcome
from qurate.environments.registry import make_engine
from qurate.environments.rng import customer_keys, gaussian_pairs, purposes
from qurate.environments.scenarios.long_term_satisfaction import LongTermSatisfaction
from qurate.environments.scenarios.long_term_satisfaction_references import far_sighted, true_myopic, values_to_go
from qurate.errors import Code, UserError
from qurate.evaluation.rollouts import rollout
from qurate.types import FloatArray

N = 200_000
NAME = "long_term_satisfaction"


def answered(world: LongTermSatisfaction, items: list[int], exposure: float, seed: int = 7) -> Outcome:
    """N customers of this exposure and one slate of `items`, answered once; `world.exposure` is what it was after that."""
    world.allocate(N)
    keys = customer_keys(seed, np.arange(N))
    world.enter(np.arange(N), keys)
    world.exposure[:] = exposure
    slate = np.tile(items, (N, 1)) if len(items) > 1 else np.full(N, items[0])
    return world.respond(slate, keys, np.zeros(N, np.int64))


def test_gaussian_pairs_are_independent_standard_normals_with_tails() -> None:
    z = gaussian_pairs(customer_keys(0, np.arange(1_000_000)), purposes(0, 2)).astype(np.float64)
    assert z.mean(axis=1) == pytest.approx([0, 0], abs=0.005) and z.std(axis=1) == pytest.approx([1, 1], abs=0.004)
    assert np.corrcoef(z)[0, 1] == pytest.approx(0, abs=0.005) and np.corrcoef(z**2)[0, 1] == pytest.approx(0, abs=0.005)
    for row in z:
        assert np.exp(row).mean() == pytest.approx(math.exp(0.5), rel=0.01), "of a lognormal; bounded noise would have 1.629"
        for limit in (1.0, 2.0, 3.0):
            share = math.erfc(limit / math.sqrt(2))
            assert (np.abs(row) > limit).mean() == pytest.approx(share, abs=4.5 * math.sqrt(share / 1e6))
        assert 4.2 < np.abs(row).max() < 5.8


@pytest.mark.parametrize("slate", [[1, 100], [100, 1], [40, 40, 90]], ids=str)
def test_the_first_document_of_a_slate_is_always_taken(slate: list[int]) -> None:
    """P(position 0) = 1, as in RecSim 0.2.4: the rest of a slate changes nothing."""
    world, alone = LongTermSatisfaction(), LongTermSatisfaction()
    of_slate, of_first = answered(world, slate, 0.3), answered(alone, slate[:1], 0.3)
    assert (of_slate.clicked == 0).all() and (of_slate.components == of_first.components).all()
    assert (world.exposure == alone.exposure).all()
    assert [group.type for group in of_slate.groups] == [2] and [group.type for group in of_first.groups] == [1, 2]
    assert (of_slate.groups[0].items == slate[0]).all()


@pytest.mark.parametrize("exposure", [-50.0, 0.0, 100.0])
@pytest.mark.parametrize("item", [1, 50, 100])
def test_engagement_is_lognormal_with_a_mean_that_satisfaction_scales(item: int, exposure: float) -> None:
    """log E ~ N((4 + c) * sigmoid(0.01 x), 1)."""
    clickbait = (item - 0.5) / 100
    outcome = answered(LongTermSatisfaction(), [item, 7], exposure)
    log = np.log(outcome.components[:, 0].astype(np.float64))
    assert log.mean() == pytest.approx((4 + clickbait) / (1 + math.exp(-0.01 * exposure)), abs=4.5 / math.sqrt(N))
    assert log.std() == pytest.approx(1, abs=4.5 / math.sqrt(2 * N))
    assert (outcome.groups[0].value == outcome.components[:, 0]).all()


@pytest.mark.parametrize("strength", [0.0, 1.0, 2.0])
@pytest.mark.parametrize(("item", "exposure"), [(1, -1.0), (100, -1.0), (76, 2.0)])
def test_exposure_decays_and_clickbait_pushes_it_down(item: int, exposure: float, strength: float) -> None:
    """x <- 0.7 x - strength * 2 (c - 0.5) + N(0, 0.05), apart from the luck of engagement."""
    world = LongTermSatisfaction(strength=strength)
    outcome = answered(world, [item], exposure)
    clickbait = (item - 0.5) / 100
    after = world.exposure.astype(np.float64)
    assert after.mean() == pytest.approx(0.7 * exposure - strength * 2 * (clickbait - 0.5), abs=4.5 * 0.05 / math.sqrt(N))
    assert after.std() == pytest.approx(0.05, rel=4.5 / math.sqrt(2 * N))
    luck = np.corrcoef(after, np.log(outcome.components[:, 0]))[0, 1]
    assert luck == pytest.approx(0, abs=4.5 / math.sqrt(N))


def test_customers_arrive_with_exposures_as_in_recsim() -> None:
    """Uniform in (-0.5, 0.5) / (1 - 0.7)."""
    world = LongTermSatisfaction()
    world.allocate(N)
    assert world.enter(np.arange(N), customer_keys(3, np.arange(N))).shape == (N, 0), "nothing of them is seen"
    tenths = np.histogram(world.exposure, 10, (-0.5 / 0.3, 0.5 / 0.3))[0]
    assert tenths.sum() == N and np.abs(tenths - N / 10).max() < 4.5 * math.sqrt(N / 10)


def test_satisfaction_today_is_that_of_the_exposure_before_the_document() -> None:
    world = LongTermSatisfaction(n_items=2, sensitivity=1.0, strength=2.0)
    log = np.log(answered(world, [2], 1.5).components[:, 0])
    assert log.mean() == pytest.approx(4.75 / (1 + math.exp(-1.5)), abs=0.01)


@pytest.mark.parametrize(("max_steps", "length"), [(60, 60), (100, 60), (25, 25)])
def test_a_customer_is_gone_after_sixty_decisions(max_steps: int, length: int) -> None:
    engine = make_engine(NAME, max_steps=max_steps, window=1)
    run = rollout(engine, random_policy(), 0, 50, every_lane=True)
    assert (run.length == length).all() and run.terminated.all() == (length == 60)


def test_the_random_policy_earns_what_it_earns_in_recsim() -> None:
    """RecSim 0.2.4 itself, 50 candidates and slates of 2: 935.6 +- 22.8, length 60. In closed form, since satisfaction is nearly
    0.5 with these constants: 60 times the mean over c of exp((4 + c) / 2 + 1 / 2)."""
    engine = make_engine(NAME, slate_size=2, window=1)
    assert isinstance(engine.world, LongTermSatisfaction) and (engine.world.sensitivity, engine.n_candidates) == (0.01, 50)
    run = rollout(engine, random_policy(2), 0, 3_000, every_lane=True)
    own = 1.96 * run.returns.std() / math.sqrt(3_000)
    assert abs(run.returns.mean() - 935.6) < 22.8 + own and (run.length == 60).all()
    assert run.returns.mean() == pytest.approx(60 * 2 * math.exp(2.5) * (math.exp(0.5) - 1), abs=2.5 * own)


def test_documents_are_drawn_anew_uniformly_and_only_their_clickbait_is_seen() -> None:
    engine = make_engine(NAME, n_items=20)
    observation, counts = engine.reset(0, 2_000), np.zeros(21)
    assert observation.actions.candidates.shape == (2_000, 50) and observation.state.user.shape == (2_000, 0)
    for _ in range(3):
        counts += np.bincount(observation.actions.candidates.ravel(), minlength=21)
        before = observation.actions.candidates
        observation = engine.step(np.zeros(2_000, np.int64)).obs
        assert (before != observation.actions.candidates).any(axis=1).all()
    assert counts[0] == 0 and ((counts[1:] - counts.sum() / 20) ** 2 / (counts.sum() / 20)).sum() < 43.8, "chi-square, 0.1 %"
    assert engine.feature_names == ["clickbait"] and (np.diff(engine.item_features[1:, 0]) > 0).all()
    assert engine.world.items_table()["clickbait"].to_list() == pytest.approx(((np.arange(20) + 0.5) / 20).tolist())


def test_the_batch_changes_nothing() -> None:
    """Customers 0, 1, ... alone, in sevens and among 1,024: the same numbers for the same actions."""
    seen: list[FloatArray] = []
    for n in (1, 7, 1_024):
        engine = make_engine(NAME, slate_size=2, sensitivity=0.25, max_steps=80)
        engine.reset(5, n)
        world = engine.world
        assert isinstance(world, LongTermSatisfaction)
        lane, rows = np.arange(n), []
        for step in range(40):
            feedback = engine.step(np.stack([(lane + step) % 50, (lane + step + 1) % 50], axis=1))
            rows.append(np.stack([feedback.reward, world.exposure, feedback.obs.actions.candidates[:, 3]], axis=1)[:7])
        seen.append(np.stack(rows))
    assert (seen[0] == seen[2][:, :1]).all() and (seen[1] == seen[2]).all()


def test_a_resumed_engine_goes_on_bit_for_bit() -> None:
    slates = np.tile([0, 1], (40, 1))
    engine, again = (make_engine(NAME, slate_size=2, sensitivity=0.25) for _ in range(2))
    engine.reset(0, 40)
    for _ in range(20):
        engine.step(slates)
    again.restore(engine.state())
    for _ in range(60):  # long enough that customers change
        one, other = engine.step(slates), again.step(slates)
        assert (one.reward == other.reward).all() and (one.obs.state.history_values == other.obs.state.history_values).all()


def expected(x: np.ndarray | float, clickbait: float, sensitivity: float) -> np.ndarray:
    return np.exp((4 + clickbait) / (1 + np.exp(-sensitivity * np.asarray(x))) + 0.5)


@pytest.mark.parametrize("sensitivity", [0.01, 0.25])
def test_the_value_of_two_decisions_by_hand(sensitivity: float) -> None:
    """Two levels of clickbait, 1/4 and 3/4; one candidate, and as many as one likes; noise by 21 points of Gauss-Hermite."""
    world = LongTermSatisfaction(n_items=2, sensitivity=sensitivity)
    x = np.linspace(-4, 4, 201, dtype=np.float32)
    points, weights = np.polynomial.hermite_e.hermegauss(21)
    now = np.stack([expected(x, c, sensitivity) for c in (0.25, 0.75)])
    after = np.stack([0.7 * x - 2 * (c - 0.5) for c in (0.25, 0.75)])[:, :, None] + 0.05 * points  # [2, G, 21]
    next_now = np.stack([expected(after, c, sensitivity) for c in (0.25, 0.75)])  # [2 (later), 2, G, 21]
    for k, later in ((1.0, next_now.mean(axis=0)), (math.inf, next_now.max(axis=0))):
        q = now + later @ weights / weights.sum()
        value = q.mean(axis=0) if k == 1 else q.max(axis=0)
        inside = slice(25, -25)  # beyond, the exposure may leave the grid
        assert values_to_go(world, x, 2, k)[2][inside] == pytest.approx(value[inside], rel=1e-4)


def test_the_best_of_two_candidates() -> None:
    """With two levels and two candidates, the better level is offered with probability 3 / 4."""
    world = LongTermSatisfaction(n_items=2)
    x = np.zeros(201, np.float32) + np.linspace(-1, 1, 201, dtype=np.float32)
    low, high = expected(x, 0.25, 0.01), expected(x, 0.75, 0.01)
    assert values_to_go(world, x, 1, 2)[1] == pytest.approx(0.75 * high + 0.25 * low, rel=1e-5)


@pytest.mark.parametrize("arguments", [{"sensitivity": 0.25, "max_steps": 20}, {"sensitivity": 0.08, "n_candidates": 4}], ids=str)
def test_the_far_sighted_return_what_their_values_say(arguments: dict) -> None:
    engine = make_engine(NAME, slate_size=2, window=1, **arguments)
    world, steps = engine.world, engine.max_steps
    assert isinstance(world, LongTermSatisfaction)
    grid = np.linspace(-4, 4, 201, dtype=np.float32)
    table = values_to_go(world, grid, steps, engine.n_candidates or 0)
    start = table[steps][(np.abs(grid) <= 0.5 / 0.3)].mean()
    run = rollout(engine, far_sighted(engine), 1, 3_000, every_lane=True)
    assert run.returns.mean() == pytest.approx(start, abs=4 * run.returns.std() / math.sqrt(3_000))


def test_a_myopic_policy_shows_clickbait_and_loses_where_satisfaction_matters() -> None:
    engine = make_engine(NAME, sensitivity=0.25, window=1, max_steps=30)
    engine.reset(0, 20)
    chosen, _ = true_myopic(engine).act(engine.observation, np.random.default_rng(0))
    offered = engine.observation.actions.candidates
    assert (offered[np.arange(20), chosen] == offered.max(axis=1)).all()
    policies = (random_policy(), true_myopic(engine), far_sighted(engine))
    chance, myopic, planned = (rollout(engine, policy, 0, 500, every_lane=True).returns.mean() for policy in policies)
    assert myopic < 0.7 * chance and planned > 1.4 * chance


@pytest.mark.parametrize("arguments", [{"strength": 0.0, "sensitivity": 0.25}, {"sensitivity": 0.0}, {}], ids=str)
def test_where_nothing_matters_later_myopic_is_optimal(arguments: dict) -> None:
    """Also with the constants of RecSim, where satisfaction stays between 0.49 and 0.51."""
    engine = make_engine(NAME, window=1, **arguments)
    engine.reset(0, 200)
    rng = np.random.default_rng(0)
    near, far = true_myopic(engine), far_sighted(engine)
    offered = engine.observation.actions.candidates
    first, second = (np.take_along_axis(offered, p.act(engine.observation, rng)[0][:, None], axis=1) for p in (near, far))
    assert (first == second).all()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"slate_size": 51}, "expected n_candidates >= slate_size (51), got 50, at n_candidates"),
        ({"slate_size": 3, "n_candidates": 2}, "expected n_candidates >= slate_size (3), got 2, at n_candidates"),
        ({"n_candidates": 0}, "expected n_candidates >= slate_size (1), got 0, at n_candidates"),
        ({"n_items": 1}, "n_items from 2 to 1,000 for long_term_satisfaction, got 1"),
        ({"strength": 2.5}, "strength from 0 to 2 for long_term_satisfaction, got 2.5"),
        ({"sensitivity": -0.1}, "sensitivity from 0 to 1 for long_term_satisfaction, got -0.1"),
        ({"sensitivty": 0.1}, "did you mean sensitivity?"),
    ],
)
def test_mistakes_are_named(arguments: dict, text: str) -> None:
    with pytest.raises(UserError) as caught:
        make_engine(NAME, **arguments)
    assert text in str(caught.value)


def test_mistakes_of_a_world_made_without_the_registry_are_named() -> None:
    for arguments, text in (({"strength": 2.5}, "strength from 0 to 2"), ({"sensitivity": 1.5}, "sensitivity from 0 to 1")):
        with pytest.raises(UserError, match=text):
            LongTermSatisfaction(**arguments)
    for make in (true_myopic, far_sighted):
        with pytest.raises(UserError, match="expected long_term_satisfaction, got Shop"):
            make(make_engine("shop"))


def test_bad_slates_are_named() -> None:
    engine = make_engine(NAME, slate_size=2)
    engine.reset(0, 3)
    cases = (([[0, 0]] * 3, "distinct positions within a slate"), ([[0, 50]] * 3, "actions from 0 to 49"), ([[0, 1]] * 2, "[3, 2]"))
    for slate, text in cases:
        with pytest.raises(UserError) as caught:
            engine.step(np.array(slate))
        assert text in str(caught.value) and caught.value.code is Code.BAD_ACTION
