"""The world `news`: measured rates, common random numbers, articles that leave the front page, references and what is refused."""

import numpy as np
import pytest

from qurate.baselines.registry import random_policy
from qurate.environments.engine import BatchedEngine
from qurate.environments.registry import make_engine
from qurate.environments.scenarios.news import SLOTS, News
from qurate.environments.scenarios.news_articles import TOPICS, ArticleParameters, Articles
from qurate.environments.scenarios.news_references import Consequences, consequences, far_sighted, news_of, true_myopic
from qurate.errors import Code, UserError
from qurate.evaluation.headroom import measure
from qurate.types import ALWAYS, NEVER, Availability, Feedback, Observation


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


def an_article(observation: Observation, reader: np.ndarray, step: int) -> np.ndarray:
    """An article on the front page that depends on the reader and the step alone."""
    return (reader * 7 + step // 2) % observation.actions.mask.sum(axis=1)


def life(n: int, first: int, steps: int = 40) -> list[tuple[np.ndarray, Feedback, np.ndarray]]:
    """Feedback of readers first ... first + n - 1 of seed 3 until each is gone: (who is measured, feedback, articles offered)."""
    engine = make_engine("news")
    observation, here, out = engine.reset(3, n, first), np.ones(n, bool), []
    for step in range(steps):
        offered = observation.actions.candidates
        feedback = engine.step(an_article(observation, np.arange(first, first + n), step))
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


def test_only_articles_on_the_front_page_are_offered() -> None:
    engine = make_engine("news")
    observation = engine.reset(0, 500)
    news = news_of(engine)
    since, until = news.availability.since, news.availability.until
    changed = 0
    for step in range(20):
        items, mask = observation.actions[:2]
        for lane in (0, 99, 498):
            open_now = news.availability.open_items(int(engine.clock[lane]))
            assert np.array_equal(items[lane][mask[lane] > 0], open_now) and not items[lane][mask[lane] == 0].any()
        actions = an_article(observation, np.arange(500), step)
        shown = items[np.arange(500), actions]
        assert (since[shown] <= engine.clock).all() and (engine.clock < until[shown]).all()
        feedback = engine.step(actions)
        observation = feedback.obs
        changed += int(((items != observation.actions.candidates).any(axis=1) & (feedback.pause == 0) & ~feedback.terminated).sum())
    assert changed > 50, "articles appear and go while one visits"


def test_world_and_engine_keep_the_same_clock_and_restore_it() -> None:
    engine = make_engine("news")
    observation = engine.reset(1, 50)
    for step in range(15):
        assert np.array_equal(engine.clock, news_of(engine).clock)
        observation = engine.step(an_article(observation, np.arange(50), step)).obs
    again = make_engine("news")
    resumed = again.restore(engine.state())
    assert np.array_equal(resumed.actions.candidates, observation.actions.candidates)
    for _ in range(5):
        one, two = (e.step(np.zeros(50, np.int64)) for e in (engine, again))
        assert np.array_equal(one.reward, two.reward) and np.array_equal(one.clock, two.clock)


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
    assert names == {"topic", "publisher", "breaking", "headline", "early_seconds"}
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_items": 99}, "n_items of at least 100 for news, got 99"),
        ({"strength": 2.1}, "strength from 0 to 2 for news, got 2.1"),
        ({"strength": -0.1}, "strength from 0 to 2 for news, got -0.1"),
        ({"world_seed": -1}, "world_seed of at least 0 for news, got -1"),
        ({"slate_size": 2}, "slate_size=1 for news, got 2"),
        ({"n_candidates": 0}, "n_candidates >= slate_size"),
    ],
)
def test_arguments_out_of_range_name_their_range(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_engine("news", **arguments)  # type: ignore[arg-type]


def test_strength_is_checked_without_the_registry_too() -> None:
    with pytest.raises(UserError, match="strength from 0 to 2"):
        News(strength=3.0)


def test_no_readers() -> None:
    with pytest.raises(UserError, match="at least one customer"):
        make_engine("news").reset(0, 0)


def test_an_empty_front_page_names_the_decision() -> None:
    news = News(n_items=100)
    news.availability = Availability(np.r_[NEVER, np.full(100, ALWAYS)], np.full(101, int(news.availability.since[1]) + 1))
    with pytest.raises(UserError, match="an available item at each decision") as error:
        BatchedEngine(news, n_candidates=100).reset(0, 3)
    assert error.value.code is Code.BAD_ENV and "\n" not in str(error.value)


def test_an_article_that_is_gone_or_was_never_there_cannot_be_shown() -> None:
    engine = make_engine("news")
    engine.reset(0, 3)
    with pytest.raises(UserError, match="actions that the mask allows"):
        engine.step(np.full(3, 55))
    with pytest.raises(UserError, match="actions from 0 to 55"):
        engine.step(np.full(3, 56))
    engine.step(np.zeros(3, np.int64))


def test_an_article_shown_hundreds_of_times_is_no_overflow() -> None:
    engine = make_engine("news", n_items=100, strength=2.0, max_steps=400)
    engine.reset(0, 50)
    with np.errstate(all="raise"):
        for _ in range(300):
            engine.step(np.zeros(50, np.int64))
    assert news_of(engine).known.max() == 30
