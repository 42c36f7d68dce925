"""Logs with a known structure, for what the real ones do not have: `python benchmarks/made_logs.py grocery -o grocery.csv`.

* grocery: weekly baskets of 300 customers; each buys some staples every one to four weeks, and a few other things.
* library: plays of 450 listeners, four of five out of a library of 45 tracks of their own.
* purchases: 2 % of the events are purchases; half of the 2,000 products are clicked three times as often and never bought.
"""

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

DAY = 86_400
BEGIN = 1_720_000_000
"""Seconds after 1970."""
Row = tuple[object, ...]


def grocery(seed: int = 2, customers: int = 300, items: int = 1_500) -> Iterator[Row]:
    rng = np.random.default_rng(seed)
    popular = rng.zipf(1.6, items).astype(float).clip(1, 300)
    popular /= popular.sum()
    yield "user_id", "item_id", "timestamp"
    for customer in range(customers):
        staples = rng.choice(items, size=rng.integers(8, 20), replace=False, p=popular)
        every = rng.choice([1, 1, 1, 2, 3, 4], len(staples))
        phase, day = rng.integers(0, 4, len(staples)), rng.integers(0, 7)
        for week in range(26 - rng.integers(6, 27), 26):
            if rng.random() < 0.1:
                continue
            due = [item for item, n, first in zip(staples, every, phase) if (week + first) % n == 0 and rng.random() < 0.85]
            basket = [*dict.fromkeys([*due, *rng.choice(items, size=rng.poisson(2), p=popular)])]
            rng.shuffle(basket)
            yield from ((f"k{customer}", f"sku{item}", int(BEGIN + (7 * week + day) * DAY)) for item in basket)


def library(seed: int = 11, listeners: int = 450, items: int = 3_000) -> Iterator[Row]:
    rng = np.random.default_rng(seed)
    genre, popular = rng.integers(0, 25, items), rng.zipf(1.7, items).clip(1, 200).astype(float)
    yield "user_id", "item_id", "timestamp"
    for listener in range(listeners):
        weight = popular * np.where(np.isin(genre, rng.choice(25, 3, replace=False)), 30, 1)
        weight /= weight.sum()
        own, often = rng.choice(items, 45, replace=False, p=weight), rng.dirichlet(np.ones(45))
        time = BEGIN + rng.uniform(0, 40 * DAY)
        for _ in range(rng.integers(4, 16)):
            for _ in range(rng.integers(4, 14)):
                known = rng.random() < 0.8
                yield f"m{listener}", f"tr{rng.choice(own, p=often) if known else rng.choice(items, p=weight)}", int(time)
                time += 200
            time += rng.exponential(2 * DAY)


def purchases(seed: int = 5, visitors: int = 6_000, items: int = 2_000) -> Iterator[Row]:
    rng = np.random.default_rng(seed)
    kind, clicky = rng.integers(0, 40, items), rng.random(items) < 0.5
    of_kind = [np.flatnonzero(kind == one) for one in range(40)]
    yield "user_id", "type", "item_id", "timestamp"
    for visitor in range(visitors):
        wanted, time = rng.integers(0, 40), BEGIN + rng.uniform(0, 30 * DAY)
        for _ in range(1 + rng.poisson(0.5)):
            for _ in range(2 + rng.geometric(0.25)):
                weight = np.where(clicky[of_kind[wanted]], 3.0, 1.0)
                item = rng.choice(of_kind[wanted], p=weight / weight.sum())
                yield f"v{visitor}", "click", item, int(time)
                time += rng.exponential(40) + 2
                if not clicky[item] and rng.random() < 0.08:
                    yield f"v{visitor}", "purchase", item, int(time)
                    time += 30
            time += rng.exponential(5 * DAY)
            wanted = rng.integers(0, 40) if rng.random() < 0.3 else wanted


LOGS = {"grocery": grocery, "library": library, "purchases": purchases}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", choices=LOGS)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    with args.output.open("w", newline="") as file:
        csv.writer(file).writerows(LOGS[args.log]())


if __name__ == "__main__":
    main()
