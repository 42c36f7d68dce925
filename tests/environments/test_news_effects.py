"""Every effect that docs/scenarios/news.md claims, against an independent reference with the constants of that page.

The constants are written here once more on purpose: a test that reads `NewsParameters` would agree with any of them.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from qurate.environments.arrivals import EPOCH_US
from qurate.environments.engine import BatchedEngine
from qurate.environments.rng import customer_keys
from qurate.environments.scenarios.news import News
from qurate.environments.scenarios.news_articles import ArticleParameters, Articles
from qurate.environments.scenarios.news_references import consequences
from qurate.types import NEVER, Feedback

Floats = NDArray[np.floating]
HOUR = 3_600_000_000


def logistic(x: Floats | float) -> Floats:
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


class Readers(NamedTuple):
    """Copies of what readers are like; `known` says how well each reader knows each article, [B, N + 1]."""

    clock: NDArray[np.int64]
    taste: Floats
    tired: Floats
    loyalty: Floats
    known: Floats


class Played(NamedTuple):
    """One step of random articles."""

    engine: BatchedEngine
    news: News
    before: Readers
    items: NDArray[np.int64]
    feedback: Feedback


def copies(news: News, known: Floats) -> Readers:
    own = (np.array(getattr(news, name), np.int64 if name == "clock" else np.float64) for name in Readers._fields[:-1])
    return Readers(*own, known.copy())


def played(strength: float, steps: int, n: int = 3000) -> Iterator[Played]:
    """The first articles of the front page, so that some are met again."""
    news = News(n_items=300, strength=strength)
    engine = BatchedEngine(news, n_candidates=56, max_steps=1000)
    rng, known, rows = np.random.default_rng(0), np.zeros((n, 301)), np.arange(n)
    observation = engine.reset(5, n)
    for _ in range(steps):
        actions = rng.integers(6, size=n)
        items = observation.actions.candidates[rows, actions]
        before = copies(news, known)
        feedback = engine.step(actions)
        observation = feedback.obs
        known[rows, items] += strength * (0.5 + 2.5 * feedback.components[:, 0])
        known[feedback.terminated] = 0
        yield Played(engine, news, before, items, feedback)


def at(news: News, items: NDArray[np.int64], who: Readers) -> dict[str, Floats]:
    """What the page's equations say of readers [B] who are shown `items` [B]."""
    articles, rows = news.articles, np.arange(len(items))
    topic, quality = articles.topic[items], articles.quality[items].astype(np.float64)
    interest = who.taste[rows, topic] - who.tired[rows, topic]
    attention = articles.attention_at(items, who.clock)
    return {
        "click": logistic(-3.03 + articles.appeal[items] + interest + attention + 1.0 * who.loyalty - who.known[rows, items]),
        "leave": logistic(-2.4 - 1.5 * who.loyalty),
        "log_seconds": 2.95 + 0.2 * interest + 0.6 * quality + 0.3 * who.loyalty,
    }


def test_chances_follow_the_equations_also_for_what_is_known() -> None:
    known = 0
    for step in played(1.0, 14):
        before, now = step.before, step.feedback.obs.actions.candidates[:, 2]
        rows, same = np.arange(len(now)), ~step.feedback.terminated
        knows = before.known.copy()
        knows[rows, step.items] += 0.5 + 2.5 * step.feedback.components[:, 0]
        who = copies(step.news, knows)
        met = step.news.meet(now, step.news.lanes)
        got = dict(zip(("click", "leave"), step.news.chances(met))) | {"log_seconds": step.news.log_seconds(met)}
        for name, values in at(step.news, now, who).items():
            assert np.allclose(got[name][same], values[same], rtol=2e-4), name
        known += int((met.known[same] > 0).sum())
    assert known > 5_000 and who.tired.max() > 0.5 and abs(who.loyalty).max() > 0.5


def test_what_happens_has_these_chances() -> None:
    """60,000 readers of one kind: how many click and leave, and how long they read."""
    news = News(n_items=100)
    engine = BatchedEngine(news, n_candidates=56)
    engine.reset(1, 60_000)
    news.taste[:], news.loyalty[:] = 2.5, 0.2
    news.clock[:] = engine.clock[:] = EPOCH_US + 6 * HOUR
    engine.observation = engine._observe()
    item = int(engine.observation.actions.candidates[0, 4])
    who = copies(news, np.zeros((engine.n, 101)))
    expected = {name: float(values[0]) for name, values in at(news, np.full(engine.n, item), who).items()}
    feedback = engine.step(np.full(engine.n, 4))
    clicked = feedback.clicked == 0

    def near(share: float, chance: float, n: float) -> None:
        assert share == pytest.approx(chance, abs=4.5 * np.sqrt(chance * (1 - chance) / n))

    near(clicked.mean(), expected["click"], engine.n)
    near(((feedback.pause > 0) | feedback.terminated).mean(), expected["leave"], engine.n)
    seconds = feedback.components[clicked, 1]
    assert (feedback.components[:, 0] == clicked).all() and (seconds > 0).all() and not feedback.components[~clicked, 1].any()
    assert np.median(np.log(seconds)) == pytest.approx(expected["log_seconds"], abs=0.03)
    quarter, three = np.quantile(np.log(seconds), [0.25, 0.75])
    assert (three - quarter) / 1.349 == pytest.approx(1.2, abs=0.03), "the quartiles of a normal distribution"
    assert seconds.max() == 600, "nobody reads longer"
    assert np.allclose(feedback.reward, feedback.components @ [0.5, 0.01], rtol=1e-5), "0.5 a click, 0.01 a second"
    click, read = (feedback.rows.time[feedback.rows.type == kind] for kind in (1, 2))
    assert np.allclose((read - click) / 1e6, seconds, atol=1e-4), "reading begins with the click"
    back = clicked & (feedback.pause > 0)
    assert back.sum() > 1_000
    assert abs(np.corrcoef(np.log(feedback.components[back, 1]), feedback.pause[back])[0, 1]) < 0.12, "separate numbers decide"


@pytest.mark.parametrize("strength", [0.5, 1.0, 2.0])
def test_loyalty_fatigue_and_what_is_known_move_as_the_page_says(strength: float) -> None:
    seen = {"click": 0, "pause": 0}
    for step in played(strength, 12):
        news, before, items, feedback = step.news, step.before, step.items, step.feedback
        rows, articles = np.arange(len(items)), news.articles
        clicked = feedback.components[:, 0].astype(np.float64)
        loyalty = before.loyalty + strength * (0.03 + 0.3 * clicked) * (articles.quality[items] - before.loyalty)
        tired = before.tired * 0.9
        tired[rows, articles.topic[items]] += strength * (0.1 + 0.4 * clicked)
        hours = feedback.pause.astype(np.float64)[:, None] / 3600
        same = ~feedback.terminated
        assert np.allclose(news.loyalty[same], loyalty[same], atol=1e-5)
        assert np.allclose(news.tired[same], (tired * np.exp(-hours / 16))[same], atol=1e-4)
        known = before.known[rows, items] + strength * (0.5 + 2.5 * clicked)
        assert np.allclose(news.meet(items, news.lanes).known[same], known[same], atol=1e-4)
        seen["click"] += int(clicked[same].sum())
        seen["pause"] += int((hours[same] > 0).sum())
    assert min(seen.values()) > 100, seen


def test_at_strength_0_nothing_shown_changes_a_reader() -> None:
    for step in played(0.0, 6):
        same, after = ~step.feedback.terminated, copies(step.news, step.before.known)
        for name in ("taste", "tired", "loyalty"):
            assert np.array_equal(getattr(after, name)[same], getattr(step.before, name)[same]), name
        assert not after.tired.any() and not step.news.known.any()


@pytest.mark.parametrize("loyalty", [-0.8, 0.0, 0.5])
def test_who_returns_tomorrow_and_after_how_long(loyalty: float) -> None:
    news = News(n_items=100, strength=0.0)
    engine = BatchedEngine(news, n_candidates=56, max_steps=1000)
    engine.reset(2, 60_000)
    news.loyalty[:] = loyalty
    clock = engine.clock.copy()
    feedback = engine.step(np.zeros(engine.n, np.int64))
    back, gone = feedback.pause > 0, feedback.terminated
    leavers = int((back | gone).sum())
    chance = float(logistic(0.8 + 2.0 * loyalty))
    assert back.sum() / leavers == pytest.approx(chance, abs=4.5 * np.sqrt(chance * (1 - chance) / leavers))
    hours = feedback.pause[back] / 3600
    assert 2 <= hours.min() < 2.3
    assert hours.mean() == pytest.approx(37, abs=4.5 * 35 / np.sqrt(back.sum()))
    dwell = (feedback.clock - clock) / 1e6 - feedback.pause - feedback.components[:, 1]
    assert set(np.round(dwell[back]).astype(int).tolist()) == set(range(3, 11)), "3 to 10 seconds beside the reading, then the pause"


def test_new_readers() -> None:
    news = News()
    news.allocate(40_000)
    user = news.enter(np.arange(40_000), customer_keys(0, np.arange(40_000)))
    assert news.loyalty.mean() == pytest.approx(0.1, abs=0.004) and news.loyalty.std() == pytest.approx(0.2, abs=0.004)
    values = np.sort(news.segment_taste, axis=1)
    assert np.allclose(values[:, -3:], 1.0) and np.allclose(values[:, :-3], -0.5), "six segments like three topics each"
    distance = ((news.taste[:, None] - news.segment_taste) ** 2).sum(axis=2)
    segment = distance.argmin(axis=1)
    assert (news.taste - news.segment_taste[segment]).std() == pytest.approx(0.5, abs=0.015)
    right = (user.argmax(axis=1) == segment).mean()
    assert right == pytest.approx(0.85 + 0.15 / 6, abs=0.03), "a wrong guess is right by chance in one of six cases"
    assert (user.sum(axis=1) == 1).all()
    arrived = (news.clock - EPOCH_US) / HOUR
    assert 0 <= arrived.min() < 0.1 and 23.9 < arrived.max() < 24


def test_whoever_takes_a_lane_is_new() -> None:
    seen = 0
    for step in played(1.0, 6):
        new = step.feedback.terminated
        seen += int(new.sum())
        for state in (step.news.tired, step.news.known, step.news.known_item):
            assert not state[new].any()
        assert (step.news.clock[new] < EPOCH_US + 24 * HOUR).all()
    assert seen > 50


def test_articles_and_publishers_are_as_the_page_says() -> None:
    worlds = [Articles(1200, seed, ArticleParameters()) for seed in range(40)]
    quality, bait, appeal = (np.concatenate([getattr(w, x)[1:] for w in worlds]).astype(np.float64) for x in ("quality", "bait", "appeal"))
    columns = [w.columns() for w in worlds]
    headline, early = (np.concatenate([c[x] for c in columns]).astype(np.float64) for x in ("clickbait_score", "early_seconds"))
    baits = bait > 0
    for kind, mean in ((baits, -0.6), (~baits, 0.4)):
        assert np.median(quality[kind]) == pytest.approx(mean, abs=0.01)
        quarter, three = np.quantile(quality[kind], [0.25, 0.75])
        assert (three - quarter) / 1.349 == pytest.approx(0.25, abs=0.01), "the quartiles of a normal distribution"
        assert appeal[kind].std() == pytest.approx(0.3, abs=0.01)
    assert appeal[baits].mean() - appeal[~baits].mean() == pytest.approx(1.2, abs=0.02) and abs(appeal[~baits].mean()) < 0.01
    assert np.median(headline[baits]) == pytest.approx(0.75, abs=0.01) and np.median(headline[~baits]) == pytest.approx(0.25, abs=0.01)
    assert (np.quantile(headline[baits], 0.5) - np.quantile(headline[baits], 0.25)) / 0.6745 == pytest.approx(0.2, abs=0.01)
    slope, base = np.polyfit(quality, np.log(early), 1)
    assert slope == pytest.approx(0.6, abs=0.01) and base == pytest.approx(3.5, abs=0.01)
    assert (np.log(early) - base - slope * quality).std() == pytest.approx(0.3, abs=0.005)
    shares = np.array([[w.bait[1:][w.publisher == x].mean() for x in range(20)] for w in worlds])
    tabloid = shares > 0.42
    assert (tabloid.sum(axis=1) == 6).mean() > 0.9, "30 % of 20 publishers"
    assert shares[tabloid].mean() == pytest.approx(0.7, abs=0.01) and shares[~tabloid].mean() == pytest.approx(0.13, abs=0.01)


def test_articles_appear_and_leave_as_the_page_says() -> None:
    per_day, hours, further_per_hour = [], [], []
    for seed in range(30):
        articles = Articles(1200, seed, ArticleParameters())
        since, until = articles.availability.since[1:], articles.availability.until[1:]
        assert (since[1:] >= since[:-1]).all() and (until > EPOCH_US).all()
        last = until == NEVER
        assert since[last].max() == since[-1] and 10 < last.sum() < 57
        hours.append((until - since)[~last] / HOUR)
        regular = since[~articles.event]
        regular = regular[regular > EPOCH_US + 12 * HOUR]
        per_day.append((len(regular) - 1) / ((regular[-1] - regular[0]) / HOUR / 24))
        slots = np.bincount((regular - EPOCH_US) // (HOUR // 3))[36:-1]
        assert (slots == 1).mean() > 0.99, "one article in each 20 minutes, but for the rounding to seconds"
        further_per_hour.append(articles.event[(since > EPOCH_US + 12 * HOUR)].sum() / ((since[-1] - EPOCH_US) / HOUR - 12))
    length = np.concatenate(hours)
    assert np.mean(per_day) == pytest.approx(72, rel=0.01)
    assert np.mean(further_per_hour) == pytest.approx(10 / 16, rel=0.02), "ten further articles every 16 hours"
    assert 4 <= length.min() < 4.02 and 11.98 < length.max() <= 12


def test_an_events_articles_are_about_one_topic_and_appear_in_six_hours_most_of_them_early() -> None:
    """With events far apart, those of one are told from those of another by time."""
    p = ArticleParameters(event_every_h=48.0)
    spans, early = [], []
    for seed in range(40):
        articles = Articles(900, seed, p)
        of_event = np.flatnonzero(articles.event)
        since = articles.availability.since[1:][of_event] / HOUR
        for some in np.split(np.arange(len(since)), np.flatnonzero(np.diff(since) > 6) + 1)[1:-1]:
            if len(some) == 10:
                assert len(set(articles.topic[1:][of_event[some]].tolist())) == 1
                spans.append(since[some[-1]] - since[some[0]])
                early.append(np.median(since[some] - since[some[0]]))
    assert len(spans) > 100 and 5.5 < np.max(spans) <= 6
    u = np.sort(np.random.default_rng(0).random((20_000, 10)), axis=1) ** 2 * 6
    assert np.mean(spans) == pytest.approx((u[:, -1] - u[:, 0]).mean(), abs=0.15)
    assert np.mean(early) == pytest.approx((np.median(u, axis=1) - u[:, 0]).mean(), abs=0.2)


def test_attention_halves_in_69_minutes_and_an_event_finds_its_topic_hot() -> None:
    quiet = Articles(400, 0, ArticleParameters(event_articles=0, hot=0.0))
    items, since = np.arange(1, 401), quiet.availability.since[1:]
    for minutes in (0, 30, 69, 240, 700):
        middle = minutes // 10 * 10 + 5  # what holds for ten minutes is the value in their middle
        got = quiet.attention_at(items, since + minutes * 60_000_000)
        assert np.allclose(got, 1.2 * 2 ** (-middle / 69), atol=1e-5)
    articles = Articles(1200, 3, ArticleParameters())
    hot = articles.attention_at(np.arange(1, 1201), articles.availability.since[1:]) - 1.2 * 2 ** (-5 / 69)
    assert hot[articles.event].min() > np.exp(-6.1 / 4), "an article of an event appears while its topic is hot"
    assert 0.3 < (hot < 1e-3).mean() < 0.95


def test_heat_of_one_event_is_an_exponential_of_one_and_four_hours() -> None:
    p = ArticleParameters(event_every_h=400.0, event_articles=40, event_spread_h=0.001, fresh=0.0)
    found = 0
    for seed in range(12):
        articles = Articles(1200, seed, p)
        since = articles.availability.since[1:]
        of_event = np.flatnonzero(articles.event)
        if not len(of_event):
            continue
        start, item = since[of_event[0]], of_event[:1] + 1
        hours = np.arange(0, 12, 1 / 6)
        got = articles.attention_at(np.repeat(item, len(hours)), start + (hours * HOUR).astype(np.int64) + 1)
        assert np.allclose(got, np.exp(-(hours + 1 / 12) / 4), atol=0.002)
        earlier = np.flatnonzero((articles.topic[1:] == articles.topic[item[0]]) & (since < start) & (since > start - 2 * HOUR)) + 1
        for i in earlier:
            assert articles.attention_at(np.array([i]), np.array([start - HOUR // 4]))[0] == 0, "not before it happened"
            assert articles.attention_at(np.array([i]), np.array([start + HOUR // 4]))[0] > 0.85
            found += 1
    assert found >= 3


def test_what_the_references_expect_is_what_happens() -> None:
    """Means of 40,000 readers of one kind against the expectations of one of them, for strength 0.5."""
    news = News(n_items=100, strength=0.5)
    engine = BatchedEngine(news, n_candidates=56)
    engine.reset(4, 40_000)
    news.taste[:], news.loyalty[:] = 2.0, 0.1
    news.clock[:] = engine.clock[:] = EPOCH_US + 6 * HOUR
    observation = engine.observation = engine._observe()
    expected = [x[0, 2] for x in consequences(news, observation.actions.candidates)]
    topic = news.articles.topic[int(observation.actions.candidates[0, 2])]
    feedback = engine.step(np.full(engine.n, 2))
    same = ~feedback.terminated & (feedback.pause == 0)
    error = 4 * feedback.reward.std() / np.sqrt(engine.n)
    assert feedback.reward.mean() == pytest.approx(expected[0], abs=error)
    assert news.loyalty[same].mean() - 0.1 == pytest.approx(expected[1], rel=0.04)
    assert news.tired[same, topic].mean() == pytest.approx(expected[2], rel=0.04)
