"""Calibration on held-out decisions: it finds what was changed, falls back where there is too little, and comes back from disk."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mdp_logs import event, make_log

from qurate.errors import UserError
from qurate.experiments.model_page import model_page
from qurate.mdp.dataset import build_dataset
from qurate.mdp.storage import Dataset
from qurate.models.calibration import ChoiceCalibration
from qurate.models.model import Model, load
from qurate.models.network_ranker import NetworkRanker
from qurate.training import calibrate
from qurate.training.calibrate import (
    FEWEST,
    FEWEST_USERS,
    NUMBERS,
    Choices,
    _sampled,
    _scores,
    fit,
    held_out,
    quality,
    without_users,
)
from qurate.training.train import train
from qurate.types import HISTORY, TRAIN, VALID, Actions, Observation, State

SMALL: dict[str, Any] = {"hidden": 8, "embedding_dim": 4, "window": 6, "batch_size": 64}


def sessions(users: int, length: int = 6, seed: int = 0, items: int = 30) -> list[dict[str, object]]:
    """Visits that go through neighbouring items and come back to what they saw."""
    rng, rows = np.random.default_rng(seed), []
    for user in range(users):
        item, start = int(rng.integers(items)), 1.7e9 + user * 1_000
        for step in range(length):
            item = item if rng.random() < 0.4 else (item + int(rng.integers(1, 3))) % items
            rows.append(event(f"u{user}", f"i{item:02d}", start + step * 60))
    return rows


def choices(truth: ChoiceCalibration, n: int = 4_000, items: int = 12, seed: int = 0) -> Choices:
    """Decisions among `items`, drawn from the calibrated probabilities of random logits; the chosen one is put first."""
    rng = torch.Generator().manual_seed(seed)
    logit = torch.randn(n, items, generator=rng) * 2
    again = torch.zeros(n, items, dtype=torch.bool)
    again[:, :2] = True
    rank = torch.tensor([0, 1, *[0] * (items - 2)]).expand(n, -1)
    near = torch.rand(n, items, generator=rng) < 0.3
    log_near = torch.randn(n, items, generator=rng) * near
    length = torch.randint(0, 2, (n,), generator=rng)
    drawn = Choices(logit, torch.zeros(n, items), log_near, near, again, rank, torch.zeros_like(rank), length)
    p = torch.softmax(_scores(drawn, {name: torch.as_tensor(getattr(truth, name)) for name in NUMBERS}), 1)
    picked = torch.multinomial(p, 1, generator=rng)
    order = torch.cat([picked, torch.arange(items).expand(n, -1)], 1)
    first = torch.arange(items + 1) == 0
    twice = (order == picked) & ~first
    parts = [part.gather(1, order) for part in drawn[:-1]]
    parts[1] = parts[1].masked_fill(twice, -torch.inf)
    return Choices(*parts, length)


def test_it_finds_temperature_repeats_and_neighbours() -> None:
    truth = ChoiceCalibration.none()
    truth.log_temperature[:2], truth.by_rank[:2] = (0.6, -0.4), (1.5, 0.5)
    truth.near[:2], truth.nearness[:2] = (1.0, 0.5), (0.7, 0.2)
    found = fit(choices(truth))
    assert found.log_temperature[:2] == pytest.approx(truth.log_temperature[:2], abs=0.1)
    level = found.by_rank[:2] + found.by_count[0] + found.by_length[:2].mean()
    assert level == pytest.approx(truth.by_rank[:2], abs=0.2)
    assert found.near[:2] == pytest.approx(truth.near[:2], abs=0.15) and found.nearness[:2] == pytest.approx(truth.nearness[:2], abs=0.15)
    assert np.abs(np.diff(np.abs(found.log_temperature[1:]))).max() < 0.2, "no decision of these lengths: the prior goes on smoothly"
    fresh = choices(truth, seed=1)
    (before, wrong, _), (after, right, _) = quality(fresh, ChoiceCalibration.none()), quality(fresh, found)
    assert after < before and right < 0.03 < wrong


def test_confidence_and_error_by_hand() -> None:
    """Two items, the first with probability 3/4 each time, chosen in one decision of two: |3/4 - 1/2|."""
    logit = torch.log(torch.tensor([[3.0, 1.0], [1.0, 3.0]]))
    nothing = torch.zeros(2, 2)
    likelihood, error, bins = quality(
        Choices(logit, nothing, nothing, nothing.bool(), nothing.bool(), nothing.long(), nothing.long(), torch.zeros(2).long()),
        ChoiceCalibration.none(),
    )
    assert likelihood == pytest.approx(-0.5 * (np.log(0.75) + np.log(0.25))) and error == pytest.approx(0.25)
    assert bins == [[pytest.approx(0.75), 0.5, 2.0]]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return build_dataset(make_log(sessions(1_200)), episode="session", out=tmp_path_factory.mktemp("log") / "d")  # type: ignore[arg-type]


def ranker(model: Model) -> NetworkRanker:
    assert isinstance(model.ranker, NetworkRanker)
    return model.ranker


def test_a_log_of_sessions_is_calibrated_and_comes_back_from_disk(dataset: Dataset, tmp_path: Path) -> None:
    model = train(dataset, steps=40, **SMALL)  # too few: what repeats and what similar visits hold is left to say
    figures = model.metrics["calibration"]
    assert figures["nll_after"] < figures["nll_before"] and 0 <= figures["ece_after"] <= 1 and figures["decisions"] > FEWEST
    assert ranker(model).calibration is not None and model.by == "behaviour_times_q"
    page = model_page(model, dataset, "m")
    assert "expected calibration error" in page and "before calibration" in page and "how sure" in page
    model.save(tmp_path / "m")
    again = load(tmp_path / "m")
    history = [{"item_id": f"i{i:02d}", "type": "click", "timestamp": i} for i in (3, 4, 5)]
    mine, other = (m.recommend(None, 10, history=history) for m in (model, again))
    assert [item.item_id for item in mine.items] == [item.item_id for item in other.items]
    plain = ranker(model.ranked_by("behaviour"))
    bare = replace(model, ranker=replace(plain, calibration=None))
    orders = [[i.item_id for i in m.recommend(None, 30, history=history).items] for m in (model.ranked_by("behaviour"), bare)]
    assert orders[0] != orders[1]
    assert ranker(train(dataset, steps=5, calibrate=False, **SMALL)).calibration is None


def test_too_few_held_out_decisions_are_said_and_nothing_is_fitted() -> None:
    data = build_dataset(make_log(sessions(8)), episode="session")  # type: ignore[arg-type]
    assert 0 < int((data.transitions.split == VALID).sum()) < 10
    model = train(data, steps=5, **SMALL)
    assert ranker(model).calibration is None and "no calibration" in model.metrics["calibration"]["note"]


def test_a_run_that_diverged_is_refused_as_such_and_not_calibrated(dataset: Dataset) -> None:
    """Where some updates were finite the weights are so large that the fit of the calibration overflows."""
    with pytest.raises(UserError, match=r"converges, got \d+ of 60 updates skipped .* with lr=1e\+06"):
        train(dataset, steps=60, lr=1e6, **SMALL)
    kept = train(dataset, steps=60, lr=1e6, keep_diverged=True, **SMALL)
    assert "too large, or not finite" in kept.metrics["calibration"]["note"] and ranker(kept).calibration is None


def test_without_a_validation_split_some_users_do_not_train(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "SHARE", 0.1)  # visits of five decisions: 3 % of 1,080 users would be too few
    split = np.where(dataset.transitions.split == VALID, TRAIN, dataset.transitions.split).astype(np.uint8)
    bare = replace(dataset, transitions=replace(dataset.transitions, split=split))
    held = held_out(bare, bare.weights, 0)
    users = np.unique(bare.transitions.user[split == TRAIN])
    assert len(held.users) == int(0.1 * len(users)) > 100
    assert not np.intersect1d(
        held.users, np.unique(without_users(bare.transitions, held.users).user[without_users(bare.transitions, held.users).split == TRAIN])
    ).size
    t = bare.transitions
    assert np.isin(t.user[t.state[held.rows]], held.users).all()
    assert not len(held_out(dataset, dataset.weights, 0).users), "the validation split is there"


def test_nobody_is_held_out_where_it_would_not_be_enough(dataset: Dataset) -> None:
    """3 % of the users, of whom each made one decision only: too few to calibrate by, so all of them train."""
    t = dataset.transitions
    first = np.unique(t.user, return_index=True)[1]
    split = np.full(len(t.split), HISTORY, np.uint8)
    split[first] = TRAIN
    held = held_out(replace(dataset, transitions=replace(t, split=split)), dataset.weights, 0)
    assert len(first) >= FEWEST_USERS and not len(held.users) and len(held.rows) < FEWEST


def test_the_sample_stands_for_all_that_was_open() -> None:
    """Items that count one by one, and the drawn ones with their weights, add up to the open items of each decision."""
    rng, n, items = np.random.default_rng(0), 6, 2_000
    zeros = np.zeros((n, 4), np.float32)
    history = rng.integers(0, items + 1, (n, 4))
    state = State(history, (history > 0).astype(np.int64), zeros, zeros, zeros[:, :0], zeros[:, :2])
    mask = (rng.random((n, items)) < 0.7).astype(np.int8)
    chosen = rng.integers(1, items + 1, n)
    mask[np.arange(n), chosen - 1] = 1
    candidates = np.broadcast_to(np.arange(1, items + 1), (n, items))
    scores = (rng.normal(size=(n, items)).astype(np.float32) for _ in range(2))
    sampled = _sampled(Observation(state, Actions(candidates, mask)), *scores, chosen, rng)
    assert np.exp(sampled[1].astype(np.float64)).sum(1) == pytest.approx(mask.sum(1), rel=1e-4)
    for logit, weight in zip(sampled[0], sampled[1]):
        assert (weight > 0).any() and not np.isin(logit[weight > 0], logit[weight == 0]).any(), "none counts both ways"
