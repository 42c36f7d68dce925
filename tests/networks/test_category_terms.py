"""What a customer did with an item's categories: counted by hand, learned from few customers."""

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from qurate.networks.build import build_network
from qurate.networks.category_terms import MOST, CategoryTerms, category_columns
from qurate.networks.linear_later import LinearLaterNetwork
from qurate.networks.values import StateTensors, to_tensors
from qurate.settings import from_flat
from qurate.types import State

TABLE = torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1], [0, 0]], dtype=torch.float32)
"""Four items: of the first category, of the second, of both, of none."""


def state_of(items: list[list[int]], types: list[list[int]], user: list[list[float]] | None = None) -> StateTensors:
    zeros = np.zeros(np.shape(items), np.float32)
    known = np.zeros((len(items), 0), np.float32) if user is None else np.array(user, np.float32)
    return to_tensors(State(np.array(items), np.array(types), zeros, zeros, known, np.zeros((len(items), 2), np.float32)))


def counted(terms: CategoryTerms, state: StateTensors) -> torch.Tensor:
    """What the layers read: an identity in their place."""
    terms.layers = torch.nn.Sequential(torch.nn.Identity())
    return terms(state)


def test_counts_by_hand() -> None:
    """A window of three: item 1 clicked two events ago, item 3 (half of each category) bought just before, item 2 clicked last."""
    terms = CategoryTerms(TABLE, n_types=2, user_dim=1, n_heads=4)
    found = counted(terms, state_of([[1, 3, 2], [0, 0, 0]], [[1, 2, 1], [0, 0, 0]], [[0.7], [-0.2]]))
    clicks = [[0.97**2, 0.8**2], [1.0, 1.0]]  # of each category, in the long and in the short memory
    bought = [[0.5 * 0.97, 0.5 * 0.8]] * 2
    expected = [[*np.log1p(clicks[c]), *np.log1p(bought[c]), 0.7] for c in range(2)]
    assert found[0].numpy() == pytest.approx(np.array(expected), abs=1e-6)
    assert found[1].tolist() == [[0, 0, 0, 0, pytest.approx(-0.2)]] * 2, "nobody has seen anything yet"


def test_an_item_has_the_terms_of_its_categories() -> None:
    terms = CategoryTerms(TABLE, n_types=1, user_dim=0, n_heads=2)
    by_category = torch.tensor([[[1.0, 10.0], [3.0, 50.0]], [[2.0, 0.0], [4.0, 8.0]]])
    assert terms.of(by_category, torch.tensor([[1, 3], [2, 4]])).tolist() == [[[1, 10], [2, 30]], [[4, 8], [0, 0]]]
    assert terms.of(by_category, torch.tensor([3, 0, 2])).tolist() == [[[2, 30], [0, 0], [3, 50]], [[3, 4], [0, 0], [4, 8]]]


def test_categories_are_columns_of_zeros_and_ones_that_tell_items_apart() -> None:
    table = torch.tensor([[0, 0, 0, 0, 0], [1, 0.5, 1, 0, 0], [0, 1, 1, 0, 1], [1, 0, 1, 0, 0]], dtype=torch.float32)
    assert category_columns(table).tolist() == [True, False, False, False, True]
    many = torch.zeros(2 * MOST + 1, 2 * MOST)
    many[torch.arange(2 * MOST) + 1, torch.arange(2 * MOST)] = 1
    many[1, 7] = many[2, 9] = 1  # two categories with two items
    kept = category_columns(many)
    assert int(kept.sum()) == MOST and bool(kept[7] & kept[9]) and not bool(kept[-1])


def test_items_without_categories_have_no_terms() -> None:
    numbers = np.vstack([np.zeros(2), np.random.default_rng(0).normal(size=(30, 2))]).astype(np.float32)
    made = build_network(numbers, from_flat({"form": "linear_later"}), n_types=1, user_dim=0, n_components=1, behaviour=False, seed=0)
    assert isinstance(made, LinearLaterNetwork) and made.now.categories is None


def test_few_customers_tell_what_an_event_says_of_a_category() -> None:
    """Each of 40 customers clicks in one category alone, half of the time: learned from 200 decisions, it holds for categories that
    hardly any of them liked."""
    rng, categories, n = np.random.default_rng(0), 25, 600
    table = np.vstack([np.zeros(categories), np.eye(categories)[np.arange(100) % categories]]).astype(np.float32)
    made = build_network(
        table, from_flat({"form": "linear_later", "hidden": 16, "id_embedding": False}), n_types=2, user_dim=0, n_components=1,
        behaviour=False, seed=0,
    )  # fmt: skip
    assert isinstance(made, LinearLaterNetwork) and made.now.categories is not None

    def draw(likes: np.ndarray) -> tuple[StateTensors, torch.Tensor, torch.Tensor]:
        """Windows of six that were shown (type 1), and clicked (2) half of the time where the category is liked; then one item more."""
        rows = len(likes)
        items = np.where(rng.random((rows, 7)) < 0.5, likes[:, None], rng.integers(0, categories, (rows, 7))) + 1
        clicked = (items - 1 == likes[:, None]) & (rng.random((rows, 7)) < 0.5)
        state = state_of(items[:, :6].tolist(), np.where(clicked[:, :6], 2, 1).tolist())
        return state, torch.as_tensor(items[:, 6:]), torch.as_tensor(clicked[:, 6:]).float()

    def loss(batch: tuple[StateTensors, torch.Tensor, torch.Tensor]) -> torch.Tensor:
        state, item, clicked = batch
        return binary_cross_entropy_with_logits(made.now.bind()(state).heads(item)[:, :, 0], clicked)

    few, unknown = draw(rng.integers(0, categories - 5, n)), draw(rng.integers(categories - 5, categories, 4 * n))
    optimiser = torch.optim.Adam([*made.now.categories.parameters(), made.now.heads.value.bias], lr=1e-2)
    for _ in range(100):
        optimiser.zero_grad()
        loss(few).backward()
        optimiser.step()
    with torch.no_grad():
        with_terms = float(loss(unknown))
        made.now.categories = None
        rate = float(unknown[2].mean())
        nothing = -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
    assert with_terms < nothing - 0.05, "categories that no customer of the training liked"
