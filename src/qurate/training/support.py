"""The support of a distribution of returns must hold the returns: checked before anything is learnt, and while it is."""

import logging
from collections.abc import Callable, Iterator

import numpy as np

from qurate.errors import Code, UserError
from qurate.learning.loops import Progress
from qurate.replay.event_replay import NO_ACTION, Tables
from qurate.settings import CategoricalSettings, Settings
from qurate.types import FloatArray, IntArray

log = logging.getLogger("qurate.training")

AGAIN = 1.2
"""Steps at one check over those at the one before."""

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
    beyond = returns_beyond(steps, settings)
    if beyond is not None:
        expected = f"a support that covers the returns seen, {beyond}"
        hint = "set v_min and v_max beyond them: a better policy earns more"
        raise UserError(expected, _support(settings), where="--set v_min, v_max", hint=hint, code=Code.BAD_SETTING)


def returns_beyond(steps: Steps, settings: Settings) -> str | None:
    """The range of the returns seen where the support does not cover it; None where it does, or where there is no support."""
    kind = settings.algorithm
    if not isinstance(kind, CategoricalSettings):
        return None
    low, high = returns_seen(*steps)
    return f"{low:.4g} to {high:.4g}" if low < kind.v_min or high > kind.v_max else None


def _support(settings: Settings) -> str:
    kind = settings.algorithm
    assert isinstance(kind, CategoricalSettings)
    return f"{kind.v_min:g} to {kind.v_max:g}"


def with_checked_support(
    loop: Iterator[Progress], steps: Callable[[], Steps], settings: Settings, *, resumed: bool = False
) -> Iterator[Progress]:
    """An online loop whose support is checked with the decisions of the warm-up, after the first update, and again as the run goes on.

    A policy that learns earns more: what then lies beyond the support counts as its end, and one warning says so. A check costs a
    pass over the replay, so they stand `AGAIN` times the steps apart.

    Args:
        resumed: the run goes on, so that nothing is refused any more.
    """
    if not isinstance(settings.algorithm, CategoricalSettings):
        yield from loop
        return
    due, warned = 0.0, False
    for progress in loop:
        if progress.update is not None and not warned and progress.steps >= due:
            if due == 0 and not resumed:
                check_support(steps(), settings)
            elif beyond := returns_beyond(steps(), settings):
                log.warning(
                    "note: returns of %s were seen after %d steps, beyond the support of %s (--set v_min, v_max): they count as its ends",
                    beyond, progress.steps, _support(settings),
                )  # fmt: skip
                warned = True
            due = AGAIN * progress.steps
        yield progress
