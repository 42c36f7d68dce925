"""Updates over a catalogue of 100,000 items: `qurate bench large`."""

from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qurate.algorithms.table import make_objective
from qurate.bench.rows import Row, rate, turns
from qurate.learning.learner import Learner
from qurate.networks.build import build_network
from qurate.settings import from_flat
from qurate.types import ALWAYS, Batch, OpenActions, State

ITEMS, BATCH, DIM, WINDOW, TYPES = 100_000, 256, 64, 50, 3
HARD = {"double": True, "target_period": 1_000, "target_tau": 1.0, "form": "single", "negatives": 0, "support_threshold": 0.0}
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "large catalogue": ("dqn", {"aux_weight": 0.0}),
    "large catalogue, + SQN": ("sqn", {"aux_weight": 1.0}),
    "large catalogue, + CQL": ("cql", {"aux_weight": 0.0, "cql_alpha": 1.0}),
}


def large(seconds: float, items: int = ITEMS) -> list[Row]:
    """Updates of double DQN with the exact maximum over all items and a hard target, alone and with sampled softmax losses."""
    rng = np.random.default_rng(0)
    batches = [random_batch(rng, items) for _ in range(32)]
    rows = []
    for name, (algorithm, given) in FORMS.items():
        settings = from_flat({"embedding_dim": DIM, "batch_size": BATCH, "window": WINDOW, **HARD, **given})
        network = build_network(
            np.zeros((items + 1, 0), np.float32), settings, n_types=TYPES, user_dim=0, n_components=1,
            behaviour=settings.offline.aux_weight > 0, seed=0,
        )  # fmt: skip
        learner, turn = Learner(network, make_objective(algorithm, settings), settings.learning), cycle(batches)
        taken = turns(lambda learner=learner, turn=turn: learner.update(next(turn)), 4, seconds)  # type: ignore[misc]
        note = f"double, hard target every 1,000; batch {BATCH}, {items:,} items, {DIM}-d, window {WINDOW}"
        rows.append(rate(name, "updates/s", ">= 35", 1, taken, note))
    return rows


def random_batch(rng: np.random.Generator, items: int) -> Batch[Any]:
    """Customers with windows of 1 to 50 events over the whole catalogue, popular items more often (Zipf), all items open."""
    states = [_states(rng, items) for _ in range(2)]
    since = np.full(items + 1, ALWAYS)
    now, ahead = (OpenActions(None, np.zeros(BATCH, np.int64), since, None) for _ in range(2))
    return Batch(
        states[0], popular(rng, items, BATCH).astype(np.int64), (rng.random((BATCH, 1)) < 0.1).astype(np.float32),
        np.zeros((BATCH, 1), np.float32), np.full(BATCH, 0.9, np.float32), np.ones(BATCH, np.float32), states[1], ahead,
        popular(rng, items, BATCH).astype(np.int64), np.arange(BATCH), actions=now,
    )  # fmt: skip


def popular(rng: np.random.Generator, items: int, size: Any) -> NDArray[np.int32]:
    """Items drawn with probability about 1 / rank."""
    rank = np.minimum(np.exp(rng.random(size) * np.log(items + 1)), items).astype(np.int64)
    return np.asarray(1 + rank * 7_919 % items, np.int32)  # numbers say nothing of popularity


def _states(rng: np.random.Generator, items: int) -> State:
    there = np.arange(WINDOW) >= WINDOW - rng.integers(1, WINDOW + 1, (BATCH, 1))
    return State(
        popular(rng, items, (BATCH, WINDOW)) * there, (rng.integers(1, TYPES + 1, (BATCH, WINDOW)) * there).astype(np.int8),
        (rng.exponential(60, (BATCH, WINDOW)) * there).astype(np.float32), np.zeros((BATCH, WINDOW), np.float32),
        np.zeros((BATCH, 0), np.float32), np.zeros((BATCH, 2), np.float32),
    )  # fmt: skip
