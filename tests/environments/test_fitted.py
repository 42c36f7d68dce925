"""The world of fitted customers: probabilities against closed forms, the same luck at any batch, and mistakes that are named."""

from pathlib import Path

import numpy as np
import pytest
from tests.hand_customers import EVENTS, LOGITS, hand_customers

from qurate.environments import running_response
from qurate.environments.customer_response import Response
from qurate.environments.engine import BatchedEngine
from qurate.environments.fitted_customers import Customers, read_customers, write_customers
from qurate.environments.registry import make_engine, make_env
from qurate.environments.scenarios.fitted import FittedCustomers, quantile
from qurate.environments.scenarios.fitted_references import expected_rewards
from qurate.environments.worlds import references
from qurate.errors import Code, UserError
from qurate.testing import check_env

N = 20_000


def sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


def engine_of(**changed: object) -> BatchedEngine:
    return BatchedEngine(FittedCustomers(hand_customers(**changed)))


def near(found: float, expected: float, n: int = N) -> None:
    """Within four standard errors of a share."""
    assert abs(found - expected) < 4 * np.sqrt(expected * (1 - expected) / n) + 1e-9, (found, expected)


@pytest.mark.parametrize("item", [1, 2, 3, 4])
def test_events_happen_as_often_as_the_model_says(item: int) -> None:
    engine = engine_of()
    engine.reset(0, N)
    components = engine.step(np.full(N, item - 1)).components
    click, cart, like = (components[:, i] for i in range(3))
    p_click = sigmoid(LOGITS[item, 0])
    near(click.mean(), p_click)
    assert not cart[click == 0].any(), "a cart follows a click"
    near(cart[click > 0].mean(), sigmoid(LOGITS[item, 1]), int(click.sum()))
    near((like[click > 0] > 0).mean(), sigmoid(LOGITS[item, 2] + 1.5), int(click.sum()))
    near((like[click == 0] > 0).mean(), sigmoid(LOGITS[item, 2]), int((1 - click).sum()))


def test_slope_and_shift_scale_the_logits() -> None:
    engine = engine_of(slope=np.array([2.0, 1, 1]), shift=np.array([0.3, 0, 0]))
    engine.reset(0, N)
    near(engine.step(np.full(N, 0)).components[:, 0].mean(), sigmoid(2 * LOGITS[1, 0] + 0.3))


def test_how_likely_an_event_was_is_taken_from_what_its_happening_says() -> None:
    told = np.zeros((3, 3))
    told[2, 0] = 1.2
    engine = engine_of(told=told)
    engine.reset(0, N)
    components = engine.step(np.full(N, 1)).components
    click, like = components[:, 0] > 0, components[:, 2] > 0
    likely = LOGITS[2, 2] - 1.2 * sigmoid(LOGITS[2, 0])
    near(like[click].mean(), sigmoid(likely + 1.5), int(click.sum()))
    near(like[~click].mean(), sigmoid(likely), int((~click).sum()))


def test_amounts_are_the_mean_and_a_quantile_of_what_is_left_within_limits() -> None:
    engine = engine_of()
    engine.reset(0, N)
    like = engine.step(np.full(N, 3)).components[:, 2]
    like = like[like > 0]
    uniform = np.clip(np.linspace(1, 3, 100_001), 1.2, 2.9)  # 2 + 1 * uniform(-1, 1), cut
    assert like.min() == np.float32(1.2) and like.max() == np.float32(2.9)
    for q in (0.2, 0.5, 0.8):
        assert abs(np.quantile(like, q) - np.quantile(uniform, q)) < 0.03
    assert quantile(np.array([0.0, 10, 40]), np.array([0.25, 0.5, 0.75])).tolist() == [5, 10, 25]


def test_rewards_weigh_the_amounts_and_rows_show_the_values() -> None:
    engine = engine_of()
    engine.reset(0, 500)
    feedback = engine.step(np.full(500, 1))
    assert np.allclose(feedback.reward, feedback.components @ np.array([1, 2, 0.5], np.float32))
    value = {kind: feedback.rows.value[feedback.rows.type == kind] for kind in (1, 2, 3, 4)}
    assert (value[1] == 7).all(), "a cart's value is no reward: its rows show the mean of the log"
    assert (value[2] == 0).all() and (value[4] == 0).all()
    likes = feedback.components[:, 2]
    assert np.array_equal(np.sort(value[3]), np.sort(likes[likes > 0]))


def test_the_marginals_sum_over_what_else_may_happen() -> None:
    response = Response(hand_customers().arrays)
    marginals = response.marginals(LOGITS[1:])
    click = 1 / (1 + np.exp(-LOGITS[1:, 0]))
    like = click / (1 + np.exp(-LOGITS[1:, 2] - 1.5)) + (1 - click) / (1 + np.exp(-LOGITS[1:, 2]))
    assert np.allclose(marginals, np.stack([click, click / (1 + np.exp(-LOGITS[1:, 1])), like], axis=1))
    engine = engine_of()
    engine.reset(0, 3)
    assert isinstance(engine.world, FittedCustomers)
    expected = marginals @ np.array([1, 2, 0.5 * 2])
    assert np.allclose(expected_rewards(engine.world), np.broadcast_to(expected, (3, 4)))
    policy = references("fitted")["true_myopic"](engine)
    assert (policy.act(engine.observation, np.random.default_rng(0))[0] == expected.argmax()).all()


def test_leaving_returning_and_waiting_follow_their_models() -> None:
    leave = hand_customers().arrays["leave"].copy()
    leave[1] = 1.0  # a click now
    leave[4] = 2.0  # the memory of clicks
    engine = engine_of(leave=leave)
    engine.reset(0, N)
    feedback = engine.step(np.full(N, 1))
    click = feedback.components[:, 0] > 0
    over = feedback.terminated | (feedback.pause > 0)
    near(over[~click].mean(), sigmoid(-1.5), int((~click).sum()))
    near(over[click].mean(), sigmoid(-1.5 + 1 + 2 * 0.1), int(click.sum()))
    near((feedback.pause > 0)[over].mean(), sigmoid(0.5), int(over.sum()))
    pauses = feedback.pause[feedback.pause > 0]
    assert abs(np.median(pauses) - 7_200) < 300 and pauses.min() >= 3_600 and pauses.max() <= 10_800


def test_the_next_decision_comes_after_the_waits_of_the_log() -> None:
    engine = engine_of()
    engine.reset(0, 4_000)
    before = engine.clock.copy()
    feedback = engine.step(np.full(4_000, 1))
    stay = (feedback.pause == 0) & ~feedback.terminated
    wait, answered = (feedback.clock - before) / 1e6, feedback.clicked >= 0
    assert (wait[stay & answered] >= 40).all() and (wait[stay & answered] <= 60).all()
    assert (wait[stay & ~answered] >= 10).all() and (wait[stay & ~answered] <= 30).all()
    assert np.allclose(wait[feedback.pause > 0], feedback.pause[feedback.pause > 0], rtol=1e-6)


def test_the_counts_of_the_visit_and_in_all_reach_the_models() -> None:
    leave = np.zeros(12)
    leave[0], leave[9], leave[10] = -20, 20 / np.log1p(3), 0  # certain from the third or fourth decision of a visit on
    engine = engine_of(leave=leave, **{"return": np.full(12, 50.0) * (np.arange(12) == 0)})
    engine.reset(0, 200)
    ends = np.stack([engine.step(np.zeros(200, np.int64)).pause > 0 for _ in range(12)])
    assert not ends[:1].any() and ends[:5].any(axis=0).all(), "no visit has one decision or more than five"
    third = 20 * np.log1p(3) / np.log1p(3) - 20
    near(ends[2][~ends[:2].any(axis=0)].mean(), sigmoid(third), 200)
    assert ends[5:].any(axis=0).all() and not (ends[1:] & ends[:-1]).any(), "the count begins anew after a return"


def test_the_count_of_all_decisions_goes_on_after_a_return() -> None:
    leave = np.zeros(12)
    leave[0], leave[10] = -100, 120 / np.log1p(5)  # certain from the fifth decision on
    engine = engine_of(leave=leave, **{"return": np.full(12, 50.0) * (np.arange(12) == 0)})
    engine.reset(0, 50)
    ends = np.stack([engine.step(np.zeros(50, np.int64)).pause > 0 for _ in range(8)])
    assert not ends[:3].any() and ends[4:].all()


def test_a_log_of_sessions_has_no_returns() -> None:
    engine = engine_of(returns=False)
    engine.reset(0, 2_000)
    feedback = engine.step(np.zeros(2_000, np.int64))
    assert feedback.terminated.any() and not feedback.pause.any()


def test_of_a_slate_at_most_one_item_is_chosen() -> None:
    engine = BatchedEngine(FittedCustomers(hand_customers()), slate_size=2)
    engine.reset(0, N)
    feedback = engine.step(np.tile([0, 3], (N, 1)))
    p = [sigmoid(LOGITS[1, 0]), sigmoid(LOGITS[4, 0])]
    near((feedback.clicked == 0).mean(), p[0])
    near((feedback.clicked == 1).mean(), p[1])
    assert np.array_equal(feedback.components[:, 0] > 0, feedback.clicked >= 0)
    crowded = BatchedEngine(FittedCustomers(hand_customers(shift=np.array([3.0, 0, 0]))), slate_size=2)
    crowded.reset(0, N)
    chosen = crowded.step(np.tile([0, 3], (N, 1))).clicked
    q = [sigmoid(LOGITS[1, 0] + 3), sigmoid(LOGITS[4, 0] + 3)]
    assert (chosen >= 0).all()
    near((chosen == 0).mean(), q[0] / sum(q))


def test_derived_rewards_come_from_what_happened() -> None:
    engine = engine_of(components=["click", "no_response", "leave"], weights=[1.0, -0.1, -3.0])
    engine.reset(0, 3_000)
    feedback = engine.step(np.zeros(3_000, np.int64))
    assert np.array_equal(feedback.components[:, 2] > 0, feedback.terminated)
    assert np.array_equal(feedback.components[:, 1] > 0, feedback.clicked < 0)


@pytest.mark.parametrize("slate_size", [1, 2])
def test_feedback_is_the_same_at_batch_1_7_and_1024(slate_size: int) -> None:
    def play(n: int) -> list[np.ndarray]:
        engine = BatchedEngine(FittedCustomers(moody()), slate_size=slate_size, max_steps=15)
        engine.reset(3, n)
        rng = np.random.default_rng(0)
        out = []
        for _ in range(40):
            action = rng.permutation(4)[:slate_size]
            feedback = engine.step(np.tile(action, (n, 1)) if slate_size > 1 else np.full(n, action[0]))
            out.append(np.column_stack([feedback.components, feedback.terminated, feedback.pause, feedback.clock])[:1])
        return out

    one, seven, many = play(1), play(7), play(1_024)
    # a lane serves customers b, b + n, ...: they agree until the first one is gone
    first = next(i for i, row in enumerate(one) if row[0, 3] or i == 14)
    for other in (seven, many):
        for i in range(first + 1):
            assert np.array_equal(one[i], other[i]), i


def moody() -> Customers:
    """Customers whose response depends on the history by every path: encoder, likeness and repeats."""
    rng = np.random.default_rng(1)
    usual = hand_customers().arrays
    names = ("centred", "scale", "narrow", "match", "repeat", "layer1", "layer1_bias", "layer2", "value", "direction")
    return hand_customers(**{name: 0.3 * rng.normal(size=usual[name].shape) for name in names})


@pytest.mark.parametrize("slate_size", [1, 2])
def test_the_history_is_what_a_policy_observes(slate_size: int) -> None:
    """Where nothing of a slate was chosen, the pause since the last row goes on."""
    engine = BatchedEngine(FittedCustomers(moody()), window=5, max_steps=20, slate_size=slate_size)
    engine.reset(0, 50)
    rng = np.random.default_rng(0)
    for _ in range(60):
        engine.step(actions_of(rng, 50, slate_size))
        world, state = engine.world, engine.observation.state
        assert isinstance(world, FittedCustomers)
        seen = world.seen()
        assert np.array_equal(state.history_items, seen.items) and np.array_equal(state.history_types, seen.types)
        assert np.allclose(state.history_gaps, seen.gaps) and np.allclose(state.history_values, seen.values)


def actions_of(rng: np.random.Generator, n: int, slate_size: int) -> np.ndarray:
    several = rng.permuted(np.tile(np.arange(4), (n, 1)), axis=1)[:, :slate_size]
    return several if slate_size > 1 else several[:, 0]


@pytest.mark.parametrize("slate_size", [1, 3])
def test_what_is_kept_up_row_by_row_is_what_whole_histories_say(slate_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Types, decays, visits that pauses end, values, rows that leave the window, repeats, new customers; in blocks of customers."""
    monkeypatch.setattr(running_response, "BLOCK", 128)
    usual, rng = moody().arrays, np.random.default_rng(2)
    changed = {name: usual[name] for name in ("centred", "scale", "narrow", "match", "repeat", "layer1", "layer1_bias", "layer2", "value")}
    changed |= {"direction": usual["direction"], "spread": np.array([0.0, 0.5, 1]), "pause": np.array([600.0, 1_900, 7_200])}
    engine = BatchedEngine(FittedCustomers(hand_customers(**changed)), max_steps=40, slate_size=slate_size)
    engine.reset(0, 300)
    world = engine.world
    assert isinstance(world, FittedCustomers)
    for step in range(45):
        engine.step(actions_of(rng, 300, slate_size))
        if step % 4 == 0:
            shown = rng.integers(1, 5, (300, 3))
            logits, sizes = world.past.answers(shown)
            whole_logits, whole_sizes = world.response.raw(world.response.heads(world.seen()), shown)
            assert np.allclose(logits, whole_logits, atol=1e-12) and np.allclose(sizes[..., 1:], whole_sizes[..., 1:], atol=1e-12)
            assert not sizes[..., 0].any(), "no amount depends on it"
    assert np.ptp(whole_logits, axis=0).min() > 0.1
    assert (world.past.visit > 5).any() and (world.past.visit < 3).any() and world.past.pause.any()


def test_customers_have_the_features_of_people_of_the_log() -> None:
    engine = engine_of()
    user = engine.reset(0, 4_000).state.user
    assert set(np.unique(user)) == {20.0, 40.0}
    near((user == 40).mean(), 0.5, 4_000)


def test_a_restored_engine_continues_bit_for_bit() -> None:
    engine, again = (BatchedEngine(FittedCustomers(moody())) for _ in range(2))
    engine.reset(0, 20)
    rng = np.random.default_rng(0)
    actions = rng.integers(0, 4, (30, 20))
    for row in actions[:10]:
        engine.step(row)
    again.restore(engine.state())
    for row in actions[10:]:
        one, two = engine.step(row), again.step(row)
        assert np.array_equal(one.reward, two.reward) and np.array_equal(one.clock, two.clock)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    place = write_customers(hand_customers(), tmp_path / "people").path
    assert place is not None
    return place


def test_it_is_an_environment_like_any_other(directory: Path) -> None:
    check_env(make_engine(f"fitted,from={directory}"))
    check_env(make_engine(f"fitted,from={directory},slate_size=2"))
    check_env(make_env(f"fitted,from={directory}", max_steps=10))


def test_customers_are_read_as_they_were_written(directory: Path) -> None:
    read, made = read_customers(directory), hand_customers()
    assert read.facts == made.facts and read.items_table().equals(made.items_table())
    assert all(np.array_equal(read.arrays[name], array) for name, array in made.arrays.items())
    write_customers(made, directory)  # what it wrote itself, it may replace


@pytest.mark.parametrize("file", ["parameters.safetensors", "customers.json", "validity.json"])
def test_altered_customers_are_refused(directory: Path, file: str) -> None:
    content = (directory / file).read_bytes()
    (directory / file).write_bytes(content[:-20])
    with pytest.raises(UserError, match="the customers that were written") as caught:
        make_engine(f"fitted,from={directory}")
    assert caught.value.code is Code.ALTERED_CUSTOMERS


@pytest.mark.parametrize(
    "name,text",
    [
        ("fitted", "from=PATH, the customers of fitted, got none"),
        ("fitted,from=/no/such/place", "a directory of customers, got no such path"),
        ("shop,from=people", "an option of shop, got from"),
        ("fitted,from=", "each NAME=NUMBER once after a comma"),
    ],
)
def test_a_missing_or_wrong_path_is_named(name: str, text: str) -> None:
    with pytest.raises(UserError) as caught:
        make_engine(name)
    assert text in str(caught.value)


def test_a_dataset_in_place_of_customers_is_named(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text("{}")
    with pytest.raises(UserError, match=r"got a dataset.*qurate customers .* -o CUSTOMERS fits some to it"):
        make_engine(f"fitted,from={tmp_path}")


def test_events_are_named_by_the_log() -> None:
    world = FittedCustomers(hand_customers())
    assert world.component_names == EVENTS and world.type_names[-1] == "shown"
