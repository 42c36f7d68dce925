"""A table of action values: each row is a state, or a bin of hashed histories. For tabular Q-learning and SARSA."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from qurate.networks.dense_network import DenseValues
from qurate.networks.values import StateTensors

HASH_PRIME = 1_000_003


class TableNetwork(nn.Module):
    """Q(s, a) = table[row(s), a].

    A task whose observation is one integer has one row per value: the exact table. Histories of events are hashed: the
    newest `history` events (item, type) and the rounded features of the customer decide the row; two histories may share one.

    Args:
        n_actions: N.
        rows: of the table.
        history: newest events that count; None = the state is one integer.
    """

    n_components, form = 1, "single"

    def __init__(self, n_actions: int, rows: int, history: int | None = None) -> None:
        super().__init__()
        self.rows, self.history = rows, history
        self.q = nn.Parameter(torch.zeros(rows, n_actions))

    def row(self, state: StateTensors) -> Tensor:
        """int64 [B]: which row a state has."""
        if self.history is None:
            index: Tensor = state.categories[:, 0].long()
            return index
        codes = [state.history_items[:, -(i + 1)].long() * 256 + state.history_types[:, -(i + 1)].long() for i in range(self.history)]
        codes += list(torch.round(state.user * 10).long().unbind(1))
        mixed = torch.zeros(len(state.user), dtype=torch.int64, device=self.q.device)
        for code in codes:  # a polynomial hash, modulo a prime so that nothing overflows
            mixed = (mixed * 31 + code + 1) % (HASH_PRIME * HASH_PRIME)
        return mixed % self.rows

    def bind(self, rng: torch.Generator | None = None) -> Callable[[StateTensors], DenseValues]:
        """See `ValueNetwork.bind`."""
        return lambda state: DenseValues(nn.functional.pad(self.q[self.row(state)], (1, 0))[:, :, None])
