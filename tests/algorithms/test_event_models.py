"""Which event follows which, and the loss of their models, against values by hand."""

import numpy as np
import pytest
import torch

from qurate.algorithms.event_models import event_losses, event_shape
from qurate.networks.catalogue_network import CatalogueNetwork
from qurate.networks.event_network import EventNetwork

CLICK, CART, BUY = np.eye(3, dtype=np.float32) * np.array([1, 2, 5], np.float32)
NOTHING = np.zeros(3, np.float32)


def rows(*counts: tuple[np.ndarray, int]) -> np.ndarray:
    return np.vstack([np.tile(row, (n, 1)) for row, n in counts]).astype(np.float32)


def event_network(components: int) -> EventNetwork:
    return EventNetwork(
        CatalogueNetwork(
            torch.zeros(3, 0), n_types=1, user_dim=0, context_dim=2, n_components=2 * components, dim=4, hidden=4, encoder="mean",
            form="single", id_embedding=True, id_dropout=0.0, behaviour=False,
        )
    )  # fmt: skip


def test_a_funnel_is_found_in_the_log() -> None:
    shape = event_shape(rows((NOTHING, 900), (CLICK, 70), (CLICK + CART, 20), (CLICK + CART + BUY, 10)))
    assert shape.chain.tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert shape.amount.tolist() == [1, 2, 5] and not shape.spread.any()


def test_events_of_their_own_have_no_parents() -> None:
    shape = event_shape(rows((CLICK, 50), (CART, 40), (CART + CLICK, 5), (NOTHING, 5)))
    assert shape.chain.tolist() == np.eye(3).tolist()
    assert shape.amount.tolist() == [1, 2, 0], "what never happened is worth nothing"


def test_what_often_comes_together_is_no_chain() -> None:
    """Nine carts in ten follow a click: the tenth is no lost event."""
    shape = event_shape(rows((NOTHING, 900), (CLICK, 60), (CLICK + CART, 36), (CART, 4)))
    assert shape.chain.tolist() == np.eye(3).tolist()


def test_amounts_that_vary_have_a_spread_and_a_rare_exception_breaks_no_chain() -> None:
    table = rows((NOTHING, 500), (CLICK, 300), (CLICK + BUY, 199), (BUY, 1))
    table[800:900, 2] = 15
    shape = event_shape(table)
    assert shape.chain[2].tolist() == [1, 0, 1]
    assert shape.amount[2] == pytest.approx(10) and shape.spread[2] == pytest.approx(5)


def test_the_loss_by_hand() -> None:
    network = event_network(2)
    network.get_buffer("chain").copy_(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    network.get_buffer("amount").copy_(torch.tensor([1.0, 10.0]))
    network.get_buffer("spread").copy_(torch.tensor([0.0, 4.0]))
    heads = torch.tensor([[0.3, -0.7, 9.0, 0.5]]).expand(3, -1)
    reward = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 18.0]])
    click, buy = torch.sigmoid(torch.tensor(0.3)), torch.sigmoid(torch.tensor(-0.7))
    expected = [
        -torch.log(1 - click),  # the purchase was never in question
        -torch.log(click) - torch.log(1 - buy),
        -torch.log(click) - torch.log(buy) + 0.5 * (2.0 - 0.5) ** 2,  # 18 is two spreads above the mean
    ]
    assert torch.allclose(event_losses(heads, reward, network), torch.stack(expected), atol=1e-6)
