"""Sums of item vectors over windows of events: products with a sparse matrix, over the real events alone.

Most of a window is padding, and an event has one type: of the weights [views, B, L] nine in ten are 0. A dense product would write
the item vectors of all places, [B, L, d], to memory, several times the work of all layers behind it.
"""

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from qurate.networks.values import StateTensors


class WindowEvents(NamedTuple):
    """The E real events of B windows, ordered by type, then row, then place; what does not depend on any parameter."""

    item: Tensor  # int64 [E]
    group: Tensor  # int64 [E] (type - 1) * B + row, ascending
    age: Tensor  # float32 [E], 0 = newest place of the window
    visit: Tensor  # float32 [E] weight in the sum over this visit
    valued: Tensor  # int64 [K] the places row * L + place of events with a value, ascending
    value: Tensor  # float32 [K] their weights
    valued_item: Tensor  # int64 [K]
    shape: tuple[int, int, int]  # M, B, L


def window_events(state: StateTensors, of_type: Tensor, visit: Tensor, value: Tensor) -> WindowEvents:
    """The events of a state.

    Args:
        of_type: bool [M, B, L], False on padding.
        visit, value: float32 [B, L] weights of the places; those of `value` are 0 on padding.
    """
    types, rows, length = of_type.shape
    items, (kind, row, place) = state.history_items.reshape(-1), torch.nonzero(of_type).unbind(1)
    where, valued = row * length + place, torch.nonzero(value.view(-1))[:, 0]
    return WindowEvents(
        items.index_select(0, where).long(), kind * rows + row, (length - 1 - place).float(), visit.reshape(-1).index_select(0, where),
        valued, value.view(-1).index_select(0, valued), items.index_select(0, valued).long(), (types, rows, length),
    )  # fmt: skip


def view_sums(vectors: Tensor, log_rates: Tensor, events: WindowEvents) -> Tensor:
    """Sums [3 M + 1, B, d]: of each type with a fast decay, a slow decay and over this visit, and one weighted by values.

    Args:
        vectors: [N + 1, d] of the items.
        log_rates: [2]; the fast and the slow weight of a place is exp(-exp(log_rate) * age).
    """
    return cast(Tensor, _ViewSums.apply(vectors, log_rates, events))  # type: ignore[no-untyped-call]


class _ViewSums(torch.autograd.Function):
    """`view_sums` with its gradients.

    The derivative by the two rates is the same sum with weights derived by the rate, so it is summed in the forward pass:
    a dot product per event in the backward pass would take as long as all the rest.
    """

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, log_rates: Tensor, events: WindowEvents) -> Tensor:
        """See `view_sums`."""
        types, rows, length = events.shape
        slope = -torch.exp(log_rates)[:, None] * events.age
        decay = torch.exp(slope)  # [2, E]
        weights = torch.cat([decay, events.visit[None]])  # [3, E]
        starts = torch.searchsorted(events.group, torch.arange(types * rows, device=vectors.device))
        n, views = len(events.item), torch.arange(3, device=vectors.device)[:, None]
        of_value = torch.searchsorted(events.valued, torch.arange(rows, device=vectors.device) * length)
        item = torch.cat([events.item.repeat(3), events.valued_item])
        bags = torch.cat([(starts + n * views).view(-1), of_value + 3 * n])
        out = _sums(vectors, item, bags, torch.cat([weights.view(-1), events.value]))
        if ctx.needs_input_grad[1]:
            twice = (starts + n * views[:2]).view(-1)
            by_rate = _sums(vectors, item[: 2 * n], twice, (decay * slope).view(-1))
        else:
            by_rate = out[:0]
        ctx.save_for_backward(weights, by_rate)
        ctx.events, ctx.items = events, len(vectors)
        return out.view(-1, rows, vectors.shape[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        """Gradients of the item vectors and of the log rates."""
        weights, by_rate = ctx.saved_tensors
        events: WindowEvents = ctx.events
        types, rows, length = events.shape
        grad = grad.contiguous().view(-1, grad.shape[-1])
        views = torch.arange(3, device=grad.device) * (types * rows)
        of_event = _sums(grad, events.group[:, None] + views, None, weights.T.contiguous())  # [E, d]
        vectors = grad.new_zeros(ctx.items, grad.shape[1]).index_add_(0, events.item, of_event)
        of_value = grad[3 * types * rows :].index_select(0, events.valued // length) * events.value[:, None]
        vectors.index_add_(0, events.valued_item, of_value)
        rates = (grad[: len(by_rate)] * by_rate).view(2, -1).sum(1) if len(by_rate) else None
        return vectors, rates, None


def _sums(rows: Tensor, index: Tensor, starts: Tensor | None, weights: Tensor) -> Tensor:
    """Weighted sums of rows, a bag of indices each: bags that begin at `starts`, or the rows of a matrix of indices."""
    return torch.nn.functional.embedding_bag(index, rows, starts, mode="sum", per_sample_weights=weights)
