"""The training loops, as generators: whoever consumes them logs, evaluates, saves and stops."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from qurate.learning.learner import Learner, Update
from qurate.networks.encoders import to_tensors
from qurate.networks.qnetwork import QNetwork
from qurate.replay.event_store import Store
from qurate.replay.samplers import LogSampler, OnlineSampler
from qurate.replay.writers import OnlineWriter
from qurate.types import Engine, FloatArray, Observation


class Progress(NamedTuple):
    """One item of a loop: decisions (online) or updates (from a log) since the loop began, and the last update."""

    steps: int
    update: Update | None
    reward: float  # mean reward per decision of the last batched step; NaN from a log


def train_from_log(learner: Learner, store: Store, sampler: LogSampler, rng: np.random.Generator) -> Iterator[Progress]:
    """Updates without end from a log; `steps` counts updates since the loop began.

    `rng` draws the batches; with the learner's own state it is all a resumed run needs.
    """
    s, steps = learner.settings, 0
    while True:
        update = learner.update(store.batch(sampler.sample(rng, s.batch_size), s.n_step))
        steps += 1
        yield Progress(steps, update, float("nan"))


def q_values(network: QNetwork, observation: Observation) -> FloatArray:
    """Q of the candidates, float32 [B, K]; candidates that all rows share (stride 0) cost one product."""
    with torch.no_grad():
        table = network.items()
        heads = network.heads(to_tensors(observation.state), table)
        candidates = observation.candidates
        if len(candidates) > 1 and candidates.strides[0] == 0:
            return network.q(heads, table)[:, torch.as_tensor(candidates[0].copy())].numpy()
        return network.q(heads, table, torch.as_tensor(candidates.copy())).numpy()


def epsilon_at(step: int, start: float, end: float, steps: int) -> float:
    """Epsilon falls linearly from `start` to `end` over `steps` decisions."""
    return start + (end - start) * min(step / steps, 1.0)


def lane_epsilons(epsilon: float, lanes: int, spread: bool) -> NDArray[np.float64]:
    """Epsilon of each simulated customer, [lanes]: the same for all, or spread geometrically from `epsilon` to 1.

    With the spread some customers show what the best policy meets and some show everything, at every time
    (Horgan et al. 2018, arXiv:1803.00933).
    """
    return np.geomspace(max(epsilon, 1e-6), 1.0, lanes) if spread else np.full(lanes, epsilon)


Explore = Callable[[FloatArray, NDArray[np.int8], float, np.random.Generator], tuple[NDArray[np.int64], NDArray[np.float64]]]


def train_online(
    learner: Learner,
    engine: Engine,
    writer: OnlineWriter,
    explore: Explore,
    rng: np.random.Generator,
    seed: int,
    components: Sequence[int] | None = None,
    warmup: int = 1_000,
    steps: int = 0,
    observation: Observation | None = None,
) -> Iterator[Progress]:
    """Acts epsilon-greedily in a batched environment and learns from what comes back, without end.

    Between two of its items the run is what learner, engine, writer and `rng` hold: restored, it goes on bit for bit.

    Args:
        engine: speaks the learner's item and type indices.
        writer: replay rings with as many lanes as customers are simulated.
        explore: `epsilon_greedy(scores, mask, epsilon, rng)` of the policies.
        seed: of the customers.
        components: which of the engine's reward components the learner's are, in its order; None = all.
        warmup: decisions before the first update.
        steps, observation: of a run that goes on: its decisions so far and the observation it stopped at.
    """
    s, sampler, begun = learner.settings, OnlineSampler(writer), steps
    if observation is None:
        observation = engine.reset(seed, writer.lanes)
        writer.begin(observation, np.zeros(writer.lanes, np.int64))
    lanes, unused = np.arange(writer.lanes), warmup // writer.lanes * writer.lanes
    while True:
        learner.network.eval()
        scores = q_values(learner.network, observation)
        epsilon = epsilon_at(steps, s.epsilon_start, s.epsilon_end, s.epsilon_steps)
        random, _ = explore(scores, observation.action_mask, 1.0, rng)
        best, _ = explore(scores, observation.action_mask, 0.0, rng)
        position = np.where(rng.random(writer.lanes) < lane_epsilons(epsilon, writer.lanes, s.epsilon_spread), random, best)
        feedback = engine.step(position)
        if components is not None:
            feedback = feedback._replace(components=feedback.components[:, components])
        writer.add(observation.candidates[lanes, position], feedback, position != best)
        observation = feedback.obs
        due = max(steps + writer.lanes - unused, 0) // s.update_every - max(steps - unused, 0) // s.update_every
        steps += writer.lanes
        update = None
        for _ in range(due):
            update = learner.update(writer.store.batch(sampler.sample(rng, s.batch_size), s.n_step))
        yield Progress(steps - begun, update, float((feedback.components @ writer.weights).mean(dtype=np.float64)))
