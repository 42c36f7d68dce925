"""A log read twice, by two processes, is the same dataset: the order of polars' groups and joins must not matter."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl

BUILD = """
import sys
from qurate.events.readers import read_events
from qurate.mdp.dataset import build_dataset
print(build_dataset(read_events(sys.argv[1]), rewards={"click": 1}, out=sys.argv[2]).sha256)
"""


def test_two_processes_make_the_same_dataset_of_a_log_with_features(tmp_path: Path) -> None:
    rng, n = np.random.default_rng(0), 20_000
    items = rng.integers(0, 3_000, n)
    log = pl.DataFrame(
        {
            "event_time": pl.Series(1_700_000_000 + np.sort(rng.integers(0, 86_400, n))).cast(pl.String),
            "event_type": ["view"] * n,
            "product_id": items.astype(str),
            "user_id": rng.integers(0, 500, n).astype(str),
            "brand": (items % 7).astype(str),
            "price": (items % 11).astype(float),
        }
    ).with_columns(pl.Series("event_type", np.where(rng.random(n) < 0.5, "view", "click")))
    log.write_csv(tmp_path / "events.csv")
    told = [
        subprocess.run(
            [sys.executable, "-c", BUILD, str(tmp_path / "events.csv"), str(tmp_path / f"d{i}")], capture_output=True, text=True, check=True
        ).stdout
        for i in range(3)
    ]
    assert told[0] and len(set(told)) == 1
