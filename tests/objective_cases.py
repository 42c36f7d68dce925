"""A batch with transitions of every kind, and what an objective makes of it, beside what the networks say."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qurate.algorithms.objective import Loss, Networks, TensorBatch
from qurate.algorithms.table import CATALOGUE_ONLY, algorithm_settings, make_objective
from qurate.environments.observation_layout import TaskSpec
from qurate.networks.build import build_task_network
from qurate.networks.values import to_tensors
from qurate.training.on_task import TASK_DEFAULTS
from qurate.types import Batch, DenseState, OpenActions

ROWS, ACTIONS, STATES = 12, 3, 4
TABLES = ["q_learning", "sarsa"]
Array = NDArray[Any]


def a_batch(seed: int = 0) -> Batch[DenseState]:
    """Transitions of every kind: going on, terminated (row 0), of unknown successor (row 1), with illegal actions."""
    rng = np.random.default_rng(seed)
    mask = np.ones((ROWS, ACTIONS + 1), np.bool_)
    mask[:, 0] = False
    mask[np.arange(ROWS), rng.integers(1, ACTIONS + 1, ROWS)] = False
    discount, bootstrap = np.full(ROWS, 0.9, np.float32), np.ones(ROWS, np.float32)
    discount[0] = bootstrap[1] = 0
    taken = rng.integers(1, ACTIONS + 1, ROWS)
    taken[2] = 0  # not known
    states = [DenseState(np.zeros((ROWS, 0), np.float32), rng.integers(0, STATES, (ROWS, 1))) for _ in range(2)]
    reward, later = (rng.normal(size=(ROWS, 1)).astype(np.float32) for _ in range(2))
    action = rng.integers(1, ACTIONS + 1, ROWS)
    opened = OpenActions(None, None, None, None, mask)
    own = np.ones((ROWS, ACTIONS + 1), np.bool_)
    own[:, 0] = False
    own[np.arange(ROWS), action % ACTIONS + 1] = False  # another action than the one taken
    decided = OpenActions(None, None, None, None, own)
    return Batch(states[0], action, reward, later, discount, bootstrap, states[1], opened, taken, np.arange(ROWS), actions=decided)


def measured(name: str, **given: Any) -> tuple[Loss, Batch[DenseState], list[Array], Any]:
    """The loss of `name`, the batch, and what the networks say: heads [B, N + 1, H] of (online now, online then, target then)."""
    settings = algorithm_settings(name, given, TASK_DEFAULTS, CATALOGUE_ONLY)
    spec = TaskSpec((0,), np.dtype(np.float32), (STATES,), ACTIONS)
    online, target = (build_task_network(spec, settings, seed=seed) for seed in (1, 2))
    if name in TABLES:
        with torch.no_grad():
            for i, network in enumerate((online, target)):
                network.q.copy_(torch.as_tensor(np.random.default_rng(i).normal(size=(STATES, ACTIONS))))  # type: ignore[attr-defined]
    batch = a_batch()
    tensors: TensorBatch = to_tensors(batch)
    drawn, again = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
    loss = make_objective(name, settings)(Networks(online, target.bind(drawn)), tensors, drawn)
    every = torch.arange(ACTIONS + 1).expand(ROWS, -1)
    bound, later = online.bind(again), target.bind(again)
    with torch.no_grad():  # in the order of the objectives, so that noisy layers draw the same noise
        now, target_then, online_then = bound(tensors.state), later(tensors.next_state), bound(tensors.next_state)
        heads = [values.by_head(every).numpy() for values in (now, online_then, target_then)]
    return loss, batch, heads, settings


def first_best(q: Array, mask: Array) -> int:
    """The best of the legal actions of one state; the first of equal ones."""
    return int(max((a for a in range(1, ACTIONS + 1) if mask[a]), key=lambda a: (q[a], -a)))
