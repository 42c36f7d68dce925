"""`play`: whole episodes of a task, as a GIF."""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from qurate.environments.given import is_recommender
from qurate.environments.pictured import PicturedTask, pictured_task
from qurate.errors import Code, UserError
from qurate.experiments.policies import task_policy
from qurate.files import replacing_file
from qurate.models.model import Model, load
from qurate.models.task_ranker import TaskRanker
from qurate.outputs import check_files, written
from qurate.types import Policy

log = logging.getLogger("qurate.experiments")

MOST_PICTURES = 10_000
"""Decisions that are drawn; later ones are played but not drawn, so that the file and the memory stay small."""
MOST_DECISIONS = 10_000
"""Decisions after which an episode is left where the task declares no limit: it may never end."""
COLOURS = 64


def play(
    model: Model | str | Path, env: str, output: str | Path, *, seed: int = 0, episodes: int = 1, force: bool = False
) -> dict[str, Any]:
    """Plays whole episodes of a Gymnasium task and writes a GIF of them.

    Args:
        model: of this task, or its directory.
        env: a Gymnasium id, or `package.module:factory`, whose environment draws pictures.
        output: a file that ends in .gif.
        seed: of the episodes.
        force: replace a file that qurate did not write.

    Returns:
        file, returns (undiscounted, one per episode), decisions and pictures.

    Raises:
        UserError: another ending, no Pillow, a model of another task, a world or task without pictures.
    """
    path = Path(output)
    if path.suffix.lower() != ".gif":
        raise UserError("a file that ends in .gif", path.name, where="-o", hint="choose another name", code=Code.BAD_EXTENSION)
    if is_recommender(env):
        hint = "`qurate simulate SCENARIO --trace N` writes what simulated customers met"
        raise UserError("a task that draws pictures", f"{env}, a world of events", where="--env", hint=hint, code=Code.BAD_ENV)
    check_files([path], force)
    image = _pillow()
    loaded = model if isinstance(model, Model) else load(model)
    task = pictured_task(env)
    try:
        if not isinstance(loaded.ranker, TaskRanker) or loaded.ranker.spec != task.engine.spec:
            expected, got = f"a model for {env}", f"one for {loaded.environment or 'a catalogue'}"
            raise UserError(expected, got, where=str(model), hint=f"train one with --env {env}", code=Code.OTHER_ENVIRONMENT)
        policy, decisions = task_policy(loaded, env), 0
        images: list[Any] = []
        returns: list[float] = []
        for episode in range(episodes):
            score, length = _episode(task, policy, seed + episode, image, images)
            returns.append(score)
            decisions += length
    finally:
        task.close()
    with replacing_file(path) as beside:
        pause = max(round(100 / task.rate), 2) * 10  # a GIF counts hundredths of a second, and viewers slow down below two
        images[0].save(beside, format="GIF", save_all=True, append_images=images[1:], duration=pause, loop=0)
    written([path])
    return {"file": str(path), "env": env, "episodes": episodes, "returns": returns, "decisions": decisions, "pictures": len(images)}


def _episode(task: PicturedTask, policy: Policy, seed: int, image: Any, images: list[Any]) -> tuple[float, int]:
    """Return and decisions of one episode, whose pictures are added."""
    observation, rng, score, decisions = task.reset(seed), np.random.default_rng([seed, 11]), 0.0, 0
    while True:
        if len(images) < MOST_PICTURES:
            images.append(image.fromarray(task.picture()).quantize(COLOURS))
        feedback = task.step(policy.act(observation, rng)[0])
        score, decisions, observation = score + float(feedback.reward[0]), decisions + 1, feedback.obs
        if feedback.terminated[0] or feedback.truncated[0]:
            return score, decisions
        if task.engine.max_steps is None and decisions == MOST_DECISIONS:
            log.warning("note: %s declares no limit: an episode was left after %s decisions", task.engine.name, f"{decisions:,}")
            return score, decisions


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        hint = "pip install 'qurate[atari]'"
        raise UserError("Pillow, which writes GIFs", "none", where="qurate play", hint=hint, code=Code.MISSING_EXTRA) from error
    return Image
