"""A causal transformer over the events (for sessions SASRec, Kang and McAuley 2018, arXiv:1808.09781)."""

import math

import torch
from torch import Tensor, nn

from qurate.networks.values import StateTensors

BLOCKS, ATTENTION_HEADS = 2, 2
LONGEST = 10_000.0
"""Of the wave lengths of places, in events (Vaswani et al. 2017, arXiv:1706.03762, section 3.5)."""


class TransformerEncoder(nn.Module):
    """Two blocks of self-attention, each event over itself and those before it; the newest event's output is the state.

    Places are counted from the newest event, by sines and cosines, so that any window will do; layers are normalised before
    (Xiong et al. 2020, arXiv:2002.04745). There is no dropout: in training `id_dropout` hides ids.
    """

    def __init__(self, dim: int, n_types: int, n_views: int, user_dim: int, context_dim: int, hidden: int) -> None:
        super().__init__()
        self.types = nn.Embedding(n_types + 1, 8)
        self.project = nn.Linear(dim + 8 + 2, hidden)
        block = nn.TransformerEncoderLayer(
            hidden, ATTENTION_HEADS if hidden % ATTENTION_HEADS == 0 else 1, hidden, dropout=0.0, batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, BLOCKS, norm=nn.LayerNorm(hidden), enable_nested_tensor=False)
        self.layers = nn.Sequential(nn.Linear(hidden + user_dim + context_dim, hidden), nn.ReLU())

    def forward(self, state: StateTensors, vectors: Tensor, sums: Tensor, counts: Tensor) -> Tensor:
        """z [B, hidden] from a state's tensors and the item vectors [N + 1, d]; the views are for the heads alone."""
        steps, length = event_steps(state, vectors, self.types)
        x = self.project(steps)
        back = (length[:, None] - 1 - torch.arange(x.shape[1], device=x.device)).float()  # events after each one
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], device=x.device)
        out = self.blocks(x + waves(back, x.shape[2]), mask=mask, is_causal=True)
        last = out[torch.arange(len(out), device=out.device), (length - 1).clamp(min=0)] * (length > 0)[:, None]
        return self.layers(torch.cat([last, state.user, state.context], dim=1))  # type: ignore[no-any-return]


def event_steps(state: StateTensors, vectors: Tensor, types: nn.Embedding) -> tuple[Tensor, Tensor]:
    """What a sequence model reads of each event, [B, L, d + 10], and how many real events there are, [B].

    Rows of a state are right-aligned; here the first real event comes first, and padding after the newest one.
    """
    items, kinds, gaps, values, _, _ = state
    numbers = torch.stack([torch.log1p(gaps.clamp(min=0)) / 10, torch.sign(values) * torch.log1p(values.abs())], dim=2)
    steps = torch.cat([vectors.index_select(0, items.flatten()).view(*items.shape, -1), types(kinds.long()), numbers], dim=2)
    length = (kinds > 0).sum(1)
    column = (torch.arange(steps.shape[1], device=steps.device)[None] + (steps.shape[1] - length)[:, None]) % steps.shape[1]
    return steps.gather(1, column[:, :, None].expand_as(steps)), length


def waves(place: Tensor, width: int) -> Tensor:
    """Sines and cosines of places [B, L] at `width` / 2 wave lengths, [B, L, width]."""
    rate = torch.exp(-math.log(LONGEST) * torch.arange((width + 1) // 2, device=place.device) / max((width + 1) // 2, 1))
    angle = place[:, :, None] * rate
    return torch.cat([torch.sin(angle), torch.cos(angle)], dim=2)[:, :, :width]
