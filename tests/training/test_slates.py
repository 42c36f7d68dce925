"""SlateQ in a world of slates: trained, saved, resumed bit for bit, asked and compared; a small world solved exactly."""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load as load_tensors

from qurate.environments.engine import BatchedEngine, Outcome
from qurate.environments.history_rows import Group
from qurate.environments.registry import make_engine
from qurate.environments.rng import Keys, purposes, uniforms
from qurate.errors import UserError
from qurate.evaluation.rollouts import rollout
from qurate.experiments.compare import compare
from qurate.experiments.policies import as_policy
from qurate.learning.checkpoint import REPLAY, TENSORS
from qurate.models.model import load
from qurate.models.network_ranker import NetworkRanker
from qurate.networks.slate_network import SlateValues
from qurate.networks.values import to_tensors
from qurate.settings import SlateSettings
from qurate.training.train import train
from qurate.types import Availability, FloatArray, IntArray

ENV = "interest_evolution,slate_size=2"
SMALL: dict[str, Any] = {"hidden": 8, "embedding_dim": 4, "window": 5, "batch_size": 16, "update_every": 64}


def test_it_trains_answers_is_evaluated_and_goes_on_bit_for_bit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = train(env=ENV, algorithm="slateq", steps=2_560, seed=3, **SMALL)
    train(env=ENV, algorithm="slateq", steps=1_600, seed=3, **SMALL).save(tmp_path / "half")
    resumed = train(resume=tmp_path / "half", steps=2_560)
    for part in (TENSORS, REPLAY):
        mine, other = load_tensors(whole.checkpoint[part]), load_tensors(resumed.checkpoint[part])
        assert mine.keys() == other.keys() and [key for key in mine if not torch.equal(mine[key], other[key])] == []
    whole.save(tmp_path / "whole")
    loaded = load(tmp_path / "whole")
    assert loaded.environment == ENV and loaded.settings.algorithm == SlateSettings(slate_size=2)
    history = [{"item_id": "topic_03", "type": "watch", "timestamp": "2026-01-01T00:00:00Z", "value": 4.0}]
    answer = loaded.recommend(k=5, history=history, candidates=[f"topic_{i:02d}" for i in range(1, 11)])
    assert len({item.item_id for item in answer.items}) == 5 and answer.degraded is None
    loaded.recommend(k=5)
    assert caplog.text.count("trained to show 2 items at once: what 5 together are worth") == 1, "once, not for every customer"
    caplog.clear()
    result = compare(["random", tmp_path / "whole"], ENV, seeds=2, customers=20)
    assert [row["name"] for row in result["policies"]] == [str(tmp_path / "whole"), "random", "true_myopic", "far_sighted"]
    assert json.dumps(result, allow_nan=False) and "at once" not in caplog.text
    as_policy(loaded, make_engine("interest_evolution", slate_size=3), "m")
    assert "trained to show 2 items at once: what 3 together are worth" in caplog.text


@pytest.mark.parametrize("slate_size", [1, 3])
@pytest.mark.parametrize(
    "own", [{"slate_target": "sarsa"}, {"slate_optimiser": "greedy", "nothing_value": False, "choice_model": "known"}], ids=str
)
def test_every_kind_of_it_learns_from_slates_of_any_size(own: dict[str, Any], slate_size: int) -> None:
    model = train(env=f"interest_evolution,slate_size={slate_size}", algorithm="slateq", steps=1_600, **SMALL, **own)
    assert model.settings.algorithm == SlateSettings(slate_size=slate_size, **own)
    assert model.metrics["updates"] > 0 and not model.metrics["skipped"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"env": ENV}, "expected an algorithm that learns from slates, got dqn where 2 items are shown at once"),
        ({"env": "CartPole-v1", "algorithm": "slateq"}, "expected a world of slates, got the task CartPole-v1, at algorithm slateq"),
        ({"data": "nowhere", "algorithm": "slateq"}, "expected env, got a dataset, at algorithm slateq"),
        (
            {"env": ENV, "algorithm": "slateq", "slate_size": 3},
            "expected a setting of slateq, got slate_size, at settings; the world says how many items are shown",
        ),
        ({"env": ENV, "algorithm": "slateq", "slate_optimiser": "best"}, "slate_optimiser"),
        ({"env": "shop", "algorithm": "slateq", "choice_model": "known"}, "expected a world that tells its choice model, got shop"),
        ({"env": "shop", "algorithm": "dqn", "slate_target": "q"}, "expected a setting of dqn, got slate_target"),
        ({"env": "interest_evolution,slate_size=20", "algorithm": "slateq"}, "n_candidates >= slate_size (20), got 10"),
    ],
)
def test_mistakes_are_named(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError) as caught:
        train(**arguments)
    assert text in str(caught.value)


def test_a_known_choice_model_is_the_world_s_also_after_saving(tmp_path: Path) -> None:
    """P(i | A) = (1 + u_i) / (2 + sum (1 + u_j)), see the world."""
    model = train(env=ENV, algorithm="slateq", steps=1_280, choice_model="known", **SMALL)
    model.save(tmp_path / "m")
    loaded = load(tmp_path / "m")
    assert isinstance(loaded.ranker, NetworkRanker)
    state = make_engine(ENV, window=5).reset(0, 6).state
    values = loaded.ranker.action_values(state)
    assert isinstance(values, SlateValues)
    slate = np.tile([3, 11], (6, 1))
    choices = values.choices(to_tensors(slate))
    share = (choices.mass / (choices.mass.sum(1, keepdim=True) + choices.nothing_mass[:, None])).numpy()
    mass = 1 + np.take_along_axis(state.user, slate - 1, axis=1)
    np.testing.assert_allclose(share, mass / (2 + mass.sum(1, keepdims=True)), rtol=1e-5)


MASS = np.array([[1.5, 1.0, 0.4, 0.2], [0.3, 0.8, 1.2, 0.6]])  # of four items in two moods
PAY = np.array([[1.0, 0.4, 0.6, 0.0], [1.0, 2.0, 4.0, 0.5]])
TO_GOOD = np.array([[0.0, 0.6, 0.1, 0.95, 0.1], [0.2, 0.8, 0.3, 0.95, 0.6]])  # probability of mood 1 next; the last one: nothing
LEAVE = 0.1


class Moods:
    """Two visible moods and four items, of which two are shown: what pays at once leads to the mood that pays less (mood 0)."""

    has_values = with_replacement = False
    rows_per_step = 1
    state_names: tuple[str, ...] = ("mood",)
    component_weights = np.ones(1, np.float32)
    item_features = np.zeros((5, 0), np.float32)
    availability = Availability.always(4)

    def __init__(self) -> None:
        self.item_ids, self.type_names, self.component_names = ["a", "b", "c", "d"], ["shown", "click"], ["click"]
        self.user_feature_names, self.feature_names = ["mood"], list[str]()

    def allocate(self, n: int) -> None:
        self.n, self.mood = n, np.zeros(n, np.int64)

    def enter(self, lanes: IntArray, keys: Keys) -> FloatArray:
        self.mood[lanes] = 0
        return np.zeros((len(lanes), 1), np.float32)

    def respond(self, items: IntArray, stream: Keys, steps: IntArray) -> Outcome:
        u = uniforms(stream, purposes(0, 3))
        mass = MASS[self.mood[:, None], items - 1]
        upper = np.cumsum(mass / (1 + mass.sum(1, keepdims=True)), axis=1)
        position = (u[0][:, None] >= upper).sum(1)
        clicked = np.where(position < items.shape[1], position, -1)
        choice = np.where(clicked >= 0, items[np.arange(self.n), clicked] - 1, 4)
        pay = np.where(choice < 4, PAY[self.mood, np.minimum(choice, 3)], 0).astype(np.float32)
        self.mood = (u[1] < TO_GOOD[self.mood, choice]).astype(np.int64)
        who = np.flatnonzero(clicked >= 0)
        user = self.mood[:, None].astype(np.float32)
        dwell = np.full(self.n, 1_000_000)
        no_pause = np.zeros(self.n, np.float32)
        return Outcome(pay[:, None], clicked, [Group(2, who, choice[who] + 1, 0)], dwell, no_pause, u[2] < LEAVE, user)

    def items_table(self) -> pl.DataFrame:
        return pl.DataFrame({"item_id": self.item_ids})


def solved(gamma: float) -> tuple[NDArray[np.float64], list[tuple[int, ...]]]:
    """Q of [mood, choice] at the optimum and the best slate of each mood, by iteration over all slates."""
    pay = np.concatenate([PAY, np.zeros((2, 1))], axis=1)
    slates, q = list(combinations(range(4), 2)), np.zeros((2, 5))
    for _ in range(500):
        value = np.zeros((2, len(slates)))
        for a, slate in enumerate(slates):
            mass = np.append(MASS[:, slate], np.ones((2, 1)), axis=1)
            value[:, a] = (mass / mass.sum(1, keepdims=True) * q[:, [*slate, 4]]).sum(1)
        best = value.max(1)
        q = pay + gamma * (1 - LEAVE) * (TO_GOOD * best[1] + (1 - TO_GOOD) * best[0])
    return q, [slates[a] for a in value.argmax(1)]


@pytest.mark.study
def test_the_values_of_a_small_world_are_found() -> None:
    """Every choice's value within 5 % of the range, and the best slate in both moods; the myopic slate is another one."""
    q, slates = solved(0.9)
    _, at_once = solved(0.0)
    assert slates != at_once
    engine = BatchedEngine(Moods(), window=5, max_steps=200, slate_size=2)
    model = train(
        env=engine, algorithm="slateq", steps=60_000, gamma=0.9, window=5, n_step=1, epsilon_steps=1, epsilon_end=0.5, hidden=32,
        embedding_dim=8,
    )  # fmt: skip
    assert isinstance(model.ranker, NetworkRanker)
    state = engine.reset(0, 2).state._replace(user=np.array([[0.0], [1.0]], np.float32))
    values = model.ranker.action_values(state)
    assert isinstance(values, SlateValues)
    found = values.of(torch.arange(1, 6).expand(2, -1)).numpy()
    assert np.abs(found - q).max() < 0.05 * (q.max() - q.min()), (found, q)
    scores = values.slate_scores(to_tensors(np.tile([1, 2, 3, 4], (2, 1)))).numpy()
    assert [tuple(np.sort(np.argsort(-row)[:2])) for row in scores] == slates
    played = rollout(engine, as_policy(model, engine, "slateq"), 1, 2_000)
    assert played.returns.mean() > rollout(engine, Fixed(at_once), 1, 2_000).returns.mean()


class Fixed:
    """The same slate in each mood."""

    name = "fixed"

    def __init__(self, slates: list[tuple[int, ...]]) -> None:
        self.slates = np.array(slates)

    def act(self, observation: Any, rng: np.random.Generator) -> tuple[IntArray, NDArray[np.float64]]:
        chosen = self.slates[observation.state.user[:, 0].astype(np.int64)]
        return chosen, np.ones(chosen.shape)
