"""`inspect` on worlds whose answer is known."""

import json

import numpy as np
import polars as pl
import pytest
from mdp_logs import decision, event, make_log

from qurate.evaluation.needs_rl import conclude, inspect, item_tables, later_rewards, strata
from qurate.mdp.dataset import Dataset, build_dataset
from qurate.types import CENSORED, CONTINUES, TERMINATED


def world(bait: float, users: int, seed: int = 0, kind: str = "logged", mood: float = 0.0) -> Dataset:
    """Ten items at random, 12 decisions a customer; half of the items are bait: they please now and cost trust later.

    `mood` makes some customers click more and see bait more often, which is no effect of the items; it is known.
    """
    rng = np.random.default_rng(seed)
    is_bait = np.arange(10) % 2 == 1
    events, decisions, moods = [], [], []
    for u in range(users):
        trust, eager = 1.0, rng.random() < 0.5
        moods.append(eager)
        for i in range(12):
            wanted = rng.random() < (0.5 + (mood / 2 if eager else -mood / 2))
            item = int(rng.choice(np.flatnonzero(is_bait == wanted)))
            at = 100_000 * u + 60 * i
            chance = min(1.0, trust * (0.6 if is_bait[item] else 0.2) * (1 + mood * eager))
            name = f"{u}.{i}"
            decisions.append(decision(name, f"u{u}", [f"i{item}"], at, propensity=[0.1] if kind == "logged" else None))
            if rng.random() < chance:
                events.append(event(f"u{u}", f"i{item}", at + 1, decision_id=name))
            trust *= 1 - bait if is_bait[item] else 1.0
    items = pl.DataFrame({"item_id": [f"i{i}" for i in range(10)], "bait": is_bait})
    people = pl.DataFrame({"user_id": [f"u{u}" for u in range(users)], "eager": moods})
    return build_dataset(make_log(events, decisions, kind, items=items, users=people), {"click": 1}, episode="session")


def test_bait_is_found():
    report = inspect(world(0.3, 300))
    assert report["needs_rl"] == "yes"
    assert report["evidence"]["p_value"] == 1 / 121, "none of 120 permutations explains as much"
    assert report["evidence"]["method"] == "conditional randomisation"
    assert report["kind"] == "logged" and report["users"] == 300 and report["items"] == 10
    assert report["types"]["shown"] == 3600
    json.dumps(report, allow_nan=False)


def test_a_world_without_later_effects_does_not_need_rl():
    report = inspect(world(0.0, 1800), permutations=60)
    assert report["needs_rl"] == "no"
    assert report["evidence"]["detectable_later_to_now"] < 0.2 or report["evidence"]["later_to_now"] < 0.05


def test_a_short_log_without_effect_is_honest():
    report = inspect(world(0.0, 60), permutations=60)
    assert report["needs_rl"] == "cannot be told"


def test_false_alarms_are_rare():
    answers = [inspect(world(0.0, 80, seed), seed, permutations=99)["evidence"]["p_value"] for seed in range(12)]
    assert sum(p <= 0.1 for p in answers) <= 4  # 1.2 expected; more than 4 has probability 0.004


def test_known_moods_of_customers_are_no_effect_of_items():
    report = inspect(world(0.0, 300, kind="exposure", mood=0.6), permutations=99)
    assert report["needs_rl"] != "yes"
    assert report["evidence"]["method"] == "stratified permutation"
    effect = inspect(world(0.3, 300, kind="exposure", mood=0.6), permutations=120)
    assert effect["needs_rl"] == "yes" and "hidden" in effect["sentence"]


@pytest.mark.parametrize("kind", ["organic", "few"])
def test_what_cannot_be_told(kind: str):
    if kind == "organic":
        dataset = build_dataset(make_log([event("u", "ab"[i % 2], i) for i in range(50)]))
    else:
        dataset = world(0.0, 5)
    report = inspect(dataset)
    assert report["needs_rl"] == "cannot be told"
    assert "log what was shown" in report["sentence"] if kind == "organic" else "500" in report["sentence"]


def test_the_order_of_a_log_without_time_is_no_time():
    rows = [event("ab"[i // 25], "xyz"[i % 3], i) for i in range(50)]
    report = inspect(build_dataset(make_log(rows, time_unit="order")))
    assert report["time"] == {"first": None, "last": None, "days": None, "unit": "order"}


def test_a_log_whose_every_last_word_is_open_cannot_be_told():
    """All customers were seen until the log's end: no decision's later rewards are known."""
    shown = [decision(f"d{u}", f"u{u}", ["ab"[u % 2]], 100 + u, propensity=[0.5]) for u in range(80)]
    clicks = [event(f"u{u}", "ab"[u % 2], 101 + u, decision_id=f"d{u}") for u in range(0, 80, 3)]
    found = inspect(build_dataset(make_log(clicks, shown, "logged"), episode="user", churn_after="7d"))
    assert found["needs_rl"] == "cannot be told" and found["sentence"].startswith("Only 0 decisions")


def test_later_rewards_by_hand():
    """Four decisions, a day of pause before the third (tau: one day), then one whose successor was never seen."""
    end = np.array([CONTINUES, CONTINUES, CONTINUES, TERMINATED, CONTINUES, CENSORED])
    pause = np.array([0.0, 86_400, 0, 0, 0, 0])
    following = np.array([1, 2, 3, -1, 5, -1])
    later, known = later_rewards(np.array([100.0, 1, 2, 4, 8, 16]), following, end, pause, 86_400.0)
    across = 0.9 * np.exp(-1)
    assert np.allclose(later[:4], [0.9 * (1 + across * (2 + 0.9 * 4)), across * (2 + 0.9 * 4), 0.9 * 4, 0])
    assert known.tolist() == [True, True, True, True, False, False]
    long = np.minimum(np.arange(1, 31), 29)
    later, known = later_rewards(np.ones(30), long, np.full(30, CONTINUES), np.zeros(30), 1.0)
    assert later[0] == pytest.approx(0.9 * (1 - 0.9**10) / (1 - 0.9)), "ten decisions count"


def test_decisions_are_alike_where_place_earnings_and_probability_are():
    rows, earned, chance = np.log1p([0, 0, 1, 1]), np.array([0.1, 0.1, 0.1, 0.9]), np.array([0.5, 0.505, 0.5, 0.5])
    assert len(set(strata(rows, np.zeros(4), np.full(4, 0.5)).tolist())) == 2, "the first row of a visit is another place"
    place, worth, logged = (strata(*x) for x in ((rows, earned * 0, chance), (rows * 0, earned, chance), (rows * 0, earned * 0, chance)))
    assert place[0] == place[1] != place[2] == place[3]
    assert worth[0] == worth[2] != worth[3]
    assert len(set(logged.tolist())) == 1, "probabilities that differ by 1 % are alike"
    assert len(set(strata(rows * 0, earned * 0, np.array([0.5, 0.25, np.nan, np.nan])).tolist())) == 3


@pytest.mark.parametrize(
    ("p", "ratio", "detectable", "answer"),
    [(0.01, 0.05, 9.0, "yes"), (0.01, 0.0499, 9.0, "no"), (0.011, 0.5, 0.19, "no"), (0.011, 0.5, 0.2, "cannot be told")],
)
def test_what_the_evidence_allows_to_say(p: float, ratio: float, detectable: float, answer: str):
    evidence = {"method": "conditional randomisation", "p_value": p, "later_to_now": ratio, "detectable_later_to_now": detectable}
    said, sentence = conclude(evidence)
    assert said == answer and "hidden" not in sentence
    assert ("hidden" in conclude(evidence | {"method": "stratified permutation"})[1]) == (answer != "cannot be told")


def test_what_an_item_usually_earns_is_taken_from_the_other_half_of_the_customers():
    shown = [decision(f"{u}.{i}", f"u{u}", ["abc"[(u + i) % 3]], 1000 * u + i) for u in range(6) for i in range(6)]

    def clicks(users: list[int]) -> list[dict]:
        return [event(f"u{u}", "abc"[(u + i) % 3], 1000 * u + i + 0.5, decision_id=f"{u}.{i}") for u in users for i in (0, 3)]

    few, even, odd = (item_tables(build_dataset(make_log(clicks(u), shown, "exposure"), {"click": 1})) for u in ([0], [0, 2, 4], [0, 1, 3]))
    assert np.ptp(few[0][1:, -1]) == 0 and np.ptp(few[1][1:, -1]) > 0, "customer 0 clicked: odd customers learn of it"
    assert np.allclose(few[0], even[0]) and not np.allclose(few[1], even[1])
    assert not np.allclose(few[0], odd[0])


def test_the_decisions_of_a_log_are_grouped_by_place_earnings_and_probability():
    """The number of groups, counted decision by decision in plain Python."""
    dataset = world(0.3, 60, seed=4)
    steps, alike = dataset.transitions, []
    for i, user in enumerate(steps.user.tolist()):
        at = i
        for _ in range(10):  # known where the next ten decisions were seen, or the visit ended before
            at = int(steps.next_state[at]) if steps.end[at] == CONTINUES else at
        if steps.end[at] != CENSORED:
            own = np.flatnonzero(steps.user[:i] == user)
            rows = min(int(steps.history_end[i] - dataset.arrays.user_start[user]), 10)
            alike.append((min(int(np.floor(np.log2(1 + rows) + 1e-6)), 4), float(steps.reward[own].sum() / (len(own) + 5))))
    fifths = np.quantile([earned for _, earned in alike], [0.2, 0.4, 0.6, 0.8])
    groups = {(place, sum(earned > limit for limit in fifths)) for place, earned in alike}
    evidence = inspect(dataset, permutations=19)["evidence"]
    assert evidence["decisions"] == len(alike) and evidence["strata"] == len(groups)


def rooms(seed: int = 0, ends: bool = True, bait: float = 0.0) -> Dataset:
    """Four live rooms a day, each open for that day only; some days are good ones, whatever is shown.

    With `bait`, half of the rooms please now and cost trust later.
    """
    rng = np.random.default_rng(seed)
    events, decisions, rows = [], [], []
    for day in range(25):
        start, luck = day * 86_400, rng.choice([0.1, 0.6])
        rows += [{"item_id": f"r{day}.{i}", "available_from": start, "available_until": start + 86_400} for i in range(4)]
        for visit in range(16):
            trust = 1.0
            for i in range(12):
                room, at = int(rng.integers(4)), start + 3600 * visit + 60 * i
                name, user, item = f"{day}.{visit}.{i}", f"u{day}.{visit}", f"r{day}.{room}"
                decisions.append(decision(name, user, [item], at, propensity=[0.25]))
                if rng.random() < luck * trust * (1.5 if room % 2 and bait else 1.0):
                    events.append(event(user, item, at + 1, decision_id=name))
                trust *= 1 - bait if room % 2 else 1.0
    items = pl.DataFrame(rows).with_columns((pl.col("^available_.*$") * 1_000_000).cast(pl.Datetime("us", "UTC")))
    items = items.with_columns(bait=pl.col("item_id").str.ends_with("1") | pl.col("item_id").str.ends_with("3"))
    items = items if ends else items.drop("available_until")
    return build_dataset(make_log(events, decisions, "logged", items=items), {"click": 1}, episode="session")


def test_rooms_of_a_good_day_are_not_credited_with_it():
    """Showing a room on another day would be another log: permuted over days, the luck of a day looks like a room's effect."""
    found = [inspect(rooms(seed), seed, permutations=99)["evidence"]["p_value"] for seed in range(2)]
    assert min(found) > 0.02, found
    assert inspect(rooms(0, ends=False), 0, permutations=99)["evidence"]["p_value"] == 0.01  # what swapping over days would say


def test_an_effect_within_the_day_is_found_where_rooms_end():
    assert inspect(rooms(0, bait=0.4), permutations=120)["needs_rl"] == "yes"
