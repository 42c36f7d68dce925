"""The part of the behaviour head over single events: attention over the history, and a gate for items that are chosen again.

The views (`encoders.py`) sum the history with weights that do not depend on the items. Here the last item says which
of the earlier ones matter (additive attention, as in NARM, Li et al. 2017, arXiv:1711.04725, and STAMP, Liu et al. 2018,
doi:10.1145/3219819.3219950), and whether an item is chosen again depends on the state, on the item and on how long ago it was
(repeat or explore, Ren et al. 2019, arXiv:1812.02646).
"""

import torch
from torch import Tensor, nn

from qurate.networks.catalogue_max import MASKED_VALUE
from qurate.networks.values import StateTensors

UNITS = 24
"""Of the attention, and of the gate: item vectors are narrowed first, for these layers run once per event, not once per state."""


class ChoiceHead(nn.Module):
    """Attention and repeat gate of the behaviour head.

    Args:
        dim: d, of an item vector.
        n_types: M event types.
        known: width of z.
        window: L.
    """

    def __init__(self, dim: int, n_types: int, known: int, window: int) -> None:
        super().__init__()
        self.n_types = n_types
        self.of_event = nn.Linear(dim, 2 * UNITS)  # of the attention, then of the gate
        self.of_last, self.of_state = nn.Linear(dim, UNITS, bias=False), nn.Linear(known, UNITS)
        self.by_place = nn.Parameter(torch.zeros(window, 1 + UNITS))  # bias of the attention, then of the gate's units
        self.by_type = nn.Parameter(torch.zeros(n_types, 1 + UNITS))
        self.score, self.gate = nn.Linear(UNITS, 1, bias=False), nn.Linear(UNITS, 1, bias=False)
        self.attended, self.newest = nn.Linear(dim, dim, bias=False), nn.Linear(dim, dim, bias=False)
        nn.init.zeros_(self.gate.weight)

    def forward(self, state: StateTensors, vectors: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """What is added to the direction, [B, d], and to the repeat bonus of each place of the window, [B, L] (0 without an item).

        Args:
            vectors: of the items, [N + 1, d]. z: [B, known], the encoded state.
        """
        items, types = state.history_items.long(), state.history_types
        rows, length = items.shape
        # `index_select`, not `vectors[items]`: its gradient adds whole rows, which is several times faster
        events = vectors.index_select(0, items.flatten()).view(rows, length, -1)
        real = items > 0
        of_type = (types[:, :, None] == torch.arange(1, self.n_types + 1, device=items.device)).float()
        bias = of_type @ self.by_type + self.by_place[-length:]
        of_attention, of_gate = self.of_event(events).split_with_sizes([UNITS, UNITS], 2)
        newest = (torch.arange(1, length + 1, device=items.device) * real).amax(1)  # 0: no event names an item
        last = vectors.index_select(0, items.gather(1, (newest - 1).clamp(min=0)[:, None])[:, 0])
        alike = self.score(torch.sigmoid(of_attention + self.of_last(last)[:, None]))[..., 0] + bias[..., 0]
        weight = torch.softmax(alike.masked_fill(~real, MASKED_VALUE), 1) * real
        mean = torch.bmm(weight[:, None], events)[:, 0]
        units = torch.relu(of_gate + bias[..., 1:] + self.of_state(z)[:, None])
        return self.attended(mean) + self.newest(last), self.gate(units)[..., 0] * real
