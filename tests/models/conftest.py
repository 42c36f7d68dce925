"""A small model trained from a log of clicks and purchases, with features of items and customers."""

from pathlib import Path

import polars as pl
import pytest
from mdp_logs import event, make_log

from qurate.mdp.dataset import build_dataset
from qurate.mdp.storage import Dataset
from qurate.models.model import Model, load
from qurate.training.train import train

DAY, ITEMS = 86_400, 15
SETTINGS = {"hidden": 16, "embedding_dim": 8, "window": 6, "batch_size": 32}


def small_dataset(out: Path, users: int = 160) -> Dataset:
    """Customers who click through a catalogue of two categories over several visits, and buy now and then."""
    rows = []
    for user in range(users):
        for step in range(10):
            kind = "purchase" if (user + step) % 5 == 4 else "click"
            rows.append(event(f"u{user}", f"i{(user * 3 + step * step) % ITEMS:02d}", 1.7e9 + user * 977 + step * 2 * DAY / 3, kind))
    names = [f"i{i:02d}" for i in range(ITEMS)]
    items = pl.DataFrame({"item_id": names, "kind": ["a", "b", "b"] * 5, "price": [float(i) for i in range(ITEMS)]})
    people = pl.DataFrame({"user_id": [f"u{i}" for i in range(users)], "region": ["north", "south"] * (users // 2)})
    return build_dataset(make_log(rows, items=items, users=people), episode="user", out=out)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a saved model; treat it as read-only."""
    folder = tmp_path_factory.mktemp("model")
    small_dataset(folder / "dataset")
    train(folder / "dataset", steps=40, **SETTINGS).save(folder / "model")
    return folder / "model"


@pytest.fixture(scope="session")
def model(saved: Path) -> Model:
    return load(saved)
