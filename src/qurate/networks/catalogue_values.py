"""Values of every item of a catalogue for B states, without writing a [B, N] matrix where it is not needed.

Q(s, a) = V(z) + u(z) . (e_a - e_mean) + b_a - b_mean + r(s, a), per head; r(s, a) is the repeat-consumption bonus, nonzero
only for items in the window. All heads are linear in the item vectors, so their sum costs one matrix product.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from qurate.networks.candidate_layers import CandidateLayers
from qurate.networks.catalogue_max import MASKED_VALUE, best_item, soft_maximum
from qurate.networks.item_tower import ItemTable, TouchedTable
from qurate.types import OpenActions


class Heads(NamedTuple):
    """Per-state head outputs in the notation of the equation above: R heads of `now`, then R of `later` (single form: R)."""

    value: Tensor  # [B, H] V(z)
    direction: Tensor  # [B, H, d] u(z)
    behaviour: Tensor | None  # [B, d] the same for the logits of the behaviour head
    history: Tensor  # [B, L] int64, the items of the window
    repeat: Tensor  # [B, H, L] r(s, a) of the item at each place of the window
    behaviour_repeat: Tensor | None  # [B, L]
    state_value: Tensor | None = None  # [B, R] V(s), where the network has a head of it (IQL)


class Scores(NamedTuple):
    """Scores of B states for every item in factored form: direction . row of the table, plus the repeat bonus."""

    direction: Tensor  # [B, d + H], over `ItemTable.centred`
    history: Tensor  # [B, L] int64, 0 = padding
    repeat: Tensor  # [B, L], 0 on padding

    def without(self, items: Tensor | None) -> "Scores":
        """The scores of these states with the lowest value for items [B, X] (0 = padding)."""
        if items is None:
            return self
        lowest = self.repeat.new_full(items.shape, MASKED_VALUE)
        return Scores(self.direction, torch.cat([self.history, items], dim=1), torch.cat([self.repeat, lowest], dim=1))

    def rows(self, which: slice) -> "Scores":
        """The scores of some of the states."""
        return Scores(self.direction[which], self.history[which], self.repeat[which])

    def of(self, table: ItemTable | TouchedTable, items: Tensor | None) -> Tensor:
        """[B, N + 1] over the catalogue, or [B, K] for items [B, K]."""
        if items is None:
            return (self.direction @ table.centred.T).scatter_add_(1, self.history, self.repeat)
        bonus = repeat_bonus(self.repeat[:, None], self.history, items)[:, :, 0]
        return torch.einsum("bd,bkd->bk", self.direction, table.rows(items)) + bonus


def repeat_bonus(repeat: Tensor, history: Tensor, items: Tensor) -> Tensor:
    """The repeat-consumption bonus of items [B, K]: [B, K, H] from [B, H, L] and the windows [B, L]."""
    return inner_products((items[:, :, None] == history[:, None]).float(), repeat)


def inner_products(left: Tensor, right: Tensor) -> Tensor:
    """[B, K, H] of [B, K, D] and [B, H, D]."""
    if left.shape[1] == 1:  # the gradient of a batched product with a single row takes many times as long
        return (left * right).sum(2)[:, None]
    return torch.bmm(left, right.transpose(1, 2))


def _of_rows(open_actions: OpenActions[Tensor], rows: Tensor) -> OpenActions[Tensor]:
    """What is open in some of the states, all of which choose from the catalogue."""
    clock, excluded = (None if part is None else part[rows] for part in (open_actions.clock, open_actions.excluded))
    return open_actions._replace(candidates=None, features=None, clock=clock, excluded=excluded)


class CatalogueValues:
    """`ActionValues` of B states over a catalogue.

    Args:
        heads: of the states.
        table: of the items; its biases are H columns, one more where there is a behaviour head.
        candidate: what features of a candidate add to the heads, float32 [..., F] -> [..., H]; None without such features.
    """

    def __init__(self, heads: Heads, table: ItemTable | TouchedTable, candidate: CandidateLayers | None = None) -> None:
        self.heads, self.table, self.candidate = heads, table, candidate
        self.dim, self.n_heads = heads.direction.shape[2], heads.direction.shape[1]
        self.n_items = table.shape[0] - 1

    def rows(self, which: slice | Tensor) -> "CatalogueValues":
        """The values of some of the states."""
        return CatalogueValues(Heads(*(None if h is None else h[which] for h in self.heads)), self.table, self.candidate)  # type: ignore[arg-type]

    def by_head(self, actions: Tensor, features: Tensor | None = None) -> Tensor:
        """float32 [B, K, H] of items [B, K] with features [B, K, F] at this decision; None = those of the mean candidate."""
        heads, rows = self.heads, self.table.rows(actions)
        linear = inner_products(rows[:, :, : self.dim], heads.direction) + rows[:, :, self.dim : self.dim + self.n_heads]
        by_head = linear + heads.value[:, None] + repeat_bonus(heads.repeat, heads.history, actions)
        return by_head if self.candidate is None else by_head + self.candidate(features)

    def factors(self, which: Tensor) -> tuple[Tensor, Tensor]:
        """Two factors, [B, h, D] and [N + 1, D], whose product is the heads `which` int64 [h] of every item without the repeat bonus."""
        heads, rows = self.heads, self.table.centred
        biases = torch.eye(self.n_heads, rows.shape[1] - self.dim, device=rows.device)[which].expand(len(heads.value), -1, -1)
        states = torch.cat([heads.direction[:, which], biases, heads.value[:, which, None]], dim=2)
        return states, nn.functional.pad(rows, (0, 1), value=1.0)

    def add_repeats(self, by_head: Tensor, which: Tensor, some: slice) -> Tensor:
        """Adds the repeat bonus to heads `which` [h] of the states `some`, [b, h, N + 1], in place."""
        repeat = self.heads.repeat[some, which]
        return by_head.scatter_add_(2, self.heads.history[some, None].expand_as(repeat), repeat)

    def of(self, actions: Tensor, features: Tensor | None = None) -> Tensor:
        """Q, float32 [B, K], of items [B, K] with features [B, K, F]; None = those of the mean candidate."""
        q = self.scores().of(self.table, actions) + self.heads.value.sum(1, keepdim=True)
        return q if self.candidate is None else q + self.candidate(features).sum(-1)

    def all(self, features: Tensor | None = None) -> Tensor:
        """Q of the catalogue, float32 [B, N + 1]; features [B, N + 1, F], None = those of the mean candidate."""
        q = self.scores().of(self.table, None).add_(self.heads.value.sum(1, keepdim=True))  # in place: it may be 10,000s wide
        return q if self.candidate is None else q + self.candidate(features).sum(-1)

    def scores(self) -> Scores:
        """The summed heads as one score, without the state's value; the biases are columns of the same product."""
        heads = self.heads
        direction = torch.cat([heads.direction.sum(1), self._pick(slice(0, self.n_heads))], dim=1)
        return Scores(direction, heads.history, heads.repeat.sum(1))

    def behaviour_scores(self) -> Scores | None:
        """Logits of the behaviour head, up to a constant a row; None without one."""
        heads = self.heads
        if heads.behaviour is None or heads.behaviour_repeat is None:
            return None
        direction = torch.cat([heads.behaviour, self._pick(slice(self.n_heads, None))], dim=1)
        return Scores(direction, heads.history, heads.behaviour_repeat)

    def behaviour_logits(self, items: Tensor | None = None, features: Tensor | None = None) -> Tensor:
        """Unnormalised log pi_b: [B, N + 1], or [B, K] for items [B, K] with features [B, K, F].

        Raises:
            ValueError: the network has no behaviour head.
        """
        scores = self.behaviour_scores()
        if scores is None:
            raise ValueError("this network has no behaviour head (aux_weight=0)")
        logits = scores.of(self.table, items)
        return logits if self.candidate is None or features is None else logits + self.candidate.of_choice(features)

    def best(self, open_actions: OpenActions[Tensor], support: float = 0.0) -> Tensor:
        """See `ActionValues.best`; what is on an explicit list is inside the support by construction."""
        listed = open_actions.candidates
        if listed is None:
            return self._best_in_catalogue(open_actions, support)
        q = self.of(listed, open_actions.features).masked_fill(listed == 0, MASKED_VALUE)
        best = listed.gather(1, q.argmax(1, keepdim=True))[:, 0]
        without = torch.nonzero((listed > 0).sum(1) == 0)[:, 0]
        if len(without):
            best[without] = self.rows(without)._best_in_catalogue(_of_rows(open_actions, without), support)
        return best

    def soft_maximum(self, open_actions: OpenActions[Tensor], temperature: float, support: float = 0.0) -> Tensor:
        """temperature * log sum exp(Q / temperature) over the actions among which `best` looks, float32 [B]; 0 where there are none."""
        listed = open_actions.candidates
        if listed is None:
            value = self.heads.value.sum(1)
            scores, rows, begun = self._catalogue_scores(open_actions)
            behaviour = self._behaviour_inside(open_actions, support)
            soft = soft_maximum(scores, rows, begun, temperature, behaviour, support, open_actions.clock, open_actions.until)
            return torch.where(soft > MASKED_VALUE, soft + value, 0)
        q = self.of(listed, open_actions.features).masked_fill(listed == 0, MASKED_VALUE)
        out = temperature * torch.logsumexp(q / temperature, 1)
        without = torch.nonzero((listed > 0).sum(1) == 0)[:, 0]
        if len(without):
            out[without] = self.rows(without).soft_maximum(_of_rows(open_actions, without), temperature, support)
        return out

    def _best_in_catalogue(self, open_actions: OpenActions[Tensor], support: float) -> Tensor:
        behaviour = self._behaviour_inside(open_actions, support)
        if behaviour is None and (search := self.table.search) is not None:
            best = search.best(
                self.scores().without(open_actions.excluded), self._begun(open_actions), open_actions.clock, open_actions.until
            )
            if best is not None:
                return best
        scores, rows, begun = self._catalogue_scores(open_actions)
        return best_item(scores, rows, begun, behaviour, support, open_actions.clock, open_actions.until)

    def _catalogue_scores(self, open_actions: OpenActions[Tensor]) -> tuple[Scores, Tensor, Tensor]:
        """Scores of what is not excluded, the item rows, and how many items have begun, int64 [B]."""
        return self.scores().without(open_actions.excluded), self.table.centred, self._begun(open_actions)

    def _begun(self, open_actions: OpenActions[Tensor]) -> Tensor:
        clock, since = open_actions.clock, open_actions.since
        if clock is None or since is None:
            return torch.full((len(self.heads.value),), self.n_items, device=self.heads.value.device)
        return torch.searchsorted(since[1:], clock, right=True)

    def _behaviour_inside(self, open_actions: OpenActions[Tensor], support: float) -> Scores | None:
        """Logits of the behaviour head of what is not excluded; None without a support or such a head."""
        behaviour = self.behaviour_scores() if support > 0 else None
        return None if behaviour is None else behaviour.without(open_actions.excluded)

    def open_mask(self, open_actions: OpenActions[Tensor], support: float = 0.0) -> Tensor:
        """bool [B, N + 1]: which items are open and inside the support; for callers that need every item's value anyway."""
        value = self.heads.value
        items = torch.arange(self.n_items + 1, device=value.device)
        mask = (items > 0).expand(len(value), -1)
        if open_actions.clock is not None and open_actions.since is not None:
            mask = mask & (open_actions.since <= open_actions.clock[:, None])
            if open_actions.until is not None:
                mask = mask & (open_actions.clock[:, None] < open_actions.until)
        if open_actions.excluded is not None:
            mask = mask.scatter(1, open_actions.excluded, False)
        if support > 0 and self.heads.behaviour is not None:
            logits = self.behaviour_logits().masked_fill(~mask, MASKED_VALUE)
            inside = mask & (logits >= logits.amax(1, keepdim=True) + math.log(support))
            listed = open_actions.candidates
            mask = inside if listed is None else torch.where((listed > 0).any(1, keepdim=True), mask, inside)
        return mask

    def _pick(self, columns: slice) -> Tensor:
        """Ones at the bias columns that a score uses, [B, all heads]."""
        value = self.heads.value
        out = value.new_zeros(len(value), self.table.shape[1] - self.dim)
        out[:, columns] = 1
        return out

    def mean_square_gap(self, offset: Tensor) -> Tensor:
        """Mean over the catalogue of (offset + x + r)^2 - offset^2 by head, [B, H].

        x is linear in the centred item rows and r is the repeat bonus of the few items of the window. The mean of x^2 is a
        quadratic form in the items' Gram matrix (as in implicit ALS, Hu et al. 2008, doi:10.1109/ICDM.2008.22), so no item
        is sampled.

        Args:
            offset: [B, H], the same for all items.
        """
        heads, items = self.heads, self.n_items
        gram = self.table.centred.T @ self.table.centred / items
        biases = torch.eye(self.n_heads, self.table.shape[1] - self.dim, device=offset.device).expand(len(offset), -1, -1)
        direction = torch.cat([heads.direction, biases], dim=2)
        linear = ((direction @ gram) * direction).sum(2)
        of_window = torch.bmm(direction, self.table.centred[heads.history].transpose(1, 2))  # x of the window's items, [B, H, L]
        same = (heads.history[:, :, None] == heads.history[:, None]).float()
        repeat = heads.repeat * (heads.history > 0)[:, None]  # an event may name no item (a search): none of the catalogue's repeats
        twice = 2 * (offset[:, :, None] + of_window) + torch.bmm(repeat, same)  # an item may stand there more than once
        return linear + (repeat * twice).sum(2) / items
