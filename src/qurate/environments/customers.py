"""How simulated customers behave: the pieces that worlds share, each a function of arrays over customers (lanes).

* choice: `probabilities` of logits, and `choose` among the items of a slate
* satiation: `tire` when something is met, `rest` while the customer is away
* drift: `pull`, the step of a running memory towards what was met; `tastes_moved`, a switch of tastes
* churn: `comes_back`, whether and after how long somebody who left returns; `visit_ends`, the same for the engine
* tastes: `segment_tastes` and `segments`, which kinds of item the segments like, and what is visible of a customer's segment
"""

from dataclasses import fields, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from qurate.types import FloatArray, IntArray

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

ParametersT = TypeVar("ParametersT", bound="DataclassInstance")
_ONE, _HOUR_S, _SECOND_US = np.array(1, np.float32), np.array(3600, np.float32), np.array(1_000_000)


def as_arrays(parameters: ParametersT) -> ParametersT:
    """The same constants as float32 arrays without a dimension: NumPy converts a Python number at every call, which takes as long as
    the sum itself for one customer."""
    return replace(parameters, **{x.name: np.array(getattr(parameters, x.name), np.float32) for x in fields(parameters)})


def probabilities(minus: FloatArray) -> FloatArray:
    """1 / (1 + exp(minus)), the logistic function of negated logits, in place; any shape."""
    np.exp(minus, minus)
    minus += _ONE
    return np.reciprocal(minus, minus)


def choose(alone: FloatArray, luck: FloatArray) -> tuple[IntArray, FloatArray, FloatArray]:
    """Which of k items a customer takes: conditional logit with an outside option of utility 0 (the choice model of SlateQ, Ie et
    al., IJCAI 2019); for k = 1 it is the single item's probability.

    Args:
        alone: [B, k] probability of each item if it stood alone, in (0, 1).
        luck: [B] uniform in [0, 1).

    Returns:
        position [B] (-1 = none), share [B] (the probability of the item taken; of the first item where none is), and luck [B]
        within the interval of the item taken.
    """
    odds = alone / (1 - alone)
    share = odds / (1 + odds.sum(axis=1, keepdims=True))
    upper = share.cumsum(axis=1)
    below = (luck[:, None] >= upper).sum(axis=1)
    position = np.where(below == alone.shape[1], -1, below)
    at = (np.arange(len(luck)), np.maximum(position, 0))
    return position, share[at], luck - (upper[at] - share[at])


def tire(satiation: FloatArray, at: IntArray, added: FloatArray | float, kept: float, *, repeated: bool = False) -> None:
    """One step of satiation, in place: everything heals by the factor `kept`, then what was met grows.

    After Leqi, Kilinc-Karzan, Lipton, Montgomery: Rebounding Bandits for Modeling Satiation Effects, NeurIPS 2021.

    Args:
        satiation: [B, C].
        at: flat positions in `satiation` of what was met: [B], or [2, B] of two kinds, all different; or `repeated` [B, k].
        added: a shape that broadcasts to that of `at`, or one number.
        kept: 0 to 1.
        repeated: whether a position may come several times.
    """
    flat = satiation.reshape(-1)
    flat *= kept
    if not repeated:
        flat[at] += added
    else:
        np.add.at(flat, at, added)


def rest(level: FloatArray, lanes: IntArray, hours: FloatArray, e_folding_hours: float) -> None:
    """What fades during a pause of `hours` [m] of the customers in `lanes` [m], in place; `level` [B, C]."""
    level[lanes] *= np.exp(-hours / e_folding_hours)[:, None]


def pull(memory: FloatArray, goal: FloatArray, rate: FloatArray | float) -> FloatArray:
    """The step by which a running memory drifts towards `goal`: the share `rate` of the way. Shapes broadcast."""
    return (goal - memory) * rate


def tastes_moved(taste: FloatArray, share: float) -> FloatArray:
    """Tastes [m, C] of which the share of each category has moved to the next one, that of the last to the first."""
    return (1 - share) * taste + share * np.roll(taste, 1, axis=1)


def comes_back(
    luck: FloatArray, minus: FloatArray, least_hours: float, mean_hours: float
) -> tuple[NDArray[np.bool_], FloatArray, NDArray[np.int64]]:
    """Who returns after leaving, and when.

    Args:
        luck: [2, m] uniform in [0, 1).
        minus: [m] negated logits of returning.
        least_hours: of every pause.
        mean_hours: of the exponential part that follows.

    Returns:
        returns [m], hours [m] of the pause, the same in whole seconds [m].
    """
    returns = luck[0] < probabilities(minus)
    hours = least_hours - mean_hours * np.log1p(-luck[1])
    return returns, hours, (hours * _HOUR_S).astype(np.int64)


def visit_ends(
    n: int, leavers: IntArray, returns: NDArray[np.bool_], away: NDArray[np.int64], dwell: IntArray
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """`pause` and `gone` of `engine.Outcome`, [n], where the visit of `leavers` [m] ends; the pause is added to `dwell` in place.

    Args:
        returns: [m].
        away: [m] whole seconds of the pause.
        dwell: [n] microseconds.
    """
    gone, pause = np.zeros(n, np.bool_), np.zeros(n, np.float32)
    gone[leavers] = ~returns
    pause[leavers] = returns * away
    dwell[leavers] += away * _SECOND_US
    return pause, gone


def all_stay(n: int) -> tuple[FloatArray, NDArray[np.bool_]]:
    """`pause` and `gone` of `engine.Outcome` where nobody leaves, [n]; read-only, so that they may be handed out again and again."""
    pause, gone = np.zeros(n, np.float32), np.zeros(n, np.bool_)
    pause.flags.writeable = gone.flags.writeable = False
    return pause, gone


def segment_tastes(rng: np.random.Generator, shape: tuple[int, int], liked: int, like: float, dislike: float) -> FloatArray:
    """float32 [segments, kinds]: every segment likes `liked` kinds, drawn at random, and dislikes the others."""
    likes = np.argsort(rng.random(shape), axis=1) < liked
    return np.where(likes, like, dislike).astype(np.float32)


def segments(luck: FloatArray, n: int, seen: float) -> tuple[IntArray, IntArray]:
    """True and visible segments [m] of new customers: the visible one is the true one with probability `seen`, else a random one.

    Args:
        luck: three rows [m] of uniform numbers in [0, 1).
        n: segments.
    """
    true = (luck[0] * n).astype(np.int64)
    return true, np.where(luck[1] < seen, true, (luck[2] * n).astype(np.int64))
