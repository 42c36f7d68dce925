"""Training on any Gymnasium task: an id such as CartPole-v1, or a user's own `package.module:factory`."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from qurate.algorithms.table import make_objective
from qurate.environments.from_gymnasium import GymnasiumEngine
from qurate.environments.given import Environment, name_of, task_of
from qurate.errors import Code, UserError
from qurate.events.vocabulary import Vocabulary
from qurate.learning import checkpoint
from qurate.learning.learner import Learner
from qurate.learning.loops import train_online
from qurate.models.model import Model
from qurate.models.parts import Answering, Provenance
from qurate.models.task_ranker import TaskRanker
from qurate.networks.build import build_task_network
from qurate.replay.dense_ring import DenseRing
from qurate.settings import Settings, TableSettings
from qurate.training.drawing import online_sampler, optimiser_of
from qurate.training.run import Limits, Run, StepCallback, consume
from qurate.training.support import with_checked_support
from qurate.types import NEVER, Availability

TASK_LANES = 8
TASK_STEPS = 50_000
TASK_DEFAULTS: dict[str, Any] = {
    "gamma": 0.99, "n_step": 3, "batch_size": 64, "hidden": 128, "form": "single", "target_tau": 0.005, "epsilon_end": 0.05,
    "epsilon_steps": 10_000,
    "update_every": 2, "ema": 0.999, "replay_capacity": 100_000, "aux_weight": 0.0, "support_threshold": 0.0, "negatives": 0,
}  # fmt: skip
"""Settings of tasks that are no recommender, under those of the algorithm: their episodes are longer and their rewards dense."""
UNBOUNDED = 1e6
"""|Q| beyond which the alarm goes off: nothing is known of a foreign task's rewards."""


def train_on_task(
    env: Environment, settings: Settings, algorithm: str, *, seed: int, limits: Limits, saved: Mapping[str, bytes] | None = None,
    report: StepCallback | None = None,
) -> Model:  # fmt: skip
    """A Q-network trained online in a Gymnasium task, with a checkpoint.

    A foreign environment cannot be saved: a resumed run keeps its replay and weights and begins new episodes.

    Args:
        saved: the checkpoint of an earlier run, which goes on until it has had `limits.steps` decisions in all.

    Raises:
        UserError: the task cannot be made, or its observations do not fit the algorithm.
    """
    engine = task_of(env)
    try:
        return _train(engine, name_of(env), settings, algorithm, seed, limits, saved, report)
    finally:
        engine.close()


def _train(
    engine: GymnasiumEngine, env: str, settings: Settings, algorithm: str, seed: int, limits: Limits, saved: Mapping[str, bytes] | None,
    report: StepCallback | None,
) -> Model:  # fmt: skip
    if isinstance(settings.algorithm, TableSettings) and (engine.spec.numbers_shape != (0,) or len(engine.spec.categories) != 1):
        got = f"{engine.spec.numbers_shape} numbers and {len(engine.spec.categories)} integers"
        raise UserError(f"a task whose observation is one integer, for {algorithm}", got, where=env, hint="try dqn", code=Code.BAD_ENV)
    observation = engine.reset(seed, TASK_LANES)
    ring = DenseRing(TASK_LANES, settings.replay.replay_capacity, observation, engine.component_weights, settings.learning.gamma)
    network = build_task_network(engine.spec, settings, seed=seed)
    learner = Learner(
        network, make_objective(algorithm, settings), settings.learning, q_bound=UNBOUNDED, seed=seed, optimiser=optimiser_of(settings)
    )
    sampler = online_sampler(ring, settings)
    rng, run = np.random.default_rng([seed, 7]), Run()
    if saved is not None:
        run = msgspec.convert(checkpoint.from_files(learner, rng, saved)["run"], Run)
        checkpoint.restore_parts({"ring": ring, "sampler": sampler}, checkpoint.read_arrays(saved))
        observation = engine.restore({"seed": np.array(seed), "n": np.array(TASK_LANES), "steps": np.array(run.steps // TASK_LANES)})
    ring.begin(observation, np.zeros(TASK_LANES, np.int64))
    steps = limits.steps or TASK_STEPS
    loop = train_online(learner, engine, ring, sampler, rng, settings, seed=seed, steps=run.steps, observation=observation)
    metrics = consume(with_checked_support(loop, ring.steps, settings), run, steps, limits.budget, report)
    arrays = checkpoint.arrays_of({"ring": ring, "sampler": sampler})
    files = checkpoint.to_files(learner, rng, {"run": msgspec.to_builtins(run), "seed": seed, "wanted": steps}, arrays)
    nothing = np.full(engine.n_items + 1, NEVER)
    return Model(
        ranker=TaskRanker(learner.ema, engine.spec),
        availability=Availability(nothing, nothing),  # its actions are not items that a recommender could show
        provenance=Provenance(algorithm=algorithm, settings=settings, kind="task", environment=env, metrics=metrics),
        answering=Answering(
            vocabulary=Vocabulary(tuple(engine.item_ids), ()), components=list(engine.component_names), weights=engine.component_weights,
            popularity=np.zeros(engine.n_items + 1, np.float32), user_dim=0,
        ),
        checkpoint=files,
    )  # fmt: skip
