"""What is seen of each candidate where the catalogue turns over: by hand, at every face, and the same from the written log."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from qurate.baselines.registry import random_policy
from qurate.environments.engine import BatchedEngine
from qurate.environments.log_writer import simulate
from qurate.environments.registry import make_engine, make_env, make_vector_env
from qurate.environments.scenarios.shop import Shop
from qurate.events.readers import read_events
from qurate.mdp.candidate_features import feature_names, observed_features
from qurate.mdp.dataset import build_dataset
from qurate.replay.writers import store_from_log
from qurate.testing.envs import check_env
from qurate.types import ALWAYS, NEVER, Availability, Observation

COLUMNS = {"news": ("age_hours",), "live": ("age_hours", "heat")}
HOUR = 3_600_000_000

both = pytest.mark.parametrize("world", COLUMNS)


@both
def test_age_and_what_the_world_shows_by_hand(world: str) -> None:
    engine = make_engine(world)
    observation = engine.reset(0, 200)
    assert engine.candidate_columns == COLUMNS[world]
    for step in range(8):
        candidates, mask, values, columns = observation.actions
        assert columns == COLUMNS[world] and values is not None and values.dtype == np.float32
        assert values.shape == (*candidates.shape, len(columns)) and not values[mask == 0].any()
        for lane in (0, 57, 199):
            for place in np.flatnonzero(mask[lane]).tolist():
                item = int(candidates[lane, place])
                age = (int(engine.clock[lane]) - int(engine.availability.since[item])) / HOUR
                assert values[lane, place, 0] == np.float32(age) and 0 <= age < 13
                if world == "live":
                    rooms = engine.world.rooms  # type: ignore[attr-defined]
                    assert values[lane, place, 1] == rooms.heat[item, int(age * 6)], "the crowd of these ten minutes"
        observation = engine.step(np.full(200, step % 3)).obs
    assert len(np.unique(values[:, :, 0])) > 1_000


@both
def test_nothing_of_the_future_is_seen(world: str) -> None:
    """Rooms and articles that stay twice as long are seen as the same."""
    engine, other = make_engine(world), make_engine(world)
    observation = engine.reset(0, 50)
    since, until = other.availability.since, other.availability.until
    other.availability = Availability(since, np.where(until == NEVER, NEVER, 2 * until - since))
    assert other.candidate_values is not None and engine.candidate_values is not None
    seen = type(other.candidate_values)(other.world, other.availability).actions(
        observation.actions.candidates, observation.actions.mask, engine.clock
    )
    assert np.array_equal(seen.values, observation.actions.values)


@both
def test_after_a_cut_the_values_are_those_of_the_customer_who_was_cut(world: str) -> None:
    engine = make_engine(world, max_steps=1)
    engine.keep_final = True
    engine.reset(3, 60)
    feedback = engine.step(np.zeros(60, np.int64))
    final = feedback.final_actions
    assert final is not None and final.values is not None and engine.final is not None and feedback.truncated.sum() > 30
    for lane in np.flatnonzero(feedback.truncated)[:5].tolist():
        open_now = final.candidates[lane] > 0
        age = (feedback.clock[lane] - engine.availability.since[final.candidates[lane][open_now]]) / HOUR
        assert np.array_equal(final.values[lane, open_now, 0], age.astype(np.float32))
        assert np.array_equal(engine.final.actions.values[lane], final.values[lane])  # type: ignore[index]


@pytest.mark.parametrize("made", [
    lambda: make_engine("shop"), lambda: make_engine("shop", n_candidates=20), lambda: make_engine("interest_evolution"),
    lambda: make_engine("news", n_items=100, n_candidates=100),
])  # fmt: skip
def test_where_nothing_turns_over_or_the_catalogue_is_offered_there_are_none(made) -> None:  # type: ignore[no-untyped-def]
    engine = made()
    assert engine.candidate_columns == () and engine.reset(0, 2).actions.values is None


def test_what_was_always_there_is_as_old_as_the_world() -> None:
    world = Shop(8)
    world.availability = Availability(np.r_[NEVER, np.full(7, ALWAYS), 0], np.full(9, NEVER))
    engine = BatchedEngine(world, n_candidates=6)
    values = engine.reset(0, 20).actions.values
    assert values is not None and np.isfinite(values).all() and (values >= 0).all()


@both
def test_the_faces_carry_it(world: str) -> None:
    check_env(make_engine(world))
    env, many = make_env(world), make_vector_env(world, 3)
    check_env(env)
    one, _ = env.reset(seed=5)
    all_, _ = many.reset(seed=5)
    shape = (env.observation_space["candidates"].shape[0], len(COLUMNS[world]))  # type: ignore[index]
    assert one["candidate_features"].shape == shape and all_["candidate_features"].shape == (3, *shape)
    for step in range(30):
        assert many.observation_space.contains(all_) and np.array_equal(all_["candidate_features"][0], one["candidate_features"])
        one, _, terminated, truncated, _ = env.step(step % 2)
        all_, _, _, _, infos = many.step(np.full(3, step % 2))
        if terminated or truncated:
            assert np.array_equal(infos["final_obs"][0]["candidate_features"], one["candidate_features"])
            break
    assert "candidate_features" not in make_env("shop").observation_space.spaces  # type: ignore[attr-defined]


@both
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_the_log_gives_the_features_that_were_observed(tmp_path: Path, world: str, suffix: str) -> None:
    """Age, times shown and how long ago, and all others: what was seen online is what is learned from the log.

    Bit for bit but for a place among the others of the list, whose sums run over lists of another width.
    """

    class Recorder:
        name, seen = "repeating", list[Observation]()

        def act(self, observation, rng):  # type: ignore[no-untyped-def]
            self.seen.append(Observation(type(observation.state)(*map(np.array, observation.state)), observation.actions))
            return random_policy().act(observation._replace(actions=observation.actions._replace(mask=self.few(observation))), rng)

        def few(self, observation):  # type: ignore[no-untyped-def]
            """The first three alone, so that articles come again."""
            mask = np.array(observation.actions.mask)
            mask[:, 3:] = 0
            return mask

    engine, policy = make_engine(world), Recorder()
    policy.seen = []
    done = simulate(engine, policy, 40, 25, 5, tmp_path / f"events.{suffix}")
    rewards = {name: float(weight) for name, weight in zip(engine.component_names, engine.component_weights)}
    dataset = build_dataset(read_events(done["events"]), rewards=rewards, episode="user")
    assert dataset.candidate_columns == COLUMNS[world]
    if suffix == "csv":
        written = pl.read_csv(done["decisions"])["candidate.age_hours"].str.json_decode(pl.List(pl.Float64)).explode()
        assert written.cast(pl.String).str.len_chars().max() <= 14, "the digits of float32, not those of its double"
    t, types = dataset.transitions, dataset.vocabulary.types  # a short log may lack one
    store = store_from_log(
        dataset.arrays, t, dataset.weights, dataset.user_features, 0.9, 1e5, engine.window, dataset.availability,
        columns=dataset.candidate_columns, n_types=len(types),
    )  # fmt: skip
    lane = np.array([int(name.split("_")[1]) for name in dataset.user_ids])[t.user]
    step = np.arange(len(t.user)) - np.searchsorted(t.user, t.user)
    every = np.arange(len(t.user))
    candidates = store.listed(every)
    assert candidates is not None and len(every) == done["shown"] > 300
    replayed = store.candidate_features(every, store.states(every), candidates)
    names, online_names = (feature_names(COLUMNS[world], x) for x in (types, engine.type_names))
    same = [online_names.index(name) for name in names]
    observed = [observed_features(one, COLUMNS[world], len(engine.type_names))[:, :, same] for one in policy.seen]
    item_of = np.r_[0, [engine.item_ids.index(name) + 1 for name in dataset.vocabulary.items]]
    relative = np.array([name.endswith("_in_list") for name in names])
    for row in range(len(every)):
        there = candidates[row] > 0
        online = policy.seen[step[row]].actions
        own = online.candidates[lane[row]] > 0
        assert np.array_equal(item_of[candidates[row][there]], online.candidates[lane[row]][own])
        rebuilt, seen = replayed[row][there], observed[step[row]][lane[row]][own]
        assert np.array_equal(rebuilt[:, ~relative], seen[:, ~relative]), row
        assert np.allclose(rebuilt, seen, atol=1e-5), row
    again = replayed[candidates > 0][:, [names.index("log_count_shown"), names.index("log_hours_since"), names.index("age_hours_log")]]
    assert (again > 0).sum(0).min() > 300, "items were shown again, a while ago"
