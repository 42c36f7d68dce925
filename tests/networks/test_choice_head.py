"""Attention and repeat gate of the behaviour head: what they may not depend on, and a case by hand."""

import numpy as np
import torch
from torch import Tensor

from qurate.networks.choice_head import UNITS, ChoiceHead
from qurate.networks.values import to_tensors
from qurate.types import State

N, DIM, TYPES, KNOWN, L = 20, 6, 2, 5, 8


def head(seed: int = 0) -> ChoiceHead:
    torch.manual_seed(seed)
    part = ChoiceHead(DIM, TYPES, KNOWN, L)
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return part


def state(items: list[list[int]]) -> State:
    ids = np.array(items)
    zeros = np.zeros(ids.shape, np.float32)
    return State(ids, (ids > 0) * 1, zeros, zeros, np.zeros((len(ids), 0), np.float32), np.zeros((len(ids), 2), np.float32))


def vectors() -> Tensor:
    out = torch.randn(N + 1, DIM, generator=torch.Generator().manual_seed(1))
    return out * (torch.arange(N + 1) > 0)[:, None]


def z(rows: int) -> Tensor:
    return torch.randn(1, KNOWN, generator=torch.Generator().manual_seed(2)).expand(rows, -1)


def test_padding_takes_no_part() -> None:
    with torch.no_grad():
        part, table = head(), vectors()
        long, gate = part(to_tensors(state([[0, 0, 0, 3, 7, 2]])), table, z(1))
        short, near = part(to_tensors(state([[3, 7, 2]])), table, z(1))
    assert torch.allclose(long, short, atol=1e-6) and torch.allclose(gate[:, 3:], near, atol=1e-6)
    assert (gate[:, :3] == 0).all() and (gate[:, 3:] != 0).all()


def test_a_window_without_items_says_nothing() -> None:
    with torch.no_grad():
        direction, gate = head()(to_tensors(state([[0, 0, 0]])), vectors(), z(1))
    assert (direction == 0).all() and (gate == 0).all()


def test_events_after_the_last_item_do_not_hide_it() -> None:
    """A search without an item is the newest event: the last item is still the one before it."""
    part, table = head(), vectors()
    with torch.no_grad():
        part.attended.weight.zero_()
        searched, _ = part(to_tensors(state([[4, 5, 0]])), table, z(1))
        plain, _ = part(to_tensors(state([[4, 5]])), table, z(1))
    assert torch.allclose(searched, plain) and searched.abs().max() > 0


def test_attention_and_gate_by_hand() -> None:
    part, table, items = head(), vectors(), [5, 9]
    with torch.no_grad():
        direction, gate = part(to_tensors(state([items])), table, z(1))
        events = table[items]
        both = events @ part.of_event.weight.T + part.of_event.bias
        bias = part.by_place[-2:] + part.by_type[0]
        alike = torch.sigmoid(both[:, :UNITS] + part.of_last.weight @ events[1]) @ part.score.weight[0] + bias[:, 0]
        mean = torch.softmax(alike, 0) @ events
        units = torch.relu(both[:, UNITS:] + bias[:, 1:] + part.of_state(z(1)[0]))
    assert torch.allclose(direction[0], part.attended.weight @ mean + part.newest.weight @ events[1], atol=1e-5)
    assert torch.allclose(gate[0], units @ part.gate.weight[0], atol=1e-5)


def test_the_gate_is_closed_before_training() -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        _, gate = ChoiceHead(DIM, TYPES, KNOWN, L)(to_tensors(state([[5, 9]])), vectors(), z(1))
    assert (gate == 0).all()
