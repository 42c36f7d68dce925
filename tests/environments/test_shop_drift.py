"""The switch of tastes in the shop: its formula, its moment, and that a shop without it is the shop as it was."""

import numpy as np
import pytest
from numpy.typing import NDArray

from qurate.environments.arrivals import EPOCH_US
from qurate.environments.customers import tastes_moved
from qurate.environments.engine import BatchedEngine
from qurate.environments.registry import make_engine
from qurate.environments.scenarios.shop import Shop
from qurate.environments.scenarios.shop_references import shop_of
from qurate.errors import UserError
from qurate.types import IntArray

DAY = 86_400_000_000


def lives(engine: BatchedEngine, steps: int = 40, n: int = 300) -> tuple[IntArray, list[bytes]]:
    """Clocks after each step [steps, n], and every bit of what customers answered and of what is seen of them."""
    observation, clocks, bits = engine.reset(6, n), [], []
    for step in range(steps):
        feedback = engine.step((engine.customer * 31 + step * 7) % engine.n_items)
        parts = (*observation.state, *observation.actions[:2], *feedback.rows, *feedback[1:6], feedback.clock, feedback.pause)
        bits.append(b"".join(np.asarray(part).tobytes() for part in parts))
        clocks.append(feedback.clock)
        observation = feedback.obs
    return np.array(clocks), bits


def test_tastes_move_to_the_next_category() -> None:
    assert tastes_moved(np.array([[1.0, 2.0, 4.0]]), 1.0).tolist() == [[4.0, 1.0, 2.0]]
    assert tastes_moved(np.array([[1.0, 2.0, 4.0]]), 0.25) == pytest.approx(np.array([[1.75, 1.75, 3.5]]))


def test_without_a_switch_and_with_one_that_moves_nothing_every_bit_is_the_same() -> None:
    plain = lives(make_engine("shop"))[1]
    assert lives(make_engine("shop", drift_day=0.0))[1] == plain
    assert lives(make_engine("shop,drift_day=5,drift=0"))[1] == plain
    assert lives(make_engine("shop,drift_day=10000"))[1] == plain, "nobody comes so late"
    assert lives(make_engine("shop,drift_day=5"))[1] != plain
    assert "clock" not in make_engine("shop").world.state_names, "checkpoints stay as they were"


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_each_customer_switches_when_their_clock_passes_the_day(share: float) -> None:
    """Before it, tastes are those of the shop without a switch; from it on, they have moved; those who come later have moved."""
    engine, plain = make_engine("shop", drift_day=40.0, drift=share), make_engine("shop")
    switch, seen = EPOCH_US + 40 * DAY, {"before": 0, "during": 0, "after": 0}
    engine.reset(8, 2000), plain.reset(8, 2000)
    came = plain.clock.copy()
    own = shop_of(plain).taste.copy()
    here = np.ones(2000, bool)
    for step in range(30):
        after = engine.clock >= switch
        expected = np.where(after[:, None], (1 - share) * own + share * own[:, np.arange(-1, 19)], own)
        assert np.allclose(shop_of(engine).taste[here], expected[here], atol=1e-6)
        seen["before"] += int((here & ~after).sum())
        seen["during"] += int((here & after & (came < switch)).sum())
        seen["after"] += int((here & after & (came >= switch)).sum())
        assert np.array_equal(shop_of(engine).clock[here], engine.clock[here]), "the shop's clock is the engine's"
        feedback = engine.step(np.full(2000, step % 9))
        here &= ~(feedback.terminated | feedback.truncated)
    assert min(seen.values()) > 300, seen


def test_a_switch_now_holds_for_those_present_and_for_those_to_come() -> None:
    engine, plain = make_engine("shop", max_steps=3), make_engine("shop", max_steps=3)
    for one in (engine, plain):
        one.reset(2, 50)
        one.step(np.zeros(50, np.int64))
    shop_of(engine).switch_now()
    present = engine.customer.copy()
    assert np.allclose(shop_of(engine).taste, np.roll(shop_of(plain).taste, 1, axis=1))
    later = make_engine("shop")
    later.reset(2, 200)
    for _ in range(3):
        engine.step(np.zeros(50, np.int64))
    fresh = np.flatnonzero(engine.customer > present)
    assert len(fresh) >= 45
    assert np.allclose(shop_of(engine).taste[fresh], np.roll(shop_of(later).taste[engine.customer[fresh]], 1, axis=1))


def test_feedback_is_the_same_at_batch_1_and_64_and_after_a_restore() -> None:
    def met(n: int, restored: bool = False) -> NDArray[np.float64]:
        """Clock, reward and pause of each step and lane, [120, n, 3]."""
        engine, out = make_engine("shop", drift_day=30.0), []
        engine.reset_lanes(np.arange(n, dtype=np.uint64) + 4)
        for step in range(120):
            if restored and step == 15:
                state, engine = engine.state(), make_engine("shop", drift_day=30.0)
                engine.restore(state)
            feedback = engine.step((engine.customer + 3 * step) % 300)
            out.append(np.stack([feedback.clock, feedback.reward, feedback.pause], axis=1))
        return np.array(out, np.float64)

    many = met(64)
    assert np.array_equal(met(1)[:, 0], many[:, 0])
    assert np.array_equal(met(64, restored=True), many)


@pytest.mark.parametrize("arguments", [{"drift_day": -1.0}, {"drift_day": 10_001.0}, {"drift": 1.5}, {"drift": -0.1}])
def test_a_switch_out_of_range_is_named(arguments: dict[str, float]) -> None:
    name = next(iter(arguments))
    with pytest.raises(UserError, match=f"{name} from 0 to"):
        Shop(**arguments)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=f"{name} from 0 to .* for shop"):
        make_engine("shop", **arguments)


def test_a_drift_without_its_day_is_told() -> None:
    """It would change nothing, and nobody would know."""
    with pytest.raises(UserError, match="a drift_day with drift, got none"):
        make_engine("shop", drift=0.5)
