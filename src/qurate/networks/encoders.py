"""State encoders: history, user features and context become one vector z [B, hidden]."""

from typing import Any

import torch
from torch import Tensor, nn

from qurate.networks.values import StateTensors
from qurate.types import SESSION_GAP_US

SESSION_GAP_S = SESSION_GAP_US / 1e6
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
        """Sums [G, B, d] and their weights [G, B, L] (0 on padding), from a state's tensors and the item vectors [N + 1, d]."""
        items, types, gaps, values, _, _ = state
        length = items.shape[1]
        place = torch.arange(1, length + 1, device=gaps.device)
        decay = torch.exp(-torch.exp(self.log_rates)[:, None] * (length - place))  # [2, L]
        visit = place > torch.where(gaps >= SESSION_GAP_S, place, 0).amax(1, keepdim=True)  # rows after the last pause, clock included
        recency = torch.cat([decay[:, None].expand(-1, len(items), -1), (visit * 0.2)[None]])  # [3, B, L]
        of_type = types == torch.arange(1, self.n_types + 1, device=gaps.device)[:, None, None]  # [M, B, L], padding is of no type
        scaled = torch.sign(values) * torch.log1p(values.abs()) * (types > 0) / length
        weights = torch.cat([(recency[:, None] * of_type).flatten(0, 1), scaled[None]])  # [3M + 1, B, L]
        events = [weighted_sums(vectors, items, of_type, recency), weighted_sums(vectors, items, (scaled != 0)[None], scaled[None])]
        return torch.cat(events) * self.scale[:, None], weights


def weighted_sums(vectors: Tensor, items: Tensor, member: Tensor, weights: Tensor) -> Tensor:
    """Sums of item vectors over the events of each set under each weight, [K * M, B, d].

    Args:
        vectors: [N + 1, d].
        items: integers [B, L], the item of each event.
        member: bool [M, B, L], the events of each set.
        weights: [K, B, L].
    """
    count = member.sum(2).flatten()
    which, row, place = member.nonzero().unbind(1)
    at = row * items.shape[1] + place
    chosen = weights.flatten(1).index_select(1, at)
    sums = _WeightedSums.apply(vectors, items.flatten().index_select(0, at).long(), which * len(items) + row, count, chosen)
    return sums.view(-1, *items.shape[:1], vectors.shape[1])  # type: ignore[no-any-return]


class _WeightedSums(torch.autograd.Function):
    """Sum s, k is the sum of weights[k, e] * vectors[items[e]] over the events e of set s.

    Events are ordered by set, so that each sum reads the item table once and nothing of [B, L, d] is written; a window is
    often half empty. PyTorch's own gradient of `embedding_bag` adds row by row; here it is a sum over events ordered by item.
    """

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, items: Tensor, sets: Tensor, count: Tensor, weights: Tensor) -> Tensor:
        """[K * S, d] from vectors [N + 1, d], items [E], sets [E] ascending, events per set [S] and weights [K, E]."""
        ctx.save_for_backward(vectors, items, sets, count, weights)
        return _sums_of_rows(vectors, items, count, weights)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """With respect to vectors and weights."""
        vectors, items, sets, count, weights = ctx.saved_tensors
        order = items.argsort()
        of_sum = sets[order, None] + len(count) * torch.arange(len(weights), device=sets.device)  # [E, K]
        per_item = torch.bincount(items, minlength=len(vectors)) * len(weights)
        of_vectors = _sums_of_rows(gradient, of_sum.flatten(), per_item, weights[:, order].T.reshape(1, -1))
        of_weights = None
        if ctx.needs_input_grad[4]:
            with torch.enable_grad():
                free = weights.detach().requires_grad_()
                of_weights = torch.autograd.grad(_sums_of_rows(vectors.detach(), items, count, free), free, gradient)[0]
        return of_vectors, None, None, None, of_weights


def _sums_of_rows(table: Tensor, rows: Tensor, count: Tensor, weights: Tensor) -> Tensor:
    """Sums of so many consecutive weighted rows of a table, [K * S, d]: rows int64 [E], count [S], weights [K, E]."""
    k, n = weights.shape
    start = (count.cumsum(0) - count + n * torch.arange(k, device=count.device)[:, None]).flatten()
    return torch.nn.functional.embedding_bag(rows.repeat(k), table, start, mode="sum", per_sample_weights=weights.flatten())


class MeanEncoder(nn.Module):
    """Two layers over the views of the history, each view narrowed first: the heads see the full sums on a path of their own."""

    def __init__(self, dim: int, n_types: int, n_views: int, user_dim: int, context_dim: int, hidden: int) -> None:
        super().__init__()
        width = min(dim, PROJECTION_DIM)
        self.narrow = nn.Linear(dim, width, bias=False)
        self.layers = nn.Sequential(
            nn.Linear(n_views * (width + 1) + user_dim + context_dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )

    def forward(self, state: StateTensors, vectors: Tensor, sums: Tensor, counts: Tensor) -> Tensor:
        """z [B, hidden] from a state's tensors, the item vectors [N + 1, d], the sums [G, B, d] and counts [B, G] of the views."""
        return self.layers(torch.cat([self.narrow(sums).transpose(0, 1).flatten(1), counts, state.user, state.context], dim=1))  # type: ignore[no-any-return]


class GRUEncoder(nn.Module):
    """A gated recurrent unit over the events (Cho et al. 2014, arXiv:1406.1078; for sessions GRU4Rec, arXiv:1511.06939)."""

    def __init__(self, dim: int, n_types: int, n_views: int, user_dim: int, context_dim: int, hidden: int) -> None:
        super().__init__()
        self.types = nn.Embedding(n_types + 1, 8)
        self.gru = nn.GRU(dim + 8 + 2, hidden, batch_first=True)
        self.layers = nn.Sequential(nn.Linear(hidden + user_dim + context_dim, hidden), nn.ReLU())

    def forward(self, state: StateTensors, vectors: Tensor, sums: Tensor, counts: Tensor) -> Tensor:
        """z [B, hidden] from a state's tensors and the item vectors [N + 1, d]; the views are for the heads alone."""
        items, types, gaps, values, user, context = state
        numbers = torch.stack([torch.log1p(gaps.clamp(min=0)) / 10, torch.sign(values) * torch.log1p(values.abs())], dim=2)
        steps = torch.cat([vectors.index_select(0, items.flatten().long()).view(*items.shape, -1), self.types(types.long()), numbers], dim=2)
        # rows are right-aligned; shifting them left lets the recurrence start at the first real event
        length = (types > 0).sum(1)
        column = (torch.arange(steps.shape[1], device=steps.device)[None] + (steps.shape[1] - length)[:, None]) % steps.shape[1]
        steps = steps.gather(1, column[:, :, None].expand_as(steps))
        out, _ = self.gru(steps)
        last = out[torch.arange(len(out), device=out.device), (length - 1).clamp(min=0)] * (length > 0)[:, None]
        return self.layers(torch.cat([last, user, context], dim=1))  # type: ignore[no-any-return]


ENCODERS: dict[str, type[MeanEncoder] | type[GRUEncoder]] = {"mean": MeanEncoder, "gru": GRUEncoder}
