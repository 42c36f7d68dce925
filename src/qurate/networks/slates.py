"""Slates under a conditional choice model: what a slate is worth, and which slate is worth most. Pure functions.

A customer chooses one item of a slate A, or nothing, in proportion to masses: P(i | s, A) = m_i / (m_0 + sum over A of m_j), where m_0
is the mass of nothing. A slate is worth the expected value of what is chosen (Ie et al. 2019, arXiv:1905.12767, eq. 14):

    Q(s, A) = sum over A of P(i | s, A) Q(s, i) + P(nothing | s, A) Q(s, nothing)

Shapes: masses and values [B, K] of the candidates or [B, k] of a slate, those of nothing [B]; a mass of 0 stands for no candidate.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

SlateOptimiser = Literal["exact", "greedy", "topk"]

ROUNDS = 20
"""Most rounds of Dinkelbach's method; it ends by itself after two to five."""


class SlateRules(NamedTuple):
    """How slates are chosen."""

    size: int  # k, items of a slate
    optimiser: SlateOptimiser
    nothing_value: bool  # whether choosing nothing has a value of its own; else 0
    known_choice: bool = False  # whether the choice model is the world's own; else learned


class Choices(NamedTuple):
    """What a customer may choose, for B states."""

    mass: Tensor  # [B, K] of the candidates, > 0; 0 = no candidate
    value: Tensor  # [B, K] Q(s, i)
    nothing_mass: Tensor  # [B] > 0
    nothing_value: Tensor  # [B] Q(s, nothing)

    def at(self, positions: Tensor) -> "Choices":
        """Only the candidates at `positions`, int64 [B, k]."""
        return Choices(self.mass.gather(1, positions), self.value.gather(1, positions), self.nothing_mass, self.nothing_value)


def masses(logits: Tensor, nothing: Tensor, closed: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Masses [B, K] and [B] of a conditional logit, exp(logit) up to a factor per state; 0 where `closed` [B, K]."""
    if closed is not None:
        logits = logits.masked_fill(closed, -torch.inf)
    highest, least = torch.maximum(logits.amax(1), nothing), torch.finfo(nothing.dtype).tiny
    mass = torch.exp(logits - highest[:, None]).clamp(min=least)  # what is open keeps some mass: 0 stands for what is closed
    mass = mass if closed is None else mass.masked_fill(closed, 0)
    return mass, torch.exp(nothing - highest).clamp(min=least)


def slate_value(slate: Choices) -> Tensor:
    """Q(s, A), [B], of slates that hold all their candidates."""
    total = (slate.mass * slate.value).sum(1) + slate.nothing_mass * slate.nothing_value
    return total / (slate.nothing_mass + slate.mass.sum(1))


def slate_scores(choices: Choices, k: int, how: SlateOptimiser) -> Tensor:
    """Scores [B, K] whose k largest are the slate of k that `how` finds, the best first; -inf for no candidate.

    Args:
        how: topk: the largest m_i Q(s, i) ("TS" in the paper). greedy: one after the other, whichever makes the slate worth most
            ("GS"). exact: the slate that is worth most. The paper solves a linear program for it ("OS"); here a sort is enough, for
            max (sum m_i Q_i + m_0 Q_0) / (m_0 + sum m_i) = v is where the k largest m_i (Q_i - v) and m_0 (Q_0 - v) sum to 0
            (Dinkelbach 1967, doi:10.1287/mnsc.13.7.492).
    """
    closed = choices.mass == 0
    if how == "topk":
        return (choices.mass * choices.value).masked_fill(closed, -torch.inf)
    exact = _exact_scores(choices, k).masked_fill(closed, -torch.inf)
    return exact if how == "exact" else _greedy_scores(choices, k, exact)


def _exact_scores(choices: Choices, k: int) -> Tensor:
    closed = choices.mass == 0
    best = choices.nothing_value  # the worth of an empty slate: any start will do
    for _ in range(ROUNDS):
        scores = choices.mass * (choices.value - best[:, None])
        slate = choices.at(scores.masked_fill(closed, -torch.inf).topk(min(k, scores.shape[1]), dim=1).indices)
        last, best = best, slate_value(slate)
        if torch.equal(last, best):
            break
    return choices.mass * (choices.value - best[:, None])


def _greedy_scores(choices: Choices, k: int, exact: Tensor) -> Tensor:
    """k + 1 for the first item of the slate, then k, ...; the others follow below 1, in the order of `exact`."""
    finite = exact.masked_fill(exact == -torch.inf, 0)
    scores = (finite / (2 * finite.abs().amax(1, keepdim=True)).clamp(min=1e-30) + 0.5).masked_fill(choices.mass == 0, -torch.inf)
    numerator, denominator = choices.nothing_mass * choices.nothing_value, choices.nothing_mass
    left, weighted = choices.mass > 0, choices.mass * choices.value
    for place in range(min(k, choices.mass.shape[1])):
        worth = (numerator[:, None] + weighted) / (denominator[:, None] + choices.mass)
        pick = worth.masked_fill(~left, -torch.inf).argmax(1, keepdim=True)
        found = left.gather(1, pick)
        scores = scores.scatter(1, pick, torch.where(found, k + 1.0 - place, scores.gather(1, pick)))
        numerator = numerator + (weighted.gather(1, pick) * found)[:, 0]
        denominator = denominator + (choices.mass.gather(1, pick) * found)[:, 0]
        left = left.scatter(1, pick, False)
    return scores


def best_slate(choices: Choices, k: int, how: SlateOptimiser) -> Tensor:
    """Positions int64 [B, k] of that slate, the best first; fewer candidates than k give a shorter one."""
    return slate_scores(choices, k, how).topk(min(k, choices.mass.shape[1]), dim=1).indices
