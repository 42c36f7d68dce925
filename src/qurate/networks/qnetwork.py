"""Q over the catalogue: Q(s, a) = V(z) + u(z) . (e_a - e_mean) + b_a - b_mean, per reward component, now and later.

The mean runs over the whole catalogue, never over candidates or a batch, so that Q of an item does not depend on what
it is compared with (dueling networks, Wang et al. 2016, arXiv:1511.06581, with a mean that masks cannot move).
An item that stands in the state's window gets r(s, a) besides: what showing the same again is worth.
In the now-and-later form, `now` predicts the reward of this step and `later` the discounted rest: Q = now + later.
The network is linear in e_a behind z, so the weighted sum over components and both heads costs one matrix product.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from qurate.networks.encoders import ENCODERS, HistoryViews, MeanEncoder
from qurate.networks.item_tower import ItemTable, ItemTower

STRIDE = 10.0
"""The few weights of repeating begin at 0 and may have to reach several units (logits): Adam moves them this much faster."""


class Heads(NamedTuple):
    """What a state says, by head (R now, then R later; single form: R): values, item directions, what repeating brings."""

    value: Tensor  # [B, H]
    direction: Tensor  # [B, H, d]
    behaviour: Tensor | None  # [B, d]
    history: Tensor  # [B, L] int64, the items of the window
    repeat: Tensor  # [B, H, L] added to an item for each place of the window where it stands
    behaviour_repeat: Tensor | None  # [B, L]


class Scores(NamedTuple):
    """Scores of B states for every item, without writing them out: direction . row of the table, plus what repeating brings."""

    direction: Tensor  # [B, d + H], over `ItemTable.centred`
    history: Tensor  # [B, L] int64, 0 = padding
    repeat: Tensor  # [B, L], 0 on padding

    def rows(self, which: slice) -> "Scores":
        """The scores of some of the states."""
        return Scores(self.direction[which], self.history[which], self.repeat[which])

    def of(self, table: ItemTable, items: Tensor | None) -> Tensor:
        """[B, N + 1] over the catalogue, or [B, K] for items [B, K]."""
        if items is None:
            return (self.direction @ table.centred.T).scatter_add(1, self.history, self.repeat)
        again = repeats(self.repeat[:, None], self.history, items)[:, :, 0]
        return torch.einsum("bd,bkd->bk", self.direction, table.centred[items]) + again


def repeats(repeat: Tensor, history: Tensor, items: Tensor) -> Tensor:
    """What repeating brings each of items [B, K]: [B, K, H] from [B, H, L] and the windows [B, L]."""
    same = (items[:, :, None] == history[:, None]).float()
    return torch.bmm(same, repeat.transpose(1, 2))


class QNetwork(nn.Module):
    """State encoder, item tower and heads.

    Args:
        item_features: float32 [N + 1, F], row 0 zeros.
        n_types: M event types. user_dim, context_dim: U and C. n_components: R.
        dim, hidden, encoder, form, id_embedding, id_dropout: see `config.Settings`.
        behaviour: add the head pi_b(a | s) that says what the log's policy (or customer) chose.
    """

    def __init__(
        self, item_features: Tensor, *, n_types: int, user_dim: int, context_dim: int, n_components: int, dim: int, hidden: int,
        encoder: str, form: str, id_embedding: bool, id_dropout: float, behaviour: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.n_components, self.form, self.dim = n_components, form, dim
        self.n_heads = n_components * (2 if form == "now_later" else 1)
        self.tower = ItemTower(item_features, dim, self.n_heads + int(behaviour), hidden, id_embedding, id_dropout)
        self.views = HistoryViews(n_types, dim)
        self.encoder = ENCODERS[encoder](dim, n_types, self.views.n_views, user_dim, context_dim, hidden)
        # `later` errors are many times larger than those of `now`; on shared layers they would drown it
        self.later_encoder = MeanEncoder(dim, n_types, self.views.n_views, user_dim, context_dim, hidden) if form == "now_later" else None
        self.value = nn.Linear(hidden, n_components)
        self.later_value = nn.Linear(hidden, n_components) if form == "now_later" else None
        known = hidden + user_dim + context_dim  # who the customer is also reaches the items straight, past the layers
        self.direction = nn.Linear(known, n_components * dim)
        self.later_direction = nn.Linear(known, n_components * dim) if form == "now_later" else None
        self.behaviour = nn.Linear(known, dim) if behaviour else None
        # an item compared with what was seen before, straight: by likeness (e_a . scaled e_j) and by being the same one again
        # (repeat consumption; for sessions Ren et al. 2019, arXiv:1812.02646), each a mix of the views, learned, first zero
        self.n_matched = self.n_heads + int(behaviour)
        self.match = nn.Parameter(torch.zeros(self.n_matched, self.views.n_views))
        self.repeat = nn.Parameter(torch.zeros(self.n_matched, self.views.n_views))
        if (
            self.later_direction is not None and self.later_value is not None
        ):  # the correction starts at zero: at first Q is the myopic policy
            nn.init.zeros_(self.later_direction.weight)
            nn.init.zeros_(self.later_direction.bias)
            nn.init.zeros_(self.later_value.weight)
            nn.init.zeros_(self.later_value.bias)
        nn.init.zeros_(self.value.weight)
        nn.init.zeros_(self.value.bias)

    def items(self, generator: torch.Generator | None = None) -> ItemTable:
        """The item table; compute once per parameter change and pass it on."""
        return self.tower(generator)  # type: ignore[no-any-return]

    def heads(self, state: tuple[Tensor, ...], table: ItemTable) -> Heads:
        """Head outputs for B states."""
        sums, weights = self.views(state, table.vectors)
        counts, known, rows = weights.sum(2), [state[4], state[5]], len(sums)
        matched = torch.bmm(self.match.expand(rows, -1, -1), sums)
        repeat = torch.bmm((self.repeat * STRIDE).expand(rows, -1, -1), weights)
        hidden = self.encoder(state, table.vectors, sums, counts)
        z, value = torch.cat([hidden, *known], dim=1), self.value(hidden)
        direction = self.direction(z).view(rows, -1, self.dim)
        if self.later_encoder and self.later_direction and self.later_value:
            hidden = self.later_encoder(state, table.vectors, sums, counts)
            value = torch.cat([value, self.later_value(hidden)], dim=1)
            later = self.later_direction(torch.cat([hidden, *known], dim=1)).view(rows, -1, self.dim)
            direction = torch.cat([direction, later], dim=1)
        behaviour = self.behaviour(z) + matched[:, -1] if self.behaviour is not None else None
        return Heads(
            value, direction + matched[:, : self.n_heads], behaviour, state[0].long(), repeat[:, : self.n_heads],
            repeat[:, -1] if behaviour is not None else None,
        )  # fmt: skip

    def by_head(self, heads: Heads, table: ItemTable, items: Tensor) -> Tensor:
        """Q of chosen items by head, [B, K, H] for items [B, K]."""
        rows = table.centred[items]
        linear = torch.bmm(rows[:, :, : self.dim], heads.direction.transpose(1, 2)) + rows[:, :, self.dim : self.dim + self.n_heads]
        return linear + heads.value[:, None] + repeats(heads.repeat, heads.history, items)

    def q_scores(self, heads: Heads) -> Scores:
        """The summed heads as one score, less the state's value; the biases ride in the same product."""
        direction = torch.cat([heads.direction.sum(1), self._pick(heads, slice(0, self.n_heads))], dim=1)
        return Scores(direction, heads.history, heads.repeat.sum(1))

    def behaviour_scores(self, heads: Heads) -> Scores:
        """The behaviour head's logits."""
        assert heads.behaviour is not None and heads.behaviour_repeat is not None
        direction = torch.cat([heads.behaviour, self._pick(heads, slice(self.n_heads, None))], dim=1)
        return Scores(direction, heads.history, heads.behaviour_repeat)

    def _pick(self, heads: Heads, columns: slice) -> Tensor:
        """Ones at the bias columns a head uses, [B, H]."""
        out = torch.zeros(len(heads.value), self.tower.n_heads)
        out[:, columns] = 1
        return out

    def q(self, heads: Heads, table: ItemTable, items: Tensor | None = None) -> Tensor:
        """Q summed over heads: [B, N + 1] over the catalogue (entry 0 is padding), or [B, K] for items [B, K]."""
        return self.q_scores(heads).of(table, items) + heads.value.sum(1, keepdim=True)

    def behaviour_logits(self, heads: Heads, table: ItemTable, items: Tensor | None = None) -> Tensor:
        """Unnormalised log pi_b: [B, N + 1], or [B, K] for items [B, K]."""
        return self.behaviour_scores(heads).of(table, items)
