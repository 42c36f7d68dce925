"""The support of a distribution of returns must hold the returns: checked before anything is learnt."""

from collections.abc import Callable, Iterator

import numpy as np

from qurate.errors import Code, UserError
from qurate.learning.loops import Progress
from qurate.replay.event_store import NO_ACTION, Tables
from qurate.settings import CategoricalSettings, Settings
from qurate.types import FloatArray, IntArray

Steps = tuple[FloatArray, FloatArray, IntArray]
"""Of each state kept: reward [S] of its decision, discount [S] of the successor, and the successor's position [S], -1 = none."""


def steps_of_events(tables: Tables) -> Steps:
    """Of a log's store, or of rings of events."""
    decided = tables.next_state != NO_ACTION
    return np.where(decided, tables.state_reward.sum(1), 0), tables.discount, np.where(decided, tables.next_state, -1)


def returns_seen(reward: FloatArray, discount: FloatArray, following: IntArray) -> tuple[float, float]:
    """Smallest and largest discounted return over the decisions kept.

    By doubling: after k rounds each state's return counts 2^k decisions and `following` points that far ahead.

    Args:
        reward: float [S] of each decision.
        discount: float [S] of the successor.
        following: int [S] the successor's position, -1 = none.
    """
    total, factor, ahead = reward.astype(np.float64), np.where(following >= 0, discount, 0.0), following
    while (going := factor > 0).any():
        to = np.where(going, ahead, 0)
        total, factor, ahead = total + factor * total[to], factor * np.where(going, factor[to], 0), np.where(going, ahead[to], -1)
    return float(total.min()), float(total.max())


def check_support(steps: Steps, settings: Settings) -> None:
    """Nothing where the algorithm has no support.

    Raises:
        UserError: v_min..v_max does not cover the returns seen; it names their range.
    """
    kind = settings.algorithm
    if not isinstance(kind, CategoricalSettings):
        return
    low, high = returns_seen(*steps)
    if low < kind.v_min or high > kind.v_max:
        expected = f"a support that covers the returns seen, {low:.4g} to {high:.4g}"
        hint = "set v_min and v_max beyond them: a better policy earns more"
        raise UserError(expected, f"{kind.v_min:g} to {kind.v_max:g}", where="--set v_min, v_max", hint=hint, code=Code.BAD_SETTING)


def with_checked_support(loop: Iterator[Progress], steps: Callable[[], Steps], settings: Settings) -> Iterator[Progress]:
    """An online loop that checks the support once, with the decisions of the warm-up, after the first update."""
    for progress in loop:
        if progress.update is not None:
            check_support(steps(), settings)
            yield progress
            break
        yield progress
    yield from loop
