"""Targets and errors against hand values."""

import pytest
import torch

from qurate.algorithms import value_learning as td


def test_target_is_reward_plus_discounted_value() -> None:
    target = td.q_target(torch.tensor([1.0, 2.0]), torch.tensor([0.9, 0.0]), torch.tensor([10.0, 10.0]))
    assert target.tolist() == pytest.approx([10.0, 2.0])


def test_argmax_never_leaves_the_mask() -> None:
    q = torch.tensor([[5.0, 1.0, 3.0], [1.0, 2.0, 2.0]])
    mask = torch.tensor([[False, True, True], [True, True, True]])
    assert td.masked_argmax(q, mask).tolist() == [2, 1]


def test_losses() -> None:
    error = torch.tensor([0.5, -3.0])
    assert td.error_loss(error, "squared").tolist() == pytest.approx([0.125, 4.5])
    assert td.error_loss(error, "huber").tolist() == pytest.approx([0.125, 2.5])
