"""Films: ratings with genres, and a list for somebody who is in no log. Run it: python examples/films.py

The log is made here: 100 people give films of three genres one to five stars, more of them to the genre that they like.
"""

import numpy as np
import polars as pl

import qurate

FILMS, PEOPLE, RATINGS = 60, 100, 20
GENRES = ["comedy", "crime", "science fiction"]


def make_log(seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Ratings, and films with title, genres (a list) and year."""
    rng = np.random.default_rng(seed)
    rows = []
    for person in range(PEOPLE):
        liked = int(rng.integers(3))
        for place, film in enumerate(rng.choice(FILMS, RATINGS, replace=False)):
            stars = int(np.clip(rng.normal(4.3 if film % 3 == liked else 2.2, 0.7), 1, 5))
            rows.append((f"p{person}", f"film{film}", stars, 1_600_000_000 + 86_400 * 9 * place + int(rng.integers(86_400))))
    ratings = pl.DataFrame(rows, schema=["user_id", "item_id", "rating", "timestamp"], orient="row").sort("timestamp")
    genres = [[GENRES[i % 3], "drama"] if i % 2 else [GENRES[i % 3]] for i in range(FILMS)]
    films = {"item_id": [f"film{i}" for i in range(FILMS)], "title": [f"{GENRES[i % 3].title()} {i}" for i in range(FILMS)]}
    return ratings, pl.DataFrame({**films, "genres": genres, "year": rng.integers(1960, 2024, FILMS)})


def main() -> None:
    """A rating is worth its stars; a newcomer of two films gets films like them."""
    ratings, films = make_log()
    dataset = qurate.build_dataset(ratings, rewards={"rating": {"weight": 1, "per": "value"}}, items=films)
    print(f"features of films: {dataset.item_features.shape[1]} numbers each")
    print(qurate.evaluate_many([qurate.train(dataset, steps=150, hidden=32), "content", "popularity"], dataset).to_dict()["sentence"])
    by_features = qurate.train(dataset, algorithm="content")
    liked = [("film0", 5, "2021-01-01T20:00:00Z"), ("film3", 5, "2021-01-02T20:00:00Z")]
    history = [{"item_id": item, "type": "rating", "value": stars, "timestamp": time} for item, stars, time in liked]
    title = dict(films.select("item_id", "title").iter_rows())
    print("after two comedies:", [title[one.item_id] for one in by_features.recommend(history=history, k=5, exclude=["seen"]).items])


if __name__ == "__main__":
    main()
