"""References of the matrix: `true_myopic`, `far_sighted` and `planner`.

`true_myopic` shows the item of the best rating. `far_sighted` shows the best one that does not end the visit; at the last decision
the best of all. It knows ratings and rule, and is no optimum: what it shows now uses up items that are wanted later. `planner` tries its
first few choices, and follows `far_sighted` from each on copies of the customers, for twice as long as an item counts (a rollout policy:
Bertsekas 2019, section 2.4).
"""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from qurate.environments.engine import BatchedEngine
from qurate.environments.references import LatentPolicy, world_of
from qurate.environments.scenarios.matrix import Matrix
from qurate.types import FloatArray, IntArray

TRIED = 3
"""Choices that the planner compares."""


def true_myopic(engine: BatchedEngine) -> LatentPolicy:
    """The best rating of this decision."""
    world = _world_of(engine)
    return LatentPolicy(engine, "true_myopic", lambda engine: world.matrix.ratings[world.who])


def far_sighted(engine: BatchedEngine) -> LatentPolicy:
    """The best rating less what is lost where the visit ends."""
    world = _world_of(engine)
    return LatentPolicy(
        engine, "far_sighted", lambda engine: values_of_items(world, world.who, world.recent, engine.max_steps - engine.steps)
    )


def planner(engine: BatchedEngine) -> LatentPolicy:
    """The choice with the largest return when `far_sighted` goes on from it."""
    return LatentPolicy(engine, "planner", partial(_planned, _world_of(engine)))


def values_of_items(world: Matrix, who: IntArray, recent: IntArray, left: IntArray) -> FloatArray:
    """Rating, less the mean rating of the decisions after it where the item would end the visit, [B, N].

    Args:
        who, recent: [B] and [B, W] as in the world. left: [B] decisions to the step limit, this one included.
    """
    ratings = world.matrix.ratings[who]
    ends = count_alike(world, recent) >= world.leave_similar
    later = np.maximum(left - 1, 0) * ratings.mean(1) * world.strength
    out: FloatArray = (ratings - ends * later[:, None]).astype(np.float32)
    return out


def count_alike(world: Matrix, recent: IntArray) -> IntArray:
    """How many of the last items are like each item 1..N, int64 [B, N]."""
    out: IntArray = world.matrix.alike[recent].sum(1, dtype=np.int64)[:, 1:]
    return out


def _planned(world: Matrix, engine: BatchedEngine) -> FloatArray:
    """Values of all items: the tried ones by their returns, all others below them."""
    left = engine.max_steps - engine.steps
    first = values_of_items(world, world.who, world.recent, left)
    if engine.n_candidates is not None:  # later candidates are not known
        return first
    tried = np.argsort(-first, axis=1, kind="stable")[:, :TRIED]
    returns = np.stack([_follow(world, tried[:, i] + 1, left) for i in range(tried.shape[1])], axis=1)
    out = np.full(first.shape, -np.inf, np.float32)
    np.put_along_axis(out, tried, returns.astype(np.float32), axis=1)
    return out


def _follow(world: Matrix, items: IntArray, left: IntArray) -> NDArray[np.float64]:
    """Expected return of `items` [B] now and `far_sighted` afterwards, on copies of the customers; later decisions at their mean rating."""
    recent, here, total = world.recent.copy(), np.ones(world.n), np.zeros(world.n)
    steps = min(int(left.max()), 2 * world.leave_window + 1)
    for step in range(steps):
        there = left > step
        total += here * there * world.matrix.ratings[world.who, items - 1]
        ends = world.matrix.alike[items[:, None], recent].sum(1) >= world.leave_similar
        here *= 1 - world.strength * ends
        recent = np.concatenate([recent[:, 1:], items[:, None]], axis=1)
        items = values_of_items(world, world.who, recent, left - step - 1).argmax(1) + 1
    after: NDArray[np.float64] = np.maximum(left - steps, 0) * world.matrix.ratings[world.who].mean(1)
    return total + here * after


def _world_of(engine: BatchedEngine) -> Matrix:
    return world_of(engine, Matrix, "matrix")
