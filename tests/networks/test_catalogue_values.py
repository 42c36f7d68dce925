"""The best of what is open: items that have begun and not ended, the same through every way of asking."""

import pytest
import torch

from qurate.networks import catalogue_max
from qurate.networks.catalogue_max import best_item
from qurate.networks.catalogue_values import CatalogueValues, Heads, Scores
from qurate.networks.dense_network import best_of
from qurate.networks.item_tower import ItemTable
from qurate.types import ALWAYS, NEVER, OpenActions

SINCE = torch.tensor([NEVER, ALWAYS, 10, 20, 20])
UNTIL = torch.tensor([NEVER, NEVER, 30, NEVER, 40])
WORTH = torch.tensor([0.0, -1.0, 2.0, 1.0, 3.0])  # of items 1 to 4; none of them is worth 0
CLOCKS = torch.tensor([9, 10, 20, 29, 30, 39, 40])
BEST = [1, 2, 4, 4, 4, 4, 3]


def values(rows: int) -> CatalogueValues:
    """One head, no history; an item's vector is its worth."""
    vectors = WORTH[:, None]
    centred = torch.cat([vectors, torch.zeros(5, 1)], 1)
    heads = Heads(
        torch.zeros(rows, 1), torch.ones(rows, 1, 1), None, torch.zeros(rows, 1, dtype=torch.int64), torch.zeros(rows, 1, 1), None
    )
    return CatalogueValues(heads, ItemTable(vectors, centred))


def test_an_item_is_open_from_since_until_just_before_until() -> None:
    n = len(CLOCKS)
    open_actions = OpenActions(None, CLOCKS, SINCE, UNTIL)
    assert values(n).best(open_actions).tolist() == BEST
    without_lists = OpenActions(torch.zeros(n, 2, dtype=torch.int64), CLOCKS, SINCE, UNTIL)
    assert values(n).best(without_lists).tolist() == BEST, "a list of nothing stands for the catalogue"
    listed = OpenActions(torch.tensor([[1, 3]] * n), CLOCKS, SINCE, UNTIL)
    assert values(n).best(listed).tolist() == [3] * n, "what is on a list can be shown"
    excluded = torch.tensor([[4, 0], [1, 2], [0, 0], [3, 4], [4, 1], [1, 4], [3, 0]])
    left = [1, 0, 4, 2, 3, 3, 1]
    assert values(n).best(open_actions._replace(excluded=excluded)).tolist() == left, "nothing is open to the second"
    assert values(n).best(without_lists._replace(excluded=excluded)).tolist() == left
    mask = values(n).open_mask(open_actions._replace(excluded=excluded))
    assert best_of(WORTH.expand(n, -1), OpenActions(None, None, None, None, mask)).tolist() == left
    assert best_of(WORTH.expand(n, -1), open_actions._replace(excluded=excluded)).tolist() == left
    assert values(1).best(OpenActions(None, None, None, None)).tolist() == [4], "without a clock everything is open"


@pytest.mark.parametrize("block", [1, 2_048])
@pytest.mark.parametrize("begun", [1, 2])
def test_nothing_is_best_where_everything_has_ended(begun: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue_max, "BLOCK", block)
    scores = Scores(torch.ones(2, 1), torch.zeros(2, 1, dtype=torch.int64), torch.zeros(2, 1))
    until = torch.tensor([NEVER, 5, 5])
    got = best_item(scores, WORTH[:3, None], torch.full((2,), begun), clock=torch.tensor([4, 5]), until=until)
    assert got.tolist() == [begun, 0]
