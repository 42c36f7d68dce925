"""The loops: what is acted on, when updates are due, what the learner and the sampler are given."""

from typing import Any

import numpy as np
import pytest
import torch

from qurate.learning.learner import Update
from qurate.learning.loops import epsilon_at, lane_epsilons, train_from_log, train_online
from qurate.learning.value_bound import ValueBound
from qurate.replay.samplers import Sample
from qurate.settings import ExplorationSettings, LearningSettings, ReplaySettings, Settings
from qurate.types import Actions, EventRows, Feedback, Observation, State

LANES = 4


class Constant(torch.nn.Module):
    """Values every state alike: item 2 is best. In training mode item 1 would be."""

    n_components, form = 1, "single"

    def bind(self, rng: Any = None) -> Any:
        return lambda state: self

    def all(self) -> torch.Tensor:
        return torch.tensor([[0.0, 9.0 * self.training, 5.0, 1.0]]).expand(LANES, -1)

    def of(self, actions: torch.Tensor) -> torch.Tensor:
        return self.all().gather(1, actions)


class Recorder:
    """Stands for learner, store, sampler and writer, and keeps what each was given."""

    CLOSED = "the transitions that were closed"

    def __init__(self) -> None:
        self.network = self.module = Constant()
        self.device, self.generator = torch.device("cpu"), torch.Generator()
        self.lanes, self.weights, self.store = LANES, np.array([1.0, 10.0], np.float32), self
        self.bound = ValueBound(0.9)
        self.given: list[tuple[str, Any]] = []

    def batch(self, index: Any, n_step: int = 1) -> Any:
        self.given.append(("batch", (index.tolist(), n_step)))
        return "transitions"

    def sample(self, rng: np.random.Generator, batch_size: int) -> Sample:
        return Sample(np.arange(batch_size), np.full(batch_size, 0.5, np.float32))

    def update(self, *what: Any) -> Any:
        """Of the learner (batch, weights) and of the sampler (index, errors)."""
        self.module.train()
        self.given.append(("update", what))
        return Update(0.0, torch.tensor([3.0, 4.0]), {})

    def begin(self, observation: Any, clock: Any) -> None:
        self.given.append(("begin", observation))

    def add(self, action: Any, feedback: Any = None, explored: Any = None) -> Any:
        """Of the writer (action, feedback, explored) and of the sampler (what the writer closed)."""
        if feedback is None:
            assert action is self.CLOSED, "the sampler hears of every new transition"
            return None
        self.given.append(("add", (action.tolist(), feedback.components.tolist(), explored.tolist())))
        return self.CLOSED


class World:
    """Always the same: three items, three reward components of 1, 2 and 3."""

    def observation(self) -> Observation:
        z, f = np.zeros((LANES, 1), np.int64), np.zeros((LANES, 1), np.float32)
        shared = np.broadcast_to(np.arange(1, 4), (LANES, 3))
        return Observation(State(z, z, f, f, f, f), Actions(shared, np.broadcast_to(np.ones(3, np.int8), (LANES, 3))))

    def reset(self, seed: int, n: int) -> Observation:
        return self.observation()

    def step(self, actions: Any) -> Feedback:
        nobody, none = np.zeros(LANES, bool), np.zeros(0, np.int64)
        rows = EventRows(none, none.astype(np.int32), none.astype(np.uint8), none, none.astype(np.float32))
        components = np.tile(np.array([1, 2, 3], np.float32), (LANES, 1))
        return Feedback(
            self.observation(), components.sum(1), components, nobody, nobody, np.full(LANES, -1), rows, np.zeros(LANES, np.int64),
            np.zeros(LANES, np.float32),
        )  # fmt: skip


def settings(warm_up: int = 0, **exploration: Any) -> Settings:
    return Settings(
        learning=LearningSettings(batch_size=2, n_step=3),
        replay=ReplaySettings(update_every=3, warm_up=warm_up),
        exploration=ExplorationSettings(**{"epsilon_start": 0.0, "epsilon_end": 0.0, "epsilon_steps": 1, **exploration}),
    )


def online(recorder: Recorder, warmup: int = 0, components: Any = (2, 0), **exploration: Any) -> Any:
    rng = np.random.default_rng(0)
    return train_online(recorder, World(), recorder, recorder, rng, settings(warmup, **exploration), seed=0, components=components)  # type: ignore[arg-type]


def test_epsilon_falls_in_a_line_and_then_stays() -> None:
    schedule = ExplorationSettings(epsilon_start=0.9, epsilon_end=0.1, epsilon_steps=100)
    assert [epsilon_at(step, schedule) for step in (0, 50, 100, 10**6)] == pytest.approx([0.9, 0.5, 0.1, 0.1])
    assert lane_epsilons(0.2, 3, False).tolist() == [0.2] * 3
    assert lane_epsilons(0.01, 3, True).tolist() == pytest.approx([0.01, 0.1, 1.0])


def test_an_update_from_a_log_is_of_n_steps_weighted_and_told_to_the_sampler() -> None:
    recorder = Recorder()
    loop = train_from_log(recorder, recorder, recorder, np.random.default_rng(0), settings())  # type: ignore[arg-type]
    assert [next(loop).steps for _ in range(2)] == [1, 2]
    (_, batch), (_, (transitions, weight)), (_, (index, errors)) = recorder.given[:3]
    assert batch == ([0, 1], 3) and transitions == "transitions" and weight.tolist() == [0.5, 0.5]
    assert index.tolist() == [0, 1] and errors.tolist() == [3, 4]


def test_the_best_item_is_shown_in_evaluation_mode_and_the_models_components_are_kept() -> None:
    recorder = Recorder()
    loop = online(recorder)
    items = [next(loop) for _ in range(3)]
    added = [what for name, what in recorder.given if name == "add"]
    assert added == [([2] * LANES, [[3, 1]] * LANES, [False] * LANES)] * 3, "also after an update, which is made in training mode"
    assert [item.steps for item in items] == [4, 8, 12] and items[0].reward == 3 + 10 * 1


def test_what_was_explored_is_marked() -> None:
    recorder = Recorder()
    loop = online(recorder, epsilon_start=1.0, epsilon_end=1.0)
    for _ in range(50):
        next(loop)
    shown, explored = (np.array([what[i] for name, what in recorder.given if name == "add"]) for i in (0, 2))
    assert np.bincount(shown.ravel(), minlength=4)[1:] / 200 == pytest.approx([1 / 3] * 3, abs=0.12)
    assert np.array_equal(explored, shown != 2)


def test_updates_are_due_every_so_many_decisions_after_the_warmup() -> None:
    """Four lanes, an update every three decisions, the first eight unused: after 12, 16, ... decisions 1, 2, 4, 5 updates."""
    recorder, made = Recorder(), []
    loop = online(recorder, warmup=9)
    for _ in range(6):
        progress = next(loop)
        made.append(sum(name == "batch" for name, _ in recorder.given))
        assert (progress.update is None) == (made[-1] == (made[-2] if len(made) > 1 else 0))
    assert made == [0, 0, 1, 2, 4, 5]
