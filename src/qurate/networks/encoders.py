"""State encoders: history, user features and context become one vector z [B, hidden]."""

import numpy as np
import torch
from torch import Tensor, nn

from qurate.mdp.types import SESSION_GAP_US, State

SESSION_GAP_S = SESSION_GAP_US / 1e6


def to_tensors(state: State) -> tuple[Tensor, ...]:
    """The arrays of a state as tensors; only read-only ones are copied."""
    return tuple(torch.from_numpy(np.require(a, requirements="W")) for a in state)


class MeanEncoder(nn.Module):
    """Sums of item vectors per event type under several views of recency, then two layers.

    Each event type m has three views of the history: a fast and a slow exponential decay over positions (both rates
    are learned) and "this visit only"; one more sum is weighted by the event's value. Sums of one-hot categories are
    counts, so tiring of a category, which a recommender must see, is linear in them.
    """

    def __init__(self, dim: int, n_types: int, user_dim: int, context_dim: int, hidden: int) -> None:
        super().__init__()
        self.n_types = n_types
        self.log_rates = nn.Parameter(torch.tensor([-0.4, -2.5]))  # decay e^-0.67 and e^-0.08 per event at the start
        views = 3 * n_types + 1
        self.layers = nn.Sequential(
            nn.Linear(views * (dim + 1) + user_dim + context_dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )

    def forward(self, state: tuple[Tensor, ...], vectors: Tensor) -> Tensor:
        """z [B, hidden] from a state's tensors and the item vectors [N + 1, d]."""
        items, types, gaps, values, user, context = state
        length = items.shape[1]
        age = torch.arange(length - 1, -1, -1, dtype=torch.float32)
        decay = torch.exp(-torch.exp(self.log_rates)[:, None] * age)  # [2, L]
        pauses = (gaps >= SESSION_GAP_S).flip(1).cumsum(1).flip(1) == 0  # rows after the last pause, clock included
        real = (types > 0).float()
        views = torch.stack([decay[0] * real, decay[1] * real, pauses * real * 0.2], dim=1)  # [B, 3, L]
        one_hot = nn.functional.one_hot(types.long(), self.n_types + 1)[:, :, 1:].float()  # [B, L, M]
        weights = (views[:, :, None, :] * one_hot.transpose(1, 2)[:, None]).flatten(1, 2)  # [B, 3M, L]
        scaled = torch.sign(values) * torch.log1p(values.abs()) * real / length
        weights = torch.cat([weights, scaled[:, None, :]], dim=1)
        history = vectors[items.long()]  # [B, L, d]
        sums = torch.bmm(weights, history).flatten(1)
        return self.layers(torch.cat([sums, weights.sum(2), user, context], dim=1))  # type: ignore[no-any-return]


class GRUEncoder(nn.Module):
    """A gated recurrent unit over the events (Cho et al. 2014, arXiv:1406.1078; for sessions GRU4Rec, arXiv:1511.06939)."""

    def __init__(self, dim: int, n_types: int, user_dim: int, context_dim: int, hidden: int) -> None:
        super().__init__()
        self.types = nn.Embedding(n_types + 1, 8)
        self.gru = nn.GRU(dim + 8 + 2, hidden, batch_first=True)
        self.layers = nn.Sequential(nn.Linear(hidden + user_dim + context_dim, hidden), nn.ReLU())

    def forward(self, state: tuple[Tensor, ...], vectors: Tensor) -> Tensor:
        """z [B, hidden] from a state's tensors and the item vectors [N + 1, d]."""
        items, types, gaps, values, user, context = state
        numbers = torch.stack([torch.log1p(gaps.clamp(min=0)) / 10, torch.sign(values) * torch.log1p(values.abs())], dim=2)
        steps = torch.cat([vectors[items.long()], self.types(types.long()), numbers], dim=2)
        # rows are right-aligned; shifting them left lets the recurrence start at the first real event
        length = (types > 0).sum(1)
        column = (torch.arange(steps.shape[1])[None] + (steps.shape[1] - length)[:, None]) % steps.shape[1]
        steps = steps.gather(1, column[:, :, None].expand_as(steps))
        out, _ = self.gru(steps)
        last = out[torch.arange(len(out)), (length - 1).clamp(min=0)] * (length > 0)[:, None]
        return self.layers(torch.cat([last, user, context], dim=1))  # type: ignore[no-any-return]


ENCODERS: dict[str, type[MeanEncoder] | type[GRUEncoder]] = {"mean": MeanEncoder, "gru": GRUEncoder}
