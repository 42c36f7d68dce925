"""Policies made from scorers: rank by a score, then choose by a rule; and mixtures of such policies."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qurate.choosing import slate_sampling as draws
from qurate.choosing.merchandising import BoolArray, MerchandisingRules, allowed, choose_with_rules, propensity_with_rules
from qurate.choosing.selection import GREEDY, SelectionRule, choose, legal_scores
from qurate.choosing.slate_sampling import Legal, is_shared
from qurate.errors import Code, UserError
from qurate.types import FloatArray, IntArray, Observation, Propensities, Scorer


def over_candidates(table: FloatArray, candidates: IntArray) -> FloatArray:
    """Scores of the candidates, float32 [B, K], from scores of the catalogue.

    Args:
        table: [B, N + 1], or [1, N + 1] where all customers share it; entry 0 is padding.
        candidates: [B, K] item indices, in 0..N.

    Returns:
        [B, K]; a view without copies where all rows share the candidates 1..K.
    """
    if not is_shared(candidates):
        return table[0][candidates] if len(table) == 1 else np.take_along_axis(table, candidates, 1)
    items = candidates[0]
    run = len(items) and items[0] == 1 and items[-1] == len(items) and (items[1:] - items[:-1] == 1).all()
    picked = table[:, 1 : len(items) + 1] if run else table[:, items]
    return np.broadcast_to(picked, candidates.shape)


@dataclass(eq=False)
class FirstThen:
    """Ranks by one scorer wherever it is above 0, and everything else, below that, by another."""

    first: Scorer
    then: Scorer
    name: str

    def scores(self, observation: Observation) -> FloatArray:
        """float32 [B, K]: the first score where positive, else the second one mapped to [-1, 0] within the row."""
        above, below = self.first.scores(observation), self.then.scores(observation)
        high, low = below.max(axis=1, keepdims=True, initial=0), below.min(axis=1, keepdims=True, initial=0)
        span = np.maximum(high - low, np.finfo(np.float32).tiny)
        return np.where(above > 0, above, (below - high) / span).astype(np.float32, copy=False)


class ScoredPolicy:
    """Shows what a scorer ranks, by a rule (greedy by default), after all masks.

    Args:
        scorer: gives float32 [B, K] for an observation.
        rule: `GREEDY`, `UNIFORM`, `epsilon_greedy_rule(e)`, `softmax_rule(t)`.
        slate_size: items shown at once; 1 gives actions of shape [B], more [B, k].
        rules: pins, blocks and quotas of the shop.
        name: display name; the scorer's by default.
    """

    def __init__(
        self,
        scorer: Scorer,
        rule: SelectionRule = GREEDY,
        slate_size: int = 1,
        rules: MerchandisingRules | None = None,
        name: str | None = None,
    ) -> None:
        self.scorer, self.rule, self.slate_size, self.rules = scorer, rule, slate_size, rules
        self.name = name or scorer.name

    def act(self, observation: Observation, rng: np.random.Generator) -> tuple[NDArray[np.int64], Propensities]:
        """Positions in the candidates and their exact propensities; [B] or [B, k]; -1 and 0 where nothing is allowed."""
        scores, mask = self.scorer.scores(observation), allowed(observation)
        if self.rules is None:
            return choose(self.rule, scores, mask, rng, None if self.slate_size == 1 else self.slate_size)
        out = choose_with_rules(self.rule, self.rules, scores, mask, observation.actions.candidates, self.slate_size, rng)
        return (out[0][:, 0], out[1][:, 0]) if self.slate_size == 1 else out

    def propensity(self, observation: Observation, actions: IntArray) -> Propensities:
        """float64, shape of `actions`: the probability with which this policy would have shown these positions."""
        scores, mask = self.scorer.scores(observation), allowed(observation)
        slate = actions.reshape(len(actions), -1)
        if self.rules is None:
            out = self.rule.propensity(legal_scores(scores, mask), slate)
        else:
            out = propensity_with_rules(self.rule, self.rules, scores, mask, observation.actions.candidates, slate)
        return out.reshape(actions.shape)

    def probabilities(self, observation: Observation) -> Propensities:
        """float64 [B, K]: the probability of each candidate at the first position."""
        scores, mask = self.scorer.scores(observation), allowed(observation)
        if self.rules is not None:
            nothing = np.zeros((len(scores), 0), np.int64)
            mask = self.rules.mask(observation.actions.candidates, np.array(mask), nothing, self.slate_size)
        return self.rule.probabilities(legal_scores(scores, mask))


class MixturePolicy:
    """At each position one of several policies decides, drawn by its weight: popularity plus 10 % uniform, say.

    The propensity is the mixture's own, whichever part happened to be drawn. A part without any legal item in a row
    leaves its weight to the others.

    Args:
        parts: (weight, policy); weights are positive and sum to 1. The parts' own slate sizes do not count.
        slate_size: items shown at once.
        name: display name.

    Raises:
        UserError: weights that are not positive or do not sum to 1, or a part with rules.
    """

    def __init__(self, parts: Sequence[tuple[float, ScoredPolicy]], slate_size: int = 1, name: str = "mixture") -> None:
        self.weights = np.array([weight for weight, _ in parts], np.float64)
        self.parts = [policy for _, policy in parts]
        self.slate_size, self.name = slate_size, name
        if not len(parts) or (self.weights <= 0).any() or abs(self.weights.sum() - 1) > 1e-9:
            raise UserError(
                "positive weights that sum to 1",
                str(self.weights.tolist()),
                where=name,
                hint="divide them by their sum",
                code=Code.BAD_WEIGHTS,
            )
        if any(part.rules is not None for part in self.parts):
            raise UserError(
                "parts without shop rules", "a part with rules", where=name, hint="apply rules to a single policy", code=Code.BAD_MIXTURE
            )
        self.weights /= self.weights.sum()

    def act(self, observation: Observation, rng: np.random.Generator) -> tuple[NDArray[np.int64], Propensities]:
        """Positions in the candidates and their exact propensities; [B] or [B, k]; -1 and 0 where nothing is allowed."""
        n, width = observation.actions.candidates.shape
        slate, propensity = np.full((n, self.slate_size), -1, np.int64), np.zeros((n, self.slate_size))
        if n and width:
            xs = self._legal(observation)
            slate = draws.draw_mixture(xs, [part.rule.draw for part in self.parts], self.weights, self.slate_size, rng)
            propensity = self._propensity(xs, slate)
        return (slate[:, 0], propensity[:, 0]) if self.slate_size == 1 else (slate, propensity)

    def propensity(self, observation: Observation, actions: IntArray) -> Propensities:
        """float64, shape of `actions`: the probability with which the mixture would have shown these positions."""
        return self._propensity(self._legal(observation), actions.reshape(len(actions), -1)).reshape(actions.shape)

    def probabilities(self, observation: Observation) -> Propensities:
        """float64 [B, K]: the probability of each candidate at the first position."""
        xs = self._legal(observation)
        living = draws.living_weights(xs, self.weights, np.zeros((len(xs[0]), 0), np.int64))
        return sum(
            (living[:, i, None] * part.rule.probabilities(x) for i, (part, x) in enumerate(zip(self.parts, xs))), np.zeros(xs[0].shape)
        )

    def _legal(self, observation: Observation) -> list[Legal]:
        mask: BoolArray = allowed(observation)
        return [legal_scores(part.scorer.scores(observation), mask) for part in self.parts]

    def _propensity(self, xs: list[Legal], slate: IntArray) -> Propensities:
        return draws.propensity_mixture(xs, [part.rule.propensity for part in self.parts], self.weights, slate)
