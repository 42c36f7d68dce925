"""Training on any Gymnasium task: an id such as CartPole-v1, or a user's own `package.module:factory`."""

import math
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import torch

from qurate.algorithms.table import make_objective
from qurate.environments.from_gymnasium import GymnasiumEngine
from qurate.environments.observation_layout import TaskSpec
from qurate.errors import Code, UserError
from qurate.events.vocabulary import Vocabulary
from qurate.learning import checkpoint
from qurate.learning.device import device_of
from qurate.learning.learner import Learner
from qurate.learning.loops import train_online
from qurate.learning.returns import Returns
from qurate.learning.value_bound import ValueBound, largest_bonus
from qurate.models.model import Model
from qurate.models.parts import Answering, Provenance
from qurate.models.task_ranker import TaskRanker
from qurate.networks.build import build_task_network
from qurate.networks.dense_network import LARGE_SIDE
from qurate.replay.dense_ring import DenseRing
from qurate.replay.frame_ring import FrameRing
from qurate.settings import Settings, SlateSettings, TableSettings, replace
from qurate.training.drawing import online_sampler, optimiser_of
from qurate.training.run import Limits, Run, StepCallback, consume
from qurate.training.support import with_checked_support
from qurate.types import NEVER, Availability, DenseState, Observation

TASK_STEPS, IMAGE_STEPS = 50_000, 10_000_000
TASK_DEFAULTS: dict[str, Any] = {
    "gamma": 0.99, "n_step": 3, "batch_size": 64, "hidden": 128, "form": "single", "target_tau": 0.005, "epsilon_end": 0.05,
    "epsilon_steps": 10_000,
    "update_every": 2, "ema": 0.999, "replay_capacity": 100_000, "lanes": 8, "aux_weight": 0.0, "support_threshold": 0.0, "negatives": 0,
}  # fmt: skip
"""Settings of tasks that are no recommender, under those of the algorithm: their episodes are longer and their rewards dense."""
IMAGE_DEFAULTS: dict[str, Any] = TASK_DEFAULTS | {
    "double": True, "loss": "huber", "lr": 2.5e-4, "adam_eps": 1.5e-4, "target_tau": 1.0, "epsilon_end": 0.01, "reward_clip": 1.0,
    "life_ends": True,
}  # fmt: skip
"""Settings of tasks whose observations are large images."""
ON_CPU: dict[str, Any] = {
    "lanes": 16, "batch_size": 32, "update_every": 8, "filters": 16, "hidden": 256, "n_step": 10, "lr": 3e-4, "target_period": 250,
    "epsilon_steps": 30_000, "warm_up": 2_000,
}  # fmt: skip
"""On a CPU an update takes long and a step of a game does not: a smaller network, and returns of more steps, which need fewer updates."""
ON_GPU: dict[str, Any] = {
    "lanes": 128, "batch_size": 512, "update_every": 64, "filters": 32, "hidden": 512, "target_period": 500, "epsilon_steps": 500_000,
    "warm_up": 20_000,
}  # fmt: skip
IMAGE_BYTES = {"cpu": 1e9, "cuda": 7.5e9}
"""Most memory that the images of a replay take by default: 140,000 frames of 84 x 84, or a million on a GPU."""


def task_device(engine: GymnasiumEngine, device: str) -> torch.device:
    """Where a task is learned: by default a GPU where there is one and the observations are large images.

    Raises:
        UserError: see `device_of`.
    """
    return device_of(device, worth_it=is_large(engine.spec))


def task_defaults(engine: GymnasiumEngine, device: torch.device) -> dict[str, Any]:
    """Settings of a task where nothing else is said; of large images they depend on the device."""
    spec = engine.spec
    if not is_large(spec):
        return TASK_DEFAULTS
    images = math.prod(spec.numbers_shape) // engine.frames
    capacity = max(int(IMAGE_BYTES[device.type]) // images // 1_000 * 1_000, 1_000)
    return IMAGE_DEFAULTS | (ON_GPU if device.type == "cuda" else ON_CPU) | {"replay_capacity": min(capacity, 1_000_000)}


def is_large(spec: TaskSpec) -> bool:
    """Whether a task's observations are large images."""
    return len(spec.numbers_shape) == 3 and min(spec.numbers_shape[1:]) >= LARGE_SIDE


def train_on_task(
    engine: GymnasiumEngine, env: str, settings: Settings, algorithm: str, *, seed: int, limits: Limits, device: torch.device,
    saved: Mapping[str, bytes] | None = None, report: StepCallback | None = None,
) -> Model:  # fmt: skip
    """A Q-network trained online in a Gymnasium task, with a checkpoint.

    A foreign environment cannot be saved: a resumed run keeps its weights and its replay, but for frames, and begins new episodes.

    Args:
        env: the engine's name in the model.
        saved: the checkpoint of an earlier run, which goes on until it has had `limits.steps` decisions in all.

    Raises:
        UserError: the task's observations do not fit the algorithm, or the replay does not fit the memory.
    """
    if isinstance(settings.algorithm, TableSettings) and (engine.spec.numbers_shape != (0,) or len(engine.spec.categories) != 1):
        got = f"{engine.spec.numbers_shape} numbers and {len(engine.spec.categories)} integers"
        raise UserError(f"a task whose observation is one integer, for {algorithm}", got, where=env, hint="try dqn", code=Code.BAD_ENV)
    if isinstance(settings.algorithm, SlateSettings):
        hint = "it learns in a simulated world, such as --env interest_evolution,slate_size=2"
        raise UserError("a world of slates", f"the task {env}", where=f"--algorithm {algorithm}", hint=hint, code=Code.BAD_TRAIN)
    lanes = settings.replay.lanes
    observation = engine.reset(seed, lanes)
    ring = _ring(engine, observation, settings, device)
    network = build_task_network(engine.spec, settings, seed=seed)
    bound = ValueBound(settings.learning.gamma, largest_bonus(settings, engine.n_items))
    learner = Learner(
        network, make_objective(algorithm, settings), settings.learning, bound=bound, seed=seed, optimiser=optimiser_of(settings),
        device=device,
    )  # fmt: skip
    sampler = online_sampler(ring, settings)
    parts = {} if isinstance(ring, FrameRing) else {"ring": ring, "sampler": sampler}  # gigabytes of frames are soon seen again
    rng, run, ours = np.random.default_rng([seed, 7]), Run(), settings
    if saved is not None:
        run = msgspec.convert(checkpoint.from_files(learner, rng, saved)["run"], Run)
        checkpoint.restore_parts(parts, checkpoint.read_arrays(saved))
        observation = engine.restore({"seed": np.array(seed), "n": np.array(lanes), "steps": np.array(run.steps // lanes)})
        if not parts:
            ours = replace(settings, warm_up=run.steps + settings.replay.warm_up)
    ring.begin(observation, np.zeros(lanes, np.int64))
    steps = limits.steps or (IMAGE_STEPS if is_large(engine.spec) else TASK_STEPS)
    loop = train_online(
        learner, engine, ring, sampler, rng, ours, seed=seed, steps=run.steps, observation=observation, returns=Returns(ring.lanes)
    )
    metrics = consume(with_checked_support(loop, ring.steps, settings, resumed=saved is not None), run, steps, limits.budget, report)
    files = checkpoint.to_files(learner, rng, {"run": msgspec.to_builtins(run), "seed": seed, "wanted": steps}, checkpoint.arrays_of(parts))
    nothing = np.full(engine.n_items + 1, NEVER)
    return Model(
        ranker=TaskRanker(learner.ema.cpu(), engine.spec),
        availability=Availability(nothing, nothing),  # its actions are not items that a recommender could show
        provenance=Provenance(algorithm=algorithm, settings=settings, kind="task", environment=env, metrics=metrics),
        answering=Answering(
            vocabulary=Vocabulary(tuple(engine.item_ids), ()), components=list(engine.component_names), weights=engine.component_weights,
            popularity=np.zeros(engine.n_items + 1, np.float32), user_dim=0,
        ),
        checkpoint=files,
    )  # fmt: skip


def _ring(engine: GymnasiumEngine, observation: Observation[DenseState], settings: Settings, device: torch.device) -> DenseRing:
    """The replay: frames once where observations are known to stack them."""
    s, gamma = settings.replay, settings.learning.gamma
    if engine.frames == 1:
        return DenseRing(s.lanes, s.replay_capacity, observation, engine.component_weights, gamma, life_ends=s.life_ends)
    return FrameRing(s.lanes, s.replay_capacity, observation, engine.component_weights, gamma, life_ends=s.life_ends, device=device)
