"""What `live` and `news` promise alike: common random numbers, items that close, states that restore, and what is refused."""

import numpy as np
import pytest

from qurate.environments.engine import BatchedEngine
from qurate.environments.registry import make_engine
from qurate.environments.scenarios.live import Live
from qurate.environments.scenarios.news import News
from qurate.errors import Code, UserError
from qurate.types import ALWAYS, NEVER, Availability, Feedback, Observation

CLASSES = {"live": Live, "news": News}
LEAST = {"live": 60, "news": 100}
LISTED = {"live": 24, "news": 56}

both = pytest.mark.parametrize("world", CLASSES)


def an_open_one(observation: Observation, customer: np.ndarray, step: int) -> np.ndarray:
    """An open item that depends on the customer and the step alone; the same one twice, where it is still open."""
    return (customer * 7 + step // 2) % observation.actions.mask.sum(axis=1)


def life(world: str, n: int, first: int, steps: int = 40) -> list[tuple[np.ndarray, Feedback, np.ndarray]]:
    """Feedback of customers first ... first + n - 1 of seed 3 until each is gone: (who is measured, feedback, items offered)."""
    engine = make_engine(world)
    observation, here, out = engine.reset(3, n, first), np.ones(n, bool), []
    for step in range(steps):
        offered = observation.actions.candidates
        feedback = engine.step(an_open_one(observation, np.arange(first, first + n), step))
        out.append((here.copy(), feedback, offered))
        here &= ~feedback.terminated
        observation = feedback.obs
    return out


@both
@pytest.mark.parametrize(("n", "first"), [(1, 5), (7, 0), (7, 300)])
def test_identical_feedback_beside_others(world: str, n: int, first: int) -> None:
    seen = 0
    for (_, everybody, offered), (here, few, own) in zip(life(world, 1024, 0), life(world, n, first)):
        rows = slice(first, first + n)
        for name in ("reward", "components", "clicked", "terminated", "pause", "clock"):
            assert np.array_equal(getattr(everybody, name)[rows][here], getattr(few, name)[here]), name
        assert np.array_equal(offered[rows][here], own[here])
        staying = here & ~few.terminated
        for mine, theirs in zip(few.obs.state, everybody.obs.state):
            assert np.array_equal(theirs[rows][staying], mine[staying])
        seen += int(here.sum())
    assert seen >= 10


@both
def test_only_what_is_open_at_the_customers_clock_is_offered(world: str) -> None:
    engine = make_engine(world)
    observation = engine.reset(0, 500)
    availability, rows, changed = engine.availability, np.arange(500), 0
    for step in range(20):
        items, mask = observation.actions[:2]
        for lane in (0, 99, 498):
            open_now = availability.open_items(int(engine.clock[lane]))
            assert np.array_equal(items[lane][mask[lane] > 0], open_now) and not items[lane][mask[lane] == 0].any()
        actions = an_open_one(observation, rows, step)
        shown = items[rows, actions]
        assert (availability.since[shown] <= engine.clock).all() and (engine.clock < availability.until[shown]).all()
        feedback = engine.step(actions)
        observation = feedback.obs
        changed += int(((items != observation.actions.candidates).any(axis=1) & (feedback.pause == 0) & ~feedback.terminated).sum())
    assert changed > 50, "items come and go within visits"


@both
def test_world_and_engine_keep_the_same_clock_and_restore_it(world: str) -> None:
    engine = make_engine(world)
    observation = engine.reset(1, 50)
    for step in range(15):
        assert np.array_equal(engine.clock, engine.world.clock)  # type: ignore[attr-defined]
        observation = engine.step(an_open_one(observation, np.arange(50), step)).obs
    again = make_engine(world)
    resumed = again.restore(engine.state())
    assert np.array_equal(resumed.actions.candidates, observation.actions.candidates)
    for _ in range(5):
        one, two = (e.step(np.zeros(50, np.int64)) for e in (engine, again))
        assert np.array_equal(one.reward, two.reward) and np.array_equal(one.clock, two.clock)


@both
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_items": -1}, "n_items from {least} to 10,000,000 for {world}, got -1"),
        ({"strength": 2.1}, "strength from 0 to 2 for {world}, got 2.1"),
        ({"strength": -0.1}, "strength from 0 to 2 for {world}, got -0.1"),
        ({"world_seed": -1}, "world_seed of at least 0 for {world}, got -1"),
        ({"slate_size": 2}, "slate_size=1 for {world}, got 2"),
        ({"n_candidates": 0}, "n_candidates >= slate_size"),
    ],
)
def test_arguments_out_of_range_name_their_range(world: str, arguments: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message.format(world=world, least=LEAST[world])):
        make_engine(world, **arguments)  # type: ignore[arg-type]


@both
def test_the_smallest_catalogue(world: str) -> None:
    with pytest.raises(UserError, match=f"got {LEAST[world] - 1}"):
        make_engine(world, n_items=LEAST[world] - 1)
    make_engine(world, n_items=LEAST[world]).reset(0, 3)


@both
def test_strength_is_checked_without_the_registry_too(world: str) -> None:
    with pytest.raises(UserError, match="strength from 0 to 2"):
        CLASSES[world](strength=3.0)


@both
def test_no_customers(world: str) -> None:
    with pytest.raises(UserError, match="at least one customer"):
        make_engine(world).reset(0, 0)


@both
def test_nothing_open_names_the_decision(world: str) -> None:
    made = CLASSES[world](n_items=100)
    made.availability = Availability(np.r_[NEVER, np.full(100, ALWAYS)], np.full(101, int(made.availability.since[1]) + 1))
    with pytest.raises(UserError, match="an available item at each decision") as error:
        BatchedEngine(made, n_candidates=100).reset(0, 3)
    assert error.value.code is Code.BAD_ENV and "\n" not in str(error.value)


@both
def test_an_item_that_is_closed_or_not_there_cannot_be_shown(world: str) -> None:
    engine, k = make_engine(world), LISTED[world]
    engine.reset(0, 3)
    with pytest.raises(UserError, match="actions that the mask allows"):
        engine.step(np.full(3, k - 1))
    with pytest.raises(UserError, match=f"actions from 0 to {k - 1}"):
        engine.step(np.full(3, k))
    engine.step(np.zeros(3, np.int64))
