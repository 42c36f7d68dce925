"""A live platform: rooms can be recommended only while they stream. Run it: python examples/live.py

The log is made here. The table of items says when each room is on air (`available_from`, `available_until`); the reward is the
time watched, up to ten minutes.
"""

import numpy as np
import polars as pl

import qurate

ROOMS, VIEWERS, HOUR = 60, 100, 3600
START = 1_717_200_000
DAY = 24 * HOUR


def make_log(seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Events of type watch with the seconds watched, and the rooms."""
    rng = np.random.default_rng(seed)
    begins = START + rng.integers(0, 2 * DAY - 6 * HOUR, ROOMS)
    ends = begins + rng.integers(3 * HOUR, 12 * HOUR, ROOMS)
    topic = rng.integers(0, 3, ROOMS)
    rows = []
    for viewer in range(VIEWERS):
        liked = int(rng.integers(3))
        for time in np.sort(START + HOUR + rng.integers(0, 2 * DAY - HOUR, 25)):
            on_air = np.flatnonzero((begins <= time) & (time < ends))
            if len(on_air):
                room = int(rng.choice(on_air))
                seconds = float(rng.exponential(400 if topic[room] == liked else 40))
                rows.append((f"v{viewer}", f"room{room}", "watch", int(time), round(seconds, 1)))
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "type", "timestamp", "value"], orient="row").sort("timestamp")
    rooms = pl.DataFrame({"item_id": [f"room{i}" for i in range(ROOMS)], "topic": [f"topic {t}" for t in topic]})
    times = {"available_from": pl.from_epoch(pl.Series(begins)), "available_until": pl.from_epoch(pl.Series(ends))}
    return log, rooms.with_columns(**{name: value.dt.replace_time_zone("UTC") for name, value in times.items()})


def main() -> None:
    """Trains on minutes watched, and asks who is recommended now."""
    log, rooms = make_log()
    watched = {"watch": {"weight": 1 / 60, "per": "value", "cap": 600}}
    dataset = qurate.build_dataset(log, rewards=watched, items=rooms, episode="user")
    model = qurate.train(dataset, steps=150, hidden=32)
    end = pl.select(pl.from_epoch(pl.lit(log["timestamp"].max()))).item()
    open_rooms = rooms.filter(pl.col("available_until").dt.replace_time_zone(None) > end)["item_id"].to_list()
    decision = model.recommend(user="v0", k=3)
    print(f"{len(open_rooms)} of {ROOMS} rooms are on air when the log ends; v0 is shown", [one.item_id for one in decision.items])
    assert {one.item_id for one in decision.items} <= set(open_rooms)


if __name__ == "__main__":
    main()
