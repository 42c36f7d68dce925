"""What each part promises, as checks that any implementation can be held to: yours, ours, a later one.

Every check raises AssertionError whose message begins with the rule that is broken; with nothing raised, all rules hold.
They are statistical where a promise is about chance: an honest implementation fails about once in 100,000 runs, and never
changes from run to run, because the seeds are fixed.
"""

from qurate.testing.envs import check_env
from qurate.testing.estimators import Estimator, check_estimator
from qurate.testing.policies import check_policy
from qurate.testing.samplers import Sampler, check_sampler
from qurate.testing.stores import OpenStore, check_store

__all__ = [
    "Estimator",
    "OpenStore",
    "Sampler",
    "check_env",
    "check_estimator",
    "check_policy",
    "check_sampler",
    "check_store",
]
