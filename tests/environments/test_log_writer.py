"""The written log: an ordinary log with exact propensities, from which ingest rebuilds what the simulator knew."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from qurate.baselines.registry import random_policy
from qurate.environments.arrivals import EPOCH_US
from qurate.environments.engine import BatchedEngine
from qurate.environments.log_writer import of_items, simulate
from qurate.environments.registry import make_engine
from qurate.environments.scenarios.shop import Shop
from qurate.errors import UserError
from qurate.events.readers import read_events
from qurate.mdp.dataset import build_dataset
from qurate.mdp.states import gather_state
from qurate.types import ALWAYS, NEVER, Availability, Observation


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_every_format_reads_back_as_the_same_logged_log(tmp_path: Path, suffix: str) -> None:
    done = simulate(make_engine("shop"), random_policy(), 40, 60, 7, tmp_path / f"events.{suffix}")
    log = read_events(tmp_path / f"events.{suffix}")
    assert log.kind == "logged" and log.rejects.height == 0
    events, decisions = log.events.collect(), log.decisions.collect()
    assert events.height == done["rows"] and decisions.height == done["shown"]
    assert set(events["type"]) <= {"click", "cart", "purchase"}
    assert decisions["propensity"].list.first().to_numpy() == pytest.approx(1 / 300)
    joined = events.join(decisions.select("decision_id", "shown", shown_at="timestamp"), on="decision_id")
    assert joined.height == events.height, "every event names a decision that exists"
    assert (joined["shown"].list.first() == joined["item_id"]).all() and (joined["timestamp"] > joined["shown_at"]).all()
    assert pl.read_parquet(done["items"]).height == 300 if suffix == "parquet" else Path(done["items"]).exists()


def test_totals_equal_the_engine(tmp_path: Path) -> None:
    """The log holds exactly the events of the customers' first episodes: same counts by type as a rollout."""
    n = 1500  # two batches
    done = simulate(make_engine("shop"), random_policy(), n, 20, 3, tmp_path / "log.parquet")
    assert Path(done["decisions"]).name == "log.decisions.parquet"
    events, decisions = pl.read_parquet(done["events"]), pl.read_parquet(done["decisions"])
    actions = {}
    for row in decisions.select("decision_id", "shown").iter_rows():
        actions[row[0]] = int(row[1][0].split("_")[1]) - 1
    engine = make_engine("shop", observe=False)
    engine.reset(3, n)
    here, totals = np.ones(n, bool), np.zeros(3)
    for step in range(20):
        chosen = [actions.get(f"u3_{lane:06d}-{step}", 0) for lane in range(n)]
        assert here.sum() == sum(f"u3_{lane:06d}-{step}" in actions for lane in range(n))
        feedback = engine.step(np.array(chosen))
        totals += feedback.components[here].sum(axis=0)
        here &= ~feedback.terminated
    counts = dict(events["type"].value_counts().iter_rows())
    assert [counts[name] for name in ("click", "cart", "purchase")] == totals.tolist()
    assert events["event_id"].n_unique() == events.height


def test_ingest_rebuilds_what_the_policy_saw(tmp_path: Path) -> None:
    """Simulated log -> dataset -> states equals the engine's observations bit for bit; rewards add up; features agree."""
    n = 60

    class Recorder:
        name, seen = "random", list[Observation]()

        def act(self, observation, rng):  # type: ignore[no-untyped-def]
            self.seen.append(Observation(*(type(part)(*map(np.array, part)) for part in observation)))
            return random_policy().act(observation, rng)

    engine, policy = make_engine("shop"), Recorder()
    done = simulate(engine, policy, n, 60, 5, tmp_path / "events.csv")
    dataset = build_dataset(read_events(done["events"]), split="time", churn_after="7d")
    assert list(dataset.vocabulary.items) == engine.item_ids and list(dataset.vocabulary.types) == engine.type_names
    assert np.array_equal(dataset.item_features, engine.item_features)
    assert dataset.components == engine.component_names and np.array_equal(dataset.weights, engine.component_weights)
    t, arrays = dataset.transitions, dataset.arrays
    assert len(t.history_end) == done["shown"]
    lane = np.array([int(name.split("_")[1]) for name in dataset.user_ids])[t.user]
    step = np.arange(len(t.user)) - np.searchsorted(t.user, t.user)
    state = gather_state(
        arrays, arrays.user_start[t.user], t.history_end, t.clock, engine.window, np.zeros((len(t.history_end), 0), np.float32)
    )
    for name in ("history_items", "history_types", "history_gaps", "history_values", "context"):
        expected = np.stack([getattr(policy.seen[s].state, name)[i] for i, s in zip(lane, step)])
        assert np.array_equal(getattr(state, name), expected), name
    events = pl.read_csv(done["events"])
    assert (t.reward * dataset.weights).sum() == sum({"click": 1, "cart": 2, "purchase": 5}[kind] for kind in events["type"])


def test_users_and_items_are_written_as_a_shop_would_export_them(tmp_path: Path) -> None:
    done = simulate(make_engine("shop", n_items=50), random_policy(), 30, 5, 0, tmp_path / "a" / "events.csv")
    users, items = pl.read_csv(done["users"]), pl.read_csv(done["items"])
    assert users.columns == ["user_id", "segment", "price_band"] and set(users["price_band"]) <= {"low", "middle", "high"}
    assert items.columns == ["item_id", "category", "price", "rating", "discount"] and items.height == 50
    first = make_engine("shop", n_items=50).reset(0, 30).state.user
    assert users["segment"].to_list() == ["abcdef"[i] for i in first[:, :6].argmax(axis=1)]


def test_lists_of_candidates_hold_no_padding(tmp_path: Path) -> None:
    world = Shop(8)
    since = np.r_[NEVER, np.full(3, ALWAYS), np.full(5, EPOCH_US + 45 * 86_400_000_000)]
    world.availability = Availability(since, np.full(9, NEVER))
    done = simulate(BatchedEngine(world, n_candidates=6), random_policy(), 200, 2, 0, tmp_path / "log.parquet")
    decisions = pl.read_parquet(done["decisions"])
    lengths = decisions["candidates"].list.len()
    assert set(lengths) == {3, 6} and set(decisions["candidates"].explode()) == set(world.item_ids)
    assert decisions["propensity"].list.first().to_numpy() == pytest.approx(1 / lengths.to_numpy())


def test_slates_and_candidates_are_written(tmp_path: Path) -> None:
    class Slates:
        name = "slates"

        def act(self, observation, rng):  # type: ignore[no-untyped-def]
            n, k = observation.actions.candidates.shape
            return np.argsort(rng.random((n, k)), axis=1)[:, :3], np.tile(1 / (k - np.arange(3)), (n, 1))

    done = simulate(make_engine("shop", slate_size=3, n_candidates=20), Slates(), 25, 30, 0, tmp_path / "events.parquet")
    decisions = pl.read_parquet(done["decisions"])
    assert (decisions["shown"].list.len() == 3).all() and (decisions["candidates"].list.len() == 20).all()
    assert decisions["propensity"].list.last().to_numpy() == pytest.approx(1 / 18)
    inside = decisions.select(pl.col("shown").list.set_intersection("candidates").list.len() == 3)
    assert inside.to_series().all()


def test_bad_output_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ending in"):
        simulate(make_engine("shop"), random_policy(), 1, 1, 0, tmp_path / "log.txt")
    with pytest.raises(UserError, match="users and steps of at least 1"):
        simulate(make_engine("shop"), random_policy(), 0, 1, 0, tmp_path / "log.csv")


def test_probabilities_of_items_of_which_several_are_offered_by_hand() -> None:
    candidates = np.array([[1, 1, 2], [1, 1, 2], [1, 1, 2], [3, 3, 3]])
    shown = np.array([[1, 2], [1, 1], [2, 1], [3, 3]])
    of_positions = np.array([[1 / 3, 1 / 2]] * 4)
    expected = [[2 / 3, 1 / 2], [2 / 3, 1 / 2], [1 / 3, 1], [1, 1]]
    assert of_items(of_positions, shown, candidates) == pytest.approx(np.array(expected))
    assert of_items(np.ones((4, 2)), shown, candidates).tolist() == [[1, 1]] * 4, (
        "a policy that is sure of its position is sure of its item"
    )


@pytest.mark.parametrize("world", ["long_term_satisfaction", "interest_evolution", "live"])
def test_weights_by_the_written_probabilities_are_one_on_average(world: str, tmp_path: Path) -> None:
    """Of a policy that shows each distinct candidate alike, weighted by what the log says; 1.27 by the probabilities of positions."""
    done = simulate(make_engine(world), random_policy(), 300, 40, 5, tmp_path / "log.parquet")
    table = pl.read_parquet(done["decisions"])
    weight = (1 / table["candidates"].list.n_unique() / table["propensity"].list.first()).to_numpy()
    assert abs(weight.mean() - 1) < 4 * weight.std() / np.sqrt(len(weight)) + 1e-9
