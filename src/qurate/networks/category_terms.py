"""What a customer did with each category: a term of every item of it, for models of events (`event_network.py`).

    l_i(s, a) += sum_c x_ac f_i(counts of category c in the window, user features)

x_ac is the item's share of category c, and f a small network that all categories share: two events of a type with a category say the
same of it, whichever it is. The products of states and item vectors can say this too, but must learn it for each category apart, from
far more events. Weighing events of the past by their likeness to the candidate is that of Zhou et al. 2018 (Deep Interest Network,
arXiv:1706.06978); here the likeness is the category, and what is weighed are counts.
"""

import torch
from torch import Tensor, nn

from qurate.networks.values import StateTensors

DECAYS = (0.97, 0.8)
"""Per event of the window: a long and a short memory of what was done with a category."""
HIDDEN = 32
MOST = 128
"""Categories that are counted, those of the most items: a table of states times categories is made for every batch."""


def category_columns(item_features: Tensor) -> Tensor:
    """bool [F]: which of the features [N + 1, F] are categories (zeros and ones alone, more than one of each), at most `MOST`."""
    real = item_features[1:]
    count = torch.where(((real == 0) | (real == 1)).all(0), real.sum(0), 0.0)
    count = torch.where(count < len(real), count, 0.0)
    out = torch.zeros(real.shape[1], dtype=torch.bool)
    out[torch.argsort(count, descending=True, stable=True)[:MOST]] = True
    return out & (count > 0)


class CategoryTerms(nn.Module):
    """The terms of B states for every category.

    Args:
        categories: float32 [N + 1, C] zeros and ones, row 0 zeros.
        n_types: M event types. user_dim: U. n_heads: H.
    """

    def __init__(self, categories: Tensor, *, n_types: int, user_dim: int, n_heads: int) -> None:
        super().__init__()
        self.n_types = n_types
        self.register_buffer("share", categories / categories.sum(1, keepdim=True).clamp(min=1), persistent=False)
        self.layers = nn.Sequential(nn.Linear(len(DECAYS) * n_types + user_dim, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, n_heads))
        for value in self.layers[2].parameters():  # it begins as no term at all
            nn.init.zeros_(value)

    def forward(self, state: StateTensors) -> Tensor:
        """float32 [B, C, H]."""
        items, types = state.history_items.long(), state.history_types
        back = torch.arange(items.shape[1] - 1, -1, -1, device=items.device)
        decay = torch.stack([rate**back for rate in DECAYS])  # [2, L]
        of_type = (types[:, None] == torch.arange(1, self.n_types + 1, device=items.device)[:, None]).float()
        counts = torch.bmm((of_type[:, :, None] * decay).flatten(1, 2), self.get_buffer("share")[items])  # [B, 2 M, C]
        known = state.user[:, None].expand(-1, counts.shape[2], -1)
        out: Tensor = self.layers(torch.cat([torch.log1p(counts).transpose(1, 2), known], dim=2))
        return out

    def of(self, terms: Tensor, actions: Tensor) -> Tensor:
        """The terms [B, C, H] of items [B, K]: [B, K, H]."""
        out: Tensor = self.get_buffer("share")[actions] @ terms
        return out
