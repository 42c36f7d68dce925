"""What a short dense double DQN takes over a catalogue of 100,000 items, beside `qurate bench large` in the same run.

    python benchmarks/dense_loop.py [--seconds 20]

The loop as one would write it first: one table of item vectors, the window as sums by event type through two layers, Q as a product with
all items, the best of 100,000 for each successor, Adam over every weight, the target copied every 1,000 updates. Same batches, same
sizes, one thread. It has no behaviour head, no candidates that open and close, no weights and no average: it is less than what it
stands beside.
"""

import argparse
import copy
import os
from collections.abc import Iterator
from itertools import cycle
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads: small products lose to the barrier

import numpy as np
import torch
from torch import Tensor, nn

from qurate.bench.large import DIM, ITEMS, TYPES, large, random_batch
from qurate.bench.rows import rate, turns
from qurate.bench.run import machine
from qurate.training.run import intra_op_threads
from qurate.types import Batch, State


class Dense(nn.Module):
    """Q of all items: z(s) . e_a + b_a."""

    def __init__(self, items: int) -> None:
        super().__init__()
        self.items = nn.Embedding(items + 1, DIM, padding_idx=0)
        self.bias = nn.Parameter(torch.zeros(items + 1))
        self.layers = nn.Sequential(nn.Linear(TYPES * DIM, DIM), nn.ReLU(), nn.Linear(DIM, DIM))

    def state(self, state: State) -> Tensor:
        """z, float32 [B, DIM]."""
        vectors = self.items(torch.from_numpy(state.history_items).long())
        of_type = torch.from_numpy(state.history_types)[:, None] == torch.arange(1, TYPES + 1)[:, None]
        out: Tensor = self.layers(torch.bmm(of_type.float(), vectors).flatten(1))
        return out

    def all(self, z: Tensor) -> Tensor:
        """Q, float32 [B, N + 1]."""
        out: Tensor = torch.addmm(self.bias, z, self.items.weight.T)
        return out

    def of(self, z: Tensor, action: Tensor) -> Tensor:
        """Q of one item each, float32 [B]."""
        return (z * self.items(action)).sum(1) + self.bias[action]


def updates(batches: list[Batch[Any]], items: int) -> Iterator[float]:
    """One update each: its loss."""
    torch.manual_seed(0)
    network = Dense(items)
    target = copy.deepcopy(network)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    for number, batch in enumerate(cycle(batches)):
        if number % 1_000 == 0:
            target.load_state_dict(network.state_dict())
        action, reward = torch.from_numpy(batch.action), torch.from_numpy(batch.reward[:, 0])
        with torch.no_grad():
            best = network.all(network.state(batch.next_state)).argmax(1)
            wanted = reward + torch.from_numpy(batch.discount) * target.of(target.state(batch.next_state), best)
        loss = nn.functional.mse_loss(network.of(network.state(batch.state), action), wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        yield float(loss.detach())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="for each of the two, at least")
    parser.add_argument("--items", type=int, default=ITEMS)
    options = parser.parse_args()
    intra_op_threads(1)
    rng = np.random.default_rng(0)
    loop = updates([random_batch(rng, options.items) for _ in range(32)], options.items)
    dense = rate("dense loop", "updates/s", "", 1, turns(lambda: next(loop), 4, options.seconds))
    ours = large(options.seconds, options.items)
    figures = machine()
    print(f"{figures['gflops']} GFLOP/s, {figures['gb_s']} GB/s")
    for row in (dense, *ours):
        print(f"{row['name']}: {row['value']} {row['unit']}, {row['value'] / dense['value']:.2f} times the dense loop")


if __name__ == "__main__":
    main()
