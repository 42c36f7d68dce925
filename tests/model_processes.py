"""What tests of models do in a process of its own: it is killed while it saves, its disk is full, its notes are read."""

import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from qurate import files
from qurate.cli.app import main
from qurate.environments.registry import make_engine
from qurate.models import directory as storage
from qurate.models.model import Model, load
from qurate.settings import from_flat
from qurate.training.in_environment import fresh_model


def untrained(seed: int) -> Model:
    """A small model at once."""
    settings = from_flat({"hidden": 8, "embedding_dim": 4, "window": 4})
    return fresh_model(make_engine("toy_chain", window=4), settings, "dqn", seed, "toy_chain")


def killed(when: str, where: Path, say: Callable[[Any], None]) -> None:
    """Saves `untrained(1)` and dies while it writes, between the two renames, or after them."""
    rename, write = os.rename, storage.write_file

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def move(a: Any, b: Any) -> None:
        if when == "between" and str(a).endswith(files.TMP):
            die()
        rename(a, b)
        if when == "after" and str(a).endswith(files.TMP):
            die()

    def put(path: Path, data: Any) -> None:
        if when == "writing" and path.name == "rewards.json":
            die()
        write(path, data)

    files.os.rename, storage.write_file = move, put  # type: ignore[attr-defined, assignment]
    untrained(1).save(where)


def full(arguments: Sequence[str], say: Callable[[Any], None]) -> None:
    """`qurate ARGUMENTS` on a disk that is full as soon as a model is written."""
    write = storage.write_file

    def limited(path: Path, data: Any) -> None:  # training is over: from here on the disk is full
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        write(path, data)

    storage.write_file = limited  # type: ignore[assignment]
    sys.exit(main(arguments))


def ask_without_dataset(saved: Path, say: Callable[[Any], None]) -> None:
    """Two recommendations by a model that keeps no histories and whose dataset is gone."""
    model = replace(load(saved).with_provenance(dataset="/gone"), histories=None)
    for user in "ab":
        model.recommend(user, 1)
