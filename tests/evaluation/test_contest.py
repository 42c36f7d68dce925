"""Which of several rankings to use, from hand-made ranks."""

import numpy as np
import pytest
from mdp_logs import decision, event, make_log

from qurate.evaluation.contest import contest
from qurate.evaluation.ranking import Ranked, Ranks
from qurate.mdp.dataset import build_dataset
from qurate.mdp.storage import Dataset

USERS = 60


def ranks(better: np.ndarray) -> Ranked:
    n = len(better)
    return Ranked(Ranks(better.astype(np.int64), np.ones(n, np.int64)), np.ones(n, np.int64), np.ones(4, bool), np.ones((n, 1), np.int64))


def log(per_user: int = 4) -> tuple[Dataset, np.ndarray]:
    """A dataset and some of its decisions, a few of each user; what stands in it does not count here."""
    rows = [event(f"u{u:02d}", f"i{i % 3}", 1.7e9 + u + 60 * i, "click") for u in range(USERS) for i in range(per_user + 1)]
    data = build_dataset(make_log(rows), episode="user")
    user = data.transitions.user[data.transitions.state]
    return data, np.concatenate([np.flatnonzero(user == u)[:per_user] for u in range(USERS)])


def test_a_clear_winner_is_named_wherever_it_stands() -> None:
    data, rows = log()
    rng = np.random.default_rng(0)
    good, bad = ranks(rng.integers(0, 3, rows.size)), ranks(rng.integers(5, 30, rows.size))
    for order in ({"new": good, "old": bad, "worse": bad}, {"old": bad, "worse": bad, "new": good}):
        result = contest("log", data, rows, order, 3)
        assert (result["best"], result["verdict"]) == ("new", "use")
        assert result["sentence"].startswith("Use new: ") and "+0" in result["sentence"]
        behind = {one["name"]: one["behind"] for one in result["contenders"]}
        assert behind["new"] is None and behind["old"]["ci"][1] < 0 and behind["old"]["mean"] == behind["worse"]["mean"]
        assert result["model"] == next(iter(order)) and set(result["baselines"]) == set(order) - {result["model"]}


def test_equal_rankings_are_not_enough_evidence() -> None:
    data, rows = log()
    same = ranks(np.random.default_rng(1).integers(0, 9, rows.size))
    result = contest("log", data, rows, {"new": same, "old": same}, 3)
    assert result["verdict"] == "insufficient" and result["sentence"].startswith("Not enough evidence: new is ahead")
    assert result["contenders"][1]["behind"] == {"mean": 0.0, "ci": [0.0, 0.0]}, "paired: draw by draw the same"


def test_chance_is_not_taken_for_a_difference() -> None:
    """Rankings of the same quality: a winner is named in about 5 % of the cases, whatever their number."""
    data, rows = log(2)
    named = 0
    for trial in range(60):
        rng = np.random.default_rng(trial)
        every = {f"m{i}": ranks(rng.integers(0, 30, rows.size)) for i in range(4)}
        named += contest("log", data, rows, every, 3, draws=400)["verdict"] == "use"
    assert named <= 8


def test_the_intervals_widen_with_the_number_of_others() -> None:
    data, rows = log()
    rng = np.random.default_rng(3)
    one, two, three = (ranks(rng.integers(0, 12, rows.size)) for _ in range(3))
    pair = contest("log", data, rows, {"a": one, "b": two}, 3)["contenders"]
    many = contest("log", data, rows, {"a": one, "b": two, "c": three, "d": three, "e": three}, 3)["contenders"]
    if pair[1]["behind"] is not None and many[1]["behind"] is not None:
        width = [ci[1] - ci[0] for ci in (pair[1]["behind"]["ci"], many[1]["behind"]["ci"])]
        assert width[0] < width[1] * 1.001
    assert pair[0]["metrics"]["NDCG@20"]["mean"] == pytest.approx(many[0]["metrics"]["NDCG@20"]["mean"])


def test_imitating_what_the_log_showed_is_no_reason_to_be_used() -> None:
    """All answers but one in four are about the item that is nearly always shown: one ranking puts it first, the other what is
    hardly ever shown and answered as often as it is shown."""
    rows, shown = [], []
    for u in range(USERS):
        for i in range(8):
            rare, name = i % 4 == 0, f"d{u:02d}-{i}"
            shown.append(
                decision(name, f"u{u:02d}", ["rare" if rare else "often"], 1.7e9 + u + 60 * i, propensity=[0.01 if rare else 0.99])
            )
            rows.append(event(f"u{u:02d}", "rare" if rare else "often", 1.7e9 + u + 60 * i + 1, "click", decision_id=name))
    data = build_dataset(make_log(rows, shown, kind="logged"), episode="user")
    every = np.arange(len(data.transitions.state))
    is_rare = data.transitions.propensity < 0.5
    imitates, finds = ranks(np.where(is_rare, 3, 0)), ranks(np.where(is_rare, 0, 3))
    result = contest("log", data, every, {"imitates": imitates, "finds": finds}, 2)
    assert (result["best"], result["verdict"]) == ("imitates", "insufficient")
    assert "1 / its propensity" in result["sentence"] and "over finds" in result["sentence"]
    alike = {name: one["NDCG@20"]["mean"] for name, one in result["shown_alike"].items()}
    weight = np.where(is_rare, 100, 1 / 0.99)
    discounted = 1 / np.log2(5)
    assert alike["imitates"] == pytest.approx((weight * np.where(is_rare, discounted, 1)).sum() / weight.sum(), abs=1e-6)
    assert alike["finds"] > alike["imitates"]
    assert result["shown_alike"]["finds"]["effective"] == pytest.approx(weight.sum() ** 2 / (weight**2).sum(), rel=1e-5)
    both = ranks(np.zeros(len(every), np.int64))
    assert contest("log", data, every, {"both": both, "imitates": imitates, "finds": finds}, 2)["verdict"] == "use"


def test_equal_propensities_weigh_nothing() -> None:
    shown = [decision(f"d{u}", f"u{u:02d}", ["a" if u % 2 else "b"], 1.7e9 + u, propensity=[0.5]) for u in range(USERS)]
    rows = [event(f"u{u:02d}", "a" if u % 2 else "b", 1.7e9 + u + 1, "click", decision_id=f"d{u}") for u in range(USERS)]
    data = build_dataset(make_log(rows, shown, kind="logged"), episode="user")
    every = np.arange(len(data.transitions.state))
    good, bad = ranks(np.zeros(len(every))), ranks(np.full(len(every), 5))
    result = contest("log", data, every, {"good": good, "bad": bad}, 2)
    assert result["verdict"] == "use" and "shown_alike" not in result
