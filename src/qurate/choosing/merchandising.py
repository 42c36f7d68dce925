"""What may be shown: availability, what was seen or excluded, and simple rules (pin, block, quota), all as masks.

Masks are bool [B, K] over the candidates of an observation, True = may be shown. Where all rows share one candidate
list and one answer, the mask is a broadcast view.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qurate.choosing.selection import Scores, SelectionRule, legal_scores
from qurate.choosing.slate_sampling import is_shared
from qurate.errors import Code, UserError
from qurate.types import Availability, IntArray, Observation, Propensities

BoolArray = NDArray[np.bool_]


def allowed(observation: Observation) -> BoolArray:
    """[B, K] True where there is a candidate and its action mask is 1."""
    candidates, mask = observation.actions.candidates, observation.actions.mask
    if len(candidates) > 1 and is_shared(candidates) and is_shared(mask):
        return np.broadcast_to((candidates[:1] > 0) & (mask[:1] != 0), candidates.shape)
    out: BoolArray = (candidates > 0) & (mask != 0)
    return out


def available(candidates: IntArray, availability: Availability, clock: IntArray) -> BoolArray:
    """[B, K] True where the candidate may be shown at the row's clock [B] (microseconds); padding may not."""
    items = candidates[:1] if is_shared(candidates) else candidates
    return availability.is_open(items, clock[:, None])


def contains(candidates: IntArray, items: IntArray) -> BoolArray:
    """[B, K] True where the candidate is in `items`: [X] for all rows, or [B, X] row by row, 0 = padding.

    With the rows' history it says what was seen; with a request's list, what is excluded.
    """
    if items.ndim == 1:
        wanted = items[items > 0]
        if len(candidates) > 1 and is_shared(candidates):
            return np.broadcast_to(np.isin(candidates[:1], wanted), candidates.shape)
        return np.isin(candidates, wanted)
    return listed(candidates, np.arange(len(items))[:, None], items)


def listed(candidates: IntArray, owner: IntArray, items: IntArray) -> BoolArray:
    """[B, K] True where the candidate is among its row's items, given flat: item `items[m]` belongs to row `owner[m]`."""
    size = int(max(candidates.max(initial=0), items.max(initial=0))) + 1
    table = np.zeros((len(candidates), size), np.bool_)
    table[owner, items] = True
    table[:, 0] = False
    return table[:, candidates[0]] if is_shared(candidates) else np.take_along_axis(table, candidates, 1)


def unseen(observation: Observation) -> BoolArray:
    """[B, K] True where the candidate is not in the customer's history window."""
    return ~contains(observation.actions.candidates, observation.state.history_items)


@dataclass(frozen=True, slots=True)
class Pin:
    """`item` (index) stands at `position` (from 0) wherever it may be shown, and nowhere else."""

    item: int
    position: int


@dataclass(frozen=True, slots=True)
class Quota:
    """Of a group of items (indices), at least / at most so many in a slate."""

    items: tuple[int, ...]
    at_least: int = 0
    at_most: int | None = None


@dataclass(frozen=True, slots=True)
class MerchandisingRules:
    """A shopkeeper's rules. Block beats pin, a pin beats quotas; `at_least` gives way where too few items are left.

    Raises:
        UserError: two pins for one item or position, negative numbers, at_least above at_most.
    """

    pins: tuple[Pin, ...] = ()
    block: tuple[int, ...] = ()
    quotas: tuple[Quota, ...] = ()

    def __post_init__(self) -> None:
        for values, what in (([p.item for p in self.pins], "item"), ([p.position for p in self.pins], "position")):
            if len(set(values)) < len(values) or min(values, default=0) < 0:
                raise UserError(
                    f"one pin per {what}, from 0 up", str(values), where="rules.pins", hint="remove the second pin", code=Code.BAD_RULES
                )
        for quota in self.quotas:
            if quota.at_least < 0 or (quota.at_most is not None and quota.at_most < quota.at_least):
                raise UserError("0 <= at_least <= at_most", f"{quota.at_least}..{quota.at_most}", where="rules.quotas", code=Code.BAD_RULES)

    def mask(self, candidates: IntArray, legal: BoolArray, above: IntArray, k: int) -> BoolArray:
        """[B, K] what may stand at position j = above.shape[1] of a slate of k.

        Args:
            candidates: [B, K] item indices.
            legal: [B, K] what may be shown at all and is not above yet.
            above: [B, j] items already chosen, 0 = none.
            k: length of the slate.
        """
        j = above.shape[1]
        pins = [pin for pin in self.pins if pin.position < k and pin.item not in self.block]
        out = legal & ~contains(candidates, np.array(self.block, np.int64)) if self.block else legal.copy()
        forced = np.zeros(len(legal), np.bool_)
        ahead: list[tuple[Pin, BoolArray]] = []  # pins further down, and the rows in which they can be kept
        for pin in pins:
            is_item = candidates == pin.item
            possible = (out & is_item).any(axis=1)
            if pin.position == j:
                out = np.where(possible[:, None], is_item & out, out)
                forced = possible
            elif pin.position > j:
                ahead.append((pin, possible))
        for pin, _ in ahead:
            out = out & (candidates != pin.item)
        return out if forced.all() else np.where(forced[:, None], out, self._quota_mask(candidates, out, above, ahead, k - j))

    def _quota_mask(
        self, candidates: IntArray, out: BoolArray, above: IntArray, ahead: list[tuple[Pin, BoolArray]], left: int
    ) -> BoolArray:
        free = left - sum((rows.astype(np.int64) for _, rows in ahead), np.zeros(len(out), np.int64))
        needs = np.zeros(len(out), np.int64)
        needy = np.zeros(out.shape, np.bool_)
        for quota in self.quotas:
            group = np.array(quota.items, np.int64)
            inside = contains(candidates, group)
            used = np.isin(above, group[group > 0]).sum(axis=1)
            used += sum((rows.astype(np.int64) for pin, rows in ahead if pin.item in quota.items), np.zeros(len(out), np.int64))
            if quota.at_most is not None:
                out = out & ~(inside & (used >= quota.at_most)[:, None])
            need = np.maximum(quota.at_least - used, 0)
            needs += need
            needy |= inside & (need > 0)[:, None]
        must = (needs > 0) & (needs >= free) & (out & needy).any(axis=1)
        return np.where(must[:, None], out & needy, out)


def choose_with_rules(
    rule: SelectionRule, rules: MerchandisingRules, scores: Scores, mask: BoolArray, candidates: IntArray, k: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], Propensities]:
    """A slate [B, k] of positions under shop rules, and the exact propensities given the items above.

    Position by position, so each costs a pass over the candidates. -1 and 0 where the rules leave nothing.
    """
    slate = np.full((len(scores), k), -1, np.int64)
    propensity = np.zeros(slate.shape)
    rows = np.arange(len(scores))
    for j in range(k if scores.shape[1] else 0):
        x = _under_rules(rules, scores, mask, candidates, slate[:, :j], k)
        drawn = rule.draw(x, 1, rng)
        slate[rows, j] = drawn[:, 0]
        propensity[:, j] = rule.propensity(x, drawn)[:, 0]
    return slate, propensity


def propensity_with_rules(
    rule: SelectionRule, rules: MerchandisingRules, scores: Scores, mask: BoolArray, candidates: IntArray, slate: IntArray
) -> Propensities:
    """float64 [B, k]: the propensities of a given slate of positions under shop rules."""
    out = np.zeros(slate.shape)
    for j in range(slate.shape[1] if scores.shape[1] else 0):
        x = _under_rules(rules, scores, mask, candidates, slate[:, :j], slate.shape[1])
        out[:, j] = rule.propensity(x, slate[:, j : j + 1])[:, 0]
    return out


def _under_rules(rules: MerchandisingRules, scores: Scores, mask: BoolArray, candidates: IntArray, chosen: IntArray, k: int) -> Scores:
    legal = np.array(legal_scores(scores, mask) > -np.inf)
    rows, at = np.nonzero(chosen >= 0)
    legal[rows, chosen[rows, at]] = False
    above = np.where(chosen >= 0, candidates[np.arange(len(chosen))[:, None], chosen], 0)
    return legal_scores(scores, rules.mask(candidates, legal, above, k))
