"""Models of events, fitted to a log: which event follows which, and the loss of their probabilities and amounts.

For a component i with parent p(i) (none: every decision counts):

    L = sum_i 1[p(i) happened] * cross-entropy(happened_i, P(i | p(i), s, a)) + 1[i happened] * (amount_i - predicted)^2 / 2

The second term, in units of the amount's own variance, is there only where amounts vary (prices, seconds).
"""

from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from qurate.algorithms.objective import Loss, Networks, TensorBatch, of_action
from qurate.networks.event_network import EventNetwork, EventValues
from qurate.types import FloatArray

ALMOST_ALWAYS = 0.99
"""A component follows another one where at least this share of its rows has the other one too: logs lose single events."""
CONSTANT = 1e-4
"""Amounts whose standard deviation is below this share of their mean are the same amount."""


class EventShape(NamedTuple):
    """Which of R reward components follow which, and their amounts, counted in a log."""

    chain: NDArray[np.float32]  # [R, R] 1 where component j is i itself or happens before it
    amount: NDArray[np.float32]  # [R] mean weighted reward where it happened; 0 where it never did
    spread: NDArray[np.float32]  # [R] its standard deviation; 0 = always the same


def event_shape(reward: FloatArray) -> EventShape:
    """What the weighted rewards [T, R] of a log say; a component happened where its reward is not 0."""
    happened = reward != 0
    count, components = happened.sum(0), reward.shape[1]
    together = happened.T.astype(np.float64) @ happened
    share = together / np.maximum(count, 1)[:, None]  # of the rows with i, how many have j
    before = (share >= ALMOST_ALWAYS) & (count[None] > count[:, None]) & (count[:, None] > 0)
    chain = np.eye(components, dtype=np.float32)
    amount, spread = np.zeros(components, np.float32), np.zeros(components, np.float32)
    for i in np.argsort(-count, kind="stable"):
        if before[i].any():
            parent = np.flatnonzero(before[i])[count[before[i]].argmin()]
            chain[i] = np.maximum(chain[i], chain[parent])
        if count[i]:
            own = reward[happened[:, i], i].astype(np.float64)
            amount[i], spread[i] = own.mean(), own.std()
    return EventShape(chain, amount, np.where(spread <= CONSTANT * np.abs(amount), 0, spread).astype(np.float32))


def event_losses(heads: Tensor, reward: Tensor, network: EventNetwork) -> Tensor:
    """The loss of each row, [B].

    Args:
        heads: [B, 2 R] logits and amounts of the item that was shown.
        reward: [B, R] weighted reward by component.
        network: whose buffers say which event follows which, and in which units amounts are.
    """
    chain, amount, spread = (network.get_buffer(name) for name in ("chain", "amount", "spread"))
    happened = (reward != 0).float()
    parents_happened = ((1 - happened) @ (chain - torch.eye(len(chain), device=chain.device)).T == 0).float()
    logits, sizes = torch.split_with_sizes(heads, [network.n_components] * 2, 1)
    loss = parents_happened * binary_cross_entropy_with_logits(logits, happened, reduction="none")
    if bool(spread.any()):
        error = (reward - amount) / torch.where(spread > 0, spread, 1) - sizes
        loss = loss + 0.5 * happened * (spread > 0) * error.square()
    return loss.sum(1)


def event_models(networks: Networks, batch: TensorBatch, rng: torch.Generator) -> Loss:
    """The objective of an `EventNetwork`: the losses of B transitions; nothing is bootstrapped."""
    network = cast(EventNetwork, networks.online)
    values = cast(EventValues, networks.online.bind(rng)(batch.state))
    action, features = batch.action[:, None], of_action(batch)
    losses = event_losses(values.heads(action, features)[:, 0], batch.reward, network)
    with torch.no_grad():
        now = values.of(action, features)
    return Loss((losses,), losses.detach(), {"q": now.mean(), "q_max": now.abs().max()})
