"""Values of networks whose heads describe a distribution of returns, by logits or by quantiles: Q is its mean."""

from typing import cast

import torch
from torch import Tensor, nn

from qurate.networks.catalogue_values import CatalogueValues
from qurate.networks.dense_network import DenseValues, best_of
from qurate.networks.values import BoundNetwork, StateTensors, ValueNetwork
from qurate.settings import CategoricalSettings
from qurate.types import OpenActions

STATES_AT_ONCE = 16
"""Rows for which the distributions of a whole catalogue are held at a time."""


def atoms_of(settings: CategoricalSettings) -> Tensor:
    """The support, float32 [Z]: equally spaced from v_min to v_max."""
    return torch.linspace(settings.v_min, settings.v_max, settings.atoms)


class DistributionalValues:
    """`ActionValues` whose Q is the mean of softmax(logits) over the atoms (C51, Bellemare et al. 2017, arXiv:1707.06887).

    Args:
        logits: values whose `by_head` are logits, [B, K, Z].
        atoms: float32 [Z], the returns.
    """

    def __init__(self, logits: CatalogueValues | DenseValues, atoms: Tensor) -> None:
        self.logits, self.atoms = logits, atoms

    def by_head(self, actions: Tensor, features: Tensor | None = None) -> Tensor:
        """Logits, float32 [B, K, Z]."""
        return self.logits.by_head(actions, features)

    def of(self, actions: Tensor, features: Tensor | None = None) -> Tensor:
        """Q, float32 [B, K]."""
        return self.logits.by_head(actions, features).softmax(2) @ self.atoms

    def all(self) -> Tensor:
        """Q, float32 [B, N + 1]."""
        if isinstance(self.logits, DenseValues):
            return self.logits.heads.softmax(2) @ self.atoms
        items = torch.arange(self.logits.n_items + 1, device=self.atoms.device)
        rows = range(0, len(self.logits.heads.value), STATES_AT_ONCE)
        parts = [self.logits.rows(slice(i, i + STATES_AT_ONCE)) for i in rows]
        return torch.cat([part.by_head(items.expand(len(part.heads.value), -1)).softmax(2) @ self.atoms for part in parts])

    def best(self, open_actions: OpenActions[Tensor], support: float = 0.0) -> Tensor:
        """See `ActionValues.best`; the support of a behaviour head is that of the logits' network."""
        if isinstance(self.logits, DenseValues):
            return best_of(self.all(), open_actions)
        mask, listed = self.logits.open_mask(open_actions, support), open_actions.candidates
        if listed is not None:  # a list stands in place of what the clock says
            mask = mask | (listed > 0).any(1, keepdim=True)
        return best_of(self.all(), OpenActions(listed, None, None, None, mask))


class QuantileValues:
    """`ActionValues` whose Q is the mean of the quantiles of the return at fixed fractions (Dabney et al. 2018, arXiv:1710.10044).

    Args:
        sums: values whose `by_head` are quantiles, [B, K, M]; their Q is M times as large.
        count: M.
    """

    def __init__(self, sums: CatalogueValues | DenseValues, count: int) -> None:
        self.sums, self.count = sums, count

    def by_head(self, actions: Tensor, features: Tensor | None = None) -> Tensor:
        """Quantiles, float32 [B, K, M]."""
        return self.sums.by_head(actions, features)

    def of(self, actions: Tensor, features: Tensor | None = None) -> Tensor:
        """Q, float32 [B, K]."""
        return self.sums.of(actions, features) / self.count

    def all(self) -> Tensor:
        """Q, float32 [B, N + 1]."""
        return self.sums.all() / self.count

    def best(self, open_actions: OpenActions[Tensor], support: float = 0.0) -> Tensor:
        """See `ActionValues.best`: the largest sum is the largest mean."""
        return self.sums.best(open_actions, support)

    def quantiles(self, actions: Tensor, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """The quantiles of one action per state, int64 [B], and their fractions: float32 [B, M] and [1, M]; always the same M."""
        theta = self.sums.by_head(actions[:, None])[:, 0]
        return theta, midpoints(self.count, theta.device)[None]


def midpoints(count: int, device: torch.device | str = "cpu") -> Tensor:
    """The fractions (2 i - 1) / 2 M, float32 [M]: quantiles there have the least 1-Wasserstein distance (Dabney et al. 2018, lemma 2)."""
    return (torch.arange(count, device=device) + 0.5) / count


class QuantileNetwork(nn.Module):
    """A network whose heads are read as quantiles of the return.

    Args:
        network: with one head per quantile.
        count: M quantiles.
    """

    n_components, form = 1, "single"

    def __init__(self, network: ValueNetwork, count: int) -> None:
        super().__init__()
        self.inner, self.count = cast(nn.Module, network), count

    def bind(self, rng: torch.Generator | None = None) -> BoundNetwork:
        """See `ValueNetwork.bind`."""
        bound = cast(ValueNetwork, self.inner).bind(rng)

        def values(state: StateTensors) -> QuantileValues:
            return QuantileValues(bound(state), self.count)  # type: ignore[arg-type]

        return values


class DistributionalNetwork(nn.Module):
    """A network whose heads are read as logits over `atoms`.

    Args:
        network: with one head per atom.
        atoms: float32 [Z], ascending, equally spaced.
    """

    n_components, form = 1, "single"

    def __init__(self, network: ValueNetwork, atoms: Tensor) -> None:
        super().__init__()
        self.logits = cast(nn.Module, network)
        self.register_buffer("atoms", atoms)

    def bind(self, rng: torch.Generator | None = None) -> BoundNetwork:
        """See `ValueNetwork.bind`."""
        bound = cast(ValueNetwork, self.logits).bind(rng)
        atoms = self.get_buffer("atoms")

        def values(state: StateTensors) -> DistributionalValues:
            return DistributionalValues(bound(state), atoms)  # type: ignore[arg-type]

        return values
