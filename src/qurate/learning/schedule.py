"""How the step size changes over a run from a log, and what is said where it was too large."""

import math

from qurate.errors import Code, UserError

WARM_UP, WARM_UP_UPDATES = 0.05, 200
"""The step size grows over this share of a run's updates, and over no more updates than that."""
LAST_RATE = 0.02


def cosine_rate(updates: int, horizon: int) -> float:
    """Factor of the step size of the next update, in (0, 1]: a linear warm-up, then half a cosine (Loshchilov and Hutter 2017,
    arXiv:1608.03983) down to `LAST_RATE`, where it stays.

    Args:
        updates: made so far.
        horizon: updates of the whole run, at least 1.
    """
    warm = max(min(int(WARM_UP * horizon), WARM_UP_UPDATES), 1)
    if updates < warm:
        return (updates + 1) / warm
    share = min((updates - warm) / max(horizon - warm, 1), 1.0)
    return LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * share))


def diverged(lr: float) -> UserError:
    """A step broke the weights, though loss and gradient were finite: no action has a value any more."""
    where, hint = f"--set lr={lr:g}", "use a smaller lr; nothing was written"
    return UserError("a training run that converges", "values of actions that are not finite", where=where, hint=hint, code=Code.DIVERGED)
