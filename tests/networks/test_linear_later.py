"""Event models and the linear `later`: values by hand, and the same values through every way of asking."""

import numpy as np
import pytest
import torch

from qurate.networks import event_network
from qurate.networks.build import build_network
from qurate.networks.catalogue_network import CatalogueNetwork
from qurate.networks.event_network import EventNetwork
from qurate.networks.linear_later import MAX_NUMBERS, LinearLaterNetwork, principal
from qurate.networks.values import to_tensors
from qurate.settings import from_flat
from qurate.types import OpenActions, State

ITEMS, TYPES, WINDOW, USER = 20, 3, 5, 2
SIZES = {"n_types": TYPES, "user_dim": USER, "n_components": 2, "behaviour": True, "seed": 0}


def features(rng: np.random.Generator, numbers: int = 2, categories: int = 3) -> np.ndarray:
    table = np.column_stack([rng.normal(size=(ITEMS, numbers)), np.eye(max(categories, 1))[rng.integers(0, max(categories, 1), ITEMS)]])
    return np.vstack([np.zeros(table.shape[1]), table]).astype(np.float32)[:, : numbers + categories]


def states(rng: np.random.Generator, rows: int) -> State:
    items = rng.integers(0, ITEMS + 1, (rows, WINDOW))
    items[0] = 0  # nobody has seen anything yet
    types = np.where(items > 0, rng.integers(1, TYPES + 1, items.shape), 0)
    zeros = np.zeros(items.shape, np.float32)
    return State(items, types, zeros, zeros, rng.normal(size=(rows, USER)).astype(np.float32), np.zeros((rows, 2), np.float32))


def network(numbers: int = 2, categories: int = 3, spread: float = 0.0) -> LinearLaterNetwork:
    """With random weights everywhere."""
    made = build_network(features(np.random.default_rng(0), numbers, categories), from_flat({"form": "linear_later", "hidden": 8}), **SIZES)
    assert isinstance(made, LinearLaterNetwork) and isinstance(made.now.heads, CatalogueNetwork)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
        made.get_buffer("theta").copy_(torch.randn(made.get_buffer("theta").shape, generator=generator))
        made.now.get_buffer("chain").copy_(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
        made.now.get_buffer("amount").copy_(torch.tensor([1.0, 5.0]))
        made.now.get_buffer("spread").fill_(spread)
    return made.eval()


@pytest.mark.parametrize("numbers, categories", [(2, 3), (0, 3), (2, 0), (0, 0)])
def test_one_head_several_items_and_the_catalogue_agree(numbers: int, categories: int) -> None:
    values = network(numbers, categories, spread=0.4).bind()(to_tensors(states(np.random.default_rng(2), 7)))
    everything = torch.arange(ITEMS + 1).expand(7, -1)
    by_head = values.by_head(everything)
    assert by_head.shape == (7, ITEMS + 1, 4)
    assert torch.allclose(values.of(everything), by_head.sum(2), atol=1e-5)
    assert torch.allclose(values.all()[:, 1:], by_head.sum(2)[:, 1:], atol=1e-4)
    picked = torch.tensor([[3, 1, 20]] * 7)
    assert torch.allclose(values.of(picked), values.all().gather(1, picked), atol=1e-4), "an item is worth the same beside any others"
    best = values.best(OpenActions(None, None, None, None))
    assert best.tolist() == (values.all()[:, 1:].argmax(1) + 1).tolist()
    assert (
        values.best(OpenActions(picked, None, None, None)).tolist() == picked.gather(1, values.of(picked).argmax(1)[:, None])[:, 0].tolist()
    )
    theta = values.network.get_buffer("theta")
    assert torch.allclose(values.features(picked[:, 0]) @ theta, values.by_head(picked)[:, 0, 2:], atol=1e-4), "what least squares sees"


@pytest.mark.parametrize("spread", [(0.0, 0.0), (0.4, 0.0), (0.0, 0.4), (0.3, 0.4)])
@pytest.mark.parametrize("cells", [1, 3 * (ITEMS + 1), 1 << 15])
def test_the_catalogue_has_the_values_of_its_items(spread: tuple[float, float], cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many states are written out at a time, and whichever amounts vary."""
    monkeypatch.setattr(event_network, "CELLS", cells)
    made = network().now
    made.get_buffer("spread").copy_(torch.tensor(spread))
    values = made.bind()(to_tensors(states(np.random.default_rng(5), 7)))
    assert torch.allclose(values.all(), values.of(torch.arange(ITEMS + 1).expand(7, -1)), atol=1e-5)


def test_a_state_s_values_do_not_depend_on_the_others() -> None:
    bound, s = network().bind(), states(np.random.default_rng(3), 6)
    together = bound(to_tensors(s)).all()
    alone = torch.cat([bound(to_tensors(State(*(part[i : i + 1] for part in s)))).all() for i in range(6)])
    assert torch.allclose(together, alone, atol=1e-4)


def test_now_is_the_product_of_the_chain_times_the_amounts() -> None:
    made = network(spread=0.5)
    values = made.now.bind()(to_tensors(states(np.random.default_rng(4), 4)))
    items = torch.tensor([[1, 7]] * 4)
    logit = values.heads(items)
    click, cart = torch.sigmoid(logit[..., 0]), torch.sigmoid(logit[..., 1])
    expected = torch.stack([click * (1 + 0.5 * logit[..., 2]), click * cart * (5 + 0.5 * logit[..., 3])], dim=2)
    assert torch.allclose(values.by_head(items), expected, atol=1e-5)


def test_what_it_sees_of_the_window_by_hand() -> None:
    """One event of type 2 two rows ago, one of type 1 in the last row: decays .95 and .8 per row."""
    made = network()
    items, types = np.zeros((1, WINDOW), np.int64), np.zeros((1, WINDOW), np.int64)
    items[0, -3], types[0, -3], items[0, -1], types[0, -1] = 4, 2, 9, 1
    zeros = np.zeros((1, WINDOW), np.float32)
    state = to_tensors(State(items, types, zeros, zeros, np.zeros((1, USER), np.float32), np.zeros((1, 2), np.float32)))
    now = torch.tensor([[99.0, *range(1, ITEMS + 1)]])  # 99: of no item, which is not the best one
    summary = made.summary(state, now)
    x, c = made.get_buffer("numbers"), made.get_buffer("categories")
    sums = [x[9], x[9], 0.95**2 * x[4], 0.8**2 * x[4], 0 * x[4], 0 * x[4]]
    counts = [1, 1, 0.95**2, 0.8**2, 0, 0]
    seen = torch.stack([c[9] + 0.95**2 * c[4], c[9] + 0.8**2 * c[4]])
    usual = torch.cat(
        [torch.tensor([10.5]), (now[0, 1:, None] * x[1:]).mean(0), seen @ c[1:].mean(0), seen @ (now[0, 1:, None] * c[1:]).mean(0)]
    )
    known = torch.cat([torch.ones(1), torch.cat(sums), torch.tensor(counts), torch.zeros(USER + 2), torch.tensor([20.0, 10.5]), usual])
    assert torch.allclose(summary.state[0], known, atol=1e-5)
    assert torch.allclose(summary.categories[0], seen, atol=1e-5)


def test_many_numbers_become_their_first_components() -> None:
    numbers = torch.randn(41, 50, generator=torch.Generator().manual_seed(0))
    numbers[0] = 0
    few = principal(numbers)
    assert few.shape == (41, MAX_NUMBERS) and not few[0].any()
    assert torch.allclose(few[1:].std(0, correction=0), torch.ones(MAX_NUMBERS), atol=1e-4)
    assert torch.allclose(few.T @ few, 40 * torch.eye(MAX_NUMBERS), atol=1e-2)


def test_few_items_are_their_own_numbers() -> None:
    """Nothing else could say that one of three items without features is better for later than the others."""
    made = build_network(np.zeros((4, 0), np.float32), from_flat({"form": "linear_later"}), **SIZES)
    assert isinstance(made, LinearLaterNetwork)
    assert made.get_buffer("numbers").tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_an_item_of_two_categories_is_half_of_each() -> None:
    table = np.zeros((ITEMS + 1, 3), np.float32)
    table[1:, 0], table[4, 1], table[7] = 1, 1, 0
    made = build_network(table, from_flat({"form": "linear_later"}), **SIZES)
    assert isinstance(made, LinearLaterNetwork)
    assert made.get_buffer("categories")[[3, 4, 7]].tolist() == [[1, 0, 0], [0.5, 0.5, 0], [0, 0, 0]]


def test_it_starts_myopic() -> None:
    made = build_network(features(np.random.default_rng(0)), from_flat({"form": "linear_later"}), **SIZES)
    assert isinstance(made, LinearLaterNetwork) and isinstance(made.now, EventNetwork)
    values = made.eval().bind()(to_tensors(states(np.random.default_rng(5), 3)))
    assert torch.equal(values.all(), values.now.all())
