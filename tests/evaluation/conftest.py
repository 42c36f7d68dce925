"""Tiny worlds and policies whose returns are known by hand."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from qurate.types import Actions, EventRows, Feedback, Observation, State

TYPES = ["shown", "click"]


class TinyWorld:
    """Customer u of a reset makes 1 + u % 3 decisions, then leaves for good; whoever follows in a lane makes one.

    Showing item i earns i, plus `noise[u, t]` of the seed. A pause of one day follows every second decision.
    With `tiring`, the same item twice in a row earns nothing.
    """

    component_names = ("value", "noise")
    component_weights = np.array([1.0, 1.0], np.float32)
    feature_names: tuple[str, ...] = ()
    user_feature_names: tuple[str, ...] = ()

    def __init__(self, n_items: int = 4, noise: float = 0.0, tiring: bool = False, steps: int | None = None, ids: list[str] | None = None):
        self.item_ids = ids or [f"item{i}" for i in range(1, n_items + 1)]
        self.type_names = list(TYPES)
        self.item_features = np.zeros((n_items + 1, 0), np.float32)
        self.n_items, self.noise, self.tiring, self.steps = n_items, noise, tiring, steps
        self.resets: list[tuple[int, int]] = []

    def reset(self, seed: int, n: int) -> Observation:
        self.resets.append((seed, n))
        self.table = np.random.default_rng([seed, n]).normal(size=(n, 64)) * self.noise
        self.todo = 1 + np.arange(n) % 3 if self.steps is None else np.full(n, self.steps)
        self.done = np.zeros(n, np.int64)
        self.last = np.zeros(n, np.int64)
        return self._observe()

    def _observe(self) -> Observation:
        n = len(self.todo)
        items = np.zeros((n, 3), np.int64)
        items[:, -1] = self.last
        types = (items > 0).astype(np.int64)
        zeros = np.zeros((n, 3), np.float32)
        candidates = np.broadcast_to(np.arange(1, self.n_items + 1), (n, self.n_items))
        mask = np.broadcast_to(np.ones(self.n_items, np.int8), (n, self.n_items))
        state = State(items, types, zeros, zeros, np.zeros((n, 0), np.float32), np.zeros((n, 2), np.float32))
        return Observation(state, Actions(candidates, mask))

    def step(self, actions: NDArray[np.int64]) -> Feedback:
        n, lanes = len(self.todo), np.arange(len(self.todo))
        assert actions.shape == (n,)
        item = actions + 1
        value = np.where(self.tiring & (item == self.last), 0, item).astype(np.float32)
        components = np.stack([value, self.table[lanes, self.done % 64].astype(np.float32)], axis=1)
        self.done += 1
        terminated = self.done >= self.todo
        pause = np.where((self.done % 2 == 0) & ~terminated, 86_400.0, 0.0).astype(np.float32)
        rows = EventRows(lanes, item.astype(np.int32), np.ones(n, np.uint8), self.done * 1_000_000, np.zeros(n, np.float32))
        self.last = np.where(terminated, 0, item)
        self.todo = np.where(terminated, 1, self.todo)
        self.done = np.where(terminated, 0, self.done)
        clicked = np.full(n, -1, np.int64)
        return Feedback(
            self._observe(), components.sum(1), components, terminated, np.zeros(n, bool), clicked, rows, self.done * 1_000_000, pause
        )


class Always:
    """Always the same position."""

    def __init__(self, position: int, name: str = "always") -> None:
        self.position, self.name = position, name

    def act(self, observation: Observation, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        n = len(observation.actions.candidates)
        return np.full(n, self.position, np.int64), np.ones(n)


@pytest.fixture
def tiny_world() -> Callable[..., TinyWorld]:
    return TinyWorld


@pytest.fixture
def always() -> Callable[..., Always]:
    return Always
