"""Q over the catalogue: Q(s, a) = V(z) + u(z) . (e_a - e_mean) + b_a - b_mean, per reward component, now and later.

The mean runs over the whole catalogue, never over candidates or a batch, so that Q of an item does not depend on what
it is compared with (dueling networks, Wang et al. 2016, arXiv:1511.06581, with a mean that masks cannot move).
In the now-and-later form, `now` predicts the reward of this step and `later` the discounted rest: Q = now + later.
The network is linear in e_a behind z, so the weighted sum over components and both heads costs one matrix product.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from qurate.networks.encoders import ENCODERS, HistoryViews, MeanEncoder
from qurate.networks.items import ItemTable, ItemTower


class Heads(NamedTuple):
    """What z says: values and item directions, by head (R now, then R later; single form: R)."""

    value: Tensor  # [B, H]
    direction: Tensor  # [B, H, d]
    behaviour: Tensor | None  # [B, d]


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
        self.views = HistoryViews(n_types)
        self.encoder = ENCODERS[encoder](dim, n_types, self.views.n_views, user_dim, context_dim, hidden)
        # `later` errors are many times larger than those of `now`; on shared layers they would drown it
        self.later_encoder = MeanEncoder(dim, n_types, self.views.n_views, user_dim, context_dim, hidden) if form == "now_later" else None
        self.value = nn.Linear(hidden, n_components)
        self.later_value = nn.Linear(hidden, n_components) if form == "now_later" else None
        known = hidden + user_dim + context_dim  # who the customer is also reaches the items straight, past the layers
        self.direction = nn.Linear(known, n_components * dim)
        self.later_direction = nn.Linear(known, n_components * dim) if form == "now_later" else None
        self.behaviour = nn.Linear(known, dim) if behaviour else None
        # an item compared with what was seen before, straight: e_a . D e_j for each view, D diagonal and learned
        self.match = nn.Parameter(torch.zeros(n_components + int(behaviour), self.views.n_views, dim))
        self.later_match = nn.Parameter(torch.zeros(n_components, self.views.n_views, dim)) if form == "now_later" else None
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
        sums, counts = self.views(state, table.vectors)
        hidden = self.encoder(state, table.vectors, sums, counts)
        known = [state[4], state[5]]
        z, value = torch.cat([hidden, *known], dim=1), self.value(hidden)
        matched = torch.einsum("bgd,hgd->bhd", sums, self.match)
        direction = self.direction(z).view(len(z), -1, self.dim) + matched[:, : self.n_components]
        if self.later_encoder and self.later_direction and self.later_value and self.later_match is not None:
            hidden = self.later_encoder(state, table.vectors, sums, counts)
            value = torch.cat([value, self.later_value(hidden)], dim=1)
            later = self.later_direction(torch.cat([hidden, *known], dim=1)).view(len(z), -1, self.dim) + torch.einsum(
                "bgd,hgd->bhd", sums, self.later_match
            )
            direction = torch.cat([direction, later], dim=1)
        behaviour = self.behaviour(z) + matched[:, -1] if self.behaviour is not None else None
        return Heads(value, direction, behaviour)

    def by_head(self, heads: Heads, table: ItemTable, items: Tensor) -> Tensor:
        """Q of chosen items by head, [B, K, H] for items [B, K]."""
        rows = table.centred[items]
        bias = rows[:, :, self.dim : self.dim + self.n_heads]
        return torch.einsum("bhd,bkd->bkh", heads.direction, rows[:, :, : self.dim]) + heads.value[:, None] + bias

    def q_direction(self, heads: Heads) -> Tensor:
        """[B, d + H]: the summed heads as one direction over `table.centred`; the biases ride in the same product."""
        return torch.cat([heads.direction.sum(1), self._pick(heads, slice(0, self.n_heads))], dim=1)

    def behaviour_direction(self, heads: Heads) -> Tensor:
        """[B, d + H]: the behaviour head as a direction over `table.centred`."""
        assert heads.behaviour is not None
        return torch.cat([heads.behaviour, self._pick(heads, slice(self.n_heads, None))], dim=1)

    def _pick(self, heads: Heads, columns: slice) -> Tensor:
        """Ones at the bias columns a head uses, [B, H]."""
        out = torch.zeros(len(heads.value), self.tower.n_heads)
        out[:, columns] = 1
        return out

    def q(self, heads: Heads, table: ItemTable, items: Tensor | None = None) -> Tensor:
        """Q summed over heads: [B, N + 1] over the catalogue (entry 0 is padding), or [B, K] for items [B, K]."""
        return over_items(self.q_direction(heads), table, items) + heads.value.sum(1, keepdim=True)

    def behaviour_logits(self, heads: Heads, table: ItemTable, items: Tensor | None = None) -> Tensor:
        """Unnormalised log pi_b: [B, N + 1], or [B, K] for items [B, K] (or [K] shared)."""
        return over_items(self.behaviour_direction(heads), table, items)


def over_items(direction: Tensor, table: ItemTable, items: Tensor | None) -> Tensor:
    """direction [B, d + H] . rows of `table.centred`: [B, N + 1], or [B, K] for items [B, K] or [K]."""
    if items is None:
        return direction @ table.centred.T
    if items.dim() == 1:
        return direction @ table.centred[items].T
    return torch.einsum("bd,bkd->bk", direction, table.centred[items])
