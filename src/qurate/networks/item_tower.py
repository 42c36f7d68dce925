"""The item tower: a vector and biases for every item of the catalogue, from its features and (if wanted) its id."""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class ItemTable(NamedTuple):
    """The whole catalogue at once; row 0 is padding. `centred` is what Q heads see: e_a - e_mean over the catalogue."""

    vectors: Tensor  # [N + 1, d]
    centred: Tensor  # [N + 1, d + H]: centred vectors, then the H biases, centred too


class ItemTower(nn.Module):
    """e_a = id embedding + layers(features); an unseen id has the zero embedding, so its features carry it.

    Args:
        features: float32 [N + 1, F], row 0 zeros; F may be 0.
        dim: d, dimensions of an item vector.
        n_heads: H, biases per item.
        hidden: units of the layer over the features.
        id_embedding: learn a free vector and free biases per item; without it and without features all items are alike.
        id_dropout: share of ids hidden per call in training mode.
    """

    def __init__(self, features: Tensor, dim: int, n_heads: int, hidden: int, id_embedding: bool, id_dropout: float) -> None:
        super().__init__()
        self.register_buffer("features", features, persistent=False)
        self.register_buffer("real", (torch.arange(len(features)) > 0).float()[:, None], persistent=False)  # [N + 1, 1], 0 on padding
        width = features.shape[1]
        # two kinds of features act together (a liked category at a low price), which a linear tower cannot say
        self.from_features = (
            nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, dim + n_heads, bias=False)) if width else None
        )
        self.ids = nn.Parameter(torch.randn(features.shape[0], dim) * 0.1) if id_embedding else None
        self.id_bias = nn.Parameter(torch.zeros(features.shape[0], n_heads)) if self.ids is not None else None
        self.id_dropout = id_dropout if self.from_features is not None else 0.0
        self.dim, self.n_heads = dim, n_heads

    def forward(self, generator: torch.Generator | None = None) -> ItemTable:
        """The table of all items; `generator` draws the id dropout in training mode."""
        real, rows = self.get_buffer("real"), self.get_buffer("features").shape[0]
        parts: list[Tensor] = [] if self.from_features is None else [self.from_features(self.get_buffer("features"))]
        if self.ids is not None and self.id_bias is not None:
            own = torch.cat([self.ids, self.id_bias], dim=1)
            if self.training and self.id_dropout > 0:
                keep = torch.rand(rows, 1, generator=generator, device=own.device) >= self.id_dropout
                own = own * keep
            parts.append(own)
        if not parts:  # nothing is known of any item by itself
            alike = real.new_zeros(1, self.dim + self.n_heads).expand(rows, -1)
            return ItemTable(alike[:, : self.dim], alike)
        out = (parts[0] if len(parts) == 1 else parts[0] + parts[1]) * real
        centred = (out + out.sum(0, keepdim=True) * (-1 / max(rows - 1, 1))) * real  # minus on one row: its gradient is one row too
        return ItemTable(out[:, : self.dim].contiguous(), centred)
