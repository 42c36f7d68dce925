"""The family as a table of values: a variant changes settings, never the learner."""

from typing import Any

from qurate.errors import Code, UserError, nearest

VARIANTS: dict[str, dict[str, Any]] = {
    "dqn": {},  # Mnih et al. 2015, doi:10.1038/nature14236
    "double_dqn": {"double": True},  # van Hasselt et al. 2016, arXiv:1509.06461
    "nstep_dqn": {"n_step": 3},  # Sutton 1988; Hessel et al. 2018, arXiv:1710.02298
    "myopic": {"gamma": 0.0},  # the baseline: same network, data and tuning, no tomorrow
}


def variant_settings(algorithm: str) -> dict[str, Any]:
    """The settings that make `algorithm`; what the user sets explicitly goes over them.

    Raises:
        UserError: unknown name (the nearest known one is named).
    """
    if algorithm not in VARIANTS:
        raise UserError("a known algorithm", algorithm, where="--algorithm", hint=nearest(algorithm, VARIANTS), code=Code.UNKNOWN_ALGORITHM)
    return VARIANTS[algorithm]
