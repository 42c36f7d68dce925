"""Advertisements: a log of what was shown with its probability, the one from which other policies can be judged. Run it:
python examples/ads.py

The log is made here as an ad server with 10 % random answers would write it: one row an impression, with the ad, the
probability with which it was chosen, and whether it was clicked.
"""

import numpy as np
import polars as pl

import qurate

ADS, PEOPLE, IMPRESSIONS, RANDOM = 12, 150, 20, 0.1


def make_log(seed: int = 0) -> pl.DataFrame:
    """Impressions under the names that a bandit's table has: action, reward, propensity."""
    rng = np.random.default_rng(seed)
    rows = []
    for person in range(PEOPLE):
        liked, favourite, time = int(rng.integers(3)), int(rng.integers(ADS)), 1_717_200_000
        for _ in range(IMPRESSIONS):
            time += int(rng.exponential(3600))
            at_random = rng.random() < RANDOM
            ad = int(rng.integers(ADS)) if at_random else favourite
            probability = RANDOM / ADS + (1 - RANDOM if ad == favourite else 0)
            click = int(rng.random() < (0.3 if ad % 3 == liked else 0.02))
            rows.append((f"p{person}", time, f"ad{ad}", click, probability))
            favourite = ad if click else favourite
    return pl.DataFrame(rows, schema=["user_id", "timestamp", "item_id", "click", "propensity"], orient="row").sort("timestamp")


def main() -> None:
    """The kind of log, a model of it, and a list with the probability of each place."""
    log = qurate.read_events(make_log())
    print(log)
    assert log.kind == "logged"
    dataset = qurate.build_dataset(log, rewards={"click": 1})
    model = qurate.train(dataset, steps=150, hidden=32)
    print(f"MRR among {ADS} ads: {qurate.evaluate(model, dataset).to_dict()['metrics']['MRR']['mean']:.3f}")
    for one in model.recommend(user="p0", k=3).items:
        print(f"{one.item_id}: worth {one.score:.3f}, shown with probability {one.propensity:.2f}")


if __name__ == "__main__":
    main()
