"""Gymnasium: registration through the entry point, check_env, seeds, autoreset with the final observation."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from qurate.environments.registry import GYM_IDS, make_engine, make_env, make_vector_env


@pytest.mark.parametrize("gym_id", GYM_IDS.values())
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


def test_an_env_is_one_lane_of_the_engine() -> None:
    env, engine = make_env("shop"), make_engine("shop")
    seen, info = env.reset(seed=11)
    expected = engine.reset(11, 1)
    assert info["available"] == 300 and info["time"] == engine.clock[0] / 1e6 and info["item_ids"] == []
    for step in range(300):
        for name, value in seen.items():
            assert np.array_equal(value, getattr(expected, name)[0]), name
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
    assert np.array_equal(second["user"], engine.reset(3, 2).user[1])
    assert not second["history_items"].any()


def test_vector_env_resets_in_the_same_step_and_keeps_the_final_observation() -> None:
    env = gymnasium.make_vec("qurate/Shop-v0", num_envs=16, max_steps=6)
    assert env.metadata["autoreset_mode"] is gymnasium.vector.AutoresetMode.SAME_STEP
    seen, _ = env.reset(seed=5)
    assert env.observation_space.contains(seen)
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
    first, _ = env.reset(seed=1)
    second, _ = env.reset()
    expected = make_engine("shop").reset(1, 8).user
    assert np.array_equal(first["user"], expected[:4]) and np.array_equal(second["user"], expected[4:])
