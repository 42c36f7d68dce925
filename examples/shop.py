"""A shop: views and purchases become a recommender that does not show again what was bought. Run it: python examples/shop.py

The log is made here: 120 customers who each like one category, look around in it, and sometimes buy.
"""

import numpy as np
import polars as pl

import qurate

CATEGORIES = ["shoes", "bags", "coats", "hats"]
CUSTOMERS, VIEWS, ITEMS = 120, 40, 80


def make_log(seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Events, and the table of items with title, category and price."""
    rng = np.random.default_rng(seed)
    price = rng.uniform(5, 200, ITEMS).round(2)
    titles = [f"{CATEGORIES[i % 4]} no. {i}" for i in range(ITEMS)]
    items = pl.DataFrame({"item_id": [f"sku{i}" for i in range(ITEMS)], "title": titles, "price": price})
    items = items.with_columns(category=pl.Series([CATEGORIES[i % 4] for i in range(ITEMS)]))
    rows = []
    for customer in range(CUSTOMERS):
        liked, time = int(rng.integers(4)), 1_717_200_000 + int(rng.integers(86_400))
        for _ in range(VIEWS):
            time += int(rng.exponential(86_400 / 4))
            item = int(rng.integers(ITEMS // 4)) * 4 + (liked if rng.random() < 0.8 else int(rng.integers(4)))
            rows.append((f"c{customer}", f"sku{item}", "view", time, None))
            if item % 4 == liked and rng.random() < 0.15:
                rows.append((f"c{customer}", f"sku{item}", "purchase", time + 60, price[item]))
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "type", "timestamp", "value"], orient="row")
    return log.sort("timestamp"), items


def main() -> None:
    """Log -> dataset -> two models -> which one -> a list."""
    log, items = make_log()
    dataset = qurate.build_dataset(log, rewards={"view": 1, "purchase": 10}, items=items)
    print(dataset)
    model = qurate.train(dataset, steps=150, hidden=32)
    report = qurate.evaluate_many([model, "popularity", "item_knn"], dataset)
    print(report.to_dict()["sentence"])
    bought = log.filter(pl.col("type") == "purchase", pl.col("user_id") == "c0")["item_id"].to_list()
    decision = model.recommend(user="c0", k=5, exclude=["purchased"])
    shown = [one.item_id for one in decision.items]
    assert not set(shown) & set(bought)
    title = dict(items.select("item_id", "title").iter_rows())
    print("c0 bought", ", ".join(title[one] for one in bought) or "nothing", "and is shown", ", ".join(title[one] for one in shown))


if __name__ == "__main__":
    main()
