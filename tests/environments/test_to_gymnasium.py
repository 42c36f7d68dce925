"""Gymnasium: registration through the entry point, check_env, seeds, autoreset with the final observation."""

import multiprocessing
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from qurate.environments.registry import make_engine, make_env, make_vector_env
from qurate.environments.worlds import WORLDS
from qurate.errors import UserError


@pytest.mark.parametrize("gym_id", [record.gymnasium_id for record in WORLDS.values() if not record.needs_source])
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_registered_environments_pass_check_env(gym_id: str) -> None:
    env = gymnasium.make(gym_id)
    check_env(env.unwrapped, skip_render_check=True)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_slates_and_candidates_pass_check_env() -> None:
    env = make_env("shop", slate_size=2, n_candidates=1000, max_steps=10)
    assert env.action_space.nvec.tolist() == [300, 300]
    env = make_env("shop", n_candidates=10)
    check_env(env, skip_render_check=True)
    assert env.action_space.n == 10


def test_sampled_actions_are_open_ones() -> None:
    """Where rooms are closed, `action_space.sample()` draws among those that are open; a mask of one's own stands above it."""
    env = make_env("live", max_steps=200)
    observation, _ = env.reset(seed=3)
    env.action_space.seed(0)
    open_now = np.flatnonzero(observation["action_mask"])
    assert {int(env.action_space.sample()) for _ in range(300)} == set(open_now.tolist()) and len(open_now) < env.action_space.n
    only = np.zeros(env.action_space.n, np.int8)
    only[2] = 1
    assert env.action_space.sample(mask=only) == 2
    assert env.action_space == gymnasium.spaces.Discrete(24)
    for _ in range(100):
        over = any(env.step(env.action_space.sample())[2:4])
        if over:
            env.reset()


def test_an_env_is_one_lane_of_the_engine() -> None:
    env, engine = make_env("shop"), make_engine("shop")
    seen, info = env.reset(seed=11)
    expected = engine.reset(11, 1)
    assert info["available"] == 300 and info["time"] == engine.clock[0] / 1e6 and info["item_ids"] == []
    for step in range(300):
        named = expected.state._asdict() | {"candidates": expected.actions.candidates, "action_mask": expected.actions.mask}
        assert list(seen) == list(named)
        for name, value in seen.items():
            assert np.array_equal(value, named[name][0]), name
        action = step * 17 % 300
        seen, reward, terminated, truncated, info = env.step(action)
        feedback = engine.step(np.array([action]))
        assert reward == feedback.reward[0] and terminated == feedback.terminated[0] and truncated == feedback.truncated[0]
        assert info["item_ids"] == [engine.item_ids[action]]
        assert list(info["components"].values()) == feedback.components[0].tolist()
        if terminated or truncated:
            assert seen["history_items"].any(), "the last observation is still the same customer's"
            with pytest.raises(gymnasium.error.ResetNeeded):
                env.step(0)
            seen, _ = env.reset()
        expected = feedback.obs


def test_reset_in_mid_episode_brings_the_next_customer() -> None:
    env, engine = make_env("shop"), make_engine("shop")
    env.reset(seed=3)
    env.step(0)
    second, _ = env.reset()
    assert np.array_equal(second["user"], engine.reset(3, 2).state.user[1])
    assert not second["history_items"].any()


def test_vector_env_resets_in_the_same_step_and_keeps_the_final_observation() -> None:
    env = gymnasium.make_vec("qurate/Shop-v0", num_envs=16, max_steps=6)
    assert env.metadata["autoreset_mode"] is gymnasium.vector.AutoresetMode.SAME_STEP
    seen, infos = env.reset(seed=5)
    assert env.observation_space.contains(seen) and infos["available"].tolist() == [300] * 16
    ended = 0
    for _ in range(12):
        before = seen
        seen, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert reward.shape == (16,) and env.observation_space.contains(seen)
        over = terminated | truncated
        assert not over.any() or np.array_equal(info["_final_obs"], over)
        for lane in np.flatnonzero(over):
            final = info["final_obs"][lane]
            newest = before["history_items"][lane][-1]
            assert newest == 0 or newest in final["history_items"]
            assert not seen["history_items"][lane].any()
        ended += int(over.sum())
    assert ended >= 16


def test_vector_env_without_seed_brings_new_customers() -> None:
    env = make_vector_env("shop", 4)
    for brought, customer in ((env.reset(seed=1), 0), (env.reset(), 1), (env.reset(), 2)):
        expected = [make_engine("shop").reset(seed, 1, customer).state.user[0] for seed in range(1, 5)]
        assert np.array_equal(brought[0]["user"], expected)


@pytest.mark.parametrize("seed", [11, [3, 11, 12, 400]])
def test_each_lane_of_a_vector_env_takes_its_own_seed(seed: int | list[int]) -> None:
    """Lane i meets what a single environment seeded with seed + i (or the i-th seed) meets, also after episodes end."""
    lanes = make_vector_env("shop", 4, max_steps=5)
    seeds = [seed + i for i in range(4)] if isinstance(seed, int) else seed
    alone = [make_env("shop", max_steps=5) for _ in seeds]
    seen, infos = lanes.reset(seed=seed)
    single = [env.reset(seed=own) for env, own in zip(alone, seeds)]
    assert len({row.tobytes() for row in infos["time"]}) == 4, "different customers"
    for step in range(23):
        for lane, (own, info) in enumerate(single):
            assert all(np.array_equal(seen[key][lane], own[key]) for key in own) and infos["time"][lane] == info["time"]
        actions = np.array([step * 7 % 300, 1, 2, 3])
        seen, reward, terminated, truncated, infos = lanes.step(actions)
        for lane, env in enumerate(alone):
            own, *told, info = env.step(actions[lane])
            assert told == [reward[lane], terminated[lane], truncated[lane]]
            assert infos["time"][lane] == info["time"]
            if terminated[lane] or truncated[lane]:
                assert all(np.array_equal(infos["final_obs"][lane][key], own[key]) for key in own)
                single[lane] = (env.reset()[0], info)
            else:
                single[lane] = (own, info)


def test_seeds_of_lanes_may_be_left_open_and_must_fit() -> None:
    env = make_vector_env("shop", 3)
    seen, infos = env.reset(seed=[None, 5, None])
    first = seen["user"]
    assert len(set(infos["time"])) == 3, "lanes without a seed of their own differ"
    assert np.array_equal(first[1], make_engine("shop").reset(5, 1).state.user[0])
    assert np.array_equal(env.reset(seed=[None, 5, None])[1]["time"][1:2], make_vector_env("shop", 1).reset(seed=5)[1]["time"])
    with pytest.raises(UserError, match="expected 3 seeds, got 2"):
        env.reset(seed=[1, 2])


@pytest.mark.parametrize("action", [1.0, 0.7, np.float32(2), np.array(1.0), "1", None, True])
def test_an_action_that_is_no_whole_number_is_refused(action: object) -> None:
    env = make_env("shop")
    env.reset(seed=0)
    with pytest.raises(UserError, match="expected a whole number as action"):
        env.step(action)
    assert env.engine.steps[0] == 0, "nothing was shown"
    lanes = make_vector_env("shop", 2)
    lanes.reset(seed=0)
    with pytest.raises(UserError, match="expected a whole number as action"):
        lanes.step(np.array([action, action]))
    env.step(np.int32(1))
    env.step(np.uint8(1))
    assert env.engine.steps[0] == 2


ORDERS = ["import qurate, gymnasium", "import gymnasium, qurate", "import qurate.environments.registry, gymnasium"]


@pytest.mark.parametrize("imports", ORDERS)
def test_importing_qurate_registers_in_either_order(imports: str) -> None:
    code = f"{imports}\nprint(gymnasium.make('qurate/ToyChain-v0').unwrapped.engine.item_ids)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "['clip', 'part']\n", done.stderr


def test_an_id_may_name_the_package() -> None:
    code = "import gymnasium\nprint(gymnasium.make('qurate:qurate/ToyChain-v0').unwrapped.engine.item_ids)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "['clip', 'part']\n", done.stderr


def test_importing_qurate_does_not_import_gymnasium() -> None:
    code = "import sys, qurate\nprint('gymnasium' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "False False\n", done.stderr


ASYNC = """
import gymnasium, numpy as np, polars as pl, qurate
pl.DataFrame({"a": np.arange(1000)}).group_by("a").len()  # polars' threads run in the parent before it forks
envs = gymnasium.make_vec("qurate/Shop-v0", num_envs=2, vectorization_mode="async", vector_kwargs={"context": "fork"})
seen, _ = envs.reset(seed=4)
alone = [gymnasium.make("qurate/Shop-v0").reset(seed=4 + i)[0]["user"] for i in range(2)]
envs.step(np.array([0, 1]))
envs.close()
print(np.array_equal(seen["user"], alone))
"""


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this platform")
def test_worlds_are_made_in_forked_workers() -> None:
    done = subprocess.run([sys.executable, "-c", ASYNC], capture_output=True, text=True, timeout=60)
    assert done.stdout == "True\n", done.stderr
