"""A news site: lists that were shown and what was clicked; new articles are known by their text features. Run it:
python examples/news.py

The log is made here, one row a page: the list, and 0 or 1 for each article of it. It is of kind exposure.
"""

import numpy as np
import polars as pl

import qurate

ARTICLES, READERS, PAGES, SHOWN = 90, 80, 20, 5
SECTIONS = ["politics", "sport", "culture"]


def make_log(seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Pages with what they showed, and the articles with section and length."""
    rng = np.random.default_rng(seed)
    rows = []
    for reader in range(READERS):
        liked, time = int(rng.integers(3)), 1_717_200_000
        for page in range(PAGES):
            time += int(rng.exponential(6 * 3600))
            newest = ARTICLES // 3 + page * (2 * ARTICLES // 3) // PAGES
            list_ = rng.choice(np.arange(newest - 25, newest), SHOWN, replace=False)
            clicked = (rng.random(SHOWN) < np.where(list_ % 3 == liked, 0.4, 0.05)).astype(int)
            rows.append((f"r{reader}", time, [f"a{i}" for i in list_], clicked.tolist()))
    log = pl.DataFrame(rows, schema=["user_id", "timestamp", "shown", "clicked"], orient="row").sort("timestamp")
    sections, words = [SECTIONS[i % 3] for i in range(ARTICLES)], rng.integers(100, 1500, ARTICLES)
    return log, pl.DataFrame({"item_id": [f"a{i}" for i in range(ARTICLES)], "section": sections, "words": words})


def main() -> None:
    """Reads the lists, trains, compares with what a plain rule says."""
    log, articles = make_log()
    read = qurate.read_events(log)
    print(read)
    dataset = qurate.build_dataset(read, rewards={"click": 1}, items=articles)
    model = qurate.train(dataset, steps=150, hidden=32)
    report = qurate.evaluate_many([model, "popularity", "content"], dataset)
    print(report.to_dict()["sentence"])
    print("a reader of sport:", model.recommend(history=[{"item_id": "a1", "type": "click", "timestamp": "2024-06-05T08:00:00Z"}], k=3))


if __name__ == "__main__":
    main()
