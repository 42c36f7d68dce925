"""The engine: the same luck at every batch size, histories that a log rebuilds, episodes that end where they should."""

import time

import numpy as np
import pytest

from qurate.environments.arrivals import EPOCH_US
from qurate.environments.engine import BatchedEngine, Outcome
from qurate.environments.history_rows import Group
from qurate.environments.registry import make_engine
from qurate.environments.rng import customer_keys, normals, purposes, uniforms
from qurate.environments.scenarios.shop import Shop
from qurate.environments.scenarios.toys import FiniteMDP, ToyWorld
from qurate.errors import UserError
from qurate.mdp.states import gather_state
from qurate.testing import check_env
from qurate.types import ALWAYS, NEVER, Availability, EventArrays, Feedback, Observation


def arrays_of(observation: Observation) -> list[np.ndarray]:
    return [*observation.state, *observation.actions[:2]]


def choice(customer: np.ndarray, step: np.ndarray, k: int) -> np.ndarray:
    """An action that depends on customer and decision only."""
    return (customer * 7919 + step * 104_729 + 13) % k


def lives(engine: BatchedEngine, n: int, wanted: int) -> dict[int, list[tuple]]:
    """Everything that customers 0..wanted-1 met, by customer, at batch size n."""
    observation = engine.reset(3, n)
    out: dict[int, list[tuple]] = {}
    done: set[int] = set()
    while len(done & set(range(wanted))) < wanted:
        who, k = engine.customer.copy(), observation.actions.mask.shape[1]
        actions = choice(who, engine.steps, k)
        if engine.slate_size > 1:
            actions = (actions[:, None] + np.arange(engine.slate_size)) % k
        feedback = engine.step(actions)
        for lane, customer in enumerate(who.tolist()):
            if customer >= wanted:
                continue
            rows = [tuple(column[feedback.rows.lane == lane].tolist()) for column in feedback.rows[1:]]
            seen = tuple(np.asarray(part[lane]).tobytes() for part in arrays_of(observation))
            out.setdefault(customer, []).append(
                (seen, feedback.components[lane].tobytes(), feedback.reward[lane], feedback.clock[lane], feedback.pause[lane],
                 feedback.terminated[lane], feedback.truncated[lane], feedback.clicked[lane], rows)
            )  # fmt: skip
            if feedback.terminated[lane] or feedback.truncated[lane]:
                done.add(customer)
        observation = feedback.obs
    return out


@pytest.mark.parametrize("arguments", [{}, {"n_candidates": 11}, {"slate_size": 3}], ids=["item", "candidates", "slate"])
def test_feedback_is_the_same_at_batch_1_7_and_1024(arguments: dict[str, int]) -> None:
    one, seven, many = (lives(make_engine("shop", max_steps=25, **arguments), n, 12) for n in (1, 7, 1024))
    assert one == seven
    assert one == many


def test_feedback_of_a_toy_is_the_same_at_batch_1_and_64() -> None:
    assert lives(make_engine("toy_clickbait"), 1, 20) == lives(make_engine("toy_clickbait"), 64, 20)


def test_first_customer_shifts_the_customers() -> None:
    engine = make_engine("shop")
    shifted = engine.reset(5, 3, first_customer=4)
    all_of_them = make_engine("shop").reset(5, 7)
    assert np.array_equal(shifted.state.user, all_of_them.state.user[4:])


def run(engine: BatchedEngine, seed: int, n: int, steps: int) -> tuple[list[Observation], list[Feedback]]:
    observations, feedback = [engine.reset(seed, n)], []
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        k = observations[-1].actions.mask.shape[1]
        actions = rng.integers(0, k, n) if engine.slate_size == 1 else np.argsort(rng.random((n, k)), axis=1)[:, : engine.slate_size]
        feedback.append(engine.step(actions))
        observations.append(feedback[-1].obs)
    return observations, feedback


@pytest.mark.parametrize("name,arguments", [("shop", {}), ("shop", {"slate_size": 4, "max_steps": 30}), ("toy_chain", {})])
def test_observations_equal_the_state_gathered_from_the_rows(name: str, arguments: dict[str, int]) -> None:
    """Bit for bit: what a policy sees while simulated is what ingest and training rebuild from the log."""
    engine = make_engine(name, **arguments)
    n = 40
    observations, feedback = run(engine, 2, n, 60)
    alive = np.ones(n, bool)
    rows = {lane: [] for lane in range(n)}
    checked = 0
    for before, after in zip(feedback, observations[1:]):
        for lane, *row in zip(*before.rows):
            if alive[lane]:
                rows[int(lane)].append(row)
        alive &= ~(before.terminated | before.truncated)
        if not alive.any():
            break
        lanes = np.flatnonzero(alive)
        columns = [np.array([row[i] for lane in lanes for row in rows[lane]]) for i in range(4)]
        start = np.concatenate([[0], np.cumsum([len(rows[lane]) for lane in lanes])])
        arrays = EventArrays(
            columns[0].astype(np.int32), columns[1].astype(np.uint8), columns[2].astype(np.int64), columns[3].astype(np.float32), start
        )
        for lane, lo, hi in zip(lanes, start, start[1:]):
            assert (np.diff(arrays.time[lo:hi]) > 0).all(), "rows of a customer have distinct times, in order"
            assert hi == lo or arrays.time[hi - 1] <= before.clock[lane]
        state = gather_state(arrays, start[:-1], start[1:], before.clock[lanes], engine.window, after.state.user[lanes])
        for name_, gathered in state._asdict().items():
            seen = getattr(after.state, name_)[lanes]
            assert seen.dtype == gathered.dtype and seen.tobytes() == gathered.tobytes(), name_
            checked += 1
    assert checked > 100


def test_shop_rows_are_shown_click_cart_purchase_and_sum_to_the_components() -> None:
    engine = make_engine("shop")
    _, feedback = run(engine, 0, 500, 60)
    rows = [fb.rows for fb in feedback]
    kinds = np.concatenate([r.type for r in rows])
    for type_index, component in ((2, 0), (1, 1), (3, 2)):
        assert (kinds == type_index).sum() == sum(fb.components[:, component].sum() for fb in feedback)
    assert (kinds == 4).sum() == 500 * 60
    total = sum(fb.reward.sum() for fb in feedback)
    assert total == sum((fb.components @ np.array([1, 2, 5])).sum() for fb in feedback)
    assert 0 < (kinds == 3).sum() < (kinds == 1).sum() < (kinds == 2).sum()


def test_episodes_are_truncated_at_max_steps_and_new_customers_start_empty() -> None:
    engine = make_engine("shop", max_steps=4)
    _, feedback = run(engine, 0, 200, 4)
    lengths = np.zeros(200)
    for fb in feedback:
        assert not (fb.terminated & fb.truncated).any()
        over = fb.terminated | fb.truncated
        assert (fb.obs.state.history_items[over] == 0).all() and (fb.obs.state.history_gaps[over] == 0).all()
        assert (fb.obs.state.history_items[~over] > 0).any(axis=1).all()
        lengths = np.where(over, 0, lengths + 1)
        assert lengths.max() < 4
    assert feedback[-1].truncated.sum() > 50
    assert engine.customer.max() >= 200


def test_earlier_observations_are_not_changed_by_later_steps() -> None:
    engine = make_engine("shop", max_steps=5)
    observation = engine.reset(1, 50)
    copies = [np.array(part) for part in arrays_of(observation)]
    feedback = engine.step(np.arange(50))
    kept = [np.array(part) for part in (*feedback.rows, feedback.clock, feedback.pause, feedback.components, feedback.terminated)]
    for step in range(20):
        engine.step(np.full(50, step))
    assert all(np.array_equal(a, b) for a, b in zip(arrays_of(observation), copies))
    later = (*feedback.rows, feedback.clock, feedback.pause, feedback.components, feedback.terminated)
    assert all(np.array_equal(a, b) for a, b in zip(later, kept))


def test_pause_is_positive_only_where_a_visit_ended_and_the_customer_returns() -> None:
    engine = make_engine("shop")
    previous = engine.reset(0, 300) and engine.clock.copy()
    paused = 0
    for _ in range(30):
        fb = engine.step(np.zeros(300, np.int64))
        assert (fb.pause[fb.terminated] == 0).all()
        here = fb.pause > 0
        assert ((fb.clock - previous)[here] / 1e6 >= fb.pause[here]).all() and (fb.pause[here] >= 10 * 3600).all()
        stays = here & ~fb.truncated
        assert (fb.obs.state.context[stays, 1] > np.log1p(9.9 / 2)).all(), "the pause is the last gap in the window"
        previous = engine.clock.copy()
        paused += int(here.sum())
    assert paused > 100


@pytest.mark.parametrize("name,arguments", [("shop", {}), ("shop", {"n_candidates": 9}), ("toy_satiation", {})])
def test_a_restored_engine_continues_bit_for_bit(name: str, arguments: dict[str, int]) -> None:
    engine, other = make_engine(name, **arguments), make_engine(name, **arguments)
    engine.reset(2, 30)
    for step in range(17):
        before = engine.step(np.full(30, step % 3))
    state = engine.state()
    seen = other.restore(state)
    assert all(np.array_equal(a, b) for a, b in zip(arrays_of(before.obs), arrays_of(seen)))
    for step in range(30):
        x, y = engine.step(np.full(30, step % 4 % 3)), other.step(np.full(30, step % 4 % 3))
        for a, b in zip((*arrays_of(x.obs), *x.rows, *x[1:6], x.clock, x.pause), (*arrays_of(y.obs), *y.rows, *y[1:6], y.clock, y.pause)):
            assert np.array_equal(a, b)


@pytest.mark.parametrize("arguments", [{}, {"n_candidates": 9}])
def test_lanes_with_seeds_of_their_own_are_restored_bit_for_bit(arguments: dict[str, int]) -> None:
    engine, other = (make_engine("shop", max_steps=6, **arguments) for _ in range(2))
    engine.reset_lanes(np.array([5, 5, 900], np.uint64), np.array([0, 1, 0]))
    for step in range(8):
        engine.step(np.full(3, step % 3))
    other.restore(engine.state())
    for step in range(20):
        x, y = engine.step(np.full(3, step % 9)), other.step(np.full(3, step % 9))
        assert all(np.array_equal(a, b) for a, b in zip((*arrays_of(x.obs), *x[1:6]), (*arrays_of(y.obs), *y[1:6])))


def test_lanes_of_one_seed_meet_the_customers_they_name() -> None:
    engine = make_engine("shop")
    seen = engine.reset_lanes(np.array([5, 5, 900], np.uint64), np.array([0, 3, 0]))
    one, other = make_engine("shop").reset(5, 4).state.user, make_engine("shop").reset(900, 1).state.user
    assert np.array_equal(seen.state.user, [one[0], one[3], other[0]])


@pytest.mark.parametrize("k", [9, None])
def test_the_actions_of_a_truncated_episode_are_those_of_the_customer_who_was_there(k: int | None) -> None:
    """The longer engine truncates nobody: what is open to its customers is what the shorter one must report."""
    short, long = make_engine("shop", n_candidates=k, max_steps=4), make_engine("shop", n_candidates=k, max_steps=100)
    short.reset(1, 50), long.reset(1, 50)
    here, truncated = np.ones(50, bool), 0
    for step in range(4):
        a, b = short.step(np.full(50, step)), long.step(np.full(50, step))
        here &= ~a.terminated
        if k is None or step < 3:
            assert a.final_actions is None
        else:
            rows = here & a.truncated
            assert np.array_equal(a.final_actions.candidates[rows], b.obs.actions.candidates[rows])
            assert not (a.obs.actions.candidates[rows] == b.obs.actions.candidates[rows]).all(axis=1).any(), "the next customer's"
            assert (a.final_actions.mask == 1).all()
            truncated += int(rows.sum())
    assert truncated > 10 or k is None


DAY = 86_400_000_000


def seasonal(n_candidates: int | None = None, window: int = 5) -> BatchedEngine:
    """A shop of 30 items: 1..10 always, but 3 until day 20; 11..20 from day 30 on; 21..30 from day 40 to day 60."""
    world = Shop(30)
    since = np.r_[NEVER, np.full(10, ALWAYS), np.full(10, EPOCH_US + 30 * DAY), np.full(10, EPOCH_US + 40 * DAY)]
    until = np.r_[NEVER, np.full(20, NEVER), np.full(10, EPOCH_US + 60 * DAY)]
    until[3] = EPOCH_US + 20 * DAY
    world.availability = Availability(since, until)
    return BatchedEngine(world, window, n_candidates=n_candidates)


@pytest.mark.parametrize("k", [None, 12])
def test_what_is_not_available_at_the_clock_is_masked(k: int | None) -> None:
    engine = seasonal(k)
    observation, kinds = engine.reset(0, 400), set()
    for _ in range(6):
        day = (engine.clock - EPOCH_US) / DAY
        for lane in range(400):
            due = set(range(1, 11)) | (set(range(11, 21)) if day[lane] >= 30 else set())
            due |= set(range(21, 31)) if 40 <= day[lane] < 60 else set()
            due -= {3} if day[lane] >= 20 else set()
            mask, candidates = observation.actions.mask[lane] == 1, observation.actions.candidates[lane]
            assert mask.dtype == bool and observation.actions.mask.dtype == np.int8
            if k is None:
                assert set(candidates[mask]) == due
            else:
                assert set(candidates[mask]) <= due and mask.sum() == min(k, len(due)) == len(set(candidates[mask]))
                assert (candidates[~mask] == 0).all()
                assert candidates.tolist() == sorted(candidates[mask]) + [0] * int((~mask).sum()), "ascending, then padding"
            kinds.add(len(due))
        observation = engine.step(observation.actions.mask.argmax(axis=1)).obs
    assert kinds == {10, 9, 19, 29}
    check_env(seasonal(k))


@pytest.mark.parametrize("k", [None, 12])
def test_a_closed_item_cannot_be_shown(k: int | None) -> None:
    engine = seasonal(k)
    closed = engine.reset(0, 1).actions.mask[0] == 0
    assert closed.any()
    with pytest.raises(UserError, match="actions that the mask allows, got a closed item"):
        engine.step(np.array([closed.argmax()]))


def test_a_decision_without_an_available_item_is_an_error() -> None:
    engine = seasonal()
    engine.availability.since[1:11] = EPOCH_US + 30 * DAY
    with pytest.raises(UserError, match=r"an available item at each decision, got none at 17\d+ s since 1970"):
        engine.reset(0, 100)


def test_who_has_left_needs_no_available_item() -> None:
    world = Shop(30)
    world.availability = Availability(np.r_[NEVER, np.full(30, ALWAYS)], np.full(31, EPOCH_US + 91 * DAY))
    engine = BatchedEngine(world, n_candidates=5)
    engine.keep_final = True
    engine.reset(0, 1)
    for customer in range(4_000):
        engine.reset(0, 1, customer)
        if engine.clock[0] > EPOCH_US + 89 * DAY:
            try:
                fb = engine.step(np.zeros(1, np.int64))
            except UserError as error:  # a customer who comes back after the end
                assert "an available item at each decision" in str(error)
                continue
            if fb.terminated[0] and fb.clock[0] >= EPOCH_US + 91 * DAY:
                assert not engine.final.actions.mask.any() and fb.obs.actions.mask.any()
                return
    raise AssertionError("no customer left for good after the last item was gone")


def test_item_features_and_rows_are_those_of_the_world() -> None:
    class Growing(Shop):
        rows_per_step = 7

        @property
        def item_features(self) -> np.ndarray:
            return np.full((31, 2), self.allocations, np.float32)

        @item_features.setter
        def item_features(self, features: np.ndarray) -> None:
            self.allocations = 0

        def allocate(self, n: int) -> None:
            self.allocations += 1
            super().allocate(n)

    engine = BatchedEngine(Growing(30))
    assert engine.rows_per_step == 7 and engine.item_features[1, 0] == 0
    engine.reset(0, 2)
    assert engine.item_features[1, 0] == 1
    shop = make_engine("shop")
    shop.reset(0, 2_000)
    most = 0
    for step in range(30):
        rows = shop.step(np.full(2_000, step)).rows
        most = max(most, int(np.bincount(rows.lane).max()))
    assert 3 < most <= shop.rows_per_step == 5


def test_a_history_holds_as_many_rows_a_step_as_the_world_says() -> None:
    class Chatty(ToyWorld):
        rows_per_step = 6

        def respond(self, *arguments: np.ndarray) -> Outcome:
            outcome = super().respond(*arguments)
            items = arguments[0]
            more = [Group(2, None, items, after * 1_000_000, np.full(len(items), after, np.float32)) for after in range(20, 24)]
            return outcome._replace(groups=outcome.groups + more)

    mdp = FiniteMDP(("only",), ("a", "b"), 0, np.ones((1, 2)), np.ones((1, 2)), np.ones((1, 2, 1)))
    engine = BatchedEngine(Chatty(mdp), window=7, max_steps=1_000)
    observation, lanes = engine.reset(0, 3), {lane: [] for lane in range(3)}
    for step in range(40):
        fb = engine.step((np.arange(3) + step) % 2)
        for lane, item, value in zip(fb.rows.lane.tolist(), fb.rows.item.tolist(), fb.rows.value.tolist()):
            lanes[lane].append((item, value))
        observation = fb.obs
        for lane, rows in lanes.items():
            seen = list(zip(observation.state.history_items[lane].tolist(), observation.state.history_values[lane].tolist()))
            assert seen[-min(7, len(rows)) :] == rows[-7:]
    assert len(lanes[0]) == 40 * 6


def test_candidates_are_distinct_and_change() -> None:
    engine = make_engine("shop", n_candidates=10)
    first = engine.reset(0, 20)
    assert first.actions.candidates.shape == (20, 10) and (np.diff(first.actions.candidates, axis=1) > 0).all()
    assert first.actions.candidates.min() >= 1 and first.actions.candidates.max() <= 300
    second = engine.step(np.zeros(20, np.int64))
    assert np.array_equal(second.rows.item[second.rows.type == 4], first.actions.candidates[:, 0])
    assert not np.array_equal(second.obs.actions.candidates, first.actions.candidates)


@pytest.mark.parametrize(
    "actions,text",
    [
        (np.array([0, 300]), "actions from 0 to 299, got [0, 300]"),
        (np.array([0, -1]), "actions from 0 to 299, got [-1, 0]"),
        (np.array([0]), "int64 actions of shape [2]"),
        (np.array([0.0, 1.0]), "int64 actions of shape [2], got float64 [2]"),
    ],
)
def test_bad_actions_are_refused(actions: np.ndarray, text: str) -> None:
    engine = make_engine("shop")
    engine.reset(0, 2)
    with pytest.raises(UserError) as caught:
        engine.step(actions)
    assert text in str(caught.value)


def test_repeated_positions_in_a_slate_are_refused() -> None:
    engine = make_engine("shop", slate_size=2)
    engine.reset(0, 1)
    with pytest.raises(UserError, match="distinct positions"):
        engine.step(np.array([[3, 3]]))


@pytest.mark.parametrize(
    "name,arguments,text",
    [
        ("shopp", {}, "did you mean shop"),
        ("shop", {"max_steps": 0}, "max_steps of at least 1"),
        ("shop", {"window": 0}, "window from 1 to 10,000"),
        ("shop", {"slate_size": 0}, "slate_size of at least 1 for shop"),
        ("shop", {"n_candidates": 2, "slate_size": 3}, "n_candidates >= slate_size"),
        ("shop", {"strength": 2.5}, "strength from 0 to 2"),
        ("shop", {"n_items": 1}, "n_items from 2 to 10,000,000 for shop, got 1, at n_items; a whole number; 300 if left out"),
        ("toy_chain", {"n_items": 7}, "n_items=2 for toy_chain"),
        ("toy_chain", {"slate_size": 2}, "slate_size=1 for toy_chain"),
    ],
)
def test_bad_arguments_are_refused(name: str, arguments: dict, text: str) -> None:
    with pytest.raises(UserError) as caught:
        make_engine(name, **arguments)
    assert text in str(caught.value)


def test_random_numbers_are_uniform_normal_and_independent_of_the_batch() -> None:
    keys = customer_keys(0, np.arange(20_000))
    assert len(np.unique(keys)) == len(keys)
    u = uniforms(keys, purposes(0, 4))
    assert u.dtype == np.float32 and u.min() >= 0 and u.max() < 1
    assert np.abs(np.histogram(u, 20, (0, 1))[0] / u.size - 0.05).max() < 0.003
    assert np.abs(np.corrcoef(u) - np.eye(4)).max() < 0.03
    z = normals(keys, purposes(7, 3))
    assert abs(z.mean()) < 0.02 and abs(z.std() - 1) < 0.02
    assert uniforms(keys[5:6], purposes(0, 4)).tobytes() == np.ascontiguousarray(u[:, 5:6]).tobytes()
    assert not np.array_equal(customer_keys(1, np.arange(5)), keys[:5])


def test_speed_is_of_the_promised_order() -> None:
    """A floor far below the aim (1 M steps/s at 1,024 customers, 10 k at one), so that a busy machine does not fail it."""
    for n, steps, floor in ((1024, 60, 200_000), (1, 600, 2_000)):
        engine = make_engine("shop")
        engine.reset(0, n)
        actions = np.random.default_rng(0).integers(0, 300, (steps, n))
        best = 0.0
        for _ in range(3):
            start = time.process_time()
            for action in actions:
                engine.step(action)
            best = max(best, n * steps / (time.process_time() - start))
        assert best > floor


def test_every_step_has_luck_of_its_own() -> None:
    """The same item, to customers who do not change (strength 0): whoever clicked once does not click each time."""
    engine = make_engine("shop", strength=0.0, observe=False)
    engine.reset(0, 20_000)
    clicked = []
    for _ in range(2):
        here = engine.customer.copy()
        clicked.append(engine.step(np.zeros(20_000, np.int64)).clicked >= 0)
    same = here == np.arange(20_000)
    first, second = (each[same] for each in clicked)
    assert 0.05 < second[first].mean() < 0.6, "who likes the item clicks more often, but not always"


def test_first_visits_are_spread_evenly_over_90_days_from_2026_on() -> None:
    engine = make_engine("shop", observe=False)
    engine.reset(0, 40_000)
    days = (engine.clock - 1_767_225_600_000_000) / 86_400e6
    assert days.min() >= 0 and 89.9 < days.max() < 90
    assert np.abs(np.bincount((days / 10).astype(int), minlength=9) / 40_000 - 1 / 9).max() < 0.01
