"""Other weights for the reward components that a dataset or an environment has (`train --rewards`)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qurate.errors import Code, UserError, nearest
from qurate.mdp.rewards import parse_rewards
from qurate.types import FloatArray


def reweighted(components: Sequence[str], rewards: str | Mapping[str, Any], of: str) -> FloatArray:
    """Weights float32 [R] by component; those that are not named get 0.

    Args:
        of: what has these components, for the error.

    Raises:
        UserError: an unknown component, more than a weight, or all of them zero.
    """
    weights = dict.fromkeys(components, 0.0)
    for name, reward in parse_rewards(rewards).items():
        if name not in weights:
            hint = f"{nearest(name, weights)} (others: `qurate ingest --rewards`)"
            raise UserError(f"a reward component of {of}", name, where="--rewards", hint=hint, code=Code.UNKNOWN_COMPONENT)
        if reward.per_value or reward.cap is not None:
            hint = "how an event counts is decided by `qurate ingest --rewards`"
            raise UserError(f"a weight for {name}", "per or cap", where="--rewards", hint=hint, code=Code.BAD_REWARD)
        weights[name] = float(reward.weight)
    if not any(weights.values()):
        hint = "give what you want a weight"
        raise UserError("a weight other than 0", "all rewards zero", where="--rewards", hint=hint, code=Code.NO_REWARD)
    return np.array(list(weights.values()), np.float32)
