"""The world `live`: rates of KuaiLive, references, and what is seen of rooms (see also test_worlds_with_times.py)."""

import numpy as np
import pytest

from qurate.baselines.registry import random_policy
from qurate.environments.registry import make_engine
from qurate.environments.scenarios.live import Live
from qurate.environments.scenarios.live_references import Consequences, consequences, far_sighted, live_of, true_myopic
from qurate.errors import UserError
from qurate.evaluation.headroom import measure

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


def test_nothing_happens_in_a_closed_room() -> None:
    engine = make_engine("live")
    engine.reset(0, 500)
    since, until = engine.availability.since, engine.availability.until
    for _ in range(20):
        feedback = engine.step(np.zeros(500, np.int64))
        for group in engine.groups:
            times = feedback.rows.time[feedback.rows.type == group.type]
            assert len(times) == (500 if group.lanes is None else len(group.lanes))
            assert (since[group.items] <= times).all() and (times <= until[group.items]).all()


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
