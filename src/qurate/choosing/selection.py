"""From scores to positions: greedy, epsilon-greedy, softmax and slates, with exact propensities after masks.

A candidate whose mask is 0 or whose score is not finite is never chosen and never counted. Ties are broken
uniformly, and the propensity says so. Where a row has nothing to choose the position is -1 and the propensity 0:
the caller falls back and says why. Propensities are float64, of an item in a slate given the items above it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from qurate.choosing import slate_sampling as draws
from qurate.choosing.slate_sampling import Draw, Legal, Propensity, is_shared
from qurate.errors import Code, UserError
from qurate.types import IntArray, Propensities

Scores = NDArray[np.floating]
Mask = NDArray[np.bool_] | NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class SelectionRule:
    """How scores become a choice. All three functions take legal scores [B, K] (`legal_scores`)."""

    name: str
    draw: Draw  # (x, k, rng) -> positions int64 [B, k]
    propensity: Propensity  # (x, slate [B, k]) -> float64 [B, k]
    probabilities: Callable[[Legal], Propensities]  # x -> float64 [B, K] of a single choice


GREEDY = SelectionRule("greedy", draws.draw_greedy, draws.propensity_greedy, draws.probabilities_greedy)
UNIFORM = SelectionRule("uniform", draws.draw_uniform, draws.propensity_uniform, draws.probabilities_uniform)


def softmax_rule(temperature: float) -> SelectionRule:
    """Probability proportional to exp(score / temperature).

    Raises:
        UserError: temperature not in (0, inf).
    """
    if not 0 < temperature < np.inf:
        raise UserError(
            "a temperature above 0", repr(temperature), where="temperature", hint="use greedy for no randomness", code=Code.BAD_TEMPERATURE
        )
    return SelectionRule(
        "softmax",
        partial(draws.draw_softmax, temperature=temperature),
        partial(draws.propensity_softmax, temperature=temperature),
        partial(draws.probabilities_softmax, temperature=temperature),
    )


def epsilon_greedy_rule(epsilon: float) -> SelectionRule:
    """With probability epsilon (in [0, 1]) uniform over all legal positions, else greedy; at each position of a slate.

    Raises:
        UserError: epsilon not in [0, 1].
    """
    if not 0 <= epsilon <= 1:
        raise UserError("epsilon in 0..1", repr(epsilon), where="epsilon", hint="it is a probability", code=Code.BAD_EPSILON)
    if epsilon in (0.0, 1.0):
        return UNIFORM if epsilon else GREEDY
    return mixture_rule("epsilon_greedy", (UNIFORM, GREEDY), (epsilon, 1 - epsilon))


def mixture_rule(name: str, rules: Sequence[SelectionRule], weights: Sequence[float]) -> SelectionRule:
    """At each position one of `rules`, drawn by `weights` (they sum to 1), on the same scores."""
    w = np.asarray(weights, np.float64)
    return SelectionRule(
        name,
        lambda x, k, rng: draws.draw_mixture([x] * len(rules), [rule.draw for rule in rules], w, k, rng),
        lambda x, slate: draws.propensity_mixture([x] * len(rules), [rule.propensity for rule in rules], w, slate),
        lambda x: sum((share * rule.probabilities(x) for share, rule in zip(w, rules)), np.zeros(x.shape)),
    )


def legal_scores(scores: Scores, mask: Mask) -> Legal:
    """[B, K]: `scores` with -inf where the mask is 0 or the score is not finite; one row where all rows are shared."""
    if scores.shape != mask.shape:
        raise ValueError(f"scores {scores.shape} and mask {mask.shape} differ in shape")
    if len(scores) > 1 and is_shared(scores) and is_shared(mask):
        return np.broadcast_to(legal_scores(scores[:1], mask[:1]), scores.shape)
    return np.where(np.isfinite(scores) & (mask != 0), scores, scores.dtype.type(-np.inf))


def choose(
    rule: SelectionRule, scores: Scores, mask: Mask, rng: np.random.Generator, k: int | None = None
) -> tuple[NDArray[np.int64], Propensities]:
    """Positions and their propensities.

    Args:
        rule: how to choose.
        scores: [B, K], higher is better.
        mask: [B, K], 0 or False = may not be shown.
        rng: source of randomness.
        k: length of the slate, or None for a single choice.

    Returns:
        int64 and float64 arrays [B], or [B, k] with distinct positions; -1 and 0 where nothing was left.
    """
    n, width = scores.shape
    if n == 0 or width == 0:
        shape = (n,) if k is None else (n, k)
        return np.full(shape, -1, np.int64), np.zeros(shape)
    x = legal_scores(scores, mask)
    slate = rule.draw(x, 1 if k is None else k, rng)
    propensity = rule.propensity(x, slate)
    return (slate[:, 0], propensity[:, 0]) if k is None else (slate, propensity)


def epsilon_greedy(scores: Scores, mask: Mask, epsilon: float, rng: np.random.Generator) -> tuple[IntArray, Propensities]:
    """Positions [B]: uniform with probability epsilon, else the best; propensity epsilon / n [+ (1 - epsilon) / ties]."""
    return choose(epsilon_greedy_rule(epsilon), scores, mask, rng)
