"""Q over the catalogue: Q(s, a) = V(z) + u(z) . (e_a - e_mean) + b_a - b_mean, per reward component, now and later.

The mean runs over the whole catalogue, never over candidates or a batch, so that Q of an item does not depend on what
it is compared with (dueling networks, Wang et al. 2016, arXiv:1511.06581, with a mean that masks cannot move).
An item that stands in the state's window gets r(s, a) besides: what showing the same again is worth.
In the now-and-later form, `now` predicts the reward of this step and `later` the discounted rest: Q = now + later.
The network is linear in e_a behind z, so the weighted sum over components and both heads costs one matrix product.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from qurate.networks.candidate_layers import CandidateLayers
from qurate.networks.catalogue_values import CatalogueValues, Heads
from qurate.networks.choice_head import ChoiceHead
from qurate.networks.encoders import ENCODERS, HistoryViews
from qurate.networks.item_tower import ItemTable, ItemTower, TouchedTable
from qurate.networks.noisy import linear, run
from qurate.networks.values import StateTensors

REPEAT_LR_SCALE = 10.0
"""The few weights of the repeat bonus begin at 0 and may have to reach several units (logits): Adam moves them this much faster."""


class CatalogueNetwork(nn.Module):
    """State encoder, item tower and heads.

    Args:
        item_features: float32 [N + 1, F], row 0 zeros.
        n_types: M event types. user_dim, context_dim: U and C. n_components: R.
        dim, hidden, encoder, form, id_embedding, id_dropout: see `settings.NetworkSettings`.
        dueling: streams of their own for value and advantages.
        attention: L, where the behaviour head also attends to the single events of a window (`choice_head.py`); 0 = it does not.
        behaviour: add the head pi_b(a | s) that says what the log's policy (or customer) chose.
        state_value: add a head V(s), with an encoder of its own (algorithms/iql.py).
        candidate_features: F, features of a candidate at its decision (mdp/candidate_features.py); 0 = none.
        sigma0: noise of the layers that read values and directions (`noisy.py`); 0 = none.
        touched: see `ItemTower`.
    """

    def __init__(
        self, item_features: Tensor, *, n_types: int, user_dim: int, context_dim: int, n_components: int, dim: int, hidden: int,
        encoder: str, form: str, id_embedding: bool, id_dropout: float, behaviour: bool, dueling: bool = False, attention: int = 0,
        candidate_features: int = 0, state_value: bool = False, sigma0: float = 0.0, touched: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.n_components, self.form, self.dim = n_components, form, dim
        self.n_heads = n_components * (2 if form == "now_later" else 1)
        ids = id_embedding or not (item_features.shape[1] or candidate_features)
        self.tower = ItemTower(item_features, dim, self.n_heads + int(behaviour), hidden, ids, id_dropout, touched)
        self.views = HistoryViews(n_types, dim)
        sizes = (dim, n_types, self.views.n_views, user_dim, context_dim, hidden)
        self.encoder = ENCODERS[encoder](*sizes)
        # `later` errors are many times larger than those of `now`: on shared layers `now` would hardly be learned
        self.later_encoder = ENCODERS[encoder](*sizes) if form == "now_later" else None
        # two streams (Wang et al. 2016): the state's value and the items' advantages have a layer of their own each
        self.streams = nn.ModuleList(nn.Sequential(linear(hidden, hidden, sigma0), nn.ReLU()) for _ in range(2)) if dueling else None
        self.value = linear(hidden, n_components, sigma0)
        self.later_value = linear(hidden, n_components, sigma0) if form == "now_later" else None
        known = hidden + user_dim + context_dim  # user and context features are read here too, without the encoder's layers between
        self.direction = linear(known, n_components * dim, sigma0)
        self.later_direction = linear(known, n_components * dim, sigma0) if form == "now_later" else None
        self.behaviour = nn.Linear(known, dim) if behaviour else None
        self.choice = ChoiceHead(dim, n_types, known, attention) if behaviour and attention else None
        # an item compared with the items of the window, without layers between: by similarity (e_a . scaled e_j), and by being the same
        # item (repeat consumption; for sessions Ren et al. 2019, arXiv:1812.02646); each a learned mix of the views, zero at first
        self.n_matched = self.n_heads + int(behaviour)
        self.match = nn.Parameter(torch.zeros(self.n_matched, self.views.n_views))
        self.repeat = nn.Parameter(torch.zeros(self.n_matched, self.views.n_views))
        self.state_encoder = ENCODERS[encoder](*sizes) if state_value else None
        self.state_value = nn.Linear(hidden, n_components) if state_value else None
        kinds = [n_components] * (self.n_heads // n_components)  # now, later
        self.candidate = CandidateLayers(candidate_features, hidden, kinds, behaviour) if candidate_features else None
        if (
            self.later_direction is not None and self.later_value is not None
        ):  # the correction starts at zero: at first Q is the myopic policy
            nn.init.zeros_(self.later_direction.weight)
            nn.init.zeros_(self.later_direction.bias)
            nn.init.zeros_(self.later_value.weight)
            nn.init.zeros_(self.later_value.bias)
        nn.init.zeros_(self.value.weight)
        nn.init.zeros_(self.value.bias)

    def bind(self, rng: torch.Generator | None = None) -> Callable[[StateTensors], CatalogueValues]:
        """See `ValueNetwork.bind`: the item table is computed once."""
        table: ItemTable | TouchedTable = self.tower(rng)
        return lambda state: CatalogueValues(self.heads(state, table, rng), table, self.candidate)

    def heads(
        self, state: StateTensors, table: ItemTable | TouchedTable, rng: torch.Generator | None = None, modulation: Tensor | None = None
    ) -> Heads:
        """Per-state head outputs, from tensors.

        Args:
            rng: draws the noise of noisy layers; None = their means.
            modulation: float32 [B, M, hidden], factors of what the encoder gives (`implicit_quantiles.py`), for networks with one
                head: the M products are read in its place, as M heads.
        """
        history, (vectors, state) = state.history_items.long(), table.of_window(state)
        sums, weights = self.views(state, vectors)
        counts, rows = weights.sum(2), len(sums)
        known = torch.cat([state.user, state.context], dim=1)
        matched, matched_log = self._mixed(self.match, sums)  # [B, H, d]
        repeat, repeat_log = self._mixed(self.repeat * REPEAT_LR_SCALE, weights)  # [B, H, L]
        hidden = self.encoder(state, vectors, sums, counts)
        z, value, direction = self._read(hidden, known, rng)
        if modulation is not None:
            _, value, direction = self._read(hidden[:, None] * modulation, known[:, None].expand(-1, modulation.shape[1], -1), rng)
            value, repeat = value[:, :, 0], repeat.expand(-1, modulation.shape[1], -1)
        direction = direction.reshape(rows, -1, self.dim)
        if self.later_encoder and self.later_direction and self.later_value:
            hidden = self.later_encoder(state, vectors, sums, counts)
            value = torch.cat([value, run(self.later_value, hidden, rng)], dim=1)
            later = run(self.later_direction, torch.cat([hidden, known], dim=1), rng).view(rows, -1, self.dim)
            direction = torch.cat([direction, later], dim=1)
        behaviour = self.behaviour(z) + matched_log[:, 0] if self.behaviour is not None else None
        of_log = repeat_log[:, 0] if behaviour is not None else None
        if behaviour is not None and of_log is not None and self.choice is not None:
            attended, gate = self.choice(state, vectors, z)
            behaviour, of_log = behaviour + attended, of_log + gate
        v = None
        if self.state_encoder is not None and self.state_value is not None:
            v = self.state_value(self.state_encoder(state, vectors, sums, counts))
        return Heads(value, direction + matched, behaviour, history, repeat, of_log, v)

    def _read(self, hidden: Tensor, known: Tensor, rng: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
        """What the behaviour head sees [B, ..., h + U + C], values [B, ..., R] and directions [B, ..., R d] of `hidden` [B, ..., h]."""
        of_value, of_items = (hidden, hidden) if self.streams is None else (run(stream, hidden, rng) for stream in self.streams)
        z = torch.cat([of_items, known], dim=-1)
        return z, run(self.value, of_value, rng), run(self.direction, z, rng)

    def _mixed(self, mix: Tensor, views: Tensor) -> tuple[Tensor, Tensor]:
        """Mixes [B, H, .] and [B, 0 or 1, .] of the views [B, G, .], whose memory has G first: one product for all rows."""
        by_view = views.transpose(0, 1)
        mixed = (mix @ by_view.flatten(1)).view(-1, *by_view.shape[1:]).transpose(0, 1)
        # `split`, not slices: its gradient is one `cat`, theirs a tensor of zeros each
        heads, log = torch.split_with_sizes(mixed, [self.n_heads, self.n_matched - self.n_heads], 1)
        return heads, log
