"""What training from a log must find: the clicks to come, and what an item it never saw is worth."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from mdp_logs import decision, event, make_log

from qurate.algorithms.objective import Objective
from qurate.cli import app as cli
from qurate.errors import UserError
from qurate.learning.learner import Learner
from qurate.learning.value_bound import ValueBound
from qurate.mdp.dataset import build_dataset
from qurate.models.model import Model
from qurate.networks.values import ValueNetwork
from qurate.settings import LearningSettings
from qurate.training.train import train

VISIT = 10


def countdown_log() -> list[dict[str, object]]:
    """Every visit is the items n1 to n11 in this order, then the customer is gone: an item says how many clicks are to come."""
    rng, rows = np.random.default_rng(0), []
    for user in range(150):
        start = 1.7e9 + float(rng.integers(0, 30 * 86_400))
        rows += [event(f"u{user}", f"n{step + 1}", start + step * 60) for step in range(VISIT + 1)]
    return rows


def q_after(model: Model, clicks: int) -> tuple[float, float, float]:
    """Score, now and later of the next item for a customer who has clicked n1 to n`clicks`."""
    history = [{"item_id": f"n{i + 1}", "type": "click", "timestamp": i * 60_000_000} for i in range(clicks)]
    item = model.recommend(None, 1, candidates=[f"n{clicks + 1}"], history=history, explain=True).items[0]
    assert isinstance(item.now, float) and isinstance(item.later, float)
    return item.score, item.now, item.later


def test_q_tells_ten_clicks_to_come_from_one(tmp_path: Path) -> None:
    dataset = build_dataset(make_log(countdown_log()), episode="session", out=tmp_path / "d")  # type: ignore[arg-type]
    gamma = 0.9
    model = train(
        dataset, steps=300, gamma=gamma, hidden=32, embedding_dim=16, window=4, batch_size=64, lr=5e-3, target_tau=0.05, target_period=1,
        ema=0.99, negatives=0, aux_weight=1.0,
    )  # fmt: skip
    values = [q_after(model, VISIT + 1 - to_come) for to_come in range(1, VISIT + 1)]
    for to_come, (score, now, later) in enumerate(values, start=1):
        assert abs(now + later - score) < 1e-4
        assert abs(now - 1) < 0.15, "every click is worth 1 now"
        exact = sum(gamma**i for i in range(1, to_come))
        assert abs(later - exact) < 0.2 * max(exact, 1), (to_come, later, exact)
    assert values[-1][0] > values[0][0] + 4


def test_the_alarm_s_bound_is_of_the_weighted_rewards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Purchases of weight 5 at gamma .9 allow |Q| = 5 / (1 - .9) = 50; where only clicks count, 1 / (1 - .9) = 10."""
    types = ["click", "click", "purchase", "click", "click"]
    rows = [event(f"u{user}", "abc"[step % 3], 9000 * user + step, type) for user in range(9) for step, type in enumerate(types)]
    dataset = build_dataset(make_log(rows), {"click": 1, "purchase": 5}, episode="session")  # type: ignore[arg-type]
    bounds: list[float] = []

    def noted(network: ValueNetwork, objective: Objective, settings: LearningSettings, *, bound: ValueBound, **more: Any) -> Learner:
        bounds.append(bound.value())
        return Learner(network, objective, settings, bound=bound, **more)

    monkeypatch.setattr("qurate.training.from_log.Learner", noted)
    for rewards in (None, {"click": 1}):
        train(dataset, steps=1, gamma=0.9, hidden=4, embedding_dim=2, window=2, batch_size=4, rewards=rewards)
    assert bounds == pytest.approx([50, 10], rel=1e-5)


def shop_log(rng: np.random.Generator, hidden: set[str]) -> tuple[list[dict[str, object]], list[dict[str, object]], pl.DataFrame]:
    """Customers of two tastes are shown items of three kinds at random; whoever likes the kind clicks. Some are never shown."""
    kinds = {f"i{i:02d}": "abc"[i % 3] for i in range(36)}
    shown = [item for item in kinds if item not in hidden]
    events, decisions = [], []
    for user in range(200):
        taste, start = "ab"[user % 2], 1.7e9 + float(rng.integers(0, 20 * 86_400))
        for step in range(8):
            item, at = shown[int(rng.integers(len(shown)))], start + step * 60
            decisions.append(decision(f"d{user}-{step}", f"u{user}", [item], at, propensity=[1 / len(shown)]))
            if rng.random() < (0.8 if kinds[item] == taste else 0.05):
                events.append(event(f"u{user}", item, at + 5, decision_id=f"d{user}-{step}"))
    return events, decisions, pl.DataFrame({"item_id": list(kinds), "kind": list(kinds.values())})


def test_items_held_out_of_training_are_ranked_by_their_features() -> None:
    hidden = {f"i{i:02d}" for i in range(0, 36, 4)}  # three of each kind, declared but never shown
    events, decisions, items = shop_log(np.random.default_rng(0), hidden)
    dataset = build_dataset(make_log(events, decisions, "logged", items=items), episode="session", rewards={"click": 1})  # type: ignore[arg-type]
    assert not hidden & {dataset.vocabulary.items[a - 1] for a in np.unique(dataset.transitions.action)}
    model = train(dataset, steps=200, hidden=16, embedding_dim=8, window=8, batch_size=64, lr=5e-3, id_dropout=0.3, ema=0.99)
    kinds = dict(zip(items["item_id"], items["kind"]))
    hits = []
    for taste, other in (("a", "b"), ("b", "a")):
        for offset in range(6):
            seen = [i for i in sorted(kinds) if kinds[i] == taste and i not in hidden][offset : offset + 3]
            cold = [i for i in sorted(kinds) if kinds[i] == other and i not in hidden][offset : offset + 2]
            history = []
            for at, item in enumerate([*cold, *seen]):
                history.append({"item_id": item, "type": "shown", "timestamp": at * 60_000_000})
                if item in seen:
                    history.append({"item_id": item, "type": "click", "timestamp": at * 60_000_000 + 5})
            decision_ = model.recommend(None, 3, candidates=sorted(hidden), history=history)
            hits += [kinds[item.item_id] == taste for item in decision_.items]
    assert len(hits) == 36 and np.mean(hits) > 0.8, "chance is a third"


def test_a_run_that_diverges_is_an_error_with_its_cause_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        event(f"u{u}", f"i{(u + s * s) % 7}", 1.7e9 + 600 * s + u, "purchase" if s % 3 else "click") for u in range(30) for s in range(9)
    ]
    data = build_dataset(make_log(rows), episode="user", out=tmp_path / "data")
    small = {"hidden": 8, "embedding_dim": 4, "window": 4, "batch_size": 16, "steps": 50}
    with pytest.raises(UserError, match=r"of 50 updates skipped .*lr=1e\+20") as caught:
        train(data, lr=1e20, **small)
    assert caught.value.code == "diverged" and "0.001" in caught.value.hint
    with pytest.raises(UserError, match="divide all of them"):
        train(data, rewards={"click": 1e30, "purchase": 3e30}, **small)
    kept = train(data, lr=1e20, keep_diverged=True, **small)
    assert kept.metrics["skipped"] > 5
    options = [part for name, value in small.items() if name != "steps" for part in ("--set", f"{name}={value}")]
    args = ["train", str(tmp_path / "data"), "-o", str(tmp_path / "model"), "--steps", "50", "--set", "lr=1e20", *options]
    assert cli.main(args) == 2 and not (tmp_path / "model").exists()
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: expected a training run that converges, got ")
    assert cli.main([*args, "--keep-diverged"]) == 0 and (tmp_path / "model").exists()
