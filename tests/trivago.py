"""The clickouts of the trivago log as observations, read with polars alone (independent of the package's readers)."""

from pathlib import Path

import numpy as np
import polars as pl

from qurate.types import Actions, Observation, State, take_rows


def clickouts(path: Path, window: int = 20) -> tuple[Observation, np.ndarray]:
    """All clickouts whose item is in the list: history = items referred to earlier in the session; target position [B]."""
    log = pl.read_parquet(path).sort("session_id", "step")
    log = log.with_columns(pl.col("reference").cast(pl.Int64, strict=False).alias("number"))
    listed = log["impressions"].explode().drop_nulls()
    names = pl.concat([listed, log["number"].drop_nulls()]).unique().sort()
    index = pl.DataFrame({"number": names, "item": np.arange(1, len(names) + 1)})
    log = log.join(index, on="number", how="left", maintain_order="left")
    touched = (
        log["action_type"]
        .cast(pl.String)
        .is_in(
            [
                "interaction item info",
                "interaction item rating",
                "interaction item image",
                "interaction item deals",
                "search for item",
                "clickout item",
            ]
        )
    )
    item = np.where(touched.to_numpy(), log["item"].fill_null(0).to_numpy(), 0)
    session = log["session_id"].rank("dense").to_numpy()
    rows = np.flatnonzero((log["action_type"].cast(pl.String) == "clickout item").to_numpy())
    candidates = np.zeros((len(rows), 25), np.int64)
    for at, numbers in enumerate(log["impressions"].gather(rows).to_list()):
        candidates[at, : len(numbers)] = np.searchsorted(names.to_numpy(), numbers) + 1
    back = rows[:, None] - np.arange(window, 0, -1)
    history = np.where((back >= 0) & (session[back] == session[rows][:, None]), item[back], 0)
    history = np.take_along_axis(history, np.argsort(history > 0, axis=1, kind="stable"), 1)  # rows without an item to the left
    hit = candidates == item[rows][:, None]
    keep = hit.any(axis=1)
    nothing = np.zeros(history.shape, np.float32)
    state = State(history, (history > 0).astype(np.int64), nothing, nothing, nothing[:, :0], nothing[:, :2])
    actions = Actions(candidates[keep], (candidates > 0).astype(np.int8)[keep])
    return Observation(take_rows(state, keep), actions), hit[keep].argmax(axis=1)
