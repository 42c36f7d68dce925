"""State encoders: history, user features and context become one vector z [B, hidden]."""

import torch
from torch import Tensor, nn

from qurate.networks.transformer import TransformerEncoder, event_steps
from qurate.networks.values import StateTensors
from qurate.networks.window_sums import view_sums, window_events
from qurate.types import SESSION_GAP_US

SESSION_GAP_S = SESSION_GAP_US / 1e6
FEW_PLACES = 2_048
"""Windows of so few places in all are summed by a dense product, which takes fewer operations: what the service decides at once."""
PROJECTION_DIM = 16
"""Item vectors are projected to so many dimensions before the MLP: with all of them its first layer is most of an update."""


class HistoryViews(nn.Module):
    """Sums of item vectors per event type under several views of recency.

    Each event type m has three views of the history: a fast and a slow exponential decay over positions (both rates
    are learned) and "this visit only"; one more sum is weighted by the event's value. Sums of one-hot categories are
    counts, so tiring of a category, which a recommender must see, is linear in them. Each view weighs the dimensions of
    the item vectors anew: what is like a purchase need not be like what was only seen.
    """

    def __init__(self, n_types: int, dim: int) -> None:
        super().__init__()
        self.n_types, self.n_views = n_types, 3 * n_types + 1
        self.log_rates = nn.Parameter(torch.tensor([-0.4, -2.5]))  # decay e^-0.67 and e^-0.08 per event at the start
        self.scale = nn.Parameter(torch.ones(self.n_views, dim))

    def forward(self, state: StateTensors, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Sums [B, G, d] and their weights [B, G, L] (0 on padding), from a state's tensors and the item vectors [N + 1, d].

        In memory both have G first, so that whatever mixes the views is a plain product.
        """
        items, types, gaps, values, _, _ = state
        length = types.shape[1]
        place = torch.arange(1, length + 1, device=gaps.device)
        decay = torch.exp(-torch.exp(self.log_rates)[:, None] * (length - place))  # [2, L]
        last_pause = torch.where(gaps >= SESSION_GAP_S, place, 0).amax(1, keepdim=True)
        visit = 0.2 * (place > last_pause)  # a pause before the clock counts too
        kinds = torch.arange(1, self.n_types + 1, dtype=types.dtype, device=types.device)
        is_type = types == kinds[:, None, None]  # [M, B, L], padding is of no type
        of_type = is_type.float()
        scaled = torch.sign(values) * torch.log1p(values.abs()) * (types > 0) / length
        weights = torch.cat([of_type * decay[0], of_type * decay[1], of_type * visit, scaled[None]])  # [3 M + 1, B, L]
        if items.numel() > FEW_PLACES:
            sums = view_sums(vectors, self.log_rates, window_events(state, is_type, visit, scaled))
        else:
            history = vectors.index_select(0, items.reshape(-1)).view(*items.shape, -1)  # [B, L, d]
            sums = torch.bmm(weights.transpose(0, 1), history).transpose(0, 1)
        return (sums * self.scale[:, None]).transpose(0, 1), weights.transpose(0, 1)


class MeanEncoder(nn.Module):
    """Two layers over the views of the history, each projected to few dimensions first; `CatalogueNetwork` also reads the full sums."""

    def __init__(self, dim: int, n_types: int, n_views: int, user_dim: int, context_dim: int, hidden: int) -> None:
        super().__init__()
        width = min(dim, PROJECTION_DIM)
        self.narrow = nn.Linear(dim, width, bias=False)
        self.layers = nn.Sequential(
            nn.Linear(n_views * (width + 1) + user_dim + context_dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )

    def forward(self, state: StateTensors, vectors: Tensor, sums: Tensor, counts: Tensor) -> Tensor:
        """z [B, hidden] from a state's tensors, the item vectors [N + 1, d] and the views (`HistoryViews`)."""
        narrowed = self.narrow(sums.transpose(0, 1)).transpose(0, 1).flatten(1)  # a plain product where the views come first
        return self.layers(torch.cat([narrowed, counts, state.user, state.context], dim=1))  # type: ignore[no-any-return]


class GRUEncoder(nn.Module):
    """A gated recurrent unit over the events (Cho et al. 2014, arXiv:1406.1078; for sessions GRU4Rec, arXiv:1511.06939)."""

    def __init__(self, dim: int, n_types: int, n_views: int, user_dim: int, context_dim: int, hidden: int) -> None:
        super().__init__()
        self.types = nn.Embedding(n_types + 1, 8)
        self.gru = nn.GRU(dim + 8 + 2, hidden, batch_first=True)
        self.layers = nn.Sequential(nn.Linear(hidden + user_dim + context_dim, hidden), nn.ReLU())

    def forward(self, state: StateTensors, vectors: Tensor, sums: Tensor, counts: Tensor) -> Tensor:
        """z [B, hidden] from a state's tensors and the item vectors [N + 1, d]; the views are for the heads alone."""
        steps, length = event_steps(state, vectors, self.types)
        out, _ = self.gru(steps)
        last = out[torch.arange(len(out), device=out.device), (length - 1).clamp(min=0)] * (length > 0)[:, None]
        return self.layers(torch.cat([last, state.user, state.context], dim=1))  # type: ignore[no-any-return]


ENCODERS: dict[str, type[MeanEncoder] | type[GRUEncoder] | type[TransformerEncoder]] = {
    "mean": MeanEncoder,
    "gru": GRUEncoder,
    "transformer": TransformerEncoder,
}
