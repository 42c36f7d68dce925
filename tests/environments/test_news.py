"""The world `news`: measured rates, references, and what is seen of articles (see also test_worlds_with_times.py)."""

import numpy as np
import pytest

from qurate.baselines.registry import random_policy
from qurate.environments.registry import make_engine
from qurate.environments.scenarios.news import SLOTS, News
from qurate.environments.scenarios.news_articles import TOPICS, ArticleParameters, Articles
from qurate.environments.scenarios.news_references import Consequences, consequences, far_sighted, news_of, true_myopic
from qurate.errors import UserError
from qurate.evaluation.headroom import measure


def test_rates_are_the_measured_ones_within_a_tenth() -> None:
    """Under the random policy, with the default options. EB-NeRD: 1.001 clicks on 10.37 articles in view, 42.0 seconds read. Globo.com:
    2,988,181 clicks in 1,048,594 sessions of two clicks or more, 26.2 hours from one session of a reader to the next (median)."""
    n = 8000
    engine, policy, rng = make_engine("news"), random_policy(), np.random.default_rng(0)
    observation, here = engine.reset(0, n), np.ones(n, bool)
    shown, total, in_visit = 0, np.zeros(2), np.zeros(n)
    visits, pauses = [], []
    for _ in range(engine.max_steps):
        feedback = engine.step(policy.act(observation, rng)[0])
        shown += int(here.sum())
        total += feedback.components[here].sum(axis=0)
        in_visit += feedback.components[:, 0] * here
        back = here & (feedback.pause > 0)
        visits.append(in_visit[back | (here & feedback.terminated)])
        pauses.append(feedback.pause[back] / 3600)
        in_visit[back] = 0
        here &= ~(feedback.terminated | feedback.truncated)
        observation = feedback.obs
    clicks = np.concatenate(visits)
    assert total[0] > 20_000
    assert total[0] / shown == pytest.approx(1.001 / 10.37, rel=0.1)
    assert total[1] / total[0] == pytest.approx(42.0, rel=0.1)
    assert clicks[clicks >= 2].mean() == pytest.approx(2_988_181 / 1_048_594, rel=0.1)
    assert np.median(np.concatenate(pauses)) == pytest.approx(26.2, rel=0.1)


def test_references_agree_at_strength_0_and_have_headroom_at_strength_1() -> None:
    without = measure("news", strength=0.0, customers=200, seeds=(0,))
    assert without["true_myopic"] == without["far_sighted"]
    with_effects = measure("news", strength=1.0, customers=500, seeds=(0,))
    random, myopic, far = (with_effects[name][0][0] for name in ("random", "true_myopic", "far_sighted"))
    assert 2.3 < random < 3.2 and 1.2 * random < myopic and far > 1.3 * myopic


def test_far_sighted_prices_what_a_decision_changes_until_the_last_one() -> None:
    engine = make_engine("news", max_steps=20)
    observation = engine.reset(0, 6)
    for step in range(20):
        x: Consequences = consequences(news_of(engine), observation.actions.candidates)
        left = min((19 - step) / 12, 1)  # 12 decisions before the limit the prices begin to fall
        expected = x.now + left * (2.0 * x.loyalty - 0.3 * x.fatigue * x.now)
        measured = (engine.steps == step)[:, None] & (observation.actions.mask > 0)
        assert np.allclose(far_sighted(engine).scores(observation)[measured], expected[measured], atol=1e-5)
        assert np.array_equal(true_myopic(engine).scores(observation)[measured], x.now[measured])
        observation = engine.step(np.zeros(6, np.int64)).obs


def test_references_need_the_world() -> None:
    with pytest.raises(UserError, match="expected news, got ToyWorld"):
        true_myopic(make_engine("toy_chain"))


def test_features_say_what_the_site_knows_and_nothing_latent() -> None:
    news = News()
    assert news.item_features.shape == (1201, len(news.feature_names)) and not news.item_features[0].any()
    names = {name.split("=")[0] for name in news.feature_names}
    assert names == {"topic", "publisher", "breaking", "clickbait_score", "early_seconds"}
    table = news.items_table()
    assert table.columns[:3] == ["item_id", "topic", "publisher"] and table.columns[-2:] == ["available_from", "available_until"]
    assert set(table["topic"]) == set(TOPICS)
    assert table["available_from"].null_count() == 0 and 10 < table["available_until"].null_count() < 57


def test_other_worlds_have_other_articles_and_the_same_seed_the_same() -> None:
    first, again, other = (News(world_seed=seed).articles for seed in (0, 0, 1))
    assert np.array_equal(first.quality, again.quality) and not np.array_equal(first.quality, other.quality)


@pytest.mark.parametrize("n", [100, 1200])
def test_the_default_lists_hold_the_whole_front_page_and_the_memory_all_that_is_on_it(n: int) -> None:
    for seed in range(20):
        availability = Articles(n, seed, ArticleParameters()).availability
        since, until = availability.since[1:], availability.until[1:]
        moments = since[since > since[0] + 86_400_000_000 // 2]
        there = np.searchsorted(since, moments, "right") - np.searchsorted(np.sort(until), moments, "right")
        assert there.min() > 10 and there.max() <= 56
        beside = np.searchsorted(since, until) - np.arange(n)
        assert beside.max() <= SLOTS, "two articles of one slot are never on the front page together"


def test_an_article_shown_hundreds_of_times_is_no_overflow() -> None:
    engine = make_engine("news", n_items=100, strength=2.0, max_steps=400)
    engine.reset(0, 50)
    with np.errstate(all="raise"):
        for _ in range(300):
            engine.step(np.zeros(50, np.int64))
    assert news_of(engine).known.max() == 30
