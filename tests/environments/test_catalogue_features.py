"""Features made without polars equal those that a dataset gets from the same table, bit for bit."""

import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from qurate.environments.catalogue_features import catalogue_features
from qurate.environments.scenarios.shop import Shop
from qurate.events.features import feature_matrix, feature_names


def same_as_of_a_dataset(columns: dict[str, np.ndarray]) -> int:
    """Compares the two; the number of features."""
    features, names = catalogue_features(columns)
    expected, spec = feature_matrix(pl.DataFrame(columns))
    assert names == feature_names(spec)
    assert features.dtype == np.float32 and features[1:].tobytes() == expected.tobytes() and not features[0].any()
    return len(names)


@pytest.mark.parametrize("n_items", [2, 3, 19, 20, 41, 300, 1_000, 4_000])
@pytest.mark.parametrize("world_seed", [0, 1, 2])
def test_features_of_shops(n_items: int, world_seed: int) -> None:
    shop = Shop(n_items, world_seed=world_seed)
    assert same_as_of_a_dataset(shop._columns()) == len(shop.feature_names)
    assert shop.item_features.shape == (n_items + 1, len(shop.feature_names))


def test_features_of_odd_columns() -> None:
    rng = np.random.default_rng(0)
    many = np.array([f"v{i:03d}" for i in rng.integers(0, 90, 400)])
    assert same_as_of_a_dataset({"many": many}) == 64, "the most frequent ones"
    assert same_as_of_a_dataset({"title": np.array([f"t{i}" for i in range(400)])}) == 0, "titles say nothing"
    rare = np.array([f"t{i}" for i in range(390)] + ["rare"] * 10)
    assert same_as_of_a_dataset({"title": rare}) == 0, "covers less than a tenth"
    assert same_as_of_a_dataset({"ties": np.array(["b", "a", "b", "a", "c"]), "one": np.full(5, "x")}) == 2
    outlier = np.r_[rng.normal(size=999), 1e9]
    assert same_as_of_a_dataset({"constant": np.full(1000, 3.0), "outlier": outlier}) == 1
    assert catalogue_features({"outlier": outlier})[0].max() == 10, "clipped"


def test_a_world_is_made_and_played_without_a_call_into_polars() -> None:
    """In a forked worker such a call would wait for ever (tests/environments/test_to_gymnasium.py)."""
    code = """
import numpy as np, polars as pl
from qurate.environments.registry import make_env
from qurate.environments.worlds import WORLDS

def refused(*arguments, **named):
    raise AssertionError("polars was called")

for owner in (pl.DataFrame, pl.Series, pl.LazyFrame):
    owner.__init__ = refused
for name in [name for name, record in WORLDS.items() if not record.needs_source]:
    env = make_env(name)
    env.reset(seed=0)
    env.step(0)
print("played")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "played\n", done.stderr
