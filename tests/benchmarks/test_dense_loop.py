"""The dense loop that the learner of a large catalogue is held against."""

from itertools import islice

import numpy as np
import torch
from dense_loop import Dense, updates

from qurate.bench.large import random_batch


def test_one_item_has_the_value_that_it_has_among_all() -> None:
    torch.manual_seed(0)
    network, batch = Dense(40), random_batch(np.random.default_rng(0), 40)
    torch.nn.init.normal_(network.bias)
    z, action = network.state(batch.state), torch.from_numpy(batch.action)
    assert torch.allclose(network.of(z, action), network.all(z).gather(1, action[:, None])[:, 0], atol=1e-5)
    padding = batch.state._replace(history_types=np.zeros_like(batch.state.history_types))
    assert torch.allclose(network.state(padding), network.layers(torch.zeros_like(z).repeat(1, 3))), "rows without an event count nothing"


def test_it_learns_what_it_is_given() -> None:
    batch = random_batch(np.random.default_rng(0), 40)
    batch = batch._replace(discount=np.zeros_like(batch.discount))  # so that the rewards are all there is to learn
    losses = list(islice(updates([batch], 40), 60))
    assert losses[-1] < losses[0] / 4
