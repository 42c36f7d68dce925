"""Every effect that docs/scenarios/shop.md claims, against an independent reference with the constants of that page.

The constants are written here once more on purpose: a test that reads `ShopParameters` would agree with any of them.
"""

import numpy as np
import pytest
from numpy.typing import NDArray

from qurate.environments.engine import BatchedEngine
from qurate.environments.rng import customer_keys
from qurate.environments.scenarios.shop import CART, CLICK, PURCHASE, Catalogue, Shop, ShopParameters
from qurate.environments.scenarios.shop_references import consequences
from qurate.types import Feedback

LIKED, DISLIKED, TASTE_NOISE = 1.6, -0.9, 0.6
SHOWN_RATE, CLICK_RATE, PURCHASE_RATE = 0.05, 0.2, 0.2
TIRE_SHOWN, TIRE_CLICK, KEPT, REST_HOURS = 0.3, 0.3, 0.85, 24.0


def logistic(x: NDArray[np.floating]) -> NDArray[np.floating]:
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


class Latent:
    """Copies of what the customers are like before a step."""

    def __init__(self, engine: BatchedEngine, shop: Shop) -> None:
        self.trust, self.satiation = shop.trust.astype(np.float64), shop.satiation.astype(np.float64)
        self.pending, self.since = shop.pending.copy(), shop.pending_since.copy()
        self.steps, self.clock = engine.steps.copy(), engine.clock.copy()


def counts(engine: BatchedEngine, kind: int, postponed: bool = False) -> NDArray[np.int64]:
    """[B] rows of a type in the last step; those of postponed purchases stand apart."""
    found = np.zeros(engine.n, np.int64)
    for group in engine.groups:
        if group.type == kind and (group.decision is not None) == postponed:
            np.add.at(found, np.arange(engine.n) if group.lanes is None else group.lanes, 1)
    return found


def steps_of(engine: BatchedEngine, shop: Shop, steps: int, rng: np.random.Generator):  # type: ignore[no-untyped-def]
    """Random slates: yields (what customers were like before, items shown [B, k], feedback)."""
    engine.reset(5, 3000)
    for _ in range(steps):
        slate = rng.permuted(np.tile(np.arange(engine.n_items), (engine.n, 1)), axis=1)[:, : engine.slate_size]
        before = Latent(engine, shop)
        yield before, slate + 1, engine.step(slate[:, 0] if engine.slate_size == 1 else slate)


def left(feedback: Feedback) -> NDArray[np.bool_]:
    return (feedback.pause > 0) & ~feedback.truncated


@pytest.mark.parametrize("slate_size", [1, 3])
@pytest.mark.parametrize("strength", [0.5, 1.0, 2.0])
def test_trust_and_satiation_move_as_the_page_says(strength: float, slate_size: int) -> None:
    """Shown 5 % of the way to the mean quality shown, a click and a purchase 20 % each to the item's, all times strength."""
    shop = Shop(n_items=40, strength=strength)
    engine = BatchedEngine(shop, slate_size=slate_size, observe=False, max_steps=1000)
    quality, category = np.concatenate([[0], shop.catalogue.quality]), shop.item_category
    rows, seen = np.arange(3000), {"click": 0, "purchase": 0, "paid later": 0, "pause": 0}
    for before, items, feedback in steps_of(engine, shop, 12, np.random.default_rng(0)):
        clicked, bought = feedback.clicked >= 0, counts(engine, PURCHASE) > 0
        own = quality[items[rows, np.maximum(feedback.clicked, 0)]]
        rate = CLICK_RATE * clicked + PURCHASE_RATE * bought
        moved = SHOWN_RATE * (quality[items].mean(axis=1) - before.trust) + rate * (own - before.trust)
        trust = before.trust + strength * moved
        satiation = before.satiation * KEPT
        np.add.at(satiation, (rows[:, None], category[items]), strength * TIRE_SHOWN / slate_size)
        np.add.at(satiation, (rows, category[items[rows, feedback.clicked]]), strength * TIRE_CLICK * clicked)
        back = left(feedback)
        late = counts(engine, PURCHASE, postponed=True) > 0
        for group in engine.groups:
            if group.decision is not None:
                trust[group.lanes] += strength * PURCHASE_RATE * (quality[group.items] - trust[group.lanes])
        satiation[back] *= np.exp(-feedback.pause[back] / 3600 / REST_HOURS)[:, None]
        same = ~feedback.terminated
        assert np.allclose(shop.trust[same], trust[same], atol=1e-5)
        assert np.allclose(shop.satiation[same], satiation[same], atol=1e-4)
        for name, flags in (("click", clicked), ("purchase", bought), ("paid later", late & same), ("pause", back)):
            seen[name] += int(flags.sum())
    assert min(seen.values()) > 10, seen


def test_rewards_are_the_rows_of_the_step_and_postponed_payments_name_their_decision() -> None:
    shop = Shop(n_items=40)
    engine = BatchedEngine(shop, observe=False, max_steps=1000)
    twice = waiting = 0
    for before, _, feedback in steps_of(engine, shop, 10, np.random.default_rng(1)):
        shop.taste[:] = 2.0  # many carts
        now, late = counts(engine, PURCHASE), counts(engine, PURCHASE, postponed=True)
        parts = np.stack([counts(engine, CLICK), counts(engine, CART), now + late], axis=1)
        assert np.array_equal(feedback.components, parts)
        assert np.array_equal(feedback.reward, parts @ [1, 2, 5])
        twice += int(((now > 0) & (late > 0)).sum())
        new = (shop.pending > 0) & (before.pending == 0) & ~feedback.terminated
        assert np.array_equal(shop.pending_since[new], before.steps[new]), "counted from 0"
        kept = (shop.pending > 0) & (before.pending > 0)
        assert np.array_equal(shop.pending[kept], before.pending[kept]), "a second cart does not replace the one that waits"
        waiting += int(new.sum())
        assert not shop.pending[left(feedback) | feedback.terminated].any(), "whoever left has paid"
        for group in engine.groups:
            if group.decision is not None:
                lanes = group.lanes[left(feedback)[group.lanes]]
                after = np.asarray(group.after)[left(feedback)[group.lanes]]
                pause = feedback.pause[lanes].astype(np.int64)
                end_of_visit = feedback.clock[lanes] - pause * 1_000_000
                assert np.array_equal(before.clock[lanes] + after, end_of_visit + pause // 2 * 1_000_000), "in the middle of the pause"
    assert twice > 0 and waiting > 100


def test_the_funnel_after_a_click() -> None:
    """Half of the carts are paid, a quarter of those after the visit; a slate's carts follow the item that was clicked."""
    for slate_size in (1, 2):
        shop = Shop(n_items=20)
        engine = BatchedEngine(shop, slate_size=slate_size, observe=False)
        engine.reset(3, 60_000)
        shop.taste[:], shop.trust[:], shop.sensitivity[:] = 1.0, 0.4, 0.5
        slate = np.tile(np.arange(slate_size), (engine.n, 1))
        feedback = engine.step(slate[:, 0] if slate_size == 1 else slate)
        carts, waiting = feedback.components[:, 1] > 0, shop.pending > 0
        c = shop.catalogue
        cart = logistic(-2.0 + 0.5 * c.discount + 0.5 * c.quality + 0.5 * 1.0 - 0.5 * c.log_price + 0.5 * 0.4)
        for position in range(slate_size):
            here = feedback.clicked == position
            assert carts[here].mean() == pytest.approx(cart[position], abs=4 * np.sqrt(0.25 / here.sum()))
        staying = carts & (feedback.pause == 0) & ~feedback.terminated
        n = staying.sum()
        assert n > 1000
        assert feedback.components[staying, 2].mean() == pytest.approx(0.375, abs=4 * np.sqrt(0.25 / n))
        assert waiting[staying].mean() == pytest.approx(0.125, abs=4 * np.sqrt(0.11 / n))


@pytest.mark.parametrize("trust", [-0.8, 0.0, 0.8])
def test_who_leaves_who_returns_and_how_long_they_pause(trust: float) -> None:
    shop = Shop(n_items=20)
    engine = BatchedEngine(shop, observe=False)
    engine.reset(2, 60_000)
    shop.trust[:] = trust
    shop.taste[:] = -20  # nobody clicks, so that trust moves by what is shown alone
    clock = engine.clock.copy()
    feedback = engine.step(np.zeros(engine.n, np.int64))
    gone, back = feedback.terminated, feedback.pause > 0
    assert (gone | back).mean() == pytest.approx(logistic(np.array(-2 - 0.8 * trust)), abs=0.006)
    after = trust + 0.05 * (shop.catalogue.quality[0] - trust)
    leavers = int((gone | back).sum())
    assert back.sum() / leavers == pytest.approx(logistic(np.array(1 + 1.2 * after)), abs=4 * np.sqrt(0.25 / leavers))
    hours = feedback.pause[back] / 3600
    assert 10 <= hours.min() < 10.1
    assert hours.mean() == pytest.approx(40, abs=4 * 30 / np.sqrt(back.sum()))
    dwell = (feedback.clock[back] - clock[back]) / 1e6 - feedback.pause[back]
    assert set(np.round(dwell).astype(int).tolist()) == set(range(8, 31)), "8 to 30 seconds, then the pause"


def test_new_customers() -> None:
    shop = Shop()
    shop.allocate(40_000)
    user = shop.enter(np.arange(40_000), customer_keys(0, np.arange(40_000)))
    assert shop.trust.mean() == pytest.approx(0.1, abs=0.004) and shop.trust.std() == pytest.approx(0.2, abs=0.004)
    assert shop.sensitivity.mean() == pytest.approx(0.5, abs=0.006) and 0.999 < shop.sensitivity.max() < 1
    values = np.sort(shop.segment_taste, axis=1)
    assert np.allclose(values[:, -4:], LIKED) and np.allclose(values[:, :-4], DISLIKED), "six segments like four categories each"
    distance = ((shop.taste[:, None] - shop.segment_taste) ** 2).sum(axis=2)
    segment = distance.argmin(axis=1)
    own = shop.taste - shop.segment_taste[segment]
    assert own.std() == pytest.approx(TASTE_NOISE, abs=0.005)
    right = (user[:, :6].argmax(axis=1) == segment).mean()
    assert right == pytest.approx(0.85 + 0.15 / 6, abs=0.01), "a wrong guess is right by chance in one of six cases"


def test_whoever_takes_a_lane_brings_neither_satiation_nor_an_unpaid_cart() -> None:
    shop = Shop(n_items=20)
    engine = BatchedEngine(shop, observe=False, max_steps=3)
    engine.reset(0, 5000)
    shop.taste[:] = 3.0
    for step in range(2):
        feedback = engine.step(np.full(5000, step))
        assert not shop.satiation[feedback.terminated].any()
    assert (shop.pending > 0).sum() > 100 and shop.satiation.any()
    feedback = engine.step(np.zeros(5000, np.int64))
    new = feedback.truncated | feedback.terminated
    assert feedback.truncated.any()
    assert not shop.satiation[new].any() and not shop.pending[new].any()


def test_the_catalogue_is_as_the_page_says() -> None:
    n = 100_000
    c = Catalogue(n, 0, ShopParameters())
    deal = c.discount > 0.2
    assert deal.mean() == pytest.approx(0.3, abs=0.006)
    assert 0.4 <= c.discount[deal].min() < 0.41 and 0.69 < c.discount[deal].max() <= 0.7 and c.discount[~deal].max() <= 0.1
    for kind, mean in ((deal, -0.5), (~deal, 0.3)):
        assert np.median(c.quality[kind]) == pytest.approx(mean, abs=0.01)
        quarter, three = np.quantile(c.quality[kind], [0.25, 0.75])
        assert (three - quarter) / 1.349 == pytest.approx(0.25, abs=0.005), "the quartiles of a normal distribution"
    noise = c.rating - 3.6 - c.quality
    assert noise.mean() == pytest.approx(0, abs=0.005) and noise.std() == pytest.approx(np.hypot(0.15, 0.1 / 12**0.5), abs=0.003)
    attraction = c.appeal - 1.5 * c.discount
    assert attraction.std() == pytest.approx(0.3, abs=0.003)
    assert np.polyfit(c.discount, c.appeal, 1)[0] == pytest.approx(1.5, abs=0.02)
    assert np.allclose(c.conversion, 0.5 * c.discount + 0.5 * c.quality)
    assert Shop().component_weights.tolist() == [1, 2, 5] and Shop().component_names == ["click", "cart", "purchase"]


def test_what_the_references_expect_by_hand() -> None:
    """Reward of the decision, change of trust and of satiation, for one customer and every item."""
    shop = Shop(n_items=30, strength=0.5)
    shop.allocate(1)
    shop.taste[:], shop.satiation[:], shop.sensitivity[:], shop.trust[:] = 0.8, 0.2, 0.7, -0.3
    c = shop.catalogue
    price = 0.7 * c.log_price
    click = logistic(-2.4 + c.appeal + 0.6 - price - 0.9 * 0.3)
    cart = logistic(-2.0 + c.conversion + 0.5 * 0.6 - price - 0.5 * 0.3)
    now, trust, satiation = (x[0] for x in consequences(shop))
    assert np.allclose(now, click * (1 + cart * (2 + 0.5 * 5)), rtol=1e-5)
    assert np.allclose(trust, 0.5 * (0.05 + click * (0.2 + cart * 0.5 * 0.2)) * (c.quality + 0.3), rtol=1e-5)
    assert np.allclose(satiation, 0.5 * (0.3 + 0.3 * click), rtol=1e-5)
