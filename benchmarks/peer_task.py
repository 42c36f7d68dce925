"""A peer on a task of Gymnasium, for `cart_pole.py`: run by the interpreter that has it, a line of JSON after each part of training.

    PEERS/bin/python benchmarks/peer_task.py --library stable_baselines3 --env CartPole-v1 --seed 0 --steps 50000 --every 5000
    PEERS/bin/python benchmarks/peer_task.py --library tianshou --rate --updates 2000

Settings are those of rl-zoo (DLR-RM/rl-baselines3-zoo, hyperparams/dqn.yml), which were tuned for these tasks; tianshou gets the same ones
for the rate of updates. Seconds are those of the processor; the greedy episodes after each part are not counted.
"""

import argparse
import json
import os
import time
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gymnasium
import numpy as np
import torch

EPISODES = 100
ZOO: dict[str, dict[str, Any]] = {
    "CartPole-v1": {
        "n_timesteps": 50_000, "learning_rate": 2.3e-3, "batch_size": 64, "buffer_size": 100_000, "learning_starts": 1_000,
        "gamma": 0.99, "target_update_interval": 10, "train_freq": 256, "gradient_steps": 128, "exploration_fraction": 0.16,
        "exploration_final_eps": 0.04,
    },
    "Acrobot-v1": {
        "n_timesteps": 100_000, "learning_rate": 6.3e-4, "batch_size": 128, "buffer_size": 50_000, "learning_starts": 0, "gamma": 0.99,
        "target_update_interval": 250, "train_freq": 4, "gradient_steps": -1, "exploration_fraction": 0.12, "exploration_final_eps": 0.1,
    },
}  # fmt: skip


def greedy_return(model: Any, env: str, seed: int) -> float:
    """Mean return of the greedy policy over `EPISODES` episodes, met at once."""
    envs = gymnasium.make_vec(env, EPISODES, vectorization_mode="sync")
    obs, _ = envs.reset(seed=[100_000 * (seed + 1) + i for i in range(EPISODES)])
    total, alive = np.zeros(EPISODES), np.ones(EPISODES, bool)
    while alive.any():
        obs, reward, terminated, truncated, _ = envs.step(model.predict(obs, deterministic=True)[0])
        total += reward * alive
        alive &= ~(terminated | truncated)
    envs.close()
    return float(total.mean())


def stable_baselines3(env: str, seed: int, steps: int, every: int) -> None:
    """Trains in parts; a line of JSON after each."""
    from stable_baselines3 import DQN

    zoo = {name: value for name, value in ZOO[env].items() if name != "n_timesteps"}
    # the exploration of the settings is a share of their own number of steps
    zoo["exploration_fraction"] *= ZOO[env]["n_timesteps"] / steps
    model = DQN("MlpPolicy", gymnasium.make(env), policy_kwargs={"net_arch": [256, 256]}, seed=seed, device="cpu", **zoo)
    seconds = 0.0

    class Parts:
        """Called after every step of training."""

        def __init__(self) -> None:
            self.began, self.next = time.process_time(), every

        def __call__(self, local: dict[str, Any], _: dict[str, Any]) -> bool:
            nonlocal seconds
            done = local["self"].num_timesteps
            if done >= self.next:
                seconds += time.process_time() - self.began
                print(json.dumps({"steps": self.next, "seconds": seconds, "mean": greedy_return(model, env, seed)}), flush=True)
                self.next += every
                self.began = time.process_time()
            return True

    model.learn(steps, callback=Parts())


def update_rate(library: str, updates: int, batch: int, hidden: int) -> None:
    """Updates per second of DQN alone, 4 numbers and 2 actions, from a filled replay."""
    rng = np.random.default_rng(0)
    if library == "stable_baselines3":
        from stable_baselines3 import DQN
        from stable_baselines3.common.logger import configure

        model = DQN(
            "MlpPolicy", gymnasium.make("CartPole-v1"), batch_size=batch, policy_kwargs={"net_arch": [hidden, hidden]}, device="cpu",
            buffer_size=20_000,
        )  # fmt: skip
        model.set_logger(configure(None, []))
        for _ in range(10_000):
            obs, following = rng.normal(size=(2, 1, 4)).astype(np.float32)
            model.replay_buffer.add(obs, following, rng.integers(0, 2, (1, 1)), np.ones(1), np.zeros(1), [{}])  # type: ignore[union-attr]

        def work() -> None:
            model.train(100, batch)
    else:
        from tianshou.data import Batch, ReplayBuffer
        from tianshou.policy import DQNPolicy
        from tianshou.utils.net.common import Net

        net = Net(4, 2, hidden_sizes=[hidden, hidden])
        policy = DQNPolicy(net, torch.optim.Adam(net.parameters(), lr=1e-3), 0.99, 1, target_update_freq=10)
        policy.train()
        buffer = ReplayBuffer(20_000)
        for _ in range(10_000):
            obs, following = rng.normal(size=(2, 4)).astype(np.float32)
            row = Batch(obs=obs, act=int(rng.integers(2)), rew=1.0, terminated=False, truncated=False, obs_next=following, info={})
            buffer.add(row)

        def work() -> None:
            for _ in range(100):
                policy.update(batch, buffer)

    work()
    began = time.process_time()
    for _ in range(updates // 100):
        work()
    print(json.dumps({"library": library, "updates_per_s": updates / (time.process_time() - began)}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", choices=["stable_baselines3", "tianshou"], default="stable_baselines3")
    parser.add_argument("--env", default="CartPole-v1", choices=list(ZOO))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=50_000)
    parser.add_argument("--every", type=int, default=5_000)
    parser.add_argument("--rate", action="store_true", help="updates per second instead of training")
    parser.add_argument("--updates", type=int, default=2_000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--hidden", type=int, default=256)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.rate:
        update_rate(options.library, options.updates, options.batch, options.hidden)
    else:
        stable_baselines3(options.env, options.seed, options.steps, options.every)


if __name__ == "__main__":
    main()
