"""Every effect that docs/scenarios/live.md claims, against an independent reference with the constants of that page.

The constants are written here once more on purpose: a test that reads `LiveParameters` would agree with any of them.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from qurate.environments.arrivals import EPOCH_US
from qurate.environments.engine import BatchedEngine
from qurate.environments.rng import customer_keys
from qurate.environments.scenarios.live import Live
from qurate.environments.scenarios.live_references import consequences
from qurate.environments.scenarios.live_rooms import RoomParameters, Rooms
from qurate.types import NEVER, Feedback

Floats = NDArray[np.floating]
HOUR = 3_600_000_000


def logistic(x: Floats | float) -> Floats:
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


class Customers(NamedTuple):
    """Copies of what customers are like."""

    clock: NDArray[np.int64]
    taste: Floats
    tired_category: Floats
    tired_streamer: Floats
    loyalty: Floats
    satisfaction: Floats
    spending: Floats


def copies(live: Live) -> Customers:
    return Customers(*(np.array(getattr(live, name), np.int64 if name == "clock" else np.float64) for name in Customers._fields))


def at(live: Live, items: NDArray[np.int64], who: Customers) -> dict[str, Floats]:
    """What the page's equations say of customers [B] who are shown `items` [B]."""
    rooms, rows = live.rooms, np.arange(len(items))
    streamer, category = rooms.streamer[items], rooms.category[items]
    loyalty, satisfaction = who.loyalty[rows, streamer], who.satisfaction
    tired = who.tired_category[rows, category] + who.tired_streamer[rows, streamer]
    interest = who.taste[rows, category] + 1.5 * loyalty - tired
    since, until = live.availability.since[items], live.availability.until[items]
    heat = rooms.heat[items, np.minimum((who.clock - since) // 600_000_000, 47)]
    return {
        "click": logistic(-1.9 + rooms.appeal[items] + interest + 0.6 * heat + 1.0 * satisfaction),
        "leave": logistic(-2.2 - 1.5 * satisfaction),
        "like": logistic(-3.53 + 0.5 * interest),
        "comment": logistic(-3.53 + 0.4 * interest + 0.6 * heat),
        "gift": logistic(-6.98 + 0.4 * interest + 1.5 * loyalty + 2.0 * rooms.battles[items] + 2.0 * who.spending),
        "log_seconds": 3.6 + 0.35 * interest + 1.0 * satisfaction,
        "left_s": np.clip((until - who.clock) // 1_000_000 - 1, 0, 7200),
    }


def played(strength: float, steps: int, n: int = 3000) -> Iterator[tuple[BatchedEngine, Live, Customers, NDArray[np.int64], Feedback]]:
    """Random open rooms: engine, world, customers before the step, rooms shown, feedback."""
    live = Live(n_items=120, strength=strength)
    engine = BatchedEngine(live, n_candidates=24, max_steps=1000)
    observation, rng = engine.reset(5, n), np.random.default_rng(0)
    for _ in range(steps):
        actions = (rng.random(observation.actions.mask.shape) * observation.actions.mask).argmax(axis=1)
        items = np.take_along_axis(observation.actions.candidates, actions[:, None], axis=1)[:, 0]
        before = copies(live)
        feedback = engine.step(actions)
        observation = feedback.obs
        yield engine, live, before, items, feedback


def test_chances_of_everything_follow_the_equations() -> None:
    for _, live, _, _, feedback in played(1.0, 12):
        who, items = copies(live), feedback.obs.actions.candidates[:, 3]
        met = live.meet(items, live.lanes)
        inside, expected = live.inside(met), at(live, items, who)
        got = dict(zip(("click", "leave"), live.chances(met))) | dict(zip(("like", "comment", "gift"), inside.chances))
        got |= {"log_seconds": inside.log_seconds, "left_s": inside.left_s}
        for name, values in expected.items():
            assert np.allclose(got[name], values, rtol=2e-4), name
    assert who.loyalty.max() > 0.3 and who.tired_category.max() > 0.5 and expected["left_s"].min() < 7000 < 7200 == expected["left_s"].max()


def test_what_happens_has_these_chances() -> None:
    """60,000 customers of one kind: how many click, leave, like, comment and give, and how long they watch."""
    live = Live(n_items=60)
    engine = BatchedEngine(live, n_candidates=24)
    engine.reset(1, 60_000)
    live.taste[:], live.satisfaction[:], live.spending[:], live.loyalty[:] = 2.5, 0.2, 0.9, 0.8
    live.clock[:] = engine.clock[:] = EPOCH_US + 6 * HOUR
    engine.observation = engine._observe()
    battles = live.rooms.battles[engine.observation.actions.candidates[0]] > 0
    action = int(battles.argmax())
    item = int(engine.observation.actions.candidates[0, action])
    items = np.full(engine.n, item)
    expected = {name: float(values[0]) for name, values in at(live, items, copies(live)).items()}
    feedback = engine.step(np.full(engine.n, action))
    clicked = feedback.clicked == 0
    counts = dict.fromkeys(("click", "comment", "gift", "like"), 0) | {
        live.type_names[group.type - 1]: len(group.items) for group in engine.groups
    }

    def near(share: float, chance: float, n: float) -> None:
        assert share == pytest.approx(chance, abs=4.5 * np.sqrt(chance * (1 - chance) / n))

    near(clicked.mean(), expected["click"], engine.n)
    for name in ("like", "comment", "gift"):
        near(counts[name] / clicked.sum(), expected[name], clicked.sum())
    near(((feedback.pause > 0) | feedback.terminated).mean(), expected["leave"], engine.n)
    assert feedback.components[:, 1].sum() == counts["like"] and feedback.components[:, 2].sum() == counts["gift"]
    seconds = feedback.components[clicked, 0].astype(np.float64)
    assert np.median(np.log(seconds)) == pytest.approx(expected["log_seconds"], abs=0.02)
    quarter, three = np.quantile(np.log(seconds), [0.25, 0.75])
    assert (three - quarter) / 1.349 == pytest.approx(1.2, abs=0.02), "the quartiles of a normal distribution"
    assert seconds.max() == expected["left_s"] < 7200, "until the room closes"
    assert np.allclose(feedback.reward, feedback.components @ [0.01, 1, 20], rtol=1e-5), "0.01 a second, 1 a like, 20 a gift"


@pytest.mark.parametrize("strength", [0.5, 1.0, 2.0])
def test_satisfaction_loyalty_and_fatigue_move_as_the_page_says(strength: float) -> None:
    seen = {"watch": 0, "pause": 0}
    for _, live, before, items, feedback in played(strength, 12):
        rows, rooms = np.arange(len(items)), live.rooms
        seconds = feedback.components[:, 0].astype(np.float64)
        engaged = seconds / (seconds + 120)
        quality, streamer, category = rooms.quality[items].astype(np.float64), rooms.streamer[items], rooms.category[items]
        satisfaction = before.satisfaction + strength * (0.05 + 0.5 * engaged) * (quality - before.satisfaction)
        loyalty = before.loyalty.copy()
        loyalty[rows, streamer] += strength * 0.8 * engaged * ((1 + quality) / 2 - loyalty[rows, streamer])
        fatigue = [before.tired_streamer * 0.9, before.tired_category * 0.9]
        for tired, where in zip(fatigue, (streamer, category)):
            tired[rows, where] += strength * (0.15 + 0.6 * engaged)
        hours = feedback.pause.astype(np.float64)[:, None] / 3600
        loyalty *= np.exp(-hours / 240)
        same = ~feedback.terminated
        assert np.allclose(live.satisfaction[same], satisfaction[same], atol=1e-5)
        assert np.allclose(live.loyalty[same], loyalty[same], atol=1e-4)
        for got, tired in zip((live.tired_streamer, live.tired_category), fatigue):
            assert np.allclose(got[same], (tired * np.exp(-hours / 16))[same], atol=1e-4)
        seen["watch"] += int((engaged[same] > 0.3).sum())
        seen["pause"] += int((hours[same] > 0).sum())
    assert min(seen.values()) > 100, seen


def test_at_strength_0_nothing_shown_changes_a_customer() -> None:
    for _, live, before, _, feedback in played(0.0, 6):
        same, after = ~feedback.terminated, copies(live)
        for name in set(Customers._fields) - {"clock"}:
            assert np.array_equal(getattr(after, name)[same], getattr(before, name)[same]), name
        assert not after.loyalty.any() and not after.tired_streamer.any()


@pytest.mark.parametrize(("satisfaction", "loyalty"), [(-1.4, 0.55), (0.0, 0.4), (0.5, 0.0)])
def test_who_returns_tomorrow_and_after_how_long(satisfaction: float, loyalty: float) -> None:
    live = Live(n_items=60, strength=0.0)
    engine = BatchedEngine(live, n_candidates=24, max_steps=1000)
    engine.reset(2, 60_000)
    live.satisfaction[:], live.loyalty[:, :3] = satisfaction, loyalty
    clock = engine.clock.copy()
    feedback = engine.step(np.zeros(engine.n, np.int64))
    back, gone = feedback.pause > 0, feedback.terminated
    leavers = int((back | gone).sum())
    chance = float(logistic(0.3 + 2.0 * satisfaction + 1.5 * 3 * loyalty))
    assert back.sum() / leavers == pytest.approx(chance, abs=4.5 * np.sqrt(chance * (1 - chance) / leavers))
    hours = feedback.pause[back] / 3600
    assert 12 <= hours.min() < 12.1
    assert hours.mean() == pytest.approx(24, abs=4.5 * 12 / np.sqrt(back.sum()))
    dwell = (feedback.clock - clock) / 1e6 - feedback.pause - feedback.components[:, 0]
    assert set(np.round(dwell[back]).astype(int).tolist()) == set(range(3, 11)), "3 to 10 seconds beside the watching, then the pause"


def test_new_customers() -> None:
    live = Live()
    live.allocate(40_000)
    user = live.enter(np.arange(40_000), customer_keys(0, np.arange(40_000)))
    assert live.satisfaction.mean() == pytest.approx(0.1, abs=0.004) and live.satisfaction.std() == pytest.approx(0.2, abs=0.004)
    assert live.spending.mean() == pytest.approx(0.5, abs=0.006) and 0.999 < live.spending.max() < 1
    values = np.sort(live.segment_taste, axis=1)
    assert np.allclose(values[:, -3:], 1.2) and np.allclose(values[:, :-3], -0.6), "six segments like three categories each"
    distance = ((live.taste[:, None] - live.segment_taste) ** 2).sum(axis=2)
    segment = distance.argmin(axis=1)
    assert (live.taste - live.segment_taste[segment]).std() == pytest.approx(0.5, abs=0.01)
    right = (user[:, :6].argmax(axis=1) == segment).mean()
    assert right == pytest.approx(0.85 + 0.15 / 6, abs=0.015), "a wrong guess is right by chance in one of six cases"
    assert (user.sum(axis=1) == 2).all()
    arrived = (live.clock - EPOCH_US) / HOUR
    assert 0 <= arrived.min() < 0.1 and 23.9 < arrived.max() < 24


def test_whoever_takes_a_lane_is_new() -> None:
    seen = 0
    for _, live, _, _, feedback in played(1.0, 6):
        new = feedback.terminated
        seen += int(new.sum())
        for state in (live.loyalty, live.tired_streamer, live.tired_category):
            assert not state[new].any()
        assert (live.clock[new] < EPOCH_US + 24 * HOUR).all()
    assert seen > 100


def test_streamers_and_rooms_are_as_the_page_says() -> None:
    worlds = [Rooms(180, seed, RoomParameters()) for seed in range(60)]
    columns = [world.columns() for world in worlds]
    first = [np.unique(world.streamer[1:], return_index=True)[1] for world in worlds]  # one room of each streamer

    def of_streamers(values: list[Floats]) -> Floats:
        return np.concatenate([x[i] for x, i in zip(values, first)])

    battle = of_streamers([c["battles"] for c in columns])
    quality = of_streamers([w.quality[1:] for w in worlds]).astype(np.float64)
    follows = of_streamers([c["follow_rate"] for c in columns])
    fame = (np.log(of_streamers([c["followers"] for c in columns])) - 9) / 1.5
    fights = battle > 0.2
    assert fights.mean() == pytest.approx(0.3, abs=0.01)
    assert 0.4 <= battle[fights].min() < 0.42 and 0.68 < battle[fights].max() <= 0.7 and battle[~fights].max() <= 0.1
    for kind, mean in ((fights, -0.5), (~fights, 0.4)):
        assert np.median(quality[kind]) == pytest.approx(mean, abs=0.03)
        quarter, three = np.quantile(quality[kind], [0.25, 0.75])
        assert (three - quarter) / 1.349 == pytest.approx(0.25, abs=0.03), "the quartiles of a normal distribution"
    assert ((follows - 6) / 4 - quality).std() == pytest.approx(0.15, abs=0.01) and np.corrcoef(follows, quality)[0, 1] > 0.9
    assert fame.std() == pytest.approx(1, abs=0.04)
    appeal = np.concatenate([w.appeal[1:] for w in worlds]).astype(np.float64)
    fighting = np.concatenate([w.battles[1:] for w in worlds]) > 0
    assert appeal[fighting].mean() - appeal[~fighting].mean() == pytest.approx(1.5, abs=0.04)
    assert appeal[~fighting].std() == pytest.approx(0.3, abs=0.01)
    assert all(np.allclose(w.bond[1:], (1 + w.quality[1:]) / 2) for w in worlds)


def test_rooms_open_and_close_in_the_streamers_rhythm() -> None:
    gaps, hours = [], []
    for seed in range(20):
        rooms = Rooms(600, seed, RoomParameters())
        since, until = rooms.availability.since[1:], rooms.availability.until[1:]
        assert (since[1:] >= since[:-1]).all() and (until > EPOCH_US).all()
        last = until == NEVER
        assert (since[last].max() == since[-1]) and 5 < last.sum() < 30
        hours.append((until - since)[~last] / HOUR)
        for streamer in range(60):
            own = np.flatnonzero(rooms.streamer[1:] == streamer)
            gaps += [(since[b] - since[a]) / HOUR for a, b in pairwise(own)]
            assert all(until[a] <= since[b] for a, b in pairwise(own)), "one room at a time"
    length = np.concatenate(hours)
    assert 24 / np.mean(gaps) == pytest.approx(11_613_708 / 452_621 / 21, rel=0.005), "rooms per streamer and day of KuaiLive"
    assert np.std(gaps) == pytest.approx(np.sqrt(2 / 3), rel=0.03), "up to an hour early or late"
    assert 2 <= length.min() < 2.02 and 7.98 < length.max() <= 8


def test_the_crowd_of_a_room() -> None:
    """Heat = 0.4 fame + (sin(pi age) - 2 / pi) + noise of 0.2."""
    left: list[Floats] = []
    right: list[Floats] = []
    for seed in range(10):
        rooms = Rooms(600, seed, RoomParameters())
        closed = np.flatnonzero(rooms.availability.until[1:] < NEVER) + 1
        length = (rooms.availability.until - rooms.availability.since)[closed] / 1e6
        fame = (np.log(rooms.columns()["followers"])[closed - 1] - 9) / 1.5
        share = np.minimum((np.arange(48) + 0.5) * 600 / length[:, None], 1)
        right.append(rooms.heat[closed].ravel())
        left.append(np.stack([np.broadcast_to(fame[:, None], share.shape).ravel(), (np.sin(np.pi * share) - 2 / np.pi).ravel()], axis=1))
    x, y = np.concatenate(left), np.concatenate(right)
    (fame_slope, rise), *_ = np.linalg.lstsq(x, y)
    assert fame_slope == pytest.approx(0.4, abs=0.01) and rise == pytest.approx(1.0, abs=0.01)
    assert (y - x @ [fame_slope, rise]).std() == pytest.approx(0.2, abs=0.005)


def test_what_the_references_expect_is_what_happens() -> None:
    """Means of 40,000 customers of one kind against the expectations of one of them, for strength 0.5."""
    live = Live(n_items=60, strength=0.5)
    engine = BatchedEngine(live, n_candidates=24)
    observation = engine.reset(4, 40_000)
    live.taste[:], live.satisfaction[:], live.spending[:], live.loyalty[:] = 1.5, 0.1, 0.5, 0.2
    live.clock[:] = engine.clock[:] = EPOCH_US + 6 * HOUR
    observation = engine.observation = engine._observe()
    expected = [x[0, 2] for x in consequences(live, observation.actions.candidates)]
    room = int(observation.actions.candidates[0, 2])
    feedback = engine.step(np.full(engine.n, 2))
    same = ~feedback.terminated & (feedback.pause == 0)
    streamer, category = live.rooms.streamer[room], live.rooms.category[room]
    error = 4 * feedback.reward.std() / np.sqrt(engine.n)
    assert feedback.reward.mean() == pytest.approx(expected[0], abs=error)
    assert live.satisfaction[same].mean() - 0.1 == pytest.approx(expected[1], rel=0.02)
    assert live.loyalty[same, streamer].mean() - 0.2 == pytest.approx(expected[2], rel=0.03)
    assert live.tired_category[same, category].mean() == pytest.approx(expected[3], rel=0.02)
