"""Quantiles at any fraction (IQN, Dabney et al. 2018, arXiv:1806.06923): the state's vector times an embedding of the fraction."""

import math
from typing import cast

import torch
from torch import Tensor, nn

from qurate.networks.catalogue_network import CatalogueNetwork
from qurate.networks.catalogue_values import CatalogueValues, Heads, repeat_bonus
from qurate.networks.dense_network import DenseNetwork, DenseValues
from qurate.networks.distributional_values import midpoints
from qurate.networks.item_tower import ItemTable
from qurate.networks.values import BoundNetwork, StateTensors
from qurate.types import OpenActions


class ImplicitNetwork(nn.Module):
    """A network whose state vector is multiplied by an embedding of a fraction of the return's distribution.

    The embedding is ReLU of a linear layer over cos(pi i tau), i = 0..n-1 (eq. 4). Q is the mean of the quantiles at equally
    spaced fractions; where the paper draws them, Q would differ from call to call.

    Args:
        network: with one head.
        hidden: units of the vector that is multiplied.
        cosines: n. policy_quantiles: fractions in that mean.
    """

    n_components, form = 1, "single"

    def __init__(self, network: CatalogueNetwork | DenseNetwork, *, hidden: int, cosines: int, policy_quantiles: int) -> None:
        super().__init__()
        self.inner, self.policy_quantiles = network, policy_quantiles
        self.embedding = nn.Sequential(nn.Linear(cosines, hidden), nn.ReLU())
        self.register_buffer("frequency", torch.arange(cosines) * math.pi, persistent=False)

    def embed(self, fractions: Tensor) -> Tensor:
        """float32 [B, M, hidden] of fractions [B, M] in (0, 1)."""
        embedded: Tensor = self.embedding(torch.cos(fractions[:, :, None] * self.get_buffer("frequency")))
        return embedded

    def bind(self, rng: torch.Generator | None = None) -> BoundNetwork:
        """See `ValueNetwork.bind`."""
        table = self.inner.tower(rng) if isinstance(self.inner, CatalogueNetwork) else None
        return lambda state: ImplicitValues(self, state, table, rng)


class ImplicitValues:
    """`ActionValues` of B states of an `ImplicitNetwork`; Q is computed when it is first asked for.

    Args:
        network: see there.
        state: of B.
        table: of the items of a catalogue; None for a task.
        rng: draws the noise of noisy layers; None = their means.
    """

    def __init__(self, network: ImplicitNetwork, state: StateTensors, table: ItemTable | None, rng: torch.Generator | None) -> None:
        self.network, self.state, self.table, self.rng = network, state, table, rng
        self._mean: CatalogueValues | DenseValues | None = None

    @property
    def mean(self) -> CatalogueValues | DenseValues:
        """Q: the mean over equally spaced fractions. All heads are linear in the item vectors, and so is their mean."""
        if self._mean is None:
            fractions = midpoints(self.network.policy_quantiles, self.state[0].device).expand(len(self.state[0]), -1)
            heads = self._heads(fractions)
            if isinstance(heads, Heads):
                means = (part.mean(1, keepdim=True) for part in (heads.value, heads.direction, heads.repeat))
                value, direction, repeat = means
                own = heads._replace(value=value, direction=direction, repeat=repeat)
                self._mean = CatalogueValues(own, cast(ItemTable, self.table))
            else:
                self._mean = DenseValues(nn.functional.pad(heads.mean(1), (0, 0, 1, 0)))
        return self._mean

    def _heads(self, fractions: Tensor) -> Heads | Tensor:
        """At fractions [B, M]: of a catalogue, with M heads; of a task, float32 [B, M, N, 1]."""
        inner, modulation = self.network.inner, self.network.embed(fractions)
        if self.table is None:
            return cast(DenseNetwork, inner).action_heads(self.state, self.rng, modulation)
        return cast(CatalogueNetwork, inner).heads(self.state, self.table, self.rng, modulation)

    def quantiles(self, actions: Tensor, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Quantiles of one action per state, int64 [B], at fractions drawn uniformly, and these: float32 [B, count] both.

        Action 0 (none) has any value.
        """
        fractions = torch.rand(len(actions), count, generator=rng, device=actions.device)
        heads = self._heads(fractions)
        if isinstance(heads, Tensor):
            place = (actions - 1).clamp(min=0)[:, None, None].expand(-1, count, 1)
            return heads[:, :, :, 0].gather(2, place)[:, :, 0], fractions
        row = cast(ItemTable, self.table).rows(actions)
        dim = heads.direction.shape[2]
        linear = torch.bmm(heads.direction, row[:, :dim, None])[:, :, 0] + row[:, dim, None] + heads.value
        return linear + repeat_bonus(heads.repeat, heads.history, actions[:, None])[:, 0], fractions

    def by_head(self, actions: Tensor, features: Tensor | None = None) -> Tensor:
        """Q, float32 [B, K, 1]."""
        return self.mean.by_head(actions, features)

    def of(self, actions: Tensor, features: Tensor | None = None) -> Tensor:
        """Q, float32 [B, K]."""
        return self.mean.of(actions, features)

    def all(self) -> Tensor:
        """Q, float32 [B, N + 1]."""
        return self.mean.all()

    def best(self, open_actions: OpenActions[Tensor], support: float = 0.0) -> Tensor:
        """See `ActionValues.best`."""
        return self.mean.best(open_actions, support)
