"""From settings to the sampler and the optimiser."""

from typing import Literal

from qurate.replay.prioritised import PrioritisedSampler
from qurate.replay.samplers import LogSampler, OnlineSampler, Rings, Sampler
from qurate.settings import Settings, TableSettings


def optimiser_of(settings: Settings) -> Literal["adam", "sgd"]:
    """Which optimiser `Learner` uses: plain gradient steps for tables, Adam for networks."""
    return "sgd" if isinstance(settings.algorithm, TableSettings) else "adam"


def online_sampler(rings: Rings, settings: Settings) -> Sampler:
    """The sampler of a replay that is filled online."""
    s = settings.replay
    if not s.prioritised:
        return OnlineSampler(rings)
    slots = rings.lanes * rings.lane_states
    return PrioritisedSampler(slots, alpha=s.priority_alpha, beta=s.priority_beta, ready=rings.complete)


def log_sampler(uniform: LogSampler, settings: Settings) -> Sampler:
    """The sampler of a log: uniform, or by the size of the last TD error."""
    s = settings.replay
    if not s.prioritised:
        return uniform
    sampler = PrioritisedSampler(int(uniform.index.max()) + 1, alpha=s.priority_alpha, beta=s.priority_beta)
    sampler.add(uniform.index)
    return sampler
