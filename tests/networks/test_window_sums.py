"""Sums over windows: the same as dense products, and gradients as by finite differences."""

import pytest
import torch
from torch import Tensor

from qurate.networks.window_sums import view_sums, window_events
from qurate.types import State

M, N, D = 3, 7, 4


def windows(rows: int, length: int, share: float) -> tuple[State, Tensor, Tensor, Tensor]:
    """A state of random events with the parts that `window_events` takes; some events name no item, most have no value."""
    torch.manual_seed(1)
    real = torch.rand(rows, length) < share
    types, items = torch.randint(1, M + 1, (rows, length)) * real, torch.randint(0, N + 1, (rows, length)) * real
    value = torch.randn(rows, length, dtype=torch.float64) * real * (torch.rand(rows, length) < 0.3)
    visit = (torch.rand(rows, length) < 0.5).double() * 0.2
    nothing = torch.zeros(rows, 0)
    state = State(items, types, nothing, nothing, nothing, nothing)  # type: ignore[arg-type]
    return state, types == torch.arange(1, M + 1)[:, None, None], visit, value


def dense(state: State, of_type: Tensor, visit: Tensor, value: Tensor, vectors: Tensor, log_rates: Tensor) -> Tensor:
    """The same by dense products, [3 M + 1, B, d]."""
    age = torch.arange(of_type.shape[2] - 1, -1, -1)
    decay = torch.exp(-torch.exp(log_rates)[:, None] * age)
    one_hot = of_type.double()
    weights = torch.cat([one_hot * decay[0], one_hot * decay[1], one_hot * visit, value[None]])
    return torch.einsum("gbl,bld->gbd", weights, vectors[torch.as_tensor(state.history_items)])


@pytest.mark.parametrize(("rows", "length", "share"), [(5, 6, 0.7), (1, 6, 1.0), (4, 1, 0.5), (3, 4, 0.0)])
def test_sums_and_gradients_are_those_of_dense_products(rows: int, length: int, share: float) -> None:
    state, *parts = windows(rows, length, share)
    vectors = torch.randn(N + 1, D, dtype=torch.float64, requires_grad=True)
    log_rates = torch.tensor([-0.4, -2.5], dtype=torch.float64, requires_grad=True)
    events = window_events(state, *parts)
    got, wanted = view_sums(vectors, log_rates, events), dense(state, *parts, vectors, log_rates)
    assert torch.allclose(got, wanted, atol=1e-12)
    direction = torch.randn_like(got)
    for ours, theirs in zip(*(torch.autograd.grad(out, (vectors, log_rates), direction) for out in (got, wanted))):
        assert torch.allclose(ours, theirs, atol=1e-12)
    assert torch.autograd.gradcheck(lambda v, r: view_sums(v, r, events), (vectors, log_rates))
    assert bool(wanted.any()) == (share > 0)


def test_without_gradient_of_the_rates_the_sums_are_the_same() -> None:
    state, *parts = windows(5, 6, 0.7)
    vectors, rates = torch.randn(N + 1, D, dtype=torch.float64), torch.tensor([-0.4, -2.5], dtype=torch.float64)
    events = window_events(state, *parts)
    assert torch.equal(view_sums(vectors, rates, events), view_sums(vectors, rates.clone().requires_grad_(), events).detach())
