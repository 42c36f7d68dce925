"""The training loops, as generators: whoever consumes them logs, evaluates, saves and stops."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from qurate.choosing.selection import GREEDY, UNIFORM, choose
from qurate.learning.learner import Learner, Update
from qurate.learning.returns import Returns
from qurate.learning.schedule import diverged
from qurate.mdp.candidate_features import observed_features
from qurate.networks.slate_network import SlateValues
from qurate.networks.values import ValueNetwork, to_tensors
from qurate.replay.samplers import Sampler
from qurate.settings import ExplorationSettings, Settings
from qurate.types import Batch, Engine, Feedback, FloatArray, IntArray, Observation


class Progress(NamedTuple):
    """One item of a loop: decisions (online) or updates (from a log) since the loop began, and the last update."""

    steps: int
    update: Update | None
    reward: float  # mean reward per decision of the last batched step, before any clipping; NaN from a log
    updates: Sequence[Update] = ()  # all that this step made; `update` is the last of them
    returns: Sequence[float] = ()  # undiscounted, of the episodes that ended in this step, where they are counted


class Replay(Protocol):
    """Where transitions come from."""

    def batch(self, index: IntArray, n_step: int = 1) -> Batch[Any]:
        """The transitions at `index` [B], with n-step returns."""
        ...


class Writer(Protocol):
    """A replay that is filled online, one lane per simulated customer."""

    lanes: int
    weights: FloatArray  # [R] weight of each reward component

    @property
    def store(self) -> Replay: ...

    def begin(self, observation: Observation[Any], clock: IntArray) -> None:
        """The first states of all lanes, after `reset`."""
        ...

    def add(self, action: IntArray, feedback: Feedback, explored: NDArray[np.bool_] | None = None) -> IntArray:
        """Closes the open states with `action` [lanes] (slates: [lanes, k]) and `feedback`, opens the next ones; the positions closed."""
        ...


def train_from_log(learner: Learner, store: Replay, sampler: Sampler, rng: np.random.Generator, settings: Settings) -> Iterator[Progress]:
    """Updates without end from a log; `steps` counts updates since the loop began.

    `rng` draws the batches; with the learner's own state it is all a resumed run needs.
    """
    steps = 0
    while True:
        update = _update(learner, store, sampler, rng, settings)
        steps += 1
        yield Progress(steps, update, float("nan"), (update,))


def _update(learner: Learner, store: Replay, sampler: Sampler, rng: np.random.Generator, settings: Settings) -> Update:
    """One update: sample a batch, learn from it, give the TD errors to the sampler."""
    index, weight = sampler.sample(rng, settings.learning.batch_size)
    update = learner.update(store.batch(index, settings.learning.n_step), weight)
    sampler.update(index, update.td_errors.cpu().numpy())
    return update


def q_values(
    network: ValueNetwork,
    observation: Observation[Any],
    device: torch.device | str = "cpu",
    noise: torch.Generator | None = None,
    features: FloatArray | None = None,
) -> FloatArray:
    """Q of the candidates, float32 [B, K], or the scores of the best slate; candidates that all rows share (stride 0) cost one product.

    Args:
        noise: draws that of noisy layers, of each row its own; None = their means.
        features: float32 [B, K, F] of the candidates at this decision; None = the network uses none.
    """
    with torch.no_grad():
        values = network.bind(noise)(to_tensors(observation.state, device))
        candidates = observation.actions.candidates
        if isinstance(values, SlateValues):
            return values.slate_scores(to_tensors(candidates, device)).cpu().numpy()
        if features is not None:
            return values.of(to_tensors(candidates, device), to_tensors(features, device)).cpu().numpy()
        if len(candidates) > 1 and candidates.strides[0] == 0:
            return values.all()[:, to_tensors(candidates[0], device)].cpu().numpy()
        return values.of(to_tensors(candidates, device)).cpu().numpy()


def epsilon_at(step: int, schedule: ExplorationSettings) -> float:
    """Epsilon falls linearly from its start to its end over `epsilon_steps` decisions."""
    s = schedule
    return s.epsilon_start + (s.epsilon_end - s.epsilon_start) * min(step / s.epsilon_steps, 1.0)


def lane_epsilons(epsilon: float, lanes: int, spread: bool) -> NDArray[np.float64]:
    """Epsilon of each simulated customer, [lanes]: the same for all, or spread geometrically from `epsilon` to 1.

    With the spread some customers show what the best policy meets and some show everything, at every time
    (Horgan et al. 2018, arXiv:1803.00933).
    """
    return np.geomspace(max(epsilon, 1e-6), 1.0, lanes) if spread else np.full(lanes, epsilon)


def train_online(
    learner: Learner, engine: Engine, writer: Writer, sampler: Sampler, rng: np.random.Generator, settings: Settings, *, seed: int,
    components: Sequence[int] | None = None, steps: int = 0, observation: Observation[Any] | None = None, returns: Returns | None = None,
    slate_size: int = 1, acting: ValueNetwork | None = None, columns: Sequence[str] | None = None, n_types: int = 0,
) -> Iterator[Progress]:  # fmt: skip
    """Acts epsilon-greedily in a batched environment and learns from what comes back, without end.

    Noisy layers draw new noise at every step, each customer's own; what it chose counts as the policy's, not as exploration.
    Where the engine's environments compute on their own (`overlaps`), updates are made meanwhile; they know everything but the
    step under way. Between two of its items the run is what learner, engine, writer, sampler and `rng` hold: restored, it goes on
    bit for bit.

    Args:
        engine: uses the learner's action and type indices. writer: replay rings with as many lanes as customers are simulated.
        sampler: of the writer's transitions. seed: of the customers.
        components: which of the engine's reward components the learner's are, in its order; None = all.
        steps, observation: of a run that goes on: its decisions so far and the observation it stopped at.
        returns: counts the returns of episodes, which are then reported; None = nobody asks for them.
        slate_size: items shown at once, k; actions are [B, k] where it is above 1.
        acting: whose values choose what is shown; None = the learner's network.
        columns, n_types: what the networks use of each candidate, and M (mdp/candidate_features.py); None: nothing.
    """
    replay, begun, overlaps = settings.replay, steps, getattr(engine, "overlaps", False)
    if observation is None:
        observation = engine.reset(seed, writer.lanes)
        writer.begin(observation, np.zeros(writer.lanes, np.int64))
    due = Due(replay.update_every, writer.lanes, replay.warm_up)

    def learn(steps: int) -> list[Update]:
        return [_update(learner, writer.store, sampler, rng, settings) for _ in range(due.after(steps))]

    while True:
        learner.module.eval()
        features = None if columns is None else observed_features(observation, columns, n_types)
        scores = q_values(learner.network if acting is None else acting, observation, learner.device, learner.generator, features)
        mask = observation.actions.mask
        epsilon = lane_epsilons(epsilon_at(steps, settings.exploration), writer.lanes, settings.exploration.epsilon_spread)
        position, explored = explore(scores, mask, epsilon, rng, slate_size)
        if position.min() < 0:  # an environment without a legal action is refused before
            raise diverged(settings.learning.lr)
        if overlaps:
            engine.send(position)  # type: ignore[attr-defined]
            updates = learn(steps)
            feedback = engine.receive()  # type: ignore[attr-defined]
        else:
            feedback = engine.step(position)
        if components is not None:
            feedback = feedback._replace(components=feedback.components[:, components])
        earned = feedback.components @ writer.weights
        reward = float(earned.mean(dtype=np.float64))
        ended = returns.add(earned, feedback.terminated | feedback.truncated) if returns is not None else ()
        if replay.reward_clip:
            feedback = feedback._replace(components=np.clip(feedback.components, -replay.reward_clip, replay.reward_clip))
        learner.bound.see(feedback.components @ writer.weights)
        sampler.add(writer.add(items_at(observation.actions.candidates, position), feedback, explored))
        observation = feedback.obs
        steps += writer.lanes
        if not overlaps:
            updates = learn(steps)
        yield Progress(steps - begun, updates[-1] if updates else None, reward, updates, ended)


def explore(
    scores: FloatArray, mask: NDArray[np.int8], epsilon: NDArray[np.float64], rng: np.random.Generator, slate_size: int
) -> tuple[IntArray, NDArray[np.bool_]]:
    """Positions [B], or [B, k] where slates are shown: with probability `epsilon` [B] at random, else the best; and where at random."""
    k = None if slate_size == 1 else slate_size
    (random, _), (best, _) = choose(UNIFORM, scores, mask, rng, k), choose(GREEDY, scores, mask, rng, k)
    at_random = rng.random(len(scores)) < epsilon
    position = np.where(at_random if k is None else at_random[:, None], random, best)
    return position, position != best if k is None else (position != best).any(axis=1)


def items_at(candidates: IntArray, position: IntArray) -> IntArray:
    """The candidates [B, K] at positions [B] or [B, k]."""
    return np.take_along_axis(candidates, position.reshape(len(position), -1), axis=1).reshape(position.shape)


class Due(NamedTuple):
    """How many updates are due after each step of all lanes."""

    every: int  # decisions per update
    lanes: int
    warm_up: int  # decisions before the first update

    def after(self, steps: int) -> int:
        """Updates due when `steps` decisions have been made, the last `lanes` of them since the last call."""
        since = steps - self.warm_up // self.lanes * self.lanes
        return max(since, 0) // self.every - max(since - self.lanes, 0) // self.every
