"""The best open action where what is closed would win by its value."""

import torch

from qurate.networks.catalogue_max import MASKED_VALUE
from qurate.networks.dense_network import best_of, masked_q
from qurate.types import OpenActions

Q = torch.tensor([[9.0, -3.0, -1.0, -2.0]])


def test_no_action_is_never_the_best_one() -> None:
    assert best_of(Q, OpenActions(None, None, None, None)).tolist() == [2]
    assert best_of(Q, OpenActions(torch.tensor([[1, 3, 0]]), None, None, None)).tolist() == [3]


def test_a_mask_closes_actions_and_those_of_a_list_too() -> None:
    mask = torch.tensor([[False, True, False, True]])
    assert torch.equal(masked_q(Q, OpenActions(None, None, None, None, mask)), torch.tensor([[MASKED_VALUE, -3, MASKED_VALUE, -2]]))
    assert best_of(Q, OpenActions(torch.tensor([[1, 2, 0]]), None, None, None, mask)).tolist() == [1]
    assert best_of(Q, OpenActions(None, None, None, None, torch.zeros_like(mask))).tolist() == [0]
