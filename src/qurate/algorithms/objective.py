"""What an algorithm is: a pure function from networks and a batch to a loss."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from qurate.networks.values import BoundNetwork, ValueNetwork
from qurate.types import Batch, OpenActions, take_rows

TensorBatch = Batch[Any, Tensor]
"""A batch whose arrays are tensors on the learner's device; the state is a named tuple of tensors."""


class Networks(NamedTuple):
    """What an objective may use: the network that is trained, and the target network, whose parameters are fixed."""

    online: ValueNetwork
    target: BoundNetwork


class Loss(NamedTuple):
    """What an objective gives back.

    Every term is kept per transition, so that importance weights reach each of them.
    """

    terms: tuple[Tensor, ...]  # each float32 [B]; the loss is the sum of their (weighted) means
    td_errors: Tensor  # [B] of the summed heads, without gradient
    stats: dict[str, Tensor]  # scalars; "q" and "q_max" at least

    def total(self, weights: Tensor | None = None) -> Tensor:
        """The scalar to minimise; `weights` float32 [B] are importance weights, None = 1."""
        means = [(term if weights is None else term * weights).mean() for term in self.terms]
        return torch.stack(means).sum() if len(means) > 2 else sum(means[1:], means[0])


Objective = Callable[[Networks, TensorBatch, torch.Generator], Loss]


def of_action(batch: TensorBatch) -> Tensor | None:
    """Features of the actions as those of one candidate per state, [B, 1, F]; None where candidates have none."""
    return None if batch.action_features is None else batch.action_features[:, None]


def first_transitions(batch: TensorBatch, n: int) -> TensorBatch:
    """The first n of B transitions."""
    if n == len(batch.action):
        return batch
    first, o = slice(n), batch.next_actions
    cut = {
        name: None if (part := getattr(o, name)) is None else part[:n] for name in ("candidates", "clock", "mask", "features", "excluded")
    }
    return Batch(
        take_rows(batch.state, first), batch.action[:n], batch.reward[:n], batch.later_reward[:n], batch.discount[:n],
        batch.bootstrap[:n], take_rows(batch.next_state, first), OpenActions(**cut, since=o.since, until=o.until),
        batch.next_action[:n], batch.index[:n], None if batch.action_features is None else batch.action_features[:n],
    )  # fmt: skip
