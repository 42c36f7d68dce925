"""The world `live`: rates of KuaiLive, common random numbers, rooms that close, references and what is refused."""

import numpy as np
import pytest

from qurate.baselines.registry import random_policy
from qurate.environments.engine import BatchedEngine
from qurate.environments.registry import make_engine
from qurate.environments.scenarios.live import Live
from qurate.environments.scenarios.live_references import Consequences, consequences, far_sighted, live_of, true_myopic
from qurate.errors import Code, UserError
from qurate.evaluation.headroom import measure
from qurate.types import ALWAYS, NEVER, Availability, Feedback, Observation

KUAILIVE = {"comment": 196_526 / 4_909_515, "like": 179_311 / 4_909_515, "gift": 72_646 / 4_909_515}


def test_rates_per_click_are_those_of_kuailive_within_a_tenth() -> None:
    """Under the random policy, with the default options: comments .040, likes .037, gifts .015 per click."""
    engine, policy, rng = make_engine("live"), random_policy(), np.random.default_rng(0)
    observation, here, counts = engine.reset(0, 8000), np.ones(8000, bool), np.zeros(7)
    for _ in range(engine.max_steps):
        feedback = engine.step(policy.act(observation, rng)[0])
        counts += np.bincount(feedback.rows.type[here[feedback.rows.lane]], minlength=7)
        here &= ~(feedback.terminated | feedback.truncated)
        observation = feedback.obs
    kinds = dict(zip(engine.type_names, counts[1:]))
    assert kinds["click"] > 30_000 and kinds["watch"] == kinds["click"]
    for name, rate in KUAILIVE.items():
        assert kinds[name] / kinds["click"] == pytest.approx(rate, rel=0.1), name


def third_open(observation: Observation, customer: np.ndarray, step: int) -> np.ndarray:
    """An open room that depends on the customer and the step alone."""
    return (customer * 7 + step) % observation.actions.mask.sum(axis=1)


def life(n: int, first: int, steps: int = 30) -> list[tuple[np.ndarray, Feedback, np.ndarray]]:
    """Feedback of customers first ... first + n - 1 of seed 3 until each is gone: (who is measured, feedback, rooms offered)."""
    engine = make_engine("live")
    observation, here, out = engine.reset(3, n, first), np.ones(n, bool), []
    for step in range(steps):
        offered = observation.actions.candidates
        feedback = engine.step(third_open(observation, np.arange(first, first + n), step))
        out.append((here.copy(), feedback, offered))
        here &= ~feedback.terminated
        observation = feedback.obs
    return out


@pytest.mark.parametrize(("n", "first"), [(1, 5), (7, 0), (7, 300)])
def test_identical_feedback_beside_others(n: int, first: int) -> None:
    seen = 0
    for (_, everybody, offered), (here, few, own) in zip(life(1024, 0), life(n, first)):
        rows = slice(first, first + n)
        for name in ("reward", "components", "clicked", "terminated", "pause", "clock"):
            assert np.array_equal(getattr(everybody, name)[rows][here], getattr(few, name)[here]), name
        assert np.array_equal(offered[rows][here], own[here])
        staying = here & ~few.terminated
        for mine, theirs in zip(few.obs.state, everybody.obs.state):
            assert np.array_equal(theirs[rows][staying], mine[staying])
        seen += int(here.sum())
    assert seen >= 10


def test_only_rooms_open_at_the_customers_clock_are_offered() -> None:
    engine = make_engine("live")
    observation = engine.reset(0, 500)
    live = live_of(engine)
    since, until = live.availability.since, live.availability.until
    changed = 0
    for _ in range(20):
        items, mask = observation.actions[:2]
        for lane in (0, 99, 498):
            open_now = live.availability.open_items(int(engine.clock[lane]))
            assert np.array_equal(items[lane][mask[lane] > 0], open_now) and not items[lane][mask[lane] == 0].any()
        before = items
        feedback = engine.step(np.zeros(500, np.int64))
        observation = feedback.obs
        changed += int(((before != observation.actions.candidates).any(axis=1) & (feedback.pause == 0) & ~feedback.terminated).sum())
        for group in engine.groups:
            lanes = np.arange(500) if group.lanes is None else group.lanes
            times = feedback.rows.time[feedback.rows.type == group.type]
            assert (since[group.items] <= times).all() and (times <= until[group.items]).all(), "nothing happens in a closed room"
            assert len(lanes) == len(times)
    assert changed > 50, "rooms open and close while one watches"


def test_world_and_engine_keep_the_same_clock_and_restore_it() -> None:
    engine = make_engine("live")
    observation = engine.reset(1, 50)
    for _ in range(15):
        assert np.array_equal(engine.clock, live_of(engine).clock)
        observation = engine.step(third_open(observation, np.arange(50), 0)).obs
    kept = engine.state()
    again = make_engine("live")
    resumed = again.restore(kept)
    assert np.array_equal(resumed.actions.candidates, observation.actions.candidates)
    for _ in range(5):
        one, two = (e.step(np.zeros(50, np.int64)) for e in (engine, again))
        assert np.array_equal(one.reward, two.reward) and np.array_equal(one.clock, two.clock)


def test_references_agree_at_strength_0_and_have_headroom_at_strength_1() -> None:
    without = measure("live", strength=0.0, customers=200, seeds=(0,))
    assert without["true_myopic"] == without["far_sighted"]
    with_effects = measure("live", strength=1.0, customers=300, seeds=(0,))
    random, myopic, far = (with_effects[name][0][0] for name in ("random", "true_myopic", "far_sighted"))
    assert 6.5 < random < 9.5 and random < myopic and far > 1.4 * myopic


def test_far_sighted_prices_what_a_decision_changes_until_the_last_one() -> None:
    engine = make_engine("live", max_steps=20)
    observation = engine.reset(0, 6)
    for step in range(20):
        x: Consequences = consequences(live_of(engine), observation.actions.candidates)
        left = min((19 - step) / 12, 1)  # 12 decisions before the limit the prices begin to fall
        expected = x.now + left * (8.0 * x.satisfaction + 15.0 * x.loyalty - 0.3 * x.fatigue * x.now)
        measured = (engine.steps == step)[:, None] & (observation.actions.mask > 0)
        assert np.allclose(far_sighted(engine).scores(observation)[measured], expected[measured], atol=1e-5)
        assert np.array_equal(true_myopic(engine).scores(observation)[measured], x.now[measured])
        observation = engine.step(np.zeros(6, np.int64)).obs


def test_references_need_the_world() -> None:
    with pytest.raises(UserError, match="expected live, got ToyWorld"):
        true_myopic(make_engine("toy_chain"))


def test_features_say_what_the_app_shows_and_nothing_latent() -> None:
    live = Live()
    assert live.item_features.shape == (601, len(live.feature_names)) and not live.item_features[0].any()
    names = {name.split("=")[0] for name in live.feature_names}
    assert names == {"streamer", "category", "followers", "follow_rate", "battles"}
    table = live.items_table()
    assert table.columns == ["item_id", "streamer", "category", "followers", "follow_rate", "battles", "available_from", "available_until"]
    assert table["available_from"].null_count() == 0 and 5 < table["available_until"].null_count() < 30


def test_other_worlds_have_other_streamers_and_the_same_seed_the_same() -> None:
    first, again, other = (Live(world_seed=seed).rooms for seed in (0, 0, 1))
    assert np.array_equal(first.heat, again.heat) and not np.array_equal(first.quality, other.quality)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_items": 59}, "n_items of at least 60 for live, got 59"),
        ({"strength": 2.1}, "strength from 0 to 2 for live, got 2.1"),
        ({"strength": -0.1}, "strength from 0 to 2 for live, got -0.1"),
        ({"world_seed": -1}, "world_seed of at least 0 for live, got -1"),
        ({"slate_size": 2}, "slate_size=1 for live, got 2"),
        ({"n_candidates": 0}, "n_candidates >= slate_size"),
    ],
)
def test_arguments_out_of_range_name_their_range(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_engine("live", **arguments)  # type: ignore[arg-type]


def test_strength_is_checked_without_the_registry_too() -> None:
    with pytest.raises(UserError, match="strength from 0 to 2"):
        Live(strength=3.0)


def test_no_customers() -> None:
    with pytest.raises(UserError, match="at least one customer"):
        make_engine("live").reset(0, 0)


def test_no_room_open_names_the_decision() -> None:
    live = Live(n_items=60)
    live.availability = Availability(np.r_[NEVER, np.full(60, ALWAYS)], np.full(61, int(live.availability.since[1]) + 1))
    with pytest.raises(UserError, match="an available item at each decision") as error:
        BatchedEngine(live, n_candidates=24).reset(0, 3)
    assert error.value.code is Code.BAD_ENV and "\n" not in str(error.value)


def test_a_room_that_is_closed_or_not_there_cannot_be_shown() -> None:
    engine = make_engine("live")
    engine.reset(0, 3)
    with pytest.raises(UserError, match="actions that the mask allows"):
        engine.step(np.full(3, 23))
    with pytest.raises(UserError, match="actions from 0 to 23"):
        engine.step(np.full(3, 24))
