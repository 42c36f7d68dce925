"""The soft maximum over what is open: the same as sums written out in NumPy, in blocks, lists, clocks and support."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from qurate.networks import catalogue_max
from qurate.networks.catalogue_values import CatalogueValues, Heads
from qurate.networks.dense_network import DenseValues
from qurate.networks.item_tower import ItemTable
from qurate.types import OpenActions

ROWS, ITEMS, TEMPERATURE = 150, 40, 0.3


def values(seed: int = 0) -> CatalogueValues:
    """One head with a value, a window of three items, and a behaviour head."""
    g = torch.Generator().manual_seed(seed)
    table = torch.randn(ITEMS + 1, 6, generator=g)  # 4 dimensions, the bias of the head, that of the behaviour head
    table[0] = 0
    history = torch.randint(0, ITEMS + 1, (ROWS, 3), generator=g)
    repeat, log_repeat = torch.randn(ROWS, 1, 3, generator=g) * (history > 0)[:, None], torch.zeros(ROWS, 3)
    heads = Heads(
        torch.randn(ROWS, 1, generator=g),
        torch.randn(ROWS, 1, 4, generator=g),
        torch.randn(ROWS, 4, generator=g),
        history,
        repeat,
        log_repeat,
    )
    return CatalogueValues(heads, ItemTable(table[:, :4], table))


def by_hand(q: NDArray[np.float32], open_: NDArray[np.bool_]) -> NDArray[np.float64]:
    """temperature * log sum exp(q / temperature) of each row's open columns; 0 where there is none."""
    out = np.zeros(len(q))
    for i, (row, inside) in enumerate(zip(q.astype(np.float64), open_, strict=True)):
        if inside.any():
            out[i] = TEMPERATURE * math.log(sum(math.exp(v / TEMPERATURE) for v in row[inside]))
    return out


@pytest.mark.parametrize("block,rows", [(2_048, 64), (16, 64), (7, 20)])
def test_over_a_catalogue(block: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue_max, "BLOCK", block)
    monkeypatch.setattr(catalogue_max, "ROWS", rows)
    monkeypatch.setattr(catalogue_max, "SCORES", 1)
    of, rng = values(), np.random.default_rng(0)
    q, number = of.all().numpy(), np.arange(ITEMS + 1)
    clock = rng.integers(-1, 60, ROWS)
    since = np.sort(rng.integers(0, 40, ITEMS + 1))
    since[0] = 10**9
    until = since + rng.integers(1, 30, ITEMS + 1)
    excluded = rng.integers(0, ITEMS + 1, (ROWS, 4))
    ordered = np.concatenate([[10**9], np.sort(since[1:])])
    inside = (number > 0) & (ordered <= clock[:, None]) & (clock[:, None] < until)
    opened = OpenActions(None, *(torch.as_tensor(a) for a in (clock, ordered, until)))
    np.testing.assert_allclose(of.soft_maximum(opened, TEMPERATURE), by_hand(q, inside), rtol=1e-4, atol=1e-4)
    assert not inside.any(1).all(), "somewhere nothing is open"
    inside &= ~(number[None, None] == excluded[:, :, None]).any(1)
    opened = opened._replace(excluded=torch.as_tensor(excluded))
    np.testing.assert_allclose(of.soft_maximum(opened, TEMPERATURE), by_hand(q, inside), rtol=1e-4, atol=1e-4)
    everything = np.broadcast_to(number > 0, q.shape)
    np.testing.assert_allclose(
        of.soft_maximum(OpenActions(None, None, None, None), TEMPERATURE), by_hand(q, everything), rtol=1e-4, atol=1e-4
    )
    mask = of.open_mask(opened, 0.3).numpy()
    assert 0 < mask.sum() < inside.sum(), "the support leaves something out"
    np.testing.assert_allclose(of.soft_maximum(opened, TEMPERATURE, 0.3), by_hand(q, mask), rtol=1e-4, atol=1e-4)


def test_over_lists_of_which_some_are_empty() -> None:
    of, rng = values(), np.random.default_rng(1)
    q, listed = of.all().numpy(), np.stack([rng.permutation(ITEMS)[:5] + 1 for _ in range(ROWS)])
    listed[:, 3:] = 0
    listed[::7] = 0
    inside = np.zeros((ROWS, ITEMS + 1), np.bool_)
    np.put_along_axis(inside, listed, True, 1)
    inside[:, 0] = False
    inside[::7, 1:] = True  # a list of nothing stands for the catalogue
    got = of.soft_maximum(OpenActions(torch.as_tensor(listed), None, None, None), TEMPERATURE)
    np.testing.assert_allclose(got, by_hand(q, inside), rtol=1e-4, atol=1e-4)


def test_over_the_actions_of_a_task() -> None:
    rng = np.random.default_rng(2)
    q, mask = rng.normal(size=(20, 5)).astype(np.float32), rng.random((20, 5)) < 0.6
    mask[:, 0], mask[0] = False, False
    got = DenseValues(torch.as_tensor(q)[:, :, None]).soft_maximum(OpenActions(None, None, None, None, torch.as_tensor(mask)), TEMPERATURE)
    np.testing.assert_allclose(got, by_hand(q, mask), rtol=1e-4, atol=1e-5)
    assert float(got[0]) == 0, "nothing is open"
