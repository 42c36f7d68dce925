"""A run that goes on from its checkpoint equals one that was never interrupted."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qurate.environments.given import OBJECT, Environment, name_of, task_of, world_of
from qurate.errors import Code, UserError
from qurate.events.frames import Frame
from qurate.events.schema import EventLog
from qurate.learning import checkpoint
from qurate.learning.device import device_of
from qurate.mdp.dataset import dataset_of
from qurate.mdp.storage import Dataset
from qurate.models.directory import read_checked, read_manifest
from qurate.models.model import Model, load
from qurate.training.from_log import train_on_log, with_histories
from qurate.training.in_environment import train_in_engine
from qurate.training.on_task import task_device, train_on_task
from qurate.training.reward_weights import reweighted
from qurate.training.run import Limits, StepCallback

log = logging.getLogger("qurate.training")


def resume_training(
    path: Path,
    data: Dataset | EventLog | str | Path | Frame | None,
    given: Mapping[str, Any],
    *,
    seed: int | None,
    limits: Limits,
    histories: bool,
    device: str = "auto",
    report: StepCallback | None = None,
) -> Model:
    """Goes on from a checkpoint, with the algorithm, settings and rewards of the saved run.

    Args:
        data: the dataset where it is not in its old place any more.
        given: option -> value, of options that belong to the saved run; None or empty = not given.
        histories: keep those of the users of the dataset in the model.

    Raises:
        UserError: an option that differs from the saved run's, no checkpoint, or another dataset.
    """
    model, manifest, where = load(path), read_manifest(path), f"--resume {path}"
    same = {"--algorithm": model.algorithm, "--env": model.environment}
    env: Environment | None = given["--env"] or model.environment
    for option, value in given.items():
        if value and (name_of(value) if option == "--env" else value) != same.get(option):
            hint = f"the saved run's is {same[option]}" if same.get(option) else "the rest is the model's"
            raise UserError("--resume with --steps and --budget only", option, where=where, hint=hint, code=Code.BAD_RESUME)
    saved = _checkpoint(path, manifest, model, where)
    state = checkpoint.read_progress(saved)
    wanted, began = limits.steps or int(state["wanted"]), int(state["seed"])
    if wanted <= int(state["run"]["steps"]):
        log.warning("note: the saved run has made its %s steps; --steps counts those of all runs together", f"{state['run']['steps']:,}")
    if seed not in (None, began):
        raise UserError(f"the saved run's seed, {began}", str(seed), where=where, hint="leave --seed out", code=Code.BAD_RESUME)
    if env is not None:
        if data is not None:
            hint = f"it was trained in {model.environment}"
            raise UserError("no dataset", str(data), where=where, hint=hint, code=Code.BAD_RESUME)
        if isinstance(env, str) and env.endswith(OBJECT):
            got, hint = "its name alone", "give it again: train(resume=..., env=the_object)"
            raise UserError(f"the {env} that the model was trained in", got, where=where, hint=hint, code=Code.BAD_RESUME)
        if model.kind == "task":
            limits = Limits(steps=wanted, budget=limits.budget)
            return _on_task(env, model, began, limits, device, saved, report)
        engine = world_of(env, model.window)
        return train_in_engine(
            model, engine, began, wanted, device=device_of(device), budget=limits.budget, resumable=True, saved=saved, report=report
        )
    dataset = _same_dataset(model, data, where)
    weights = reweighted(dataset.components, dict(zip(model.components, state["weights"])), "the dataset")
    trained = train_on_log(
        dataset, model.settings, model.algorithm, where=dataset_place(dataset) or model.dataset, weights=weights, seed=began,
        limits=Limits(steps=wanted, budget=limits.budget), saved=saved, report=report, device=device_of(device),
    )  # fmt: skip
    return with_histories(trained, dataset, histories)


def _on_task(
    env: Environment, model: Model, seed: int, limits: Limits, device: str, saved: Mapping[str, bytes], report: StepCallback | None
) -> Model:
    engine = task_of(env)
    try:
        place = task_device(engine, device)
        return train_on_task(
            engine, name_of(env), model.settings, model.algorithm, seed=seed, limits=limits, device=place, saved=saved, report=report
        )
    finally:
        engine.close()


def dataset_place(data: Dataset) -> str | None:
    """The absolute directory of a dataset, None where it was never written."""
    return None if data.path is None else str(Path(data.path).absolute())


def _checkpoint(path: Path, manifest: dict[str, Any], model: Model, where: str) -> dict[str, bytes]:
    replayed = model.environment is not None or model.settings.replay.prioritised or model.settings.network.form == "linear_later"
    names = [checkpoint.TENSORS, checkpoint.STATE, *([checkpoint.REPLAY] if replayed else [])]
    if any(name not in manifest["files"] for name in names):
        raise UserError("a model with a checkpoint", "one without", where=where, hint="train it again", code=Code.NO_CHECKPOINT)
    return {name: read_checked(path, name, manifest) for name in names}


def _same_dataset(model: Model, data: Dataset | EventLog | str | Path | Frame | None, where: str) -> Dataset:
    """The dataset the model was trained from, at its old place or at the one given."""
    expected = "the dataset the model was trained from"
    if data is None and model.dataset is None:
        raise UserError(expected, "none", where=where, hint="give its directory", code=Code.NO_DATASET)
    dataset = dataset_of(str(model.dataset) if data is None else data)
    digest = model.provenance.dataset_sha256
    changed = digest is not None and dataset.sha256 != digest
    if changed or (dataset.vocabulary, dataset.components) != (model.vocabulary, model.components):
        place = dataset_place(dataset) or str(model.dataset)
        raise UserError(expected, "another one", where=place, hint=where, code=Code.OTHER_DATASET)
    return dataset
