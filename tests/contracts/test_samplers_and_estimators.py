"""Samplers and estimators keep their promises; those that break one are told which."""

from typing import Any

import numpy as np
import pytest

from qurate.baselines.registry import random_policy
from qurate.environments.registry import make_engine
from qurate.replay.samplers import LogSampler, OnlineSampler, Sample
from qurate.replay.writers import OnlineWriter
from qurate.testing import check_estimator, check_sampler
from qurate.types import TRAIN, Availability, IntArray, Transitions


def log_sampler() -> tuple[LogSampler, Any]:
    fields: dict[str, Any] = dict.fromkeys(Transitions.__slots__)
    fields["split"] = np.arange(50, dtype=np.uint8) % 3
    fields["state"] = np.repeat(np.arange(50, dtype=np.int32), 2)
    transitions = Transitions(**fields)
    return LogSampler(transitions, TRAIN), np.flatnonzero(fields["split"][fields["state"]] == TRAIN)


def test_log_sampler() -> None:
    check_sampler(*log_sampler())


@pytest.mark.parametrize("steps", [5, 70])
def test_online_sampler_before_and_after_the_rings_are_full(steps: int) -> None:
    engine = make_engine("toy_chain", window=4, max_steps=9)
    writer = OnlineWriter(4, 4 * 32, 4, np.ones(1, np.float32), Availability.always(len(engine.item_ids)), 0, 0.9, 1e6)
    observation, rng = engine.reset(0, 4), np.random.default_rng(0)
    writer.begin(observation, engine.clock)
    for _ in range(steps):
        actions, _ = random_policy().act(observation, rng)
        feedback = engine.step(actions)
        writer.add(observation.actions.candidates[np.arange(4), actions], feedback)
        observation = feedback.obs
    slots = np.arange(4 * writer.lane_states)
    held = slots % writer.lane_states < np.minimum(writer.written, writer.lane_states)[slots // writer.lane_states]
    complete = slots[held][writer.complete(slots[held])]
    share = 1 / writer.filled()[complete // writer.lane_states]  # lanes are drawn alike, then the states of a lane
    check_sampler(OnlineSampler(writer), complete, share.astype(np.float32))


class Broken:
    def __init__(self, how: str) -> None:
        self.how, (self.honest, _) = how, log_sampler()

    def sample(self, rng: np.random.Generator, batch_size: int) -> Any:
        if self.how == "own luck":
            rng = np.random.default_rng()
        return Sample(self.broken(self.honest.sample(rng, batch_size).index, rng), None)

    def broken(self, index: IntArray, rng: np.random.Generator) -> Any:
        if self.how == "short":
            return index[:200]
        if self.how == "types":
            return index.astype(np.int32)
        if self.how == "leaks":
            return np.where(rng.random(len(index)) < 0.01, 2, index)
        return np.where(rng.random(len(index)) < 0.1, index[0], index) if self.how == "biased" else index


@pytest.mark.parametrize(
    ("how", "rule"),
    [
        ("short", "indices"),
        ("types", "indices"),
        ("own luck", "same draw, same sample"),
        ("leaks", "only what may be drawn"),
        ("biased", "as often as promised"),
    ],
)
def test_broken_samplers_are_told_which_rule(how: str, rule: str) -> None:
    with pytest.raises(AssertionError, match=f"^{rule}"):
        check_sampler(Broken(how), log_sampler()[1])


def ips(reward: Any, logged: Any, new: Any) -> Any:
    """Horvitz and Thompson 1952: reward times the importance weight."""
    return reward * (new / logged)


def snips(reward: Any, logged: Any, new: Any) -> Any:
    """Swaminathan and Joachims 2015: divided by the mean weight."""
    weight = new / logged
    return reward * weight / weight.mean()


@pytest.mark.parametrize("estimator", [ips, snips])
def test_estimators(estimator: Any) -> None:
    check_estimator(estimator)


def scribbling(reward: Any, logged: Any, new: Any) -> Any:
    out = ips(reward, logged, new)
    reward *= 0
    return out


@pytest.mark.parametrize(
    ("estimator", "rule"),
    [
        (lambda r, b, p: float(np.mean(r * p / b)), "contributions: the result is float"),
        (lambda r, b, p: (r * p / b).astype(np.float32), "contributions: the result is float32"),
        (lambda r, b, p: np.where(p / b > 2.5, np.inf, r), "contributions: not finite"),
        (lambda r, b, p: r * 1.0, "mean"),
        (lambda r, b, p: r * np.minimum(p / b, 1.5), "mean"),
        (lambda r, b, p: r * b / p, "mean"),
        (lambda r, b, p: r * p, "on-policy mean"),
        (lambda r, b, p: r * p / b + 1e-3 * np.linspace(-1, 1, len(r)), "order does not matter"),
        (lambda r, b, p: r * p / b + np.random.default_rng().normal(size=len(r)), "same arrays, same contributions"),
        (scribbling, "arguments untouched"),
    ],
)
def test_broken_estimators_are_told_which_rule(estimator: Any, rule: str) -> None:
    with pytest.raises(AssertionError, match=f"^{rule}"):
        check_estimator(estimator)
