"""The shop: common random numbers, the switch for long-term effects, hand values of the kernel, headroom."""

import numpy as np
import pytest

from qurate.environments.engine import BatchedEngine
from qurate.environments.registry import make_engine
from qurate.environments.scenarios.shop import N_CATEGORIES, Shop, ShopParameters
from qurate.environments.scenarios.shop_references import consequences, far_sighted, shop_of, true_myopic
from qurate.errors import UserError
from qurate.evaluation.headroom import measure
from qurate.evaluation.rollouts import take_customers


def traces(engine: BatchedEngine, items: list[int], n: int = 400) -> list[tuple]:
    """(luck-dependent) leaving and returning of n customers who are shown `items` one after the other."""
    engine.reset(9, n)
    here, out = np.ones(n, bool), []
    for item in items:
        fb = engine.step(np.full(n, item))
        out.append((np.where(here, fb.pause, 0).tolist(), np.where(here, fb.terminated, False).tolist()))
        here &= ~(fb.terminated | fb.truncated)
    return out


def deals_and_solid(shop: Shop) -> tuple[np.ndarray, np.ndarray]:
    return np.flatnonzero(shop.catalogue.discount > 0.3), np.flatnonzero(shop.catalogue.quality > 0.4)


def test_at_strength_0_nothing_shown_changes_anything_later() -> None:
    shop = Shop(strength=0.0)
    deals, solid = deals_and_solid(shop)
    bad, good = BatchedEngine(shop), BatchedEngine(Shop(strength=0.0))
    assert traces(bad, deals[:30].tolist()) == traces(good, solid[:30].tolist()), "visits do not depend on what was shown"
    # and the response to the same item after different pasts is the same for the same luck
    ends = []
    for past in (deals[:10], solid[:10]):
        engine = BatchedEngine(Shop(strength=0.0))
        engine.reset(1, 500)
        for item in past:
            engine.step(np.full(500, item))
        ends.append(engine.step(np.full(500, 0)))
    assert np.array_equal(ends[0].components, ends[1].components)
    assert np.array_equal(ends[0].terminated, ends[1].terminated)


def test_at_strength_1_deals_cost_trust_and_visits() -> None:
    shop = Shop()
    deals, solid = deals_and_solid(shop)
    results = {}
    for name, items in (("deals", deals[:30]), ("solid", solid[:30])):
        engine = BatchedEngine(Shop())
        engine.reset(1, 2000)
        gone = np.zeros(2000, bool)
        for item in items:
            gone |= engine.step(np.full(2000, item)).terminated
        results[name] = gone.mean()
    assert results["deals"] > results["solid"] + 0.1


def test_customers_and_luck_are_common_to_all_policies() -> None:
    """Two policies that agree until step 5 see bit-identical customers until then, whoever else is in the batch."""
    a, b = make_engine("shop"), make_engine("shop")
    first, second = a.reset(4, 64), b.reset(4, 64)
    assert np.array_equal(first.state.user, second.state.user) and np.array_equal(a.clock, b.clock)
    for step in range(5):
        x, y = a.step(np.full(64, step)), b.step(np.full(64, step))
        assert np.array_equal(x.components, y.components) and np.array_equal(x.clock, y.clock)
    other = np.arange(64) % 2 * 50
    x, y = a.step(np.full(64, 5)), b.step(5 + other)
    same = (other == 0) & ~(x.terminated | y.terminated)
    assert np.array_equal(x.components[same], y.components[same]) and np.array_equal(
        x.obs.state.history_gaps[same], y.obs.state.history_gaps[same]
    )


def test_probabilities_by_hand() -> None:
    p = ShopParameters()
    shop = Shop()
    shop.allocate(1)
    shop.taste[0], shop.satiation[0] = 0.3, 0.1
    sensitivity, trust = np.array([0.5], np.float32), np.array([0.2], np.float32)
    item, c = 17, shop.catalogue
    _, _, chances = shop.meet(np.array([item]), np.array([0]), sensitivity, trust)
    price = 0.5 * c.log_price[item - 1]
    click = p.click_base + c.appeal[item - 1] + 0.3 - 0.1 - price + p.trust_click * 0.2
    cart = p.cart_base + c.conversion[item - 1] + p.cart_taste * 0.2 - price + p.trust_cart * 0.2
    leave = p.leave_base - p.leave_trust * 0.2
    assert chances[:, 0] == pytest.approx([1 / (1 + np.exp(-x)) for x in (click, cart, leave)], rel=1e-5)


def test_expected_consequences_agree_with_what_happens() -> None:
    """Mean reward and change of trust over many lucks equal the formula the references use."""
    n = 40_000
    engine = BatchedEngine(Shop(), observe=False)
    engine.reset(0, n)
    shop = shop_of(engine)
    for name in ("taste", "satiation"):
        getattr(shop, name)[:] = np.linspace(-0.5, 1.5, 20) if name == "taste" else 0.2
    shop.sensitivity[:], shop.trust[:] = 0.5, 0.1
    now, trust_change, satiation_change = (x[0].copy() for x in consequences(shop))
    item = int(now.argmax())
    category = shop.item_category[item + 1]
    old_satiation = float(shop.satiation[0, category])
    _, _, (click, cart, _) = shop.meet(np.array([item + 1]), np.array([0]), shop.sensitivity[:1], shop.trust[:1])
    feedback = engine.step(np.full(n, item))
    later = (shop.pending > 0).sum() * 5 / n  # whoever left has paid in this step; the others pay when they leave
    assert feedback.reward.mean() + later == pytest.approx(now[item], rel=0.03)
    staying = (feedback.pause == 0) & ~feedback.terminated
    postponed = float(click[0] * cart[0]) * 0.5 * 0.25  # half of the carts are paid, a quarter of them later
    unpaid = postponed * 0.2 * (shop.catalogue.quality[item] - 0.1)
    assert shop.trust[staying].mean() - 0.1 == pytest.approx(trust_change[item] - unpaid, rel=0.02)
    grown = shop.satiation[staying, category].mean() - old_satiation * shop.p.rest
    assert grown == pytest.approx(satiation_change[item], rel=0.05)


def test_postponed_purchases_are_paid_in_the_step_that_ends_the_visit() -> None:
    shop = Shop()
    engine = BatchedEngine(shop, max_steps=1000)
    engine.reset(0, 1000)
    seen = 0
    for step in range(40):
        before, since = shop.pending.copy(), shop.pending_since.copy()
        feedback = engine.step(np.full(1000, step * 7 % 300))
        for group in engine.groups:
            if group.decision is None:
                continue
            seen += len(group.lanes)
            old = before[group.lanes] > 0
            assert np.array_equal(group.items[old], before[group.lanes][old]) and np.array_equal(
                group.decision[old], since[group.lanes][old]
            )
            assert ((feedback.pause > 0) | feedback.terminated)[group.lanes].all()
            assert (feedback.components[group.lanes, 2] >= 1).all()
    assert seen > 5


def test_at_strength_0_no_purchase_is_postponed() -> None:
    """A quarter of the half that is paid, times min(strength, 1); at strength 0 no cart ever waits."""
    shares = [Shop(strength=strength)._postponed for strength in (0.0, 0.5, 1.0, 2.0)]
    assert shares == pytest.approx([0, 0.0625, 0.125, 0.125])
    waiting = []
    for strength in (0.0, 1.0):
        shop = Shop(strength=strength)
        engine = BatchedEngine(shop)
        engine.reset(0, 1000)
        waiting.append(0)
        for item in range(10):
            engine.step(np.full(1000, item))
            waiting[-1] += int((shop.pending > 0).sum())
    assert waiting[0] == 0 < waiting[1]


def test_satiation_heals_from_step_to_step() -> None:
    """Satiation 1 with categories that are not shown is 0.85 after a step of the same visit and 0.85^2 after two."""
    shop = Shop()
    engine = BatchedEngine(shop)
    engine.reset(0, 200)
    shop.satiation[:] = 1
    here, others = np.ones(200, bool), np.arange(N_CATEGORIES) != shop.item_category[1]
    for wanted in (0.85, 0.7225):
        feedback = engine.step(np.zeros(200, np.int64))
        here &= (feedback.pause == 0) & ~feedback.terminated
        assert here.sum() > 100
        assert np.allclose(shop.satiation[here][:, others], wanted, rtol=1e-6)


def test_features_say_what_the_shop_shows_and_nothing_latent() -> None:
    shop = Shop()
    assert shop.item_features.shape == (301, len(shop.feature_names)) and not shop.item_features[0].any()
    rating = shop.item_features[1:, shop.feature_names.index("rating")]
    assert np.corrcoef(rating, shop.catalogue.quality)[0, 1] > 0.9, "the rating reveals quality"
    user = BatchedEngine(shop).reset(0, 4000).state.user
    assert user.shape[1] == len(shop.user_feature_names) == 9
    assert (user[:, :6].sum(axis=1) == 1).all() and (user[:, 6:].sum(axis=1) == 1).all()
    assert np.abs(user[:, :6].mean(axis=0) - 1 / 6).max() < 0.03
    assert [name.split("=")[0] for name in shop.user_feature_names] == ["segment"] * 6 + ["price_band"] * 3


def test_a_slate_of_one_is_the_single_item() -> None:
    """The choice model's click probability for one item is the single item's."""
    single, slate = Shop(), Shop()
    for shop in (single, slate):
        shop.allocate(2000)
        shop.taste[:], shop.trust[:] = 0.4, 0.3
    items, luck = np.arange(2000) % 300 + 1, (np.arange(2000, dtype=np.float32) + 0.5) / 2000
    _, _, chances = single.meet(items, single._row, single.sensitivity, single.trust)
    position = slate._choose(items[:, None], luck)[2]
    assert ((position == 0) == (luck < chances[0])).mean() > 0.999  # equal but for rounding at the boundary
    assert set(position.tolist()) == {-1, 0}


def test_slate_choice_follows_the_conditional_logit() -> None:
    shop, n = Shop(), 50_000
    shop.allocate(n)
    slate = np.tile([3, 120, 250], (n, 1))
    luck = (np.arange(n, dtype=np.float32) + 0.5) / n
    position = shop._choose(slate, luck)[2]
    _, _, chances = shop.meet(slate[:1], shop._row[:1, None], shop.sensitivity[:1, None], shop.trust[:1, None])
    odds = (chances[0] / (1 - chances[0]))[0]
    expected = odds / (1 + odds.sum())
    assert [(position == i).mean() for i in range(3)] == pytest.approx(expected, abs=1e-3)


def test_references_agree_at_strength_0_and_have_headroom_at_strength_1() -> None:
    without = measure("shop", strength=0.0, customers=300, seeds=(0,))
    assert without["true_myopic"] == without["far_sighted"]
    with_effects = measure("shop", strength=1.0, customers=400, seeds=(0,))
    random, myopic, far = (with_effects[name][0][0] for name in ("random", "true_myopic", "far_sighted"))
    assert random < myopic and far > 1.4 * myopic


def test_far_sighted_prices_trust_and_satiation_until_the_last_decision() -> None:
    engine = make_engine("shop", max_steps=5)
    observation = engine.reset(0, 6)
    for step in range(5):
        now, trust, satiation = consequences(shop_of(engine))
        left = (4 - step) / 12  # 12 decisions before the limit the prices begin to fall
        expected = now + left * (7.0 * trust - 0.3 * satiation * now)
        assert far_sighted(engine).scores(observation)[engine.steps == step] == pytest.approx(expected[engine.steps == step], abs=1e-5)
        assert np.array_equal(true_myopic(engine).scores(observation), now)
        observation = engine.step(np.arange(6)).obs
    early = make_engine("shop", max_steps=60)
    observation = early.reset(0, 6)
    now, trust, satiation = consequences(shop_of(early))
    assert far_sighted(early).scores(observation) == pytest.approx(now + 7.0 * trust - 0.3 * satiation * now, abs=1e-5)


def test_references_need_a_shop_and_all_lanes() -> None:
    with pytest.raises(UserError, match="expected a shop, got ToyWorld"):
        true_myopic(make_engine("toy_chain"))
    engine = make_engine("shop")
    part = take_customers(engine.reset(0, 3), np.array([0, 1]))
    with pytest.raises(UserError, match="expected all 3 customers"):
        far_sighted(engine).act(part, np.random.default_rng(0))


def test_references_choose_among_candidates_and_for_slates() -> None:
    engine = make_engine("shop", n_candidates=8, slate_size=3)
    observation = engine.reset(0, 5)
    positions, propensity = far_sighted(engine).act(observation, np.random.default_rng(0))
    assert positions.shape == propensity.shape == (5, 3) and (propensity == 1).all()
    assert all(len(set(row)) == 3 for row in positions.tolist()) and positions.max() < 8
    scores = true_myopic(engine).scores(observation)
    best = np.take_along_axis(consequences(shop_of(engine))[0], observation.actions.candidates - 1, axis=1)
    assert np.array_equal(scores, best)


def test_random_policy_meets_the_documented_rates() -> None:
    value, decisions, visits = measure("shop", 1000, seeds=(0,))["random"][0]
    assert 6 < value < 9 and 24 < decisions < 30 and 3 < visits < 3.7
